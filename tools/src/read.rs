//! Reading memory, the kernel's and that of processes.

use bpfkit_asm::{Asm, Helper, bpf};
use bpfkit_loader::{Feature, Target};

/// The helpers that copy memory, by whose it is. Before Linux 5.5 one served for all.
#[derive(Clone, Copy, Debug)]
pub struct Helpers {
    /// Copies the kernel's bytes.
    pub kernel: Helper,
    /// Copies a string of the kernel with its NUL.
    pub kernel_str: Helper,
    /// Copies bytes of the current process.
    pub user: Helper,
    /// Copies a string of the current process with its NUL.
    pub user_str: Helper,
}

impl Helpers {
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

/// Copies `size` bytes from the kernel address in r3 to the stack at r10 + `to`; r6 to r9 survive. What cannot be read becomes
/// zeros.
pub fn kernel(target: &Target, to: i32, size: u32) -> Asm {
    let read = Helpers::of(target).kernel;
    bpf! {
        r2 = {size};
        r1 = r10;
        r1 += {to};
        call {read};
    }
}
