//! The programs: at an exec that succeeded, and at the entry and the end of the system calls.

mod argv;
mod call;
mod success;

use bpfkit_asm::{Asm, Label, Version, bpf};
use bpfkit_loader::{MapSpec, ProgSpec, Target};

use self::success::raw_tracepoint;
use super::record::{
    COMM, COUNT, END, EVENT, HEADER, HOLES, MNTNS, NO_PPID, PID, POINTERS, PPID, STRING, STRINGS, UID, USED,
};
use super::{Args, Probe};
use crate::read;
use crate::{Error, event, filter, pids, tool};

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
