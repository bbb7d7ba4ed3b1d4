//! Programs that are on the system, whoever loaded them: found by number, by name, or where they are pinned.

mod answered;
mod code;
mod hidden;
mod info;
mod map;
mod stats;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bpfkit_asm::Insn;
use bpfkit_btf::{Btf, TypeId};

pub(crate) use self::answered::answered;
pub use self::code::{JitedFunc, LoadedCode, LoadedFunc, LoadedLine};
pub use self::hidden::{Hidden, Shown};
pub use self::info::{ProgInfo, Runs};
pub use self::map::LoadedMap;
pub use self::stats::RunStats;
use crate::Error;
use crate::kallsyms::Symbols;
use crate::pin::Pinned;
use crate::privilege::Other;
use crate::sys::bpf;
use crate::sys::info::{self as answers, ProgAnswer, ProgLists};

/// A program of the kernel, known by nothing but its descriptor. It lives as long as this.
#[derive(Clone, Debug)]
pub struct LoadedProg {
    fd: Arc<OwnedFd>,
    /// What errors call it: `program 17`.
    what: String,
}

impl LoadedProg {
    pub(crate) fn new(fd: Arc<OwnedFd>, what: String) -> Self {
        Self { fd, what }
    }

    /// The program of this number.
    ///
    /// # Errors
    /// [`Error::Gone`] when there is none; what the kernel says, which tells those who have CAP_SYS_ADMIN.
    pub fn by_id(id: u32) -> Result<Self, Error> {
        match bpf::prog_by_id(id) {
            Ok(fd) => Ok(Self::new(fd.into(), format!("program {id}"))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(Error::Gone(id)),
            Err(error) => Err(Error::lacking(Other::Administration, format!("cannot open program {id}"), error)),
        }
    }

    /// Every program of the system in the order of their numbers, each opened when it is asked for. Those that go meanwhile are
    /// left out.
    ///
    /// # Errors
    /// As [`LoadedProg::by_id`].
    pub fn all() -> Result<impl Iterator<Item = Result<Self, Error>>, Error> {
        let ids = bpf::prog_ids()
            .map_err(|error| Error::lacking(Other::Administration, "cannot list the programs", error))?;
        Ok(ids.into_iter().map(Self::by_id).filter(|opened| !matches!(opened, Err(Error::Gone(_)))))
    }

    /// The programs of this name, of which there may be several: as the kernel has it, which keeps 15 bytes, or as the types tell
    /// the name of the function where the kernel enters.
    ///
    /// # Errors
    /// As [`LoadedProg::by_id`].
    pub fn named(name: &str) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        for prog in Self::all()? {
            let prog = prog?;
            if prog.is_named(name)? {
                found.push(prog);
            }
        }
        Ok(found)
    }

    fn is_named(&self, name: &str) -> Result<bool, Error> {
        let info = self.info()?;
        if info.name == name {
            return Ok(true);
        }
        // Only what was cut has a longer name in the types.
        let may_be = info.is_name_cut() && name.starts_with(&info.name);
        Ok(may_be && self.entry_name(&info)?.is_some_and(|entry| entry == name))
    }

    /// The name of the function where the kernel enters, as the types have it.
    fn entry_name(&self, info: &ProgInfo) -> Result<Option<String>, Error> {
        let Ok(types) = self.types(info)? else { return Ok(None) };
        let answer = self.everything()?;
        let entry = code::func_info(&answer.lists).next().and_then(|(_, id)| types.ty(id).ok());
        Ok(entry.map(|func| func.name().into_owned()))
    }

    /// The program that is pinned in a bpf file system, or that of a link which is.
    ///
    /// # Errors
    /// A path where no program is, or that may not be opened.
    pub fn pinned(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let pinned = Pinned::open("program", path)?;
        // Maps and links are pinned in the same way, but only a program says of itself what a program says.
        if pinned.number("prog_type").is_some() && pinned.number("link_id").is_none() {
            return Ok(Self::new(pinned.fd.into(), format!("the program pinned at {}", path.display())));
        }
        let what = || format!("cannot open the program pinned at {}", path.display());
        match pinned.number("prog_id") {
            Some(id) => Self::by_id(id),
            None => Err(Error::io(what(), io::Error::new(io::ErrorKind::InvalidInput, "it is no program"))),
        }
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// What the kernel says to BPF_OBJ_GET_INFO_BY_FD.
    pub fn info(&self) -> Result<ProgInfo, Error> {
        let numbers = self.ask(ProgLists::default())?;
        Ok(ProgInfo::new(&self.ask(ProgLists::short(&numbers.info))?))
    }

    /// The types that it was loaded with: its functions' prototypes, and the strings of its source lines.
    ///
    /// # Errors
    /// What the kernel says; types that cannot be read.
    pub fn types(&self, info: &ProgInfo) -> Result<Shown<Btf>, Error> {
        let Some(id) = info.btf_id else { return Ok(Err(Hidden::NO_TYPES)) };
        match answers::types_by_id(id) {
            Ok(types) => Ok(Ok(Btf::parse(types.blob)?)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(Err(Hidden::TYPES)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The function of the kernel or of another program that it is attached to, or the type that stands for its place, where it
    /// knows the place so: a program of type TRACING, EXT or LSM.
    ///
    /// # Errors
    /// As [`LoadedProg::types`].
    pub fn attached_to(&self, info: &ProgInfo) -> Result<Shown<Option<String>>, Error> {
        let (object, ty) = match &info.attach_btf {
            Ok(Some(place)) => *place,
            Ok(None) => return Ok(Ok(None)),
            Err(hidden) => return Ok(Err(hidden.clone())),
        };
        let types = match answers::types_by_id(object) {
            Ok(types) => types,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(Err(Hidden::TYPES)),
            Err(error) => return Err(self.failed(error)),
        };
        let btf = match types.kernel.as_deref() {
            None | Some("vmlinux") => Btf::parse(types.blob)?,
            Some(_) => Btf::parse_split(types.blob, &Btf::from_file("/sys/kernel/btf/vmlinux")?)?,
        };
        Ok(Ok(Some(btf.ty(TypeId(ty))?.name().into_owned())))
    }

    /// Its instructions as the verifier rewrote them, before they become machine code: see [`LoadedCode::insns`].
    ///
    /// # Errors
    /// As [`LoadedProg::info`].
    pub fn xlated(&self) -> Result<Shown<Vec<Insn>>, Error> {
        Ok(code::insns(&self.everything()?))
    }

    /// All that the kernel shows of its code. `symbols` has the names of what it calls.
    ///
    /// # Errors
    /// As [`LoadedProg::info`], [`LoadedProg::types`] and [`Symbols::names`]; maps that cannot be opened have no names.
    pub fn code(&self, symbols: &Symbols) -> Result<LoadedCode, Error> {
        let answer = self.everything()?;
        let info = ProgInfo::new(&answer);
        let types = self.types(&info)?;
        let attached_to = self.attached_to(&info)?;
        let maps = info.map_ids.iter().map(|&id| LoadedMap::by_id(id)).collect();
        let mut code = LoadedCode::new(&answer, info, types, maps, symbols)?;
        code.attached_to = attached_to;
        Ok(code)
    }

    fn everything(&self) -> Result<ProgAnswer, Error> {
        self.ask(ProgLists::all(&self.ask(ProgLists::default())?.info))
    }

    fn ask(&self, lists: ProgLists) -> Result<ProgAnswer, Error> {
        answers::prog_info(self.as_fd(), lists).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::privileged(format!("cannot ask the kernel about {}", self.what), error)
    }
}

impl AsFd for LoadedProg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
