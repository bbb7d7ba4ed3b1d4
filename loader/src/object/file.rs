//! The file itself: sections, symbols, relocations. Written here because the writer of the crate `object` takes 60 KB of the binary.

use object::elf::{
    EM_BPF, ET_REL, RelocationType, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_WRITE, SHT_PROGBITS, SHT_REL,
    SHT_STRTAB, SHT_SYMTAB, STB_GLOBAL, STB_LOCAL, STT_FUNC, STT_OBJECT, STT_SECTION,
};

use super::layout::Part;

/// The number of a section. There is none of number 0.
pub(super) type SectionId = usize;
/// A symbol, in the order in which they were added.
pub(super) type SymbolId = usize;

/// An ELF relocatable for BPF, in this machine's byte order.
#[derive(Default)]
pub(super) struct File {
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
}

#[derive(Default)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    bytes: Vec<u8>,
    /// The table of symbols or strings that it needs, and what `info` means for its kind.
    link: SectionId,
    info: usize,
    /// Bytes of an element.
    entry: usize,
    relocations: Vec<(usize, SymbolId, RelocationType)>,
}

struct Symbol {
    name: String,
    is_global: bool,
    kind: u8,
    section: SectionId,
    start: usize,
    size: usize,
}

const ALIGN: usize = 8;
/// `Elf64_Ehdr`, `Elf64_Shdr`, `Elf64_Sym`, `Elf64_Rel`.
const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;

impl File {
    /// A section that will have instructions.
    pub(super) fn code(&mut self, name: &str) -> SectionId {
        self.section(name, SHT_PROGBITS.0, SHF_ALLOC.0 | SHF_EXECINSTR.0, Vec::new())
    }

    /// Puts instructions there.
    pub(super) fn fill(&mut self, section: SectionId, bytes: Vec<u8>) {
        self.sections[section - 1].bytes = bytes;
    }

    /// A section with variables.
    pub(super) fn data(&mut self, name: &str, bytes: Vec<u8>) -> SectionId {
        self.section(name, SHT_PROGBITS.0, SHF_ALLOC.0 | SHF_WRITE.0, bytes)
    }

    /// A section that is no part of the program.
    pub(super) fn plain(&mut self, name: &str, bytes: Vec<u8>) {
        self.section(name, SHT_PROGBITS.0, 0, bytes);
    }

    fn section(&mut self, name: &str, kind: u32, flags: u64, bytes: Vec<u8>) -> SectionId {
        self.sections.push(Section { name: name.to_owned(), kind, flags, bytes, ..Section::default() });
        self.sections.len()
    }

    /// A variable of so many bytes.
    pub(super) fn variable(&mut self, name: &str, section: SectionId, start: usize, size: usize) -> SymbolId {
        self.symbol(Symbol { name: name.to_owned(), is_global: true, kind: STT_OBJECT.0, section, start, size })
    }

    /// A function.
    pub(super) fn function(&mut self, part: &Part<'_>, section: SectionId) -> SymbolId {
        let (start, size) = (part.start * 8, part.slots.len() * 8);
        self.symbol(Symbol {
            name: part.name.clone(),
            is_global: part.is_global,
            kind: STT_FUNC.0,
            section,
            start,
            size,
        })
    }

    /// The symbol that stands for a section.
    pub(super) fn section_symbol(&mut self, section: SectionId) -> SymbolId {
        self.symbol(Symbol { name: String::new(), is_global: false, kind: STT_SECTION.0, section, start: 0, size: 0 })
    }

    fn symbol(&mut self, symbol: Symbol) -> SymbolId {
        self.symbols.push(symbol);
        self.symbols.len() - 1
    }

    /// Says that the instruction at byte `at` of a section wants the place of `symbol`.
    pub(super) fn relocation(&mut self, section: SectionId, at: usize, symbol: SymbolId, kind: RelocationType) {
        self.sections[section - 1].relocations.push((at, symbol, kind));
    }

