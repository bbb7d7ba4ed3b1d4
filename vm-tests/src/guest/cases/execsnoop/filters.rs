//! Filters.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::super::tcpconnect::{cgroup_root, own_cgroup, own_cgroup_id, set_of};
use super::{CaseResult, Way, comm, exe, traced};
use crate::ensure;
use crate::guest::case::Ctx;
use crate::guest::exec::{Lingering, child};
use crate::guest::tool::{Tool, need_types};

/// Runs the tool with options that fit and with some that do not: the row is there, and then is not. Other probes have the same
/// filters.
fn both(ctx: &Ctx, user: Option<u32>, fits: &[&str], not: &[&str]) -> CaseResult {
    // Who looks up the parent in /proc finds it as long as the process is there.
    let word: &[u8] = if fits[0] == "-P" { b"linger" } else { b"idle" };
    for way in Way::all(ctx).into_iter().filter(|way| way.probe == "tracepoint") {
        for (options, expected) in [(fits, 1), (not, 0)] {
            let failing = [&b"exec"[..], b"plain", b"/no/such/idle", b"one", b"two"];
            let mut lingering = None;
            let [rows, failed] = traced(ctx, &way, &[options, &["-x"]].concat(), || {
                let started = lingering.insert(Lingering::start(user, &[word, b"one", b"two"])?);
                Ok([started.pid(), child(user, &failing)?])
            })?;
            drop(lingering);
            ensure!(rows.len() == expected, "{way:?} {options:?}: {} rows, not {expected}", rows.len());
            let found = failed.iter().filter(|row| row.0["ret"] == -libc::ENOENT).count();
            // The line of that is another one, and nobody may have had the time to look up its parent.
            let fits = found == expected || fits[0] == "-l" || (fits[0] == "-P" && !way.typed);
            ensure!(fits, "{way:?} {options:?}: {found} failures, not {expected}");
        }
    }
    Ok(())
}

pub(super) fn user(ctx: &mut Ctx) -> CaseResult {
    both(ctx, Some(1234), &["-u", "1234"], &["-u", "0"])
}

pub(super) fn name_and_line(ctx: &mut Ctx) -> CaseResult {
    let name = regex_of(&comm(&exe()?));
    both(ctx, None, &["-n", &format!("^{name}$")], &["-n", "^no such name$"])?;
    both(ctx, None, &["-l", "^two$"], &["-l", "^tw$"])?;
    both(ctx, None, &["-l", "idle one t"], &["-l", "one  two"])
}

/// A text as a regular expression that matches it.
fn regex_of(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c])).collect()
}

pub(super) fn parent(ctx: &mut Ctx) -> CaseResult {
    both(ctx, None, &["-P", &std::process::id().to_string()], &["-P", "1"])
}

/// The directory that this process is in, and an empty one; a set with its number, and one with another.
pub(super) fn cgroups(ctx: &mut Ctx) -> CaseResult {
    let own = own_cgroup()?;
    let empty = cgroup_root()?.join(format!("bpfkit-{}", std::process::id()));
    fs::create_dir(&empty)?;
    let result = both(ctx, None, &["-c", &own.display().to_string()], &["-c", &empty.display().to_string()]);
    fs::remove_dir(&empty)?;
    result?;
    with_set(ctx, "--cgroupmap", own_cgroup_id(ctx)?)
}

fn with_set(ctx: &Ctx, option: &str, key: u64) -> CaseResult {
    let (ours, other) = (set_of(ctx, "ours", key)?, set_of(ctx, "other", key + 1)?);
    let (ours, other) = (ours.path.display().to_string(), other.path.display().to_string());
    both(ctx, None, &[option, &ours], &[option, &other])
}

/// It takes the kernel's types, and is told so without them.
pub(super) fn mntnsmap(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let key = fs::metadata("/proc/self/ns/mnt")?.ino();
    let (ours, other) = (set_of(ctx, "ours", key)?, set_of(ctx, "other", key + 1)?);
    let (ours, other) = (ours.path.display().to_string(), other.path.display().to_string());
    for way in Way::all(ctx) {
        if !way.typed {
            let tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--mntnsmap", &ours]].concat())?;
            ensure!(tool.said.contains("--btf FILE names a file"), "{}", tool.said);
            continue;
        }
        for (path, expected) in [(&ours, 1), (&other, 0)] {
            let [rows] = traced(ctx, &way, &["--mntnsmap", path], || Ok([child(None, &[b"idle"])?]))?;
            ensure!(rows.len() == expected, "{way:?}: {} rows, not {expected}", rows.len());
        }
    }
    Ok(())
}
