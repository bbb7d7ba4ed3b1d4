//! The rules of a kernel that can be told without it.

use std::fmt;

use bpfkit_asm::{Class, Insn, Mode, Opcode, Source, list};

use crate::feature::Feature;
use crate::linked::Linked;
use crate::target::Target;

/// A rule that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The program.
    pub program: String,
    /// The slot.
    pub slot: usize,
    /// The instruction, in the kernel's notation.
    pub insn: String,
    /// Where it was written.
    pub source: Option<Source>,
    /// The rule.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, slot, insn, rule, .. } = self;
        write!(f, "program `{program}`, instruction {slot}, {insn}: {rule}")?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, " at {source}"))
    }
}

/// BPF_MAXINSNS of kernels before 5.2.
const MOST_INSNS: usize = 4096;
/// MAX_BPF_STACK, of each function.
const STACK: i16 = 512;

pub(crate) fn check(linked: &Linked, target: &Target) -> Result<(), Box<Violation>> {
    let insns = linked.insns();
    let violation = |slot: usize, rule: String| {
        let insn = list(insns, linked).find(|listed| listed.slot == slot);
        Box::new(Violation {
            program: linked.spec().name.clone(),
            slot,
            insn: insn.map_or(String::new(), |insn| insn.to_string()),
            source: linked.sources().get(slot).cloned().flatten(),
            rule,
        })
    };
    if insns.len() > MOST_INSNS && !target.has(Feature::LargePrograms) {
        let rule = format!("{} instructions are more than the {MOST_INSNS} before Linux 5.2", insns.len());
        return Err(violation(MOST_INSNS, rule));
    }
    for listed in list(insns, linked) {
        let (slot, insn) = (listed.slot, listed.insn);
        if let Some(feature) = needs(insn)
            && !target.has(feature)
        {
            return Err(violation(slot, format!("{feature} need Linux {}", feature.since())));
        }
        if let Some(helper) = insn.helper()
            && helper.since().is_none_or(|since| since > target.version())
            && !(helper == bpfkit_asm::Helper::PROBE_READ_KERNEL && target.has(Feature::ProbeReadKernel))
        {
            let since = helper.since().map_or("a newer Linux".to_owned(), |since| format!("Linux {since}"));
            return Err(violation(slot, format!("{helper} needs {since}")));
        }
        if insn.jump().is_some_and(|distance| distance < 0) && !target.has(Feature::BoundedLoops) {
            return Err(violation(slot, format!("bounded loops need Linux {}", Feature::BoundedLoops.since())));
        }
        let base = match insn.code.class() {
            Class::Ldx => insn.src(),
            Class::St | Class::Stx => insn.dst(),
            _ => continue,
        };
        if base == 10 && !(-STACK..0).contains(&insn.off) {
            return Err(violation(slot, format!("{} is not within the {STACK} bytes of stack", insn.off)));
        }
    }
    match unreachable(insns, linked.funcs().iter().map(|&(start, _)| start)) {
        Some(slot) => Err(violation(slot, "it is never reached, which the verifier refuses".to_owned())),
        None => Ok(()),
    }
}

/// What an instruction form needs.
fn needs(insn: Insn) -> Option<Feature> {
    let code = insn.code;
    match code.class() {
        Class::Jmp32 if code == Opcode::JA32 => Some(Feature::IsaV4),
        Class::Jmp32 => Some(Feature::Jmp32),
        Class::Jmp if code == Opcode::JCOND => Some(Feature::MayGoto),
        Class::Jmp if code == Opcode::CALL && insn.src() == 2 => Some(Feature::Kfunc),
        Class::Ldx if code.mode() == Some(Mode::Memsx) => Some(Feature::IsaV4),
        Class::Stx if code.mode() == Some(Mode::Atomic) => match insn.imm {
            0 => None,
            0x100 | 0x110 => Some(Feature::LoadAcquire),
            _ => Some(Feature::AtomicFetch),
        },
        Class::Alu64 if code.op() == 0xd0 => Some(Feature::IsaV4),
        // Signed division and sign-extending moves are told by their offset.
        Class::Alu | Class::Alu64 if insn.off != 0 => Some(Feature::IsaV4),
        Class::Ld if insn.is_func_address() => Some(Feature::FuncPointer),
        Class::Ld if insn.is_map() && insn.src() == 2 => Some(Feature::MapValue),
        _ => None,
    }
}

/// The first slot that no path leads to.
fn unreachable(insns: &[Insn], starts: impl Iterator<Item = usize>) -> Option<usize> {
    let mut reached = vec![false; insns.len()];
    let mut todo: Vec<usize> = starts.collect();
    while let Some(slot) = todo.pop() {
        let Some(&insn) = insns.get(slot) else { continue };
        if std::mem::replace(&mut reached[slot], true) {
            continue;
        }
        let next = slot + 1 + usize::from(insn.is_wide());
        if insn.is_wide() && next <= reached.len() {
            reached[slot + 1] = true;
        }
        let falls_through = !matches!(insn.code, Opcode::EXIT | Opcode::JA | Opcode::JA32);
        todo.extend(falls_through.then_some(next));
        let target = insn.jump().and_then(|distance| next.checked_add_signed(isize::try_from(distance).ok()?));
        todo.extend(target);
    }
    reached.iter().position(|reached| !reached)
}
