//! What an object says of its types: `.BTF`, and `.BTF.ext` with the functions and lines of each section.

use bpfkit_asm::SourceRef;
use bpfkit_btf::{Builder, TypeId};

use crate::kind::ProgType;
use crate::linked::line;
use crate::map::{MapSpec, aggregate};

use super::layout::Part;

/// The magic number of both sections.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_ext_header`, with the relocations of members that came later: LLVM looks for them even where the length says that
/// the header is shorter.
const HEADER: u32 = 32;
/// `struct bpf_func_info` and `struct bpf_line_info`.
const FUNC_INFO: u32 = 8;
const LINE_INFO: u32 = 16;

/// The types of an object, and what they say of the sections of its programs.
pub(super) struct Types {
    builder: Builder,
    funcs: Vec<Vec<u32>>,
    lines: Vec<Vec<u32>>,
}

impl Types {
    pub(super) fn new() -> Self {
        Self { builder: Builder::new(), funcs: Vec::new(), lines: Vec::new() }
    }

    /// The variables of `.maps`, one for each map, of 8 bytes for each thing that is said of it. Where each is, and its size.
    pub(super) fn maps(&mut self, maps: &[(String, &MapSpec)]) -> Vec<(usize, usize)> {
        let mut end = 0;
        let mut variables = Vec::new();
        for (name, spec) in maps {
            let (ty, size) = self.map(name, spec);
            variables.push((self.builder.var(name, ty), end, size));
            end += size;
        }
        if !maps.is_empty() {
            self.builder.datasec(".maps", end, &variables);
        }
        let bytes = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        variables.into_iter().map(|(_, at, size)| (bytes(at), bytes(size))).collect()
    }

    /// What libbpf makes a map of: a structure whose members are pointers, to the types of key and value, and to arrays of as
    /// many elements as the number is.
    fn map(&mut self, name: &str, spec: &MapSpec) -> (TypeId, u32) {
        let types = &mut self.builder;
        let mut members = vec![("type", spec.kind.0)];
        let mut typed = Vec::new();
        let bytes = |parts: &[(String, u32)]| parts.iter().map(|(_, size)| size).sum::<u32>();
        let fits = |size, parts| bytes(parts) == size && size != 0;
        match spec.types.as_ref().filter(|of| fits(spec.key_size, &of.key) && fits(spec.value_size, &of.value)) {
            Some(of) => {
                let byte = types.int("unsigned char", 1, false);
                for (what, parts) in [("key", &of.key), ("value", &of.value)] {
                    let ty = aggregate(types, byte, &format!("{name}_{what}"), parts);
                    typed.push((what, types.ptr(ty)));
                }
            }
            None => members.extend([("key_size", spec.key_size), ("value_size", spec.value_size)]),
        }
        // libbpf finds out how many CPUs there are, where nothing is said.
        members.extend([("max_entries", spec.max_entries), ("map_flags", spec.flags)].iter().filter(|&&(_, n)| n != 0));
        let int = types.int("int", 4, true);
        let index = types.int("__ARRAY_SIZE_TYPE__", 4, false);
        for (what, number) in members {
            let array = types.array(int, index, number);
            typed.push((what, types.ptr(array)));
        }
        let members: Vec<(&str, TypeId, u32)> =
            (0..).step_by(8).zip(typed).map(|(at, (what, ty))| (what, ty, at)).collect();
        let size = members.last().map_or(0, |&(.., at)| at + 8);
        (types.strukt("", size, &members), size)
    }

    /// The variable that holds the licence, of so many bytes.
    pub(super) fn license(&mut self, name: &str, size: u32) {
        let types = &mut self.builder;
        let (char, index) = (types.int("char", 1, true), types.int("__ARRAY_SIZE_TYPE__", 4, false));
        let array = types.array(char, index, size);
        let variable = types.var(name, array);
        types.datasec("license", size, &[(variable, 0, size)]);
    }

    /// The functions of a section, and their lines. Of a section without any nothing may be said.
    pub(super) fn section(&mut self, name: &str, parts: &[Part<'_>]) {
        if parts.is_empty() {
            return;
        }
        let start = self.builder.string(name);
        // The name of the section, and how many records follow.
        let (mut funcs, mut lines) = (vec![start, 0], vec![start, 0]);
        for part in parts {
            let kind: ProgType = part.linked.spec().attach.context_of();
            let func = part.func.add_as(&part.name, &mut self.builder, kind, part.is_global);
            funcs.extend([bytes(part.start), func.0]);
            let own = part.linked.lines().filter(|(slot, _)| part.slots.contains(slot));
            for (slot, source) in own {
                let at = bytes(slot - part.slots.start + part.start);
                lines.extend([at].into_iter().chain(self.line(source)));
            }
        }
        for (records, size) in [(&mut funcs, FUNC_INFO), (&mut lines, LINE_INFO)] {
            records[1] = u32::try_from(records.len() - 2).unwrap_or(u32::MAX) / (size / 4);
        }
        self.funcs.push(funcs);
        self.lines.push(lines);
    }

    fn line(&mut self, source: Option<SourceRef<'_>>) -> [u32; 3] {
        line(&mut self.builder, source)
    }

    /// Both sections.
    pub(super) fn finish(self) -> (Vec<u8>, Vec<u8>) {
        let Self { builder, funcs, lines } = self;
        let btf = builder.finish();
        drop(builder);
        // The size of a record, and the records of all sections.
        let len = |sections: &[Vec<u32>]| {
            u32::try_from(4 + sections.iter().map(|words| words.len() * 4).sum::<usize>()).unwrap_or(u32::MAX)
        };
        let header = [HEADER, 0, len(&funcs), len(&funcs), len(&lines), len(&funcs).saturating_add(len(&lines)), 0];
        // The version is 1, and there are no flags.
        let mut ext: Vec<u8> = MAGIC.to_ne_bytes().into_iter().chain([1, 0]).collect();
        let funcs = [FUNC_INFO].into_iter().chain(funcs.into_iter().flatten());
        let lines = [LINE_INFO].into_iter().chain(lines.into_iter().flatten());
        ext.extend(header.into_iter().chain(funcs).chain(lines).flat_map(u32::to_ne_bytes));
        (btf, ext)
    }
}

/// Slots in bytes, as `.BTF.ext` counts.
fn bytes(slots: usize) -> u32 {
    u32::try_from(slots * 8).unwrap_or(u32::MAX)
}
