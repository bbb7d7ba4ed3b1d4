//! What a register is made ready for: the argument of a call that comes after it.

use std::fmt;

use bpfkit_asm::{Class, Helper, Insn, Mode, Opcode};

use super::Explainer;
use super::step::Step;

/// The argument of a helper for which a register is made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose {
    helper: Helper,
    param: &'static str,
    /// Whether the helper reads what the argument points to.
    pub reads: bool,
}

impl Purpose {
    /// What the bits of a constant are called there.
    pub fn constant(&self, insn: Insn) -> Option<&'static str> {
        if insn.code.is_register() || insn.code.op() != 0xb0 || self.param != "flags" {
            return None;
        }
        match (self.helper, insn.imm) {
            (Helper::MAP_UPDATE_ELEM, 0) => Some("BPF_ANY"),
            (Helper::MAP_UPDATE_ELEM, 1) => Some("BPF_NOEXIST"),
            (Helper::MAP_UPDATE_ELEM, 2) => Some("BPF_EXIST"),
            // With the upper 32 bits clear.
            (Helper::PERF_EVENT_OUTPUT, -1) if insn.code.class() == Class::Alu => Some("BPF_F_CURRENT_CPU"),
            _ => None,
        }
    }
}

/// `` `key` for bpf_map_lookup_elem ``
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` for {}", self.param, self.helper.name().unwrap_or("a helper"))
    }
}

/// For each row that gives r1 to r5 what a helper's argument is going to be: which argument of which helper.
pub fn purposes(explainer: &Explainer<'_>) -> Vec<Option<Purpose>> {
    let mut purposes = vec![None; explainer.slots.len()];
    // What each register is going to be used for, seen from the end of a piece without jumps.
    let mut wanted: [Option<Purpose>; 6] = Default::default();
    let mut is_target = vec![false; purposes.len()];
    for index in 0..purposes.len() {
        let to = explainer.row(index).and_then(|row| row.to).and_then(|to| explainer.index_at(to));
        if let Some(is_target) = to.and_then(|to| is_target.get_mut(to)) {
            *is_target = true;
        }
    }
    for (index, purpose) in purposes.iter_mut().enumerate().rev() {
        let Some(row) = explainer.row(index) else { continue };
        let is_jump = matches!(row.insn.code.class(), Class::Jmp | Class::Jmp32);
        if is_jump {
            wanted = Default::default();
        }
        if let Some(helper) = row.helper.filter(|_| row.insn.code == Opcode::CALL)
            && let Some(doc) = helper.doc()
        {
            for (want, param) in wanted.iter_mut().skip(1).zip(doc.params().filter(|param| *param != "...")) {
                let reads = param.starts_with("const ") || param.ends_with("*data");
                let param = param.rsplit([' ', '*']).next().unwrap_or(param);
                *want = Some(Purpose { helper, param, reads });
            }
        }
        if let Some(want) = written(&row).and_then(|reg| wanted.get_mut(usize::from(reg))) {
            *purpose = want.take();
        }
        // Who comes from elsewhere has made the registers ready there.
        if is_target.get(index).is_some_and(|&is_target| is_target) {
            wanted = Default::default();
        }
    }
    purposes
}

/// The register to which an instruction other than a call writes.
fn written(row: &Step<'_>) -> Option<u8> {
    let insn = row.insn;
    match insn.code.class() {
        Class::Alu | Class::Alu64 | Class::Ldx => Some(insn.dst()),
        Class::Ld if insn.is_wide() => Some(insn.dst()),
        Class::Stx if insn.code.mode() == Some(Mode::Atomic) && insn.imm == 0x100 => Some(insn.dst()),
        Class::Stx if insn.code.mode() == Some(Mode::Atomic) && insn.imm & 1 != 0 => Some(insn.src()),
        _ => None,
    }
}
