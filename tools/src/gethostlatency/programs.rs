//! The programs, and the record that they keep of a look-up.

use std::path::PathBuf;

use bpfkit_asm::{Asm, Label, Reg, bpf};
use bpfkit_loader::{Arch, Attach, Feature, MapSpec, ProgSpec, ReadHelpers, Target};

use super::Args;
use super::function::{Function, Place};
use crate::netdb::{addrinfo, hostent};
use crate::{Error, event, pids};

// The record of a look-up under way, which the return completes to the event: where its parts are, in bytes.
const PID_TGID: i32 = 0;
const START: i32 = 8;
const COMM: i32 = 16;
const FUNCTION: i32 = 32;
/// What reading the host gave: its length with the NUL, or an error.
const LENGTH: i32 = 36;
const HOST_POINTER: i32 = 40;
/// The stack pointer that the return will find.
const SP: i32 = 48;
/// Where the result's address will be.
const RESULT: i32 = 56;
/// Bytes of the address that was asked for.
const ASKED_LENGTH: i32 = 64;
/// When a look-up ends, the answer takes the place of what only the end needed to know: its family, which is 0 where there is none,
/// whether there is one, what was returned; and the first socket address, or of a `struct hostent` the first address.
const ANSWER: i32 = SP;
const IS_FOUND: i32 = ANSWER + 2;
const STATUS: i32 = ANSWER + 4;
/// Where an address from a `struct hostent` is, counted from the start of an answer.
const HOSTENT_ADDRESS: i32 = 8;
const HOST: i32 = 80;
/// Bytes of a name with its NUL: 253 are the most that DNS has, 255 (NI_MAXHOST of old, NAME_MAX) the most that files have.
const HOST_SIZE: i32 = 256;
const RECORD: i32 = HOST + HOST_SIZE;
/// With `-a`, the answers follow the record.
const ANSWERS: i32 = 16;
const ANSWER_SIZE: i32 = 32;
/// The lengths that `struct sockaddr_in` and `struct sockaddr_in6` have are 16 and 28. Any other is cut by this, so that what is read
/// stays in its answer.
const SOCKADDR_LENGTHS: i32 = 28;
/// Those of addresses, 4 and 16, likewise.
const ADDRESS_LENGTHS: i32 = 20;

// What is on the stack: the thread, a pointer or what a fragment needs, a structure. It must not be more than 48 bytes: a program that
// needs 64 (in steps of 16) has a stack for each CPU from Linux 6.13 on (a76ab5731e32), although it can be preempted by another
// task's at a uprobe, which then overwrites it. With 24 threads, one look-up in a few hundred got mixed up that way.
const KEY: i32 = -8;
const POINTER: i32 = -16;
const SCRATCH: i32 = POINTER;
const STRUCT: i32 = -48;

/// Look-ups under way at one time: more are counted as not recorded.
const IN_FLIGHT: u32 = 4096;

impl Args {
    fn record_size(&self) -> i32 {
        if self.all { RECORD + ANSWERS * ANSWER_SIZE } else { RECORD }
    }

    /// The maps, but for those of the filter.
    pub(super) fn own_maps(&self) -> Vec<MapSpec> {
        let size = self.record_size().unsigned_abs();
        vec![
            event::dropped(),
            MapSpec::perf_event_array("events"),
            MapSpec::hash("lookups", 8, size, IN_FLIGHT),
            // What a new record is a copy of: the stack has no room for one.
            MapSpec::array("blank", size, 1),
        ]
    }

    /// The programs of a function: of its return, and of its entry.
    ///
    /// # Errors
    /// A constant that fits no instruction.
    pub(super) fn programs_of(&self, target: &Target, function: Function) -> Result<[ProgSpec; 2], Error> {
        let name = function.name();
        let path = PathBuf::from(format!("libc.so.6:{name}"));
        let (entry, at_return) =
            (Attach::Uprobe { path: path.clone(), offset: 0 }, Attach::Uretprobe { path, offset: 0 });
        Ok([
            ProgSpec::new(&format!("{name}_ret"), at_return, self.ret(target, Some(function)))?,
            ProgSpec::new(name, entry, self.entry(target, Some(function)))?,
        ])
    }

    /// The programs of all functions: of their returns, and of their entries. One link takes either to all functions of a library.
    ///
    /// # Errors
    /// A constant that fits no instruction.
    pub(super) fn programs_of_all(&self, target: &Target) -> Result<[ProgSpec; 2], Error> {
        let places = Function::ALL.map(|function| (0, u64::from(function.number())));
        let at = |at_return| Attach::UprobeMulti { path: "libc.so.6".into(), places: places.to_vec(), at_return };
        Ok([
            ProgSpec::new("lookup_ret", at(true), self.ret(target, None))?,
            ProgSpec::new("lookup", at(false), self.entry(target, None))?,
        ])
    }

    /// Whether a kernel is given these. A link to one process is what not all kernels keep to it that have such links.
    pub(super) fn takes_all(&self, target: &Target) -> bool {
        self.filter.pid.is_none() && target.has(Feature::UprobeMulti)
    }

    /// At the entry of a function, or of any, which its cookie tells: remembers who asks for what, and when, by thread. An inner call is
    /// none of its own.
    fn entry(&self, target: &Target, function: Option<Function>) -> Asm {
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

    /// At the return of a function, or of any, which the record tells: reads the answer into the record of the look-up, and sends it.
    ///
    /// The record is the thread's own, so no other program writes to it meanwhile. A buffer for each CPU would not do, since these
    /// programs can be preempted (Linux 6.0).
    fn ret(&self, target: &Target, function: Option<Function>) -> Asm {
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

/// Reads the name at the user's address in r3 into the record at r7.
fn read_host(read: &ReadHelpers) -> Asm {
    bpf! {
        r2 = HOST_SIZE;
        r1 = r7;
        r1 += HOST;
        call {read.user_str};
        *(u32 *)(r7 + LENGTH) = r0;
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

/// The record of this thread, or nothing, in r0.
fn lookup() -> Asm {
    bpf! {
        r1 = map[lookups];
        r2 = r10;
        r2 += KEY;
        call bpf_map_lookup_elem;
    }
}

/// Reads the pointer at the user's address in r3.
fn read_pointer(read: &ReadHelpers) -> Asm {
    bpf! {
        r2 = 8;
        r1 = r10;
        r1 += POINTER;
        call {read.user};
    }
}
