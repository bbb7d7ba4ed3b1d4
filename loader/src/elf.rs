//! Functions of programs and libraries: where their code is in the file, which is what a uprobe wants to know.
//!
//! A file is opened once, and everything after that goes through its descriptor: what is probed is what was read, whatever
//! becomes of the path meanwhile. It is read and not mapped, since a file that is cut while it is mapped kills its reader.

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bpfkit_btf::open_regular;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::read::{ReadCache, ReadRef, StringTable};
use object::{Endianness, U64};

use crate::Error;
use crate::ctx::Arch;
use crate::privilege::Other;

type Header = elf::FileHeader64<Endianness>;
type Section = elf::SectionHeader64<Endianness>;
type Cache<'f> = ReadCache<&'f File>;
type Sections<'a, 'f> = SectionTable<'a, Header, Bounded<'a, 'f>>;

/// The most bytes of a table that are read: a file may claim any size, and be as large without having as many bytes on disk.
const TABLE_MOST: u64 = 64 << 20;

/// The most functions that are found in a table: a name has as many as it has versions, of which C libraries keep a few.
const MOST_FOUND: usize = 256;

/// Reads no more at a time than a table may have.
#[derive(Clone, Copy)]
pub(crate) struct Bounded<'a, 'f>(pub &'a Cache<'f>);

impl<'a> ReadRef<'a> for Bounded<'a, '_> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > TABLE_MOST { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

/// Which file it is, on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device, as stat(2) has it.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
}

impl FileId {
    /// The file that these metadata are of.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { dev: metadata.dev(), ino: metadata.ino() }
    }
}

/// An open program or library of this machine.
#[derive(Debug)]
pub struct Elf {
    file: File,
    id: FileId,
    name: String,
}

/// A function in a program or library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, without a version.
    pub name: String,
    /// Its address, as the file was linked.
    pub value: u64,
    /// Its bytes; 0 where the file does not tell.
    pub size: u64,
    /// Its first byte in the file.
    pub offset: u64,
    /// Whether the address is that of a function that only chooses the one to call (STT_GNU_IFUNC).
    pub is_indirect: bool,
}

