//! What an instruction reads and writes, as far as the verifier tracks it: registers and slots of the stack.

use bpfkit_asm::{Class, Insn, Mode, Opcode};

use super::state::{Place, State};

/// What an instruction does to places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// What it writes.
    pub written: Option<Place>,
    /// Where that came from unchanged.
    pub copied: Option<Place>,
    /// Whether it changes what was there, and does not replace it.
    pub updates: bool,
    /// Whether R1 to R5 are used up by it, and R0 is written.
    pub calls: bool,
}

/// `BPF_MOV`
const MOV: u8 = 0xb0;
/// `BPF_FETCH` of an atomic operation: the source register gets what was there.
const FETCH: i32 = 1;
/// `BPF_CMPXCHG`: R0 gets it.
const CMPXCHG: i32 = 0xf1;
/// `BPF_LOAD_ACQ`: the destination register gets it, as of a load.
const LOAD_ACQ: i32 = 0x100;

/// The registers that an instruction reads. Of a call these are all that may be arguments.
pub fn reads(insn: Insn) -> Vec<u8> {
    let src = |first: u8| if insn.code.is_register() { vec![first, insn.src()] } else { vec![first] };
    match insn.code.class() {
        Class::Alu | Class::Alu64 if insn.code.op() == MOV => src(insn.dst()).split_off(1),
        Class::Alu | Class::Alu64 if insn.code.op() == 0xd0 => vec![insn.dst()],
        Class::Alu | Class::Alu64 => src(insn.dst()),
        Class::Jmp if insn.code == Opcode::CALL => vec![1, 2, 3, 4, 5],
        Class::Jmp if insn.code == Opcode::EXIT => vec![0],
        Class::Jmp | Class::Jmp32 if matches!(insn.code, Opcode::JA | Opcode::JA32 | Opcode::JCOND) => Vec::new(),
        Class::Jmp | Class::Jmp32 => src(insn.dst()),
        Class::Ldx => vec![insn.src()],
        Class::St => vec![insn.dst()],
        Class::Stx => vec![insn.dst(), insn.src()],
        Class::Ld if insn.is_wide() => Vec::new(),
        Class::Ld if insn.code.mode() == Some(Mode::Ind) => vec![6, insn.src()],
        Class::Ld => vec![6],
    }
}

/// The slot of the stack that an instruction loads from or changes in place, where its address is known.
pub fn loads(insn: Insn, before: &State) -> Option<Place> {
    match insn.code.class() {
        Class::Ldx => slot(insn.src(), insn.off, Some(before)),
        Class::Stx if insn.code.mode() == Some(Mode::Atomic) => slot(insn.dst(), insn.off, Some(before)),
        _ => None,
    }
}

/// The register or the slot of the stack that an instruction writes, where its address is known.
pub fn writes(insn: Insn, before: &State) -> Option<Place> {
    Effect::of(insn, Some(before)).written
}

impl Effect {
    const NONE: Self = Self { written: None, copied: None, updates: false, calls: false };

    /// `before` tells what addresses are of the stack, beside those that r10 gives.
    pub fn of(insn: Insn, before: Option<&State>) -> Self {
        let writes = |place| Self { written: Some(place), ..Self::NONE };
        let (dst, src) = (Place::Reg(insn.dst()), Place::Reg(insn.src()));
        match insn.code.class() {
            Class::Alu | Class::Alu64 if insn.code.op() == MOV => {
                Self { copied: insn.code.is_register().then_some(src), ..writes(dst) }
            }
            Class::Alu | Class::Alu64 => Self { updates: true, ..writes(dst) },
            Class::Jmp if insn.code == Opcode::CALL => Self { calls: true, ..writes(Place::Reg(0)) },
            Class::Ldx => Self { copied: slot(insn.src(), insn.off, before), ..writes(dst) },
            Class::St => Self { written: slot(insn.dst(), insn.off, before), ..Self::NONE },
            Class::Stx if insn.code.mode() == Some(Mode::Atomic) => match insn.imm {
                CMPXCHG => writes(Place::Reg(0)),
                LOAD_ACQ => Self { copied: slot(insn.src(), insn.off, before), ..writes(dst) },
                op if op & FETCH != 0 => writes(src),
                _ => Self { written: slot(insn.dst(), insn.off, before), updates: true, ..Self::NONE },
            },
            Class::Stx => Self { written: slot(insn.dst(), insn.off, before), copied: Some(src), ..Self::NONE },
            Class::Ld if insn.is_wide() => writes(dst),
            Class::Ld => Self { calls: true, ..writes(Place::Reg(0)) },
            Class::Jmp | Class::Jmp32 => Self::NONE,
        }
    }
}

/// The slot of the stack at a register and an offset, where the register points into the current frame.
pub(super) fn slot(base: u8, offset: i16, before: Option<&State>) -> Option<Place> {
    let base = match before.and_then(|state| state.reg(base)) {
        Some(value) => value.stack_offset().filter(|(frame, _)| frame.is_none())?.1,
        None if base == 10 => 0,
        None => return None,
    };
    let at = i32::try_from(base.checked_add(offset.into())?).ok()?;
    Some(Place::Slot(at.div_euclid(8) * 8)).filter(|_| (-512..0).contains(&at))
}
