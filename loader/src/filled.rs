//! What a program's holes were filled with.

use std::fmt;

use bpfkit_btf::Field;

/// What a hole of an instruction was filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filled {
    /// Where a member is was added to the offset or the constant.
    Offset(Field),
    /// The size of a member was added to the constant.
    Size(Field),
    /// Where a member of the program's context is was added to the offset or the constant.
    Context {
        /// The member: `arg1`, `sp`.
        word: String,
        /// Bytes from the start of the context.
        offset: u32,
    },
}

/// `sock.__sk_common.skc_num: __u16 at 14, 2 bytes`, `ctx.arg1 at 112`
impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(field) | Self::Size(field) => {
                write!(f, "{}: {} at {}, {} bytes", field.path, field.type_name, field.offset, field.size)?;
                field.bits.map_or(Ok(()), |bits| write!(f, ", bits {} to {}", bits.offset, bits.offset + bits.size))
            }
            Self::Context { word, offset } => write!(f, "ctx.{word} at {offset}"),
        }
    }
}
