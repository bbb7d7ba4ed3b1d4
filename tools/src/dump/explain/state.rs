//! What registers and the stack hold at one point of a program.

use std::rc::Rc;

use super::place::Place;
use super::value::{Base, Region, Value, count, stack};

/// How many things of a piece of memory are named.
const NAMED: usize = 6;

/// What is known before an instruction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// r0 to r10.
    regs: [Value; 11],
    /// In order, none over another.
    slots: Vec<Slot>,
}

/// Bytes of the stack.
#[derive(Clone, Debug, PartialEq)]
struct Slot {
    /// The first one, from the top.
    at: i64,
    /// The one after the last.
    end: i64,
    value: Value,
}

impl State {
    /// At the start of a function: r10 is the top of its stack.
    pub fn new() -> Self {
        let mut state = Self::default();
        state.set(10, Value::Address(Base::Stack, Some(0)));
        state
    }

    /// What a register holds.
    pub fn reg(&self, reg: u8) -> &Value {
        self.regs.get(usize::from(reg)).unwrap_or(&Value::Unknown)
    }

    /// Puts something into a register.
    pub fn set(&mut self, reg: u8, value: Value) {
        if let Some(register) = self.regs.get_mut(usize::from(reg)) {
            *register = value;
        }
    }

    /// What it is, in words, or else the register.
    pub fn noun(&self, reg: u8) -> String {
        self.reg(reg).noun().unwrap_or_else(|| format!("r{reg}"))
    }

    /// What is known where two ways meet; whether that is less than what is known here.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut is_less = false;
        for (reg, other) in self.regs.iter_mut().zip(&other.regs) {
            let joined = reg.join(other);
            is_less |= joined != *reg;
            *reg = joined;
        }
        let before = self.slots.len();
        self.slots.retain(|slot| other.slots.contains(slot));
        is_less || before != self.slots.len()
    }

    /// Writes to the stack.
    pub fn store(&mut self, at: i64, len: i64, value: Value) {
        self.forget(at, len);
        if len > 0 && value != Value::Unknown {
            let index = self.slots.partition_point(|slot| slot.at < at);
            self.slots.insert(index, Slot { at, end: at.saturating_add(len), value });
        }
    }

    /// Forgets bytes of the stack.
    fn forget(&mut self, at: i64, len: i64) {
        let end = at.saturating_add(len);
        self.slots.retain(|slot| slot.at >= end || slot.end <= at);
    }

    /// Forgets the whole stack.
    pub fn forget_stack(&mut self) {
        self.slots.clear();
    }

    /// What bytes of the stack hold.
    pub fn load(&self, at: i64, len: i64, place: &Place<'_>) -> Value {
        let fits = |slot: &&Slot| slot.at <= at && at.saturating_add(len) <= slot.end;
        let slot = self.slots.iter().find(fits);
        slot.map_or(Value::Unknown, |slot| slot.value.part(at - slot.at, len, slot.end - slot.at, place))
    }

    /// What begins there, as a noun, where that is known.
    pub fn beginning(&self, at: i64) -> Option<String> {
        self.slots.iter().find(|slot| slot.at == at)?.value.noun()
    }

    /// The things within bytes of the stack, as a list.
    fn within(&self, at: i64, len: i64) -> Option<String> {
        let end = at.saturating_add(len);
        let within = self.slots.iter().filter(|slot| slot.at >= at && slot.end <= end);
        let mut nouns: Vec<String> = within.filter_map(|slot| slot.value.noun()).collect();
        if nouns.len() > NAMED {
            nouns.truncate(NAMED);
            return Some(format!("{} and others", nouns.join(", ")));
        }
        let last = nouns.pop()?;
        Some(if nouns.is_empty() { last } else { format!("{} and {last}", nouns.join(", ")) })
    }

    /// Memory that a register points to, as a noun: `the result of f`, or `8 bytes of the stack at r10-8`.
    pub fn memory(&self, reg: u8, len: Option<i64>, place: &Place<'_>) -> String {
        match (self.reg(reg), len) {
            (Value::Address(Base::Stack, Some(at)), Some(len)) => {
                let bytes = Base::Stack.bytes(Some(*at), len);
                match (self.load(*at, len, place).noun(), self.within(*at, len)) {
                    (Some(whole), _) => format!("{whole} ({bytes})"),
                    (None, Some(parts)) => format!("{bytes} ({parts})"),
                    (None, None) => bytes,
                }
            }
            (Value::Address(Base::Stack, Some(at)), None) => format!("what is {}", stack(*at)),
            (Value::Address(base, at), Some(len)) => base.bytes(*at, len),
            (Value::Unknown, Some(len)) => format!("{} at the address in r{reg}", count(len)),
            (value, Some(len)) => {
                format!("{} at {}", count(len), value.noun().unwrap_or_default())
            }
            (_, None) => format!("what is at {}", self.noun(reg)),
        }
    }

    /// On the way on which memory that a helper gave is there.
    pub fn is_there(&mut self, from: usize) {
        let seen = |value: &mut Value| {
            if let Value::Address(Base::Region(region), _) = value
                && region.from == from
                && region.doubt.is_some()
            {
                *region = Rc::new(Region { doubt: None, ..Region::clone(region) });
            }
        };
        self.regs.iter_mut().for_each(seen);
        self.slots.iter_mut().for_each(|slot| seen(&mut slot.value));
    }

    /// After a call: r1 to r5 are anything.
    pub fn clobber(&mut self) {
        for reg in 1..=5 {
            self.set(reg, Value::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_is_forgotten() {
        let place = Place::default();
        let mut state = State::new();
        state.store(-16, 8, Value::named("one"));
        state.store(-8, 8, Value::named("two"));
        assert_eq!(state.within(-16, 16).as_deref(), Some("one and two"));
        state.set(2, Value::Address(Base::Stack, Some(-16)));
        assert_eq!(state.memory(2, Some(8), &place), "one (8 bytes of the stack at r10-16)");
        state.store(-12, 4, Value::Number(3));
        assert_eq!(state.memory(2, Some(16), &place), "16 bytes of the stack at r10-16 (3 and two)");
        assert_eq!(state.within(-24, 8), None);
        let mut other = state.clone();
        other.store(-8, 8, Value::Number(0));
        assert!(state.join(&other) && !state.join(&other));
        assert_eq!(state.load(-8, 8, &place), Value::Unknown);
    }
}
