//! How fast the parts are, each by itself: `cargo bench`, `cargo bench -- btf`. `cargo beside` compares with other programs.

mod asm;
mod btf;
mod ring;

use criterion::{criterion_group, criterion_main};

criterion_group!(speed, btf::benches, asm::benches, ring::benches);
criterion_main!(speed);
