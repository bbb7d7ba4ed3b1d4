//! `bpfkit gethostlatency` shows each look-up of a host by a C library: who asked, for what, how long it took, what came out.
//!
//! Probed are `getaddrinfo`, `gethostbyname`, `gethostbyname2`, `gethostbyaddr` and the variants of the last three that end in
//! `_r`, in every C library that a process on this machine has mapped, at the start and every two seconds after it: each file
//! once, in whatever container it is. `-p` looks at one process, `-l` at one file. Programs that bring their own resolver, as many
//! in Go do, do not call a C library and are not seen.
//!
//! The entry keeps what was asked for by thread, and the return reads the answer from the memory of the process. A C library
//! calls its own functions: `gethostbyname` of glibc calls `gethostbyname_r`. What is shown is the call of the program. An inner
//! call is one that begins deeper on the stack than the call that the thread has begun, and a return belongs to the entry
//! that left the stack pointer where the return finds it. A call that is left by `longjmp` leaves a record, which the next call at the
//! same depth or above replaces.
//!
//! No type of the kernel is needed, unless `--mntnsmap` asks for one. Columns are those of bcc's tool of this name, and AF and ADDR.

use std::borrow::Cow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Arch, Attach, Link, MapSpec, Maps, Prog, ProgSpec, Sample, Symbol, Target, Tasks};
use serde::Serialize;

use crate::columns::{Column, Columns};
use crate::error::Chain;
use crate::escape::{self, Escaped};
use crate::event::Bytes;
use crate::filter::TaskFilter;
use crate::libcs::{Libc, Libcs, Passed, Scope};
use crate::netdb::{self, Address, addrinfo, hostent};
use crate::options::Options;
use crate::output::Output;
use crate::read::Helpers;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{Attached, Tool};
use crate::{Error, event, report};

/// Trace look-ups of hosts by C libraries: who asks, for what, how long it takes, what comes out
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show every address that was found (of the first 16 that the function returned)
    #[arg(short, long)]
    pub all: bool,
    /// Show look-ups that failed only
    #[arg(short = 'x', long)]
    pub failed: bool,
    /// Show look-ups that took at least so many milliseconds only
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub min_ms: Option<Duration>,
    /// Probe this C library, or program that was linked statically
    #[arg(short = 'l', long, value_name = "PATH")]
    pub libc: Option<PathBuf>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit gethostlatency               every look-up, in containers too
  bpfkit gethostlatency -p 181 -a     those of a process, with all addresses
  bpfkit gethostlatency -x            those that failed, and why
  bpfkit gethostlatency --min-ms 100  those that took long
  bpfkit gethostlatency --ebpf        the programs, without running them";

/// A number of milliseconds, fractions included.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let wrong = || "not a number of milliseconds".to_owned();
    let millis: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(millis / 1e3).map_err(|_| wrong())
}

/// A function that looks up hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Getaddrinfo,
    Gethostbyname,
    Gethostbyname2,
    GethostbynameR,
    Gethostbyname2R,
    Gethostbyaddr,
    GethostbyaddrR,
}

/// Where a function leaves its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It returns its address.
    Returned,
    /// It writes its address where its argument of this number says.
    Argument(u32),
}

