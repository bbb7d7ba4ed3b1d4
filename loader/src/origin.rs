//! Where the numbers in programs came from: what `-v` tells.

use std::fmt;

use crate::ctx::Arch;

/// Where an offset or a size in a program came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The kernel's types.
    Types,
    /// Structures that the kernel made of what was known beforehand; there were no types.
    Trying,
    /// Tracefs' description of a tracepoint's record.
    Tracefs,
    /// `struct pt_regs`, which is the same in all kernels for a machine.
    Registers(Arch),
    /// What is the same in every kernel.
    Fixed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Types => f.write_str("the kernel's types"),
            Self::Trying => f.write_str("looking into structures of known content"),
            Self::Tracefs => f.write_str("the formats in tracefs"),
            Self::Registers(arch) => write!(f, "struct pt_regs of {}", arch.name()),
            Self::Fixed => f.write_str("what is the same in every kernel"),
        }
    }
}

/// A number in a program: what it stands for and what it is, `sock.__sk_common.skc_dport 12`, and where it came from.
pub type Found = (Origin, String);
