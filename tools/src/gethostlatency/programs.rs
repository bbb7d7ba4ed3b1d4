//! The programs, and the record that they keep of a look-up.

mod answer;
mod entry;

use std::path::PathBuf;

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Feature, MapSpec, ProgSpec, ReadHelpers, Target};

use super::Args;
use super::function::Function;
use crate::{Error, event};

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
