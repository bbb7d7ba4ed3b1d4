//! One instruction: 8 bytes, `struct bpf_insn` of include/uapi/linux/bpf.h.

use std::fmt;

/// The first byte of an instruction: class, and what it means there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Opcode(pub u8);

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $($variant:ident = $value:literal $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $text] $variant = $value,)*
        }
    };
}

bits! {
    /// The lower three bits of an opcode.
    Class:
    Ld = 0 "Load, other than from memory", Ldx = 1 "Load from memory", St = 2 "Store a constant", Stx = 3 "Store a register",
    Alu = 4 "32-bit arithmetic", Jmp = 5 "Jump", Jmp32 = 6 "Jump that compares 32 bits", Alu64 = 7 "64-bit arithmetic",
}
bits! {
    /// The upper three bits of a load's or a store's opcode.
    Mode:
    Imm = 0x00 "64-bit constant in two slots", Abs = 0x20 "Packet, at a constant offset", Ind = 0x40 "Packet, at a register's offset",
    Mem = 0x60 "Memory", Memsx = 0x80 "Memory, sign-extended", Atomic = 0xc0 "Atomic operation",
}

impl Opcode {
    /// What kind of instruction it is.
    pub const fn class(self) -> Class {
        match self.0 & 7 {
            0 => Class::Ld,
            1 => Class::Ldx,
            2 => Class::St,
            3 => Class::Stx,
            4 => Class::Alu,
            5 => Class::Jmp,
            6 => Class::Jmp32,
            _ => Class::Alu64,
        }
    }

    /// How a load or a store addresses; none for the two values without meaning.
    pub const fn mode(self) -> Option<Mode> {
        Some(match self.0 & 0xe0 {
            0x00 => Mode::Imm,
            0x20 => Mode::Abs,
            0x40 => Mode::Ind,
            0x60 => Mode::Mem,
            0x80 => Mode::Memsx,
            0xc0 => Mode::Atomic,
            _ => return None,
        })
    }

    /// The operation of an arithmetic or jump instruction: the upper four bits.
    pub const fn op(self) -> u8 {
        self.0 & 0xf0
    }

    /// Whether the right-hand side is a register (`BPF_X`) and not a constant (`BPF_K`).
    pub const fn is_register(self) -> bool {
        self.0 & 8 != 0
    }

    /// `BPF_LD | BPF_IMM | BPF_DW`, the only instruction of two slots.
    pub const LD_IMM64: Self = Self(0x18);
    /// `BPF_JMP | BPF_CALL`
    pub const CALL: Self = Self(0x85);
    /// `BPF_JMP | BPF_CALL | BPF_X`
    pub const CALLX: Self = Self(0x8d);
    /// `BPF_JMP | BPF_EXIT`
    pub const EXIT: Self = Self(0x95);
    /// `BPF_JMP | BPF_JA`, distance in `off`
    pub const JA: Self = Self(0x05);
    /// `BPF_JMP32 | BPF_JA`, distance in `imm` (Linux 6.6)
    pub const JA32: Self = Self(0x06);
    /// `BPF_JMP | BPF_JCOND` (Linux 6.9)
    pub const JCOND: Self = Self(0xe5);
}

/// One slot of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// What it does.
    pub code: Opcode,
    /// Destination in the lower, source in the upper four bits.
    regs: u8,
    /// A signed offset, in bytes or in slots.
    pub off: i16,
    /// A signed constant.
    pub imm: i32,
}

/// `BPF_PSEUDO_MAP_FD`: the constant is a map's file descriptor.
pub(crate) const PSEUDO_MAP_FD: u8 = 1;
/// `BPF_PSEUDO_MAP_VALUE`: it is the address of a map's value.
pub(crate) const PSEUDO_MAP_VALUE: u8 = 2;
/// `BPF_PSEUDO_FUNC`: it is the address of a function of the program.
pub(crate) const PSEUDO_FUNC: u8 = 4;
/// `BPF_PSEUDO_CALL`: the callee is a function of the program.
pub(crate) const PSEUDO_CALL: u8 = 1;
/// `BPF_PSEUDO_KFUNC_CALL`: the callee is a function of the kernel.
pub(crate) const PSEUDO_KFUNC_CALL: u8 = 2;

impl Insn {
    /// An instruction; only the lower four bits of the register numbers count.
    pub const fn new(code: Opcode, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { code, regs: (dst & 15) | (src << 4), off, imm }
    }

    /// The destination's number.
    pub const fn dst(self) -> u8 {
        self.regs & 15
    }

    /// The source's number, or the pseudo source of a constant or a call.
    pub const fn src(self) -> u8 {
        self.regs >> 4
    }

