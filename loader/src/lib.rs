//! Loads eBPF programs, attaches them and reads what they send: by raw system calls alone.
//!
//! What a program needs of a kernel is described by values ([`MapSpec`], [`ProgSpec`]); a [`Target`] is everything that code may
//! depend on. [`ProgSpec::link`] joins the two without touching a kernel; only `create`, `load`, `attach` and `open` do.
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
pub use prog::{Attach, Prog, ProgSpec, Tasks, TestInput, TestRun, raise_descriptor_limit};
pub use read::ReadHelpers;
pub use ring::{Event, PerfBuffer, PerfOptions, Sample, UNSENT_FULL, UNSENT_NO_RING};
pub use syscall::SyscallSymbol;
pub use target::{Target, TargetBuilder};
pub use trace_pipe::{Printed, TracePipe};
pub use tracefs::{Format, FormatField};
pub use types::{BtfSource, load_btf};
pub use usdt::Usdt;
pub use verifier::Rejection;
