//! Arguments: many, none, and hostile ones.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::{CaseResult, Way, exe, run, traced};
use crate::guest::case::{Ctx, Failure};
use crate::guest::exec::child;
use crate::guest::tool::Tool;
use crate::{ensure, ensure_eq};

/// A hundred arguments, one of them long: as many as are asked for, and the rest is told.
pub(super) fn many(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    let long = "L".repeat(5000);
    let numbers: Vec<String> = (0..98).map(|number| format!("arg{number}")).collect();
    let mut words: Vec<&str> = vec![&exe, "idle"];
    words.extend(numbers.iter().map(String::as_str));
    words[10] = &long;
    let cut = format!("{}...", "L".repeat(128));
    for way in Way::all_and_old(ctx) {
        let many: &[usize] = if way.typed && way.options.len() == 2 { &[1, 3, 20, 59, 60] } else { &[60] };
        for &most in many {
            let option = most.to_string();
            let options: &[&str] = if most == 20 { &[] } else { &["--max-args", &option] };
            let [rows] = traced(ctx, &way, options, || Ok([run("plain", &words)?]))?;
            ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
            let expected: Vec<&str> = words.iter().map(|word| if word.len() > 128 { &cut } else { *word }).collect();
            rows[1].check(0, &expected[..most])?;
            ensure!(rows[1].0["more_args"] == true, "{}", rows[1].0);
        }
        // Not one more than are shown.
        let [rows] = traced(ctx, &way, &["--max-args", "60"], || Ok([run("plain", &words[..60])?]))?;
        ensure!(rows.len() == 2 && rows[1].0["more_args"] == false, "{way:?}: {} rows, not 2", rows.len());
        ensure_eq!(rows[1].0["args"].as_array().map(Vec::len), Some(60));
    }
    Ok(())
}

/// No vector and an empty one. From Linux 5.18 on the kernel puts an empty string there.
pub(super) fn none(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    for way in Way::all(ctx) {
        let both = traced(ctx, &way, &[], || Ok([run("null", &[&exe])?, run("empty", &[&exe])?]))?;
        for rows in both {
            ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
            rows[1].check(0, &[&exe])?;
            ensure!(rows[1].0["more_args"] == false, "{}", rows[1].0);
        }
    }
    Ok(())
}

/// What a process is given cannot write to the terminal, forge a row, or break JSON; and an empty argument is seen.
pub(super) fn hostile(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    let link = ctx.directory().join("e\x1b[2J\n");
    symlink(&exe, &link)?;
    let args: [&[u8]; 7] = [b"\n0", b"\x1b[2J", b"\xff\xfe", b"", b"a\"b", b"\\", "größe".as_bytes()];
    let name = [&b"exec"[..], b"plain", link.as_os_str().as_bytes(), b"idle"];
    let words: Vec<&[u8]> = name.into_iter().chain(args).collect();
    let path = format!("{}/e\\u{{1b}}[2J\\n", ctx.directory().display());
    for way in Way::all(ctx) {
        for (options, quote) in [(&[][..], ""), (&["-q"], "\"")] {
            let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], options].concat())?;
            let pid = child(None, &words)?.to_string();
            let rows = tool.rows()?;
            let row = rows.iter().rfind(|row| row.split_whitespace().nth(1) == Some(&pid));
            let row = row.ok_or_else(|| Failure::Fail(format!("{way:?}: no row of {pid}: {rows:#?}")))?;
            let inner = if quote.is_empty() { "a\"b" } else { "a\\\"b" };
            let shown = [&path, "idle", "\\n0", "\\u{1b}[2J", "\\xff\\xfe", "", inner, "\\\\", "größe"];
            let shown = shown.map(|arg| if arg.is_empty() { "\"\"".into() } else { format!("{quote}{arg}{quote}") });
            ensure!(row.starts_with("e\\u{1b}[2J\\n "), "{row:?}");
            ensure!(row.ends_with(&format!("  0 {}", shown.join(" "))), "{row:?} does not end with {shown:?}");
        }
        let [rows] = traced(ctx, &way, &[], || Ok([child(None, &words)?]))?;
        let last = rows.last().ok_or_else(|| Failure::Fail(format!("{way:?}: no row")))?;
        last.check(0, &[&path, "idle", "\\n0", "\\u{1b}[2J", "\\xff\\xfe", "", "a\"b", "\\\\", "größe"])?;
    }
    Ok(())
}
