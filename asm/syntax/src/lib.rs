//! The grammar and the vocabulary of the bpfkit assembler.
//!
//! One grammar, two token sources: the `bpf!` macro hands in the compiler's tokens, `Asm::parse` of bpfkit-asm hands in those of
//! a text. Both get the same [`Stmt`]s, so a program means the same in a Rust source and in a file.
#![forbid(unsafe_code)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod assignment;
mod ast;
mod block;
mod helper;
mod op;
mod parser;
mod print;
mod prototype;
mod raw;
mod reg;
mod statement;
mod suggest;
mod token;
mod value;
mod version;

pub use ast::{Callee, Cond, Map, Offset, Operand, Place, Reference, Stmt, Target, Value};
pub use block::{Block, Statement, parse};
pub use helper::Helper;
pub use op::{AluOp, AtomicOp, ByteOrder, JmpOp, Pseudo, Size};
pub use prototype::Doc;
pub use raw::is_name;
pub use reg::{Reg, WReg};
pub use suggest::suggest;
pub use token::{Host, Mistake, Token, TokenKind};
pub use version::{ParseVersionError, Version};
