//! One method for each form of instruction, whose pseudo-C its doc shows.

use std::borrow::Cow;

use bpfkit_asm_syntax::{AluOp, AtomicOp, ByteOrder, Helper, JmpOp, Pseudo, Reference, Reg, Size};

use super::{Asm, Distance, I32, U32};
use crate::insn::{PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE};
use crate::{Class, Error, Fixup, Imm, JumpTo, MapRef, Mem, Opcode, Operand, Register, Src};

impl Asm {
    /// Emits `dst op= src`, and `dst = src` for [`AluOp::Mov`].
    pub fn alu<R: Register>(&mut self, op: AluOp, dst: R, src: impl Into<Operand<R>>) -> &mut Self {
        let class = if R::WIDE { Class::Alu64 } else { Class::Alu };
        let (bits, off) = alu_bits(op);
        let code = bits | class as u8;
        match src.into() {
            Operand::Reg(src) => self.emit(code | X, dst.reg().n(), src.reg().n(), off, 0),
            Operand::Imm(imm) => {
                // The machine sign-extends; in 32-bit arithmetic the sign makes no difference.
                let range = if R::WIDE { I32 } else { (I32.0, U32.1) };
                let imm = self.imm32("constant", imm, range);
                self.emit(code, dst.reg().n(), 0, off, imm)
            }
        }
    }

    /// Emits `dst = -dst`.
    pub fn neg<R: Register>(&mut self, dst: R) -> &mut Self {
        let class = if R::WIDE { Class::Alu64 } else { Class::Alu };
        self.emit(0x80 | class as u8, dst.reg().n(), 0, 0, 0)
    }

    /// Emits `dst = (s8)src` for 8 `bits`, likewise for 16 and, where registers are whole, 32 (Linux 6.6).
    pub fn movsx<R: Register>(&mut self, dst: R, src: R, bits: u8) -> &mut Self {
        if !(matches!(bits, 8 | 16) || bits == 32 && R::WIDE) {
            return self.no(format!("sign extension of {bits} bits into {}", if R::WIDE { "64" } else { "32" }));
        }
        let class = if R::WIDE { Class::Alu64 } else { Class::Alu };
        self.emit(0xb0 | X | class as u8, dst.reg().n(), src.reg().n(), bits.into(), 0)
    }

    /// Emits `dst = addr_space_cast(src, to, from)`, a pointer into or out of an arena (Linux 6.9).
    pub fn addr_space_cast(&mut self, dst: Reg, src: Reg, to: u16, from: u16) -> &mut Self {
        let spaces = u32::from(to) << 16 | u32::from(from);
        self.emit(0xb0 | X | Class::Alu64 as u8, dst.n(), src.n(), ADDR_SPACE_CAST, spaces.cast_signed())
    }

    /// Emits `dst = be16(dst)` and so on, for 16, 32 and 64 `bits`; [`ByteOrder::Swap`] needs Linux 6.6.
    pub fn endian(&mut self, order: ByteOrder, dst: Reg, bits: u8) -> &mut Self {
        if !matches!(bits, 16 | 32 | 64) {
            return self.no(format!("byte order of {bits} bits"));
        }
        let code = match order {
            ByteOrder::Le => 0xd4,
            ByteOrder::Be => 0xdc,
            ByteOrder::Swap => 0xd7,
        };
        self.emit(code, dst.n(), 0, 0, bits.into())
    }

    /// Emits `dst = *(size *)(from)`.
    pub fn load(&mut self, size: Size, dst: Reg, from: Mem) -> &mut Self {
        let off = self.offset(&from);
        self.emit(0x61 | size_bits(size), dst.n(), from.base.n(), off, 0)
    }

    /// Emits `dst = *(signed size *)(from)` (Linux 6.6); 64 bits have nothing to extend.
    pub fn load_sx(&mut self, size: Size, dst: Reg, from: Mem) -> &mut Self {
        if size == Size::DW {
            return self.no("sign-extending load of 64 bits".to_owned());
        }
        let off = self.offset(&from);
        self.emit(0x81 | size_bits(size), dst.n(), from.base.n(), off, 0)
    }

