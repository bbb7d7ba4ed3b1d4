//! The programs: at an exec that succeeded, and at the entry and the end of the system calls.

use bpfkit_asm::{Asm, Helper, Imm, Label, Mem, Reg, Size, Version, bpf};
use bpfkit_loader::{Attach, Feature, MapSpec, ProgSpec, ReadHelpers, SyscallSymbol, Target};

use super::record::{
    ARGV, COMM, COUNT, END, EVENT, End, FILENAME, HEADER, HOLES, MNTNS, NAME, NO_PPID, PID, POINTERS, PPID, RET,
    SCRIPT, STRING, STRINGS, UID, USED,
};
use super::{Args, Probe};
use crate::read;
use crate::{Error, event, filter, pids, syscall, tool};

// The stack.
const KEY: i32 = -8;
const POINTER: i32 = -16;
const SCRATCH: i32 = -24;
/// The two pointers of a system call, as the map `execs` has them.
const CALL: i32 = -40;
/// Bytes of a pointer of the new program, and the bits that one has.
const WIDTH: i32 = -48;
const BITS: i32 = -56;

/// From this version on the kernel may interrupt a program at a raw tracepoint for another task, and if that execs too it is
/// not shown to the same program. What has a record of its own is not interrupted. No kernel can be asked.
const INTERRUPTED: Version = Version::new(6, 19);

/// Execs under way at one time.
const IN_FLIGHT: u32 = 1024;
/// The same where the strings of each have to be kept.
const IN_FLIGHT_WITH_STRINGS: u32 = 256;

/// The system calls, and which argument is the name; argv is the one after it.
const CALLS: [(&str, u32); 2] = [("execve", 1), ("execveat", 2)];
const COUNT_OF_CALLS: u32 = 2;
/// The element of the map `work` that the program of successes has. Those of ends and entries follow.
const WORK_OF_EXEC: u32 = 0;

/// Members that tell what a new program was given, without which that is read before the exec.
pub const TYPES: [&str; 6] = [
    "task_struct.mm",
    "task_struct.real_parent",
    "task_struct.tgid",
    "mm_struct.start_stack",
    "linux_binprm.filename",
    "linux_binprm.interp",
];

/// What the programs depend on.
#[derive(Clone, Copy)]
pub struct Programs<'a> {
    pub args: &'a Args,
    pub target: &'a Target,
    pub probe: Probe,
    /// Whether the kernel's types are known.
    pub typed: bool,
}

