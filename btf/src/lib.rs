//! BTF, the type format of BPF: a lazy parser, field paths, a writer and a cutter.
//!
//! The kernel's own types are at /sys/kernel/btf/vmlinux, those of its modules beside it (split BTF). Opening a blob makes one
//! pass that notes where each type begins; types are decoded when they are asked for. Documentation/bpf/btf.rst in the kernel's
//! tree describes the format.
//!
//! ```
//! use bpfkit_btf::{Btf, Builder};
//!
//! let mut types = Builder::new();
//! let short = types.int("short", 2, true);
//! types.strukt("point", 4, &[("x", short, 0), ("y", short, 2)]);
//! let btf = Btf::parse(types.finish())?;
//! let field = btf.field("point.y")?;
//! assert_eq!((field.offset, field.size), (2, 2));
//! # Ok::<(), bpfkit_btf::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod archive;
mod blob;
mod build_id;
mod c;
mod cut;
mod dwarf;
mod error;
mod ext;
mod field;
mod file;
mod flat;
mod index;
mod input;
mod raw;
mod source;
mod spell;
mod types;
mod write;

pub use archive::Archive;
pub use blob::Btf;
pub use build_id::{build_id, digits as build_id_digits};
pub use c::Header;
pub use cut::cut;
pub use error::Error;
pub use ext::{BtfExt, FuncInfo, LineInfo};
pub use field::{BitField, Field};
pub use file::{Form, open_regular};
pub use flat::FlatMember;
pub use source::Source;
pub use types::{Kind, Member, Param, Type, TypeId};
pub use write::Builder;
