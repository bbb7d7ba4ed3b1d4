//! Examples of the loader that need a kernel of their own to be tried: a system call by its name, and a filter by cgroup.

use std::fs::{self, File};

use bpfkit_loader::{Feature, Maps};

use super::tcpconnect::{cgroup_root, own_cgroup};
use crate::ensure;
use crate::guest::case::{Case, Ctx, Doing as _, Failure, need};
use crate::guest::sys;

#[allow(dead_code, unreachable_pub)] // they have a main of their own
#[path = "../../../../loader/examples/cgroup.rs"]
mod cgroup;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../loader/examples/syscall.rs"]
mod syscall;

pub const CASES: &[Case] = &[
    Case { name: "loader::syscall_example_sees_the_third_argument", run: syscall_example },
    Case { name: "loader::cgroup_example_counts_the_tasks_of_one_directory", run: cgroup_example },
];

/// A word of the map's only element.
fn word(maps: &Maps, index: usize) -> Result<u64, Failure> {
    let map = maps.get("calls").ok_or_else(|| Failure::Fail("no map".to_owned()))?;
    let mut value = vec![0; usize::try_from(map.info().value_size)?];
    map.lookup(&[0; 4], &mut value)?;
    let word = value.chunks_exact(8).nth(index).and_then(|word| word.first_chunk().copied());
    word.map(u64::from_ne_bytes).ok_or_else(|| Failure::Fail("the value is short".to_owned()))
}

fn syscall_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    need(&target, &[Feature::Kprobes])?;
    let (maps, link) = syscall::count(&target, "write")?;
    let before = word(&maps, 0)?;
    // Others may write in between.
    let seen = (0..20).any(|_| {
        sys::write_of_size(123_457);
        word(&maps, 1).is_ok_and(|size| size == 123_457)
    });
    ensure!(seen && word(&maps, 0)? > before, "{} calls, by {}", word(&maps, 0)?, link.how());
    let missing = syscall::count(&target, "never_was").map(drop).map_err(|error| error.to_string());
    ensure!(missing.as_ref().is_err_and(|error| error.contains("sys_never_was")), "{missing:?}");
    Ok(())
}

fn cgroup_example(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let own = File::open(own_cgroup()?)?;
    let (maps, _link) = cgroup::count(&target, &own)?;
    let before = word(&maps, 0)?;
    sys::write_of_size(1);
    ensure!(word(&maps, 0)? > before, "{} calls of this process's own cgroup", word(&maps, 0)?);
    let empty = cgroup_root()?.join(format!("bpfkit-empty-{}", std::process::id()));
    fs::create_dir(&empty).doing(|| format!("create {}", empty.display()))?;
    let counted = (|| {
        let (maps, _link) = cgroup::count(&target, &File::open(&empty)?)?;
        sys::write_of_size(1);
        word(&maps, 0)
    })();
    fs::remove_dir(&empty)?;
    let counted = counted?;
    ensure!(counted == 0, "{counted} calls of a cgroup without tasks");
    Ok(())
}
