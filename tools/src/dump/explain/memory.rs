//! Loads, stores and atomic operations.

use std::rc::Rc;

use bpfkit_asm::{Class, Mode, Opcode};
use bpfkit_loader::Filled;

use super::Explainer;
use super::alu::member;
use super::place::Place;
use super::state::State;
use super::step::Step;
use super::value::{Base, Member, Thing, Value, count, cut, stack};

/// The bytes that an instruction loads or stores.
pub(super) fn bytes(code: Opcode) -> i64 {
    match code.0 & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// Memory that an instruction reads or writes.
struct Cell {
    base: Value,
    len: i64,
    /// As a noun with its place: `8 bytes of the stack at r10-8`.
    words: String,
    /// The constant of the source that stands for the offset.
    name: Option<String>,
}

impl Explainer<'_> {
    /// The memory at a register and an offset.
    fn cell(&self, row: &Step<'_>, state: &State, reg: u8) -> Cell {
        let insn = row.insn;
        let (len, off) = (bytes(insn.code), i64::from(insn.off));
        let at = state.reg(reg).plus(off);
        let name = row.source().and_then(offset_name).map(str::to_owned);
        let (base, words) = match (row.filled(), at) {
            (Some(Filled::Offset(field)), held) => {
                let member = Rc::new(member(field));
                let more = off - i64::from(field.offset);
                let object = if held == Value::Unknown { format!("r{reg}") } else { state.noun(reg) };
                let words = Base::Member(Rc::clone(&member)).bytes(Some(more), len);
                (Value::Address(Base::Member(member), Some(more)), format!("{words} ({}), at {object}", count(len)))
            }
            (_, Value::Address(base, at)) => {
                let words = base.bytes(at, len);
                (Value::Address(base, at), words)
            }
            (_, _) => {
                let place = match off {
                    0 => format!("the address in r{reg}"),
                    off => format!("the address in r{reg} {} {}", if off < 0 { '-' } else { '+' }, off.abs()),
                };
                let noun = state.reg(reg).noun().map_or(String::new(), |noun| format!(" ({noun})"));
                (Value::Unknown, format!("{} at {place}{noun}", count(len)))
            }
        };
        Cell { base, len, words, name }
    }

    /// A load.
    pub(super) fn load(&self, row: &Step<'_>, second: Option<i32>, state: &mut State) -> String {
        let insn = row.insn;
        let dst = insn.dst();
        match (insn.code.class(), insn.code.mode()) {
            (Class::Ldx, Some(Mode::Mem | Mode::Memsx)) => {}
            (Class::Ld, _) if insn.is_wide() => return self.wide(row, second.unwrap_or_default(), state),
            (Class::Ld, Some(Mode::Abs | Mode::Ind)) => {
                state.clobber();
                state.set(0, Value::named("bytes of the packet"));
                let at = match insn.code.mode() {
                    Some(Mode::Ind) => format!("byte {} + r{}", insn.imm, insn.src()),
                    _ => format!("byte {}", insn.imm),
                };
                let bytes = count(bytes(insn.code));
                return format!(
                    "r0 = {bytes} of the packet from {at} on, turned from the network's order into this machine's; if the packet is shorter, the program ends with 0"
                );
            }
            _ => {
                state.set(dst, Value::Unknown);
                return format!("no instruction that is known: {}", row.text());
            }
        }
        let is_signed = insn.code.mode() == Some(Mode::Memsx);
        let cell = self.cell(row, state, insn.src());
        let len = cell.len;
        // What fills the offset tells that the register has the context, even where that is not known any more.
        let from_context = match (&cell.base, row.filled()) {
            (_, Some(Filled::Context { word, offset })) => {
                Some(self.place.member_part(word, i64::from(insn.off) - i64::from(*offset), len))
            }
            (Value::Address(Base::Context, Some(at)), _) => Some(self.place.context_at(*at).unwrap_or_default()),
            _ => None,
        };
        let is_context = from_context.is_some();
        let (value, words) = match (&cell.base, row.filled()) {
            _ if is_context => (from_context.unwrap_or_default(), cell.words.clone()),
            (Value::Address(Base::Stack, Some(at)), _) => (state.load(*at, len, self.place), stack(*at)),
            (Value::Address(Base::Region(region), Some(at)), _) => {
                let words = match &cell.name {
                    Some(name) => format!("{name} at {} of {}", super::value::span(*at, len), region.words),
                    None => cell.words.clone(),
                };
                (Thing { is_made: true, ..Thing::new(words.clone()) }.into(), words)
            }
            (Value::Address(Base::Member(member), Some(0)), _) if i64::from(member.size) == len => {
                (Thing::of_member(member).into(), cell.words.clone())
            }
            _ => (Value::Unknown, cell.words.clone()),
        };
        // Fewer than 8 bytes are all there is.
        let value = match value {
            Value::Thing(thing) if len < 8 => Thing { bytes: u32::try_from(len).ok(), ..Thing::clone(&thing) }.into(),
            Value::Number(number) => Value::Number(cut(number, len)),
            other => other,
        };
        let value = if is_signed { Value::Unknown } else { value };
        let sentence = match (&value, &cell.base) {
            (_, _) if is_signed => format!("r{dst} = {} as a signed number, its sign extended", cell.words),
            (Value::Unknown, _) => format!("r{dst} = {}", cell.words),
            (value, _) if is_context => {
                let about = match row.filled() {
                    Some(Filled::Context { word, .. }) => self.place.about(word).unwrap_or_default(),
                    _ => String::new(),
                };
                format!("r{dst} = {}{about}, from the context", value.noun().unwrap_or_default())
            }
            (value, Value::Address(Base::Stack, _)) => {
                let from = if len < 8 { format!("{} {words}", count(len)) } else { words };
                let order = if is_of_network(value) { ", in the network's order" } else { "" };
                format!("r{dst} = {}, from {}{order}", value.noun().unwrap_or_default(), from.trim_start_matches("on "))
            }
            (Value::Thing(thing), Value::Address(Base::Member(member), _)) => {
                let order = if thing.is_big_endian { ", in the network's order" } else { "" };
                format!("r{dst} = {}, {}{order}", cell.words, member.kind)
            }
            _ => format!("r{dst} = {words}"),
        };
        state.set(dst, value);
        sentence
    }

    /// A constant of 64 bits, the address of a map, or of a function.
    fn wide(&self, row: &Step<'_>, second: i32, state: &mut State) -> String {
        let (insn, dst) = (row.insn, row.insn.dst());
        let (words, value) = match row.map() {
            Some(map) if insn.src() == 2 || insn.src() == 6 => {
                let region = super::value::Region {
                    words: format!("the value of map `{map}`").into(),
                    doubt: None,
                    from: row.slot,
                };
                let value = Value::Address(Base::Region(Rc::new(region)), Some(second.into()));
                (format!("r{dst} = {}", value.noun().unwrap_or_default()), value)
            }
            Some(map) => {
                let kind = self.listing.maps.iter().find(|used| used.name == *map);
                let kind = kind.map_or(String::new(), |used| format!(", {}", described(used)));
                (format!("r{dst} = map `{map}`{kind}"), Value::Map(map.into()))
            }
            None if insn.is_func_address() => {
                let name = row.to.and_then(|to| self.listing.function_at(to)).map_or("?", |func| func.name.as_str());
                let noun = format!("the address of the function `{name}`");
                (format!("r{dst} = {noun}"), Value::named(noun))
            }
            None if insn.src() != 0 => (format!("r{dst} = an address that the kernel fills in"), Value::Unknown),
            None => {
                let low = i64::from(insn.imm.cast_unsigned());
                let value = Value::Number(i64::from(second) << 32 | low);
                (format!("r{dst} = {}", self.constant(row, &value)), value)
            }
        };
        state.set(dst, value);
        words
    }

    /// A store.
    pub(super) fn store(&self, row: &Step<'_>, state: &mut State) -> String {
        let insn = row.insn;
        if insn.code.mode() == Some(Mode::Atomic) {
            return self.atomic(row, state);
        }
        if insn.code.mode() != Some(Mode::Mem) {
            state.forget_stack();
            return format!("no instruction that is known: {}", row.text());
        }
        let cell = self.cell(row, state, insn.dst());
        let len = cell.len;
        let (value, words) = if insn.code.class() == Class::St {
            let value = Value::Number(cut(insn.imm.into(), len));
            let words = self.constant(row, &Value::Number(insn.imm.into()));
            (value, words)
        } else {
            let held = state.reg(insn.src());
            let value = held.low(len, self.place);
            let words = match (value.noun(), len) {
                (Some(noun), _) => noun,
                (None, 8) => format!("r{}", insn.src()),
                (None, len) => format!("the lower {} of r{}", count(len), insn.src()),
            };
            (value, words)
        };
        self.written(&cell, value, state);
        match (&cell.base, cell.name) {
            (Value::Address(Base::Stack, Some(at)), _) => format!("put {words} {} ({})", stack(*at), count(len)),
            (Value::Address(Base::Region(region), Some(at)), Some(name)) => {
                let span = super::value::span(*at, len);
                format!("write {words} to {name} at {span} of {}", region.words)
            }
            _ => format!("write {words} to {}", cell.words),
        }
    }

    /// What is known of the stack after a store.
    fn written(&self, cell: &Cell, value: Value, state: &mut State) {
        match &cell.base {
            Value::Address(Base::Stack, Some(at)) => state.store(*at, cell.len, value),
            Value::Address(Base::Stack, None) => state.forget_stack(),
            // The stack of a caller may be what it points to, but that is not this function's.
            _ => {}
        }
    }

    /// Reading and writing in one step.
    fn atomic(&self, row: &Step<'_>, state: &mut State) -> String {
        let insn = row.insn;
        if insn.code.class() == Class::St {
            return "keep the CPU from running ahead by guessing".to_owned();
        }
        let src = insn.src();
        if insn.imm == 0x100 {
            let cell = self.cell(row, state, src);
            state.set(insn.dst(), Value::Unknown);
            return format!("r{} = {}, before anything that follows is read or written", insn.dst(), cell.words);
        }
        let cell = self.cell(row, state, insn.dst());
        self.written(&cell, Value::Unknown, state);
        let noun = state.reg(src).noun().map_or(String::new(), |noun| format!(" ({noun})"));
        let (r, what) = (format!("r{src}{noun}"), &cell.words);
        let upper = if cell.len == 4 { ", the upper 32 bits becoming 0" } else { "" };
        let fetch = insn.imm & 1 != 0;
        let words = match insn.imm & !1 {
            0x00 => format!("add {r} to {what}"),
            0x40 => format!("set the bits in {what} that are set in {r}"),
            0x50 => format!("clear the bits in {what} that are not set in {r}"),
            0xa0 => format!("flip the bits in {what} that are set in {r}"),
            0xe0 if fetch => format!("write {r} to {what}"),
            0xf0 if fetch => {
                let expected = state.noun(0);
                state.set(0, Value::Unknown);
                let expected = if expected == "r0" { expected } else { format!("r0 ({expected})") };
                return format!(
                    "write {r} to {what} if that is {expected}, in one step that no other CPU can come between; r0 = what was there{upper}"
                );
            }
            0x110 => return format!("write {r} to {what}, after all that was read or written before"),
            _ => return format!("no instruction that is known: {}", row.text()),
        };
        let step = "in one step that no other CPU can come between";
        if !fetch {
            return format!("{words}, {step}");
        }
        state.set(src, Value::Unknown);
        format!("{words}, {step}; r{src} = what was there{upper}")
    }
}

