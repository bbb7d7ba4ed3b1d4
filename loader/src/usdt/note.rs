//! The notes of an ELF file that tell where probes are: of type 3 and owner `stapsdt`, in `.note.stapsdt`.

use std::path::Path;
use std::sync::Arc;

use object::elf::{self, FileHeader32, FileHeader64, PT_LOAD, SHT_NOTE, SHT_NULL};
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, ReadRef};

use super::{Location, Usdt};
use crate::Error;
use crate::ctx::Arch;

/// What is wrong with a file.
type Mistake = String;

/// The probes of a file of either width and byte order.
pub(super) fn parse<'data>(data: impl ReadRef<'data>, path: &Path, name: &str) -> Result<Vec<Usdt>, Error> {
    let ident = data.read_bytes_at(0, 5).unwrap_or_default();
    let probes = match ident {
        [0x7f, b'E', b'L', b'F', 1] => notes::<FileHeader32<Endianness>>(data, path),
        [0x7f, b'E', b'L', b'F', 2] => notes::<FileHeader64<Endianness>>(data, path),
        [0x7f, b'E', b'L', b'F', class] => Err(format!("it is an ELF file of the unknown class {class}")),
        _ => Err("it is not an ELF file".to_owned()),
    };
    probes.map_err(|why| Error::Usdt { what: format!("cannot read the probes of {name}"), why })
}

fn notes<'data, Elf: FileHeader<Endian = Endianness>>(
    data: impl ReadRef<'data>,
    path: &Path,
) -> Result<Vec<Usdt>, Mistake> {
    let said = |error: object::read::Error| error.to_string();
    let header = Elf::parse(data).map_err(said)?;
    let endian = header.endian().map_err(said)?;
    let sections = header.section_headers(endian, data).map_err(said)?;
    if sections.is_empty() {
        return Ok(Vec::new());
    }
    let strings = header.section_strings_index(endian, data).map_err(said)?;
    let strings = sections.get(strings.0).ok_or("the section with the names of sections is not there")?;
    // The names are read at once: each by itself would be a copy of its own.
    let names = strings.data(endian, data).map_err(said)?;
    let is_called = |section: &&Elf::SectionHeader, name: &[u8]| {
        let start = usize::try_from(section.sh_name(endian)).unwrap_or(usize::MAX);
        names.get(start..).and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(b"\0"))
    };
    let is_note =
        |section: &&Elf::SectionHeader| section.sh_type(endian) == SHT_NOTE && is_called(section, b".note.stapsdt");
    let found: Vec<&Elf::SectionHeader> = sections.iter().filter(is_note).collect();
    // Sections of an honest file do not overlap; of those of another no more is read than there is of it.
    let length = found.iter().try_fold(0_u64, |sum, section| sum.checked_add(section.sh_size(endian).into()));
    let file_length = data.len().map_err(|()| "its length cannot be told")?;
    if length.is_none_or(|length| length > file_length) {
        return Err("its sections .note.stapsdt are longer than the file".to_owned());
    }
    let base = sections.iter().find(|section| is_called(section, b".stapsdt.base"));
    let base = base.filter(|section| section.sh_type(endian) != SHT_NULL).map(|section| section.sh_addr(endian).into());
    let context = Context {
        is_64: Elf::is_type_64_sized(),
        is_little: endian == Endianness::Little,
        base,
        segments: segments(header, endian, data).map_err(said)?,
        arch: architecture(header.e_machine(endian), Elf::is_type_64_sized(), endian),
        path: path.into(),
    };
    let mut probes = Vec::new();
    for section in found {
        let Some(mut notes) = section.notes(endian, data).map_err(said)? else { continue };
        while let Some(note) = notes.next().map_err(said)? {
            if note.name() == b"stapsdt" && note.n_type(endian) == elf::NoteType(NT_STAPSDT) {
                probes.push(context.probe(note.desc())?);
            }
        }
    }
    Ok(probes)
}

/// The type of the notes, of `<sys/sdt.h>`.
const NT_STAPSDT: u32 = 3;

