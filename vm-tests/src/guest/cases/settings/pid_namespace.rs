//! A pid namespace.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use bpfkit_loader::Feature;

use super::{CaseResult, all_work, works};
use crate::guest::case::{Ctx, Doing as _, Failure};
use crate::guest::sys;
use crate::guest::tool::{Tool, connect_child, listen};
use crate::protocol::Outcome;
use crate::{ensure, skip};

/// Runs the rest of a case in a process that is the first of a pid namespace and has its /proc.
pub(super) fn inside(ctx: &mut Ctx, rest: fn(&Ctx) -> CaseResult) -> CaseResult {
    const INSIDE: &str = "BPFKIT_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        ensure!(std::process::id() == 1, "not the first process");
        return rest(ctx);
    }
    // The same arguments with another file for the result: `case NAME RESULT SETTINGS`.
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = ctx.directory().join("inside");
    if let Some(to) = arguments.get_mut(2) {
        *to = result.clone().into();
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env(INSIDE, "1");
    sys::own_pid_namespace(&mut command)?;
    let status = command.status()?;
    let word = fs::read(&result).doing(|| format!("the process inside ended with {status}"))?;
    match serde_json::from_slice(&word)? {
        Outcome::Pass => Ok(()),
        Outcome::Skip(why) => Err(Failure::Skip(why)),
        Outcome::Fail(why) | Outcome::NotRun(why) => Err(Failure::Fail(why)),
    }
}

/// The processes that are shown, and the one that is asked for, have the numbers that they have here.
pub(super) fn numbers(ctx: &Ctx) -> CaseResult {
    if !ctx.target()?.has(Feature::NsPid) {
        skip!("bpf_get_ns_current_pid_tgid came with Linux 5.7");
    }
    all_work(ctx, &|_| {})?;
    for probe in ["kprobe", "fentry", "tracepoint"] {
        if probe == "kprobe" && !ctx.target()?.has(Feature::Kprobes)
            || probe == "fentry" && !ctx.target()?.has(Feature::Fentry)
        {
            continue;
        }
        works(ctx, "tcpconnect", &["--probe", probe, "-p", "1"], &|_| {})?;
        works(ctx, "tcpconnect", &["--probe", probe, "-L"], &|_| {})?;
        // A child has another number, and is left out.
        let (_listener, to) = listen("127.0.0.1".parse()?)?;
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-p", "1"])?;
        connect_child(None, &[to])?;
        let rows = tool.rows()?;
        ensure!(rows.len() == 1, "{probe}: {rows:#?}");
    }
    works(ctx, "writehist", &["-p", "1"], &|_| {})?;
    Ok(())
}

/// As on a kernel before 5.7: rows have other numbers, which is said, and to ask for one makes no sense, which is said too.
pub(super) fn unasked(ctx: &Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &["--without", "ns-pid"])?;
    ensure!(tool.said.contains("the numbers of the initial pid namespace"), "{}", tool.said);
    let (_listener, to) = listen("127.0.0.1".parse()?)?;
    TcpStream::connect(to)?;
    let rows = tool.rows()?;
    let port = to.port().to_string();
    let row = rows.iter().find(|row| row.split_whitespace().last() == Some(&port));
    let pid = row.and_then(|row| row.split_whitespace().next()?.parse::<u32>().ok());
    ensure!(pid.is_some_and(|pid| pid > 1), "{rows:#?}");
    let output = ctx.tool("tcpconnect")?.args(["--without", "ns-pid", "-p", "1"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("run where the host's processes are seen"), "{said}");
    Ok(())
}
