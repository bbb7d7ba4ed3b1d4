//! Arithmetic: what is computed, in words, and what is known of the result.

use std::rc::Rc;

use bpfkit_asm::{Class, Opcode};
use bpfkit_loader::Filled;

use super::Explainer;
use super::state::State;
use super::step::Step;
use super::value::{Base, Member, Thing, Value, cut};

/// The upper four bits of an opcode.
mod op {
    pub const ADD: u8 = 0x00;
    pub const SUB: u8 = 0x10;
    pub const MUL: u8 = 0x20;
    pub const DIV: u8 = 0x30;
    pub const OR: u8 = 0x40;
    pub const AND: u8 = 0x50;
    pub const LSH: u8 = 0x60;
    pub const RSH: u8 = 0x70;
    pub const NEG: u8 = 0x80;
    pub const MOD: u8 = 0x90;
    pub const XOR: u8 = 0xa0;
    pub const MOV: u8 = 0xb0;
    pub const ARSH: u8 = 0xc0;
    pub const END: u8 = 0xd0;
}

impl Explainer<'_> {
    /// An instruction of arithmetic.
    pub(super) fn arithmetic(&self, row: &Step<'_>, state: &mut State) -> String {
        let insn = row.insn;
        let wide = insn.code.class() == Class::Alu64;
        let (words, value) = match insn.code.op() {
            op::MOV => self.copy(row, state, wide),
            op::END => endian(row, state, wide),
            op::ADD if wide && matches!(row.filled(), Some(Filled::Offset(_) | Filled::Context { .. })) => {
                self.member_address(row, state)
            }
            _ => self.operation(row, state, wide),
        };
        state.set(insn.dst(), value);
        words
    }

    /// Adds the offset of a member.
    fn member_address(&self, row: &Step<'_>, state: &State) -> (String, Value) {
        let dst = row.insn.dst();
        match row.filled() {
            Some(Filled::Offset(field)) => {
                let root = field.path.split('.').next().unwrap_or_default();
                let more = i64::from(row.insn.imm) - i64::from(field.offset);
                let member = Rc::new(member(field));
                let value = Value::Address(Base::Member(member), Some(more));
                let noun = value.noun().unwrap_or_default();
                let at = field.offset;
                (format!("r{dst} = {noun}: byte {at} of the struct {root} that r{dst} points to"), value)
            }
            Some(Filled::Context { word, .. }) => {
                let value = state.reg(dst).plus(row.insn.imm.into());
                (format!("r{dst} = the address of `{word}` in the context"), value)
            }
            _ => self.operation(row, state, true),
        }
    }

    /// `=`, with an extension of the sign or without.
    fn copy(&self, row: &Step<'_>, state: &State, wide: bool) -> (String, Value) {
        let insn = row.insn;
        let (dst, src) = (insn.dst(), insn.src());
        if !insn.code.is_register() {
            let imm = i64::from(insn.imm);
            let value = Value::Number(if wide { imm } else { cut(imm, 4) });
            let upper = if wide { "" } else { "; the upper 32 bits become 0" };
            return (format!("r{dst} = {}{upper}", self.constant(row, &value)), value);
        }
        if insn.off != 0 {
            let width = if wide { "" } else { ", in the lower 32 bits; the others become 0" };
            let bits = insn.off;
            let from = if src == dst { String::new() } else { format!(" of r{src}") };
            let words = format!("r{dst} = the lower {bits} bits{from} as a signed number, its sign extended{width}");
            return (words, Value::Unknown);
        }
        let held = state.reg(src);
        if !wide {
            let value = held.low(4, self.place);
            let words = match value.noun() {
                Some(noun) => format!("r{dst} = {noun}; the upper 32 bits become 0"),
                None if dst == src => format!("clear the upper 32 bits of r{dst}"),
                None => format!("r{dst} = the lower 32 bits of r{src}, with zeros above"),
            };
            return (words, value);
        }
        let words = match held.noun() {
            Some(_) if *held == Value::Address(Base::Stack, Some(0)) => {
                format!("r{dst} = r10, the top of the stack")
            }
            Some(noun) => {
                let noun = if *held == Value::Address(Base::Context, Some(0)) && src == 1 {
                    format!("the context ({})", self.place.context)
                } else {
                    noun
                };
                // Where a value goes tells why.
                match (dst, src) {
                    (6..=9, 0..=5) => format!("keep {noun} in r{dst}, which calls leave alone"),
                    _ => format!("r{dst} = r{src}, {noun}"),
                }
            }
            None => format!("copy r{src} to r{dst}"),
        };
        (words, held.clone())
    }

    /// All other operations.
    fn operation(&self, row: &Step<'_>, state: &State, wide: bool) -> (String, Value) {
        let insn = row.insn;
        let (dst, op) = (insn.dst(), insn.code.op());
        let left = state.reg(dst);
        let right =
            if insn.code.is_register() { state.reg(insn.src()).clone() } else { Value::Number(insn.imm.into()) };
        let value = result(self, op, left, &right, wide, insn.off != 0);
        let r = format!("{}{dst}", if wide { 'r' } else { 'w' });
        let by = if insn.code.is_register() {
            let noun = right.noun().map_or(String::new(), |noun| format!(" ({noun})"));
            format!("{}{}{noun}", if wide { 'r' } else { 'w' }, insn.src())
        } else {
            self.constant(row, &right)
        };
        // Of an address or a part that has a name, the name says it all.
        if let (Some(noun), true) = (value.noun(), matches!(value, Value::Address(_, Some(_)) | Value::Thing(_))) {
            let words = match (&value, op) {
                (Value::Address(Base::Stack, Some(at)), _) => {
                    let is_read = self.purpose(row).is_some_and(|purpose| purpose.reads);
                    let held = state
                        .beginning(*at)
                        .filter(|_| is_read)
                        .map_or(String::new(), |held| format!(" (it holds {held})"));
                    format!("r{dst} = {noun}{held}")
                }
                (Value::Thing(_), op::ADD | op::SUB) if matches!(left, Value::Thing(_)) => {
                    let (verb, to) = if op == op::ADD { ("add", "to") } else { ("subtract", "from") };
                    format!("{verb} {by} {to} r{dst}, {}", left.noun().unwrap_or_default())
                }
                (Value::Thing(_), op::RSH) => format!("r{dst} = {noun}: the upper 32 bits, moved down"),
                _ => format!("r{dst} = {noun}"),
            };
            return (words, value);
        }
        let one = match (left, op) {
            (Value::Thing(thing), op) if op != op::NEG => format!("{r} ({})", thing.words),
            _ => r.clone(),
        };
        let signed = if insn.off != 0 { "signed" } else { "unsigned" };
        let words = match op {
            op::ADD if !insn.code.is_register() && insn.imm < 0 => {
                format!("subtract {} from {one}", -i64::from(insn.imm))
            }
            op::ADD => format!("add {by} to {one}"),
            op::SUB => format!("subtract {by} from {one}"),
            op::MUL => format!("multiply {one} by {by}"),
            op::DIV => format!("divide {one} by {by}, {signed}{}", if_zero(insn.code, "the result is 0")),
            op::MOD => {
                let zero = if_zero(insn.code, &format!("{r} stays as it is"));
                format!("{r} = the remainder of {one} divided by {by}, {signed}{zero}")
            }
            op::OR => format!("set the bits in {one} that are set in {by}"),
            op::AND => match ones(insn.code, insn.imm) {
                Some(bits) => format!("keep the lower {bits} bits of {one} and clear the others"),
                None => format!("clear the bits in {one} that are not set in {by}"),
            },
            op::XOR => format!("flip the bits in {one} that are set in {by}"),
            op::LSH => format!("move the bits of {one} up by {by}, with zeros coming in"),
            op::RSH => format!("move the bits of {one} down by {by}, with zeros coming in"),
            op::ARSH => format!("move the bits of {one} down by {by}, with copies of the sign coming in"),
            op::NEG => format!("{r} = -{r}"),
            _ => return (format!("an operation that has no meaning: {}", row.text()), Value::Unknown),
        };
        let result = match value.noun() {
            Some(noun) if op != op::NEG => format!(", which makes {noun}"),
            _ => String::new(),
        };
        let upper = if wide { "" } else { "; the upper 32 bits become 0" };
        (format!("{words}{result}{upper}"), value)
    }
}

