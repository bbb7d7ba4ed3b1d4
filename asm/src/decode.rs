//! Instructions as statements of the grammar: the inverse of what [`crate::Asm`] emits.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;

use bpfkit_asm_syntax::{
    AluOp, AtomicOp, ByteOrder, Callee, Cond, Helper, JmpOp, Map, Offset, Operand, Place, Pseudo, Reference, Reg, Size,
    Stmt, Target, Value, is_name,
};

use crate::asm::ADDR_SPACE_CAST;
use crate::insn::{PSEUDO_CALL, PSEUDO_KFUNC_CALL};
use crate::{Class, Insn, Mode, Names, Opcode};

/// A statement of a text has no Rust in it.
type Text = Stmt<Infallible>;

/// A statement that [`crate::Asm::parse`] makes the same slots of again, whatever they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The number of its first slot.
    pub slot: usize,
    /// How many slots it has, 1 or 2.
    pub slots: usize,
    /// Whether another of these statements jumps to it, so that a label must stand before it.
    pub is_target: bool,
    stmt: Text,
}

impl Statement {
    /// The label that stands before it where it is a target.
    pub fn label(&self) -> impl fmt::Display {
        Label(self.slot)
    }

    /// Whether it says nothing but the numbers of a slot.
    pub fn is_raw(&self) -> bool {
        matches!(self.stmt, Stmt::Raw { .. })
    }

    /// The statement, and what it refers to; without the semicolon.
    pub fn referring<'a>(&'a self, reference: Option<&'a Reference>) -> impl fmt::Display + 'a {
        Referring(self, reference)
    }
}

/// The statement, without the semicolon.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stmt.fmt(f)
    }
}

struct Referring<'a>(&'a Statement, Option<&'a Reference>);

impl fmt::Display for Referring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        self.1.map_or(Ok(()), |reference| write!(f, " @ {reference}"))
    }
}

struct Label(usize);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

/// The statements of the slots in `range`, a function's: jumps within it go to labels, all others keep their distance. `names` are
/// those of maps and functions by slot; a name that the grammar does not take is left out.
pub fn statements<'a>(
    insns: &'a [Insn],
    range: Range<usize>,
    names: &'a dyn Names,
) -> impl Iterator<Item = Statement> + 'a {
    let range = range.start.min(insns.len())..range.end.min(insns.len());
    let (start, insns) = (range.start, insns.get(range).unwrap_or_default());
    let slots = move |slot: usize| 1 + usize::from(wide(insns, slot).is_some());
    let mut begins = vec![false; insns.len()];
    let mut slot = 0;
    while let Some(begin) = begins.get_mut(slot) {
        *begin = true;
        slot += slots(slot);
    }
    let target = move |slot: usize, distance: i32| {
        let to = i64::try_from(slot).ok()?.checked_add(1)?.checked_add(distance.into())?;
        usize::try_from(to).ok().filter(|&to| begins.get(to) == Some(&true))
    };
    let mut is_target = vec![false; insns.len()];
    for (slot, insn) in insns.iter().enumerate() {
        if let Some(to) = insn.jump().and_then(|distance| target(slot, distance)) {
            is_target[to] = true;
        }
    }
    let mut slot = 0;
    std::iter::from_fn(move || {
        let insn = *insns.get(slot)?;
        let at = slot;
        slot += slots(slot);
        let mut stmt = wide(insns, at).or_else(|| decode(insn)).unwrap_or_else(|| raw(insn));
        match &mut stmt {
            Stmt::Jump { to, .. } | Stmt::Gotol(to) | Stmt::MayGoto(to) => {
                if let Some(found) = insn.jump().and_then(|distance| target(at, distance)) {
                    *to = Target::Label(Label(start + found).to_string());
                }
            }
            Stmt::LoadPseudo { .. } | Stmt::Call(_) => name(&mut stmt, start + at, names),
            _ => {}
        }
        Some(Statement { slot: start + at, slots: slot - at, is_target: is_target[at], stmt })
    })
}