/// A kind of map with its sizes.
fn described(map: &crate::dump::listing::MapUse) -> String {
    match map.kind.as_str() {
        "perf_event_array" => "the perf rings of all CPUs".to_owned(),
        kind => {
            let article = if kind.starts_with(['a', 'i', 'l', 'o', 'x']) { "an" } else { "a" };
            format!("{article} {kind} of {}-byte keys and {}-byte values", map.key_size, map.value_size)
        }
    }
}

fn is_of_network(value: &Value) -> bool {
    matches!(value, Value::Thing(thing) if thing.is_big_endian)
}

/// The constant that stands alone for an offset: `START` of `*(u64 *)(r7 + START) = r0`.
fn offset_name(text: &str) -> Option<&str> {
    let place = text.split_once(" *)(r")?.1.split_once(" + ")?.1.split_once(')')?.0;
    let name = place.trim_start_matches('{').trim_end_matches('}');
    let is_constant = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_constant.then_some(name)
}

/// What memory holds after `len` bytes of a member, and those behind it, were copied there.
pub(super) fn copy_of(member: &Rc<Member>, more: i64, len: i64, place: &Place<'_>) -> Value {
    let thing: Value = Thing::of_member(member).into();
    match more.checked_add(len) {
        Some(end) if more >= 0 && end <= i64::from(member.size) => thing.part(more, len, member.size.into(), place),
        _ => Thing { is_made: true, ..Thing::new(Base::Member(Rc::clone(member)).bytes(Some(more), len)) }.into(),
    }
}
