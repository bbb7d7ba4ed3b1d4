//! Probes of this program's own, for cases to trace: what `<sys/sdt.h>` makes of its macros, so that no C compiler is needed.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU16, Ordering};

/// The section whose address tells how far a file was moved by prelinking. All notes name it.
#[used]
#[unsafe(link_section = ".stapsdt.base")]
static BASE: u8 = 0;

/// Above 0 while somebody traces `guarded`.
#[used]
#[unsafe(link_section = ".probes")]
static WATCHED: AtomicU16 = AtomicU16::new(0);

/// How many trace `guarded` in this process.
pub fn watched() -> u16 {
    WATCHED.load(Ordering::Relaxed)
}

/// A `nop` with a note that says where it is, its semaphore, and where its arguments are, which name the operands that follow.
#[cfg(target_arch = "x86_64")]
macro_rules! mark {
    ($name:literal, $semaphore:literal, $arguments:literal, $($operands:tt)*) => {
        // SAFETY: the instruction does nothing, and the rest goes into a section that is not loaded. No operand is written,
        // and no memory.
        unsafe {
            std::arch::asm!(
                "990: nop",
                ".pushsection .note.stapsdt, \"\", @note",
                ".balign 4",
                ".4byte 992f - 991f, 994f - 993f, 3",
                "991: .asciz \"stapsdt\"",
                "992: .balign 4",
                "993: .8byte 990b, {base}",
                concat!(".8byte ", $semaphore),
                ".asciz \"bpfkit\"",
                concat!(".asciz \"", $name, "\""),
                concat!(".asciz \"", $arguments, "\""),
                "994: .balign 4",
                ".popsection",
                base = sym BASE,
                $($operands)*
                options(att_syntax, nostack, readonly, preserves_flags),
            )
        }
    };
}

/// A probe that was passed: its name, and its arguments as a tracer must see them, in 64 bits.
pub type Passed = (&'static str, Vec<u64>);

/// Passes every probe with arguments that depend on `number`; `guarded` only if somebody watches.
#[cfg(target_arch = "x86_64")]
pub fn pass(number: u64) -> Vec<Passed> {
    // Every byte differs, and about half of them have their sign set.
    let value = |n: u32| 0x8123_4567_89ab_cdef_u64.rotate_left(n * 12).wrapping_add(number);
    let mut passed = vec![sizes(std::array::from_fn(|n| value(u32::try_from(n).unwrap_or_default())))];
    passed.push(places(&std::array::from_fn(|n| value(u32::try_from(n).unwrap_or_default() + 3))));
    passed.extend(copies(number));
    if watched() > 0 {
        mark!("guarded", "{semaphore}", "8@{number}", semaphore = sym WATCHED, number = in(reg) number,);
        passed.push(("guarded", vec![number]));
    }
    passed
}

/// There are probes for x86-64 only.
#[cfg(not(target_arch = "x86_64"))]
pub fn pass(_: u64) -> Vec<Passed> {
    Vec::new()
}

/// A number as an argument of this size shows it.
#[cfg(target_arch = "x86_64")]
fn shown(value: u64, size: i8) -> u64 {
    let shift = 64 - 8 * u32::from(size.unsigned_abs());
    if size < 0 { ((value << shift).cast_signed() >> shift).cast_unsigned() } else { value << shift >> shift }
}

/// Each size, with a sign and without, in a register or in a part of one.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn sizes(values: [u64; 9]) -> Passed {
    let [a, b, c, d, e, f, g, h, i] = values;
    mark!(
        "sizes", "0",
        "1@{a:l} -1@{b:l} 2@{c:x} -2@{d:x} 4@{e:e} -4@{f:e} 8@{g} -8@{h} 1@%ah -1@%ah -4@{g}",
        a = in(reg) a, b = in(reg) b, c = in(reg) c, d = in(reg) d, e = in(reg) e, f = in(reg) f, g = in(reg) g,
        h = in(reg) h, in("rax") i,
    );
    let of = [(a, 1), (b, -1), (c, 2), (d, -2), (e, 4), (f, -4), (g, 8), (h, -8), (i >> 8, 1), (i >> 8, -1), (g, -4)];
    ("sizes", of.map(|(value, size)| shown(value, size)).to_vec())
}

/// Numbers of the program's text, and memory: on the stack, by an index, without a base, and where there is none.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn places(words: &[u64; 4]) -> Passed {
    let middle = &raw const words[2];
    let eighth = middle.expose_provenance() / 8;
    mark!(
        "places", "0",
        "4@$7 -4@$-7 -8@$0x7123456789abcdef 8@({p}) -4@4({p}) 2@-6({p}) -8@-16({p},{i},8) 4@(,{q},8) -1@1({p},{i}) 8@({none})",
        p = in(reg) middle, i = in(reg) 1_u64, q = in(reg) eighth, none = in(reg) 8_u64,
    );
    let of = [
        (7, 4),
        (7_u64.wrapping_neg(), -4),
        (0x7123_4567_89ab_cdef, -8),
        (words[2], 8),
        (words[2] >> 32, -4),
        (words[1] >> 16, 2),
        (words[1], -8),
        (words[2], 4),
        (words[2] >> 16, -1),
        (0, 8),
    ];
    ("places", of.map(|(value, size)| shown(value, size)).to_vec())
}

/// One probe in two places, as where a function was inlined, each with its argument elsewhere.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn copies(number: u64) -> [Passed; 2] {
    mark!("copies", "0", "8@%rcx", in("rcx") number,);
    mark!("copies", "0", "-2@%r9w", in("r9") number + 1,);
    [(number, 8), (number + 1, -2)].map(|(number, size)| ("copies", vec![shown(number, size)]))
}
