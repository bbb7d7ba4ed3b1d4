//! Object files for BPF: sections of instructions, what they refer to, and what is known of them.

use std::collections::BTreeMap;
use std::ops::Range;

use bpfkit_asm::{Insn, Opcode, Reference, is_name};
use bpfkit_btf::{Btf, BtfExt};
use object::elf::{EM_BPF, FileHeader64, R_BPF_64_32, R_BPF_64_64};
use object::read::elf::{ElfFile, FileHeader};
use object::{
    Endianness, Object as _, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionIndex, SectionKind,
    SymbolKind,
};

use super::{maps, slots};
use crate::asm::{MapDef, word};

type Elf<'a> = ElfFile<'a, FileHeader64<Endianness>>;
type Section<'a, 'f> = object::read::elf::ElfSection<'a, 'f, FileHeader64<Endianness>>;

/// Instructions, and what is known of them.
#[derive(Debug, Default)]
pub struct Object {
    /// Whether it is an object file, and not bare instructions.
    pub is_elf: bool,
    /// Whether it is for machines of that byte order.
    pub big_endian: bool,
    /// What it says of its licence.
    pub license: Option<String>,
    /// Its maps, and the data sections that its instructions refer to.
    pub maps: Vec<MapDef>,
    /// What could not be read.
    pub notes: Vec<String>,
    /// The sections that hold instructions.
    pub sections: Vec<Code>,
    btf: Option<Btf>,
    ext: Vec<u8>,
}

/// A section of instructions.
#[derive(Debug, Default)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// Its slots.
    pub insns: Vec<Insn>,
    /// What comes after them and is less than a slot.
    pub tail: Vec<u8>,
    /// Its functions, which are all of its slots, in order.
    pub funcs: Vec<Span>,
    /// What instructions refer to, by slot.
    pub references: BTreeMap<usize, Reference>,
    /// What is known of other instructions, by slot.
    pub notes: BTreeMap<usize, String>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its name. There may be one for each instruction.
    pub name: Box<str>,
    /// Its slots.
    pub slots: Range<usize>,
}

/// A source line, at the first slot that was made of it.
#[derive(Clone, Copy, Debug)]
pub struct SourceLine<'a> {
    pub slot: usize,
    pub file: &'a [u8],
    pub line: u32,
    pub text: &'a [u8],
}

impl Code {
    /// Gives the slots to functions, by the slots where these begin, in order, each once: the first has what comes before it as well.
    fn divide(&mut self, mut starts: Vec<usize>, name: impl Fn(usize) -> String) {
        let mut begins = vec![false; self.insns.len()];
        for listed in bpfkit_asm::list(&self.insns, &()) {
            begins.get_mut(listed.slot).into_iter().for_each(|begin| *begin = true);
        }
        // A function cannot begin within an instruction.
        starts.retain(|&slot| begins.get(slot) == Some(&true));
        if !self.insns.is_empty() && starts.first() != Some(&0) {
            starts.insert(0, 0);
        }
        let ends = starts.iter().copied().skip(1).chain([self.insns.len()]);
        let spans = starts.iter().zip(ends);
        self.funcs = spans.map(|(&start, end)| Span { name: name(start).into(), slots: start..end }).collect();
    }

    /// The name of the function that begins at a slot.
    fn at(&self, slot: usize) -> Option<&str> {
        let found = self.funcs.binary_search_by_key(&slot, |func| func.slots.start).ok()?;
        self.funcs.get(found).map(|func| &*func.name)
    }

    /// The function of this section that an instruction calls, or takes the address of, by its distance.
    pub fn callee(&self, slot: usize) -> Option<&str> {
        let insn = self.insns.get(slot)?;
        let is_known = insn.refers_to_function() && !self.references.contains_key(&slot);
        self.at(insn.destination(slot).filter(|_| is_known)?)
    }

    /// Leaves one function, if it has that.
    pub fn only(&mut self, name: &str) -> bool {
        self.funcs.retain(|func| *func.name == *name);
        self.tail.clear();
        !self.funcs.is_empty()
    }
}

impl Object {
    /// Bare instructions. Functions begin where others are called.
    pub fn of_bytes(bytes: &[u8], big_endian: bool) -> Self {
        let (insns, tail) = slots(bytes, big_endian);
        let called = insns.iter().enumerate();
        let called = called.filter_map(|(slot, insn)| insn.destination(slot).filter(|_| insn.refers_to_function()));
        let mut starts: Vec<usize> = called.collect();
        starts.sort_unstable();
        starts.dedup();
        let mut code = Code { tail: tail.to_vec(), ..Code::default() };
        code.insns = insns;
        code.divide(starts, |slot| if slot == 0 { "main".to_owned() } else { format!("f{slot}") });
        Self { big_endian, sections: vec![code], ..Self::default() }
    }

