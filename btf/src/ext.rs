//! `.BTF.ext` of a BPF object file: which instructions are which functions and source lines.
//!
//! Documentation/bpf/btf.rst in the kernel's tree describes the format; the strings are those of the file's `.BTF`.

use std::collections::BTreeMap;

use crate::{Btf, Error, TypeId};

/// The magic number of `.BTF` and `.BTF.ext`.
const MAGIC: u16 = 0xeb9f;
/// What is read of a header: magic, version, flags, length, and where functions and lines are.
const HEADER: usize = 24;

/// A function of an object file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Bytes from the start of its section to its first instruction.
    pub offset: u32,
    /// The function in the file's types.
    pub ty: TypeId,
}

/// A source line of an object file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo<'a> {
    /// Bytes from the start of its section to the first instruction that was made of it.
    pub offset: u32,
    /// The file, as the compiler was given it.
    pub file: &'a [u8],
    /// What the line says; empty where the compiler kept no text.
    pub text: &'a [u8],
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1; 0 where it is not known.
    pub column: u32,
}

/// What `.BTF.ext` says of the sections of an object file, by the names of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt<'a> {
    funcs: BTreeMap<&'a [u8], Vec<FuncInfo>>,
    lines: BTreeMap<&'a [u8], Vec<LineInfo<'a>>>,
}

/// Words in the byte order of the file.
#[derive(Clone, Copy)]
struct Words<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Words<'a> {
    fn word(self, at: usize) -> Option<u32> {
        let word = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    }

    fn size(self, at: usize) -> Option<usize> {
        usize::try_from(self.word(at)?).ok()
    }

    fn part(self, at: usize, len: usize) -> Option<Self> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        Some(Words { bytes, ..self })
    }

    /// Goes through the records of a part, each of which has at least `least` words: those of one section of the file after
    /// those of another.
    fn records(self, least: usize, mut each: impl FnMut(u32, Self)) -> Option<()> {
        if self.bytes.is_empty() {
            return Some(());
        }
        let record = self.size(0).filter(|&size| size >= least * 4)?;
        let mut at = 4;
        while at < self.bytes.len() {
            let (section, count) = (self.word(at)?, self.size(at + 4)?);
            at += 8;
            let all = self.part(at, count.checked_mul(record)?)?;
            (0..count).try_for_each(|n| all.part(n * record, record).map(|one| each(section, one)))?;
            at += all.bytes.len();
        }
        Some(())
    }
}

impl<'a> BtfExt<'a> {
    /// Reads the section; `btf` is the `.BTF` of the same file.
    ///
    /// # Errors
    /// Bytes that are not what they should be, or not all of it.
    pub fn parse(bytes: &[u8], btf: &'a Btf) -> Result<Self, Error> {
        let truncated = |what, at| Error::Truncated { what, at, len: bytes.len() };
        let magic = *bytes.first_chunk().ok_or(truncated("the header", 0))?;
        let big_endian = match (u16::from_le_bytes(magic), u16::from_be_bytes(magic)) {
            (MAGIC, _) => false,
            (_, MAGIC) => true,
            (magic, _) => return Err(Error::Magic(magic)),
        };
        let words = Words { bytes, big_endian };
        let header = words.size(4).filter(|&header| header >= HEADER && header <= bytes.len());
        let header = header.ok_or(truncated("the header", 4))?;
        let part = |what, at: usize| {
            let place = words.size(at).zip(words.size(at + 4));
            let found = place.and_then(|(offset, len)| words.part(header.checked_add(offset)?, len));
            found.ok_or(truncated(what, at))
        };
        let name = |offset: u32| btf.string(offset);
        let mut ext = Self::default();
        let funcs = part("the functions", 8)?.records(2, |section, record| {
            let (offset, ty) = (record.word(0).unwrap_or_default(), record.word(4).unwrap_or_default());
            ext.funcs.entry(name(section)).or_default().push(FuncInfo { offset, ty: TypeId(ty) });
        });
        funcs.ok_or(truncated("the functions", header))?;
        let lines = part("the source lines", 16)?.records(4, |section, record| {
            let word = |at| record.word(at).unwrap_or_default();
            let place = word(12);
            ext.lines.entry(name(section)).or_default().push(LineInfo {
                offset: word(0),
                file: name(word(4)),
                text: name(word(8)),
                line: place >> 10,
                column: place & 0x3ff,
            });
        });
        lines.ok_or(truncated("the source lines", header))?;
        Ok(ext)
    }

    /// The functions of a section, in the order of the file.
    pub fn funcs(&self, section: &str) -> &[FuncInfo] {
        self.funcs.get(section.as_bytes()).map_or(&[], Vec::as_slice)
    }

    /// The source lines of a section, in the order of the file.
    pub fn lines(&self, section: &str) -> &[LineInfo<'a>] {
        self.lines.get(section.as_bytes()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    /// A function at the start of `xdp`, and two lines of it.
    fn sample(big_endian: bool) -> (Btf, Vec<u8>) {
        let mut types = Builder::with_byte_order(big_endian);
        let int = types.int("int", 4, true);
        let proto = types.func_proto(&[], int);
        let func = types.func("pass", proto);
        let [section, file, text] = ["xdp", "pass.c", "return 2;"].map(|text| types.string(text));
        let funcs = [8, section, 1, 0, func.0];
        let lines = [16, section, 2, 0, file, 0, 3 << 10 | 5, 8, file, text, 4 << 10 | 9];
        let bytes = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() }).collect()
        };
        let magic = if big_endian { MAGIC.to_be_bytes() } else { MAGIC.to_le_bytes() };
        let header = bytes(&[24, 0, 20, 20, 44]);
        let blob = [&magic[..], &[1, 0], &header, &bytes(&funcs), &bytes(&lines)].concat();
        (Btf::parse(types.finish()).unwrap(), blob)
    }

    #[test]
    fn functions_and_lines_are_found_by_section_in_both_byte_orders() {
        for big_endian in [false, true] {
            let (btf, blob) = sample(big_endian);
            let ext = BtfExt::parse(&blob, &btf).unwrap();
            let [func] = ext.funcs("xdp") else { panic!("{ext:?}") };
            assert_eq!((func.offset, btf.ty(func.ty).unwrap().name().as_ref()), (0, "pass"));
            let lines: Vec<_> = ext.lines("xdp").iter().map(|line| (line.offset, line.line, line.text)).collect();
            assert_eq!(lines, [(0, 3, &b""[..]), (8, 4, b"return 2;")]);
            assert_eq!((ext.lines("xdp")[1].file, ext.lines("xdp")[1].column), (&b"pass.c"[..], 9));
            assert!(ext.lines("tc").is_empty());
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused_or_read_and_never_a_panic() {
        let (btf, blob) = sample(false);
        for len in 0..blob.len() {
            assert!(BtfExt::parse(&blob[..len], &btf).is_err(), "{len}");
        }
        for at in 0..blob.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = blob.clone();
                changed[at] = byte;
                let _ = BtfExt::parse(&changed, &btf);
            }
        }
    }
}