/// A member as it was found.
pub(super) fn member(field: &bpfkit_btf::Field) -> Member {
    Member {
        path: field.path.as_str().into(),
        offset: field.offset,
        size: field.size,
        kind: field.type_name.as_str().into(),
    }
}

/// Dividing by a constant 0 is refused by the verifier, so only a register can have it.
fn if_zero(code: Opcode, what: &str) -> String {
    if code.is_register() { format!(" (if that is 0, {what})") } else { String::new() }
}

/// How many lower bits a constant has, and no others.
fn ones(code: Opcode, imm: i32) -> Option<u32> {
    let mask = u32::try_from(imm).ok()?;
    (!code.is_register() && mask != 0 && mask.trailing_ones() + mask.leading_zeros() == 32)
        .then(|| mask.trailing_ones())
}

/// The order of bytes.
fn endian(row: &Step<'_>, state: &State, wide: bool) -> (String, Value) {
    let (insn, dst) = (row.insn, row.insn.dst());
    let bits = insn.imm;
    let rest = if bits == 64 { "" } else { ", and clear the others" };
    let big = insn.code.is_register();
    let value = match state.reg(dst) {
        Value::Thing(thing) if thing.bytes.map(|bytes| bytes * 8) == u32::try_from(bits).ok() && (wide || big) => {
            Thing {
                is_big_endian: !thing.is_big_endian,
                bytes: thing.bytes,
                is_made: true,
                ..Thing::new(thing.words.clone())
            }
            .into()
        }
        _ => Value::Unknown,
    };
    let noun = state.reg(dst).noun().map_or(String::new(), |noun| format!(" ({noun})"));
    let words = if wide {
        format!("reverse the order of the lower {bits} bits' bytes of r{dst}{noun}{rest}")
    } else {
        let order = if big { "big-endian order, that of the network" } else { "little-endian order" };
        format!("turn the lower {bits} bits of r{dst}{noun} from this machine's order into {order}, or back{rest}")
    };
    (words, value)
}

