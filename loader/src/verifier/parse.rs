//! Reads the log of the verifier line by line.
//!
//! Before Linux 5.17 a log of the second level has the whole state of the current frame on a line before each instruction
//! (`print_verifier_state`), with the instruction's number in front. Later ones have it whole where a path begins, and what an
//! instruction may have changed behind it (`print_insn_state`), or on a line of its own where something else was said in between.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Lines;
use std::sync::Arc;

use super::diagnosis::named_slot;
use super::line::{instruction, numbered, target, unglue, written};
use super::report::Report;
use super::state::{Place, Printed, State};
use super::value::Value;
use super::walk::{Path, PathEnd, Step, Walk};

/// What the log has before it walks (Linux 6.16), and what it says about its own book-keeping.
const HEADERS: [&str; 4] = ["Live regs before insn", "subprog#", "stack use/def ", "topo_order["];
const NOISE: [&str; 12] = [
    "mark_precise:",
    "regs=",
    "last_idx ",
    "parent ",
    "propagating ",
    "func#",
    "SCC ",
    "(",
    "cur state:",
    "old state:",
    "Func#",
    "frame ",
];

/// How many lines are kept of what it says after an instruction: the last ones, as it ends by saying why it refuses a program.
const MOST_SAID: usize = 1000;

pub(super) struct Parser<'a> {
    lines: Peekable<Lines<'a>>,
    walk: Walk,
    /// Values by their text: most of a log is said again and again.
    values: [HashMap<&'a str, Arc<Value>>; 2],
    /// Whether states are printed behind instructions, and then only in part.
    in_part: bool,
    /// What is known now.
    now: Option<Arc<State>>,
    /// The last instruction, while its path goes on.
    last: Option<usize>,
    /// Whether the last instruction was a conditional jump.
    is_jump: bool,
    /// Whether it was printed what the last instruction changed.
    is_told: bool,
    /// Whether the path has ended, so that the next state is of another one.
    ended: bool,
    /// The path that was announced.
    begun: Option<usize>,
    /// Branches that were not followed yet, by the slot to which they lead.
    branches: HashMap<usize, Vec<usize>>,
    /// The latest step at each slot.
    latest: HashMap<usize, usize>,
    /// Whether the next state is the caller's, and then where it goes on.
    role: Role,
    /// Whether this is in a table before the walk.
    in_table: bool,
    /// A source line that belongs to the next instruction.
    source: Option<&'a str>,
}

/// Whose state is printed next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// That of the function that is walked.
    Current,
    /// That of one that calls or is called, or that comes to its end: it is printed whole.
    Other,
    /// That of the caller, which goes on at this slot.
    ToCaller(usize),
}

impl<'a> Parser<'a> {
    pub fn new(log: &'a str) -> Self {
        let (log, report) = Report::split(log);
        let behind = |line: &str| instruction(line).is_some_and(|(_, insn)| insn.contains(';'));
        let mut walk = Walk::default();
        if let Some((report, counts)) = report {
            walk.report = Some(report);
            counts.lines().filter(|line| walk.end.read(line)).for_each(drop);
        }
        Self {
            lines: log.lines().peekable(),
            walk,
            values: Default::default(),
            in_part: log.lines().any(behind),
            now: None,
            last: None,
            is_jump: false,
            is_told: false,
            ended: false,
            begun: None,
            branches: HashMap::new(),
            latest: HashMap::new(),
            role: Role::Current,
            in_table: false,
            source: None,
        }
    }

    pub fn run(mut self) -> Walk {
        while let Some(line) = self.lines.next() {
            self.line(line);
        }
        // What was refused before anything was printed of it is the next branch, not the path that has come to its end.
        if let Some(slot) = named_slot(&self.walk.words).filter(|_| self.ended) {
            let words = std::mem::take(&mut self.walk.words);
            let from = self.branch_to(slot, None, &Printed::default());
            self.begin(slot, from, false);
            self.walk.words = words;
        }
        self.walk
    }

    fn line(&mut self, line: &'a str) {
        if line.trim().is_empty() {
            return;
        }
        if HEADERS.iter().any(|header| line.starts_with(header)) {
            self.in_table = true;
        } else if let Some(rest) = line.strip_prefix("from ") {
            self.in_table = false;
            self.branch(rest, line);
        } else if let Some((slot, rest)) = numbered(line) {
            self.numbered(slot, rest);
        } else if line.starts_with([' ', '\t']) {
            if !self.in_table && Printed::is_state(line) {
                self.unnumbered(line);
            }
        } else if let Some(source) = line.strip_prefix("; ") {
            self.source = Some(source);
        } else {
            self.said(line);
        }
    }

