//! Which tasks are traced. Filters are compiled into the programs: what is not asked for costs no instruction, and what is
//! filtered out never reaches user space.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Feature, Map, MapSpec, Maps, Target, UpdateMode};

use crate::status::Status;
use crate::{Error, pids, read};

/// Options that say which tasks are traced.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct TaskFilter {
    /// Trace this process only
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=MAX_PID))]
    pub pid: Option<u32>,
    /// Trace this user only
    #[arg(short, long)]
    pub uid: Option<u32>,
    /// Trace the cgroups whose ids are the keys of this pinned map (u64)
    #[arg(long, value_name = "PATH")]
    pub cgroupmap: Option<PathBuf>,
    /// Trace the mount namespaces whose inode numbers are the keys of this pinned map (u64)
    #[arg(long, value_name = "PATH")]
    pub mntnsmap: Option<PathBuf>,
    /// Trace the tasks in this cgroup v2 directory and below it
    #[arg(short = 'C', long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

/// PID_MAX_LIMIT of include/linux/threads.h on 64-bit machines.
const MAX_PID: i64 = 4 << 20;

impl TaskFilter {
    /// Whether anything is left out.
    pub fn is_any(&self) -> bool {
        let Self { pid, uid, cgroupmap, mntnsmap, cgroup } = self;
        pid.is_some() || uid.is_some() || cgroupmap.is_some() || mntnsmap.is_some() || cgroup.is_some()
    }

    /// Instructions that jump to `out` in a task that is not traced.
    ///
    /// They expect what `bpf_get_current_pid_tgid` returned in r0 and 8 bytes of stack at r10 + `scratch`; r6 to r9 survive.
    ///
    /// # Errors
    /// None of its own; those of the fragments it is made of.
    pub fn code(&self, target: &Target, scratch: i32, out: Label) -> Asm {
        let mut code = Asm::new();
        if let Some(pid) = self.pid {
            code.splice(match pids::namespace(target) {
                None => bpf! {
                    r0 >>= 32;                          // the process; the lower half is the thread
                    if r0 != {pid} goto {out};
                },
                Some(_) => bpf! {
                    {pids::here(target, scratch)};
                    if r0 != 0 goto {out};              // it runs elsewhere
                    r0 = *(u32 *)(r10 + {scratch + 4});
                    if r0 != {pid} goto {out};
                },
            });
        }
        if let Some(uid) = self.uid {
            code.splice(bpf! {
                call bpf_get_current_uid_gid;
                w0 = w0;                                // the user; the upper half is the group
                w1 = {uid};
                if r0 != r1 goto {out};
            });
        }
        if self.cgroup.is_some() {
            code.splice(bpf! {
                r1 = map[cgroup];
                r2 = 0;
                call bpf_current_task_under_cgroup;
                if r0 != 1 goto {out};
            });
        }
        if self.cgroupmap.is_some() {
            code.splice(bpf! {
                call bpf_get_current_cgroup_id;
                *(u64 *)(r10 + {scratch}) = r0;
                r1 = map[cgroup_set];
                r2 = r10;
                r2 += {scratch};
                call bpf_map_lookup_elem;
                if r0 == 0 goto {out};
            });
        }
        if self.mntnsmap.is_some() {
            code.splice(bpf! {
                {mount_namespace(target, scratch)};
                r1 = map[mount_ns_set];
                r2 = r10;
                r2 += {scratch};
                call bpf_map_lookup_elem;
                if r0 == 0 goto {out};
            });
        }
        code
    }