/// What is known of the result.
fn result(explainer: &Explainer<'_>, op: u8, left: &Value, right: &Value, wide: bool, signed: bool) -> Value {
    let value = match (op, left, right) {
        (op::ADD, Value::Number(one), Value::Number(two)) => Value::Number(one.wrapping_add(*two)),
        (op::ADD, left, Value::Number(add)) if wide => left.plus(*add),
        (op::SUB, left, Value::Number(sub)) if wide => left.plus(sub.wrapping_neg()),
        (op::ADD, Value::Address(base, _), _) | (op::ADD, _, Value::Address(base, _)) if wide => {
            Value::Address(base.clone(), None)
        }
        (op::SUB, Value::Address(base, _), right) if wide && !matches!(right, Value::Address(..)) => {
            Value::Address(base.clone(), None)
        }
        (op::RSH, Value::Thing(thing), Value::Number(32)) if wide && thing.pair.is_some() => {
            left.part(4, 4, 8, explainer.place)
        }
        (_, Value::Number(one), Value::Number(two)) if !signed => fold(op, *one, *two, wide),
        _ => Value::Unknown,
    };
    if wide { value } else { value.low(4, explainer.place) }
}

/// Arithmetic on two numbers that are known; division has exceptions, and is left out.
fn fold(op: u8, left: i64, right: i64, wide: bool) -> Value {
    let (left, width) = if wide { (left, 63) } else { (cut(left, 4), 31) };
    let shift = u32::try_from(right & width).unwrap_or_default();
    Value::Number(match op {
        op::SUB => left.wrapping_sub(right),
        op::MUL => left.wrapping_mul(right),
        op::OR => left | right,
        op::AND => left & right,
        op::XOR => left ^ right,
        op::LSH => left.wrapping_shl(shift),
        op::RSH => left.cast_unsigned().wrapping_shr(shift).cast_signed(),
        op::ARSH if wide => left.wrapping_shr(shift),
        _ => return Value::Unknown,
    })
}

impl Explainer<'_> {
    /// A constant of an instruction: its number, and its name in the source where it has one.
    pub(super) fn constant(&self, row: &Step<'_>, value: &Value) -> String {
        let words = value.noun().unwrap_or_default();
        match (row.filled(), value) {
            (Some(Filled::Size(field)), _) => return format!("{words}, the size of {}", field.path),
            (Some(Filled::Offset(field)), _) => return format!("{words}, where {} is", field.path),
            (Some(Filled::Context { word, .. }), _) => return format!("{words}, where `{word}` is in the context"),
            _ => {}
        }
        let name = row.source().and_then(constant_name);
        let name = name.or_else(|| self.purpose(row)?.constant(row.insn));
        name.map_or(words.clone(), |name| format!("{words} ({name})"))
    }
}

/// The constant of Rust that stands alone on the right-hand side of a statement: `AF_INET` of `r1 = libc::AF_INET`.
fn constant_name(text: &str) -> Option<&str> {
    let right = match text.strip_prefix("if ") {
        Some(condition) => condition.split(" goto ").next()?.split_whitespace().nth(2)?,
        None => text.split_once("= ")?.1,
    };
    let path = right.trim().trim_start_matches('{').trim_end_matches('}').trim();
    let is_path = |text: &str| text.split("::").all(|part| !part.is_empty() && part.chars().all(is_word));
    let name = path.rsplit("::").next()?;
    let is_constant = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (is_path(path) && is_constant).then_some(name)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_rust_are_found_in_statements() {
        for (text, name) in [
            ("r2 = TASK_COMM_LEN", Some("TASK_COMM_LEN")),
            ("if r1 != {libc::IPPROTO_TCP} goto {out}", Some("IPPROTO_TCP")),
            ("r1 += {event::START}", Some("START")),
            ("*(u32 *)(r10 + FAMILY) = {ip.family()}", None),
            ("r1 = COMM + 8", None),
            ("r1 = r2", None),
            ("call bpf_loop", None),
        ] {
            assert_eq!(constant_name(text), name, "{text}");
        }
    }

    #[test]
    fn masks_are_counted() {
        let and = Opcode(0x57);
        assert_eq!((ones(and, 0xff), ones(and, 0xf0), ones(and, -1), ones(and, 0)), (Some(8), None, None, None));
        assert_eq!(fold(op::RSH, -1, 32, true), Value::Number(0xffff_ffff));
        assert_eq!(fold(op::LSH, 1, 33, false), Value::Number(2));
    }
}
