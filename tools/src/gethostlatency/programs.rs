//! The programs.

mod answer;
mod entry;

use std::path::PathBuf;

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Feature, MapSpec, ProgSpec, ReadHelpers, Target};

use super::Args;
use super::function::Function;
use super::record::{ANSWER_SIZE, ANSWERS, HOST, HOST_SIZE, LENGTH, RECORD};
use crate::{Error, event};

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
