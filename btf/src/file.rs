//! Types out of files.

use std::fs::{File, FileType};
use std::io::{self, Cursor, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use object::{Object, ObjectSection, ReadRef};

use crate::input::{Input, Parts};
use crate::{Archive, Btf, Error, dwarf};

const ELF: &[u8] = b"\x7fELF";

/// What a file had its types in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In BTF, with nothing around it or as a section of an ELF file.
    Btf,
    /// In an ELF file's debugging information.
    Dwarf,
    /// In an archive of the types of several kernels.
    Archive,
}

impl Archive {
    /// Reads a file, if it is an archive.
    ///
    /// # Errors
    /// As [`Archive::parse`], and when the file cannot be read; the path is in the error.
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let path = path.as_ref();
        let (start, file) = open(path)?;
        if !Self::begins(&start) {
            return Ok(None);
        }
        let archive = Self::parse(&whole(path, start, file)?);
        archive.map(Some).map_err(|error| Error::File(path.to_owned(), Box::new(error)))
    }
}

impl Btf {
    /// Reads a file of any form: BTF, an archive, of which the kernel is taken whose release is wanted, or an ELF file, which
    /// may have a `.BTF` section, or else debugging information, of which only what `roots` name is read.
    ///
    /// # Errors
    /// As [`Btf::from_file`], [`Btf::from_dwarf`] and [`Archive::find`]; the path is in the error.
    pub fn open(
        path: impl AsRef<Path>,
        roots: Option<&[&str]>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(Self, Form), Error> {
        let path = path.as_ref();
        let (start, file) = open(path)?;
        let opened = if start == ELF {
            let parts = Parts::new(Input::File(file));
            match from_section(&parts) {
                Ok(btf) => Ok((btf, Form::Btf)),
                Err(no_btf) => match dwarf::read(&parts, roots) {
                    Ok(btf) => Ok((btf, Form::Dwarf)),
                    Err(no_dwarf) => Err(Error::Neither(Box::new(no_btf), Box::new(no_dwarf))),
                },
            }
        } else if Archive::begins(&start) {
            let archive = Archive::parse(&whole(path, start, file)?);
            archive.and_then(|archive| Ok((archive.find(is_wanted)?, Form::Archive)))
        } else {
            Self::parse(whole(path, start, file)?).map(|btf| (btf, Form::Btf))
        };
        opened.map_err(|error| Error::File(path.to_owned(), Box::new(error)))
    }

    /// Reads the types of a module, which come after those of `base`: a file of /sys/kernel/btf, or a module with a `.BTF` section. A
    /// module that carries what it needs of the kernel's types (`.BTF.base`, Linux 6.11) is read with these.
    ///
    /// # Errors
    /// As [`Btf::from_file`].
    pub fn open_split(path: impl AsRef<Path>, base: &Self) -> Result<Self, Error> {
        let path = path.as_ref();
        let (start, file) = open(path)?;
        let btf = if start == ELF {
            section_on(&Parts::new(Input::File(file)), Some(base))
        } else {
            Self::parse_split(whole(path, start, file)?, base)
        };
        btf.map_err(|error| Error::File(path.to_owned(), Box::new(error)))
    }

    /// Reads what a file of BTF or an ELF file has in it, as [`Btf::open`] does with the file, or [`Btf::open_split`] with a base.
    ///
    /// # Errors
    /// As these.
    pub fn read(bytes: Vec<u8>, base: Option<&Self>) -> Result<Self, Error> {
        if !bytes.starts_with(ELF) {
            return match base {
                Some(base) => Self::parse_split(bytes, base),
                None => Self::parse(bytes),
            };
        }
        let parts = Parts::new(Input::Bytes(Cursor::new(bytes)));
        section_on(&parts, base).or_else(|no_btf| {
            let dwarf = dwarf::read(&parts, None);
            dwarf.map_err(|no_dwarf| Error::Neither(Box::new(no_btf), Box::new(no_dwarf)))
        })
    }

    /// Reads the `.BTF` section of an ELF file, such as a vmlinux.
    ///
    /// # Errors
    /// As [`Btf::parse`], and when there is no such section.
    pub fn from_elf(bytes: &[u8]) -> Result<Self, Error> {
        from_section(bytes)
    }

    /// Reads a file that is either BTF or an ELF file with a `.BTF` section. Of an ELF file, however large, little else is read.
    ///
    /// # Errors
    /// As [`Btf::parse`] and [`Btf::from_elf`]; the path is in the error.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (start, file) = open(path)?;
        let btf = if start == ELF {
            from_section(&Parts::new(Input::File(file)))
        } else {
            Self::parse(whole(path, start, file)?)
        };
        btf.map_err(|error| Error::File(path.to_owned(), Box::new(error)))
    }

