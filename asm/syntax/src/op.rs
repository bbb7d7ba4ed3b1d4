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
