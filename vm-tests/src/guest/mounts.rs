//! The file systems of a guest.

use std::fs;
use std::path::Path;

use super::sys;

/// One mount.
#[derive(Clone, Copy, Debug)]
pub struct Mount {
    /// The type, which is its source too.
    pub kind: &'static str,
    /// Where it goes.
    pub at: &'static str,
}

/// What a guest has, in the order of mounting: some mount points are inside of others.
pub const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", at: "/proc" },
    Mount { kind: "sysfs", at: "/sys" },
    Mount { kind: "devtmpfs", at: "/dev" },
    Mount { kind: "tmpfs", at: "/tmp" },
    Mount { kind: "tracefs", at: "/sys/kernel/tracing" },
    Mount { kind: "debugfs", at: "/sys/kernel/debug" },
    Mount { kind: "bpf", at: "/sys/fs/bpf" },
    Mount { kind: "cgroup2", at: "/sys/fs/cgroup" },
];

/// Mounts everything; what this kernel cannot mount is noted.
pub fn mount_all(notes: &mut Vec<String>) {
    for mount in MOUNTS {
        // Only the mount points outside of sysfs can be made, and they are missing when init runs from a foreign archive.
        let _ = fs::create_dir_all(mount.at);
        note(mount, notes);
    }
}

/// Mounts what a machine in use may lack, and leaves the rest as it is.
pub fn mount_missing(notes: &mut Vec<String>) {
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in MOUNTS.iter().filter(|mount| ["tracefs", "debugfs", "bpf"].contains(&mount.kind)) {
        if !is_mounted(&mounted, mount) {
            note(mount, notes);
        }
    }
}

/// Whether a mount table has this type at this place.
pub fn is_mounted(table: &str, mount: &Mount) -> bool {
    table.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(mount.at) && words.next() == Some(mount.kind)
    })
}

fn note(mount: &Mount, notes: &mut Vec<String>) {
    if let Err(error) = sys::mount(mount.kind, Path::new(mount.at)) {
        notes.push(format!("mount {} at {}: {error}", mount.kind, mount.at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_type_and_place() {
        let table = "none / rootfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\n";
        assert!(is_mounted(table, &MOUNTS[0]));
        assert!(!is_mounted(table, &MOUNTS[7]), "a tmpfs there is another hierarchy's");
    }
}