impl Programs<'_> {
    /// Elements of argv that are copied. A script's interpreter has two before the file, which are not shown.
    fn elements(self) -> u32 {
        self.args.max_args + 2
    }

    /// A power of two less one that no place of a string is beyond: where all elements of argv and two names are.
    fn places(self) -> u32 {
        ((self.elements() + 1) * STRING).next_power_of_two() - 1
    }

    /// Bytes of what the programs work on.
    fn room(self) -> u32 {
        (STRINGS.unsigned_abs() + self.places() + STRING).next_multiple_of(8)
    }

    /// Whether a success is seen by the tracepoint's record, which has no `struct linux_binprm`; whether there is an interpreter is
    /// then noted by another program.
    fn is_noted(self) -> bool {
        self.typed && self.probe == Probe::Tracepoint && self.target.version() >= INTERRUPTED
    }

    /// Whether system calls are looked at, and not only what they have done.
    fn watches_calls(self) -> bool {
        self.args.fails || !self.typed
    }

    /// The maps, but for those of the filter.
    pub fn maps(self) -> Vec<MapSpec> {
        // One element for each program that makes events: see `work`.
        let works = if self.watches_calls() { 1 + 2 * COUNT_OF_CALLS } else { 1 };
        let work = MapSpec::percpu_array("work", self.room(), works);
        let mut maps = vec![event::dropped(), MapSpec::perf_event_array("events"), work];
        if self.watches_calls() {
            let (value, most) = if self.typed { (POINTERS, IN_FLIGHT) } else { (self.room(), IN_FLIGHT_WITH_STRINGS) };
            maps.push(MapSpec::hash("execs", 8, value, most));
        }
        if self.is_noted() {
            // Those of which nobody asks go by themselves.
            maps.push(MapSpec::lru_hash("interps", 8, 8, IN_FLIGHT));
        }
        maps
    }

    /// All programs, in the order in which they are attached: ends before entries, so that nothing is remembered that nobody
    /// collects.
    ///
    /// # Errors
    /// A kernel without the system calls.
    pub fn all(self) -> Result<Vec<ProgSpec>, Error> {
        let mut programs = Vec::new();
        let mut entries = Vec::new();
        for ((call, name), number) in CALLS.into_iter().zip(1..).filter(|_| self.watches_calls()) {
            let (end, entry, symbol) = match self.probe {
                Probe::Tracepoint => {
                    let tracepoint = |when: &str| tool::tracepoint("syscalls", &format!("sys_{when}_{call}"));
                    (tracepoint("exit"), tracepoint("enter"), None)
                }
                Probe::Kprobe => {
                    let symbol = self.target.syscall(call)?;
                    (tool::kretprobe(&symbol.symbol), tool::kprobe(&symbol.symbol), Some(symbol))
                }
            };
            programs.push(ProgSpec::new(&format!("{call}_r"), end, self.end(number))?);
            entries.push(ProgSpec::new(call, entry, self.entry(symbol.as_ref(), name, number + COUNT_OF_CALLS))?);
        }
        if self.is_noted() {
            programs.push(ProgSpec::new("note", raw_tracepoint(), self.note())?);
        }
        programs.push(ProgSpec::new(
            "exec",
            self.success(),
            if self.typed { self.exec() } else { self.untyped_exec() },
        )?);
        programs.extend(entries);
        Ok(programs)
    }

    /// Where an exec that succeeded is seen.
    fn success(self) -> Attach {
        match self.probe {
            Probe::Kprobe => tool::kprobe("finalize_exec"),
            Probe::Tracepoint if self.typed && !self.is_noted() => raw_tracepoint(),
            Probe::Tracepoint => tool::tracepoint("sched", "sched_process_exec"),
        }
    }

    /// At a success, with the kernel's types: everything is read from the new program, whose stack has just been written.
    fn exec(self) -> Asm {
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
    fn note(self) -> Asm {
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

    /// The strings of the new program's argv: their addresses are on its stack, after their number.
    fn stack(self) -> Asm {
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
    fn walk(self, of_image: bool, null: Label, unreadable: Label) -> Asm {
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
    fn name(self, string: Helper) -> Asm {
        bpf! {
            r1 = *(u32 *)(r7 + USED);
            *(u32 *)(r7 + NAME) = r1;
            {self.copy(string, bpf! { r1 = 1; })};
        }
    }

    /// Fills in who runs, and leaves for `out` if the parent is not the one that was asked for. r6 to r8 survive.
    fn who(self, out: Label) -> Asm {
        let target = self.target;
        let is_inside = pids::namespace(target).is_some();
        let mut code = bpf! { call bpf_get_current_pid_tgid; };
        code.splice(if is_inside {
            bpf! {
                {pids::here(target, SCRATCH)};
                r0 = *(u32 *)(r10 + SCRATCH + 4);
            }
        } else {
            bpf! { r0 >>= 32; }
        });
        code.splice(bpf! {
            *(u32 *)(r7 + PID) = r0;
            call bpf_get_current_uid_gid;
            *(u32 *)(r7 + UID) = r0;
            r1 = r7;
            r1 += COMM;
            r2 = {event::TASK_COMM_LEN};
            call bpf_get_current_comm;
        });
        // The parent has a number of its own in a pid namespace, which only /proc tells.
        if !self.typed || is_inside {
            code.splice(bpf! {
                w1 = {NO_PPID};
                *(u32 *)(r7 + PPID) = r1;
            });
        } else {
            code.splice(bpf! {
                call bpf_get_current_task;
                r3 = r0;
                r3 += task_struct.real_parent;
                {read::kernel(target, SCRATCH, 8)};
                r3 = *(u64 *)(r10 + SCRATCH);
                r3 += task_struct.tgid;
                {read::kernel(target, SCRATCH, 4)};
                r1 = *(u32 *)(r10 + SCRATCH);
                *(u32 *)(r7 + PPID) = r1;
            });
            if let Some(ppid) = self.args.ppid {
                code.splice(bpf! { if r1 != {ppid} goto {out}; });
            }
        }
        if self.typed && self.args.mntns {
            code.splice(bpf! {
                {filter::mount_namespace(target, SCRATCH)};
                r1 = *(u64 *)(r10 + SCRATCH);
                *(u32 *)(r7 + MNTNS) = r1;
            });
        }
        code
    }

    /// At the entry of a system call: keeps what it was given, by its task. A thread that succeeds takes over the number of its
    /// process, but its task stays the same.
    fn entry(self, symbol: Option<&SyscallSymbol>, name: u32, place: u32) -> Asm {
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
        let mut code = ends(code, null, unreadable);
        code.splice(bpf! {
            r3 = *(u64 *)(r10 + CALL + FILENAME);
            {self.name(ReadHelpers::of(self.target).user_str)};
        });
        code
    }

    /// At the end of a system call: shows a failure if that was asked for. What it was given is read once more, as the kernel
    /// has read it meanwhile, which brings pages in.
    fn end(self, place: u32) -> Asm {
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

    /// At a success, without the kernel's types: what the entry has read is shown, under the name that the kernel gives.
    fn untyped_exec(self) -> Asm {
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
fn raw_tracepoint() -> Attach {
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

/// Says after a walk over argv where it ended.
fn ends(mut code: Asm, null: Label, unreadable: Label) -> Asm {
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

/// Points r7 to this CPU's event, with nothing in it.
///
/// Each program has its own: a kernel that interrupts a program for another task does not run the same one meanwhile, but may run
/// others.
fn work(place: u32, out: Label) -> Asm {
    bpf! {
        *(u32 *)(r10 + SCRATCH) = {place};
        r1 = map[work];
        r2 = r10;
        r2 += SCRATCH;
        call bpf_map_lookup_elem;
        if r0 == 0 goto {out};
        r7 = r0;
        *(u64 *)(r7 + HOLES) = 0;
        *(u64 *)(r7 + COUNT) = 0;                       // and USED
        *(u64 *)(r7 + END) = 0;                         // and SCRIPT
        *(u32 *)(r7 + MNTNS) = 0;
    }
}

/// Writes the key of the map `execs` for the current task.
fn key() -> Asm {
    bpf! {
        call bpf_get_current_task;
        *(u64 *)(r10 + KEY) = r0;
    }
}

/// Removes what is kept of the system call whose key is there.
fn forget() -> Asm {
    bpf! {
        r1 = map[execs];
        r2 = r10;
        r2 += KEY;
        call bpf_map_delete_elem;
    }
}

/// Removes what is kept of the current task's system call.
fn forget_this() -> Asm {
    bpf! {
        {key()};
        {forget()};
    }
}

/// Hands over the event in r7 with as many strings as there are. When the ring is full the kernel counts it as lost.
fn send(elements: u32, out: Label) -> Asm {
    bpf! {
        r5 = *(u32 *)(r7 + USED);
        if r5 > {(elements + 2) * STRING} goto {out};   // which the verifier cannot know
        r5 += HEADER;
        r1 = r6;
        r2 = map[events];
        w3 = -1;                                        // BPF_F_CURRENT_CPU
        r4 = r7;
        r4 += EVENT;
        call bpf_perf_event_output;
        {event::count_unsent(SCRATCH)};
    }
}
