//! `bpfkit writehist`, end to end.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::ensure;
use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::tool::{OLD_KERNEL, Tool, json_rows, need_probe, without};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "writehist::tracepoint", run: |ctx| end_to_end(ctx, "tracepoint", &[]) },
    Case { name: "writehist::kprobe", run: |ctx| end_to_end(ctx, "kprobe", &[]) },
    Case { name: "writehist::kprobe_tracefs", run: |ctx| end_to_end(ctx, "kprobe", &["--without", "kprobe-pmu"]) },
    Case { name: "writehist::tracepoint_old_kernel", run: |ctx| old_kernel(ctx, "tracepoint") },
    Case { name: "writehist::kprobe_old_kernel", run: |ctx| old_kernel(ctx, "kprobe") },
    Case { name: "writehist::every_power_of_two", run: powers },
    Case { name: "writehist::interval", run: interval },
    Case { name: "writehist::total", run: total },
    Case { name: "writehist::pid_and_uid", run: pid_and_uid },
    Case { name: "writehist::no_count_is_lost_between_threads", run: threads },
    Case { name: "writehist::needs_no_types", run: no_types },
    Case { name: "writehist::bad_input", run: bad_input },
];

/// What this process writes: how often, and how many bytes.
const WRITES: [(usize, usize); 6] = [(3, 0), (1, 1), (5, 2), (7, 100), (2, 4096), (1, 100_000)];

fn write_all() -> CaseResult {
    let bytes = vec![b'x'; 100_000];
    let mut null = File::create("/dev/null")?;
    for (times, length) in WRITES {
        for _ in 0..times {
            // A File of the standard library hands each write over as one system call, those of nothing too.
            let _ = null.write(&bytes[..length])?;
        }
    }
    Ok(())
}

fn me() -> String {
    std::process::id().to_string()
}

/// The bars of a process, or of all: from, to, count.
fn bars(rows: &[String], title: &str) -> Vec<(u64, u64, u64)> {
    let rows = rows.iter().skip_while(|row| !row.contains(title)).skip(2);
    rows.map_while(|row| {
        let mut words = row.split_whitespace();
        let (from, to) = (words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?);
        Some((from, to, words.nth(1)?.parse().ok()?))
    })
    .collect()
}

fn end_to_end(ctx: &Ctx, probe: &str, more: &[&str]) -> CaseResult {
    need_probe(ctx, probe)?;
    let mut tool = Tool::start(ctx, "writehist", &[&["--probe", probe, "-p", &me()], more].concat())?;
    write_all()?;
    let said = tool.said.clone();
    let rows = tool.rows()?;
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    let title = format!("{} (pid {}, uid 0)", comm.trim(), me());
    let found: Vec<_> = bars(&rows, &title).into_iter().filter(|&(.., count)| count != 0).collect();
    let expected = [(0, 1, 4), (2, 3, 5), (64, 127, 7), (4096, 8191, 2), (65_536, 131_071, 1)];
    ensure!(found == expected, "{found:?}, not {expected:?}: {rows:#?}\n{said}");
    let longest = rows.iter().find(|row| row.contains("64 -> 127"));
    ensure!(longest.is_some_and(|row| row.ends_with(&format!("|{}|", "*".repeat(40)))), "{rows:#?}");
    ensure!(said.contains(&format!("attached by {probe}")), "{said}");
    Ok(())
}

fn old_kernel(ctx: &Ctx, probe: &str) -> CaseResult {
    end_to_end(ctx, probe, &without(&OLD_KERNEL))
}

/// That a write fails is no matter: it is counted when it is asked for.
fn powers(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "writehist", &["--json", "-p", &me()])?;
    for slot in 0..64 {
        for size in [1_u64 << slot, (1 << slot) + ((1 << slot) - 1)] {
            crate::guest::sys::write_of_size(usize::try_from(size)?);
        }
    }
    let rows = tool.rows()?;
    let row: Value = serde_json::from_str(rows.first().map_or("", String::as_str))?;
    let slots = row["slots"].as_array().cloned().unwrap_or_default();
    ensure!(slots.len() == 64, "{row}");
    for (slot, found) in slots.iter().enumerate() {
        let low = if slot == 0 { 0 } else { 1_u64 << slot };
        let high = (1_u64 << slot) + ((1 << slot) - 1);
        ensure!(found["low"] == low && found["high"] == high && found["count"] == 2, "slot {slot}: {found}");
    }
    Ok(())
}

