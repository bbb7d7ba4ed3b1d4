//! A kernel's types: found, and all looked at.

use std::hint::black_box;
use std::path::Path;

use bpfkit_benches::types::find;
use bpfkit_btf::Btf;
use criterion::{Criterion, Throughput};

/// The types of the running kernel, else those of the fixture, which is a cut of a kernel's.
fn types() -> (&'static str, Vec<u8>) {
    match std::fs::read("/sys/kernel/btf/vmlinux") {
        Ok(bytes) => ("running", bytes),
        Err(_) => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/btf/7.2.btf");
            ("fixture", std::fs::read(path).expect("the fixture is there"))
        }
    }
}

pub fn benches(criterion: &mut Criterion) {
    let (name, bytes) = types();
    let bytes: &'static [u8] = bytes.leak();
    let size = u64::try_from(bytes.len()).expect("a file's size");
    let mut group = criterion.benchmark_group(format!("btf {name}"));
    group.throughput(Throughput::Bytes(size));
    group.bench_function("open", |bench| bench.iter(|| Btf::parse(black_box(bytes)).expect("valid types")));
    group.bench_function("open and find all members of all tools", |bench| {
        bench.iter(|| {
            let btf = Btf::parse(black_box(bytes)).expect("valid types");
            assert_ne!(find(&btf), 0);
        });
    });
    let btf = Btf::parse(bytes).expect("valid types");
    group.throughput(Throughput::Elements(u64::try_from(btf.len()).expect("a number of types")));
    group.bench_function("iterate over all types and members", |bench| {
        bench.iter(|| btf.types().map(|ty| ty.members().map(|member| member.name.len()).sum::<usize>()).sum::<usize>());
    });
    group.finish();
}
