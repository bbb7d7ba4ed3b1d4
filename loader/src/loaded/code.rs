//! What the kernel made of a program: instructions as the verifier rewrote them, machine code, and what is known of both.

use bpfkit_asm::{Helper, Insn, Names, Opcode, Source, Version};
use bpfkit_btf::{Btf, Kind, TypeId};

use super::hidden::{Hidden, Shown};
use super::info::{ProgInfo, longs, words};
use super::map::LoadedMap;
use crate::Error;
use crate::kallsyms::{Symbols, find_by};
use crate::sys::info::{ProgAnswer, ProgLists};

/// A loaded program's code, as far as the kernel shows it.
///
/// As [`Names`] it has the maps' names, and of what is called the name that /proc/kallsyms has, as the kernel replaces some helpers
/// by others: `__htab_map_lookup_elem` for `bpf_map_lookup_elem`.
#[derive(Clone, Debug)]
pub struct LoadedCode {
    /// What the kernel says beside.
    pub info: ProgInfo,
    /// Its name: that of the function where the kernel enters, where the kernel's own is cut; empty where it has none.
    pub name: String,
    /// Its instructions as the verifier rewrote them. Calls of the program's own functions have the distance in `imm`, as when
    /// they were loaded, and not the number of the function, as the kernel has it. A helper's `imm` is its distance from
    /// `__bpf_call_base`, and a map's is its number.
    pub insns: Shown<Vec<Insn>>,
    /// Its functions by their first slots, in order.
    pub funcs: Vec<LoadedFunc>,
    /// Where source lines begin, in order.
    pub lines: Shown<Vec<LoadedLine>>,
    /// The types that it was loaded with.
    pub types: Shown<Btf>,
    /// The maps that it uses.
    pub maps: Vec<LoadedMap>,
    /// The function or type that it is attached to: see [`super::LoadedProg::attached_to`].
    pub attached_to: Shown<Option<String>>,
    /// Why it is not shown what the program calls in the kernel, if it is not.
    pub hidden_calls: Option<Hidden>,
    /// Its machine code, in the order of its functions.
    pub jited: Shown<Vec<JitedFunc>>,
    /// By slot, as what follows.
    map_names: Vec<(usize, String)>,
    callees: Vec<(usize, String)>,
}

/// A function of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFunc {
    /// Its first slot.
    pub slot: usize,
    /// Its name: that which its types have, or else the kernel's list of symbols, or else one made of its number.
    pub name: String,
    /// Its prototype among the program's types.
    pub proto: Option<TypeId>,
}

/// Where a source line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedLine {
    /// The slot.
    pub slot: usize,
    /// What was written, and where.
    pub source: Source,
    /// Where its machine code begins.
    pub address: Shown<u64>,
}

/// The machine code of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitedFunc {
    /// Where it is.
    pub address: u64,
    /// The code.
    pub bytes: Vec<u8>,
}

impl Names for LoadedCode {
    fn map(&self, slot: usize) -> Option<&str> {
        find_by(&self.map_names, slot)
    }

    fn function(&self, slot: usize) -> Option<&str> {
        find_by(&self.callees, slot)
    }
}