/// Each interval shows what was written in it, and the sum is what was written.
fn interval(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "writehist", &["-i", "0.3", "--json", "-p", &me()])?;
    for _ in 0..3 {
        write_all()?;
        std::thread::sleep(Duration::from_millis(400));
    }
    let rows = tool.rows()?;
    let rows = json_rows(&rows)?;
    let writes = |row: &Value| row["writes"].as_u64().unwrap_or_default();
    ensure!(rows.iter().map(writes).sum::<u64>() == 3 * 19, "{rows:#?}");
    ensure!(rows.len() >= 2 && rows.iter().all(|row| writes(row) < 3 * 19), "{rows:#?}");
    Ok(())
}

fn total(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "writehist", &["--total", "-u", "4711"])?;
    for _ in 0..2 {
        child(4711)?;
    }
    let rows = tool.rows()?;
    let found = bars(&rows, "all processes");
    ensure!(found.iter().map(|bar| bar.2).sum::<u64>() >= 2, "{rows:#?}");
    ensure!(rows.iter().filter(|row| row.contains("distribution")).count() == 1, "{rows:#?}");
    Ok(())
}

/// A process of this user that writes at least once.
fn child(user: u32) -> Result<u32, Failure> {
    use std::os::unix::process::CommandExt;
    let mut child =
        Command::new("/proc/self/exe").arg("--list").uid(user).stdout(File::create("/dev/null")?).spawn()?;
    let pid = child.id();
    child.wait()?;
    Ok(pid)
}

fn pid_and_uid(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "writehist", &["-u", "4712"])?;
    write_all()?;
    let other = child(4711)?;
    let wanted = child(4712)?;
    let rows = tool.rows()?;
    let has = |pid: u32| rows.iter().any(|row| row.contains(&format!("(pid {pid}, ")));
    ensure!(has(wanted) && !has(other) && !has(std::process::id()), "{rows:#?}");
    Ok(())
}

fn threads(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "writehist", &["-i", "0.05", "--json", "-p", &me()])?;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    crate::guest::sys::write_of_size(usize::MAX);
                }
            });
        }
    });
    // More is printed than a pipe holds, so what is there is read before the end is waited for.
    std::thread::sleep(Duration::from_millis(100));
    let (status, out, said) = tool.stop(Signal::INT)?;
    ensure!(status.success());
    let rows = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let counts = rows.iter().flat_map(|row| row["slots"].as_array().cloned().unwrap_or_default());
    let largest = counts.filter(|slot| slot["high"] == u64::MAX).map(|slot| slot["count"].as_u64().unwrap_or_default());
    let sum: u64 = largest.sum();
    let missed = said.lines().find_map(|line| line.strip_prefix("bpfkit: ")?.split_once(" writes missed"));
    let missed = missed.map_or(Ok(0), |(missed, _)| missed.parse::<u64>())?;
    ensure!(sum + missed == 16_000, "{sum} writes were counted and {missed} missed, not 16000: {said}");
    ensure!(missed < 800, "{missed} writes were missed while the counters were read");
    Ok(())
}

fn no_types(ctx: &mut Ctx) -> CaseResult {
    let none = ctx.directory().join("none.btf");
    std::fs::write(&none, b"")?;
    for probe in ["tracepoint", "kprobe"] {
        if need_probe(ctx, probe).is_err() {
            continue;
        }
        let mut command = ctx.bpfkit()?;
        command.args(["writehist", "--duration", "0.2", "--probe", probe, "--btf"]).arg(&none);
        let output = command.output()?;
        ensure!(output.status.success(), "{probe}: {output:?}");
    }
    Ok(())
}

fn bad_input(ctx: &mut Ctx) -> CaseResult {
    for (arguments, code, part) in [
        (&["-p", "4194000"][..], 1, "no process 4194000"),
        (&["-i", "never"], 2, "not a number of seconds"),
        (&["--probe", "kprobe", "--without", "kprobes"], 1, "the kernel lacks kprobes"),
    ] {
        let output = ctx.tool("writehist")?.args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code) && said.contains(part), "{arguments:?}: {output:?}");
    }
    Ok(())
}
