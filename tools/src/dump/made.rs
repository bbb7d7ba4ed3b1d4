//! A program that was made for a kernel, shown a row at a time, as it may have a million.

use bpfkit_loader::Linked;

use super::explain::{self, Place};
use super::listing::{Listing, Row};

/// A program, whose rows are made when they are shown.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// What is said of it as a whole, without rows.
    pub head: &'a Listing,
    /// The program.
    pub program: &'a Linked,
    /// What is known of it besides, if rows are to say what they do.
    pub place: Option<&'a Place<'a>>,
}

impl<'a> Made<'a> {
    /// Its rows, in order.
    pub fn rows(self) -> impl Iterator<Item = Row> + 'a {
        let mut sentences = self.place.map(|place| explain::of_made(self.head, self.program, place));
        Row::all(self.program).map(move |row| Row { explanation: sentences.as_mut().and_then(Iterator::next), ..row })
    }

    /// How many slots there are.
    pub fn slots(self) -> usize {
        self.program.insns().len()
    }
}
