//! The instructions of a program one after the other, as far as a walk looks at them.

use std::borrow::Cow;

use bpfkit_asm::{Helper, Insn, listed};
use bpfkit_loader::{Filled, Linked};

use crate::dump::listing::Row;

/// Where instructions come from. A program that was made needs no rows for that, of which it may have a million.
#[derive(Clone, Copy)]
pub enum Steps<'a> {
    /// A program that was made for a kernel.
    Made(&'a Linked),
    /// Rows that are there.
    Kept(&'a [Row]),
}

/// An instruction of a program.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The number of its first slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    /// Its second slot, where it has one.
    pub second: Option<Insn>,
    /// The slot to which it jumps, or of the function that it calls or takes the address of.
    pub to: Option<usize>,
    /// The helper that it calls.
    pub helper: Option<Helper>,
    more: More<'a>,
}

/// Where the rest of it is, which is seldom looked at.
#[derive(Clone, Copy)]
enum More<'a> {
    Made(&'a Linked),
    Kept(&'a Row),
}

impl<'a> Steps<'a> {
    /// The first slot of each instruction.
    pub fn slots(self) -> Vec<usize> {
        match self {
            Self::Made(program) => bpfkit_asm::list(program.insns(), &()).map(|listed| listed.slot).collect(),
            Self::Kept(rows) => rows.iter().map(|row| row.slot).collect(),
        }
    }

    /// The instruction that has this number and begins at this slot.
    pub fn get(self, index: usize, slot: usize) -> Option<Step<'a>> {
        match self {
            Self::Made(program) => {
                let insn = *program.insns().get(slot)?;
                Some(Step {
                    slot,
                    insn,
                    second: program.insns().get(slot + 1).filter(|_| insn.is_wide()).copied(),
                    to: insn.destination(slot),
                    helper: insn.helper(),
                    more: More::Made(program),
                })
            }
            Self::Kept(rows) => {
                let row = rows.get(index)?;
                let &Row { slot, insn, second, to, helper, .. } = row;
                Some(Step { slot, insn, second, to, helper, more: More::Kept(row) })
            }
        }
    }
}

impl<'a> Step<'a> {
    /// What it does, as the kernel prints it.
    pub fn text(&self) -> Cow<'a, str> {
        match self.more {
            More::Made(program) => listed(program.insns(), self.slot, program)
                .map_or(Cow::Borrowed(""), |listed| listed.to_string().into()),
            More::Kept(row) => row.text.as_str().into(),
        }
    }

    /// The statement of its source.
    pub fn source(&self) -> Option<&'a str> {
        match self.more {
            More::Made(program) => program.sources().get(self.slot).map(|source| source.text),
            More::Kept(row) => row.source.as_ref().map(|source| &*source.text),
        }
    }

    /// The labels in front of it.
    pub fn labels(&self) -> Vec<&'a str> {
        match self.more {
            More::Made(program) => program.labels_at(self.slot).collect(),
            More::Kept(row) => row.labels.iter().map(String::as_str).collect(),
        }
    }

    /// The map whose address it loads.
    pub fn map(&self) -> Option<&'a str> {
        match self.more {
            More::Made(program) => program.maps().get(&self.slot).map(String::as_str),
            More::Kept(row) => row.map.as_deref(),
        }
    }

    /// What filled its hole.
    pub fn filled(&self) -> Option<&'a Filled> {
        match self.more {
            More::Made(program) => program.filled().get(&self.slot),
            More::Kept(row) => row.filled.as_ref(),
        }
    }
}
