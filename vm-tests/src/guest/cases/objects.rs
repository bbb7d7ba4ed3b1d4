//! `bpfkit dump --format obj`: what libbpf, in bpftool, makes of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use bpfkit_asm::Version;
use bpfkit_loader::Feature;
use bpfkit_tests::objects::{self, Unequal};

use crate::guest::case::{Case, Ctx, Doing, Failure};
use crate::guest::sys;
use crate::{ensure, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "objects::tcpconnect_by_kprobe", run: |ctx| loads(ctx, "tcpconnect --probe kprobe -c -U") },
    Case { name: "objects::tcpconnect_by_fexit", run: |ctx| loads(ctx, "tcpconnect --probe fentry -P 80") },
    Case { name: "objects::tcpconnect_by_tracepoint", run: |ctx| loads(ctx, "tcpconnect --probe tracepoint -L") },
    Case { name: "objects::bpf2bpf", run: |ctx| loads(ctx, "bpf2bpf") },
    Case { name: "objects::execsnoop_by_tracepoint", run: |ctx| loads(ctx, "execsnoop --probe tracepoint -x") },
    Case { name: "objects::execsnoop_by_kprobe", run: |ctx| loads(ctx, "execsnoop --probe kprobe -x") },
    Case { name: "objects::gethostlatency", run: |ctx| loads(ctx, "gethostlatency --all") },
    Case { name: "objects::icmpecho", run: |ctx| loads(ctx, "icmpecho --probe kprobe") },
    Case { name: "objects::writehist", run: |ctx| loads(ctx, "writehist -u 1000") },
    Case { name: "objects::skbrecv", run: |ctx| loads(ctx, "skbrecv") },
    Case { name: "objects::libbpf_attaches_them_by_their_sections", run: attaches },
];

const BPFFS: &str = "/sys/fs/bpf";

/// The lines whose programs are looked at, where bpftool is.
fn prepared() -> Result<&'static Path, Failure> {
    if Command::new("bpftool").arg("version").output().is_err() {
        skip!("the machine that this guest was made on has no bpftool");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").doing(|| "read /proc/self/mounts".to_owned())?;
    if !mounts.contains(&format!(" {BPFFS} bpf ")) {
        skip!("no file system of type bpf is mounted at {BPFFS}");
    }
    Ok(Path::new(BPFFS))
}

/// bpftool loads the object as the loader loads its programs.
fn loads(ctx: &mut Ctx, line: &str) -> CaseResult {
    let bpffs = prepared()?;
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    // bpftool reads all of /proc/kallsyms to name functions that nobody looks at here, and that is what takes it longest.
    let hide = || drop(sys::mount_over("/dev/null", "/proc/kallsyms"));
    // The way that objects are made.
    let target = ctx.target_builder().without(Feature::UprobeMulti).running()?;
    match objects::compare(line, &target, bpffs, &hide) {
        Ok(programs) => {
            ensure!(programs > 0);
            Ok(())
        }
        Err(Unequal::NotHere(why)) => skip!("{why}"),
        Err(Unequal::Differs(why)) => fail!("{why}"),
    }
}

fn attaches(ctx: &mut Ctx) -> CaseResult {
    let bpffs = prepared()?;
    let target = ctx.target_builder().without(Feature::UprobeMulti).running()?;
    if target.version() < Version::new(5, 15) {
        skip!("links to perf events, which can be pinned, came with Linux 5.15");
    }
    if !objects::can_attach() {
        skip!("this bpftool does not attach; that of Linux 6.3 does");
    }
    for line in ["tcpconnect --probe kprobe", "tcpconnect --probe fentry", "execsnoop -x", "gethostlatency"] {
        objects::attach(line, &target, bpffs).or_else(|unequal| match unequal {
            Unequal::NotHere(why) => fail!("{line} cannot be made: {why}"),
            Unequal::Differs(why) => fail!("{line}: {why}"),
        })?;
    }
    Ok(())
}
