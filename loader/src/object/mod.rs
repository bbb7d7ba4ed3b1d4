//! Programs as an ELF object: what libbpf and bpftool load.
//!
//! Documentation/bpf/libbpf in the kernel's tree describes the names of sections, Documentation/bpf/btf.rst `.BTF.ext`, and
//! Documentation/bpf/llvm_reloc.rst the relocations. Members of the kernel's structures are filled in already, for the kernel that
//! the programs were linked for.

mod file;
mod layout;
mod section;
mod types;

use bpfkit_asm::{Fixup, Insn};
use object::elf::{R_BPF_64_32, R_BPF_64_64, RelocationType};

use self::file::{File, SectionId, SymbolId};
pub use self::layout::Identifiers;
use self::layout::{Layout, Part};
use self::types::Types;
use crate::Error;
use crate::linked::Linked;
use crate::map::MapSpec;

/// The variable with the licence, by the name that it has in most programs.
const LICENSE: &str = "_license";

/// Writes programs and their maps as an ELF object in this machine's byte order, with BTF, functions and source lines.
///
/// Each program is a function in the section by which libbpf knows its type and place. Names are made identifiers of C that the
/// object has once. What belongs to a function of another program is not loaded by itself (`?` before the name of its section).
///
/// # Errors
/// A map that is not described; licences that differ, of which an object has one; what libbpf has no relocation for: functions of
/// the kernel, and the values of maps that are declared as such.
pub fn object<'a>(programs: impl IntoIterator<Item = &'a Linked>, maps: &[MapSpec]) -> Result<Vec<u8>, Error> {
    write(&programs.into_iter().collect::<Vec<_>>(), maps)
}

fn write(programs: &[&Linked], maps: &[MapSpec]) -> Result<Vec<u8>, Error> {
    let mut names = Identifiers::default();
    let maps: Vec<(String, &MapSpec)> = maps.iter().map(|map| (names.take(&map.name, "map"), map)).collect();
    let layout = Layout::new(programs, &mut names);
    let license = license(programs)?;

    let mut types = Types::new();
    let places = types.maps(&maps);
    types.license(LICENSE, u32::try_from(license.len()).unwrap_or(u32::MAX));
    layout.sections.iter().for_each(|section| types.section(&section.name, &section.parts));
    let (btf, ext) = types.finish();

    let mut file = File::default();
    let sections: Vec<SectionId> = layout.sections.iter().map(|section| file.code(&section.name)).collect();
    let at = file.data("license", license.clone().into_bytes());
    file.variable(LICENSE, at, 0, license.len());
    let mut known = Vec::new();
    if let Some(&(last, size)) = places.last() {
        let at = file.data(".maps", vec![0; last + size]);
        let variables = maps.iter().zip(places);
        known.extend(
            variables.map(|((name, map), (start, size))| (map.name.as_str(), file.variable(name, at, start, size))),
        );
    }
    let mut symbols: Vec<SymbolId> = Vec::new();
    for (section, &id) in layout.sections.iter().zip(&sections) {
        let functions = section.parts.iter().map(|part| file.function(part, id));
        // Those of the first section are all that can be called.
        symbols.extend(functions.collect::<Vec<_>>());
    }
    let holes = Holes { maps: known, layout: &layout, functions: symbols, text: file.section_symbol(sections[0]) };
    for (section, &id) in layout.sections.iter().zip(&sections) {
        let mut code = Vec::new();
        for (part, slot) in section.parts.iter().flat_map(|part| part.slots.clone().map(move |slot| (part, slot))) {
            let (insn, hole) = holes.open(part, slot)?;
            if let Some((symbol, kind)) = hole {
                file.relocation(id, code.len(), symbol, kind);
            }
            code.extend(insn.to_ne_bytes());
        }
        file.fill(id, code);
    }
    file.plain(".BTF", btf);
    file.plain(".BTF.ext", ext);
    Ok(file.write())
}

/// The licence of all programs, ended by a NUL.
fn license(programs: &[&Linked]) -> Result<String, Error> {
    let licenses = programs.iter().map(|program| program.spec().license.as_str());
    let first = licenses.clone().next().unwrap_or("GPL");
    match licenses.clone().find(|other| *other != first) {
        Some(other) => Err(Error::Object(format!("its programs are under `{first}` and under `{other}`"))),
        None => Ok(format!("{first}\0")),
    }
}

/// What fills the holes of programs again, which linking has filled.
struct Holes<'a> {
    maps: Vec<(&'a str, SymbolId)>,
    layout: &'a Layout<'a>,
    /// Those that can be called.
    functions: Vec<SymbolId>,
    /// Where they are.
    text: SymbolId,
}