    /// Reads an object file.
    ///
    /// # Errors
    /// What the file is instead of an object for BPF with instructions; where it is cut off.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.get(4) == Some(&object::elf::ELFCLASS32.0) {
            return Err("it is an ELF file of 32 bits, and those for BPF have 64".to_owned());
        }
        let elf = Elf::parse(bytes).map_err(|error| error.to_string())?;
        let machine = elf.elf_header().e_machine(elf.endian());
        if machine != EM_BPF {
            return Err(format!("it is for another machine (ELF machine {}), not for BPF", machine.0));
        }
        let mut object = Self { is_elf: true, big_endian: !elf.is_little_endian(), ..Self::default() };
        object.types(&elf);
        let is_code = |section: &Section<'_, '_>| section.kind() == SectionKind::Text && section.size() > 0;
        let sections: Vec<Section<'_, '_>> = elf.sections().filter(is_code).collect();
        if sections.is_empty() {
            return Err("it has no section with instructions".to_owned());
        }
        let mut functions = Functions::default();
        for section in &sections {
            let named = |error: object::Error| format!("a section with instructions: {error}");
            let data = section.data().map_err(named)?;
            let (insns, tail) = slots(data, object.big_endian);
            let mut code = Code {
                name: String::from_utf8_lossy(section.name_bytes().map_err(named)?).into_owned(),
                tail: tail.to_vec(),
                ..Code::default()
            };
            code.insns = insns;
            let mut starts = BTreeMap::new();
            for symbol in elf.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
                let is_func = symbol.kind() == SymbolKind::Text || symbol.is_global();
                let offset = symbol.address().checked_sub(section.address()).filter(|offset| offset % 8 == 0);
                let slot = offset.and_then(|offset| usize::try_from(offset / 8).ok());
                let name = String::from_utf8_lossy(symbol.name_bytes().unwrap_or_default());
                if let Some(slot) = slot.filter(|_| is_func && !name.is_empty()) {
                    starts.entry(slot).or_insert_with(|| functions.name(&name));
                }
            }
            starts.entry(0).or_insert_with(|| functions.name(&word(&code.name)));
            code.divide(starts.keys().copied().collect(), |slot| starts.get(&slot).cloned().unwrap_or_default());
            object.sections.push(code);
        }
        for at in 0..sections.len() {
            object.relocate(&elf, &sections, at);
        }
        object.license = elf
            .section_by_name("license")
            .and_then(|section| section.data().ok())
            .map(|data| String::from_utf8_lossy(data.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned());
        Ok(object)
    }

    /// Keeps the types, if they can be read.
    fn types(&mut self, elf: &Elf<'_>) {
        let Some(btf) = elf.section_by_name(".BTF").and_then(|section| section.data().ok()) else { return };
        match Btf::parse(btf.to_vec()) {
            Ok(btf) => self.btf = Some(btf),
            Err(error) => self.notes.push(format!("the types cannot be read: {error}")),
        }
        if let Some(ext) = elf.section_by_name(".BTF.ext").and_then(|section| section.data().ok()) {
            match self.btf.as_ref().map(|btf| BtfExt::parse(ext, btf)) {
                Some(Err(error)) => self.notes.push(format!("the source lines cannot be read: {error}")),
                _ => self.ext = ext.to_vec(),
            }
        }
    }

    /// The source lines of a section, by slot.
    pub fn lines(&self, section: &Code) -> Vec<SourceLine<'_>> {
        let ext = self.btf.as_ref().and_then(|btf| BtfExt::parse(&self.ext, btf).ok());
        let lines = ext.as_ref().map_or(&[][..], |ext| ext.lines(&section.name));
        let slot = |offset: u32| usize::try_from(offset / 8).unwrap_or(usize::MAX);
        let mut lines: Vec<SourceLine<'_>> = lines
            .iter()
            .map(|line| SourceLine { slot: slot(line.offset), file: line.file, line: line.line, text: line.text })
            .collect();
        lines.sort_by_key(|line| line.slot);
        // A line of which only another column begins tells nothing new.
        lines.dedup_by(|next, line| (next.file, next.line) == (line.file, line.line));
        lines
    }

    /// Finds what the instructions of a section refer to.
    fn relocate(&mut self, elf: &Elf<'_>, sections: &[Section<'_, '_>], at: usize) {
        let mut found = BTreeMap::new();
        let mut notes = BTreeMap::new();
        for (offset, relocation) in sections[at].relocations() {
            let Some(slot) = usize::try_from(offset / 8).ok().filter(|_| offset % 8 == 0) else { continue };
            let Some(&insn) = self.sections[at].insns.get(slot) else { continue };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let Ok(symbol) = elf.symbol_by_index(symbol) else { continue };
            let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            let name = String::from_utf8_lossy(symbol.name_bytes().unwrap_or_default()).into_owned();
            let is_call = r_type == R_BPF_64_32 && insn.code == Opcode::CALL;
            let is_wide = r_type == R_BPF_64_64 && insn.is_wide();
            if !is_call && !is_wide {
                notes.insert(slot, format!("relocation {} by {name}", r_type.0));
                continue;
            }
            let reference = match symbol.section_index() {
                None if is_call && is_name(&name) => Some(Reference::Kfunc(name.clone())),
                None => None,
                Some(section) => self.reference(elf, sections, section, (symbol.address(), &name), insn),
            };
            match reference {
                Some(reference) => drop(found.insert(slot, reference)),
                None => drop(notes.insert(slot, format!("extern {name}"))),
            }
        }
        self.sections[at].references = found;
        self.sections[at].notes = notes;
    }

    /// What an instruction refers to that has something of a section in it: a function, a map, a byte of data.
    fn reference(
        &mut self,
        elf: &Elf<'_>,
        sections: &[Section<'_, '_>],
        index: SectionIndex,
        (address, name): (u64, &str),
        insn: Insn,
    ) -> Option<Reference> {
        let address = i64::try_from(address).ok()?;
        if let Some(to) = sections.iter().position(|section| section.index() == index) {
            // A call has slots from the next instruction, an address has bytes.
            let slot = if insn.is_wide() {
                address.checked_add(insn.imm.into())? / 8
            } else {
                (address / 8).checked_add(insn.imm.into())?.checked_add(1)?
            };
            let func = self.sections.get(to)?.at(usize::try_from(slot).ok()?)?;
            return Some(Reference::Func(func.to_owned()));
        }
        if !insn.is_wide() {
            return None;
        }
        let section = elf.section_by_index(index).ok()?;
        let section_name = String::from_utf8_lossy(section.name_bytes().ok()?).into_owned();
        if matches!(section_name.as_str(), ".maps" | "maps") {
            return self.map(&section, (address, name));
        }
        if !is_name(&section_name) {
            return None;
        }
        if !self.maps.iter().any(|map| map.spec.name == section_name) {
            let data = section.data().ok()?;
            let is_writable =
                section.kind() != SectionKind::ReadOnlyData && section.kind() != SectionKind::ReadOnlyString;
            match maps::of_data(&section_name, section.size(), data, is_writable) {
                Ok(map) => self.maps.push(map),
                Err(note) => self.notes.push(note),
            }
        }
        let offset = u32::try_from(address.checked_add(insn.imm.into())?).ok()?;
        Some(Reference::MapValue(section_name, offset))
    }

    /// A map of the file, which is described once.
    fn map(&mut self, section: &Section<'_, '_>, (address, name): (i64, &str)) -> Option<Reference> {
        if !is_name(name) {
            return None;
        }
        if !self.maps.iter().any(|map| map.spec.name == name) {
            let old = || {
                let at = usize::try_from(address).ok()?;
                maps::by_definition(name, section.data().ok()?.get(at..)?, self.big_endian)
            };
            let is_old = section.name_bytes() == Ok(b"maps");
            let typed = self.btf.as_ref().filter(|_| !is_old).and_then(|btf| maps::by_types(btf, name));
            let spec = typed.or_else(|| if is_old { old() } else { None });
            match spec.filter(|spec| spec.kind.name().is_some()) {
                Some(spec) => self.maps.push(MapDef { spec, data: Vec::new() }),
                None => {
                    let note = format!("what the map {name} is like cannot be told");
                    if !self.notes.contains(&note) {
                        self.notes.push(note);
                    }
                }
            }
        }
        Some(Reference::Map(name.to_owned()))
    }
}