/// A function as a text, of which [`crate::Asm::parse`] makes the same slots again.
pub fn text(insns: &[Insn]) -> String {
    let mut text = String::new();
    for statement in statements(insns, 0..insns.len(), &()) {
        let label = if statement.is_target { format!("{}:\n", statement.label()) } else { String::new() };
        text.push_str(&format!("{label}    {statement};\n"));
    }
    text
}

/// Puts a name in place of a number, where it has one.
fn name(stmt: &mut Text, slot: usize, names: &dyn Names) {
    let known = |name: Option<&str>| name.filter(|name| is_name(name)).map(str::to_owned);
    let named = match *stmt {
        // Only what is still to be filled in has a name: a number would be lost.
        Stmt::LoadPseudo { dst, pseudo: Pseudo::MapFd, lower: 0, .. } => {
            known(names.map(slot)).map(|name| Stmt::LoadMap { dst, map: Map::Name(name) })
        }
        Stmt::LoadPseudo { dst, pseudo: Pseudo::MapValue, lower: 0, upper } => known(names.map(slot))
            .map(|name| Stmt::LoadMapValue { dst, map: Map::Name(name), offset: Value::Int(upper.into()) }),
        Stmt::LoadPseudo { dst, pseudo: Pseudo::Func, .. } => {
            known(names.function(slot)).map(|name| Stmt::LoadFunc { dst, name })
        }
        Stmt::Call(Callee::Relative(_)) => known(names.function(slot)).map(|name| Stmt::Call(Callee::Function(name))),
        _ => None,
    };
    if let Some(named) = named {
        *stmt = named;
    }
}

fn raw(insn: Insn) -> Text {
    Stmt::Raw { code: insn.code.0, dst: insn.dst(), src: insn.src(), off: insn.off, imm: insn.imm }
}

/// The 64-bit constant that begins at a slot; nothing where its second slot is missing or is none.
fn wide(insns: &[Insn], slot: usize) -> Option<Text> {
    let insn = *insns.get(slot).filter(|insn| insn.is_wide() && insn.off == 0)?;
    let second = *insns.get(slot + 1)?;
    let upper = second.imm.cast_unsigned();
    if second != Insn::new(Opcode(0), 0, 0, 0, second.imm) {
        return None;
    }
    let dst = written(insn.dst())?;
    if insn.src() == 0 {
        let value = u64::from(upper) << 32 | u64::from(insn.imm.cast_unsigned());
        return Some(Stmt::LoadImm64 { dst, value: Value::Int(value.into()) });
    }
    let pseudo = Pseudo::new(insn.src())?;
    let is_whole = upper == 0 || pseudo.has_offset();
    is_whole.then_some(Stmt::LoadPseudo { dst, pseudo, lower: insn.imm, upper })
}

/// An instruction of one slot, if it says nothing that its statement would not say.
fn decode(insn: Insn) -> Option<Text> {
    match insn.code.class() {
        Class::Alu | Class::Alu64 => alu(insn),
        Class::Jmp | Class::Jmp32 => jump(insn),
        Class::Ld => packet(insn),
        Class::Ldx => load(insn),
        Class::St | Class::Stx => store(insn),
    }
}

/// A register that a statement may write: all but the frame pointer.
fn written(n: u8) -> Option<Reg> {
    Reg::new(n).filter(|&reg| reg != Reg::R10)
}

fn size(code: Opcode) -> Size {
    match code.0 & 0x18 {
        0x00 => Size::W,
        0x08 => Size::H,
        0x10 => Size::B,
        _ => Size::DW,
    }
}

fn int(imm: i32) -> Value<Infallible> {
    Value::Int(imm.into())
}

