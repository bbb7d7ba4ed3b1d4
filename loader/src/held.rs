//! What registers may hold on the ways that lead to an instruction, as far as rules of old kernels ask for it.

use std::collections::BTreeMap;
use std::ops::Range;

use bpfkit_asm::{Class, Helper, Insn, Mode, Opcode};

use crate::check::bytes;
use crate::flow::edges;

/// Sets of what a register may hold, one bit each; no bit where it is not known.
type Held = u8;
const NUMBER: Held = 1;
const VALUE: Held = 2;
const CONTEXT: Held = 4;
const STACK: Held = 8;
const MAP: Held = 16;

/// An instruction that some kernels do not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    /// A number to which the address of a map's value is added, at this slot.
    Sum(usize),
    /// A load from the context, at this slot, of so many bytes where they do not divide the offset.
    Unaligned(usize, i32),
}

/// What is known before an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    regs: [Held; 11],
    /// What was stored in words of the stack, by their offset.
    stack: BTreeMap<i16, Held>,
}

impl State {
    fn at_start() -> Self {
        let mut regs = [0; 11];
        (regs[1], regs[10]) = (CONTEXT, STACK);
        Self { regs, stack: BTreeMap::new() }
    }

    /// What is known where another way arrives; whether that is more than before.
    fn join(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (own, held) in self.regs.iter_mut().zip(other.regs) {
            *own |= held;
        }
        for (&offset, held) in &other.stack {
            *self.stack.entry(offset).or_default() |= held;
        }
        *self != before
    }

    fn reg(&self, number: u8) -> Held {
        self.regs.get(usize::from(number)).copied().unwrap_or_default()
    }

    fn set(&mut self, number: u8, held: Held) {
        if let Some(reg) = self.regs.get_mut(usize::from(number)) {
            *reg = held;
        }
    }

    /// What is known behind an instruction.
    fn step(&mut self, insn: Insn) {
        let (code, dst, src) = (insn.code, insn.dst(), insn.src());
        let by_register = code.0 & 0x08 != 0;
        match code.class() {
            Class::Alu64 => {
                let held = match code.op() {
                    0xb0 if by_register => self.reg(src),
                    // An address stays one, whatever is added to it.
                    0x00 if by_register => match (self.reg(dst) | self.reg(src)) & !NUMBER {
                        0 => NUMBER,
                        address => address,
                    },
                    0x00 | 0x10 => self.reg(dst),
                    _ => NUMBER,
                };
                self.set(dst, held);
            }
            Class::Alu => self.set(dst, NUMBER),
            Class::Ldx => {
                let is_word = self.reg(src) == STACK && src == 10 && bytes(code) == 8;
                let held = if is_word { self.stack.get(&insn.off).copied() } else { None };
                self.set(dst, held.unwrap_or(NUMBER));
            }
            Class::St | Class::Stx if dst == 10 && code.mode() == Some(Mode::Mem) => {
                let is_word = code.class() == Class::Stx && bytes(code) == 8;
                self.stack.insert(insn.off, if is_word { self.reg(src) } else { NUMBER });
            }
            Class::Ld if insn.is_wide() => {
                let held = match src {
                    1 => MAP,
                    2 => VALUE,
                    _ => NUMBER,
                };
                self.set(dst, held);
            }
            Class::Jmp if code == Opcode::CALL => {
                let found = insn.helper() == Some(Helper::MAP_LOOKUP_ELEM);
                self.set(0, if found { VALUE } else { NUMBER });
                (1..=5).for_each(|scratch| self.set(scratch, 0));
            }
            _ => {}
        }
    }

    fn odd(&self, slot: usize, insn: Insn) -> Option<Odd> {
        let (code, dst, src) = (insn.code, insn.dst(), insn.src());
        let is_sum = code.class() == Class::Alu64 && code.op() == 0x00 && code.0 & 0x08 != 0;
        if is_sum && self.reg(src) & VALUE != 0 && self.reg(dst) & NUMBER != 0 {
            return Some(Odd::Sum(slot));
        }
        let bytes = bytes(code);
        let is_odd = code.class() == Class::Ldx && self.reg(src) == CONTEXT && i32::from(insn.off) % bytes != 0;
        is_odd.then_some(Odd::Unaligned(slot, bytes))
    }
}

/// The odd instructions of the function in these slots, in order. `is_entry` tells that the kernel calls it, with the context.
pub(crate) fn odd(insns: &[Insn], function: Range<usize>, is_entry: bool) -> Vec<Odd> {
    let slots = insns.get(function.clone()).unwrap_or_default();
    let mut known: Vec<Option<State>> = vec![None; slots.len()];
    if let Some(first) = known.first_mut() {
        *first = Some(if is_entry { State::at_start() } else { State::default() });
    }
    let mut ways = vec![0];
    // Sets only grow, so that this ends.
    while let Some(at) = ways.pop() {
        let (Some(&insn), Some(Some(state))) = (slots.get(at), known.get(at)) else { continue };
        let mut state = state.clone();
        state.step(insn);
        for next in edges(at, insn).into_iter().flatten().filter_map(|next| usize::try_from(next).ok()) {
            let grew = match known.get_mut(next) {
                Some(Some(there)) => there.join(&state),
                Some(there) => {
                    *there = Some(state.clone());
                    true
                }
                None => false,
            };
            if grew {
                ways.push(next);
            }
        }
    }
    let each = known.iter().zip(slots).enumerate();
    each.filter_map(|(at, (state, &insn))| state.as_ref()?.odd(function.start + at, insn)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit_asm::{Asm, bpf};

    fn found(code: Asm) -> Vec<Odd> {
        let code = code.finish().unwrap();
        odd(code.insns(), 0..code.insns().len(), true)
    }

    #[test]
    fn a_number_plus_an_address_is_found_whichever_way_the_address_came() {
        let looked_up = |end: Asm| {
            bpf! {
                r6 = r1;
                r2 = r10;
                r2 += -8;
                r1 = map[values];
                call bpf_map_lookup_elem;
                if r0 == 0 goto out;
                *(u64 *)(r10 - 16) = r0;
                r7 = *(u64 *)(r10 - 16);
                r1 = *(u32 *)(r7 + 0);
                {end};
            out:
                r0 = 0;
                exit;
            }
        };
        // The address of a map takes two slots.
        let bad = looked_up(bpf! { r1 += r7; });
        assert_eq!(found(bad), [Odd::Sum(10)]);
        let good = looked_up(bpf! { r2 = r7; r2 += r1; r2 += 8; r3 = 1; r3 += r1; });
        assert_eq!(found(good), []);
    }

    #[test]
    fn what_one_of_two_ways_brings_counts() {
        let code = bpf! {
            r6 = *(u64 *)(r1 + 8);
            r2 = r10;
            r1 = map[values];
            call bpf_map_lookup_elem;
            r7 = 4;
            if r6 == 0 goto both;
            r7 = r0;
        both:
            r6 += r7;
            r0 = 0;
            exit;
        };
        assert_eq!(found(code), [Odd::Sum(8)]);
    }

    #[test]
    fn loads_from_the_context_are_looked_at_and_no_others() {
        let code = bpf! {
            r6 = r1;
            r0 = *(u32 *)(r6 + 63);
            r0 = *(u16 *)(r6 + 6);
            r0 = *(u8 *)(r6 + 63);
            *(u64 *)(r10 - 8) = r0;
            r0 = *(u32 *)(r10 - 7);
            exit;
        };
        assert_eq!(found(code), [Odd::Unaligned(1, 4)]);
    }
}
