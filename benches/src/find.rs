//! Opening a kernel's types and finding in them what the tools need, beside libbpf.

use std::process::Stdio;
use std::time::Duration;

use bpfkit_benches::types;
use bpfkit_loader::Target;
use rustix::time::{ClockId, clock_gettime};

use crate::command::Program;
use crate::table::{Table, Values};
use crate::{Args, Result, run};

const RUNNING: &str = "/sys/kernel/btf/vmlinux";

/// The time that this thread ran.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// Prints the nanoseconds of opening the running kernel's types and of finding the members, and how many there were, so often.
pub fn measure(rounds: u16) -> Result<()> {
    for _ in 0..rounds {
        let start = thread_time();
        // As a tool has it, with what else it asks for first.
        let target = Target::running()?;
        let btf = target.btf()?;
        let opened = thread_time();
        let found = types::find(btf);
        let end = thread_time();
        println!("{} {} {found}", (opened - start).as_nanos(), (end - opened).as_nanos());
    }
    Ok(())
}

/// Compares the sums of both times.
pub fn compare(args: &Args, table: &mut Table) -> Result<()> {
    const WHAT: &str = "the kernel's types: open, find all members of all tools";
    let directory = tempfile::tempdir()?;
    let theirs = run::build("btf", include_str!("../peers/btf.c"), directory.path())
        .map(|program| program.with([RUNNING, "1"]).with(types::members()));
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(error) => {
            table.skipped(WHAT, error);
            return Ok(());
        }
    };
    let ours = args.own()?.with(["find", "1"]);
    let (mut own, mut other) = (Values::default(), Values::default());
    for round in 0..=args.runs {
        let (time, count) = once(&ours)?;
        let (their_time, their_count) = once(&theirs)?;
        if count != their_count {
            return Err(format!("bpfkit finds {count} members and libbpf {their_count}").into());
        }
        // The first run of each reads its files from the disk.
        if round > 0 {
            own.0.push(time);
            other.0.push(their_time);
        }
    }
    table.row(WHAT, "ms", &own, "libbpf", &other);
    Ok(())
}

/// Milliseconds, and how many members there were.
fn once(program: &Program) -> Result<(f64, u64)> {
    let output = program.command().stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers = text.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<u64>, _>>()?;
    let &[open, find, count] = &numbers[..] else { return Err(format!("it said {text:?}").into()) };
    Ok((Duration::from_nanos(open + find).as_secs_f64() * 1e3, count))
}
