//! At the entry and the end of the system calls.

use bpfkit_asm::{Asm, Imm, Label, Mem, Reg, Size, bpf};
use bpfkit_loader::{ReadHelpers, SyscallSymbol};

use super::super::record::{ARGV, FILENAME, RET};
use super::{CALL, KEY, Programs, SCRATCH, argv, forget, forget_this, key, send, work};
use crate::{event, syscall};

impl Programs<'_> {
    /// At the entry of a system call: keeps what it was given, by its task. A thread that succeeds takes over the number of its
    /// process, but its task stays the same.
    pub(super) fn entry(self, symbol: Option<&SyscallSymbol>, name: u32, place: u32) -> Asm {
        let argument = |number: u32, to: i32| match symbol {
            Some(symbol) => syscall::argument(self.target, symbol, number, to),
            None => {
                let mut code = Asm::new();
                code.load(Size::DW, Reg::R1, Mem::at(Reg::R6).plus(Imm::Ctx(format!("arg{number}").into())));
                code.splice(bpf! { *(u64 *)(r10 + {to}) = r1; });
                code
            }
        };
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            {self.args.filter().code(self.target, SCRATCH, out)};
            {argument(name, CALL + FILENAME)};
            {argument(name + 1, CALL + ARGV)};
            {key()};
            {if self.typed { Asm::new() } else { self.strings(place, out) }};
            r1 = map[execs];
            r2 = r10;
            r2 += KEY;
            {if self.typed { bpf! { r3 = r10; r3 += CALL; } } else { bpf! { r3 = r7; } }};
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
            if r0 == 0 goto {out};
            {event::drop_one(SCRATCH, out)};
        });
        event::leave(code, out)
    }

    /// Makes in r7 an event of what a system call was given, whose two pointers are at r10 + CALL.
    fn strings(self, place: u32, out: Label) -> Asm {
        let mut code = Asm::new();
        let (null, unreadable) = (code.named_label("null"), code.named_label("unreadable"));
        code.splice(bpf! {
            {work(place, out)};
            r8 = *(u64 *)(r10 + CALL + ARGV);
            *(u64 *)(r7 + ARGV) = r8;
            r1 = *(u64 *)(r10 + CALL + FILENAME);
            *(u64 *)(r7 + FILENAME) = r1;
            if r8 == 0 goto {null};                     // the kernel takes it for an empty one
            {self.walk(false, null, unreadable)};
        });
        let mut code = argv::ends(code, null, unreadable);
        code.splice(bpf! {
            r3 = *(u64 *)(r10 + CALL + FILENAME);
            {self.name(ReadHelpers::of(self.target).user_str)};
        });
        code
    }

    /// At the end of a system call: shows a failure if that was asked for. What it was given is read once more, as the kernel
    /// has read it meanwhile, which brings pages in.
    pub(super) fn end(self, place: u32) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        if !self.args.fails {
            code.splice(forget_this());
            return event::leave(code, out);
        }
        code.splice(bpf! {
            r6 = r1;
            {key()};
            r1 = map[execs];
            r2 = r10;
            r2 += KEY;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};
            r1 = *(u64 *)(r0 + FILENAME);
            *(u64 *)(r10 + CALL + FILENAME) = r1;
            r1 = *(u64 *)(r0 + ARGV);
            *(u64 *)(r10 + CALL + ARGV) = r1;
            {forget()};
            r1 = *(u64 *)(r6 + ctx.ret);
            if r1 s>= 0 goto {out};
            {self.strings(place, out)};
            r1 = *(u64 *)(r6 + ctx.ret);
            *(u32 *)(r7 + RET) = r1;
            {self.who(out)};
            {send(self.elements(), out)};
        });
        event::leave(code, out)
    }
}
