//! What reads bytes from outside, each as a plain function of bytes that panics where something is wrong: for the fuzz targets in
//! `fuzz/`, which call it with what they think of, and for `tests/hostile.rs`, which calls it with real bytes that were damaged.

mod assembler;
mod btf;
pub mod dense;
mod elf;
mod kernel;
mod proc;
pub mod seeds;

use crate::meter;

/// A way in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What the fuzz target is called, and the folder of its seeds.
    pub name: &'static str,
    run: fn(&[u8]),
    /// How many bytes of memory may be in use for each byte that comes in.
    times: u64,
    /// How many may be in use however little comes in: buffers, tables, what is bounded in itself.
    besides: u64,
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, times: 10, besides: 256 << 10 }
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    // What is printed is bounded by itself: a type's members by what is in it, flattened.
    Target { besides: 24 << 20, ..target("btf", btf::btf) },
    target("elf", elf::elf),
    target("usdt", elf::usdt),
    // An entry without a name takes a byte, and may be a type; of such a unit has a few more than it has bytes for.
    Target { times: 96, ..target("dwarf", btf::dwarf) },
    target("perf", kernel::perf),
    target("tracefs", kernel::tracefs),
    target("kallsyms", kernel::kallsyms),
    // Each instruction of a log of the second level is kept with all that is known there, and printed with it in words.
    Target { times: 64, besides: 1 << 20, ..target("verifier", kernel::verifier) },
    target("info", kernel::info),
    // Each label of `A:B:` is kept with its name, and each `exit;` with its place and its words, which become a text again.
    Target { times: 96, besides: 1 << 20, ..target("assembler", assembler::assembler) },
    // A slot of 8 bytes becomes a line of 80, of which the text is kept as above.
    Target { times: 192, besides: 1 << 20, ..target("disassembler", assembler::disassembler) },
    // A list may name 65,536 CPUs in eight bytes.
    Target { besides: 2 << 20, ..target("proc", proc::proc) },
    // What is read is spelt again as a list of digits.
    Target { times: 32, ..target("hex", assembler::hex) },
];

/// The one of this name.
///
/// # Panics
/// Where there is none.
pub fn named(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

impl Target {
    /// Hands bytes in.
    ///
    /// # Panics
    /// Where what comes out breaks a rule, or where it took more memory than it may.
    pub fn check(&self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let may = self.besides.saturating_add(length.saturating_mul(self.times));
        let ((), most) = meter::most(|| (self.run)(bytes));
        assert!(most <= may, "{}: {length} bytes take {most} bytes of memory, and may take {may}", self.name);
    }
}

/// Bytes as a text; nothing where they are none.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Whether a terminal takes a text for what it is.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
}
