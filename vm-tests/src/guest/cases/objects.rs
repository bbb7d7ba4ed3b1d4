//! `bpfkit dump --format obj`: what libbpf, in bpftool, makes of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use bpfkit_asm::Version;
use bpfkit_tests::objects::{self, LINES, Unequal};

use crate::guest::case::{Case, Ctx, Doing, Failure};
use crate::{ensure, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "objects::bpftool_loads_them_as_the_loader_loads_programs", run: loads },
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

fn loads(ctx: &mut Ctx) -> CaseResult {
    let bpffs = prepared()?;
    let target = ctx.target()?;
    let mut compared = 0;
    for line in LINES {
        match objects::compare(line, &target, bpffs) {
            Ok(programs) => compared += programs,
            Err(Unequal::NotHere(why)) => eprintln!("{line}: {why}"),
            Err(Unequal::Differs(why)) => fail!("{line}: {why}"),
        }
    }
    ensure!(compared > 0);
    Ok(())
}

fn attaches(ctx: &mut Ctx) -> CaseResult {
    let bpffs = prepared()?;
    let target = ctx.target()?;
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