impl Holes<'_> {
    /// The instruction as an object has it, and what it is to be given.
    fn open(&self, part: &Part<'_>, slot: usize) -> Result<(Insn, Option<(SymbolId, RelocationType)>), Error> {
        let insn = part.linked.insns()[slot];
        if let Some(name) = part.linked.maps().get(&slot) {
            let is_value =
                |(at, fixup): &(usize, Fixup)| at + part.slots.start == slot && matches!(fixup, Fixup::MapValue(_));
            if part.func.code.fixups().iter().any(is_value) {
                return Err(Error::Object(format!("libbpf knows no address of a value of the map `{name}`")));
            }
            let program = || part.linked.spec().name.clone();
            let unknown = || Error::Unknown { what: "map", name: name.clone(), program: program() };
            let &(_, symbol) = self.maps.iter().find(|(known, _)| known == name).ok_or_else(unknown)?;
            return Ok((Insn::new(insn.code, insn.dst(), 0, 0, 0), Some((symbol, R_BPF_64_64))));
        }
        let Some(name) = part.linked.callees().get(&slot) else { return Ok((insn, None)) };
        let (number, callee) = self.layout.callee(part.program, name)?;
        if insn.is_local_call() {
            let insn = Insn::new(insn.code, insn.dst(), insn.src(), insn.off, -1);
            return Ok((insn, Some((self.functions[number], R_BPF_64_32))));
        }
        // The address of a function is found by its section, as it is where clang made the object.
        let offset = i32::try_from(callee.start * 8).unwrap_or(i32::MAX);
        Ok((Insn::new(insn.code, insn.dst(), 0, 0, offset), Some((self.text, R_BPF_64_64))))
    }
}

#[cfg(test)]
mod tests {
    use bpfkit_asm::{Asm, Reg, Version, bpf};
    use bpfkit_btf::{Btf, Kind};
    use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;
    use crate::attach::Attach;
    use crate::func::{CType, Linkage, Prototype};
    use crate::prog::ProgSpec;
    use crate::target::Target;

    fn kprobe(name: &str) -> Attach {
        Attach::Kprobe { symbol: name.to_owned(), offset: 0 }
    }

    fn calling(name: &str, result: i32) -> ProgSpec {
        let own = bpf! {
            r1 = result;
            call shared;
            exit;
        };
        let shared = bpf! {
            r0 = r1;
            exit;
        };
        let main = bpf! {
            r1 = map[seen];
            call own;
            exit;
        };
        let proto = Prototype::int().param("value", CType::U64);
        let spec = ProgSpec::new(name, kprobe("tcp_close"), main).unwrap().func("own", own).unwrap();
        spec.func_with("shared", proto, Linkage::Global, shared).unwrap()
    }

    fn linked(specs: &[ProgSpec]) -> Vec<Linked> {
        let target = Target::offline(None, Version::new(6, 12));
        specs.iter().map(|spec| spec.link(&target).unwrap()).collect()
    }

    fn seen() -> MapSpec {
        MapSpec::hash("seen", 4, 16, 8).with_types(&[("id", 4)], &[("first", 8), ("last", 8)])
    }

