//! The operations, in the kernel's names.

/// How wide a memory access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// `u8`
    B,
    /// `u16`
    H,
    /// `u32`
    W,
    /// `u64`
    DW,
}

impl Size {
    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::DW => 8,
        }
    }
}

/// An arithmetic operation that has a register or an immediate on its right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AluOp {
    /// `+=`
    Add,
    /// `-=`
    Sub,
    /// `*=`
    Mul,
    /// `/=`, unsigned
    Div,
    /// `s/=`, signed (ISA v4, Linux 6.6)
    Sdiv,
    /// `%=`, unsigned
    Mod,
    /// `s%=`, signed (ISA v4, Linux 6.6)
    Smod,
    /// `|=`
    Or,
    /// `&=`
    And,
    /// `^=`
    Xor,
    /// `<<=`
    Lsh,
    /// `>>=`
    Rsh,
    /// `s>>=`
    Arsh,
    /// `=`
    Mov,
}

impl AluOp {
    /// Every operation with the word that the kernel's listing has for it.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Add, "+="),
        (Self::Sub, "-="),
        (Self::Mul, "*="),
        (Self::Div, "/="),
        (Self::Sdiv, "s/="),
        (Self::Mod, "%="),
        (Self::Smod, "s%="),
        (Self::Or, "|="),
        (Self::And, "&="),
        (Self::Xor, "^="),
        (Self::Lsh, "<<="),
        (Self::Rsh, ">>="),
        (Self::Arsh, "s>>="),
        (Self::Mov, "="),
    ];
}

/// A comparison that a conditional jump makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JmpOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `>`, unsigned
    Gt,
    /// `>=`, unsigned
    Ge,
    /// `<`, unsigned
    Lt,
    /// `<=`, unsigned
    Le,
    /// `s>`
    Sgt,
    /// `s>=`
    Sge,
    /// `s<`
    Slt,
    /// `s<=`
    Sle,
    /// `&`: any common bit
    Set,
}

impl JmpOp {
    /// Every comparison with the word that the kernel's listing has for it.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Eq, "=="),
        (Self::Ne, "!="),
        (Self::Gt, ">"),
        (Self::Ge, ">="),
        (Self::Lt, "<"),
        (Self::Le, "<="),
        (Self::Sgt, "s>"),
        (Self::Sge, "s>="),
        (Self::Slt, "s<"),
        (Self::Sle, "s<="),
        (Self::Set, "&"),
    ];
}

/// A read-modify-write of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// `lock *(u64 *)(r1 + 0) += r2`
    Add,
    /// `lock *(u64 *)(r1 + 0) |= r2` (Linux 5.12)
    Or,
    /// `lock *(u64 *)(r1 + 0) &= r2` (Linux 5.12)
    And,
    /// `lock *(u64 *)(r1 + 0) ^= r2` (Linux 5.12)
    Xor,
    /// `r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2)` (Linux 5.12)
    FetchAdd,
    /// `r2 = atomic64_fetch_or((u64 *)(r1 + 0), r2)` (Linux 5.12)
    FetchOr,
    /// `r2 = atomic64_fetch_and((u64 *)(r1 + 0), r2)` (Linux 5.12)
    FetchAnd,
    /// `r2 = atomic64_fetch_xor((u64 *)(r1 + 0), r2)` (Linux 5.12)
    FetchXor,
    /// `r2 = atomic64_xchg((u64 *)(r1 + 0), r2)` (Linux 5.12)
    Xchg,
    /// `r0 = atomic64_cmpxchg((u64 *)(r1 + 0), r0, r2)` (Linux 5.12)
    Cmpxchg,
}

/// A byte order, or the reversal of the bytes whatever the machine's order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// `r1 = le16 r1`
    Le,
    /// `r1 = be16 r1`
    Be,
    /// `r1 = bswap16 r1` (ISA v4, Linux 6.6)
    Swap,
}

/// What the constant of a load of 64 bits stands for, by the number that the instruction has as its source: `BPF_PSEUDO_*` of
/// include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Pseudo {
    /// The file descriptor of a map.
    MapFd = 1,
    /// The same, for the address of a map's value.
    MapValue = 2,
    /// A variable of the kernel, by its number in the kernel's types (Linux 5.10).
    BtfId = 3,
    /// The distance to a function of the program (Linux 5.13).
    Func = 4,
    /// The index of a map among the descriptors that the program is loaded with (Linux 5.14).
    MapIndex = 5,
    /// The same, for the address of a map's value.
    MapIndexValue = 6,
}

impl Pseudo {
    /// Every meaning, by number from 1.
    pub const ALL: [Self; 6] =
        [Self::MapFd, Self::MapValue, Self::BtfId, Self::Func, Self::MapIndex, Self::MapIndexValue];

    /// The number.
    pub const fn n(self) -> u8 {
        self as u8
    }

    /// The meaning of this number, if it has one.
    pub fn new(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n).checked_sub(1)?).copied()
    }

    /// Whether the second half of the constant is an offset in the value of a map.
    pub const fn has_offset(self) -> bool {
        matches!(self, Self::MapValue | Self::MapIndexValue)
    }
}