/// Names for functions, each one's own, as the grammar takes them.
#[derive(Default)]
struct Functions(BTreeMap<String, usize>);

impl Functions {
    fn name(&mut self, name: &str) -> String {
        let name = if is_name(name) { name.to_owned() } else { word(name) };
        let count = self.0.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { self.name(&format!("{name}.{}", *self.0.get(&name).unwrap_or(&0))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is changed in an object file, it is read or refused.
    #[test]
    fn no_object_file_upsets_the_reader() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/bpf/sample.o");
        let sample = std::fs::read(path).unwrap();
        let (mut read, mut refused) = (0, 0);
        for at in 0..sample.len() {
            for value in [0xff, sample[at] ^ 0x10] {
                let mut bytes = sample.clone();
                bytes[at] = value;
                match Object::parse(&bytes) {
                    Ok(object) => {
                        read += 1;
                        object.sections.iter().for_each(|section| drop(object.lines(section)));
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(read > 1000 && refused > 100, "{read} {refused}");
    }

    #[test]
    fn names_of_functions_are_each_ones_own_and_words_of_the_grammar() {
        let mut functions = Functions::default();
        let names = ["f", "f", "f.2", "f", "a b", "9", ".text"].map(|name| functions.name(name));
        assert_eq!(names, ["f", "f.2", "f.2.2", "f.3", "a_b", "f9", ".text"]);
        assert!(names.iter().all(|name| is_name(name)));
    }
}
