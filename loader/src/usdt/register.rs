//! The registers that arguments name: where `struct pt_regs` keeps them, which is the context of a program at a probe.

use crate::ctx::Arch;

/// A register, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Bytes from the start of `struct pt_regs`.
    pub offset: u8,
    /// How many bytes it has: 8 for a whole one.
    pub size: u8,
}

impl Register {
    const fn whole(offset: u8) -> Self {
        Self { offset, size: 8 }
    }

    /// The register of this name, as the assembler of this architecture writes it, without `%`.
    pub(super) fn named(name: &str, arch: Arch) -> Option<Self> {
        match arch {
            Arch::X86_64 => x86(name),
            Arch::Aarch64 => aarch64(name),
            Arch::Riscv64 => riscv(name),
        }
    }
}

/// The number in a name such as `x19`, if it is one that a program could have written and is at most `last`.
fn number(name: &str, prefix: &str, last: u8) -> Option<u8> {
    let digits = name.strip_prefix(prefix)?;
    let number: u8 = digits.parse().ok().filter(|&number| number <= last)?;
    (digits == number.to_string()).then_some(number)
}

/// arch/x86/include/asm/ptrace.h
fn x86(name: &str) -> Option<Register> {
    // The eight old registers: their 16-bit names, and their offsets.
    const OLD: [(&str, u8); 8] =
        [("ax", 80), ("bx", 40), ("cx", 88), ("dx", 96), ("si", 104), ("di", 112), ("bp", 32), ("sp", 152)];
    // r8 to r15
    const NEW: [u8; 8] = [72, 64, 56, 48, 24, 16, 8, 0];
    if let Some((digits, size)) = name.strip_prefix('r').map(new_part)
        && let Some(offset) = number(digits, "", 15).and_then(|number| NEW.get(usize::from(number.checked_sub(8)?)))
    {
        return Some(Register { offset: *offset, size });
    }
    let old = |name: &str| OLD.iter().find(|(known, _)| *known == name).map(|&(_, offset)| offset);
    let part = |offset: Option<u8>, size| offset.map(|offset| Register { offset, size });
    match name.as_bytes() {
        [b'r', ..] => part(name.get(1..).and_then(old), 8),
        [b'e', ..] => part(name.get(1..).and_then(old), 4),
        [letter @ b'a'..=b'd', b'l'] => part(old(&format!("{}x", char::from(*letter))), 1),
        // The second byte of four of them.
        [letter @ b'a'..=b'd', b'h'] => part(old(&format!("{}x", char::from(*letter))).map(|offset| offset + 1), 1),
        [_, _, b'l'] => part(name.get(..2).and_then(old), 1),
        _ => part(old(name), 2),
    }
}

/// The digits of `r10d`, and how much of the register it is.
fn new_part(name: &str) -> (&str, u8) {
    let parts = [('d', 4), ('w', 2), ('b', 1)];
    parts.iter().find_map(|&(letter, size)| Some((name.strip_suffix(letter)?, size))).unwrap_or((name, 8))
}

/// arch/arm64/include/uapi/asm/ptrace.h
fn aarch64(name: &str) -> Option<Register> {
    match name {
        "sp" => return Some(Register::whole(248)),
        "fp" => return Some(Register::whole(29 * 8)),
        "lr" => return Some(Register::whole(30 * 8)),
        _ => {}
    }
    let numbered = |prefix, size| number(name, prefix, 30).map(|number| Register { offset: number * 8, size });
    numbered("x", 8).or_else(|| numbered("w", 4))
}

/// arch/riscv/include/asm/ptrace.h
fn riscv(name: &str) -> Option<Register> {
    const NAMES: [&str; 32] = [
        "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
        "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
    ];
    let name = if name == "fp" { "s0" } else { name };
    let index = NAMES.iter().position(|known| *known == name).or_else(|| number(name, "x", 31).map(usize::from))?;
    // Nothing is kept of x0, which is always 0.
    let index = u8::try_from(index).ok().filter(|&index| index != 0)?;
    Some(Register::whole(index * 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The structure as libc's headers have it for debuggers, which is the kernel's.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn whole_registers_are_where_the_kernel_keeps_them() {
        macro_rules! check {
            ($($name:ident $field:ident)*) => {
                $(
                    let offset = u8::try_from(std::mem::offset_of!(libc::user_regs_struct, $field)).unwrap();
                    assert_eq!(x86(stringify!($name)), Some(Register::whole(offset)), stringify!($name));
                )*
            };
        }
        check!(rax rax rbx rbx rcx rcx rdx rdx rsi rsi rdi rdi rbp rbp rsp rsp);
        check!(r8 r8 r9 r9 r10 r10 r11 r11 r12 r12 r13 r13 r14 r14 r15 r15);
    }

    #[test]
    fn parts_of_registers_are_told_by_their_names() {
        let part = |offset, size| Some(Register { offset, size });
        for (name, register) in [
            ("eax", part(80, 4)),
            ("ax", part(80, 2)),
            ("al", part(80, 1)),
            ("ah", part(81, 1)),
            ("bh", part(41, 1)),
            ("dil", part(112, 1)),
            ("spl", part(152, 1)),
            ("esp", part(152, 4)),
            ("r8d", part(72, 4)),
            ("r15w", part(0, 2)),
            ("r10b", part(56, 1)),
            ("xmm0", None),
            ("st", None),
            ("rip", None),
            ("r7", None),
            ("r16", None),
            ("r08", None),
            ("r+8", None),
            ("rax2", None),
            ("eal", None),
            ("sil2", None),
            ("", None),
            ("r", None),
            ("l", None),
            ("é", None),
            ("éé", None),
        ] {
            assert_eq!(x86(name), register, "{name}");
        }
        assert_eq!(aarch64("x19"), part(152, 8));
        assert_eq!(aarch64("w30"), part(240, 4));
        assert_eq!(aarch64("sp"), part(248, 8));
        for name in ["x31", "d0", "x", "x01", "wsp2"] {
            assert_eq!(aarch64(name), None, "{name}");
        }
        assert_eq!(riscv("a0"), part(80, 8));
        assert_eq!(riscv("s11"), part(216, 8));
        assert_eq!((riscv("fp"), riscv("x8")), (part(64, 8), part(64, 8)));
        assert_eq!(riscv("t6"), part(248, 8));
        for name in ["pc", "x0", "zero", "fa0", "a8"] {
            assert_eq!(riscv(name), None, "{name}");
        }
    }
}
