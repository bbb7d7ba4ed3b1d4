//! A macro assembler for eBPF: instructions as values.
//!
//! A program is written as the kernel prints it, one statement an instruction, and becomes an [`Asm`], then [`Code`]. Nothing
//! here does I/O or knows a kernel: what only a kernel can tell, such as where a member of a structure is, stays a [`Fixup`].
//!
//! ```
//! use bpfkit_asm::bpf;
//!
//! let code = bpf! {
//!     r6 = *(u64 *)(r1 + ctx.arg1);           // struct sock *sk
//!     call bpf_get_current_pid_tgid;
//!     if r0 == 0 goto out;
//!     r6 += sock.__sk_common.skc_dport;       // the offset is filled in for each kernel
//! out:
//!     r0 = 0;
//!     exit;
//! }
//! .finish()?;
//! assert_eq!(code.insns().len(), 6);
//! assert_eq!(code.insns()[2].to_string(), "(15) if r0 == 0x0 goto pc+1");
//! # Ok::<(), bpfkit_asm::Error>(())
//! ```
//!
//! Documentation/bpf/standardization/instruction-set.rst in the kernel's tree describes the instructions, kernel/bpf/disasm.c has the
//! notation of listings.
#![forbid(unsafe_code)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

extern crate self as bpfkit_asm;

mod asm;
mod code;
mod decode;
mod disasm;
mod error;
mod insn;
mod operand;
mod source;
mod text;

pub use asm::Asm;
pub use bpfkit_asm_macros::bpf;
pub use bpfkit_asm_syntax::{
    AluOp, AtomicOp, ByteOrder, Doc, Helper, JmpOp, ParseVersionError, Pseudo, Reference, Reg, Size, Version, WReg,
    is_name, suggest,
};
pub use code::{Code, Fixup};
pub use decode::{Statement, statements, text};
pub use disasm::{Listed, Names, list, listed};
pub use error::Error;
pub use insn::{Class, Insn, Mode, Opcode};
pub use operand::{FieldPath, Imm, JumpTo, Label, MapRef, Mem, Operand, Register, Src};
pub use source::{Source, SourceRef, Sources};
pub use text::ParseError;
