//! Which helpers copy memory.

use bpfkit_asm::Helper;

use crate::feature::Feature;
use crate::target::Target;

/// The helpers that copy memory, by whose it is. Before Linux 5.5 one served for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadHelpers {
    /// Copies the kernel's bytes.
    pub kernel: Helper,
    /// Copies a string of the kernel with its NUL.
    pub kernel_str: Helper,
    /// Copies bytes of the current process.
    pub user: Helper,
    /// Copies a string of the current process with its NUL.
    pub user_str: Helper,
}

impl ReadHelpers {
    /// Those of a kernel.
    pub fn of(target: &Target) -> Self {
        if !target.has(Feature::ProbeReadKernel) {
            let (bytes, string) = (Helper::PROBE_READ, Helper::PROBE_READ_STR);
            return Self { kernel: bytes, kernel_str: string, user: bytes, user_str: string };
        }
        Self {
            kernel: Helper::PROBE_READ_KERNEL,
            kernel_str: Helper::PROBE_READ_KERNEL_STR,
            user: Helper::PROBE_READ_USER,
            user_str: Helper::PROBE_READ_USER_STR,
        }
    }
}
