//! The guest itself: what every other case relies on.

use std::fs;
use std::net::{TcpListener, TcpStream};

use bpfkit_loader::Feature;
use bpfkit_tests::shown;

use crate::guest::case::{Case, Ctx, Doing as _, Failure, need};
use crate::guest::leaks::Leftovers;
use crate::guest::mounts::{MOUNTS, is_mounted};
use crate::guest::sys::{self, Object};
use crate::{ensure, ensure_eq, fail, skip};

pub const CASES: &[Case] = &[
    Case { name: "guest::file_systems_are_mounted", run: mounts },
    Case { name: "guest::loopback_is_up", run: loopback },
    Case { name: "guest::memlock_limit_is_the_kernels_own", run: memlock },
    Case { name: "guest::programs_of_others_are_absent", run: alone },
    Case { name: "guest::the_kernels_own_types_are_no_leftovers", run: own_types },
    Case { name: "guest::tool_is_the_shipped_one", run: tool },
];

fn mounts(ctx: &mut Ctx) -> Result<(), Failure> {
    if !ctx.is_vm() {
        skip!("this machine's mounts are its own");
    }
    let table = fs::read_to_string("/proc/self/mounts")?;
    let known = fs::read_to_string("/proc/filesystems")?;
    for mount in MOUNTS {
        if known.lines().any(|line| line.split_whitespace().next_back() == Some(mount.kind)) {
            ensure!(is_mounted(&table, mount), "no {} at {}:\n{table}", mount.kind, mount.at);
        }
    }
    Ok(())
}

/// They have a number from Linux 5.11 on, at the latest when a program is loaded by theirs; those of a program are somebody's.
fn own_types(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    // The second is asked for by such a program.
    need(&target, &[Feature::ProgBtf, Feature::TpBtf])?;
    let (prog, _maps) = shown::load(&target)?;
    let Some(types) = prog.info()?.btf_id else { fail!("the program has no types") };
    let (own, others): (Vec<u32>, Vec<u32>) =
        sys::object_ids(Object::Btf).into_iter().partition(|&id| sys::is_kernels_own(id));
    ensure!(others.contains(&types) && !own.contains(&types), "{types} is not among {others:?}, but {own:?}");
    let left = Leftovers::default().now_beyond();
    ensure!(own.iter().all(|id| !left.contains(&format!("BTF {id} \"\""))), "{own:?}: {left:?}");
    if own.is_empty() {
        skip!("the kernel's own types have no number");
    }
    Ok(())
}

fn loopback(_: &mut Ctx) -> Result<(), Failure> {
    for address in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((address, 0)).doing(|| format!("listen on {address}"))?;
        let server = listener.local_addr()?;
        let client = TcpStream::connect(server).doing(|| format!("connect to {server}"))?;
        ensure_eq!(listener.accept()?.1, client.local_addr()?);
    }
    Ok(())
}

/// Before 5.11 maps are charged to RLIMIT_MEMLOCK, and a loader that forgets to raise it must fail here as it would
/// elsewhere.
fn memlock(ctx: &mut Ctx) -> Result<(), Failure> {
    if !ctx.is_vm() {
        skip!("this machine's limits are its own");
    }
    let limits = fs::read_to_string("/proc/1/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap_or_default();
    ensure!(!line.is_empty() && !line.contains("unlimited"), "{line:?}");
    Ok(())
}

fn alone(ctx: &mut Ctx) -> Result<(), Failure> {
    if !ctx.is_vm() {
        skip!("others may load programs on this machine");
    }
    for object in [Object::Prog, Object::Map, Object::Link] {
        let names: Vec<_> = sys::object_ids(object).into_iter().map(|id| sys::object_name(object, id)).collect();
        ensure!(names.is_empty(), "{} objects of kind {}: {names:?}", names.len(), object.word());
    }
    Ok(())
}

fn tool(ctx: &mut Ctx) -> Result<(), Failure> {
    let output = ctx.bpfkit()?.arg("--version").output().doing(|| "run bpfkit --version".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && text.starts_with("bpfkit "), "{}: {text}", output.status);
    Ok(())
}