fn alu(insn: Insn) -> Option<Text> {
    let Insn { code, off, imm, .. } = insn;
    let wide = code.class() == Class::Alu64;
    let (dst, src) = (written(insn.dst())?, insn.src());
    let op = match (code.op(), off) {
        (0xd0, 0) if src == 0 && matches!(imm, 16 | 32 | 64) => {
            let order = match (wide, code.is_register()) {
                (false, false) => ByteOrder::Le,
                (false, true) => ByteOrder::Be,
                (true, false) => ByteOrder::Swap,
                (true, true) => return None,
            };
            return Some(Stmt::Endian { order, dst, bits: u8::try_from(imm).ok()? });
        }
        (0x80, 0) if src == 0 && imm == 0 && !code.is_register() => return Some(Stmt::Neg { wide, dst }),
        (0xb0, 8 | 16 | 32) if code.is_register() && imm == 0 && (wide || off != 32) => {
            return Some(Stmt::Movsx { wide, dst, src: Reg::new(src)?, bits: u8::try_from(off).ok()? });
        }
        (0xb0, ADDR_SPACE_CAST) if code.is_register() && wide => {
            let [a, b, c, d] = imm.to_le_bytes();
            let (from, to) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            return Some(Stmt::AddrSpaceCast { dst, src: Reg::new(src)?, to, from });
        }
        (0x00, 0) => AluOp::Add,
        (0x10, 0) => AluOp::Sub,
        (0x20, 0) => AluOp::Mul,
        (0x30, 0) => AluOp::Div,
        (0x30, 1) => AluOp::Sdiv,
        (0x40, 0) => AluOp::Or,
        (0x50, 0) => AluOp::And,
        (0x60, 0) => AluOp::Lsh,
        (0x70, 0) => AluOp::Rsh,
        (0x90, 0) => AluOp::Mod,
        (0x90, 1) => AluOp::Smod,
        (0xa0, 0) => AluOp::Xor,
        (0xb0, 0) => AluOp::Mov,
        (0xc0, 0) => AluOp::Arsh,
        _ => return None,
    };
    let src = side(insn)?;
    // What the grammar refuses, as it makes no sense.
    let is_sound = match (op, &src) {
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(_)) => (0..if wide { 64 } else { 32 }).contains(&imm),
        (AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod, Operand::Imm(_)) => imm != 0,
        _ => true,
    };
    is_sound.then_some(Stmt::Alu { op, wide, dst, src })
}

/// The right-hand side, if the other one is not used.
fn side(insn: Insn) -> Option<Operand<Infallible>> {
    match (insn.code.is_register(), insn.src(), insn.imm) {
        (true, src, 0) => Reg::new(src).map(Operand::Reg),
        (false, 0, imm) => Some(Operand::Imm(int(imm))),
        _ => None,
    }
}

fn jump(insn: Insn) -> Option<Text> {
    let Insn { code, off, imm, .. } = insn;
    let (dst, src) = (insn.dst(), insn.src());
    // What the instructions without operands have.
    let bare = |imm: i32| Insn::new(code, 0, 0, off, imm) == insn;
    let off = Target::Relative(off.into());
    let wide = code.class() == Class::Jmp;
    Some(match code {
        Opcode::JA if bare(0) => Stmt::Jump { cond: None, to: off },
        Opcode::JCOND if bare(0) => Stmt::MayGoto(off),
        Opcode::JA32 if bare(imm) && insn.off == 0 => Stmt::Gotol(Target::Relative(imm)),
        Opcode::EXIT if bare(0) && insn.off == 0 => Stmt::Exit,
        Opcode::CALL if dst == 0 && insn.off == 0 => Stmt::Call(match src {
            0 if imm >= 0 => Callee::Helper(Helper(imm.cast_unsigned())),
            PSEUDO_CALL => Callee::Relative(imm),
            PSEUDO_KFUNC_CALL if imm >= 0 => Callee::KfuncId(imm),
            _ => return None,
        }),
        Opcode::CALLX if src == 0 && insn.off == 0 && imm == 0 => Stmt::Call(Callee::Reg(Reg::new(dst)?)),
        _ => {
            let op = match code.op() {
                0x10 => JmpOp::Eq,
                0x20 => JmpOp::Gt,
                0x30 => JmpOp::Ge,
                0x40 => JmpOp::Set,
                0x50 => JmpOp::Ne,
                0x60 => JmpOp::Sgt,
                0x70 => JmpOp::Sge,
                0xa0 => JmpOp::Lt,
                0xb0 => JmpOp::Le,
                0xc0 => JmpOp::Slt,
                0xd0 => JmpOp::Sle,
                _ => return None,
            };
            Stmt::Jump { cond: Some(Cond { op, wide, left: Reg::new(dst)?, right: side(insn)? }), to: off }
        }
    })
}

