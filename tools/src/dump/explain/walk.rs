//! The walk along all ways through a program.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bpfkit_asm::Opcode;

use super::Explainer;
use super::state::State;
use super::step::Step;
use super::value::{Base, Value};

/// How often a row may be walked over, on average. Each time that ways meet something is forgotten, so that the walk ends; this is for
/// programs that were made to be slow.
const ROUNDS: usize = 64;

/// What is known where ways meet, by row, and from which of these rows on there is something new.
struct Ways {
    /// In boxes, as most rows have none.
    entries: Vec<Option<Box<State>>>,
    waiting: BinaryHeap<Reverse<usize>>,
}

impl Ways {
    /// Comes to a row, knowing this.
    fn reach(&mut self, index: usize, state: &State) {
        let is_new = match self.entries.get_mut(index) {
            Some(Some(known)) => known.join(state),
            Some(none) => {
                *none = Some(Box::new(state.clone()));
                true
            }
            None => false,
        };
        if is_new && !self.waiting.iter().any(|Reverse(waiting)| *waiting == index) {
            self.waiting.push(Reverse(index));
        }
    }
}

/// A sentence for each row, in order.
pub struct Sentences<'a> {
    explainer: Explainer<'a>,
    /// What is known where ways meet, of the rows that come.
    entries: std::vec::IntoIter<Option<Box<State>>>,
    /// The number of the next row.
    index: usize,
    /// What is known before it.
    state: State,
}

impl Iterator for Sentences<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let row = self.explainer.row(self.index)?;
        self.index += 1;
        if let Some(known) = self.entries.next().flatten() {
            self.state = *known;
        }
        let sentence = self.explainer.step(&row, &mut self.state);
        if !self.explainer.falls_through(&row) {
            // What comes next is come to from elsewhere, or not at all.
            self.state = State::new();
        } else if row.insn.jump().is_some() {
            self.state = self.explainer.on_way(&row, &self.state, false);
        }
        Some(sentence)
    }
}

impl<'a> Explainer<'a> {
    /// A sentence for each row.
    pub(super) fn sentences(self) -> Sentences<'a> {
        let entries = self.entries().into_iter();
        Sentences { explainer: self, entries, index: 0, state: State::new() }
    }

    /// What is known at the start of each function and where jumps lead to, by row.
    fn entries(&self) -> Vec<Option<Box<State>>> {
        let rows = self.slots.len();
        let mut is_called = vec![false; rows];
        let mut is_leader = vec![false; rows];
        let mut ways = Ways { entries: vec![None; rows], waiting: BinaryHeap::new() };
        for row in (0..rows).filter_map(|index| self.row(index)) {
            if let Some(to) = row.to.and_then(|to| self.index_at(to)) {
                is_leader[to] = true;
                is_called[to] |= row.insn.is_local_call();
            }
        }
        ways.reach(0, &self.start());
        for func in self.listing.functions.iter().skip(1) {
            let Some(index) = self.index_at(func.slot) else { continue };
            is_leader[index] = true;
            // A function that nobody calls is called by the kernel, which has its address.
            if !is_called[index] {
                let mut state = State::new();
                for reg in 1..=5_u8 {
                    state.set(reg, Value::named(format!("argument {reg} of {}", func.name)));
                }
                ways.reach(index, &state);
            }
        }
        let mut left = rows.saturating_mul(ROUNDS);
        while let Some(Reverse(start)) = ways.waiting.pop() {
            let Some(mut state) = ways.entries.get(start).cloned().flatten().map(|state| *state) else { continue };
            for index in start..rows {
                let Some(row) = self.row(index) else { break };
                if index != start && is_leader[index] {
                    ways.reach(index, &state);
                    break;
                }
                let Some(rest) = left.checked_sub(1) else {
                    return is_leader.into_iter().map(|is_leader| is_leader.then(|| Box::new(State::new()))).collect();
                };
                left = rest;
                let before = row.insn.is_local_call().then(|| passed(&state));
                self.step(&row, &mut state);
                let to = row.to.and_then(|to| self.index_at(to));
                if let (Some(to), Some(passed)) = (to, before) {
                    ways.reach(to, &passed);
                }
                if row.insn.jump().is_some() {
                    if let Some(to) = to {
                        ways.reach(to, &self.on_way(&row, &state, true));
                    }
                    state = self.on_way(&row, &state, false);
                }
                if !self.falls_through(&row) {
                    break;
                }
            }
        }
        ways.entries
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

    fn falls_through(&self, row: &Step<'_>) -> bool {
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