    /// `12: safe`, `12: (07) r1 += 1   ; R1_w=1`, `12: R0=scalar() R10=fp0`, `12: frame1: ...`
    fn numbered(&mut self, slot: usize, rest: &'a str) {
        if rest.starts_with('(') {
            if !self.in_table {
                self.instruction(slot, rest);
            }
        } else if rest == "safe" {
            self.finish(PathEnd::Safe(slot));
        } else if rest.is_empty() || Printed::is_state(rest) {
            self.in_table = false;
            let printed = self.read(rest);
            // The first state of a path is whole, as all were before Linux 5.17.
            if self.now.is_none() || self.ended || !self.in_part {
                if self.ended || (self.last.is_none() && self.begun.is_none()) {
                    let from = if self.ended { self.branch_to(slot, None, &printed) } else { None };
                    self.begin(slot, from, false);
                }
                self.whole(printed);
            } else {
                self.part(printed);
            }
        } else if !self.in_table {
            self.said(rest);
        }
    }

    /// A state without a number: of a frame that calls or is called, or of what an instruction has just found out.
    fn unnumbered(&mut self, line: &'a str) {
        // Before Linux 5.17, it may be that of a state before, whose marks are about to be set.
        if self.lines.peek().is_some_and(|next| next.starts_with("parent ")) {
            return;
        }
        let printed = self.read(line);
        match self.role {
            Role::Current if self.in_part => self.part(printed),
            // `from 11 to 5` says again where the caller goes on.
            Role::ToCaller(_) => return self.whole(printed),
            _ => self.whole(printed),
        }
        self.role = Role::Current;
    }

    fn instruction(&mut self, slot: usize, rest: &'a str) {
        let (insn, state) = rest.split_once(';').map_or((rest, None), |(insn, state)| (insn, Some(state)));
        let (insn, glued) = unglue(insn.trim_end());
        if self.last.is_none() && self.begun.is_none() || self.ended {
            // Nothing was said of its state.
            let from = if self.ended { self.branch_to(slot, None, &Printed::default()) } else { None };
            self.begin(slot, from, false);
            self.now = None;
        }
        let path = self.walk.paths.len().saturating_sub(1);
        let previous = self.last.take().or_else(|| self.walk.paths.get(path).and_then(|path| path.from));
        self.begun = None;
        self.role = Role::Current;
        let step = self.walk.steps.len();
        self.walk.steps.push(Step { slot, path, previous, before: self.now.clone(), after: None });
        if let Some(path) = self.walk.paths.get_mut(path) {
            path.steps.end = step + 1;
        }
        if let Some(previous) = previous.filter(|&previous| previous + 1 == step) {
            self.follow(previous, slot);
        }
        self.latest.insert(slot, step);
        self.walk.insns.entry(slot).or_insert_with(|| insn.to_owned());
        if let Some(source) = self.source.take() {
            self.walk.sources.entry(slot).or_insert_with(|| source.to_owned());
        }
        self.walk.words.clear();
        self.last = Some(step);
        self.is_told = false;
        self.is_jump = target(slot, insn).is_some();
        self.changed_by(insn);
        match state.map(|state| self.read(state)) {
            Some(printed) => self.part(printed),
            None if self.in_part && !self.ended => self.settle(),
            None => {}
        }
        if let Some(glued) = glued {
            match numbered(glued) {
                // Only what belongs to the path was kept, and with the rest went the line feed and `from 2 to 1`.
                Some((to, state)) if Printed::is_state(state) => {
                    self.begin(to, Some(step), false);
                    let printed = self.read(state);
                    self.whole(printed);
                }
                _ => self.line(glued),
            }
        }
    }

    /// What an instruction changes though nobody may say so.
    fn changed_by(&mut self, insn: &str) {
        let is_exit = insn.starts_with("(95) ");
        if is_exit && (!self.in_part || self.now.as_ref().is_none_or(|now| now.frame == 0)) {
            self.exit();
        }
        if !self.in_part {
            // What is printed is printed whole; after this instruction nothing is known until then.
            self.now = None;
        } else if let Some(now) = &mut self.now
            && let Some(written) = written(insn)
        {
            // From Linux 7.0 on, what is written for nobody to read is not printed.
            Arc::make_mut(now).forget(written);
        }
    }

    /// The program ends here, unless it is said that a caller goes on.
    fn exit(&mut self) {
        self.ended = true;
        if let Some(path) = self.walk.paths.last_mut() {
            path.end = PathEnd::Exit;
        }
    }

    /// The path goes on from `previous` to `slot`: what it may lead to beside that is to be followed later.
    fn follow(&mut self, previous: usize, slot: usize) {
        let Some(step) = self.walk.steps.get(previous) else { return };
        let to = self.walk.insns.get(&step.slot).and_then(|insn| target(step.slot, insn));
        if let Some(to) = to {
            let other = if to == slot { step.slot + 1 } else { to };
            self.branches.entry(other).or_default().push(previous);
        }
    }