impl Function {
    const ALL: [Self; 7] = [
        Self::Getaddrinfo,
        Self::Gethostbyname,
        Self::Gethostbyname2,
        Self::GethostbynameR,
        Self::Gethostbyname2R,
        Self::Gethostbyaddr,
        Self::GethostbyaddrR,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Getaddrinfo => "getaddrinfo",
            Self::Gethostbyname => "gethostbyname",
            Self::Gethostbyname2 => "gethostbyname2",
            Self::GethostbynameR => "gethostbyname_r",
            Self::Gethostbyname2R => "gethostbyname2_r",
            Self::Gethostbyaddr => "gethostbyaddr",
            Self::GethostbyaddrR => "gethostbyaddr_r",
        }
    }

    const fn result(self) -> Place {
        match self {
            Self::Gethostbyname | Self::Gethostbyname2 | Self::Gethostbyaddr => Place::Returned,
            Self::Getaddrinfo => Place::Argument(4),
            Self::GethostbynameR => Place::Argument(5),
            Self::Gethostbyname2R => Place::Argument(6),
            Self::GethostbyaddrR => Place::Argument(7),
        }
    }

    /// Whether it is asked for an address, and answers with a name.
    const fn is_reverse(self) -> bool {
        matches!(self, Self::Gethostbyaddr | Self::GethostbyaddrR)
    }

    /// Its number in a record.
    fn number(self) -> u32 {
        Self::ALL.iter().zip(0..).find(|(function, _)| **function == self).map_or(0, |(_, number)| number)
    }
}

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
const REST: i32 = 72;
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

/// Where the entry keeps its record on the stack, and 8 bytes below it.
const LOOKUP: i32 = -RECORD;
const SCRATCH: i32 = LOOKUP - 8;
/// What the return has on the stack: the thread, a pointer, a structure.
const KEY: i32 = -8;
const POINTER: i32 = -16;
const STRUCT: i32 = -48;

/// Look-ups under way at one time: more are counted as not recorded.
const IN_FLIGHT: u32 = 4096;
/// How often libraries are looked for that were not there before, and threads that have ended in a look-up.
const RESCAN: Duration = Duration::from_secs(2);

impl Args {
    fn record_size(&self) -> i32 {
        if self.all { RECORD + ANSWERS * ANSWER_SIZE } else { RECORD }
    }

    fn maps(&self) -> Vec<MapSpec> {
        let size = self.record_size().unsigned_abs();
        let mut maps =
            vec![event::dropped(), MapSpec::perf_event_array("events"), MapSpec::hash("lookups", 8, size, IN_FLIGHT)];
        if self.all {
            maps.push(MapSpec::array("blank", size, 1));
        }
        maps
    }

    /// The programs of a function: of its return, and of its entry.
    ///
    /// # Errors
    /// A constant that fits no instruction.
    fn programs_of(&self, target: &Target, function: Function) -> Result<[ProgSpec; 2], Error> {
        let name = function.name();
        let path = PathBuf::from(format!("libc.so.6:{name}"));
        let (entry, at_return) =
            (Attach::Uprobe { path: path.clone(), offset: 0 }, Attach::Uretprobe { path, offset: 0 });
        Ok([
            ProgSpec::new(&format!("{name}_ret"), at_return, self.ret(target, function))?,
            ProgSpec::new(name, entry, self.entry(target, function))?,
        ])
    }

