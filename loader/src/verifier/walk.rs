//! The verifier's way through a program: which instruction it looked at after which, on which path, and what it knew there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::end::End;
use super::parse::Parser;
use super::report::Report;
use super::state::{Place, State};
use super::value::Value;

/// A log of the verifier, taken apart.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Walk {
    /// The instructions that it looked at, in the order of the log.
    pub steps: Vec<Step>,
    /// The paths that these belong to, in the order of the log.
    pub paths: Vec<Path>,
    /// Instructions by slot, as the kernel printed them.
    pub insns: BTreeMap<usize, String>,
    /// Source lines by the slot before which they stand: the text, and file and line where the kernel tells those (6.9).
    pub sources: BTreeMap<usize, String>,
    /// What it said after the last instruction, but for its counts: why it refused the program, if it did.
    pub words: Vec<String>,
    /// What Linux 7.3 says beside that.
    pub report: Option<Report>,
    /// What it counted.
    pub end: End,
    by_slot: BTreeMap<usize, Vec<usize>>,
}

/// An instruction that the verifier looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// The instruction's slot.
    pub slot: usize,
    /// The path that it is on, of [`Walk::paths`].
    pub path: usize,
    /// The step before it, of [`Walk::steps`]: for the first one of a path, the branch from which that leads on.
    pub previous: Option<usize>,
    /// What was known before it. Logs of the first level have none before Linux 5.17.
    pub before: Option<Arc<State>>,
    /// What was known after it, on the way that the verifier went on; nothing where it stopped.
    pub after: Option<Arc<State>>,
}

/// A path that the verifier followed, from a branch on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Path {
    /// The step from which it branches off.
    pub from: Option<usize>,
    /// The slot at which it begins.
    pub slot: usize,
    /// Its steps, of [`Walk::steps`]; none if what is known at its beginning was known to be safe.
    pub steps: Range<usize>,
    /// Whether only a processor that guesses goes there.
    pub speculative: bool,
    /// How it ends.
    pub end: PathEnd,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathEnd {
    /// The log ends there: the program was refused, or the log was cut.
    Open,
    /// The program ends.
    Exit,
    /// At this slot no more was possible than on another path, which was found to be safe.
    Safe(usize),
}

/// What is known at an instruction over all paths that lead to it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Join {
    /// How often the verifier came there.
    pub visits: usize,
    /// How many frames of calls deep it was at first.
    pub frame: u32,
    /// What each place held, for those that held something on any visit with a state.
    pub places: BTreeMap<Place, Held>,
}

/// What a place held over all visits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Held {
    /// What it held when something was first known of it.
    pub first: Arc<Value>,
    /// What else it held on other visits, in their order, each once.
    pub others: Vec<Arc<Value>>,
    /// Whether on some visit nothing was known of it.
    pub gaps: bool,
}

impl Walk {
    /// Takes a log apart, of the first or the second level, of any kernel from 4.18 up. What is not understood is passed over or
    /// kept as it is; the time that it takes grows with the length of the log alone.
    pub fn parse(log: &str) -> Self {
        let mut walk = Parser::new(log).run();
        for (index, step) in walk.steps.iter().enumerate() {
            walk.by_slot.entry(step.slot).or_default().push(index);
        }
        walk
    }

    /// The visits of an instruction: steps, in the order of the log.
    pub fn at(&self, slot: usize) -> &[usize] {
        self.by_slot.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The slots that were looked at, and how often.
    pub fn slots(&self) -> impl Iterator<Item = (usize, usize)> {
        self.by_slot.iter().map(|(&slot, steps)| (slot, steps.len()))
    }

    /// What is known before an instruction, over all visits.
    pub fn before(&self, slot: usize) -> Option<Join> {
        self.join(slot, |step| step.before.as_ref())
    }

    /// What is known after an instruction, over all visits.
    pub fn after(&self, slot: usize) -> Option<Join> {
        self.join(slot, |step| step.after.as_ref())
    }

    fn join(&self, slot: usize, state: impl Fn(&Step) -> Option<&Arc<State>>) -> Option<Join> {
        let visits = self.at(slot);
        let mut join = Join { visits: visits.len(), ..Join::default() };
        let states = visits.iter().filter_map(|&step| state(self.steps.get(step)?));
        let mut last: Option<&Arc<State>> = None;
        for (count, state) in states.enumerate() {
            if last.is_some_and(|last| Arc::ptr_eq(last, state)) {
                continue;
            }
            if last.is_none() {
                join.frame = state.frame;
            }
            last = Some(state);
            for (place, cell) in state.cells() {
                let fresh = || Held { first: cell.value.clone(), others: Vec::new(), gaps: count > 0 };
                join.places.entry(place).or_insert_with(fresh).add(&cell.value);
            }
            join.places
                .iter_mut()
                .filter(|(place, _)| state.get(**place).is_none())
                .for_each(|(_, held)| held.gaps = true);
        }
        last.map(|_| join)
    }

    /// The steps that lead to a step, and that one, from the program's beginning on.
    pub fn path_to(&self, step: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(step), |&step| {
            self.steps.get(step)?.previous.filter(|&previous| previous < step)
        })
        .collect();
        path.reverse();
        path
    }

    /// The path on which the log ends: for a program that was refused while the verifier walked, how it came to where it gave up.
    pub fn last_path(&self) -> Vec<usize> {
        let last = match self.paths.last() {
            Some(path) if path.steps.is_empty() && path.end == PathEnd::Open => path.from,
            _ => self.steps.len().checked_sub(1),
        };
        last.map_or(Vec::new(), |last| self.path_to(last))
    }
}

/// How many different values of a place are kept. What a loop counts is different each time.
const MOST_OTHERS: usize = 16;

impl Held {
    fn add(&mut self, value: &Arc<Value>) {
        let same = |known: &Arc<Value>| Arc::ptr_eq(known, value) || known == value;
        if !same(&self.first) && self.others.len() < MOST_OTHERS && !self.others.iter().any(same) {
            self.others.push(value.clone());
        }
    }

    /// Whether it held the same on all visits.
    pub fn is_same(&self) -> bool {
        self.others.is_empty() && !self.gaps
    }
}
