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
    /// The types are a module's, which come after those of its kernel.
    NoBase,
    /// The ELF file has no `.BTF` section.
    NoSection,
    /// A file is larger than types are.
    TooLarge,
    /// A section of an ELF file claims so many bytes, more than types have.
    SectionTooLarge(u64),
    /// An archive of types cannot be read or written; the text tells why.
    Archive(&'static str),
    /// An archive has so many kernels, and none that was asked for.
    NoRelease(usize),
    /// An ELF file has neither BTF nor debugging information that can be read.
    Neither(Box<Error>, Box<Error>),
    /// The ELF file has no `.debug_info` section, or one without types.
    NoDwarf,
    /// The ELF file is an object that is not linked yet: the numbers in its DWARF are to be filled in by the linker.
    Relocatable,
    /// The ELF file is for a machine of 32 bits, whose pointers are not those that BTF is read with here.
    Narrow,
    /// The DWARF refers to another file, in which `dwz` has collected what several have in common.
    Supplementary,
    /// The DWARF is split (`-gsplit-dwarf`): the file only says which others have the types.
    Split,
    /// The DWARF of version 4 has its types in a section of their own, `.debug_types` (`-fdebug-types-section`).
    TypesSection,
    /// A part of the DWARF cannot be read.
    Dwarf {
        /// What was being read.
        what: &'static str,
        /// What gimli says.
        error: gimli::Error,
    },
    /// The DWARF can be read, but what it says cannot be; the text tells what there is.
    Malformed(&'static str),
    /// A compressed section says that it is larger than any that was compressed can be.
    Inflation {
        /// The name of the section.
        section: String,
        /// How large it says it is, in bytes.
        size: u64,
    },
    /// The ELF file cannot be read.
    Elf(object::Error),
    /// The file cannot be read.
    Io(PathBuf, std::io::Error),
    /// The file was read, but not understood.
    File(PathBuf, Box<Error>),
}

impl Error {
    pub(crate) fn dwarf(what: &'static str, error: gimli::Error) -> Self {
        Self::Dwarf { what, error }
    }
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
            Self::NoBase => f.write_str("the types come after others, as a module's do, and need those as their base"),
            Self::TooLarge => f.write_str("it is larger than types are"),
            Self::SectionTooLarge(size) => {
                write!(f, "the ELF file has a .BTF section of {size} bytes, more than types have")
            }
            Self::NoSection => f.write_str("the ELF file has no .BTF section"),
            Self::Archive(why) => write!(f, "not an archive of types: {why}"),
            Self::NoRelease(count) => write!(f, "none of the {count} releases in the archive is this one"),
            // The first has no cause where it only says that there is no such section.
            Self::Neither(btf, dwarf) => match std::error::Error::source(btf) {
                Some(cause) => write!(f, "{btf}: {cause}; {dwarf}"),
                None => write!(f, "{btf}; {dwarf}"),
            },
            Self::NoDwarf => f.write_str("the ELF file has no types in a .debug_info section"),
            Self::Relocatable => f.write_str(
                "the ELF file is an object that is not linked yet: link it, or take the vmlinux it is a part of",
            ),
            Self::Narrow => f.write_str("the ELF file is for a machine of 32 bits, and types are read for 64"),
            Self::Supplementary => f.write_str("the DWARF refers to another file (dwz -m), which is not read"),
            Self::Split => f.write_str(
                "the DWARF is split (-gsplit-dwarf), and its types are in .dwo files or a .dwp file, which are not read: build with \
                 CONFIG_DEBUG_INFO_SPLIT off",
            ),
            Self::TypesSection => f.write_str(
                "the DWARF has types in a section .debug_types (-fdebug-types-section with DWARF 4), which is not read; DWARF 5 has none",
            ),
            Self::Dwarf { what, .. } => write!(f, "broken DWARF: cannot read {what}"),
            Self::Malformed(what) => write!(f, "broken DWARF: there are {what}"),
            Self::Inflation { section, size } => {
                write!(f, "section {section} claims to be {size} bytes when inflated, more than it can be")
            }
            Self::Elf(_) => f.write_str("cannot read the ELF file"),
            Self::Io(path, _) | Self::File(path, _) => write!(f, "cannot read types from {}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Elf(error) => Some(error),
            Self::Neither(_, error) => error.source(),
            Self::Dwarf { error, .. } => Some(error),
            Self::Io(_, error) => Some(error),
            Self::File(_, error) => Some(error),
            _ => None,
        }
    }
}
