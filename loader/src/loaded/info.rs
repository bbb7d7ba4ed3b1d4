//! What the kernel says of a program beside its code.

use bpfkit_asm::Version;

use super::hidden::{Hidden, Shown};
use crate::kind::ProgType;
use crate::sys::info::ProgAnswer;

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgInfo {
    /// Its number, until it goes.
    pub id: u32,
    /// What kind of program it is.
    pub kind: ProgType,
    /// As much of its name as the kernel keeps: 15 bytes. Empty where it was loaded without.
    pub name: String,
    /// A digest of its instructions, by which `bpftool` and the audit log know it.
    pub tag: [u8; 8],
    /// Bytes of machine code; 0 where it is interpreted, or the kernel does not tell.
    pub jited_len: u32,
    /// Bytes of instructions, as the verifier rewrote them.
    pub xlated_len: u32,
    /// When it was loaded, in nanoseconds of CLOCK_BOOTTIME.
    pub load_time: u64,
    /// The user who loaded it.
    pub uid: u32,
    /// Whether its licence is one with which it may call helpers that are for GPL programs.
    pub is_gpl: bool,
    /// The numbers of the maps that it uses.
    pub map_ids: Vec<u32>,
    /// The number of the types that it was loaded with, if it was.
    pub btf_id: Option<u32>,
    /// A digest of each function's instructions; none where there is one function only.
    pub func_tags: Vec<[u8; 8]>,
    /// How often it ran, and for how long (Linux 5.1): since somebody has the kernel count, see [`super::RunStats`].
    pub runs: Shown<Runs>,
    /// How often it was not run, as it was running already on that CPU (Linux 5.12).
    pub recursion_misses: Shown<u64>,
    /// How many instructions the verifier walked (Linux 5.16).
    pub verified_insns: Shown<u32>,
    /// The types of the kernel, a module or a program, by their number, and the type there that it is attached to (Linux 6.0).
    pub attach_btf: Shown<Option<(u32, u32)>>,
}

/// Runs that the kernel has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// How long they took together, in nanoseconds.
    pub time_ns: u64,
}

impl Runs {
    /// What was counted since an earlier time.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { count: self.count.saturating_sub(before.count), time_ns: self.time_ns.saturating_sub(before.time_ns) }
    }

    /// Nanoseconds of a run; none where there was no run.
    pub fn average_ns(self) -> Option<u64> {
        self.time_ns.checked_div(self.count)
    }
}

/// How many bytes the kernel must know of to tell what begins at `start`, and the version that brought it.
struct Since(usize, Version);

impl Since {
    const RUNS: Self = Self(192 + 16, Version::new(5, 1));
    const MISSES: Self = Self(208 + 8, Version::new(5, 12));
    const VERIFIED: Self = Self(216 + 4, Version::new(5, 16));
    const ATTACH: Self = Self(220 + 8, Version::new(6, 0));

    fn told<T>(self, known: usize, value: T) -> Shown<T> {
        if known >= self.0 { Ok(value) } else { Err(Hidden::since(self.1)) }
    }
}

impl ProgInfo {
    pub(super) fn new(answer: &ProgAnswer) -> Self {
        let &ProgAnswer { ref info, ref lists, known } = answer;
        Self {
            id: info.id,
            kind: ProgType(info.kind),
            name: object_name(&info.name),
            tag: info.tag,
            jited_len: info.jited_len,
            xlated_len: info.xlated_len,
            load_time: info.load_time,
            uid: info.created_by_uid,
            is_gpl: info.gpl_compatible & 1 != 0,
            map_ids: words(&lists.map_ids).collect(),
            btf_id: (info.btf_id != 0).then_some(info.btf_id),
            func_tags: lists.prog_tags.as_chunks().0.to_vec(),
            runs: Since::RUNS.told(known, Runs { count: info.run_cnt, time_ns: info.run_time_ns }),
            recursion_misses: Since::MISSES.told(known, info.recursion_misses),
            verified_insns: Since::VERIFIED.told(known, info.verified_insns),
            attach_btf: Since::ATTACH
                .told(known, (info.attach_btf_id != 0).then_some((info.attach_btf_obj_id, info.attach_btf_id))),
        }
    }

    /// Whether the kernel may have cut the name: it keeps 15 bytes.
    pub fn is_name_cut(&self) -> bool {
        self.name.len() == 15
    }
}

/// A name that the kernel keeps in 16 bytes, of which the last is NUL.
pub(super) fn object_name(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Numbers of 4 bytes.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word))
}

/// Numbers of 8 bytes.
pub(super) fn longs(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|long| u64::from_ne_bytes(*long))
}
