//! What instructions work on: registers, constants, memory, labels, maps, members of structures.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bpfkit_asm_syntax::{Reg, WReg};

/// A register of either width.
pub trait Register: Copy {
    /// Whether it is a whole register of 64 bits.
    const WIDE: bool;

    /// The whole register.
    fn reg(self) -> Reg;
}

impl Register for Reg {
    const WIDE: bool = true;

    fn reg(self) -> Reg {
        self
    }
}

impl Register for WReg {
    const WIDE: bool = false;

    fn reg(self) -> Reg {
        self.into()
    }
}

/// A member of a kernel structure: `sock.__sk_common.skc_dport`.
///
/// The first word names a structure, union or typedef; `[3]` indexes arrays; alternatives for renamed members are separated
/// by `|` and the first that exists counts: `task_struct.__state|task_struct.state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldPath(Cow<'static, str>);

impl FieldPath {
    /// The path of this text. Whether there is such a member shows when the code is linked for a kernel.
    pub fn new(path: impl Into<Cow<'static, str>>) -> Self {
        Self(path.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A map by the name that it has among those the program is loaded with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapRef(Cow<'static, str>);

impl MapRef {
    /// The map of this name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for MapRef {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl From<String> for MapRef {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// A place in a program. Code that is spliced into other code may jump to that code's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u64);

impl Label {
    /// A label that no other code has.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpTo {
    /// To a label.
    Label(Label),
    /// Over this many slots, counted from the next instruction.
    Relative(i32),
}

impl From<Label> for JumpTo {
    fn from(label: Label) -> Self {
        Self::Label(label)
    }
}

impl From<&Label> for JumpTo {
    fn from(label: &Label) -> Self {
        Self::Label(*label)
    }
}

/// A constant; it is checked against the range of its place when the instruction is emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Imm {
    /// A number.
    Int(i128),
    /// The offset of a member, in bytes.
    Field(FieldPath),
    /// The size of a member, in bytes.
    SizeOf(FieldPath),
    /// The offset of a member of the program's context, in bytes.
    Ctx(Cow<'static, str>),
}

/// Numbers that always fit a constant's 128 bits, and those of which only the type does not know that.
macro_rules! numbers {
    ($($int:ty)*; $($length:ty)*) => {
        $(impl From<$int> for Imm {
            fn from(value: $int) -> Self {
                Self::Int(value.into())
            }
        })*
        $(impl From<$length> for Imm {
            fn from(value: $length) -> Self {
                // No machine has addresses of more than 127 bits.
                Self::Int(i128::try_from(value).unwrap_or(i128::MAX))
            }
        })*
        $(constants! { $int })*
        $(constants! { $length })*
    };
}

/// What becomes a constant becomes a right-hand side.
macro_rules! constants {
    ($ty:ty) => {
        impl<R> From<$ty> for Operand<R> {
            fn from(value: $ty) -> Self {
                Self::Imm(value.into())
            }
        }

        impl From<$ty> for Src {
            fn from(value: $ty) -> Self {
                Self::Imm(value.into())
            }
        }
    };
}

numbers!(bool i8 u8 i16 u16 i32 u32 i64 u64 i128; usize isize);

impl From<FieldPath> for Imm {
    fn from(path: FieldPath) -> Self {
        Self::Field(path)
    }
}

/// The right-hand side of an operation or a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand<R> {
    /// A register of the same width.
    Reg(R),
    /// A constant.
    Imm(Imm),
}

impl From<Reg> for Operand<Reg> {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<WReg> for Operand<WReg> {
    fn from(reg: WReg) -> Self {
        Self::Reg(reg)
    }
}

impl<R> From<Imm> for Operand<R> {
    fn from(imm: Imm) -> Self {
        Self::Imm(imm)
    }
}

impl<R> From<FieldPath> for Operand<R> {
    fn from(path: FieldPath) -> Self {
        Self::Imm(path.into())
    }
}

/// What a store writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Src {
    /// A register, of which as many bytes are written as the store says.
    Reg(Reg),
    /// A constant.
    Imm(Imm),
}

impl From<Reg> for Src {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<WReg> for Src {
    fn from(reg: WReg) -> Self {
        Self::Reg(reg.into())
    }
}

impl From<Imm> for Src {
    fn from(imm: Imm) -> Self {
        Self::Imm(imm)
    }
}

/// A place in memory: a register and what is added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mem {
    pub(crate) base: Reg,
    pub(crate) int: i128,
    /// The one hole that is filled when the code is linked.
    pub(crate) hole: Option<Imm>,
    /// A second hole, or one that is subtracted: no instruction can have it.
    pub(crate) excess: bool,
}

impl Mem {
    /// What the register points to.
    pub fn at(base: Reg) -> Self {
        Self { base, int: 0, hole: None, excess: false }
    }

    /// Further on. Numbers add up; there may be one offset of a member beside them.
    #[must_use]
    pub fn plus(mut self, offset: impl Into<Imm>) -> Self {
        match offset.into() {
            Imm::Int(int) => self.int = self.int.saturating_add(int),
            hole => self.excess |= self.hole.replace(hole).is_some(),
        }
        self
    }

    /// Further back, by a number.
    #[must_use]
    pub fn minus(mut self, offset: impl Into<Imm>) -> Self {
        match offset.into() {
            Imm::Int(int) => self.int = self.int.saturating_sub(int),
            _ => self.excess = true,
        }
        self
    }
}
