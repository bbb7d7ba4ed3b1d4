//! What the verifier knows at one point of a path: of the registers, the stack and the references of a frame of calls.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::value::{Value, split_outside};

/// MAX_CALL_FRAMES, and more than that: what a log has beyond it is no frame.
const FRAMES: u32 = 16;
/// MAX_BPF_STACK: a slot is there.
const SLOTS: Range<i32> = -512..0;
/// How many words that are not known here are kept of a state.
const MOST_WORDS: usize = 32;

/// A register, or 8 bytes of the stack of the current frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A register, 0 to 10.
    Reg(u8),
    /// A slot of the stack, by the offset of its lowest byte from the top of the frame: -8, -16, ...
    Slot(i32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(number) => write!(f, "R{number}"),
            Self::Slot(offset) => write!(f, "fp{offset}"),
        }
    }
}

/// What the verifier remembers of how a place was used since a state that it keeps (before Linux 6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// It is read later on (`r`).
    pub read: bool,
    /// It was written (`w`).
    pub written: bool,
    /// Nobody reads it any more (`D`).
    pub done: bool,
}

/// What a place holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it holds.
    pub value: Arc<Value>,
    /// How it was used.
    pub live: Live,
}

/// What the verifier knows at one point of a path. What it does not print is not known: from Linux 7.0 on it forgets registers that
/// nobody reads any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// How many calls deep it is: 0 in the program's first function.
    pub frame: u32,
    regs: [Option<Cell>; 11],
    stack: Arc<BTreeMap<i32, Cell>>,
    /// References that must be released.
    pub refs: Vec<u32>,
    /// What else was printed: `cb` in a callback, `async_cb`, and what is not known here.
    pub more: Vec<String>,
    /// The state of the caller, where it called.
    pub caller: Option<Arc<State>>,
}

impl State {
    /// What a place holds, where that is known.
    pub fn get(&self, place: Place) -> Option<&Cell> {
        match place {
            Place::Reg(number) => self.regs.get(usize::from(number))?.as_ref(),
            Place::Slot(offset) => self.stack.get(&offset),
        }
    }

    /// What a register holds, where that is known.
    pub fn reg(&self, number: u8) -> Option<&Value> {
        self.get(Place::Reg(number)).map(|cell| &*cell.value)
    }

    /// All places of which something is known: registers by number, then the stack from its top down.
    pub fn cells(&self) -> impl Iterator<Item = (Place, &Cell)> {
        let regs = (0..).map(Place::Reg).zip(&self.regs).filter_map(|(place, cell)| Some((place, cell.as_ref()?)));
        regs.chain(self.stack.iter().rev().map(|(&offset, cell)| (Place::Slot(offset), cell)))
    }

    /// The places whose value is another one than in `before`, or is known of one of the two only.
    pub fn changed_since(&self, before: &Self) -> Vec<Place> {
        let same = |place: Place| match (self.get(place), before.get(place)) {
            (Some(now), Some(then)) => Arc::ptr_eq(&now.value, &then.value) || now.value == then.value,
            _ => false,
        };
        let here = self.cells().map(|(place, _)| place);
        let gone = before.cells().map(|(place, _)| place).filter(|&place| self.get(place).is_none());
        here.chain(gone).filter(|&place| !same(place)).collect()
    }

    fn set(&mut self, place: Place, cell: Cell) {
        match place {
            Place::Reg(number) => {
                if let Some(reg) = self.regs.get_mut(usize::from(number)) {
                    *reg = Some(cell);
                }
            }
            Place::Slot(offset) => {
                Arc::make_mut(&mut self.stack).insert(offset, cell);
            }
        }
    }

    /// Nothing is known of these registers any more.
    pub(super) fn forget(&mut self, regs: Range<u8>) {
        for reg in regs {
            if let Some(cell) = self.regs.get_mut(usize::from(reg)) {
                *cell = None;
            }
        }
    }

    /// Takes in what was printed after an instruction: only what it may have changed. `is_jump` says that it was a conditional
    /// jump, by which the verifier learns of all places with the same origin, though it prints but those that were compared.
    pub(super) fn update(&mut self, printed: Printed, is_jump: bool) {
        for (place, cell) in printed.cells {
            let old = self.get(place).map(|cell| cell.value.clone());
            if let Some(old) = old.filter(|old| is_jump && old.id != 0 && **old != *cell.value) {
                self.learn(&old, &cell.value);
            }
            self.set(place, cell);
        }
        self.refs = printed.refs;
        self.more = printed.more;
    }

