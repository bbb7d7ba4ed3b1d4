//! What each instruction does, in plain words that fit its very operands.
//!
//! A walk over the program, forward along all its ways, follows what registers and stack hold: the context, an argument of the
//! probed function, the address of a member, the value in a map or nothing, a number. Where ways meet, what both know is left;
//! where nothing is known, the sentence says what is literally done.

mod alu;
mod call;
mod jump;
mod memory;
mod place;
mod state;
mod step;
mod uses;
mod value;
mod walk;

use bpfkit_asm::{Class, Opcode};

use bpfkit_loader::Linked;

pub use self::place::Place;
use self::state::State;
use self::step::{Step, Steps};
use self::uses::Purpose;
pub use self::walk::Sentences;
use super::listing::Listing;

/// Puts a sentence into each row of a program.
pub fn explain(listing: &mut Listing, place: &Place<'_>) {
    let sentences: Vec<String> = Explainer::new(listing, Steps::Kept(&listing.rows), place).sentences().collect();
    for (row, sentence) in listing.rows.iter_mut().zip(sentences) {
        row.explanation = Some(sentence);
    }
}

/// A sentence for each row of a program whose rows are made one after the other. Its listing has none.
pub fn of_made<'a>(listing: &'a Listing, program: &'a Linked, place: &'a Place<'a>) -> Sentences<'a> {
    Explainer::new(listing, Steps::Made(program), place).sentences()
}

/// What a walk needs to know.
struct Explainer<'a> {
    /// The program, without its rows.
    listing: &'a Listing,
    steps: Steps<'a>,
    /// The first slot of each row.
    slots: Vec<usize>,
    place: &'a Place<'a>,
    /// For which argument of which helper each row makes a register ready.
    purposes: Vec<Option<Purpose>>,
}

impl<'a> Explainer<'a> {
    fn new(listing: &'a Listing, steps: Steps<'a>, place: &'a Place<'a>) -> Self {
        let mut explainer = Self { listing, steps, slots: steps.slots(), place, purposes: Vec::new() };
        explainer.purposes = uses::purposes(&explainer);
        explainer
    }

    /// A row by its number.
    fn row(&self, index: usize) -> Option<Step<'a>> {
        self.steps.get(index, *self.slots.get(index)?)
    }

    /// The row that begins at a slot.
    fn row_at(&self, slot: usize) -> Option<Step<'a>> {
        self.steps.get(self.index_at(slot)?, slot)
    }

    /// The number of the row that begins at a slot.
    fn index_at(&self, slot: usize) -> Option<usize> {
        self.slots.binary_search(&slot).ok()
    }

    /// What a row makes a register ready for.
    fn purpose(&self, row: &Step<'_>) -> Option<&Purpose> {
        self.purposes.get(self.index_at(row.slot)?)?.as_ref()
    }

    /// Says what a row does, and does it to what is known.
    fn step(&self, row: &Step<'_>, state: &mut State) -> String {
        let words = match row.insn.code.class() {
            Class::Alu | Class::Alu64 => self.arithmetic(row, state),
            Class::Ld | Class::Ldx => self.load(row, row.second.map(|second| second.imm), state),
            Class::St | Class::Stx => self.store(row, state),
            Class::Jmp | Class::Jmp32 => match row.insn.code {
                Opcode::CALL => self.call(row, state),
                Opcode(0x8d) => {
                    let words = self.jump(row, state);
                    self.call(row, state);
                    words
                }
                Opcode::EXIT => self.exit(row, state),
                _ => self.jump(row, state),
            },
        };
        match self.purpose(row) {
            Some(purpose) => format!("{words}: {purpose}"),
            None => words,
        }
    }
}
