//! A program as rows: an instruction each, with all that is known of it. Every form of output is made from these.

use bpfkit_asm::{Helper, Insn, Source, SourceRef, list};
use bpfkit_loader::{Filled, Linked, MapSpec};

use super::loaded::Loaded;
use super::machine::Machine;
use super::verifier::{Known, Opinion};

/// A program, row by row.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// What kind of program it is, as bpftool says it: `kprobe`.
    pub kind: String,
    /// Where it is attached: `kprobe on tcp_v4_connect`.
    pub attach: String,
    /// Its licence.
    pub license: String,
    /// Its functions, in order; the kernel enters at the first.
    pub functions: Vec<Function>,
    /// The maps that it uses.
    pub maps: Vec<MapUse>,
    /// Its instructions, in order.
    pub rows: Vec<Row>,
    /// What is known of it because it is loaded.
    pub loaded: Option<Loaded>,
    /// What the verifier says of it, where that was asked for.
    pub opinion: Option<Opinion>,
}

/// A function of a program.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its first slot.
    pub slot: usize,
    /// Its name.
    pub name: String,
    /// Its declaration in C, where its types are known.
    pub prototype: Option<String>,
}

/// A map that a program uses.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MapUse {
    /// What programs call it.
    pub name: String,
    /// Its number, where it is one of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its type, as bpftool says it: `hash`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// The most elements it can have; 0 stands for one for each possible CPU.
    pub max_entries: u32,
}

/// An instruction with all that is known of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The number of its first slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    /// Its second slot, where it has one.
    pub second: Option<Insn>,
    /// What it does, as the kernel prints it, with the names of maps and functions.
    pub text: String,
    /// The labels in front of it.
    pub labels: Vec<String>,
    /// The slot to which it jumps, or of the function that it calls or takes the address of.
    pub to: Option<usize>,
    /// Where it was written.
    pub source: Option<Source>,
    /// The map whose address it loads.
    pub map: Option<String>,
    /// What filled its hole.
    pub filled: Option<Filled>,
    /// The helper that it calls.
    pub helper: Option<Helper>,
    /// What it does, in plain words, where that was asked for.
    pub explanation: Option<String>,
    /// The machine code that it became, as far as it was asked for and can be told.
    pub machine: Vec<Machine>,
    /// What the verifier knows there, where that was asked for.
    pub known: Option<Known>,
}

impl Listing {
    /// A program that was made for a kernel, with those of `maps` that it uses.
    pub fn of(program: &Linked, maps: &[MapSpec]) -> Self {
        Self { rows: Row::all(program).collect(), ..Self::head(program, maps) }
    }

    /// The same without its rows.
    pub(super) fn head(program: &Linked, maps: &[MapSpec]) -> Self {
        let spec = program.spec();
        let kind = spec.attach.prog_type();
        let used = |map: &&MapSpec| program.maps().values().any(|name| *name == map.name);
        Self {
            name: spec.name.clone(),
            kind: kind_name(kind.name(), kind.0),
            attach: spec.attach.to_string(),
            license: spec.license.clone(),
            functions: program
                .funcs()
                .iter()
                .map(|(slot, name)| Function { slot: *slot, name: name.clone(), prototype: None })
                .collect(),
            maps: maps.iter().filter(used).map(MapUse::of).collect(),
            rows: Vec::new(),
            loaded: None,
            opinion: None,
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.rows.last().map_or(0, |row| row.slot + 1 + usize::from(row.second.is_some()))
    }

    /// The function that begins at a slot.
    pub fn function_at(&self, slot: usize) -> Option<&Function> {
        self.functions.iter().find(|function| function.slot == slot)
    }
}

impl MapUse {
    fn of(map: &MapSpec) -> Self {
        Self {
            name: map.name.clone(),
            id: None,
            kind: kind_name(map.kind.name(), map.kind.0),
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
        }
    }
}

impl Row {
    /// The rows of a program that was made for a kernel.
    pub(super) fn all(program: &Linked) -> impl Iterator<Item = Self> {
        let insns = program.insns();
        list(insns, program).map(move |listed| {
            let slot = listed.slot;
            Self {
                slot,
                insn: listed.insn,
                second: insns.get(slot + 1).filter(|_| listed.insn.is_wide()).copied(),
                text: listed.to_string(),
                labels: program.labels_at(slot).map(str::to_owned).collect(),
                to: listed.insn.destination(slot),
                source: program.sources().get(slot).map(SourceRef::to_source),
                map: program.maps().get(&slot).cloned(),
                filled: program.filled().get(&slot).cloned(),
                helper: listed.insn.helper(),
                explanation: None,
                machine: Vec::new(),
                known: None,
            }
        })
    }

    /// Its bytes, as the kernel of this machine reads them: 8 or 16.
    pub fn bytes(&self) -> Vec<u8> {
        [Some(self.insn), self.second].into_iter().flatten().flat_map(Insn::to_ne_bytes).collect()
    }
}

/// What bpftool calls a type, or its number where it has no name here.
pub(super) fn kind_name(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| format!("type {number}"), str::to_owned)
}

/// Bytes in hexadecimal, without a space.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