    /// `section+offset: what` for each relocation.
    fn relocations(file: &object::File<'_>) -> Vec<String> {
        let mut found = Vec::new();
        for section in file.sections() {
            for (at, relocation) in section.relocations() {
                let object::RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("{relocation:?}") };
                let symbol = file.symbol_by_index(symbol).unwrap();
                let name = if symbol.kind() == object::SymbolKind::Section { ".text" } else { symbol.name().unwrap() };
                found.push(format!("{}+{at}: {name}", section.name().unwrap()));
            }
        }
        found
    }

    #[test]
    fn programs_of_one_place_share_a_section_and_equal_functions() {
        let second = ProgSpec { attach: kprobe("tcp_close"), ..calling("second", 2) };
        let bytes = object(&linked(&[calling("first", 1), second]), &[seen()]).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        assert_eq!(file.architecture(), object::Architecture::Bpf);
        let functions: Vec<String> = file
            .symbols()
            .filter(|symbol| symbol.kind() == object::SymbolKind::Text)
            .map(|symbol| {
                let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
                let scope = if symbol.is_global() { "global" } else { "local" };
                format!("{scope} {} {}+{}", symbol.name().unwrap(), section.name().unwrap(), symbol.address())
            })
            .collect();
        assert_eq!(
            functions,
            [
                "local own .text+0",
                "local second_own .text+40",
                "global shared .text+24",
                "global first kprobe/tcp_close+0",
                "global second kprobe/tcp_close+32"
            ]
        );
        assert_eq!(
            relocations(&file),
            [
                ".text+8: shared",
                ".text+48: shared",
                "kprobe/tcp_close+0: seen",
                "kprobe/tcp_close+16: own",
                "kprobe/tcp_close+32: seen",
                "kprobe/tcp_close+48: second_own"
            ]
        );
    }

    #[test]
    fn types_describe_maps_functions_and_sections() {
        let bytes = object(&linked(&[calling("first", 1)]), &[seen(), MapSpec::perf_event_array("events")]).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let section = |name: &str| file.section_by_name(name).unwrap().data().unwrap().to_vec();
        let btf = Btf::parse(section(".BTF")).unwrap();
        let members = |name: &str| -> Vec<String> {
            let variable = btf.find(name, &[Kind::VAR]).unwrap();
            let of = btf.ty(variable.target().unwrap()).unwrap();
            of.members().map(|member| member.name.into_owned()).collect()
        };
        assert_eq!(members("seen"), ["key", "value", "type", "max_entries"]);
        // libbpf says how many CPUs there are.
        assert_eq!(members("events"), ["type", "key_size", "value_size"]);
        assert_eq!(section(".maps").len(), 7 * 8);
        assert_eq!(section("license"), b"GPL\0");
        for name in [".maps", "license"] {
            assert!(btf.find(name, &[Kind::DATASEC]).is_some(), "{name}");
        }
        let is_global = |name: &str| btf.find(name, &[Kind::FUNC]).unwrap().is_global_func();
        assert_eq!(["first", "own", "shared"].map(is_global), [true, false, true]);
        let ext = section(".BTF.ext");
        let word = |at: usize| u32::from_ne_bytes(ext[at..at + 4].try_into().unwrap());
        let (funcs, lines) = (word(12), word(20));
        assert_eq!(ext.len(), usize::try_from(32 + funcs + lines).unwrap());
        // Two sections, .text with two functions first.
        assert_eq!((word(32), word(40)), (8, 2));
        assert_eq!(funcs, 4 + 2 * 8 + 3 * 8);
    }

    #[test]
    fn the_address_of_a_function_is_found_by_its_section() {
        let mut main = Asm::new();
        main.load_func(Reg::R1, "back").mov(Reg::R0, 0).exit();
        let back = bpf! {
            r0 = 0;
            exit;
        };
        let spec = ProgSpec::new("loops", kprobe("tcp_close"), main).unwrap().func("own", back.clone()).unwrap();
        let bytes = object(&linked(&[spec.func("back", back).unwrap()]), &[]).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        assert_eq!(relocations(&file), ["kprobe/tcp_close+0: .text"]);
        let code = file.section_by_name("kprobe/tcp_close").unwrap().data().unwrap();
        assert_eq!(Insn::from_ne_bytes(code[..8].try_into().unwrap()).imm, 16);
    }

    #[test]
    fn what_an_object_cannot_have_is_refused_by_name() {
        let refused =
            |spec: ProgSpec| object(&linked(&[calling("first", 1), spec]), &[seen()]).unwrap_err().to_string();
        let proprietary = ProgSpec { license: "Proprietary".to_owned(), ..calling("second", 2) };
        assert!(refused(proprietary).contains("under `GPL` and under `Proprietary`"));
        let unknown = bpf! {
            r1 = map[other];
            r0 = 0;
            exit;
        };
        let unknown = ProgSpec::new("second", kprobe("tcp_close"), unknown).unwrap();
        assert!(refused(unknown).contains("program `second` uses map `other`"));
        let mut value = Asm::new();
        value.load_map_value(Reg::R1, "seen", 0).mov(Reg::R0, 0).exit();
        let value = ProgSpec::new("second", kprobe("tcp_close"), value).unwrap();
        assert!(refused(value).contains("value of the map `seen`"));
        // Of the functions of a kernel that is not here nothing is known, so this one is what another program would call.
        let program = linked(&[calling("first", 1)]).remove(0);
        let layout = Layout::new(&[&program], &mut Identifiers::default());
        let refused = layout.callee(0, "bpf_rcu_read_lock").unwrap_err().to_string();
        assert!(refused.contains("the kernel function `bpf_rcu_read_lock`"), "{refused}");
    }

    #[test]
    fn names_are_identifiers_that_are_there_once() {
        let mut names = Identifiers::default();
        let taken = [("new-map", "map"), ("new_map", "map"), ("new.map", "map"), ("new map", "map"), ("9p", "prog")];
        let taken = taken.map(|(name, owner)| names.take(name, owner));
        assert_eq!(taken, ["new_map", "map_new_map", "map_new_map_2", "map_new_map_3", "prog_9p"]);
    }
}