    /// `11 to 20: safe`, `11 to 20: R0=...`, `11 to 20 (speculative execution): R0=...`
    fn branch(&mut self, rest: &'a str, line: &'a str) {
        let parsed = rest.split_once(':').and_then(|(way, state)| {
            let mut words = way.split(' ');
            let from: usize = words.next()?.parse().ok()?;
            let to: usize = words.nth(1)?.parse().ok()?;
            Some((from, to, words.next().is_some(), state))
        });
        let Some((from, to, speculative, state)) = parsed else { return self.said(line) };
        let printed = self.read(state);
        if self.role == Role::ToCaller(to) {
            // The path goes on behind a call.
            self.role = Role::Current;
            self.whole(printed);
            return;
        }
        let step = self.branch_to(to, Some(from), &printed);
        self.begin(to, step, speculative);
        if state.trim() == "safe" {
            self.now = None;
            self.finish(PathEnd::Safe(to));
        } else {
            self.now = step.and_then(|step| self.walk.steps.get(step)?.before.clone());
            self.whole(printed);
        }
    }

    /// The branch that leads to a slot and was not followed yet, from the instruction at `from` where that is told. Of those of a
    /// loop it is the last one whose state fits.
    fn branch_to(&mut self, to: usize, from: Option<usize>, printed: &Printed) -> Option<usize> {
        const LOOKED_AT: usize = 32;
        let steps = &self.walk.steps;
        let open = self.branches.entry(to).or_default();
        let fits = |step: usize| {
            let before = steps.get(step).and_then(|step| step.before.as_ref());
            let same = |(place, cell): &&(Place, super::state::Cell)| {
                before.and_then(|before| before.get(*place)).is_some_and(|known| known.value == cell.value)
            };
            printed.cells.iter().filter(same).count()
        };
        let candidates = open.iter().enumerate().rev().take(LOOKED_AT);
        let candidates = candidates
            .filter(|(_, step)| from.is_none_or(|from| steps.get(**step).is_some_and(|step| step.slot == from)));
        // Of equals the last one is the first here.
        let best = candidates
            .map(|(index, &step)| (fits(step), index, step))
            .reduce(|best, other| if other.0 > best.0 { other } else { best });
        match best {
            Some((_, index, step)) => {
                open.remove(index);
                Some(step)
            }
            None => from.and_then(|from| self.latest.get(&from).copied()),
        }
    }

    fn begin(&mut self, slot: usize, from: Option<usize>, speculative: bool) {
        let first = self.walk.steps.len();
        self.walk.paths.push(Path { from, slot, steps: first..first, speculative, end: PathEnd::Open });
        (self.last, self.ended, self.is_jump) = (None, false, false);
        self.begun = Some(slot);
        self.role = Role::Current;
        self.walk.words.clear();
    }

    fn finish(&mut self, end: PathEnd) {
        // What the last instruction changed was not printed any more.
        if let Some(step) = self.last.filter(|_| !self.is_told).and_then(|last| self.walk.steps.get_mut(last)) {
            step.after = None;
        }
        if let Some(path) = self.walk.paths.last_mut() {
            path.end = end;
        }
        self.ended = true;
        self.walk.words.clear();
    }

    /// What else was said.
    fn said(&mut self, line: &'a str) {
        if self.in_table && line.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        match line {
            "caller:" | "callee:" => self.role = Role::Other,
            "returning from callee:" => {
                // What looked like the end of the program was that of a function.
                self.role = Role::Other;
                self.ended = false;
                if let Some(path) = self.walk.paths.last_mut() {
                    path.end = PathEnd::Open;
                }
            }
            _ => {
                let slot = line.strip_prefix("to caller at ").and_then(|rest| rest.strip_suffix(':')?.parse().ok());
                if let Some(slot) = slot {
                    self.role = Role::ToCaller(slot);
                } else if line.starts_with("Validating ") {
                    (self.last, self.begun, self.now, self.ended) = (None, None, None, false);
                } else if !NOISE.iter().any(|noise| line.starts_with(noise)) && !self.walk.end.read(line) {
                    if self.walk.words.len() >= MOST_SAID {
                        self.walk.words.drain(..MOST_SAID / 2);
                    }
                    self.walk.words.push(line.trim_end().to_owned());
                }
            }
        }
    }

    fn read(&mut self, text: &'a str) -> Printed {
        let values = &mut self.values;
        Printed::read(text, |place, text| {
            let [regs, slots] = values;
            let value = match place {
                Place::Reg(_) => regs.entry(text).or_insert_with(|| Arc::new(Value::parse(text))),
                Place::Slot(_) => slots.entry(text).or_insert_with(|| Arc::new(Value::parse_slot(text))),
            };
            value.clone()
        })
    }

    /// The current state, whole.
    fn whole(&mut self, printed: Printed) {
        self.is_told = true;
        let known = self.now.as_ref().or_else(|| self.last.and_then(|last| self.walk.steps.get(last)?.before.as_ref()));
        self.now = Some(Arc::new(State::whole(printed, known)));
        self.settle();
    }

    /// What of the current state may have changed.
    fn part(&mut self, printed: Printed) {
        self.is_told = true;
        match &mut self.now {
            Some(now) if now.frame == printed.frame => Arc::make_mut(now).update(printed, self.is_jump),
            _ => return self.whole(printed),
        }
        self.settle();
    }

    /// What is known now is what is known after the last instruction.
    fn settle(&mut self) {
        if let Some(step) = self.last.and_then(|last| self.walk.steps.get_mut(last)) {
            step.after = self.now.clone();
        }
    }
}
