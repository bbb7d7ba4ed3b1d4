//! Reading a `struct sk_buff`.

use bpfkit_asm::{Asm, FieldPath, bpf};
use bpfkit_loader::Target;

use crate::read;

/// Copies `size` bytes of a header of the packet in r7 to the stack at r10 + `to`: `header` is the member that tells how far
/// from `head` the header begins, and `skip` is how far in the header to begin. It takes 16 bytes of stack at r10 + `scratch`.
pub fn header(target: &Target, header: FieldPath, skip: i32, to: i32, size: u32, scratch: i32) -> Asm {
    let start = scratch + 8;
    bpf! {
        r3 = r7;
        r3 += sk_buff.head;
        {read::kernel(target, scratch, 8)};
        r3 = r7;
        r3 += {header};
        {read::kernel(target, start, 2)};
        r3 = *(u64 *)(r10 + {scratch});
        r1 = *(u16 *)(r10 + {start});
        r3 += r1;
        r3 += {skip};
        {read::kernel(target, to, size)};
    }
}