/// The machine whose registers the arguments name. A 32-bit x86 program has those of the 64-bit kernel that it runs on.
fn architecture(machine: elf::Machine, is_64: bool, endian: Endianness) -> Option<Arch> {
    match machine {
        elf::EM_X86_64 | elf::EM_386 => Some(Arch::X86_64),
        elf::EM_AARCH64 if endian == Endianness::Little => Some(Arch::Aarch64),
        elf::EM_RISCV if is_64 && endian == Endianness::Little => Some(Arch::Riscv64),
        _ => None,
    }
}

/// A part of the file that is loaded: its address, its offset in the file, its bytes there.
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

fn segments<'data, Elf: FileHeader<Endian = Endianness>>(
    header: &Elf,
    endian: Endianness,
    data: impl ReadRef<'data>,
) -> object::read::Result<Vec<Segment>> {
    let headers = header.program_headers(endian, data)?.iter().filter(|part| part.p_type(endian) == PT_LOAD);
    let segment = |part: &Elf::ProgramHeader| Segment {
        address: part.p_vaddr(endian).into(),
        offset: part.p_offset(endian).into(),
        size: part.p_filesz(endian).into(),
    };
    Ok(headers.map(segment).collect())
}

/// What of the file a note cannot be understood without.
struct Context {
    is_64: bool,
    is_little: bool,
    /// Where `.stapsdt.base` is now. Each note says where it was when the note was written: prelinking moves sections and
    /// leaves notes alone.
    base: Option<u64>,
    segments: Vec<Segment>,
    arch: Option<Arch>,
    path: Arc<Path>,
}

impl Context {
    /// A note's three addresses and three strings.
    fn probe(&self, note: &[u8]) -> Result<Usdt, Mistake> {
        let cut = || format!("a note of {} bytes in .note.stapsdt is cut", note.len());
        let (address, rest) = self.address(note).ok_or_else(cut)?;
        let (base, rest) = self.address(rest).ok_or_else(cut)?;
        let (semaphore, rest) = self.address(rest).ok_or_else(cut)?;
        let mut strings = rest.split(|&byte| byte == 0);
        let mut string = || {
            let bytes = strings.next().ok_or_else(cut)?;
            let text = std::str::from_utf8(bytes).map_err(|error| format!("a note in .note.stapsdt: {error}"))?;
            Ok::<_, Mistake>(text.to_owned())
        };
        let (provider, name, arguments) = (string()?, string()?, string()?);
        let moved = self.base.filter(|_| base != 0).map_or(0, |now| now.wrapping_sub(base));
        let location = |address: u64| {
            let address = address.wrapping_add(moved);
            let address = if self.is_64 { address } else { address & u64::from(u32::MAX) };
            Location { address, offset: self.offset(address) }
        };
        Ok(Usdt {
            path: self.path.clone(),
            provider,
            name,
            location: location(address),
            semaphore: (semaphore != 0).then(|| location(semaphore)),
            arguments,
            arch: self.arch,
        })
    }

