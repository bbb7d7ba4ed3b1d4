//! Reading the kernel's memory.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{ReadHelpers, Target};

/// Copies `size` bytes from the kernel address in r3 to the stack at r10 + `to`; r6 to r9 survive. What cannot be read becomes
/// zeros.
pub fn kernel(target: &Target, to: i32, size: u32) -> Asm {
    let read = ReadHelpers::of(target).kernel;
    bpf! {
        r2 = {size};
        r1 = r10;
        r1 += {to};
        call {read};
    }
}
