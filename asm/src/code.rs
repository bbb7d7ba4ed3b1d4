//! Finished code: instructions, the holes in them, and where each came from.

use std::borrow::Cow;
use std::fmt;

use crate::{FieldPath, Insn, MapRef};

/// Where an instruction was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The file, as the compiler names it.
    pub file: Cow<'static, str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The statement.
    pub text: Cow<'static, str>,
}

impl Source {
    /// A place in a source that the compiler has read.
    pub const fn at(file: &'static str, line: u32, column: u32, text: &'static str) -> Self {
        Self { file: Cow::Borrowed(file), line, column, text: Cow::Borrowed(text) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: `{}`", self.file, self.line, self.column, self.text)
    }
}

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
}

/// One function's instructions. A pure value: equal programs are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub(crate) insns: Vec<Insn>,
    pub(crate) fixups: Vec<(usize, Fixup)>,
    pub(crate) sources: Vec<Option<Source>>,
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

    /// Where each slot came from.
    pub fn sources(&self) -> &[Option<Source>] {
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
