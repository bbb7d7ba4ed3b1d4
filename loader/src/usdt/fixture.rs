//! ELF files made for tests: of either width and byte order, with probes.

use object::elf;

/// A file with a part that is loaded, notes of probes, and `.stapsdt.base`.
#[derive(Clone, Copy)]
pub(super) struct Elf {
    pub is_64: bool,
    pub is_little: bool,
    pub machine: elf::Machine,
    /// Where `.stapsdt.base` is now.
    pub base: u64,
}

/// Where the loaded part is: its address, its offset, its size.
pub(super) const SEGMENT: (u64, u64, u64) = (0x40_0000, 0x1000, 0x2000);

impl Elf {
    fn number(self, value: u64, bytes: usize) -> Vec<u8> {
        let little = value.to_le_bytes();
        let mut number = little[..bytes].to_vec();
        if !self.is_little {
            number.reverse();
        }
        number
    }

    fn half(self, value: u16) -> Vec<u8> {
        self.number(value.into(), 2)
    }

    fn word(self, value: u32) -> Vec<u8> {
        self.number(value.into(), 4)
    }

    /// An address, an offset or a size.
    fn long(self, value: u64) -> Vec<u8> {
        self.number(value, if self.is_64 { 8 } else { 4 })
    }

    /// A note of this owner and type around a description.
    pub(super) fn note(self, owner: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut note = [self.word(length(owner)), self.word(length(description)), self.word(kind)].concat();
        for part in [owner, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    /// A probe's note: where it is, where `.stapsdt.base` was, its semaphore, its strings.
    pub(super) fn probe(self, addresses: [u64; 3], strings: [&str; 3]) -> Vec<u8> {
        let mut description = addresses.map(|address| self.long(address)).concat();
        for string in strings {
            description.extend(string.as_bytes());
            description.push(0);
        }
        self.note(b"stapsdt\0", 3, &description)
    }

    /// The whole file.
    pub(super) fn file(self, notes: &[u8]) -> Vec<u8> {
        let (header, part, section) = if self.is_64 { (64, 56, 64) } else { (52, 32, 40) };
        let names = b"\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0";
        let notes_at = header + part;
        let names_at = (notes_at + notes.len()).next_multiple_of(8);
        let sections_at = (names_at + names.len()).next_multiple_of(8);
        let long = |value: usize| self.long(u64::try_from(value).unwrap());
        let half = |value: usize| self.half(u16::try_from(value).unwrap());
        let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(self.is_64), 2 - u8::from(self.is_little), 1];
        file.resize(16, 0);
        file.extend([self.half(elf::ET_DYN.0), self.half(self.machine.0), self.word(1), self.long(0)].concat());
        file.extend([long(header), long(sections_at), self.word(0), half(header), half(part), half(1)].concat());
        file.extend([half(section), half(4), half(3)].concat());
        let (address, offset, size) = SEGMENT;
        let (address, offset, size) = (self.long(address), self.long(offset), self.long(size));
        let (kind, flags, align) = (self.word(elf::PT_LOAD.0), self.word(5), self.long(0x1000));
        let words: [&[u8]; 8] = if self.is_64 {
            [&kind, &flags, &offset, &address, &address, &size, &size, &align]
        } else {
            [&kind, &offset, &address, &address, &size, &size, &flags, &align]
        };
        file.extend(words.concat());
        file.extend(notes);
        file.resize(names_at, 0);
        file.extend(names);
        file.resize(sections_at, 0);
        let kinds = [elf::SHT_NULL, elf::SHT_NOTE, elf::SHT_PROGBITS, elf::SHT_STRTAB];
        let places =
            [(0, 0, 0, 0), (1, 0, notes_at, notes.len()), (15, self.base, 0, 1), (29, 0, names_at, names.len())];
        for (kind, (name, address, offset, size)) in kinds.into_iter().zip(places) {
            file.extend([self.word(name), self.word(kind.0), self.long(0), self.long(address)].concat());
            file.extend([long(offset), long(size), self.word(0), self.word(0), long(4), long(0)].concat());
        }
        file
    }
}
