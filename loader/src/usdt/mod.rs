//! Places in programs and libraries that their authors marked for tracing (USDT, `<sys/sdt.h>`): finding them in a file, and
//! reading their arguments.

mod arg;
#[cfg(test)]
mod fixture;
mod note;
mod read;
mod register;

use std::path::Path;
use std::sync::Arc;

use object::ReadCache;

use crate::attach::Attach;
use crate::ctx::Arch;
use crate::elf::{Bounded, Elf};
use crate::{Error, Target};
use bpfkit_asm::{Asm, Reg};

pub use arg::{Arg, Index, Place};
pub use register::Register;

/// A place that is marked. A probe of one name has as many as the compiler made copies of the code around it, and each has its
/// arguments elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usdt {
    /// The file.
    pub path: Arc<Path>,
    /// Whose probe it is, such as `libc`.
    pub provider: String,
    /// The probe.
    pub name: String,
    /// The instruction, a `nop`, that is passed when the probe is.
    pub location: Location,
    /// A counter of two bytes: who is not 0 there does the work of a probe that is costly to prepare.
    pub semaphore: Option<Location>,
    /// Where the arguments are, in the notation of the compiler's assembler: `-4@%edi 8@-16(%rbp)`.
    pub arguments: String,
    /// The architecture whose registers the arguments name; none for one that is not known here.
    pub arch: Option<Arch>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its address, as the file's tables count them.
    pub address: u64,
    /// In bytes from the start of the file; none if it is in no part of it that is loaded, as in files of symbols.
    pub offset: Option<u64>,
}

impl Usdt {
    /// The probes of a program or library of any machine, in the order of the file. Only its tables and its notes are read.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Vec<Self>, Error> {
        let path = path.as_ref();
        let elf = Elf::open(path).map_err(|error| match error {
            Error::NotElf { path, why } => Error::Usdt { what: format!("cannot read the probes of {path}"), why },
            error => error,
        })?;
        Self::of(&elf, path)
    }

    /// The probes of an open file, to be attached at a path: [`Elf::place`] for as long as it is open.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn of(elf: &Elf, path: &Path) -> Result<Vec<Self>, Error> {
        note::parse(Bounded(&ReadCache::new(elf.file())), path, elf.name())
    }

    /// The probes of an ELF file whose bytes are here.
    ///
    /// # Errors
    /// Bytes that are not what they should be.
    pub fn of_bytes(bytes: &[u8], path: impl AsRef<Path>) -> Result<Vec<Self>, Error> {
        note::parse(bytes, path.as_ref(), &path.as_ref().display().to_string())
    }

    /// Its arguments, taken apart.
    ///
    /// # Errors
    /// The first that cannot be read, and why.
    pub fn args(&self) -> Result<Vec<Arg>, Error> {
        arg::split(&self.arguments).map(|text| self.parse(text)).collect()
    }

    fn parse(&self, text: &str) -> Result<Arg, Error> {
        let Some(arch) = self.arch else {
            return Err(arg::unusable(text, "the registers of this file's architecture are not known here"));
        };
        Arg::parse(text, arch)
    }

    /// Instructions that put argument `n`, counted from 0, into the register `to`, extended to 64 bits by its size and sign.
    ///
    /// They are for a program at [`Usdt::attach`] that has its context in `ctx`, one of r6 to r9 as those outlive calls. An
    /// argument in memory takes 8 bytes of stack at r10 + `scratch` and r0 to r5; what cannot be read there becomes 0.
    ///
    /// # Errors
    /// An argument that is not there, or cannot be read; a target of another architecture.
    pub fn read_arg(&self, n: usize, target: &Target, to: Reg, ctx: Reg, scratch: i32) -> Result<Asm, Error> {
        let probe = self.title();
        let refuse = |why: String| Error::Usdt { what: format!("cannot read argument {n} of {probe}"), why };
        let text = arg::split(&self.arguments).nth(n);
        let text = text.ok_or_else(|| refuse(format!("it has {}", arg::split(&self.arguments).count())))?;
        let arg = self.parse(text)?;
        if self.arch != Some(target.arch()) {
            return Err(refuse(format!("its file is for another architecture than {:?}", target.arch())));
        }
        Ok(read::code(&arg, &format!("{probe} {text}"), target, to, ctx, scratch))
    }

    /// What it is called where terminals show it. Its names come from a file, which may hold anything.
    fn title(&self) -> String {
        format!("{}:{}", self.provider, self.name).escape_debug().to_string()
    }

    /// Where a program of this probe belongs; [`crate::Prog::attach_to`] keeps it to one process.
    ///
    /// # Errors
    /// A place that is in no part of the file that is loaded.
    pub fn attach(&self) -> Result<Attach, Error> {
        let offset = |location: Location| {
            let why = || format!("its address {:#x} is in no part of the file that is loaded", location.address);
            let what = || format!("cannot probe {} in {}", self.title(), self.path.display());
            location.offset.ok_or_else(|| Error::Usdt { what: what(), why: why() })
        };
        Ok(Attach::Usdt {
            path: self.path.to_path_buf(),
            probe: self.title(),
            offset: offset(self.location)?,
            semaphore: self.semaphore.map(offset).transpose()?,
        })
    }
}