    /// At the entry: remembers who asks for what, and when, by thread. An inner call is none of its own.
    fn entry(&self, target: &Target, function: Function) -> Asm {
        let read = Helpers::of(target);
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            r7 = r10;
            r7 += LOOKUP;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r7 + PID_TGID) = r0;
            {self.filter.code(target, SCRATCH, out)};
            r8 = *(u64 *)(r6 + ctx.sp);
            {above_return_address(target)};
            r1 = map[lookups];
            r2 = r7;                                    // the record begins with its key
            call bpf_map_lookup_elem;
            if r0 == 0 goto outermost;
            r1 = *(u64 *)(r0 + SP);
            if r1 > r8 goto {out};                      // this call is deeper than the one under way
        outermost:
            *(u64 *)(r7 + SP) = r8;
            {result_place(target, &read, function)};
            *(u32 *)(r7 + FUNCTION) = {function.number()};
            *(u64 *)(r7 + REST) = 0;
            r1 = r7;
            r1 += COMM;
            r2 = {event::TASK_COMM_LEN};
            call bpf_get_current_comm;
            r3 = *(u64 *)(r6 + ctx.arg1);
            *(u64 *)(r7 + HOST_POINTER) = r3;
            {read_host(&read)};
            {asked_address(&read, function)};
            call bpf_ktime_get_ns;
            *(u64 *)(r7 + START) = r0;
            {self.store(&read, out)};
        });
        event::leave(code, out)
    }

    /// Puts the record at r7 into the map, or counts that there was no room.
    fn store(&self, read: &Helpers, out: Label) -> Asm {
        if !self.all {
            return bpf! {
                r1 = map[lookups];
                r2 = r7;
                r3 = r7;
                r4 = 0;                                 // BPF_ANY
                call bpf_map_update_elem;
                if r0 == 0 goto {out};
                {event::drop_one(SCRATCH, out)};
            };
        }
        // A record with all answers does not fit the stack, so it is made from a blank one.
        bpf! {
            *(u32 *)(r10 + SCRATCH) = 0;
            r1 = map[blank];
            r2 = r10;
            r2 += SCRATCH;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};
            r3 = r0;
            r1 = map[lookups];
            r2 = r7;
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
            r1 = map[lookups];
            r2 = r7;
            call bpf_map_lookup_elem;
            if r0 == 0 goto full;
            r1 = r0;
            r2 = RECORD;
            r3 = r7;
            call {read.kernel};
            goto {out};
        full:
            {event::drop_one(SCRATCH, out)};
        }
    }

    /// At the return: reads the answer into the record of the look-up, and sends it.
    ///
    /// The record is the thread's own, so no other program writes to it meanwhile; a buffer for each CPU would not do, since these
    /// programs can be preempted (Linux 6.0).
    fn ret(&self, target: &Target, function: Function) -> Asm {
        let read = Helpers::of(target);
        let mut code = Asm::new();
        let [out, done, send, known] = ["out", "done", "send", "known"].map(|name| code.named_label(name));
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + KEY) = r0;
            r1 = map[lookups];
            r2 = r10;
            r2 += KEY;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};
            r7 = r0;
            r1 = *(u64 *)(r7 + SP);
            r2 = *(u64 *)(r6 + ctx.sp);
            if r1 != r2 goto {out};                     // an inner call
            {self.long_enough(done)};
        });
        code.splice(match function {
            Function::Getaddrinfo => self.read_addrinfo(&read, done, send),
            _ => self.read_hostent(&read, function, done, send),
        });
        code.bind(send);
        if !function.is_reverse() {
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
            r1 = r6;
            r2 = map[events];
            w3 = -1;                                    // BPF_F_CURRENT_CPU
            r4 = r7;
            r5 = {self.record_size()};
            call bpf_perf_event_output;
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
    fn read_addrinfo(&self, read: &Helpers, done: Label, send: Label) -> Asm {
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
    fn read_hostent(&self, read: &Helpers, function: Function, done: Label, send: Label) -> Asm {
        let mut code = match function.result() {
            Place::Returned => bpf! {
                r9 = *(u64 *)(r6 + ctx.ret);
                *(u64 *)(r7 + ANSWER) = 0;              // and no status
            },
            Place::Argument(_) => bpf! {
                r3 = *(u64 *)(r7 + RESULT);
                {read_pointer(read)};
                r9 = *(u64 *)(r10 + POINTER);
                r1 = *(u64 *)(r6 + ctx.ret);
                *(u32 *)(r7 + ANSWER) = 0;
                *(u32 *)(r7 + STATUS) = r1;
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
        if function.is_reverse() {
            code.splice(bpf! {
                r3 = *(u64 *)(r10 + STRUCT + {hostent::NAME});
                {read_host(read)};
            });
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

/// Writes down where the result's address will be, at the entry of a function.
fn result_place(target: &Target, read: &Helpers, function: Function) -> Asm {
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
fn seventh_argument(target: &Target, read: &Helpers) -> Asm {
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
fn read_host(read: &Helpers) -> Asm {
    bpf! {
        r2 = HOST_SIZE;
        r1 = r7;
        r1 += HOST;
        call {read.user_str};
        *(u32 *)(r7 + LENGTH) = r0;
    }
}

/// Reads the address that was asked for, where it is one, in place of a name; and its length.
fn asked_address(read: &Helpers, function: Function) -> Asm {
    if !function.is_reverse() {
        return bpf! { *(u64 *)(r7 + ASKED_LENGTH) = 0; };
    }
    bpf! {
        r2 = *(u64 *)(r6 + ctx.arg2);
        *(u64 *)(r7 + ASKED_LENGTH) = r2;
        r2 &= ADDRESS_LENGTHS;
        r3 = *(u64 *)(r6 + ctx.arg1);
        r1 = r7;
        r1 += HOST;
        call {read.user};
    }
}

/// Reads the pointer at the user's address in r3.
fn read_pointer(read: &Helpers) -> Asm {
    bpf! {
        r2 = 8;
        r1 = r10;
        r1 += POINTER;
        call {read.user};
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// No name: getaddrinfo was asked for an address to bind to.
    Null,
    /// A name that could not be read.
    Unreadable,
    Name(Vec<u8>),
    Address(Address),
}

/// A look-up, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    pid: u32,
    tid: u32,
    comm: Vec<u8>,
    function: Function,
    /// When it began, of the samples' clock.
    start: u64,
    host: Host,
    /// The addresses, or why there are none.
    answer: Result<Vec<Address>, Cow<'static, str>>,
}

impl Event {
    /// Reads the bytes of a record, whose answers follow it with `-a`.
    fn parse(record: &[u8], all: bool) -> Option<Self> {
        let mut bytes = Bytes(record);
        let pid_tgid = bytes.u64()?;
        let start = bytes.u64()?;
        let comm = escape::comm(bytes.take(16)?).to_vec();
        let function = *Function::ALL.get(usize::try_from(bytes.u32()?).ok()?)?;
        let length = bytes.u32()?;
        let pointer = bytes.u64()?;
        let first = bytes.take(32)?;
        let host = bytes.take(256)?;
        let answers: Vec<&[u8]> = if all { bytes.0.chunks_exact(32).take(16).collect() } else { vec![first] };
        let (is_found, status) = (first.get(2)? != &0, i32::from_ne_bytes(*first.get(4..)?.first_chunk()?));
        let answer = if function == Function::Getaddrinfo {
            match (netdb::family(first)?, status) {
                (0, code) if code != 0 => Err(netdb::eai(code).into()),
                _ => Ok(answers.iter().map_while(|answer| Address::of_sockaddr(answer)).collect()),
            }
        } else if is_found {
            let address = |answer: &&[u8]| Address::new(netdb::family(answer)?, answer.get(8..)?, 0);
            Ok(answers.iter().map_while(address).collect())
        } else {
            // gethostbyname leaves the reason in h_errno, which is out of reach: a variable of the thread.
            Err(if status == 0 { "failed".into() } else { netdb::errno(status).into() })
        };
        let host = match (length, function.is_reverse()) {
            (_, true) if answer.is_err() => {
                let asked = u64::from_ne_bytes(*first.get(16..)?.first_chunk()?);
                let family = if asked == 16 { libc::AF_INET6 } else { libc::AF_INET };
                Address::new(family, host, 0).map_or(Host::Unreadable, Host::Address)
            }
            // Of an empty name, some kernels (6.12) say that it has no byte, others (6.18) that it has its NUL.
            (0..=256, _) => Host::Name(host.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()),
            _ if pointer == 0 => Host::Null,
            _ => Host::Unreadable,
        };
        let mut event = Self {
            pid: u32::try_from(pid_tgid >> 32).ok()?,
            tid: u32::try_from(pid_tgid & 0xffff_ffff).ok()?,
            comm,
            function,
            start,
            host,
            answer,
        };
        if let Ok(addresses) = &mut event.answer {
            // getaddrinfo lists an address for each type of socket.
            let mut seen = Vec::new();
            addresses.retain(|address| {
                !seen.contains(address) && {
                    seen.push(*address);
                    true
                }
            });
        }
        Some(event)
    }
}

/// The programs that are loaded, and the libraries that they are attached to.
struct Probes<'a> {
    args: &'a Args,
    target: Target,
    tasks: Tasks,
    loaded: Vec<(Function, [Prog; 2])>,
}

impl<'a> Probes<'a> {
    fn new(args: &'a Args, target: Target) -> Self {
        let tasks = args.filter.pid.map_or(Tasks::All, Tasks::Process);
        Self { args, target, tasks, loaded: Vec::new() }
    }

    /// Attaches to the functions of a library; those that it lacks are no error. Programs are loaded when a library first has their
    /// function.
    ///
    /// # Errors
    /// Where none could be attached, why the first could not; want of privilege at once.
    fn attach(&mut self, libc: &Libc, maps: &Maps, links: &mut Vec<Link>) -> Result<(), Error> {
        let before = links.len();
        let mut problems = Vec::new();
        for symbol in &libc.functions {
            match self.attach_one(libc, symbol, maps) {
                Ok(pair) => links.extend(pair),
                Err(error @ Error::About(..)) => problems.push(error),
                // A program that is refused, or want of privilege: nothing else would work either.
                Err(error) => return Err(error),
            }
        }
        let new = &links[before..];
        let mut problems = problems.into_iter();
        if new.is_empty() {
            let none = || Error::Request(format!("{} has no function to probe", libc.elf.name()));
            return Err(problems.next().unwrap_or_else(none));
        }
        problems.for_each(|error| report::say(Chain(&error)));
        if self.args.options.verbose {
            let names: Vec<&str> = libc.functions.iter().map(|symbol| symbol.name.as_str()).collect();
            let how = new.first().map_or("", Link::how);
            report::say(format_args!("{}: {} by {how}", libc.elf.name(), names.join(", ")));
            for (how, why) in new.iter().flat_map(|link| link.tried().first()).take(1) {
                report::say(format_args!("not by {how}: {why}"));
            }
        }
        Ok(())
    }

    fn attach_one(&mut self, libc: &Libc, symbol: &Symbol, maps: &Maps) -> Result<[Link; 2], Error> {
        let what = || format!("cannot probe {} of {}", symbol.name, libc.elf.name());
        if symbol.is_indirect {
            let why = "the library chooses the function to call when it is first called";
            return Err(Error::About(what(), Box::new(Error::Request(why.to_owned()))));
        }
        let function = Function::ALL.into_iter().find(|function| function.name() == symbol.name);
        let function = function.ok_or_else(|| Error::Request(what()))?;
        let (path, offset) = (libc.elf.place(), symbol.offset);
        let (entry, at_return) = (Attach::Uprobe { path: path.clone(), offset }, Attach::Uretprobe { path, offset });
        let [ret_prog, entry_prog] = self.load(function, maps)?;
        let attach = |prog: &Prog, place: &Attach| prog.attach_to(place, self.tasks, &self.target);
        // The return first, so that nothing is remembered that nobody collects.
        let ret = attach(&ret_prog, &at_return);
        let pair = ret.and_then(|ret| Ok([ret, attach(&entry_prog, &entry)?]));
        pair.map_err(|error| match error {
            error if error.is_permission() => error.into(),
            error => Error::About(what(), Box::new(error.into())),
        })
    }

    fn load(&mut self, function: Function, maps: &Maps) -> Result<[Prog; 2], Error> {
        if let Some((_, progs)) = self.loaded.iter().find(|(known, _)| *known == function) {
            return Ok(progs.clone());
        }
        let [ret, entry] = self.args.programs_of(&self.target, function)?;
        let progs = [ret.load(&self.target, maps)?, entry.load(&self.target, maps)?];
        self.loaded.push((function, progs.clone()));
        Ok(progs)
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        let programs = Function::ALL.into_iter().map(|function| self.programs_of(target, function));
        Ok(programs.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        self.filter.check()?;
        // Each library takes up to 14.
        bpfkit_loader::raise_descriptor_limit();
        let started = Instant::now();
        let mut session = Session::new()?;
        let mut libcs = Libcs::new(self.scope(), &Function::ALL.map(Function::name));
        let (found, passed) = libcs.first()?;
        let mut attached = Attached::prepare(&self.maps(), self.filter.maps(&target)?, &target)?;
        let mut probes = Probes::new(self, target);
        let mut problems = Vec::new();
        self.tell_passed(passed);
        for libc in &found {
            match probes.attach(libc, &attached.maps, &mut attached.links) {
                Err(error @ Error::About(..)) => problems.push(error),
                result => result?,
            }
        }
        drop(found);
        if attached.links.is_empty() {
            return Err(problems.pop().unwrap_or_else(|| Error::NoLibc(Passed::new())));
        }
        problems.iter().for_each(|error| report::say(Chain(error)));
        if self.options.verbose {
            report::say(format_args!("attached by uprobe after {:.1} ms", started.elapsed().as_secs_f64() * 1e3));
        }
        let mut printer = Printer::new(self);
        printer.header(output)?;
        output.flush()?;
        let Attached { links, rings, maps } = &mut attached;
        let rings = rings.as_mut().ok_or_else(|| Error::Request("there are no rings".to_owned()))?;
        let mut next = started + RESCAN;
        let between = || {
            if Instant::now() < next {
                return Ok(());
            }
            next = Instant::now() + RESCAN;
            self.forget_the_dead(maps)?;
            self.attach_to_new(&mut libcs, &mut probes, maps, links)
        };
        let accounts = session.run_between(
            rings,
            self.options.duration,
            output,
            |sample, output| printer.print(sample, output),
            between,
        )?;
        let missed = attached.detach();
        report::count(accounts.lost, "events lost: the ring was full");
        report::count(event::count_dropped(&attached.maps)?, "look-ups not recorded: too many at one time");
        report::count(missed, "look-ups missed: too many at one time for the kernel's probes");
        Ok(())
    }
}

impl Args {
    /// Whose C libraries are probed.
    fn scope(&self) -> Scope {
        match (&self.libc, self.filter.pid) {
            (Some(path), _) => Scope::File(path.clone()),
            (None, Some(pid)) => Scope::Process(pid),
            (None, None) => Scope::All,
        }
    }

    /// Libraries of other machines or for 32-bit processes are nothing to worry about, so it takes `-v` to hear of them.
    fn tell_passed(&self, passed: Passed) {
        if self.options.verbose {
            passed.iter().for_each(|(name, why)| report::say(format_args!("passed over {name}: {why}")));
        }
    }

    /// Probes the libraries that were not there at the last look. What cannot be probed is told, and the rest goes on.
    fn attach_to_new(
        &self,
        libcs: &mut Libcs,
        probes: &mut Probes<'_>,
        maps: &Maps,
        links: &mut Vec<Link>,
    ) -> Result<(), Error> {
        let (found, passed) = libcs.more()?;
        self.tell_passed(passed);
        for libc in &found {
            if let Err(error) = probes.attach(libc, maps, links) {
                report::say(Chain(&error));
            }
        }
        Ok(())
    }

    /// Frees the records of threads that have ended in a look-up, which would fill the map in the end. Only who sees all
    /// processes by the numbers that the kernel has for them can tell.
    fn forget_the_dead(&self, maps: &Maps) -> Result<(), Error> {
        let Some(lookups) = maps.get("lookups") else { return Ok(()) };
        if !is_first_pid_namespace() {
            return Ok(());
        }
        let mut dead = Vec::new();
        for key in lookups.keys() {
            let key = key?;
            let Some(pid_tgid) = Bytes(&key).u64() else { continue };
            let (pid, tid) = (pid_tgid >> 32, pid_tgid & 0xffff_ffff);
            if !Path::new(&format!("/proc/{pid}/task/{tid}")).exists() {
                dead.push(key);
            }
        }
        for key in &dead {
            lookups.delete(key)?;
        }
        if self.options.verbose && !dead.is_empty() {
            report::say(format_args!("{} threads ended in a look-up", dead.len()));
        }
        Ok(())
    }
}

/// Whether this process is in the namespace of process numbers that the machine began with: PROC_PID_INIT_INO of
/// include/linux/proc_ns.h.
fn is_first_pid_namespace() -> bool {
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == 0xefff_fffc)
}

/// A row as JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// When it ended, in nanoseconds since 1970.
    time_ns: u64,
    pid: u32,
    tid: u32,
    comm: String,
    call: &'static str,
    /// Null where none was asked for, or where it could not be read.
    host: Option<String>,
    latency_ns: u64,
    /// Null where it did not fail.
    error: Option<&'a str>,
    /// All with `-a`, else the first; none where it failed.
    addresses: Vec<String>,
}

/// Prints events as rows.
struct Printer<'a> {
    args: &'a Args,
    columns: Columns,
    stamps: Stamps,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args) -> Self {
        let columns = [("TIME", 9), ("PID", 7), ("COMM", 16), ("     LATms", 10), ("AF", 2), ("ADDR", 15), ("HOST", 4)];
        let columns = columns.map(|(title, width)| Column { title, width });
        Self { args, columns: Columns::new(columns.to_vec()), stamps: Stamps::new() }
    }

    fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.args.options.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
        let Some(event) = Event::parse(sample.data, self.args.all) else {
            return Err(Error::Record(sample.data.len()));
        };
        let latency_ns = sample.time.saturating_sub(event.start);
        let comm = Escaped(&event.comm).to_string();
        let host = match &event.host {
            Host::Name(name) => Some(Escaped(name).to_string()),
            Host::Address(address) => Some(address.to_string()),
            Host::Null | Host::Unreadable => None,
        };
        let Event { pid, tid, function, answer, .. } = event;
        let addresses: Vec<String> = answer.iter().flatten().map(Address::to_string).collect();
        if self.args.options.json {
            let time_ns = self.stamps.since_1970(sample.time);
            let error = answer.as_ref().err().map(AsRef::as_ref);
            return output.json(&Row {
                time_ns,
                pid,
                tid,
                comm,
                call: function.name(),
                host,
                latency_ns,
                error,
                addresses,
            });
        }
        let (families, shown) = match &answer {
            Err(error) => ("-".to_owned(), error.to_string()),
            // An address that could not be read, or of a family without one.
            Ok(found) if found.is_empty() => ("?".to_owned(), "?".to_owned()),
            Ok(found) => (families(found), addresses.join(",")),
        };
        let host = host.unwrap_or_else(|| if event.host == Host::Null { "-".to_owned() } else { "?".to_owned() });
        let latency = Duration::from_nanos(latency_ns).as_secs_f64() * 1e3;
        let cells = [
            self.stamps.time_of_day(sample.time),
            pid.to_string(),
            comm,
            format!("{latency:>10.2}"),
            families,
            shown,
            host,
        ];
        output.line(self.columns.row(&cells))
    }
}

/// `4`, `6`, or both in the order in which they were found.
fn families(addresses: &[Address]) -> String {
    let mut versions: Vec<u8> = addresses.iter().map(Address::version).collect();
    let mut seen = Vec::new();
    versions.retain(|version| {
        !seen.contains(version) && {
            seen.push(*version);
            true
        }
    });
    versions.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as a program would have written it.
    fn record(function: Function, length: i32, pointer: u64, answer: &[u8], host: &[u8], answers: &[&[u8]]) -> Vec<u8> {
        let mut bytes = ((77_u64 << 32) | 78).to_ne_bytes().to_vec();
        bytes.extend(5_u64.to_ne_bytes());
        bytes.extend(b"resolver\0\0\0\0\0\0\0\0");
        bytes.extend(function.number().to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend(pointer.to_ne_bytes());
        for (part, size) in [(answer, 32), (host, 256)] {
            bytes.extend(part);
            bytes.resize(bytes.len() + size - part.len(), 0);
        }
        for answer in answers {
            bytes.extend(*answer);
            bytes.resize(bytes.len() + 32 - answer.len(), 0);
        }
        bytes
    }

    fn sockaddr(last: u8) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&[10, 0, 0, last]);
        bytes
    }

    fn shown(event: &Event) -> String {
        let answer = match &event.answer {
            Ok(addresses) => addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error {error}"),
        };
        format!("{:?} {answer}", event.host)
    }

    #[test]
    fn answers_of_getaddrinfo_are_told_apart() {
        let name = Host::Name(b"one".to_vec());
        let parse = |bytes: &[u8], all| shown(&Event::parse(bytes, all).unwrap());
        let one = record(Function::Getaddrinfo, 4, 1, &sockaddr(1), b"one\0rest of another", &[]);
        assert_eq!(parse(&one, false), format!("{name:?} 10.0.0.1"));
        let failed = [0_u32.to_ne_bytes(), (-2_i32).to_ne_bytes()].concat();
        let failed = record(Function::Getaddrinfo, 4, 1, &failed, b"one\0", &[]);
        assert_eq!(parse(&failed, false), format!("{name:?} error EAI_NONAME"));
        // A list names an address once for each type of socket.
        let list = [&sockaddr(1)[..], &sockaddr(1), &sockaddr(2), &[0; 16], &sockaddr(3)];
        let all = record(Function::Getaddrinfo, 4, 1, &[], b"one\0", &list);
        assert_eq!(parse(&all, true), format!("{name:?} 10.0.0.1 10.0.0.2"));
        let event = Event::parse(&one, false).unwrap();
        assert_eq!((event.pid, event.tid, event.comm.as_slice(), event.start), (77, 78, &b"resolver"[..], 5));
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_one_that_cannot_be_read() {
        let host = |length, pointer| {
            Event::parse(&record(Function::Getaddrinfo, length, pointer, &sockaddr(1), b"", &[]), false).unwrap().host
        };
        assert_eq!(host(-14, 0), Host::Null);
        assert_eq!(host(-14, 8), Host::Unreadable);
        assert_eq!((host(0, 8), host(1, 8)), (Host::Name(Vec::new()), Host::Name(Vec::new())));
    }

    #[test]
    fn a_reverse_look_up_shows_the_name_that_was_found_or_the_address_that_was_asked_for() {
        let mut found = [0_u8; 32];
        found[..2].copy_from_slice(&2_u16.to_ne_bytes());
        found[2..4].copy_from_slice(&1_u16.to_ne_bytes());
        found[8..12].copy_from_slice(&[127, 0, 0, 1]);
        let found = record(Function::Gethostbyaddr, 10, 1, &found, b"localhost\0", &[]);
        assert_eq!(
            shown(&Event::parse(&found, false).unwrap()),
            format!("{:?} 127.0.0.1", Host::Name(b"localhost".to_vec()))
        );
        for (length, expected) in [(4_u64, "1.2.3.4"), (16, "102:304::")] {
            let asked = [[0; 16].as_slice(), &length.to_ne_bytes()].concat();
            let failed = record(Function::GethostbyaddrR, 5, 1, &asked, &[1, 2, 3, 4], &[]);
            let event = Event::parse(&failed, false).unwrap();
            let Host::Address(address) = event.host else { panic!("{event:?}") };
            assert_eq!((address.to_string().as_str(), event.answer), (expected, Err("failed".into())));
        }
    }

    #[test]
    fn a_record_that_is_cut_is_none() {
        let bytes = record(Function::Getaddrinfo, 4, 1, &sockaddr(1), b"one\0", &[&sockaddr(1)[..]; 16]);
        for end in 0..bytes.len() {
            let _ = Event::parse(&bytes[..end], true);
            assert_eq!(Event::parse(&bytes[..end], false).is_some(), end >= 336, "{end}");
        }
    }
}