impl Elf {
    /// Opens a file.
    ///
    /// # Errors
    /// A path where no regular file is that may be read. What the file holds is looked at later.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let cannot = |error| Error::lacking(Other::File, format!("cannot open {name}"), error);
        let file = open_regular(path).map_err(|error| match error.raw_os_error() {
            Some(_) => cannot(error),
            None => Error::NotElf { path: name.clone(), why: error.to_string() },
        })?;
        let id = FileId::of(&file.metadata().map_err(cannot)?);
        Ok(Self { file, id, name })
    }

    /// The file, to be read at any place.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What messages call it, instead of the path by which it was opened.
    #[must_use]
    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// A path to this very file for as long as it is open here, for [`crate::Attach::Uprobe`].
    pub fn place(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The functions of these names, in the order of the file: from `.dynsym`, and those that it lacks from `.symtab`. A name that
    /// several versions of a function have is there once for each address.
    ///
    /// # Errors
    /// What the file is instead of an ELF file of this machine; a file that was cut; one without any table of symbols.
    pub fn functions(&self, names: &[&str]) -> Result<Vec<Symbol>, Error> {
        self.find(names).map_err(|why| Error::NotElf { path: self.name.clone(), why })
    }

    fn find(&self, names: &[&str]) -> Result<Vec<Symbol>, String> {
        let mut magic = [0; 4];
        match self.file.read_exact_at(&mut magic, 0) {
            Ok(()) if magic == elf::ELFMAG => {}
            Ok(()) => return Err("it is no ELF file".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err("it is too short".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let cache = ReadCache::new(&self.file);
        let data = Bounded(&cache);
        let ident: &[u8] = data.read_bytes_at(0, 16).map_err(|()| "its header is cut off".to_owned())?;
        if ident[4] == elf::ELFCLASS32.0 {
            return Err("it is for 32-bit processes".to_owned());
        }
        let header = Header::parse(data).map_err(|error| error.to_string())?;
        let endian = header.endian().map_err(|error| error.to_string())?;
        let machine = header.e_machine(endian);
        let own = match Arch::running() {
            Ok(Arch::X86_64) => elf::EM_X86_64,
            Ok(Arch::Aarch64) => elf::EM_AARCH64,
            Ok(Arch::Riscv64) => elf::EM_RISCV,
            Err(error) => return Err(error.to_string()),
        };
        if machine != own {
            return Err(format!("it is for another machine (ELF machine {})", machine.0));
        }
        let segments = header.program_headers(endian, data).map_err(|error| error.to_string())?;
        let sections = sections(header, endian, data)?;
        let mut found: Vec<Symbol> = Vec::new();
        let mut tables = 0;
        for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
            let missing: Vec<&str> =
                names.iter().copied().filter(|name| !found.iter().any(|symbol| symbol.name == *name)).collect();
            let Some(table) = sections.iter().find(|section| section.sh_type(endian) == kind) else { continue };
            tables += 1;
            if !missing.is_empty() {
                found.extend(search(&sections, table, endian, data, segments, &missing)?);
            }
        }
        if tables == 0 {
            return Err("it has neither .dynsym nor .symtab: it is stripped".to_owned());
        }
        Ok(found)
    }
}

/// The sections, without their names, which are not needed.
fn sections<'a, 'f>(header: &Header, endian: Endianness, data: Bounded<'a, 'f>) -> Result<Sections<'a, 'f>, String> {
    let headers = header.section_headers(endian, data).map_err(|error| error.to_string())?;
    Ok(SectionTable::new(headers, StringTable::default()))
}

/// The bytes of a section, if there are as many as a table may have.
fn table<'a>(section: &Section, endian: Endianness, data: Bounded<'a, '_>) -> Result<&'a [u8], String> {
    let size = section.sh_size(endian);
    if size > TABLE_MOST {
        return Err(format!("it says that it has a table of {size} bytes"));
    }
    section.data(endian, data).map_err(|error| error.to_string())
}

/// The functions of these names in one table of symbols.
fn search<'a, 'f>(
    sections: &Sections<'a, 'f>,
    section: &Section,
    endian: Endianness,
    data: Bounded<'a, 'f>,
    segments: &[elf::ProgramHeader64<Endianness>],
    names: &[&str],
) -> Result<Vec<Symbol>, String> {
    let symbols = object::pod::slice_from_all_bytes::<elf::Sym64<Endianness>>(table(section, endian, data)?)
        .map_err(|()| "its table of symbols is no multiple of a symbol".to_owned())?;
    let strings = sections.section(section.link(endian)).map_err(|error| error.to_string())?;
    let strings = table(strings, endian, data)?;
    let mut found: Vec<Symbol> = Vec::new();
    for symbol in symbols {
        let kind = symbol.st_type();
        let value = symbol.st_value(endian);
        if (kind != elf::STT_FUNC && kind != elf::STT_GNU_IFUNC) || symbol.is_undefined(endian) || value == 0 {
            continue;
        }
        let name = usize::try_from(symbol.st_name(endian)).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
        // Comparing with the NUL spares looking for the end of every name.
        let is = |wanted: &&&str| name.starts_with(wanted.as_bytes()) && name.get(wanted.len()) == Some(&0);
        let Some(&name) = names.iter().find(is) else { continue };
        // Each is compared with all that were found, and then probed.
        if found.len() >= MOST_FOUND {
            return Err(format!("it has more than {MOST_FOUND} functions that are called so"));
        }
        if found.iter().any(|known| known.name == name && known.value == value) {
            continue;
        }
        let offset = offset_of(value, segments, endian)
            .ok_or_else(|| format!("its function {name} at {value:#x} is in no segment that is run"))?;
        let is_indirect = kind == elf::STT_GNU_IFUNC;
        found.push(Symbol { name: name.to_owned(), value, size: symbol.st_size(endian), offset, is_indirect });
    }
    Ok(found)
}

/// Where an address is in the file, by the segments that are loaded to be run.
fn offset_of(value: u64, segments: &[elf::ProgramHeader64<Endianness>], endian: Endianness) -> Option<u64> {
    let word = |word: U64<Endianness>| word.get(endian);
    segments.iter().find_map(|segment| {
        let is_code = segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian).0 & elf::PF_X.0 != 0;
        let within = value.checked_sub(word(segment.p_vaddr)).filter(|&within| within < word(segment.p_filesz))?;
        if is_code { word(segment.p_offset).checked_add(within) } else { None }
    })
}
