//! Counts the system calls of the tasks in a cgroup v2 directory and below it: `cgroup /sys/fs/cgroup/system.slice`.

use std::fs::File;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Error, Link, MapSpec, Maps, ProgSpec, Target, UpdateMode};

/// Begins to count those of the tasks in a directory.
pub fn count(target: &Target, directory: &File) -> Result<(Maps, Link), Error> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("calls", 8, 1), target)?;
    let cgroups = MapSpec::cgroup_array("cgroups", 1).create(target)?;
    cgroups.update_fd(0, directory, UpdateMode::Any)?;
    maps.insert("cgroups", cgroups);
    let code = bpf! {
        r1 = map[cgroups];
        r2 = 0;                                         // the index of the directory
        call bpf_current_task_under_cgroup;
        if r0 != 1 goto out;
        *(u32 *)(r10 - 4) = 0;
        r1 = map[calls];
        r2 = r10;
        r2 += -4;
        call bpf_map_lookup_elem;
        if r0 == 0 goto out;
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    out:
        r0 = 0;
        exit;
    };
    let attach = Attach::RawTracepoint { name: "sys_enter".to_owned() };
    let link = ProgSpec::new("cgroup", attach, code)?.load(target, &maps)?.attach(target)?;
    Ok((maps, link))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: cgroup DIRECTORY")?;
    let (maps, _link) = count(&Target::running()?, &File::open(directory)?)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut calls = [0; 8];
    maps.get("calls").ok_or("no map")?.lookup(&[0; 4], &mut calls)?;
    println!("{} system calls in a second", u64::from_ne_bytes(calls));
    Ok(())
}
