//! What can go wrong in a tool.

use std::{fmt, io};

/// Why a tool ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be made.
    Asm(bpfkit_asm::Error),
    /// The kernel, or what is known of it, stood in the way.
    Loader(bpfkit_loader::Error),
    /// A file with types could not be read.
    Btf(bpfkit_btf::Error),
    /// What the user asked for cannot be had; the text says what and why.
    Request(String),
    /// No way to attach was left; each was tried for the reason beside it.
    NoProbe(Vec<(String, Box<Error>)>),
    /// No C library was found that could be probed; each place was looked at.
    NoLibc(Vec<(String, String)>),
    /// A program of ours sent a record of so many bytes, which none has.
    Record(usize),
    /// Another error, and what it was about.
    About(String, Box<Error>),
    /// A file or descriptor could not be used.
    Io(String, io::Error),
    /// Output could not be written.
    Output(io::Error),
    /// The reader of the output has gone. It has what it wanted, so this counts as success.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asm(_) => f.write_str("cannot assemble the program"),
            Self::Loader(error) => error.fmt(f),
            // It says itself which file it is about, where there is one.
            Self::Btf(error @ (bpfkit_btf::Error::Io(..) | bpfkit_btf::Error::File(..))) => error.fmt(f),
            Self::Btf(_) => f.write_str("cannot read the types"),
            Self::Request(text) => f.write_str(text),
            Self::Record(bytes) => write!(f, "a program of ours sent a record of {bytes} bytes, which none has"),
            Self::NoLibc(places) => {
                f.write_str("no C library to probe was found; -l PATH names one")?;
                places.iter().try_for_each(|(place, why)| write!(f, "\n  {place}: {why}"))
            }
            Self::NoProbe(tried) => {
                f.write_str("no probe could be attached; `bpfkit features` shows what this kernel has")?;
                tried.iter().try_for_each(|(probe, error)| write!(f, "\n  {probe}: {}", Chain(error)))
            }
            Self::Io(what, _) | Self::About(what, _) => f.write_str(what),
            Self::Output(_) => f.write_str("cannot write to standard output"),
            Self::Closed => f.write_str("standard output was closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Asm(error) => Some(error),
            Self::Loader(error) => error.source(),
            Self::Btf(error @ (bpfkit_btf::Error::Io(..) | bpfkit_btf::Error::File(..))) => error.source(),
            Self::Btf(error) => Some(error),
            Self::About(_, error) => Some(error),
            Self::Io(_, error) | Self::Output(error) => Some(error),
            Self::Request(_) | Self::NoProbe(_) | Self::NoLibc(_) | Self::Record(_) | Self::Closed => None,
        }
    }
}

impl From<bpfkit_asm::Error> for Error {
    fn from(error: bpfkit_asm::Error) -> Self {
        Self::Asm(error)
    }
}

impl From<bpfkit_loader::Error> for Error {
    fn from(error: bpfkit_loader::Error) -> Self {
        Self::Loader(error)
    }
}

impl From<bpfkit_btf::Error> for Error {
    fn from(error: bpfkit_btf::Error) -> Self {
        Self::Btf(error)
    }
}

impl Error {
    /// Whether no other way is worth a try: for want of privilege, or because a request cannot be met.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Loader(bpfkit_loader::Error::OtherKernel { .. }) => true,
            Self::Loader(error) => error.is_permission(),
            Self::About(..) | Self::Request(_) | Self::Io(..) => true,
            _ => false,
        }
    }
}

/// An error and its causes, joined by `: `.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
