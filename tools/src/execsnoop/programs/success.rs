//! At an exec that succeeded.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, ReadHelpers};

use super::super::Probe;
use super::super::record::{END, End, FILENAME, HOLES, RET, SCRIPT};
use super::{CALL, KEY, Programs, SCRATCH, WORK_OF_EXEC, forget, forget_this, key, send, work};
use crate::{event, read, tool};

impl Programs<'_> {
    /// Where an exec that succeeded is seen.
    pub(super) fn success(self) -> Attach {
        match self.probe {
            Probe::Kprobe => tool::kprobe("finalize_exec"),
            Probe::Tracepoint if self.typed && !self.is_noted() => raw_tracepoint(),
            Probe::Tracepoint => tool::tracepoint("sched", "sched_process_exec"),
        }
    }

    /// At a success, with the kernel's types: everything is read from the new program, whose stack has just been written.
    pub(super) fn exec(self) -> Asm {
        let helpers = ReadHelpers::of(self.target);
        let (interpreter, name) = if self.is_noted() {
            (noted(), self.record_name())
        } else {
            let name = bpf! {
                r3 = *(u64 *)(r10 + CALL + FILENAME);
                {self.name(helpers.kernel_str)};
            };
            let interpreter = bpf! {
                {self.binprm()};
                if r1 == 0 goto native;
                *(u32 *)(r7 + SCRIPT) = 1;
            native:
            };
            (interpreter, name)
        };
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            {if self.watches_calls() { forget_this() } else { Asm::new() }};
            call bpf_get_current_pid_tgid;
            {self.args.filter().code(self.target, SCRATCH, out)};
            {work(WORK_OF_EXEC, out)};
            {self.who(out)};
            *(u32 *)(r7 + RET) = 0;
            {interpreter};
            {self.stack()};
            {name};
            {send(self.elements(), out)};
        });
        event::leave(code, out)
    }

    /// Reads the name's address to CALL + FILENAME. r1 is not 0 where there is an interpreter.
    fn binprm(self) -> Asm {
        let argument = match self.probe {
            Probe::Tracepoint => bpf! { r8 = *(u64 *)(r6 + ctx.arg3); },
            Probe::Kprobe => bpf! { r8 = *(u64 *)(r6 + ctx.arg1); },
        };
        bpf! {
            {argument};                                 // struct linux_binprm *
            r3 = r8;
            r3 += linux_binprm.filename;
            {read::kernel(self.target, CALL + FILENAME, 8)};
            r3 = r8;
            r3 += linux_binprm.interp;                  // the same pointer, unless there is one
            {read::kernel(self.target, SCRATCH, 8)};
            r1 = *(u64 *)(r10 + CALL + FILENAME);
            r2 = *(u64 *)(r10 + SCRATCH);
            r1 ^= r2;
        }
    }

    /// Before that, where it has no `struct linux_binprm`: notes whether there is an interpreter.
    pub(super) fn note(self) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            {self.binprm()};
            *(u64 *)(r10 + SCRATCH) = r1;
            {key()};
            r1 = map[interps];
            r2 = r10;
            r2 += KEY;
            r3 = r10;
            r3 += SCRATCH;
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
        });
        event::leave(code, out)
    }

    /// Copies the name from the record of sched:sched_process_exec.
    fn record_name(self) -> Asm {
        bpf! {
            r3 = *(u32 *)(r6 + ctx.filename);           // __data_loc: its length, and where in the record it is
            r3 &= 0xffff;
            r3 += r6;
            {self.name(ReadHelpers::of(self.target).kernel_str)};
        }
    }
    /// At a success, without the kernel's types: what the entry has read is shown, under the name that the kernel gives.
    pub(super) fn untyped_exec(self) -> Asm {
        let name = match self.probe {
            Probe::Kprobe => Asm::new(),
            Probe::Tracepoint => bpf! {
                r1 = *(u64 *)(r7 + HOLES);
                r2 = -2;
                r1 &= r2;
                *(u64 *)(r7 + HOLES) = r1;
                {self.record_name()};
            },
        };
        let mut code = Asm::new();
        let (out, over) = (code.named_label("out"), code.named_label("over"));
        code.splice(bpf! {
            r6 = r1;
            {key()};
            call bpf_get_current_pid_tgid;
            {self.args.filter().code(self.target, SCRATCH, over)};
            r1 = map[execs];
            r2 = r10;
            r2 += KEY;
            call bpf_map_lookup_elem;
            r7 = r0;
            if r7 != 0 goto known;
            {work(WORK_OF_EXEC, over)};                               // an exec of the kernel's own, or one that began before the program
            *(u64 *)(r7 + HOLES) = 1;
            *(u32 *)(r7 + END) = {End::Unreadable.code()};
        known:
            {name};
            {self.who(over)};
            *(u32 *)(r7 + RET) = 0;
            {send(self.elements(), over)};
        });
        code.bind(over);
        code.splice(forget());
        event::leave(code, out)
    }
}

/// sched_process_exec with its arguments, the kernel's own structures.
pub(super) fn raw_tracepoint() -> Attach {
    Attach::RawTracepoint { name: "sched_process_exec".to_owned() }
}

/// Fetches what was noted of the current task's interpreter.
fn noted() -> Asm {
    bpf! {
        {key()};
        *(u32 *)(r7 + SCRIPT) = 2;                      // nobody knows
        r1 = map[interps];
        r2 = r10;
        r2 += KEY;
        call bpf_map_lookup_elem;
        if r0 == 0 goto noted;
        *(u32 *)(r7 + SCRIPT) = 1;
        r1 = *(u64 *)(r0 + 0);
        if r1 != 0 goto known;
        *(u32 *)(r7 + SCRIPT) = 0;
    known:
        r1 = map[interps];
        r2 = r10;
        r2 += KEY;
        call bpf_map_delete_elem;
    noted:
    }
}
