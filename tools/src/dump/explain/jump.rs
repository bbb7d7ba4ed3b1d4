//! Jumps and the end: when, where to, and what is known on either way.

use bpfkit_asm::{Class, Opcode};

use super::Explainer;
use super::state::State;
use super::step::Step;
use super::value::{Base, Value, number};

/// The upper four bits of an opcode.
mod op {
    pub const JEQ: u8 = 0x10;
    pub const JGT: u8 = 0x20;
    pub const JGE: u8 = 0x30;
    pub const JSET: u8 = 0x40;
    pub const JNE: u8 = 0x50;
    pub const JSGT: u8 = 0x60;
    pub const JSGE: u8 = 0x70;
    pub const JLT: u8 = 0xa0;
    pub const JLE: u8 = 0xb0;
    pub const JSLT: u8 = 0xc0;
    pub const JSLE: u8 = 0xd0;
}

/// The errors that helpers of the tools give, and those that programs give back most; the kernel's include/uapi/asm-generic/errno-base.h.
const ERRORS: [(i64, &str); 13] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (7, "E2BIG"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
];

impl Explainer<'_> {
    /// A jump.
    pub(super) fn jump(&self, row: &Step<'_>, state: &State) -> String {
        let insn = row.insn;
        match insn.code {
            Opcode::JA => self.go(row),
            Opcode::JA32 => format!("{}, however far that is", self.go(row)),
            Opcode::JCOND => {
                format!("{} if this loop has had its share of rounds, which the kernel counts", self.go(row))
            }
            Opcode(0x8d) => format!("call the function whose address is in r{}", insn.dst()),
            _ => match self.condition(row, state) {
                Some(condition) => format!("if {condition}, {}", self.go(row)),
                None => format!("no instruction that is known: {}", row.text()),
            },
        }
    }

    /// Where a jump goes: the label that the source names, or else the first there is, or else the slot.
    fn go(&self, row: &Step<'_>) -> String {
        let Some(to) = row.to else { return "go out of the program".to_owned() };
        let labels = self.row_at(to).map_or(Vec::new(), |row| row.labels());
        let is_named = |label: &&&str| {
            let text = row.source().unwrap_or_default();
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == **label)
        };
        let label = labels.iter().find(is_named).or(labels.first());
        let back = if to <= row.slot { " back" } else { "" };
        match label {
            Some(label) => format!("go{back} to `{label}`"),
            None => format!("go{back} to {to}"),
        }
    }

    /// The condition of a jump in words.
    fn condition(&self, row: &Step<'_>, state: &State) -> Option<String> {
        let insn = row.insn;
        let wide = insn.code.class() == Class::Jmp;
        let left = state.reg(insn.dst());
        let right =
            if insn.code.is_register() { state.reg(insn.src()).clone() } else { Value::Number(insn.imm.into()) };
        let op = insn.code.op();
        let r = if wide { 'r' } else { 'w' };
        let named = |reg: u8, value: &Value| match value.noun() {
            Some(noun) => format!("{r}{reg} ({noun})"),
            None => format!("{r}{reg}"),
        };
        let one = named(insn.dst(), left);
        let two = if insn.code.is_register() { named(insn.src(), &right) } else { self.operand(row, left, op) };
        let (compare, signed) = match op {
            op::JEQ => ("is", false),
            op::JNE => ("is not", false),
            op::JGT => ("is greater than", false),
            op::JGE => ("is at least", false),
            op::JLT => ("is less than", false),
            op::JLE => ("is at most", false),
            op::JSGT => ("is greater than", true),
            op::JSGE => ("is at least", true),
            op::JSLT => ("is less than", true),
            op::JSLE => ("is at most", true),
            op::JSET => {
                let single = u32::try_from(insn.imm).ok().filter(|mask| mask.is_power_of_two());
                return Some(match single.filter(|_| !insn.code.is_register()) {
                    Some(mask) => format!("bit {} of {one} is set", mask.trailing_zeros()),
                    None => format!("{one} and {two} have a bit in common"),
                });
            }
            _ => return None,
        };
        if let Some(words) = outcome(op, left, &right, wide) {
            return Some(format!("{words} ({r}{} {compare} {})", insn.dst(), insn.imm));
        }
        let number = if signed { ", as signed numbers" } else { "" };
        Some(format!("{one} {compare} {two}{number}"))
    }

    /// The constant of a comparison, as the other side is read.
    fn operand(&self, row: &Step<'_>, left: &Value, op: u8) -> String {
        let imm = i64::from(row.insn.imm);
        let wide = row.insn.code.class() == Class::Jmp;
        let unsigned = matches!(op, op::JGT | op::JGE | op::JLT | op::JLE) || !wide;
        let value = match (unsigned && imm < 0, wide) {
            (true, true) => return format!("{imm:#x}"),
            (true, false) if !matches!(op, op::JSGT | op::JSGE | op::JSLT | op::JSLE) => {
                return format!("{:#x}", row.insn.imm);
            }
            _ => Value::Number(imm),
        };
        let words = self.constant(row, &value);
        match left {
            Value::Thing(thing) if thing.is_big_endian && imm != 0 => match thing.bytes {
                Some(2) => {
                    let swapped = u16::try_from(imm).map_or(imm, |imm| imm.swap_bytes().into());
                    format!("{} ({words} in the network's order of bytes)", number(swapped))
                }
                _ => words,
            },
            _ => words,
        }
    }

    /// What is known where a jump is taken, or is not.
    pub(super) fn on_way(&self, row: &Step<'_>, state: &State, is_taken: bool) -> State {
        let mut state = state.clone();
        let insn = row.insn;
        let is_zero = match (insn.code.op(), is_taken) {
            (op::JEQ, taken) => taken,
            (op::JNE, taken) => !taken,
            _ => return state,
        };
        if insn.code.is_register() || insn.code.class() != Class::Jmp {
            return state;
        }
        let held = state.reg(insn.dst()).clone();
        match held {
            Value::Address(Base::Region(region), _) if insn.imm == 0 && region.doubt.is_some() => {
                if is_zero {
                    state.set(insn.dst(), Value::Number(0));
                } else {
                    state.is_there(region.from);
                }
            }
            Value::Unknown if is_zero => state.set(insn.dst(), Value::Number(insn.imm.into())),
            _ => {}
        }
        state
    }

    /// The end of a function.
    pub(super) fn exit(&self, row: &Step<'_>, state: &State) -> String {
        let value = state.reg(0);
        let noun = value.noun().map_or_else(|| "what r0 holds".to_owned(), |noun| format!("r0 = {noun}"));
        let first = self.listing.functions.get(1).map_or(usize::MAX, |second| second.slot);
        if row.slot >= first {
            return format!("return to the caller with {noun}");
        }
        let is_attached = |ways: &[&str]| ways.iter().any(|way| self.listing.attach.starts_with(way));
        let meaning = match (self.listing.kind.as_str(), value) {
            ("kprobe" | "tracepoint" | "perf_event", Value::Number(0)) => ": perf records nothing of its own",
            ("raw_tracepoint", _) => ", which the kernel ignores",
            ("tracing", _) if is_attached(&["fentry", "fexit", "tp_btf"]) => ", which the kernel ignores",
            ("tracing", Value::Number(0)) if is_attached(&["fmod_ret"]) => ": the function runs",
            ("lsm", Value::Number(0)) => ": the operation may go on",
            ("lsm", Value::Number(error)) => {
                let error = error_name(*error).map_or(String::new(), |name| format!(" with {name}"));
                return format!("end the program with {noun}: the operation is denied{error}");
            }
            ("xdp", Value::Number(0)) => ", XDP_ABORTED",
            ("xdp", Value::Number(1)) => ", XDP_DROP",
            ("xdp", Value::Number(2)) => ", XDP_PASS",
            ("xdp", Value::Number(3)) => ", XDP_TX",
            ("xdp", Value::Number(4)) => ", XDP_REDIRECT",
            ("socket_filter", Value::Number(0)) => ": the socket does not get the packet",
            ("ext", _) => return format!("return to the caller of the replaced function with {noun}"),
            _ => "",
        };
        format!("end the program with {noun}{meaning}")
    }
}

