//! Having the kernel count how often programs run, and how long that takes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

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
    /// The sysctl was as it says, and is set to it again.
    Sysctl(String),
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
        let failed =
            |error| Error::lacking(Other::Administration, "cannot have the kernel count runs of programs", error);
        if target.has(Feature::EnableStats) {
            return bpf::enable_stats().map(|fd| Self(How::Descriptor(fd))).map_err(failed);
        }
        let before = match fs::read_to_string(SYSCTL) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = format!("and there is no {SYSCTL}, which came with Linux 5.1");
                return Err(Error::Missing { feature: Feature::EnableStats, why });
            }
            Err(error) => return Err(failed(error)),
        };
        if before != "0" {
            return Ok(Self(How::Already));
        }
        fs::write(SYSCTL, "1").map_err(failed)?;
        Ok(Self(How::Sysctl(before)))
    }

    /// Whether the kernel counts already, as the sysctl says; none where it cannot be read.
    pub fn is_on() -> Option<bool> {
        Some(fs::read_to_string(SYSCTL).ok()?.trim() != "0")
    }
}

impl Drop for RunStats {
    fn drop(&mut self) {
        if let How::Sysctl(before) = &self.0 {
            // Who may set it may set it back; and there is nobody left to tell.
            let _ = fs::write(SYSCTL, before);
        }
    }
}
