//! The pid namespace that this process runs in.

use std::os::linux::fs::MetadataExt;

/// A pid namespace by the numbers that `bpf_get_ns_current_pid_tgid` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PidNamespace {
    /// The device of its file in /proc/PID/ns, as the kernel encodes it.
    pub dev: u64,
    /// The inode of that file.
    pub ino: u64,
}

/// PROC_PID_INIT_INO of include/linux/proc_ns.h: the initial namespace, by whose numbers programs know processes.
const INITIAL: u64 = 0xefff_fffc;

impl PidNamespace {
    /// The one that this process runs in; none where it is the initial one, or there is no /proc to ask.
    pub(crate) fn own() -> Option<Self> {
        let file = std::fs::metadata("/proc/self/ns/pid").ok()?;
        let (dev, ino) = (file.st_dev(), file.st_ino());
        // User space has 8 bits of the minor number below the major one, the kernel has all 20 (include/linux/kdev_t.h).
        let dev = u64::from(libc::major(dev)) << 20 | u64::from(libc::minor(dev));
        (ino != INITIAL).then_some(Self { dev, ino })
    }
}