impl LoadedCode {
    pub(super) fn new(
        answer: &ProgAnswer,
        info: ProgInfo,
        types: Shown<Btf>,
        maps: Vec<LoadedMap>,
        symbols: &Symbols,
    ) -> Result<Self, Error> {
        let insns = insns(answer);
        let jited = jited(answer);
        let slots = insns.as_deref().unwrap_or_default();
        // The list of symbols is long, and not every program asks for it.
        let asks = slots.iter().enumerate().any(|(slot, &insn)| calls_kernel(slot, insn));
        let base = if asks { symbols.call_base()? } else { None };
        let calls: Vec<(usize, Callee)> =
            slots.iter().enumerate().filter_map(|(slot, &insn)| Some((slot, Callee::of(slot, insn, base)?))).collect();
        let mut addresses: Vec<u64> = calls.iter().filter_map(|(_, callee)| callee.address()).collect();
        // The types have the names of its own functions, too, and without any the program has that of the first.
        if types.is_err() || func_info(&answer.lists).next().is_none() {
            let unnamed = jited.iter().flatten().skip(usize::from(!info.name.is_empty()));
            addresses.extend(unnamed.map(|func| func.address));
        }
        let names = symbols.names(&addresses)?;
        let funcs = functions(answer, slots, &info, types.as_ref().ok(), |index| {
            find_by(&names, jited.as_ref().ok()?.get(index)?.address)
        });
        let entry = funcs.first().filter(|func| func.proto.is_some() && (info.is_name_cut() || info.name.is_empty()));
        Ok(Self {
            name: entry.map_or_else(|| info.name.clone(), |func| func.name.clone()),
            lines: lines(answer, &types),
            attached_to: Ok(None),
            hidden_calls: calls.iter().any(|(_, callee)| *callee == Callee::Hidden).then(Hidden::addresses),
            map_names: map_names(slots, &maps),
            callees: calls.into_iter().map(|(slot, callee)| (slot, callee.name(&funcs, &names))).collect(),
            info,
            insns,
            funcs,
            types,
            maps,
            jited,
        })
    }

    /// The source line that a slot belongs to, and where that begins.
    pub fn line_at(&self, slot: usize) -> Option<&LoadedLine> {
        let lines = self.lines.as_deref().ok()?;
        lines[..lines.partition_point(|line| line.slot <= slot)].last()
    }
}

/// Where functions begin and their types, as BPF_PROG_LOAD was told: `struct bpf_func_info`.
pub(super) fn func_info(lists: &ProgLists) -> impl Iterator<Item = (usize, TypeId)> {
    let (records, _) = lists.func_info.as_chunks::<8>();
    records.iter().map(|record| {
        let [slot, id] = two(record);
        (size(slot), TypeId(id))
    })
}

