//! Finished code: instructions, the holes in them, and where each came from.

use std::borrow::Cow;
use std::fmt;

use crate::insn::{PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE};
use crate::{FieldPath, Insn, MapRef, Reference, Sources};

/// A hole in an instruction, to be filled for a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fixup {
    /// The file descriptor of a map, in `imm`.
    Map(MapRef),
    /// The same; the offset in the map's value is in the second slot already.
    MapValue(MapRef),
    /// The offset of a member, added to `off`.
    FieldOff(FieldPath),
    /// The offset of a member, added to `imm`.
    FieldImm(FieldPath),
    /// The size of a member, added to `imm`.
    FieldSize(FieldPath),
    /// The offset of a member of the program's context, added to `off`.
    CtxOff(Cow<'static, str>),
    /// The offset of a member of the program's context, added to `imm`.
    CtxImm(Cow<'static, str>),
    /// The distance to another function of the program, in `imm`.
    Call(Cow<'static, str>),
    /// The distance to another function of the program whose address is taken, in `imm`.
    Func(Cow<'static, str>),
    /// The BTF id of a function of the kernel, in `imm`.
    Kfunc(Cow<'static, str>),
    /// What an instruction of an object file refers to, in place of the source and the constants that it has.
    Reference(Reference),
}

/// One function's instructions. A pure value: equal programs are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub(crate) insns: Vec<Insn>,
    pub(crate) fixups: Vec<(usize, Fixup)>,
    pub(crate) sources: Sources,
    pub(crate) labels: Vec<(usize, String)>,
}

impl Code {
    /// The slots.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The holes by slot, in order.
    pub fn fixups(&self) -> &[(usize, Fixup)] {
        &self.fixups
    }

    /// The same code, whose instructions keep what they have in place of what they refer to.
    #[must_use]
    pub fn without_references(mut self) -> Self {
        self.fixups.retain(|(_, fixup)| !matches!(fixup, Fixup::Reference(_)));
        self
    }

    /// The same code, whose instructions have the form and the hole of what they refer to.
    pub fn resolved(&self) -> Cow<'_, Self> {
        let mut code = Cow::Borrowed(self);
        for (at, (slot, fixup)) in self.fixups.iter().enumerate() {
            let (Fixup::Reference(reference), Some(&insn)) = (fixup, self.insns.get(*slot)) else { continue };
            let name = |name: &String| Cow::Owned(name.clone());
            let (src, upper, hole) = match reference {
                Reference::Map(map) => (PSEUDO_MAP_FD, 0, Fixup::Map(MapRef::new(map.clone()))),
                Reference::MapValue(map, offset) => {
                    (PSEUDO_MAP_VALUE, *offset, Fixup::MapValue(MapRef::new(map.clone())))
                }
                Reference::Func(func) if insn.is_wide() => (PSEUDO_FUNC, 0, Fixup::Func(name(func))),
                Reference::Func(func) => (PSEUDO_CALL, 0, Fixup::Call(name(func))),
                Reference::Kfunc(func) => (PSEUDO_KFUNC_CALL, 0, Fixup::Kfunc(name(func))),
            };
            let code = code.to_mut();
            code.insns[*slot] = Insn::new(insn.code, insn.dst(), src, 0, 0);
            if insn.is_wide()
                && let Some(second) = code.insns.get_mut(slot + 1)
            {
                second.imm = upper.cast_signed();
            }
            code.fixups[at].1 = hole;
        }
        code
    }

    /// Where each slot came from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The labels by slot, in order.
    pub fn labels(&self) -> &[(usize, String)] {
        &self.labels
    }
}

/// A listing in the kernel's notation, a line an instruction, holes unfilled.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::list(&self.insns, &()).try_for_each(|line| writeln!(f, "{}: {line}", line.slot))
    }
}
