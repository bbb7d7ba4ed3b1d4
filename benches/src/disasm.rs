//! An object file's programs as text, beside LLVM; and such a text as an object file.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::command::Program;
use crate::table::{Table, Values};
use crate::{Args, Result, proc};

/// Repetitions of the eight instructions below.
const BLOCKS: u32 = 25_000;

/// Statements that bpfkit and LLVM both take; without the ends, on which they do not agree.
const BLOCK: [&str; 8] = [
    "r6 = r1",
    "r3 = *(u32 *)(r6 + 12)",
    "*(u64 *)(r10 - 8) = r3",
    "r2 = r10",
    "r2 += -8",
    "w4 = 7",
    "r1 = 0x1122334455667788 ll",
    "call 14",
];

fn program(end: &str) -> String {
    let mut text = String::new();
    for statement in (0..BLOCKS).flat_map(|_| BLOCK).chain(["r0 = 0", "exit"]) {
        let _ = writeln!(text, "{statement}{end}");
    }
    text
}

/// The newest llvm tool of a name in PATH, as Debian names them, or without a version.
fn llvm(args: &Args, name: &str) -> Result<Program> {
    let system =
        Args { peers: None, runs: args.runs, bpfkit: None, kernel: String::new(), what: Vec::new(), part: None };
    let versions = (14..40).rev().map(|version| format!("{name}-{version}"));
    let found = versions.chain([name.to_owned()]).find_map(|name| system.peer_file(&name).ok());
    Ok(Program::at(found.ok_or(format!("{name} is not installed"))?))
}

/// Nanoseconds of a processor for each of `count` instructions.
fn once(program: &Program, count: u32) -> Result<f64> {
    let mut child = program.command().stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    // Until it is waited for, the kernel knows how long it ran.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let time = proc::cpu_time(child.id()).ok_or("the kernel does not tell how long it ran")?;
    if !child.wait()?.success() {
        return Err(format!("{program:?} failed").into());
    }
    Ok(Duration::from_nanos(time).as_secs_f64() * 1e9 / f64::from(count))
}

/// Both ways.
pub fn compare(args: &Args, table: &mut Table) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name);
    fs::write(place("ours.bpf"), program(";"))?;
    fs::write(place("theirs.s"), program(""))?;
    let count = BLOCKS * 8 + 2;
    let path = |path: &Path| path.as_os_str().to_owned();
    let bpfkit = args.bpfkit()?;
    let (text, object) = (place("ours.bpf"), place("theirs.o"));
    let out = place("ours.bin");
    let assemble = bpfkit.clone().with(["asm".into(), path(&text), "-o".into(), path(&out)]);
    let mc = match llvm(args, "llvm-mc") {
        Ok(mc) => mc
            .with(["-triple=bpfel", "-filetype=obj", "-mcpu=v4", "-o"])
            .with([path(&object), path(&place("theirs.s"))]),
        Err(error) => {
            table.skipped("assembler", error);
            return Ok(());
        }
    };
    once(&mc, count)?;
    let disassemble = bpfkit.with(["disasm".into(), path(&object)]);
    let dump = llvm(args, "llvm-objdump")?.with(["-d".into(), path(&object)]);
    for (what, ours, theirs, peer) in [
        ("assembler: an instruction from text", &assemble, &mc, "llvm-mc"),
        ("disassembler: an instruction", &disassemble, &dump, "llvm-objdump"),
    ] {
        let (mut own, mut other) = (Values::default(), Values::default());
        for round in 0..=args.runs.min(5) {
            let (a, b) = (once(ours, count)?, once(theirs, count)?);
            if round > 0 {
                own.0.push(a);
                other.0.push(b);
            }
        }
        table.row(what, "ns", &own, peer, &other);
    }
    Ok(())
}
