//! What can be wrong with types.

use std::fmt;
use std::path::PathBuf;

/// Why a type or a member could not be found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The blob does not begin as BTF does.
    Magic(u16),
    /// A part of the blob lies outside of it, or ends too early.
    Truncated {
        /// Which part.
        what: &'static str,
        /// Where it would have to be, in bytes from the start.
        at: usize,
        /// How long the blob is.
        len: usize,
    },
    /// The blob has a kind of type that is not known and that its layout section does not describe.
    Kind {
        /// The number of the kind.
        kind: u8,
        /// Which type it is of.
        id: u32,
    },
    /// A type that another one refers to is not there.
    NoId(u32),
    /// A name lies outside of the string section.
    NoString {
        /// Which type has it.
        id: u32,
        /// Where the name would have to be, in bytes from the start of the section.
        offset: u32,
    },
    /// Types refer to each other in a circle, or too deeply.
    TooDeep(u32),
    /// There is no type of this name.
    NoType(String),
    /// A path has no member where one is needed.
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The ELF file has no `.BTF` section.
    NoSection,
    /// The ELF file cannot be read.
    Elf(object::Error),
    /// The file cannot be read.
    Io(PathBuf, std::io::Error),
    /// The file was read, but not understood.
    File(PathBuf, Box<Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(magic) => write!(f, "not BTF: it begins with {magic:#06x}, and BTF with 0xeb9f"),
            Self::Truncated { what, at, len } => write!(f, "truncated BTF: {what} at byte {at} of {len}"),
            Self::Kind { kind, id } => write!(f, "BTF type {id} is of kind {kind}, which is unknown and not described"),
            Self::NoId(id) => write!(f, "BTF has no type {id}"),
            Self::NoString { id, offset } => {
                write!(f, "BTF type {id} has a name at byte {offset} of the strings, which is not there")
            }
            Self::TooDeep(id) => write!(f, "BTF type {id} refers to itself or is nested too deeply"),
            Self::NoType(name) => write!(f, "BTF has no type `{name}`"),
            Self::Path { path, why } => write!(f, "no field `{path}`: {why}"),
            Self::NoSection => f.write_str("the ELF file has no .BTF section"),
            Self::Elf(_) => f.write_str("cannot read the ELF file"),
            Self::Io(path, _) | Self::File(path, _) => write!(f, "cannot read types from {}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Elf(error) => Some(error),
            Self::Io(_, error) => Some(error),
            Self::File(_, error) => Some(error),
            _ => None,
        }
    }
}