    /// Something was learnt of a value: the same holds for all that are equal to it by origin.
    fn learn(&mut self, old: &Value, new: &Arc<Value>) {
        let places: Vec<(Place, Cell)> = self.cells().map(|(place, cell)| (place, cell.clone())).collect();
        for (place, cell) in places {
            let value = if *cell.value == *old {
                new.clone()
            } else if cell.value.id == old.id && old.or_null && cell.value.or_null {
                match new.is_scalar() {
                    true => new.clone(),
                    false => Arc::new(Value { or_null: false, id: new.id, ..(*cell.value).clone() }),
                }
            } else {
                continue;
            };
            self.set(place, Cell { value, ..cell });
        }
    }

    /// The state that was printed whole, of a function that `above` or one of its callers may have called.
    pub(super) fn whole(printed: Printed, above: Option<&Arc<Self>>) -> Self {
        let mut caller = above;
        while let Some(deeper) = caller.filter(|caller| caller.frame >= printed.frame) {
            caller = deeper.caller.as_ref();
        }
        let caller = caller.cloned();
        let mut state = Self { frame: printed.frame, caller, ..Self::default() };
        state.update(printed, false);
        state
    }
}

/// Registers and slots as the kernel prints them, and words in plain notation: `R0=scalar() R10=fp0 fp-8=mmmmmmmm`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        if self.frame != 0 {
            words.push(format!("frame{}:", self.frame));
        }
        words.extend(self.cells().map(|(place, cell)| format!("{place}={}", cell.value)));
        if !self.refs.is_empty() {
            let refs: Vec<String> = self.refs.iter().map(u32::to_string).collect();
            words.push(format!("refs={}", refs.join(",")));
        }
        words.extend(self.more.iter().cloned());
        f.write_str(&words.join(" "))
    }
}

/// What a line of the log says of a state.
#[derive(Debug, Default)]
pub(super) struct Printed {
    pub frame: u32,
    pub cells: Vec<(Place, Cell)>,
    pub refs: Vec<u32>,
    pub more: Vec<String>,
}

impl Printed {
    /// Reads ` frame1: R0_w=scalar() fp-8=mmmmmmmm refs=2 cb`. `value` reads what a place holds.
    pub fn read<'a>(text: &'a str, mut value: impl FnMut(Place, &'a str) -> Arc<Value>) -> Self {
        let mut printed = Self::default();
        for word in split_outside(text, ' ') {
            if let Some(frame) = frame(word) {
                printed.frame = frame;
            } else if let Some((place, live, text)) = cell(word) {
                printed.cells.push((place, Cell { value: value(place, text), live }));
            } else if let Some(refs) = word.strip_prefix("refs=") {
                printed.refs = refs.split(',').filter_map(|id| id.parse().ok()).take(MOST_WORDS).collect();
            } else if printed.more.len() < MOST_WORDS {
                printed.more.push(word.to_owned());
            }
        }
        printed
    }

    /// Whether a line can be of a state at all.
    pub fn is_state(text: &str) -> bool {
        split_outside(text, ' ')
            .next()
            .is_some_and(|word| frame(word).is_some() || cell(word).is_some() || word.starts_with("refs="))
    }
}

fn frame(word: &str) -> Option<u32> {
    word.strip_prefix("frame")?.strip_suffix(':')?.parse().ok().filter(|frame| *frame < FRAMES)
}

/// `R3_w=scalar()`, `fp-8_rw=...`
fn cell(word: &str) -> Option<(Place, Live, &str)> {
    let (place, value) = word.split_once('=')?;
    let (place, marks) = place.split_once('_').unwrap_or((place, ""));
    let place = match place.strip_prefix('R') {
        Some(number) => Place::Reg(number.parse().ok().filter(|&number| number <= 10)?),
        None => Place::Slot(place.strip_prefix("fp")?.parse().ok().filter(|offset| SLOTS.contains(offset))?),
    };
    let live = Live { read: marks.contains('r'), written: marks.contains('w'), done: marks.contains('D') };
    Some((place, live, value))
}
