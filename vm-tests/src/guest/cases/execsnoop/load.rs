//! Many programs at one time.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::tiny::brief;
use super::{CaseResult, Way};
use crate::guest::case::{Ctx, Failure};
use crate::guest::exec::{child, pages};
use crate::guest::tool::Tool;
use crate::{ensure, ensure_eq, fail};

/// Many at one time, each with a vector and strings that are in pages of a file which nobody has touched: a probe at the entry
/// would find none of them. Each argument is compared with what was run.
pub(super) fn stress(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 6;
    let brief = brief(ctx)?;
    let rounds = if ctx.is_vm() { 3 } else { 60 };
    for way in Way::all_and_old(ctx) {
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--json", "--max-args", "60"]].concat())?;
        let argv = |worker: usize, round: usize| -> Vec<String> {
            let count = 1 + (worker * 7 + round * 11) % 57;
            let numbers = (0..count).map(|n| format!("{}-{worker}-{round}-{n}", "z".repeat((n * 13) % 90)));
            [brief.clone(), "idle".to_owned()].into_iter().chain(numbers).collect()
        };
        let mut rows: Vec<Value> = Vec::new();
        let directory = ctx.directory().to_owned();
        let ran = std::thread::scope(|scope| {
            let worker = |worker: usize| {
                let (directory, brief, argv) = (&directory, &brief, &argv);
                move || -> Result<Vec<(u32, Vec<String>)>, Failure> {
                    let mut ran = Vec::new();
                    for round in 0..rounds {
                        let argv = argv(worker, round);
                        let bytes: Vec<Vec<u8>> = argv.iter().map(|arg| arg.as_bytes().to_vec()).collect();
                        let file = directory.join(format!("{worker}-{round}"));
                        fs::write(&file, pages(&bytes))?;
                        let words = [&b"exec"[..], b"paged", file.as_os_str().as_bytes(), brief.as_bytes()];
                        ran.push((child(None, &words)?, argv));
                        fs::remove_file(&file)?;
                    }
                    Ok(ran)
                }
            };
            let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(worker(number))).collect();
            let over = scope.spawn(move || {
                let ran = workers.into_iter().map(|worker| worker.join());
                let ran: Vec<_> = ran.map(|ran| ran.unwrap_or_else(|_| Err(Failure::Fail("panic".into())))).collect();
                child(None, &[b"idle", b"over"]).map(|_| ran)
            });
            read_until_over(&mut tool, &mut rows)?;
            over.join().unwrap_or_else(|_| Err(Failure::Fail("panic".into())))
        })?;
        let (status, _, said) = tool.stop(Signal::INT)?;
        // Entries are looked at only where there are no types; and what others run on this machine may be under way.
        let is_other = |what: &str| {
            what.starts_with("entries missed") && !way.typed || what.starts_with("execs without") && !ctx.is_vm()
        };
        let told = counts(&said).filter(|(_, what)| !is_other(what)).count();
        ensure!(status.success() && told == 0, "{way:?}: {status}: {said}");
        let ran: Vec<_> = ran.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        ensure_eq!(ran.len(), WORKERS * rounds);
        for (pid, argv) in ran {
            let of_pid: Vec<&Value> = rows.iter().filter(|row| row["pid"] == pid).collect();
            // The last, because of the one before, `guest exec`, too it may be that nothing could be read.
            let found = of_pid.iter().rfind(|row| row["args"][1] != "exec").map(|row| &row["args"]);
            if way.typed {
                ensure_eq!(found, Some(&json!(argv)), "{way:?}: arguments of {pid} in {of_pid:?}");
            } else {
                // Where they could not be read that is told, and none is wrong.
                let args = found.and_then(Value::as_array).ok_or_else(|| Failure::Fail(format!("no row of {pid}")))?;
                let fits = args.iter().zip(&argv).all(|(arg, ran)| arg == ran || arg.is_null());
                ensure!(fits && (args.len() == argv.len() || args.contains(&Value::Null)), "{args:?}, not {argv:?}");
            }
        }
    }
    Ok(())
}

/// What is told of in numbers: `bpfkit: 3 execs lost`.
fn counts(said: &str) -> impl Iterator<Item = (usize, &str)> {
    let told = said.lines().filter_map(|line| line.strip_prefix("bpfkit: ")?.split_once(' '));
    told.filter_map(|(number, what)| Some((number.parse().ok()?, what)))
}

/// Reads rows up to that of `guest idle over`, which is run after everything else.
fn read_until_over(tool: &mut Tool, rows: &mut Vec<Value>) -> CaseResult {
    loop {
        let line = tool.line()?;
        if line.is_empty() {
            let (status, _, said) = tool.stop(Signal::INT)?;
            fail!("it ended with {status}: {said}");
        }
        let row: Value = serde_json::from_str(&line)?;
        if row["args"][2] == "over" {
            return Ok(());
        }
        rows.push(row);
    }
}

/// What was run is what is shown and what is told to be lost, to the last one.
pub(super) fn burst(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 4;
    let count = if ctx.is_vm() { 200 } else { 20_000 };
    let brief = brief(ctx)?;
    for way in Way::all(ctx).into_iter().filter(|way| way.typed) {
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--json"]].concat())?;
        let mut rows = Vec::new();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let brief = &brief;
                    scope.spawn(move || {
                        (worker..count).step_by(WORKERS).try_for_each(|number| -> CaseResult {
                            let status = Command::new(brief).args(["idle", "burst", &number.to_string()]).status()?;
                            ensure!(status.success(), "{brief}: {status}");
                            Ok(())
                        })
                    })
                })
                .collect();
            let over = scope.spawn(move || {
                let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
                child(None, &[b"idle", b"over"])?;
                results.into_iter().try_for_each(|result| result.unwrap_or(Err(Failure::Fail("panic".into()))))
            });
            read_until_over(&mut tool, &mut rows)?;
            over.join().unwrap_or(Err(Failure::Fail("panic".into())))
        })?;
        let (status, _, said) = tool.stop(Signal::INT)?;
        ensure!(status.success(), "{status}: {said}");
        let number = |row: &Value| row["args"][3].as_str().and_then(|number| number.parse::<usize>().ok());
        let mut shown: Vec<usize> = rows.iter().filter(|row| row["args"][2] == "burst").filter_map(number).collect();
        shown.sort_unstable();
        let lost: usize = counts(&said).map(|(number, _)| number).sum();
        ensure_eq!(shown.len() + lost, count, "{way:?}: {} shown and {lost} lost: {said}", shown.len());
        shown.dedup();
        ensure_eq!(shown.len() + lost, count, "{way:?}: one was shown twice");
    }
    Ok(())
}

/// Detaching takes the kernel a while, in which programs are run as ever: at each moment one by each worker.
pub(super) fn leaving(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 3;
    // Others run programs too, where there are others.
    let most = if ctx.is_vm() { WORKERS } else { WORKERS + 8 };
    let way = Way::untyped("tracepoint");
    way.need(ctx)?;
    let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["-x"]].concat())?;
    let is_over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        child(None, &[b"idle"])?;
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let stopped = tool.stop(Signal::INT);
        is_over.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(Failure::Fail("panic".into()))))?;
        let (status, _, said) = stopped?;
        ensure!(status.success(), "{status}: {said}");
        Ok(said)
    })?;
    let left = counts(&said).find(|(_, what)| what.starts_with("execs without")).map_or(0, |(number, _)| number);
    ensure!(left <= most, "{left} are left: {said}");
    Ok(())
}