    /// The first address, and what is after it.
    fn address<'a>(&self, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
        if self.is_64 {
            let (word, rest) = bytes.split_first_chunk()?;
            Some((if self.is_little { u64::from_le_bytes(*word) } else { u64::from_be_bytes(*word) }, rest))
        } else {
            let (word, rest) = bytes.split_first_chunk()?;
            let word = if self.is_little { u32::from_le_bytes(*word) } else { u32::from_be_bytes(*word) };
            Some((word.into(), rest))
        }
    }

    /// Where an address is in the file.
    fn offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address).filter(|&within| within < segment.size)?;
            segment.offset.checked_add(within)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Elf, SEGMENT};
    use super::*;

    /// What a test compares: strings, addresses and offsets.
    type Row<'a> = ([&'a str; 3], (u64, Option<u64>), Option<(u64, Option<u64>)>);

    const KINDS: [(bool, bool, elf::Machine); 4] = [
        (true, true, elf::EM_X86_64),
        (false, true, elf::EM_386),
        (true, false, elf::EM_S390),
        (false, false, elf::EM_PPC),
    ];

    fn files() -> impl Iterator<Item = Elf> {
        KINDS.into_iter().map(|(is_64, is_little, machine)| Elf { is_64, is_little, machine, base: 0x40_1800 })
    }

    /// Two probes of ours among other notes: one whose file was not moved, and one that was by 0x100.
    fn notes(elf: Elf) -> Vec<u8> {
        let (start, ..) = SEGMENT;
        [
            elf.note(b"GNU\0", 3, &[1; 20]),
            elf.probe([start + 0x10, 0x40_1800, 0], ["libc", "setjmp", "8@%rdi -4@%esi"]),
            elf.note(b"stapsdt\0", 4, b"another type"),
            elf.probe([start + 0x10, 0x40_1700, start + 0x1f00], ["p", "q", ""]),
            elf.probe([start + 0x2000, 0, start - 1], ["p", "elsewhere", ""]),
        ]
        .concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Usdt>, Error> {
        Usdt::of_bytes(bytes, "/fixture")
    }

    #[test]
    fn probes_of_either_width_and_byte_order_are_found() {
        for elf in files() {
            let probes = read(&elf.file(&notes(elf))).unwrap();
            let rows: Vec<Row<'_>> = probes
                .iter()
                .map(|probe| {
                    let strings = [&*probe.provider, &*probe.name, &*probe.arguments];
                    let place = |location: Location| (location.address, location.offset);
                    (strings, place(probe.location), probe.semaphore.map(place))
                })
                .collect();
            let expected: [Row<'_>; 3] = [
                (["libc", "setjmp", "8@%rdi -4@%esi"], (0x40_0010, Some(0x1010)), None),
                // Prelinking has moved both addresses.
                (["p", "q", ""], (0x40_0110, Some(0x1110)), Some((0x40_2000, None))),
                (["p", "elsewhere", ""], (0x40_2000, None), Some((0x3f_ffff, None))),
            ];
            assert_eq!(rows, expected, "{:?}", elf.machine);
            let is_x86 = matches!(elf.machine, elf::EM_X86_64 | elf::EM_386);
            assert_eq!(probes[0].arch, is_x86.then_some(Arch::X86_64));
            assert_eq!(probes[0].args().is_ok(), is_x86);
            let error = probes[2].attach().unwrap_err().to_string();
            assert_eq!(
                error,
                "cannot probe p:elsewhere in /fixture: its address 0x402000 is in no part of the file that is loaded"
            );
        }
    }

    #[test]
    fn a_file_without_notes_has_no_probes_and_others_are_refused() {
        for elf in files() {
            assert_eq!(read(&elf.file(&[])).unwrap(), []);
        }
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x03"] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.starts_with("cannot read the probes of /fixture: it is"), "{error}");
        }
        let error = Usdt::of_file("/nonexistent").unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
        let error = Usdt::of_file("/proc").unwrap_err().to_string();
        assert_eq!(error, "cannot read the probes of /proc: it is a directory");
    }

    #[test]
    fn a_file_that_ends_anywhere_is_refused_or_read() {
        for elf in files() {
            let file = elf.file(&notes(elf));
            // The table of sections is at the end, so that no part of the file is whole without it.
            for end in 0..file.len() {
                assert!(read(&file[..end]).is_err(), "{end} of {} bytes", file.len());
            }
        }
    }

    #[test]
    fn no_byte_whatever_its_value_does_harm() {
        for elf in files() {
            let file = elf.file(&notes(elf));
            for at in 0..file.len() {
                for value in [0, 1, 3, 0x7f, 0x80, 0xff, file[at] ^ 1, file[at].wrapping_add(4)] {
                    let mut file = file.clone();
                    file[at] = value;
                    let Ok(probes) = read(&file) else { continue };
                    // What is kept are pieces of the file.
                    let length = |probe: &Usdt| probe.provider.len() + probe.name.len() + probe.arguments.len();
                    assert!(probes.iter().map(length).sum::<usize>() <= file.len(), "byte {at} is {value}");
                    for probe in &probes {
                        let _ = (probe.args(), probe.attach());
                    }
                }
            }
        }
    }

    #[test]
    fn a_size_that_the_file_does_not_have_is_not_believed() {
        let elf = files().next().unwrap();
        let notes = notes(elf);
        let mut file = elf.file(&notes);
        let section = file.len() - 3 * 64;
        file[section + 32..section + 40].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = read(&file).unwrap_err().to_string();
        assert!(error.ends_with("its sections .note.stapsdt are longer than the file"), "{error}");
        let cut = elf.note(b"stapsdt\0", 3, &[1; 23]);
        let error = read(&elf.file(&cut)).unwrap_err().to_string();
        assert!(error.ends_with("a note of 23 bytes in .note.stapsdt is cut"), "{error}");
        let two_strings = elf.note(b"stapsdt\0", 3, &[&[1; 24][..], b"provider\0name"].concat());
        assert!(read(&elf.file(&two_strings)).is_err());
        let not_text = elf.note(b"stapsdt\0", 3, &[&[1; 24][..], b"\xff\0\0\0"].concat());
        assert!(read(&elf.file(&not_text)).unwrap_err().to_string().contains("utf-8"));
    }

    /// What binutils tell of a file: strings and addresses, as its notes have them.
    fn by_readelf(path: &Path) -> Option<Vec<([String; 3], [u64; 3])>> {
        let output = std::process::Command::new("readelf").arg("-n").arg(path).env("LC_ALL", "C").output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let mut found = Vec::new();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let Some(provider) = line.strip_prefix("Provider: ") else { continue };
            let mut string = |key| lines.next().unwrap().strip_prefix(key).unwrap().trim().to_owned();
            let (name, places, arguments) = (string("Name: "), string("Location: "), string("Arguments:"));
            let numbers = places.split([' ', ',']).filter_map(|word| word.strip_prefix("0x"));
            let numbers: Vec<u64> = numbers.map(|number| u64::from_str_radix(number, 16).unwrap()).collect();
            found.push(([provider.to_owned(), name, arguments], numbers.try_into().unwrap()));
        }
        Some(found)
    }

    #[test]
    fn binutils_find_the_same_probes() {
        let directory = std::env::temp_dir().join(format!("bpfkit-usdt-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let made = files().zip(0..).map(|(elf, number)| {
            let path = directory.join(number.to_string());
            std::fs::write(&path, elf.file(&notes(elf))).unwrap();
            (path, elf.base)
        });
        // Distributions build these with probes; of those that are here each has some.
        let library = |name| Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join(name);
        let installed =
            [library("libstdc++.so.6"), library("libc.so.6"), "/usr/bin/python3".into(), "/usr/bin/perf".into()];
        let installed = installed.into_iter().filter(|path| path.exists()).map(|path| (path, 0));
        let (mut files, mut probes) = (0, 0);
        for (path, base) in made.chain(installed) {
            let Some(theirs) = by_readelf(&path) else {
                eprintln!("skipped: there is no readelf to compare with");
                break;
            };
            let theirs: Vec<_> = theirs
                .into_iter()
                .map(|(strings, [location, then, semaphore])| {
                    let moved = if base == 0 || then == 0 { 0 } else { base - then };
                    (strings, location + moved, (semaphore != 0).then(|| semaphore + moved))
                })
                .collect();
            let ours: Vec<_> = Usdt::of_file(&path)
                .unwrap()
                .into_iter()
                .map(|probe| {
                    let strings = [probe.provider, probe.name, probe.arguments];
                    (strings, probe.location.address, probe.semaphore.map(|semaphore| semaphore.address))
                })
                .collect();
            assert_eq!(ours, theirs, "{}", path.display());
            (files, probes) = (files + 1, probes + ours.len());
        }
        eprintln!("{probes} probes of {files} files compared");
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(files == 0 || probes >= 12, "{probes} of {files}");
    }
}