/// A condition on what a helper gave, in the helper's terms.
fn outcome(op: u8, left: &Value, right: &Value, wide: bool) -> Option<String> {
    let &Value::Number(right) = right else { return None };
    match left {
        Value::Address(Base::Region(region), Some(0)) if right == 0 && wide => {
            let (none, one) = region.doubt.as_ref()?;
            match op {
                op::JEQ => Some(none.to_string()),
                op::JNE => Some(one.to_string()),
                _ => None,
            }
        }
        Value::Thing(thing) => {
            let helper = thing.status?;
            let name = helper.name()?;
            let is_plain = helper.doc()?.gives == "0, or a negative error";
            match (op, right) {
                (op::JEQ, 0) if is_plain => Some(format!("{name} succeeded")),
                (op::JNE, 0) if is_plain => Some(format!("{name} failed")),
                (op::JSLT, 0) | (op::JSLE, -1) => Some(format!("{name} failed")),
                (op::JSGE, 0) | (op::JSGT, -1) => Some(format!("{name} succeeded")),
                (op::JEQ, ..0) => Some(format!("{name} failed with {}", error_name(right)?)),
                (op::JNE, ..0) => Some(format!("{name} did not fail with {}", error_name(right)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `ENOSPC` of -28.
fn error_name(negative: i64) -> Option<&'static str> {
    ERRORS.iter().find(|(number, _)| negative.checked_neg() == Some(*number)).map(|&(_, name)| name)
}