    /// Checks what can be checked before anything is loaded: that there is such a process.
    ///
    /// # Errors
    /// When there is none, or when the number is that of a thread, or one of a pid namespace that the kernel cannot tell.
    pub fn check(&self, target: &Target) -> Result<(), Error> {
        let Some(pid) = self.pid else { return Ok(()) };
        if target.pid_namespace().is_some() && pids::namespace(target).is_none() {
            return Err(Error::Request(format!(
                "{pid} is the number that a process has in a pid namespace, and this kernel knows it by another: {} came \
                 with Linux {}; run where the host's processes are seen",
                Feature::NsPid,
                Feature::NsPid.since()
            )));
        }
        let status = Status::of(pid).map_err(|error| Error::Io(format!("no process {pid} to trace"), error))?;
        match status.number("Tgid") {
            Some(tgid) if tgid != pid => {
                Err(Error::Request(format!("{pid} is a thread of process {tgid}: ask for that with -p {tgid}")))
            }
            _ => Ok(()),
        }
    }

    /// The maps that [`TaskFilter::code`] names, as programs see them.
    pub fn map_specs(&self) -> Vec<MapSpec> {
        let set = |name: &str| MapSpec::hash(name, 8, 8, 1);
        let set_of = |path: &Option<PathBuf>, name| path.as_ref().map(|_| set(name));
        let cgroup = self.cgroup.as_ref().map(|_| MapSpec::cgroup_array("cgroup", 1));
        [set_of(&self.cgroupmap, "cgroup_set"), set_of(&self.mntnsmap, "mount_ns_set"), cgroup]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Opens or makes the maps that [`TaskFilter::code`] names.
    ///
    /// # Errors
    /// A pinned map that cannot be opened or has other keys than u64; a directory that is not of a cgroup v2 hierarchy.
    pub fn maps(&self, target: &Target) -> Result<Maps, Error> {
        let mut maps = Maps::new();
        if let Some(path) = &self.cgroupmap {
            maps.insert("cgroup_set", set(path)?);
        }
        if let Some(path) = &self.mntnsmap {
            maps.insert("mount_ns_set", set(path)?);
        }
        if let Some(path) = &self.cgroup {
            let cannot = |error| Error::Io(format!("cannot open the cgroup {}", path.display()), error);
            // Nothing else is opened: a pipe would wait for its writer.
            let directory = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path).map_err(cannot)?;
            if !path.join("cgroup.procs").is_file() {
                return Err(Error::Request(format!("{} is not a cgroup v2 directory", path.display())));
            }
            let map = MapSpec::cgroup_array("cgroup", 1).create(target)?;
            map.update_fd(0, &directory, UpdateMode::Any).map_err(|error| {
                Error::About(format!("cannot filter by the cgroup {}", path.display()), Box::new(error.into()))
            })?;
            maps.insert("cgroup", map);
        }
        Ok(maps)
    }
}

/// Writes the inode number of the current task's mount namespace to the 8 bytes of stack at r10 + `to`; r6 to r9 survive.
pub fn mount_namespace(target: &Target, to: i32) -> Asm {
    bpf! {
        call bpf_get_current_task;
        r3 = r0;
        r3 += task_struct.nsproxy;
        {read::kernel(target, to, 8)};
        r3 = *(u64 *)(r10 + {to});
        r3 += nsproxy.mnt_ns;
        {read::kernel(target, to, 8)};
        r3 = *(u64 *)(r10 + {to});
        r3 += mnt_namespace.ns.inum;
        *(u64 *)(r10 + {to}) = 0;                       // the number is a u32, the keys of sets are u64
        {read::kernel(target, to, 4)};
    }
}

/// A pinned map whose keys are the set of what is traced.
fn set(path: &Path) -> Result<Map, Error> {
    let map = Map::from_pinned(path)?;
    let size = map.info().key_size;
    if size != 8 {
        let path = path.display();
        return Err(Error::Request(format!(
            "the map pinned at {path} has keys of {size} bytes, and a set of u64 has 8"
        )));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use bpfkit_asm::Version;

    use super::*;
    use crate::status::tests::nameless;

    #[test]
    fn a_process_whose_name_is_no_text_can_be_asked_for() {
        let mut child = nameless();
        let filter = TaskFilter { pid: Some(child.id()), ..TaskFilter::default() };
        let checked = filter.check(&Target::offline(None, Version::new(6, 12)));
        child.kill().and_then(|()| child.wait()).unwrap();
        checked.unwrap();
    }
}
