//! What can go wrong between a program and a kernel.

use std::fmt;
use std::io;

use crate::check::Violation;
use crate::feature::Feature;
use crate::privilege::Other;
use crate::verifier::Rejection;

/// What was tried, and why it failed.
pub type Tried = Vec<(String, String)>;

/// Why something could not be made, loaded, attached or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A system call or a file failed. The text says what was done, and to what.
    Io {
        /// What was done.
        what: String,
        /// What to do about it, where that is known.
        hint: Option<String>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The code of a program is wrong.
    Asm(bpfkit_asm::Error),
    /// A type or member is not to be found.
    Btf(bpfkit_btf::Error),
    /// There are no kernel types; each place was looked at.
    NoBtf(Tried),
    /// The file of types that was given is not of the running kernel, which has a member elsewhere by its own types.
    OtherKernel {
        /// The file.
        file: String,
        /// The member.
        path: String,
        /// Where the file has it, in bytes from the start of the structure.
        there: u32,
        /// Where the kernel has it.
        here: u32,
    },
    /// A program uses what it was not given.
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// In which program.
        program: String,
    },
    /// A number that the kernel's types give does not fit an instruction.
    TooFar {
        /// What it is the offset of.
        what: String,
        /// The number.
        value: i64,
    },
    /// The verifier refused a program.
    Rejected(Box<Rejection>),
    /// A program breaks a rule of the kernel it is for.
    Violation(Box<Violation>),
    /// The kernel lacks something.
    Missing {
        /// What.
        feature: Feature,
        /// How that is known.
        why: String,
    },
    /// A function is not there to be probed.
    NoSymbol {
        /// Its name.
        symbol: String,
        /// Copies that the compiler made of it or of parts of it, such as `name.isra.0`.
        variants: Vec<String>,
    },
    /// There is no program of this number, or not any more.
    Gone(u32),
    /// No way of attaching worked.
    Attach {
        /// What was to be attached, and to what.
        what: String,
        /// What was tried.
        tried: Tried,
    },
    /// A file is not the program or library that it should be.
    NotElf {
        /// The file.
        path: String,
        /// What it is instead.
        why: String,
    },
    /// A probe that a program's author put there, or its argument, cannot be had.
    Usdt {
        /// What was done, and to what.
        what: String,
        /// Why it cannot be.
        why: String,
    },
    /// Programs cannot be written as an object; the text says why.
    Object(String),
    /// A file of the kernel does not read as it should.
    Format {
        /// The file.
        path: String,
        /// What was found there.
        found: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), hint: None, source }
    }

    /// As [`Error::io`], with what may be missing where the kernel refused for want of privilege.
    pub(crate) fn privileged(what: impl Into<String>, source: io::Error) -> Self {
        let refused = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        Self::Io { what: what.into(), hint: refused.then(crate::privilege::hint).flatten(), source }
    }

    /// As [`Error::privileged`], of what takes another capability than BPF does.
    pub(crate) fn lacking(other: Other, what: impl Into<String>, source: io::Error) -> Self {
        let refused = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        let hint = if refused { crate::privilege::other_hint(other) } else { None };
        Self::Io { what: what.into(), hint, source }
    }

    /// Whether it is for want of privilege, so that nothing else would work either.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Io { source, hint: Some(_), .. } => {
                matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) && crate::privilege::is_final()
            }
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, hint: None, .. } => f.write_str(what),
            Self::Io { what, hint: Some(hint), .. } => write!(f, "{what} ({hint})"),
            Self::Asm(_) => f.write_str("cannot assemble the program"),
            Self::Btf(_) => f.write_str("cannot find what the program needs in the kernel's types"),
            // The file that was asked for is the only place.
            Self::NoBtf(tried) if matches!(&tried[..], [(place, _)] if place == "--btf") => {
                write!(f, "the kernel's types were not found by --btf: {}", tried[0].1)
            }
            Self::NoBtf(tried) => {
                f.write_str("the kernel's types were not found; --btf FILE names a file that has them")?;
                tried.iter().try_for_each(|(place, why)| write!(f, "\n  {place}: {why}"))
            }
            Self::OtherKernel { file, path, there, here } => write!(
                f,
                "{file} has the types of another kernel: {path} is at {there} there, and at {here} in this kernel's own"
            ),
            Self::Unknown { what, name, program } => {
                write!(f, "program `{program}` uses {what} `{name}`, which it was not given")
            }
            Self::TooFar { what, value } => write!(f, "the offset of {what} is {value}, which fits no instruction"),
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Violation(violation) => violation.fmt(f),
            Self::Missing { feature, why } => {
                write!(f, "the kernel lacks {feature}, which came with Linux {}: {why}", feature.since())
            }
            Self::NoSymbol { symbol, variants } => {
                write!(f, "the kernel has no function `{symbol}` in /proc/kallsyms")?;
                if variants.is_empty() { Ok(()) } else { write!(f, "; the compiler left {}", variants.join(", ")) }
            }
            Self::Gone(id) => write!(f, "program {id} is gone, or never was"),
            Self::Attach { what, tried } => {
                write!(f, "cannot attach {what}")?;
                tried.iter().try_for_each(|(how, why)| write!(f, "; {how}: {why}"))
            }
            Self::NotElf { path, why } => write!(f, "cannot find functions in {path}: {why}"),
            Self::Usdt { what, why } => write!(f, "{what}: {why}"),
            Self::Object(why) => write!(f, "cannot make an object: {why}"),
            Self::Format { path, found } => write!(f, "{path} is not as it should be: found {found:?}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Asm(error) => Some(error),
            Self::Btf(error) => Some(error),
            _ => None,
        }
    }
}

impl From<bpfkit_asm::Error> for Error {
    fn from(error: bpfkit_asm::Error) -> Self {
        Self::Asm(error)
    }
}

impl From<bpfkit_btf::Error> for Error {
    fn from(error: bpfkit_btf::Error) -> Self {
        Self::Btf(error)
    }
}

/// An error and its causes in one line, for a list of what was tried.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
