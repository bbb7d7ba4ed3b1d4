//! The sections of an ELF file that describe its types.

use std::borrow::Cow;

use gimli::{DebugAbbrev, DebugInfo, DebugLineStr, DebugStr, DebugStrOffsets, EndianSlice, RunTimeEndian};
use object::{Object, ObjectKind, ObjectSection, ReadRef};

use crate::Error;

/// Bytes of a section, read in the byte order of the file.
pub(super) type Slice<'s> = EndianSlice<'s, RunTimeEndian>;

/// How many times its size a section may become when it is inflated. Compilers' sections become some four times, tables of zeros by
/// deflate a thousand times, and what zstd makes of a few bytes has no end.
const INFLATION: u64 = 32;

/// The sections as they are in the file, or inflated.
pub(super) struct Sections<'d> {
    info: Cow<'d, [u8]>,
    abbrev: Cow<'d, [u8]>,
    names: Cow<'d, [u8]>,
    line_names: Cow<'d, [u8]>,
    name_offsets: Cow<'d, [u8]>,
    endian: RunTimeEndian,
}

/// The same, for gimli.
pub(super) struct Debug<'s> {
    pub(super) info: DebugInfo<Slice<'s>>,
    pub(super) abbrev: DebugAbbrev<Slice<'s>>,
    pub(super) names: DebugStr<Slice<'s>>,
    pub(super) line_names: DebugLineStr<Slice<'s>>,
    pub(super) name_offsets: DebugStrOffsets<Slice<'s>>,
    /// The bytes of `.debug_str_offsets`.
    pub(super) name_offsets_len: usize,
    /// How many bytes names can come from.
    pub(super) names_len: usize,
    pub(super) is_big_endian: bool,
}

impl<'d> Sections<'d> {
    /// Reads what is needed of a linked file of 64 bits, and nothing else.
    pub(super) fn read<R: ReadRef<'d>>(data: R) -> Result<Self, Error> {
        let file = object::File::parse(data).map_err(Error::Elf)?;
        if file.kind() == ObjectKind::Relocatable {
            return Err(Error::Relocatable);
        }
        if !file.is_64() {
            return Err(Error::Narrow);
        }
        let section = |name| section(&file, name);
        let info = section(".debug_info")?.ok_or(Error::NoDwarf)?;
        if file.section_by_name(".debug_types").is_some_and(|types| types.size() > 0) {
            return Err(Error::TypesSection);
        }
        Ok(Self {
            info,
            abbrev: section(".debug_abbrev")?.unwrap_or_default(),
            names: section(".debug_str")?.unwrap_or_default(),
            line_names: section(".debug_line_str")?.unwrap_or_default(),
            name_offsets: section(".debug_str_offsets")?.unwrap_or_default(),
            endian: if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big },
        })
    }

    pub(super) fn debug(&self) -> Debug<'_> {
        let endian = self.endian;
        Debug {
            info: DebugInfo::new(&self.info, endian),
            abbrev: DebugAbbrev::new(&self.abbrev, endian),
            names: DebugStr::new(&self.names, endian),
            line_names: DebugLineStr::new(&self.line_names, endian),
            name_offsets: EndianSlice::new(&self.name_offsets, endian).into(),
            name_offsets_len: self.name_offsets.len(),
            names_len: self.info.len() + self.names.len() + self.line_names.len(),
            is_big_endian: endian == RunTimeEndian::Big,
        }
    }
}

/// A section by its name, inflated where it is compressed; `.debug_info` may be called `.zdebug_info` then.
fn section<'d, R: ReadRef<'d>>(file: &object::File<'d, R>, name: &str) -> Result<Option<Cow<'d, [u8]>>, Error> {
    let Some(section) = file.section_by_name(name) else { return Ok(None) };
    let data = section.compressed_data().map_err(Error::Elf)?;
    let most = u64::try_from(data.data.len()).unwrap_or(u64::MAX).saturating_mul(INFLATION);
    if data.uncompressed_size > most {
        return Err(Error::Inflation { section: name.to_owned(), size: data.uncompressed_size });
    }
    data.decompress().map(Some).map_err(Error::Elf)
}