/// `r10 - 8`
fn place(base: u8, off: i16) -> Option<Place<Infallible>> {
    let offset = Offset(vec![(off < 0, Value::Int(i128::from(off).abs()))]);
    Some(Place { base: Reg::new(base)?, offset })
}

fn packet(insn: Insn) -> Option<Text> {
    let (size, offset) = (size(insn.code), int(insn.imm));
    if insn.dst() != 0 || insn.off != 0 || size == Size::DW {
        return None;
    }
    match insn.code.mode()? {
        Mode::Abs if insn.src() == 0 => Some(Stmt::LoadAbs { size, offset }),
        Mode::Ind => Some(Stmt::LoadInd { size, index: Reg::new(insn.src())?, offset }),
        _ => None,
    }
}

fn load(insn: Insn) -> Option<Text> {
    let size = size(insn.code);
    let signed = match insn.code.mode()? {
        Mode::Mem => false,
        Mode::Memsx if size != Size::DW => true,
        _ => return None,
    };
    let (dst, from) = (written(insn.dst())?, place(insn.src(), insn.off)?);
    (insn.imm == 0).then_some(Stmt::Load { size, signed, dst, from })
}

fn store(insn: Insn) -> Option<Text> {
    let Insn { code, off, imm, .. } = insn;
    let (size, to) = (size(code), place(insn.dst(), off));
    let src = Reg::new(insn.src())?;
    match (code.class(), code.mode()?) {
        (Class::St, Mode::Mem) if src == Reg::R0 => {
            let is_sound = match size {
                Size::B => (i8::MIN.into()..=u8::MAX.into()).contains(&imm),
                Size::H => (i16::MIN.into()..=u16::MAX.into()).contains(&imm),
                Size::W | Size::DW => true,
            };
            is_sound.then_some(Stmt::Store { size, to: to?, src: Operand::Imm(int(imm)) })
        }
        (Class::Stx, Mode::Mem) if imm == 0 => Some(Stmt::Store { size, to: to?, src: Operand::Reg(src) }),
        (Class::Stx, Mode::Atomic) => atomic(insn, size, src),
        _ => None,
    }
}

fn atomic(insn: Insn, size: Size, src: Reg) -> Option<Text> {
    let to = place(insn.dst(), insn.off)?;
    let op = match insn.imm {
        0x100 => {
            return Some(Stmt::LoadAcquire { size, dst: written(insn.dst())?, from: place(insn.src(), insn.off)? });
        }
        0x110 => return Some(Stmt::StoreRelease { size, to, src }),
        0x00 => AtomicOp::Add,
        0x40 => AtomicOp::Or,
        0x50 => AtomicOp::And,
        0xa0 => AtomicOp::Xor,
        0xf1 => AtomicOp::Cmpxchg,
        // The rest give back what was there in the same register.
        _ if src == Reg::R10 => return None,
        0x01 => AtomicOp::FetchAdd,
        0x41 => AtomicOp::FetchOr,
        0x51 => AtomicOp::FetchAnd,
        0xa1 => AtomicOp::FetchXor,
        0xe1 => AtomicOp::Xchg,
        _ => return None,
    };
    matches!(size, Size::W | Size::DW).then_some(Stmt::Atomic { size, op, to, src })
}
