//! The strings of argv.

use bpfkit_asm::{Asm, Helper, Label, bpf};
use bpfkit_loader::{Feature, ReadHelpers};

use super::super::record::{COUNT, END, End, HOLES, NAME, STRING, STRINGS, USED};
use super::{BITS, POINTER, Programs, SCRATCH, WIDTH};
use crate::read;

impl Programs<'_> {
    /// The strings of the new program's argv: their addresses are on its stack, after their number.
    pub(super) fn stack(self) -> Asm {
        let (target, helpers) = (self.target, ReadHelpers::of(self.target));
        let mut code = Asm::new();
        let (null, unreadable) = (code.named_label("null"), code.named_label("unreadable"));
        code.splice(bpf! {
            call bpf_get_current_task;
            r3 = r0;
            r3 += task_struct.mm;
            {read::kernel(target, SCRATCH, 8)};
            r3 = *(u64 *)(r10 + SCRATCH);
            r3 += mm_struct.start_stack;
            {read::kernel(target, SCRATCH, 8)};
            r8 = *(u64 *)(r10 + SCRATCH);
            r1 = r10;
            r1 += SCRATCH;
            r2 = 8;
            r3 = r8;
            call {helpers.user};
            if r0 != 0 goto {unreadable};
            r1 = *(u64 *)(r10 + SCRATCH);               // argc
            r2 = r1;
            r2 <<= 32;
            if r2 == 0 goto {null};
            *(u64 *)(r10 + WIDTH) = 8;
            *(u64 *)(r10 + BITS) = -1;
            r1 >>= 32;
            if r1 == 0 goto wide;
            *(u64 *)(r10 + WIDTH) = 4;                  // a 32-bit program: the upper half is argv[0] already
            w1 = -1;
            *(u64 *)(r10 + BITS) = r1;
        wide:
            r1 = *(u64 *)(r10 + WIDTH);
            r8 += r1;
            {self.walk(true, null, unreadable)};
        });
        ends(code, null, unreadable)
    }

    /// Copies the strings whose addresses begin at the user's address in r8, until it leaves for one of the labels or has as many
    /// as fit.
    pub(super) fn walk(self, of_image: bool, null: Label, unreadable: Label) -> Asm {
        let elements = self.elements();
        if self.target.has(Feature::BoundedLoops) {
            return bpf! {
                r9 = 0;
            again:
                {self.element(None, of_image, null, unreadable)};
                if r9 != {elements} goto again;
            };
        }
        let mut code = Asm::new();
        for number in 0..elements {
            code.splice(self.element(Some(number), of_image, null, unreadable));
        }
        code
    }

    /// Copies one string of argv. Its number is in r9 where it is not known here.
    ///
    /// The bytes in use are kept in memory, of which the verifier knows nothing: so all ways through one element look alike to
    /// it before the next, and it walks only one of them on.
    fn element(self, number: Option<u32>, of_image: bool, null: Label, unreadable: Label) -> Asm {
        let helpers = ReadHelpers::of(self.target);
        let narrow = bpf! {
            r1 = *(u64 *)(r10 + BITS);
            r3 &= r1;
        };
        let next = match of_image {
            true => bpf! {
                r1 = *(u64 *)(r10 + WIDTH);
                r8 += r1;
            },
            false => bpf! { r8 += 8; },
        };
        let (bit, count) = match number {
            Some(number) => (bpf! { r1 = {2_u64 << number} ll; }, bpf! { *(u32 *)(r7 + COUNT) = {number + 1}; }),
            None => (
                bpf! {
                    r1 = 2;
                    r1 <<= r9;
                },
                bpf! {
                    r9 += 1;
                    *(u32 *)(r7 + COUNT) = r9;
                },
            ),
        };
        bpf! {
            r1 = r10;
            r1 += POINTER;
            r2 = 8;
            r3 = r8;
            call {helpers.user};
            if r0 != 0 goto {unreadable};
            r3 = *(u64 *)(r10 + POINTER);
            {if of_image { narrow } else { Asm::new() }};
            if r3 == 0 goto {null};
            {self.copy(helpers.user_str, bit)};
            {next};
            {count};
        }
    }

    /// Copies the string at the address in r3 behind the others. Where it cannot be read, the bit that `bit` puts into r1 tells.
    fn copy(self, string: Helper, bit: Asm) -> Asm {
        bpf! {
            r2 = *(u32 *)(r7 + USED);
            r2 &= {self.places()};
            r1 = r7;                                    // not `r2 += r7`, of which Linux 4.18 would die
            r1 += r2;
            r1 += STRINGS;
            r2 = STRING;
            call {string};
            // Verifiers from Linux 4.18 to 5.6 that lack commit 100605035e15 take it that this never fails, put a jump to itself in the
            // place of what is done then, and so end in it, in the kernel. Of what was in memory they know nothing.
            *(u64 *)(r10 + POINTER) = r0;
            r0 = *(u64 *)(r10 + POINTER);
            if r0 s> 0 goto copied;
            if r0 == 0 goto empty;                      // some kernels do not count the NUL of an empty string
            {bit};
            r2 = *(u64 *)(r7 + HOLES);
            r2 |= r1;
            *(u64 *)(r7 + HOLES) = r2;
            r0 = -1;
        empty:
            r0 += 1;
        copied:
            r1 = *(u32 *)(r7 + USED);
            r1 += r0;
            *(u32 *)(r7 + USED) = r1;
        }
    }

    /// Copies the name at the address in r3.
    pub(super) fn name(self, string: Helper) -> Asm {
        bpf! {
            r1 = *(u32 *)(r7 + USED);
            *(u32 *)(r7 + NAME) = r1;
            {self.copy(string, bpf! { r1 = 1; })};
        }
    }
}

/// Says after a walk over argv where it ended.
pub(super) fn ends(mut code: Asm, null: Label, unreadable: Label) -> Asm {
    let done = code.named_label("done");
    code.goto(done);
    code.bind(unreadable);
    code.splice(bpf! {
        *(u32 *)(r7 + END) = {End::Unreadable.code()};
        goto {done};
    });
    code.bind(null);
    code.splice(bpf! { *(u32 *)(r7 + END) = {End::Null.code()}; });
    code.bind(done);
    code
}