    /// Makes BTF out of a linked ELF file's debugging information, which may be compressed: DWARF of the versions 2 to 5. With
    /// `roots` only what they name is kept, as by [`crate::cut`], and those that are not there are passed over.
    ///
    /// # Errors
    /// When there is none, or when it cannot be read.
    pub fn from_dwarf(bytes: &[u8], roots: Option<&[&str]>) -> Result<Self, Error> {
        dwarf::read(bytes, roots)
    }

    /// As [`Btf::from_dwarf`], of a file of which only the sections are read that are needed.
    ///
    /// # Errors
    /// As [`Btf::from_dwarf`]; the path is in the error.
    pub fn from_dwarf_file(path: impl AsRef<Path>, roots: Option<&[&str]>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (_, file) = open(path)?;
        dwarf::read(&Parts::new(Input::File(file)), roots)
            .map_err(|error| Error::File(path.to_owned(), Box::new(error)))
    }
}

/// The most bytes of types that are read, some twenty times those of a kernel.
const MOST: u64 = 256 << 20;

/// Opens a file to be read, if it is a regular one: opening a pipe would wait for its writer, and a device need not end.
///
/// # Errors
/// A path where nothing is that may be read, or where something else is.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let check = |kind: FileType| match kind {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory")),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    };
    // To open some devices is to do something with them.
    check(path.metadata()?.file_type())?;
    // What is there may have been exchanged since: nothing is waited for, and what was opened is looked at again.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// A file, and its first bytes, as many as tell what it is.
fn open(path: &Path) -> Result<(Vec<u8>, File), Error> {
    let open = || {
        let file = open_regular(path)?;
        let mut start = Vec::new();
        (&file).take(4).read_to_end(&mut start)?;
        Ok((start, file))
    };
    open().map_err(|error| Error::Io(path.to_owned(), error))
}

/// All of a file that begins so. One that is longer than any with types is refused, whether it says so or grows meanwhile.
fn whole(path: &Path, mut start: Vec<u8>, file: File) -> Result<Vec<u8>, Error> {
    let cannot = |error| Error::Io(path.to_owned(), error);
    let large = || Error::File(path.to_owned(), Box::new(Error::TooLarge));
    if file.metadata().map_err(cannot)?.len() >= MOST {
        return Err(large());
    }
    let read = file.take(MOST).read_to_end(&mut start).map_err(cannot)?;
    if u64::try_from(read).is_ok_and(|read| read < MOST) { Ok(start) } else { Err(large()) }
}

fn from_section<'d, R: ReadRef<'d>>(data: R) -> Result<Btf, Error> {
    section_on(data, None)
}

/// The `.BTF` section, on the base that the file brings along, or else on the one that is given.
fn section_on<'d, R: ReadRef<'d>>(data: R, base: Option<&Btf>) -> Result<Btf, Error> {
    let file = object::File::parse(data).map_err(Error::Elf)?;
    let bytes = |section: object::Section<'d, '_, R>| match section.size() {
        0..MOST => Ok(section.data().map_err(Error::Elf)?.to_vec()),
        size => Err(Error::SectionTooLarge(size)),
    };
    let types = bytes(file.section_by_name(".BTF").ok_or(Error::NoSection)?)?;
    let own = file.section_by_name(".BTF.base").map(|section| Btf::parse(bytes(section)?)).transpose()?;
    match own.as_ref().or(base) {
        Some(base) => Btf::parse_split(types, base),
        None => Btf::parse(types),
    }
}
