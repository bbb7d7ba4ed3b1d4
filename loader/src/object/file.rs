//! The file itself: sections, symbols, relocations.

use object::elf::RelocationType;
use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

use super::layout::Part;
use crate::Error;

/// An ELF relocatable for BPF.
pub(super) struct File(Object<'static>);

impl File {
    pub(super) fn new() -> Self {
        Self(Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::default()))
    }

    /// A section that will have instructions.
    pub(super) fn code(&mut self, name: &str) -> SectionId {
        self.0.add_section(Vec::new(), name.into(), SectionKind::Text)
    }

    /// Puts the instructions there.
    pub(super) fn fill(&mut self, section: SectionId, bytes: Vec<u8>) {
        self.0.set_section_data(section, bytes, 8);
    }

    /// A section with variables.
    pub(super) fn data(&mut self, name: &str, bytes: &[u8]) -> SectionId {
        self.bytes(name, SectionKind::Data, 8, bytes)
    }

    /// A section that is no part of the program.
    pub(super) fn plain(&mut self, name: &str, bytes: &[u8]) {
        self.bytes(name, SectionKind::Debug, 4, bytes);
    }

    fn bytes(&mut self, name: &str, kind: SectionKind, align: u64, bytes: &[u8]) -> SectionId {
        let section = self.0.add_section(Vec::new(), name.into(), kind);
        self.0.append_section_data(section, bytes, align);
        section
    }

    /// A variable of so many bytes.
    pub(super) fn variable(&mut self, name: &str, section: SectionId, start: usize, size: usize) -> SymbolId {
        self.symbol(name, section, start, size, (SymbolKind::Data, true))
    }

    /// A function.
    pub(super) fn function(&mut self, part: &Part<'_>, section: SectionId) -> SymbolId {
        let (start, size) = (part.start * 8, part.slots.len() * 8);
        self.symbol(&part.name, section, start, size, (SymbolKind::Text, part.is_global))
    }

    fn symbol(
        &mut self,
        name: &str,
        section: SectionId,
        start: usize,
        size: usize,
        (kind, is_global): (SymbolKind, bool),
    ) -> SymbolId {
        let [value, size] = [start, size].map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
        self.0.add_symbol(Symbol {
            name: name.into(),
            value,
            size,
            kind,
            scope: if is_global { SymbolScope::Dynamic } else { SymbolScope::Compilation },
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    }

    /// The symbol that stands for a section.
    pub(super) fn section_symbol(&mut self, section: SectionId) -> SymbolId {
        self.0.section_symbol(section)
    }

    /// Says that the instruction at `at` wants the place of `symbol`.
    pub(super) fn relocation(
        &mut self,
        section: SectionId,
        at: usize,
        symbol: SymbolId,
        r_type: RelocationType,
    ) -> Result<(), Error> {
        let offset = u64::try_from(at).unwrap_or(u64::MAX);
        let relocation = Relocation { offset, symbol, addend: 0, flags: RelocationFlags::Elf { r_type } };
        self.0.add_relocation(section, relocation).map_err(unwritten)
    }

    /// The file.
    pub(super) fn write(&self) -> Result<Vec<u8>, Error> {
        self.0.write().map_err(unwritten)
    }
}

fn unwritten(error: object::write::Error) -> Error {
    Error::Object(error.to_string())
}