    /// Emits `*(size *)(to) = src`.
    pub fn store(&mut self, size: Size, to: Mem, src: impl Into<Src>) -> &mut Self {
        let off = self.offset(&to);
        match src.into() {
            Src::Reg(src) => self.emit(0x63 | size_bits(size), to.base.n(), src.n(), off, 0),
            Src::Imm(imm) => {
                let range = match size {
                    Size::B => (i8::MIN.into(), u8::MAX.into()),
                    Size::H => (i16::MIN.into(), u16::MAX.into()),
                    Size::W => (I32.0, U32.1),
                    Size::DW => I32,
                };
                let imm = self.imm32("constant", imm, range);
                self.emit(0x62 | size_bits(size), to.base.n(), 0, off, imm)
            }
        }
    }

    /// Emits `lock *(size *)(to) op= src`; the fetching ones, xchg and cmpxchg also put the old value into src or r0. `W` or `DW`.
    pub fn atomic(&mut self, op: AtomicOp, size: Size, to: Mem, src: Reg) -> &mut Self {
        if !matches!(size, Size::W | Size::DW) {
            return self.no(format!("atomic operation on {} bytes", size.bytes()));
        }
        let off = self.offset(&to);
        self.emit(0xc3 | size_bits(size), to.base.n(), src.n(), off, atomic_bits(op))
    }

    /// Emits `dst = smp_load_acquire((size *)(from))` (Linux 6.15).
    pub fn load_acquire(&mut self, size: Size, dst: Reg, from: Mem) -> &mut Self {
        let off = self.offset(&from);
        self.emit(0xc3 | size_bits(size), dst.n(), from.base.n(), off, 0x100)
    }

    /// Emits `smp_store_release((size *)(to), src)` (Linux 6.15).
    pub fn store_release(&mut self, size: Size, to: Mem, src: Reg) -> &mut Self {
        let off = self.offset(&to);
        self.emit(0xc3 | size_bits(size), to.base.n(), src.n(), off, 0x110)
    }

    /// Emits `r0 = ntoh(*(size *)(skb->data + offset))`; up to 32 bits.
    pub fn load_abs(&mut self, size: Size, offset: impl Into<Imm>) -> &mut Self {
        self.load_packet(0x20, size, 0, offset.into())
    }

    /// Emits `r0 = ntoh(*(size *)(skb->data + index + offset))`; up to 32 bits.
    pub fn load_ind(&mut self, size: Size, index: Reg, offset: impl Into<Imm>) -> &mut Self {
        self.load_packet(0x40, size, index.n(), offset.into())
    }

    fn load_packet(&mut self, mode: u8, size: Size, index: u8, offset: Imm) -> &mut Self {
        if size == Size::DW {
            return self.no("packet load of 64 bits".to_owned());
        }
        let imm = self.imm32("packet offset", offset, I32);
        self.emit(mode | size_bits(size), 0, index, 0, imm)
    }