    /// The file.
    pub(super) fn write(mut self) -> Vec<u8> {
        let mut strings = Bytes(vec![0]);
        // Local symbols are first, after one that is none.
        let (mut order, globals): (Vec<SymbolId>, Vec<SymbolId>) =
            (0..self.symbols.len()).partition(|&id| !self.symbols[id].is_global);
        let locals = order.len();
        order.extend(globals);
        let number = |id: SymbolId| order.iter().position(|&known| known == id).map_or(0, |at| at + 1);

        let count = self.sections.len();
        let relocated = self.sections.iter().filter(|section| !section.relocations.is_empty()).count();
        let table = count + relocated + 1;
        for target in 1..=count {
            let Section { name, relocations, .. } = &self.sections[target - 1];
            if relocations.is_empty() {
                continue;
            }
            let mut bytes = Bytes::default();
            for &(at, symbol, kind) in relocations {
                bytes.wide(at);
                // The symbol in the upper half.
                let info = u64::try_from(number(symbol)).unwrap_or(u64::MAX) << 32 | u64::from(kind.0);
                bytes.0.extend(info.to_ne_bytes());
            }
            let (name, kind, flags) = ([".rel", name].concat(), SHT_REL.0, SHF_INFO_LINK.0);
            let (bytes, link, info, entry) = (bytes.0, table, target, RELOCATION);
            self.sections.push(Section { name, kind, flags, bytes, link, info, entry, ..Section::default() });
        }
        let mut bytes = Bytes(vec![0; SYMBOL]);
        for &id in &order {
            let Symbol { name, is_global, kind, section, start, size } = &self.symbols[id];
            let binding = if *is_global { STB_GLOBAL.0 } else { STB_LOCAL.0 };
            bytes.size(strings.string(name));
            bytes.0.extend([binding << 4 | kind, 0]);
            bytes.half(*section);
            bytes.wide(*start);
            bytes.wide(*size);
        }
        let symbols = Section { name: ".symtab".to_owned(), kind: SHT_SYMTAB.0, bytes: bytes.0, ..Section::default() };
        self.sections.push(Section { link: table + 1, info: locals + 1, entry: SYMBOL, ..symbols });
        let own = ".strtab".to_owned();
        self.sections.push(Section { name: own, kind: SHT_STRTAB.0, ..Section::default() });
        let names: Vec<usize> = self.sections.iter().map(|section| strings.string(&section.name)).collect();
        self.fill(table + 1, strings.0);
        self.lay_out(&names)
    }

    /// The header, what the sections have, and their table.
    fn lay_out(self, names: &[usize]) -> Vec<u8> {
        let count = self.sections.len();
        let room = |section: &Section| section.bytes.len() + ALIGN + SECTION;
        let mut bytes = Vec::with_capacity(HEADER + SECTION + self.sections.iter().map(room).sum::<usize>());
        bytes.resize(HEADER, 0);
        let mut table = Bytes(vec![0; SECTION]);
        for (section, &name) in self.sections.into_iter().zip(names) {
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            table.size(name);
            table.word(section.kind);
            table.0.extend(section.flags.to_ne_bytes());
            // Nothing has an address yet.
            [0, bytes.len(), section.bytes.len()].into_iter().for_each(|n| table.wide(n));
            table.size(section.link);
            table.size(section.info);
            table.wide(ALIGN);
            table.wide(section.entry);
            bytes.extend_from_slice(&section.bytes);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        // 64 bits, this byte order, version 1, System V.
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        let mut header = Bytes([b"\x7fELF", [2, order, 1, 0].as_slice(), &[0; 8]].concat());
        header.half(ET_REL.0.into());
        header.half(EM_BPF.0.into());
        header.word(1);
        // Neither an entry nor segments, but the table of sections; no flags.
        [0, 0, bytes.len()].into_iter().for_each(|n| header.wide(n));
        header.word(0);
        // The last section is that of the names.
        [HEADER, 0, 0, SECTION, count + 1, count].into_iter().for_each(|n| header.half(n));
        bytes[..HEADER].copy_from_slice(&header.0);
        bytes.extend(table.0);
        bytes
    }
}

/// Bytes in this machine's order. What does not fit is too large for any object: tools have a few dozens of sections.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn half(&mut self, n: usize) {
        self.0.extend(u16::try_from(n).unwrap_or(u16::MAX).to_ne_bytes());
    }

    fn word(&mut self, n: u32) {
        self.0.extend(n.to_ne_bytes());
    }

    /// In 4 bytes.
    fn size(&mut self, n: usize) {
        self.word(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// In 8 bytes.
    fn wide(&mut self, n: usize) {
        self.0.extend(u64::try_from(n).unwrap_or(u64::MAX).to_ne_bytes());
    }

    /// Adds a string and the NUL that ends it. Where it is.
    fn string(&mut self, text: &str) -> usize {
        let at = self.0.len();
        self.0.extend(text.bytes().chain([0]));
        at
    }
}
