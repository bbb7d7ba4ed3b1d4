//! Loads eBPF programs, attaches them and reads what they send: by raw system calls alone.
//!
//! What a program needs of a kernel is described by values ([`MapSpec`], [`ProgSpec`]); a [`Target`] is everything that code may
//! depend on. [`ProgSpec::link`] joins the two without touching a kernel; only `create`, `load`, `attach` and `open` do.
//!
//! A program that counts the system calls of a second. It takes root, or CAP_BPF and CAP_PERFMON (Linux 5.8, capabilities(7)):
//!
//! ```no_run
//! use bpfkit_asm::bpf;
//! use bpfkit_loader::{Attach, MapSpec, Maps, ProgSpec, Target};
//!
//! let target = Target::running()?;
//! let mut maps = Maps::new();
//! maps.create(&MapSpec::array("count", 8, 1), &target)?;      // one value of 8 bytes
//! let code = bpf! {
//!     *(u32 *)(r10 - 4) = 0;              // the key
//!     r1 = map[count];
//!     r2 = r10;
//!     r2 += -4;
//!     call bpf_map_lookup_elem;
//!     if r0 == 0 goto out;
//!     r1 = 1;
//!     lock *(u64 *)(r0 + 0) += r1;
//! out:
//!     r0 = 0;
//!     exit;
//! };
//! let attach = Attach::RawTracepoint { name: "sys_enter".into() };
//! let link = ProgSpec::new("count", attach, code)?.load(&target, &maps)?.attach(&target)?;
//! std::thread::sleep(std::time::Duration::from_secs(1));
//! let mut count = [0; 8];
//! maps.get("count").expect("it was made above").lookup(&[0; 4], &mut count)?;
//! println!("{}", u64::from_ne_bytes(count));
//! drop(link);                             // detached; nothing stays in the kernel
//! # Ok::<(), bpfkit_loader::Error>(())
//! ```
//!
//! What needs no kernel is a value. The same for another kernel, its holes filled and its rules checked:
//!
//! ```
//! use bpfkit_asm::{Version, bpf, list};
//! use bpfkit_loader::{Attach, ProgSpec, Target};
//!
//! let code = bpf! {
//!     r0 = *(u64 *)(r1 + ctx.arg1);       // the first argument of the function, from struct pt_regs
//!     exit;
//! };
//! let attach = Attach::Kprobe { symbol: "tcp_close".into(), offset: 0 };
//! let target = Target::offline(None, Version::new(4, 18));
//! let linked = ProgSpec::new("first", attach, code)?.link(&target)?;
//! linked.check(&target)?;
//! let listing: Vec<String> = list(linked.insns(), &linked).map(|insn| insn.to_string()).collect();
//! assert_eq!(listing, ["(79) r0 = *(u64 *)(r1 +112)", "(95) exit"]);
//! # Ok::<(), bpfkit_loader::Error>(())
//! ```
//!
//! An [`Error`] says what was done, to what, what the kernel said, and where it is known what to do about it; its causes are behind
//! [`std::error::Error::source`]. A program that the verifier refuses is an error with the verifier's last words and the line of the
//! source, a [`Rejection`].
//!
//! The calls are those of bpf(2), perf_event_open(2) and ioctl(2); their structures are in include/uapi/linux/bpf.h and perf_event.h of
//! the kernel's tree, and Documentation/bpf there describes programs and maps. What a kernel lacks is found by trying, and the version
//! in a message is that of mainline.
#![deny(unsafe_code)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod answer;
mod attach;
mod calibrate;
mod check;
pub mod clock;
pub mod confine;
mod cpus;
mod ctx;
mod elf;
mod error;
#[cfg(test)]
mod faults;
mod feature;
mod filled;
mod flow;
mod func;
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod inventory;
mod kallsyms;
mod kernel;
mod kind;
mod link;
mod linked;
mod loaded;
mod lsm;
mod map;
mod mapped;
mod object;
mod origin;
mod pid_namespace;
mod pin;
mod privilege;
mod probe;
mod prog;
mod read;
mod ring;
mod stack;
mod sys;
mod syscall;
mod target;
mod trace_pipe;
mod tracefs;
mod types;
pub mod usdt;
pub mod verifier;

pub use answer::Answer;
pub use attach::{Attach, HeadStart, lacks_function};
pub use check::{Violation, needs};
pub use cpus::{online as online_cpus, possible as possible_cpus};
pub use ctx::Arch;
pub use elf::{Elf, FileId, Symbol};
pub use error::{Error, Tried};
pub use feature::{Feature, Group, Known};
pub use filled::Filled;
pub use func::{CType, Func, Linkage, ProgFunc, Prototype};
pub use inventory::Inventory;
pub use kallsyms::{Symbols, function_names};
pub use kernel::release;
pub use kind::{MapType, ProgType};
pub use link::Link;
pub use linked::Linked;
pub use loaded::{
    Hidden, JitedFunc, LoadedCode, LoadedFunc, LoadedLine, LoadedMap, LoadedProg, ProgInfo, RunStats, Runs, Shown,
};
pub use map::{Map, MapInfo, MapSpec, MapTypes, Maps, UpdateMode, undisturbed};
pub use mapped::{MappedFile, processes};
pub use object::{Identifiers, object};
pub use origin::{Found, Origin};
pub use pid_namespace::PidNamespace;
pub use prog::{Prog, ProgSpec, Tasks, TestInput, TestRun, raise_descriptor_limit};
pub use read::ReadHelpers;
pub use ring::{Event, PerfBuffer, PerfOptions, Sample, UNSENT_FULL, UNSENT_NO_RING};
pub use syscall::SyscallSymbol;
pub use target::{Target, TargetBuilder};
pub use trace_pipe::{Printed, TracePipe};
pub use tracefs::{Format, FormatField};
pub use types::{BtfSource, load_btf};
pub use usdt::Usdt;
pub use verifier::Rejection;