fn two(record: &[u8; 8]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = *record;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The instructions, with distances in calls of functions.
pub(super) fn insns(answer: &ProgAnswer) -> Shown<Vec<Insn>> {
    match answer.info {
        info if info.xlated_len == 0 => return Err(Hidden::CODE),
        // Constants that were blinded are not shown to those who might spray with them.
        info if info.xlated == 0 => return Err(Hidden::addresses()),
        _ => {}
    }
    let (slots, _) = answer.lists.xlated.as_chunks();
    let mut insns: Vec<Insn> = slots.iter().map(|slot| Insn::from_ne_bytes(*slot)).collect();
    let starts: Vec<usize> = func_info(&answer.lists).map(|(slot, _)| slot).collect();
    for (slot, insn) in insns.iter_mut().enumerate().filter(|(_, insn)| insn.is_local_call()) {
        // The kernel moves the distance to `off`, where the upper half of a long one is lost (jit_subprogs in
        // kernel/bpf/verifier.c), and has the function's number in `imm`, if there is machine code.
        let start = usize::try_from(insn.imm).ok().and_then(|number| starts.get(number));
        let distance = start.and_then(|&start| Some(i32::try_from(start).ok()? - i32::try_from(slot + 1).ok()?));
        let imm = distance.filter(|distance| low(*distance) == insn.off).unwrap_or(insn.off.into());
        *insn = Insn::new(insn.code, insn.dst(), insn.src(), 0, imm);
    }
    Ok(insns)
}

/// The lower half of a distance.
fn low(distance: i32) -> i16 {
    let [.., a, b] = distance.to_be_bytes();
    i16::from_be_bytes([a, b])
}

/// The machine code, cut into functions.
fn jited(answer: &ProgAnswer) -> Shown<Vec<JitedFunc>> {
    let ProgAnswer { info, lists, .. } = answer;
    match info {
        info if info.xlated_len == 0 => return Err(Hidden::CODE),
        info if info.jited_len == 0 => return Err(Hidden::INTERPRETED),
        // Of a program of one function Linux before 4.20 tells the code, but not where it is.
        info if info.jited != 0 && info.jited_ksyms_count == 0 => return Err(Hidden::since(Version::new(4, 20))),
        info if info.jited == 0 || info.jited_ksyms == 0 => return Err(Hidden::addresses()),
        _ => {}
    }
    let mut rest = lists.jited.as_slice();
    let func = |(address, len)| {
        let (bytes, after) = rest.split_at(size(len).min(rest.len()));
        rest = after;
        JitedFunc { address, bytes: bytes.to_vec() }
    };
    Ok(longs(&lists.jited_ksyms).zip(words(&lists.jited_func_lens)).map(func).collect())
}

/// The functions. `symbol` is the name that the kernel has for the machine code of one.
fn functions<'a>(
    answer: &ProgAnswer,
    insns: &[Insn],
    info: &ProgInfo,
    types: Option<&Btf>,
    symbol: impl Fn(usize) -> Option<&'a str>,
) -> Vec<LoadedFunc> {
    let mut starts: Vec<(usize, Option<TypeId>)> =
        func_info(&answer.lists).map(|(slot, id)| (slot, Some(id))).collect();
    if starts.is_empty() {
        // Without types they are known by being called.
        let called = insns.iter().enumerate().filter_map(|(slot, &insn)| target(slot, insn));
        starts = called.chain([0]).map(|slot| (slot, None)).collect();
        starts.sort_unstable_by_key(|&(slot, _)| slot);
        starts.dedup_by_key(|&mut (slot, _)| slot);
    }
    let name = |(index, (slot, id)): (usize, (usize, Option<TypeId>))| {
        let func = types.zip(id).and_then(|(types, id)| types.ty(id).ok()).filter(|ty| ty.kind() == Kind::FUNC);
        let own = || (index == 0 && !info.name.is_empty()).then(|| info.name.clone());
        let name = match func {
            Some(func) => func.name().into_owned(),
            None => own().or_else(|| symbol(index).and_then(own_name)).unwrap_or_else(|| format!("subprog_{index}")),
        };
        LoadedFunc { slot, name, proto: func.and_then(|func| func.target()) }
    };
    starts.into_iter().enumerate().map(name).collect()
}

/// The name within `bpf_prog_TAG_NAME`. `F` is what the kernel calls functions of which it knows none.
fn own_name(symbol: &str) -> Option<String> {
    let (_, name) = symbol.strip_prefix("bpf_prog_")?.split_once('_')?;
    (!name.is_empty() && name != "F").then(|| name.to_owned())
}

/// The slot of the function that an instruction calls, or whose address it takes.
fn target(slot: usize, insn: Insn) -> Option<usize> {
    insn.destination(slot).filter(|_| insn.refers_to_function())
}

/// Whether an instruction calls a function of the kernel. A tail call is none; it keeps the helper's number.
fn calls_kernel(slot: usize, insn: Insn) -> bool {
    insn.code == Opcode::CALL && target(slot, insn).is_none() && insn.helper() != Some(Helper::TAIL_CALL)
}

