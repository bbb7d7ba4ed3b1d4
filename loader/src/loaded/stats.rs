//! Having the kernel count how often programs run, and how long that takes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::feature::Feature;
use crate::privilege::Other;
use crate::sys::bpf;
use crate::target::Target;

/// Where kernels from 5.1 on are told to count, by everybody for everybody.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// While this lives, the kernel counts runs of all programs. It costs each run two looks at the clock.
#[derive(Debug)]
pub struct RunStats(How);

#[derive(Debug)]
enum How {
    /// The kernel counts until it is closed, whatever becomes of this process.
    Descriptor(#[allow(dead_code)] OwnedFd),
    /// The sysctl at this path was as it says, and is set to it again.
    Sysctl(PathBuf, String),
    /// Somebody else has the kernel count.
    Already,
}

impl RunStats {
    /// Has the kernel count: by BPF_ENABLE_STATS (Linux 5.8), else by the sysctl kernel.bpf_stats_enabled (Linux 5.1), which is
    /// set back in the end unless this process is killed.
    ///
    /// # Errors
    /// A kernel that cannot count; want of privilege, CAP_SYS_ADMIN.
    pub fn enable(target: &Target) -> Result<Self, Error> {
        if target.has(Feature::EnableStats) {
            return bpf::enable_stats().map(|fd| Self(How::Descriptor(fd))).map_err(failed);
        }
        by_sysctl(Path::new(SYSCTL)).map(Self)
    }

    /// Whether the kernel counts already, as the sysctl says; none where it cannot be read.
    pub fn is_on() -> Option<bool> {
        Some(fs::read_to_string(SYSCTL).ok()?.trim() != "0")
    }
}

impl Drop for RunStats {
    fn drop(&mut self) {
        if let How::Sysctl(path, before) = &self.0 {
            // Who may set it may set it back; and there is nobody left to tell.
            let _ = fs::write(path, before);
        }
    }
}

fn failed(error: io::Error) -> Error {
    Error::lacking(Other::Administration, "cannot have the kernel count runs of programs", error)
}

fn by_sysctl(path: &Path) -> Result<How, Error> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!("it has no {} either, which came with Linux 5.1", path.display());
            return Err(Error::Missing { feature: Feature::EnableStats, why });
        }
        Err(error) => return Err(failed(error)),
    };
    if before != "0" {
        return Ok(How::Already);
    }
    fs::write(path, "1").map_err(failed)?;
    Ok(How::Sysctl(path.to_owned(), before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_counts_neither_by_call_nor_by_sysctl_says_so_in_one_sentence() {
        let said = by_sysctl(Path::new("/proc/no-such-sysctl")).unwrap_err().to_string();
        assert_eq!(
            said,
            "the kernel lacks BPF_ENABLE_STATS, which came with Linux 5.8: it has no /proc/no-such-sysctl either, which came with Linux 5.1"
        );
    }

    #[test]
    fn the_sysctl_is_set_back_by_who_set_it() {
        let path = std::env::temp_dir().join(format!("bpfkit-stats-{}", std::process::id()));
        let text = || fs::read_to_string(&path).unwrap();
        fs::write(&path, "0\n").unwrap();
        let counting = RunStats(by_sysctl(&path).unwrap());
        assert_eq!(text(), "1");
        let other = RunStats(by_sysctl(&path).unwrap());
        assert!(matches!(other.0, How::Already), "somebody else has it count");
        drop(other);
        assert_eq!(text(), "1");
        drop(counting);
        assert_eq!(text(), "0");
        fs::remove_file(&path).unwrap();
    }
}
