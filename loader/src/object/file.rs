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
    entry: u64,
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
const SECTION: u16 = 64;
const SYMBOL: u64 = 24;
const RELOCATION: u64 = 16;

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
        let mut strings = Strings(vec![0]);
        // Local symbols are first, after one that is none.
        let locals = self.symbols.iter().filter(|symbol| !symbol.is_global).count();
        let mut order: Vec<SymbolId> = (0..self.symbols.len()).collect();
        order.sort_by_key(|&id| self.symbols[id].is_global);
        let number = |id: SymbolId| order.iter().position(|&known| known == id).map_or(0, |at| at + 1);

        let targets = 1..=self.sections.len();
        let has_relocations = |&at: &SectionId| !self.sections[at - 1].relocations.is_empty();
        let relocated: Vec<SectionId> = targets.filter(has_relocations).collect();
        let table = self.sections.len() + relocated.len() + 1;
        for &target in &relocated {
            let mut bytes = Vec::new();
            for &(at, symbol, kind) in &self.sections[target - 1].relocations {
                bytes.extend(wide(at).to_ne_bytes());
                bytes.extend((wide(number(symbol)) << 32 | u64::from(kind.0)).to_ne_bytes());
            }
            let name = format!(".rel{}", self.sections[target - 1].name);
            let (kind, flags) = (SHT_REL.0, SHF_INFO_LINK.0);
            let (link, info, entry) = (table, target, RELOCATION);
            self.sections.push(Section { name, kind, flags, bytes, link, info, entry, ..Section::default() });
        }
        let mut bytes = vec![0; 24];
        for &id in &order {
            let Symbol { name, is_global, kind, section, start, size } = &self.symbols[id];
            let binding = if *is_global { STB_GLOBAL.0 } else { STB_LOCAL.0 };
            bytes.extend(strings.add(name).to_ne_bytes());
            bytes.extend([binding << 4 | kind, 0]);
            bytes.extend(half(*section).to_ne_bytes());
            bytes.extend([wide(*start), wide(*size)].iter().flat_map(|word| word.to_ne_bytes()));
        }
        let at = self.section(".symtab", SHT_SYMTAB.0, 0, bytes);
        let (link, info) = (at + 1, locals + 1);
        self.sections[at - 1] = Section { link, info, entry: SYMBOL, ..std::mem::take(&mut self.sections[at - 1]) };
        let names = self.sections.iter().map(|section| strings.add(&section.name)).collect::<Vec<u32>>();
        let own = strings.add(".strtab");
        self.section(".strtab", SHT_STRTAB.0, 0, strings.0);
        self.lay_out(names.into_iter().chain([own]))
    }

    /// The header, what the sections have, and their table.
    fn lay_out(&self, names: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let mut table = vec![0; usize::from(SECTION)];
        for (section, name) in self.sections.iter().zip(names) {
            bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
            table.extend([name, section.kind].iter().flat_map(|word| word.to_ne_bytes()));
            // The address is 0: nothing is anywhere yet.
            let place = [section.flags, 0, wide(bytes.len()), wide(section.bytes.len())];
            table.extend(place.iter().flat_map(|word| word.to_ne_bytes()));
            table.extend([section.link, section.info].iter().flat_map(|&word| word_of(word).to_ne_bytes()));
            table.extend([wide(ALIGN), section.entry].iter().flat_map(|word| word.to_ne_bytes()));
            bytes.extend(&section.bytes);
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        let order = if cfg!(target_endian = "little") { 1 } else { 2 };
        // 64 bits, version 1, System V.
        let mut header = [b"\x7fELF", [2, order, 1, 0].as_slice(), &[0; 8]].concat();
        header.extend([ET_REL.0, EM_BPF.0].iter().flat_map(|half| half.to_ne_bytes()));
        header.extend(1_u32.to_ne_bytes());
        // Neither an entry nor segments; the table of sections.
        header.extend([0, 0, wide(bytes.len())].iter().flat_map(|word| word.to_ne_bytes()));
        header.extend(0_u32.to_ne_bytes());
        let count = self.sections.len();
        let halves = [half(HEADER), 0, 0, SECTION, half(count + 1), half(count)];
        header.extend(halves.iter().flat_map(|half| half.to_ne_bytes()));
        bytes[..HEADER].copy_from_slice(&header);
        bytes.extend(table);
        bytes
    }
}

/// A table of strings, each ended by a NUL.
struct Strings(Vec<u8>);

impl Strings {
    /// Where the string is.
    fn add(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.0.len();
        self.0.extend(text.bytes().chain([0]));
        word_of(at)
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn word_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Tools have a few dozens of sections.
fn half(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
