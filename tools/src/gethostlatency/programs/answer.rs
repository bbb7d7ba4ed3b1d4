//! At the return of a function: what came out.

use bpfkit_asm::{Asm, Label, Reg, bpf};
use bpfkit_loader::{ReadHelpers, Target};

use super::super::Args;
use super::super::function::{Function, Place};
use super::super::record::{
    ADDRESS_LENGTHS, ANSWER, ANSWER_SIZE, ANSWERS, FUNCTION, HOST_POINTER, HOST_SIZE, HOSTENT_ADDRESS, IS_FOUND,
    LENGTH, PID_TGID, RECORD, RESULT, SOCKADDR_LENGTHS, SP, START, STATUS,
};
use super::{KEY, POINTER, STRUCT, lookup, read_host, read_pointer};
use crate::netdb::{addrinfo, hostent};
use crate::{event, pids};

impl Args {
    /// At the return of a function, or of any, which the record tells: reads the answer into the record of the look-up, and sends it.
    ///
    /// The record is the thread's own, so no other program writes to it meanwhile. A buffer for each CPU would not do, since these
    /// programs can be preempted (Linux 6.0).
    pub(super) fn ret(&self, target: &Target, function: Option<Function>) -> Asm {
        let read = ReadHelpers::of(target);
        let mut code = Asm::new();
        let [out, done, send, known] = ["out", "done", "send", "known"].map(|name| code.named_label(name));
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + KEY) = r0;
            {lookup()};
            if r0 == 0 goto {out};
            r7 = r0;
            r1 = *(u64 *)(r7 + SP);
            r2 = *(u64 *)(r6 + ctx.sp);
            if r1 != r2 goto {out};                     // an inner call
            {self.long_enough(done)};
        });
        match function {
            Some(Function::Getaddrinfo) => drop(code.splice(self.read_addrinfo(&read, done, send))),
            Some(_) => drop(code.splice(self.read_hostent(&read, function, done, send))),
            None => {
                let hostent = code.named_label("hostent");
                code.splice(bpf! {
                    r1 = *(u32 *)(r7 + FUNCTION);
                    if r1 != {Function::Getaddrinfo.number()} goto {hostent};
                    {self.read_addrinfo(&read, done, send)};
                    goto {send};
                });
                code.bind(hostent);
                code.splice(self.read_hostent(&read, function, done, send));
            }
        }
        code.bind(send);
        if function.is_none() {
            code.splice(bpf! {
                r1 = *(u32 *)(r7 + FUNCTION);
                if r1 >= {Function::FIRST_REVERSE.number()} goto {known};
            });
        }
        if !function.is_some_and(Function::is_reverse) {
            // The page of the name may not have been there at the entry; the function has read it since.
            code.splice(bpf! {
                r1 = *(u32 *)(r7 + LENGTH);
                if r1 <= HOST_SIZE goto {known};
                r3 = *(u64 *)(r7 + HOST_POINTER);
                {read_host(&read)};
            });
        }
        code.bind(known);
        code.splice(bpf! {
            {pids::here_in(target, Reg::R7, PID_TGID)};
            r1 = r6;
            r2 = map[events];
            w3 = -1;                                    // BPF_F_CURRENT_CPU
            r4 = r7;
            r5 = {self.record_size()};
            call bpf_perf_event_output;
            {event::count_unsent(POINTER)};
        });
        code.bind(done);
        code.splice(bpf! {
            r1 = map[lookups];
            r2 = r10;
            r2 += KEY;
            call bpf_map_delete_elem;
        });
        event::leave(code, out)
    }

    /// Leaves for `done` if the look-up was quicker than those that are asked for.
    fn long_enough(&self, done: Label) -> Asm {
        let Some(least) = self.min_ms else { return Asm::new() };
        bpf! {
            call bpf_ktime_get_ns;
            r1 = *(u64 *)(r7 + START);
            r0 -= r1;
            r1 = {u64::try_from(least.as_nanos()).unwrap_or(u64::MAX)} ll;
            if r0 < r1 goto {done};
        }
    }

    /// The code that getaddrinfo returned, and the addresses of its list.
    ///
    /// The argument `res` is the address of a pointer, which is read first; then the structure that it points to; then the
    /// socket address that this points to.
    fn read_addrinfo(&self, read: &ReadHelpers, done: Label, send: Label) -> Asm {
        let mut code = bpf! {
            r8 = *(u64 *)(r6 + ctx.ret);
            w8 = w8;                                    // an int
            {self.only_failed_code(done)};
            r3 = *(u64 *)(r7 + RESULT);
            *(u32 *)(r7 + ANSWER) = 0;
            *(u32 *)(r7 + STATUS) = r8;
        };
        if self.failed {
            return code;
        }
        code.splice(bpf! {
            if r8 != 0 goto {send};
            {read_pointer(read)};
        });
        for answer in self.answers() {
            code.splice(bpf! { r3 = *(u64 *)(r10 + POINTER); });
            if self.all {
                code.splice(bpf! { if r3 == 0 goto {send}; });
            }
            code.splice(bpf! {
                r3 += {addrinfo::START};
                r2 = {addrinfo::SIZE};
                r1 = r10;
                r1 += STRUCT;
                call {read.user};
                r2 = *(u32 *)(r10 + STRUCT);            // ai_addrlen
                r2 &= SOCKADDR_LENGTHS;
                r3 = *(u64 *)(r10 + STRUCT + {addrinfo::ADDR});
                r1 = r7;
                r1 += {answer};
                call {read.user};
            });
            if self.all {
                code.splice(bpf! {
                    r1 = *(u64 *)(r10 + STRUCT + {addrinfo::NEXT});
                    *(u64 *)(r10 + POINTER) = r1;
                });
            }
        }
        code
    }

    /// With -x, leaves for `done` if getaddrinfo returned 0.
    fn only_failed_code(&self, done: Label) -> Asm {
        if self.failed {
            bpf! { if r8 == 0 goto {done}; }
        } else {
            Asm::new()
        }
    }

    /// Where the answers go.
    fn answers(&self) -> Vec<i32> {
        if self.all { (0..ANSWERS).map(|n| RECORD + n * ANSWER_SIZE).collect() } else { vec![ANSWER] }
    }

    /// The structure that the other functions answer with, if they found something, and its addresses.
    fn read_hostent(&self, read: &ReadHelpers, function: Option<Function>, done: Label, send: Label) -> Asm {
        let returned = || {
            bpf! {
                r9 = *(u64 *)(r6 + ctx.ret);
                *(u64 *)(r7 + ANSWER) = 0;              // and no status
            }
        };
        let by_argument = || {
            bpf! {
                r3 = *(u64 *)(r7 + RESULT);
                {read_pointer(read)};
                r9 = *(u64 *)(r10 + POINTER);
                r1 = *(u64 *)(r6 + ctx.ret);
                *(u32 *)(r7 + ANSWER) = 0;
                *(u32 *)(r7 + STATUS) = r1;
            }
        };
        let mut code = match function.map(Function::result) {
            Some(Place::Returned) => returned(),
            Some(Place::Argument(_)) => by_argument(),
            None => bpf! {
                r1 = *(u64 *)(r7 + RESULT);
                if r1 == 0 goto returned;
                {by_argument()};
                goto found;
            returned:
                {returned()};
            found:
            },
        };
        if self.failed {
            code.splice(bpf! { if r9 != 0 goto {done}; });
            return code;
        }
        code.splice(bpf! {
            if r9 == 0 goto {send};
            *(u16 *)(r7 + IS_FOUND) = 1;
            r3 = r9;
            r2 = {hostent::SIZE};
            r1 = r10;
            r1 += STRUCT;
            call {read.user};
        });
        let name = || {
            bpf! {
                r3 = *(u64 *)(r10 + STRUCT + {hostent::NAME});
                {read_host(read)};
            }
        };
        match function {
            Some(function) if function.is_reverse() => drop(code.splice(name())),
            Some(_) => {}
            None => drop(code.splice(bpf! {
                r1 = *(u32 *)(r7 + FUNCTION);
                if r1 < {Function::FIRST_REVERSE.number()} goto asked;
                {name()};
            asked:
            })),
        }
        code.splice(bpf! {
            r8 = *(u32 *)(r10 + STRUCT + {hostent::FAMILY});
            r9 = *(u64 *)(r10 + STRUCT + {hostent::LIST});
        });
        for (n, answer) in self.answers().into_iter().enumerate() {
            code.splice(bpf! {
                r3 = r9;
                r3 += {8 * n};
                {read_pointer(read)};
                r3 = *(u64 *)(r10 + POINTER);
                if r3 == 0 goto {send};
                *(u16 *)(r7 + {answer}) = r8;
                r2 = *(u32 *)(r10 + STRUCT + {hostent::LENGTH});
                r2 &= ADDRESS_LENGTHS;
                r1 = r7;
                r1 += {answer + HOSTENT_ADDRESS};
                call {read.user};
            });
        }
        code
    }
}
