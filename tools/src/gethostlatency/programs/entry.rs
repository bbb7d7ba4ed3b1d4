//! At the entry of a function: what is asked for.

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Arch, ReadHelpers, Target};

use super::super::Args;
use super::super::function::{Function, Place};
use super::super::record::{
    ADDRESS_LENGTHS, ASKED_LENGTH, COMM, FUNCTION, HOST, HOST_POINTER, PID_TGID, RESULT, SP, START,
};
use super::{KEY, SCRATCH, lookup, read_host};
use crate::event;

impl Args {
    /// At the entry of a function, or of any, which its cookie tells: remembers who asks for what, and when, by thread. An inner call is
    /// none of its own.
    pub(super) fn entry(&self, target: &Target, function: Option<Function>) -> Asm {
        let read = ReadHelpers::of(target);
        let mut code = Asm::new();
        let [out, full] = ["out", "full"].map(|name| code.named_label(name));
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + KEY) = r0;
            {self.filter.code(target, SCRATCH, out)};
            r8 = *(u64 *)(r6 + ctx.sp);
            {above_return_address(target)};
            {lookup()};
            if r0 != 0 goto known;
            *(u32 *)(r10 + SCRATCH) = 0;
            r1 = map[blank];
            r2 = r10;
            r2 += SCRATCH;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};
            r1 = map[lookups];
            r2 = r10;
            r2 += KEY;
            r3 = r0;
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
            {lookup()};
            if r0 == 0 goto {full};
        known:
            r7 = r0;
            r1 = *(u64 *)(r7 + SP);
            if r1 > r8 goto {out};                      // this call is deeper than the one under way
            *(u64 *)(r7 + SP) = r8;
            {begun(target, &read, function)};
            r1 = r7;
            r1 += COMM;
            r2 = {event::TASK_COMM_LEN};
            call bpf_get_current_comm;
            r3 = *(u64 *)(r6 + ctx.arg1);
            *(u64 *)(r7 + HOST_POINTER) = r3;
            {asked(&read, function)};
            call bpf_ktime_get_ns;
            *(u64 *)(r7 + START) = r0;
            goto {out};
        });
        code.bind(full);
        code.splice(event::drop_one(SCRATCH, out));
        event::leave(code, out)
    }
}

/// Makes of the stack pointer in r8, at the entry of a function, the one that its return will leave: on x86-64 a call has pushed the
/// address to return to.
fn above_return_address(target: &Target) -> Asm {
    if target.arch() == Arch::X86_64 {
        bpf! { r8 += 8; }
    } else {
        Asm::new()
    }
}

/// Writes down at the entry of a function which one it is, whose call, and where the result's address will be.
fn begun(target: &Target, read: &ReadHelpers, function: Option<Function>) -> Asm {
    let mut code = Asm::new();
    match function {
        Some(function) => drop(code.splice(result_place(target, read, function))),
        None => {
            let placed = code.named_label("placed");
            code.splice(bpf! {
                r1 = r6;
                call bpf_get_attach_cookie;
                *(u32 *)(r7 + FUNCTION) = r0;
                *(u64 *)(r7 + RESULT) = 0;
            });
            for function in Function::ALL {
                if function.result() != Place::Returned {
                    code.splice(bpf! {
                        if r0 != {function.number()} goto next;
                        {result_place(target, read, function)};
                        goto {placed};
                    next:
                    });
                }
            }
            code.bind(placed);
        }
    }
    code.splice(bpf! {
        r1 = *(u64 *)(r10 + KEY);
        *(u64 *)(r7 + PID_TGID) = r1;
    });
    if let Some(function) = function {
        code.splice(bpf! { *(u32 *)(r7 + FUNCTION) = {function.number()}; });
    }
    code
}

/// Writes down where the result's address will be, at the entry of a function.
fn result_place(target: &Target, read: &ReadHelpers, function: Function) -> Asm {
    let mut code = match function.result() {
        // Nothing is read by it.
        Place::Returned => bpf! { r1 = 0; },
        Place::Argument(4) => bpf! { r1 = *(u64 *)(r6 + ctx.arg4); },
        Place::Argument(5) => bpf! { r1 = *(u64 *)(r6 + ctx.arg5); },
        Place::Argument(6) => bpf! { r1 = *(u64 *)(r6 + ctx.arg6); },
        Place::Argument(_) => return seventh_argument(target, read),
    };
    code.splice(bpf! { *(u64 *)(r7 + RESULT) = r1; });
    code
}

/// The same where it is the seventh argument, which x86-64 has on the stack above the address to return to.
fn seventh_argument(target: &Target, read: &ReadHelpers) -> Asm {
    if target.arch() == Arch::X86_64 {
        return bpf! {
            r3 = r8;
            r2 = 8;
            r1 = r7;
            r1 += RESULT;
            call {read.user};
        };
    }
    bpf! {
        r1 = *(u64 *)(r6 + ctx.arg6 + 8);               // registers of arguments follow each other
        *(u64 *)(r7 + RESULT) = r1;
    }
}

/// Reads what is asked for, at the user's address in r3, into the record at r7: a name, or an address of the length that the next
/// argument says.
fn asked(read: &ReadHelpers, function: Option<Function>) -> Asm {
    match function {
        Some(function) if function.is_reverse() => asked_for_address(read),
        Some(_) => read_host(read),
        None => bpf! {
            r1 = *(u32 *)(r7 + FUNCTION);
            if r1 >= {Function::FIRST_REVERSE.number()} goto reverse;
            {read_host(read)};
            goto asked;
        reverse:
            {asked_for_address(read)};
        asked:
        },
    }
}

/// The same where it is an address.
fn asked_for_address(read: &ReadHelpers) -> Asm {
    bpf! {
        r2 = *(u64 *)(r6 + ctx.arg2);
        *(u64 *)(r7 + ASKED_LENGTH) = r2;
        r2 &= ADDRESS_LENGTHS;
        r1 = r7;
        r1 += HOST;
        call {read.user};
    }
}
