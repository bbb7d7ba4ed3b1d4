//! Instructions made by the builder, read from text, and printed.

use std::fmt::Write;
use std::hint::black_box;

use bpfkit_asm::{Asm, Code, Insn, Mem, Reg, Size, list, text};
use criterion::{Criterion, Throughput};

/// Repetitions of the eight instructions below.
const BLOCKS: usize = 1250;

/// A program as tools have them: moves, memory, arithmetic, a jump.
fn build() -> Code {
    let mut asm = Asm::new();
    for _ in 0..BLOCKS {
        let out = asm.named_label("out");
        asm.mov(Reg::R6, Reg::R1)
            .load(Size::W, Reg::R3, Mem::at(Reg::R6).plus(12))
            .store(Size::DW, Mem::at(Reg::R10).minus(8), Reg::R3)
            .mov(Reg::R2, Reg::R10)
            .add(Reg::R2, -8)
            .call(bpfkit_asm::Helper::GET_CURRENT_PID_TGID)
            .jump(bpfkit_asm::JmpOp::Eq, Reg::R0, 0, out)
            .mov(Reg::R1, Reg::R6);
        asm.bind(out);
    }
    asm.mov(Reg::R0, 0).exit();
    asm.finish().expect("all jumps are near")
}

fn print(insns: &[Insn]) -> String {
    let mut out = String::new();
    for line in list(insns, &()) {
        writeln!(out, "{line}").expect("a string takes all");
    }
    out
}

pub fn benches(criterion: &mut Criterion) {
    let code = build();
    let insns = code.insns();
    let source = text(insns);
    let mut group = criterion.benchmark_group("asm");
    group.throughput(Throughput::Elements(u64::try_from(insns.len()).expect("a small number")));
    group.bench_function("builder", |bench| bench.iter(build));
    group.bench_function("text parser", |bench| {
        bench.iter(|| {
            Asm::parse(black_box(&source), "bench").expect("valid text").finish().expect("all jumps are near")
        });
    });
    group.bench_function("disassembler: the kernel's notation", |bench| bench.iter(|| print(black_box(insns))));
    group.bench_function("disassembler: text to assemble again", |bench| bench.iter(|| text(black_box(insns))));
    group.finish();
}
