//! Fragments that programs of all tools are made of: who runs, sending an event, counting what found no room, the end.

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{MapSpec, Maps, UNSENT_FULL, UNSENT_NO_RING};

use crate::{Error, escape};

/// Bytes of a comm, with its NUL.
pub const TASK_COMM_LEN: u32 = 16;

/// Writes the comm of the current thread to the stack at r10 + `to`; r6 to r9 survive.
pub fn comm(to: i32) -> Asm {
    bpf! {
        r1 = r10;
        r1 += {to};
        r2 = TASK_COMM_LEN;
        call bpf_get_current_comm;
    }
}

/// Sends `size` bytes of stack at r10 + `from` to the map `events`, with the context in r6. The first 4 bytes at `from` are not
/// kept.
pub fn send(from: i32, size: u32) -> Asm {
    bpf! {
        r1 = r6;
        r2 = map[events];
        w3 = -1;                                        // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += {from};
        r5 = {size};
        call bpf_perf_event_output;
        {count_unsent(from)};
    }
}

/// Counts in [`unsent`] what `bpf_perf_event_output` could not send, with its result in r0: because the ring was full, or because
/// there is none, as on a CPU that has just come online. The kernel itself puts the former into the ring, but only once there is
/// room again and another event comes. It takes 4 bytes of stack at r10 + `scratch`.
pub fn count_unsent(scratch: i32) -> Asm {
    let mut code = Asm::new();
    let sent = code.named_label("sent");
    code.splice(bpf! {
        if r0 s>= 0 goto {sent};
        *(u32 *)(r10 + {scratch}) = UNSENT_FULL;
        if r0 == ENOSPC goto full;
        *(u32 *)(r10 + {scratch}) = UNSENT_NO_RING;
    full:
        {count_one("unsent", scratch, sent)};
    });
    code.bind(sent);
    code
}

/// What `bpf_perf_event_output` returns when a ring is full.
const ENOSPC: i32 = -28;

/// Counters of what could not be sent, for each CPU, for [`bpfkit_loader::PerfBuffer::watch`].
pub fn unsent() -> MapSpec {
    MapSpec::percpu_array("unsent", 8, 2)
}

/// Counters of what found no room in a map, one for each CPU.
pub fn dropped() -> MapSpec {
    MapSpec::percpu_array("dropped", 8, 1)
}

/// Counts one in [`dropped`] and goes on, or leaves for `out` without a counter. It takes 4 bytes of stack at r10 + `scratch`.
pub fn drop_one(scratch: i32, out: Label) -> Asm {
    bpf! {
        *(u32 *)(r10 + {scratch}) = 0;
        {count_one("dropped", scratch, out)};
    }
}

/// Adds one to this CPU's counter in a map of counters, that of the number at r10 + `scratch`, or leaves for `out` without one.
fn count_one(counters: &'static str, scratch: i32, out: Label) -> Asm {
    bpf! {
        r1 = map[{counters}];
        r2 = r10;
        r2 += {scratch};
        call bpf_map_lookup_elem;
        if r0 == 0 goto {out};
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    }
}

/// How many were counted by [`drop_one`], over all CPUs.
///
/// # Errors
/// What the kernel says.
pub fn count_dropped(maps: &Maps) -> Result<u64, Error> {
    let per_cpu = match maps.get("dropped") {
        Some(map) => map.lookup_percpu(&0_u32.to_ne_bytes())?.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(per_cpu.iter().filter_map(|value| value.first_chunk()).map(|value| u64::from_ne_bytes(*value)).sum())
}

/// The end of every program.
pub fn leave(mut code: Asm, out: Label) -> Asm {
    code.bind(out);
    code.splice(bpf! {
        r0 = 0;
        exit;
    });
    code
}

/// Takes a record apart, from its start on.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// The next bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next 8 bytes as the upper and the lower half of a number: process and thread of `bpf_get_current_pid_tgid`, group and
    /// user of `bpf_get_current_uid_gid`.
    pub fn halves(&mut self) -> Option<(u32, u32)> {
        let both = self.u64()?;
        Some((u32::try_from(both >> 32).ok()?, u32::try_from(both & 0xffff_ffff).ok()?))
    }

    /// A comm, in the next 16 bytes: up to its NUL.
    pub fn comm(&mut self) -> Option<Vec<u8>> {
        self.take(16).map(|bytes| escape::comm(bytes).to_vec())
    }

    /// The next 2 bytes as a number of this machine.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// The next 4 bytes as a number of this machine.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    /// The next 8 bytes as a number of this machine.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}
