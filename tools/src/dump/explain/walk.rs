//! The walk along all ways through a program.

use std::collections::{BTreeMap, BTreeSet};

use bpfkit_asm::Opcode;

use super::Explainer;
use super::state::State;
use super::value::{Base, Value};
use crate::dump::listing::Row;

/// How often a row may be walked over, on average. Each time that ways meet something is forgotten, so that the walk ends; this is for
/// programs that were made to be slow.
const ROUNDS: usize = 64;

impl Explainer<'_> {
    /// A sentence for each row.
    pub(super) fn sentences(&self) -> Vec<String> {
        let entries = self.entries();
        let mut sentences = Vec::with_capacity(self.listing.rows.len());
        let mut state = State::new();
        for (index, row) in self.listing.rows.iter().enumerate() {
            if let Some(known) = entries.get(&index) {
                state = known.clone();
            }
            sentences.push(self.step(index, &mut state));
            if self.falls_through(row) {
                if row.insn.jump().is_some() {
                    state = self.on_way(row, &state, false);
                }
            } else {
                // What comes next is come to from elsewhere, or not at all.
                state = State::new();
            }
        }
        sentences
    }

    /// What is known at the start of each function and where jumps lead to, by row.
    fn entries(&self) -> BTreeMap<usize, State> {
        let mut leaders: BTreeSet<usize> =
            self.listing.rows.iter().filter_map(|row| row.to).filter_map(|to| self.rows.get(&to).copied()).collect();
        leaders.extend(self.listing.functions.iter().filter_map(|func| self.rows.get(&func.slot).copied()));
        leaders.insert(0);
        let mut entries = BTreeMap::from([(0, self.start())]);
        let mut waiting = BTreeSet::from([0]);
        // A function that nobody calls is called by the kernel, which has its address.
        for func in self.listing.functions.iter().skip(1) {
            if let Some(&index) = self.rows.get(&func.slot)
                && !self.listing.rows.iter().any(|row| row.insn.is_local_call() && row.to == Some(func.slot))
            {
                let mut state = State::new();
                for reg in 1..=5_u8 {
                    state.set(reg, Value::named(format!("argument {reg} of {}", func.name)));
                }
                entries.insert(index, state);
                waiting.insert(index);
            }
        }
        let mut left = self.listing.rows.len().saturating_mul(ROUNDS);
        while let Some(start) = waiting.pop_first() {
            let Some(mut state) = entries.get(&start).cloned() else { continue };
            let mut reach = |index: usize, state: &State| match entries.get_mut(&index) {
                Some(known) => {
                    if known.join(state) {
                        waiting.insert(index);
                    }
                }
                None => {
                    entries.insert(index, state.clone());
                    waiting.insert(index);
                }
            };
            for (index, row) in self.listing.rows.iter().enumerate().skip(start) {
                if index != start && leaders.contains(&index) {
                    reach(index, &state);
                    break;
                }
                let Some(rest) = left.checked_sub(1) else {
                    return leaders.into_iter().map(|index| (index, State::new())).collect();
                };
                left = rest;
                let before = row.insn.is_local_call().then(|| passed(&state));
                self.step(index, &mut state);
                let to = row.to.and_then(|to| self.rows.get(&to).copied());
                if let (Some(to), Some(passed)) = (to, before) {
                    reach(to, &passed);
                }
                if row.insn.jump().is_some() {
                    if let Some(to) = to {
                        reach(to, &self.on_way(row, &state, true));
                    }
                    state = self.on_way(row, &state, false);
                }
                if !self.falls_through(row) {
                    break;
                }
            }
        }
        entries
    }

    /// What is known when the kernel enters.
    fn start(&self) -> State {
        let mut state = State::new();
        if self.place.is_replacement {
            (1..=5_u8).for_each(|reg| state.set(reg, self.place.argument(reg.into())));
        } else {
            state.set(1, Value::Address(Base::Context, Some(0)));
        }
        state
    }

    fn falls_through(&self, row: &Row) -> bool {
        !matches!(row.insn.code, Opcode::EXIT | Opcode::JA | Opcode::JA32)
    }
}

/// What a function is given by one that calls it, whose stack it does not know.
fn passed(caller: &State) -> State {
    let mut state = State::new();
    for reg in 1..=5 {
        let value = match caller.reg(reg) {
            Value::Address(Base::Stack, _) => Value::named("an address on the stack of the caller"),
            value => value.clone(),
        };
        state.set(reg, value);
    }
    state
}