/// The source lines: `struct bpf_line_info`, whose strings are in the types.
fn lines(answer: &ProgAnswer, types: &Shown<Btf>) -> Shown<Vec<LoadedLine>> {
    let ProgAnswer { info, lists, .. } = answer;
    let types = types.as_ref().map_err(Clone::clone)?;
    let (records, _) = lists.line_info.as_chunks::<16>();
    if records.is_empty() {
        return Err(Hidden::NO_LINES);
    }
    let no_address = || match info {
        info if info.jited_len == 0 => Hidden::INTERPRETED,
        info if info.jited_line_info_count == 0 => Hidden::NO_LINES,
        _ => Hidden::addresses(),
    };
    let shown = info.jited_line_info != 0 && info.jited_line_info_count == info.line_info_count;
    let addresses = if shown { lists.jited_line_info.as_slice() } else { &[] };
    let addresses = longs(addresses).map(Ok).chain(std::iter::repeat_with(|| Err(no_address())));
    let text = |offset| types.text(offset).unwrap_or_default().into_owned().into();
    let line = |(record, address): (&[u8; 16], _)| {
        let mut words = words(record);
        let [slot, file, text_at, place] = [(); 4].map(|()| words.next().unwrap_or_default());
        let source = Source { file: text(file), line: place >> 10, column: place & 0x3ff, text: text(text_at) };
        LoadedLine { slot: size(slot), source, address }
    };
    let lines: Vec<LoadedLine> = records.iter().zip(addresses).map(line).collect();
    // A program is refused unless a line begins with each function. But when the JIT compiler hides constants in a program of
    // several functions, it moves the lines of its own copies of these, and the program has the same list (Linux 6.12).
    let has_line = |slot: usize| lines.binary_search_by_key(&slot, |line| line.slot).is_ok();
    if func_info(lists).all(|(slot, _)| has_line(slot)) { Ok(lines) } else { Err(Hidden::MOVED_LINES) }
}

/// The maps' names by the slots that load their addresses.
fn map_names(insns: &[Insn], maps: &[LoadedMap]) -> Vec<(usize, String)> {
    let name = |id: u32| {
        let known = maps.iter().find(|map| map.id == id).and_then(LoadedMap::name);
        // Maps may have one name; they never have one number.
        let same = |map: &&LoadedMap| map.name() == known;
        match known {
            Some(name) if maps.iter().filter(same).count() == 1 => name.to_owned(),
            Some(name) => format!("{name} id:{id}"),
            None => format!("id:{id}"),
        }
    };
    let loads = insns.iter().enumerate().filter(|(_, insn)| insn.is_map());
    loads.map(|(slot, insn)| (slot, name(insn.imm.cast_unsigned()))).collect()
}

/// What an instruction calls, or takes the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callee {
    /// The program's own function that begins at this slot.
    Own(usize),
    /// What is at this address in the kernel.
    Kernel(u64),
    /// What the kernel does not tell.
    Hidden,
}

impl Callee {
    /// `base` is where the kernel counts helpers from.
    fn of(slot: usize, insn: Insn, base: Option<u64>) -> Option<Self> {
        if let Some(start) = target(slot, insn) {
            return Some(Self::Own(start));
        }
        if !calls_kernel(slot, insn) {
            return None;
        }
        let base = base.filter(|_| insn.imm != 0);
        Some(base.map_or(Self::Hidden, |base| Self::Kernel(base.wrapping_add_signed(insn.imm.into()))))
    }

    fn address(self) -> Option<u64> {
        if let Self::Kernel(address) = self { Some(address) } else { None }
    }

    fn name(self, funcs: &[LoadedFunc], symbols: &[(u64, String)]) -> String {
        match self {
            Self::Own(start) => match funcs.iter().find(|func| func.slot == start) {
                Some(func) => func.name.clone(),
                None => format!("slot {start}"),
            },
            Self::Kernel(address) => find_by(symbols, address).map_or_else(|| format!("{address:#x}"), str::to_owned),
            Self::Hidden => "unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_without_a_place_is_not_taken_for_hidden() {
        let said = |jited: u64, count: u32, places: u64| {
            let mut answer = ProgAnswer::default();
            (answer.info.xlated_len, answer.info.jited_len) = (8, 4);
            (answer.info.jited, answer.info.jited_ksyms_count, answer.info.jited_ksyms) = (jited, count, places);
            super::jited(&answer).map_err(|why| why.to_string()).map(|functions| functions.len())
        };
        assert_eq!(said(1, 0, 0), Err("the kernel does not tell before Linux 4.20".to_owned()));
        assert!(said(0, 1, 0).is_err_and(|why| !why.contains("4.20")));
        assert_eq!(said(1, 1, 1), Ok(0));
    }
}