    /// Emits `dst = value ll`, in two slots.
    pub fn load_imm64(&mut self, dst: Reg, value: impl Into<Imm>) -> &mut Self {
        match value.into() {
            Imm::Int(value) => {
                let range = (i64::MIN.into(), u64::MAX.into());
                if value < range.0 || value > range.1 {
                    return self.fail(|source| Error::Range { what: "constant", value, range, source });
                }
                let bytes = value.to_le_bytes();
                let [a, b, c, d, e, f, g, h, ..] = bytes;
                let (lower, upper) = (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
                self.two_slots(dst, 0, lower, upper)
            }
            hole => {
                let lower = self.imm32("constant", hole, I32);
                self.two_slots(dst, 0, lower, 0)
            }
        }
    }

    /// Emits `dst = map`, in two slots.
    pub fn load_map(&mut self, dst: Reg, map: impl Into<MapRef>) -> &mut Self {
        self.fixup(Fixup::Map(map.into())).two_slots(dst, PSEUDO_MAP_FD, 0, 0)
    }

    /// Emits `dst = &map[0] + offset`, in two slots; the map is an array of one element (Linux 5.2).
    pub fn load_map_value(&mut self, dst: Reg, map: impl Into<MapRef>, offset: impl Into<Imm>) -> &mut Self {
        let Imm::Int(value) = offset.into() else {
            return self.no("address in a map that a kernel decides".to_owned());
        };
        let Ok(offset) = u32::try_from(value) else {
            return self.fail(|source| Error::Range { what: "offset in a map value", value, range: U32, source });
        };
        self.fixup(Fixup::MapValue(map.into())).two_slots(dst, PSEUDO_MAP_VALUE, 0, offset.cast_signed())
    }

    /// Emits `dst = name`, the address of another function of the program, in two slots (Linux 5.13).
    pub fn load_func(&mut self, dst: Reg, name: impl Into<Cow<'static, str>>) -> &mut Self {
        self.fixup(Fixup::Func(name.into())).two_slots(dst, PSEUDO_FUNC, 0, 0)
    }

    /// Emits `dst = lower`, in two slots, where the number stands for something else; `upper` is the offset in a map's value.
    pub fn load_pseudo(&mut self, dst: Reg, pseudo: Pseudo, lower: i32, upper: u32) -> &mut Self {
        if upper != 0 && !pseudo.has_offset() {
            return self.no("offset in what has no value".to_owned());
        }
        self.two_slots(dst, pseudo.n(), lower, upper.cast_signed())
    }

    /// Has the next instruction refer to something: linking puts it in, in place of what the instruction has there.
    pub fn refer(&mut self, reference: Reference) -> &mut Self {
        self.fixup(Fixup::Reference(reference))
    }

    /// Emits `if (left op right) goto to`; comparing halves needs Linux 5.1.
    pub fn jump<R: Register>(
        &mut self,
        op: JmpOp,
        left: R,
        right: impl Into<Operand<R>>,
        to: impl Into<JumpTo>,
    ) -> &mut Self {
        let class = if R::WIDE { Class::Jmp } else { Class::Jmp32 };
        let code = jump_bits(op) | class as u8;
        let off = self.target(to.into(), Distance::Off);
        let off = i16::try_from(off).unwrap_or_default();
        match right.into() {
            Operand::Reg(right) => self.emit(code | X, left.reg().n(), right.reg().n(), off, 0),
            Operand::Imm(imm) => {
                let range = if R::WIDE { I32 } else { (I32.0, U32.1) };
                let imm = self.imm32("constant", imm, range);
                self.emit(code, left.reg().n(), 0, off, imm)
            }
        }
    }

    /// Emits `goto to`.
    pub fn goto(&mut self, to: impl Into<JumpTo>) -> &mut Self {
        self.goto_off(Opcode::JA, to.into())
    }

    /// Emits `may_goto to`, which the kernel takes when a loop has run too often (Linux 6.9).
    pub fn may_goto(&mut self, to: impl Into<JumpTo>) -> &mut Self {
        self.goto_off(Opcode::JCOND, to.into())
    }

    fn goto_off(&mut self, code: Opcode, to: JumpTo) -> &mut Self {
        let off = self.target(to, Distance::Off);
        self.emit(code.0, 0, 0, i16::try_from(off).unwrap_or_default(), 0)
    }

    /// Emits `goto to` with a distance of 32 bits (Linux 6.6).
    pub fn gotol(&mut self, to: impl Into<JumpTo>) -> &mut Self {
        let imm = self.target(to.into(), Distance::Imm);
        self.emit(Opcode::JA32.0, 0, 0, 0, imm)
    }

    /// Emits `r0 = helper(r1, r2, r3, r4, r5)`.
    pub fn call(&mut self, helper: Helper) -> &mut Self {
        self.emit(Opcode::CALL.0, 0, 0, 0, helper.0.cast_signed())
    }

    /// Emits `r0 = name(r1, r2, r3, r4, r5)`, another function of the program.
    pub fn call_func(&mut self, name: impl Into<Cow<'static, str>>) -> &mut Self {
        self.fixup(Fixup::Call(name.into())).emit(Opcode::CALL.0, 0, PSEUDO_CALL, 0, -1)
    }

    /// Emits `r0 = function(r1, r2, r3, r4, r5)`, the function of the program that begins so many slots after the next one.
    pub fn call_relative(&mut self, slots: i32) -> &mut Self {
        self.emit(Opcode::CALL.0, 0, PSEUDO_CALL, 0, slots)
    }

    /// Emits `r0 = function(r1, r2, r3, r4, r5)`, the function of the kernel that has this number in the kernel's types (Linux 5.13).
    pub fn call_kfunc_id(&mut self, id: i32) -> &mut Self {
        self.emit(Opcode::CALL.0, 0, PSEUDO_KFUNC_CALL, 0, id)
    }

    /// Emits `r0 = name(r1, r2, r3, r4, r5)`, a function of the kernel (Linux 5.13).
    pub fn call_kfunc(&mut self, name: impl Into<Cow<'static, str>>) -> &mut Self {
        self.fixup(Fixup::Kfunc(name.into())).emit(Opcode::CALL.0, 0, PSEUDO_KFUNC_CALL, 0, 0)
    }

    /// Emits `r0 = (*function)(r1, r2, r3, r4, r5)`, which LLVM has and the kernel refuses so far.
    pub fn callx(&mut self, function: Reg) -> &mut Self {
        self.emit(Opcode::CALL.0 | X, function.n(), 0, 0, 0)
    }

    /// Emits `return r0`.
    pub fn exit(&mut self) -> &mut Self {
        self.emit(Opcode::EXIT.0, 0, 0, 0, 0)
    }
}

macro_rules! named {
    ($($name:ident $op:ident $text:literal)*) => {
        impl Asm {$(
            #[doc = concat!("Emits `", $text, "`.")]
            pub fn $name<R: Register>(&mut self, dst: R, src: impl Into<Operand<R>>) -> &mut Self {
                self.alu(AluOp::$op, dst, src)
            }
        )*}
    };
}

named! {
    mov Mov "dst = src"
    add Add "dst += src"
    sub Sub "dst -= src"
    mul Mul "dst *= src"
    div Div "dst /= src"
    or Or "dst |= src"
    and And "dst &= src"
    xor Xor "dst ^= src"
    lsh Lsh "dst <<= src"
    rsh Rsh "dst >>= src"
}

/// `BPF_ADDR_SPACE_CAST`: the offset of a move that is one.
pub(crate) const ADDR_SPACE_CAST: i16 = 1;
/// `BPF_X`: the right-hand side is a register.
const X: u8 = 8;
const fn size_bits(size: Size) -> u8 {
    match size {
        Size::W => 0x00,
        Size::H => 0x08,
        Size::B => 0x10,
        Size::DW => 0x18,
    }
}

/// The operation's bits and its offset, which is 1 for the signed ones.
const fn alu_bits(op: AluOp) -> (u8, i16) {
    match op {
        AluOp::Add => (0x00, 0),
        AluOp::Sub => (0x10, 0),
        AluOp::Mul => (0x20, 0),
        AluOp::Div => (0x30, 0),
        AluOp::Sdiv => (0x30, 1),
        AluOp::Or => (0x40, 0),
        AluOp::And => (0x50, 0),
        AluOp::Lsh => (0x60, 0),
        AluOp::Rsh => (0x70, 0),
        AluOp::Mod => (0x90, 0),
        AluOp::Smod => (0x90, 1),
        AluOp::Xor => (0xa0, 0),
        AluOp::Mov => (0xb0, 0),
        AluOp::Arsh => (0xc0, 0),
    }
}

const fn jump_bits(op: JmpOp) -> u8 {
    match op {
        JmpOp::Eq => 0x10,
        JmpOp::Gt => 0x20,
        JmpOp::Ge => 0x30,
        JmpOp::Set => 0x40,
        JmpOp::Ne => 0x50,
        JmpOp::Sgt => 0x60,
        JmpOp::Sge => 0x70,
        JmpOp::Lt => 0xa0,
        JmpOp::Le => 0xb0,
        JmpOp::Slt => 0xc0,
        JmpOp::Sle => 0xd0,
    }
}

const fn atomic_bits(op: AtomicOp) -> i32 {
    match op {
        AtomicOp::Add => 0x00,
        AtomicOp::Or => 0x40,
        AtomicOp::And => 0x50,
        AtomicOp::Xor => 0xa0,
        AtomicOp::FetchAdd => 0x01,
        AtomicOp::FetchOr => 0x41,
        AtomicOp::FetchAnd => 0x51,
        AtomicOp::FetchXor => 0xa1,
        AtomicOp::Xchg => 0xe1,
        AtomicOp::Cmpxchg => 0xf1,
    }
}