    /// As the kernel of a little-endian machine reads it.
    pub fn to_le_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.off.to_le_bytes(), self.imm.to_le_bytes());
        [self.code.0, self.regs, a, b, c, d, e, f]
    }

    /// As the kernel of a big-endian machine reads it: numbers and the two registers the other way round.
    pub fn to_be_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.off.to_be_bytes(), self.imm.to_be_bytes());
        [self.code.0, self.regs.rotate_left(4), a, b, c, d, e, f]
    }

    /// As the kernel of this machine reads it.
    pub fn to_ne_bytes(self) -> [u8; 8] {
        if cfg!(target_endian = "little") { self.to_le_bytes() } else { self.to_be_bytes() }
    }

    /// The inverse of [`Insn::to_le_bytes`].
    pub fn from_le_bytes([code, regs, a, b, c, d, e, f]: [u8; 8]) -> Self {
        Self { code: Opcode(code), regs, off: i16::from_le_bytes([a, b]), imm: i32::from_le_bytes([c, d, e, f]) }
    }

    /// The inverse of [`Insn::to_be_bytes`].
    pub fn from_be_bytes([code, regs, a, b, c, d, e, f]: [u8; 8]) -> Self {
        let regs = regs.rotate_left(4);
        Self { code: Opcode(code), regs, off: i16::from_be_bytes([a, b]), imm: i32::from_be_bytes([c, d, e, f]) }
    }

    /// The inverse of [`Insn::to_ne_bytes`].
    pub fn from_ne_bytes(bytes: [u8; 8]) -> Self {
        if cfg!(target_endian = "little") { Self::from_le_bytes(bytes) } else { Self::from_be_bytes(bytes) }
    }

    /// Whether a second slot follows that holds the upper half of the constant.
    pub fn is_wide(self) -> bool {
        self.code == Opcode::LD_IMM64
    }

    /// Where a jump goes, in slots from the next instruction.
    pub fn jump(self) -> Option<i32> {
        match self.code.class() {
            Class::Jmp | Class::Jmp32 if self.code == Opcode::JA32 => Some(self.imm),
            Class::Jmp | Class::Jmp32 if !matches!(self.code.op(), 0x80 | 0x90) => Some(self.off.into()),
            _ => None,
        }
    }

    /// The slot to which it goes from `slot`, other than the next: by a jump, by a call of a function of the same program, or as it
    /// loads the address of one. Nothing where that is before the first slot.
    pub fn destination(self, slot: usize) -> Option<usize> {
        let distance = if self.refers_to_function() { Some(self.imm) } else { self.jump() }?;
        slot.checked_add(1)?.checked_add_signed(isize::try_from(distance).ok()?)
    }

    /// Whether it calls another function of the same program; the distance is in `imm`.
    pub fn is_local_call(self) -> bool {
        self.code == Opcode::CALL && self.src() == PSEUDO_CALL
    }

    /// Whether it loads the address of another function of the same program; the distance is in `imm`.
    pub fn is_func_address(self) -> bool {
        self.is_wide() && self.src() == PSEUDO_FUNC
    }

    /// Whether it calls another function of the same program, or loads its address.
    pub fn refers_to_function(self) -> bool {
        self.is_local_call() || self.is_func_address()
    }

    /// The number of the helper that it calls.
    pub fn helper(self) -> Option<crate::Helper> {
        (self.code == Opcode::CALL && self.src() == 0).then(|| crate::Helper(self.imm.cast_unsigned()))
    }

    /// Whether it loads a map's address, or that of a map's value; the file descriptor is in `imm`.
    pub fn is_map(self) -> bool {
        self.is_wide() && matches!(self.src(), PSEUDO_MAP_FD | PSEUDO_MAP_VALUE)
    }
}

/// The kernel's notation. The second slot of a 64-bit constant is taken to be zero: use [`crate::list`] for whole programs.
impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::disasm::print(f, *self, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_by_a_jump_or_to_a_function_and_not_before_the_program() {
        let goto = |distance| Insn::new(Opcode::JA, 0, 0, distance, 0);
        let call = |distance| Insn::new(Opcode::CALL, 0, PSEUDO_CALL, 0, distance);
        let gotol = Insn::new(Opcode::JA32, 0, 0, 9, 70_000);
        assert_eq!([goto(2), call(2), gotol].map(|insn| insn.destination(5)), [Some(8), Some(8), Some(70_006)]);
        assert_eq!(
            [goto(-6), goto(-7), call(-7), call(-1)].map(|insn| insn.destination(5)),
            [Some(0), None, None, Some(5)]
        );
        let elsewhere = [Insn::new(Opcode::EXIT, 0, 0, 0, 0), Insn::new(Opcode::CALL, 0, 0, 0, 1), Insn::default()];
        assert_eq!(elsewhere.map(|insn| insn.destination(5)), [None; 3]);
    }

    #[test]
    fn bytes_are_read_back_in_both_orders() {
        let insn = Insn::new(Opcode(0x7b), 10, 3, -8, 0x0102_0304);
        assert_eq!(insn.to_le_bytes(), [0x7b, 0x3a, 0xf8, 0xff, 4, 3, 2, 1]);
        assert_eq!(insn.to_be_bytes(), [0x7b, 0xa3, 0xff, 0xf8, 1, 2, 3, 4]);
        assert_eq!(Insn::from_le_bytes(insn.to_le_bytes()), insn);
        assert_eq!(Insn::from_be_bytes(insn.to_be_bytes()), insn);
    }
}
