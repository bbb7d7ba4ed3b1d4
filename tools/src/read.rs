//! Reading the kernel's memory.

use bpfkit_asm::{Asm, Helper, bpf};
use bpfkit_loader::{Feature, Target};

/// Copies `size` bytes from the kernel address in r3 to the stack at r10 + `to`; r6 to r9 survive. What cannot be read becomes
/// zeros.
///
/// The helper is the one for kernel addresses where there is one (Linux 5.5), else the one that served for both.
pub fn kernel(target: &Target, to: i32, size: u32) -> Asm {
    let read = if target.has(Feature::ProbeReadKernel) { Helper::PROBE_READ_KERNEL } else { Helper::PROBE_READ };
    bpf! {
        r2 = {size};
        r1 = r10;
        r1 += {to};
        call {read};
    }
}
