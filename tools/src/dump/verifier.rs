//! What the running kernel's verifier knows at each instruction, beside it; of a program that it refuses, the path on which it did.

use bpfkit_asm::Helper;
use bpfkit_loader::MapSpec;
use bpfkit_loader::verifier::{Cell, Diagnosis, Join, Place, State, Step, Verdict, Walk, loads, reads, writes};
use serde::Serialize;

use super::Subject;
use super::listing::{Listing, Row};
use crate::Error;
use crate::error::Chain;
use crate::options::Options;

/// What the verifier says of a program.
#[derive(Clone, Debug, Serialize)]
pub struct Opinion {
    /// Whether it takes the program; nothing if it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// Why it could not be asked, or what the system call said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its last words about a program that it refuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Why it refuses the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How it came to the instruction that it refuses, from the first one on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Stop>,
    /// Instructions that it went over, on all paths together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed: Option<u64>,
    /// Paths that it followed.
    pub paths: usize,
    /// States that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<u64>,
    /// Microseconds that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
    /// Bytes of stack of each function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<u64>,
    /// Whether a part of what it said is missing, as it was too long.
    pub is_cut: bool,
}

/// Why a program is refused.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// What went wrong.
    pub title: String,
    /// Why that is refused.
    pub reason: String,
    /// The slot of the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<usize>,
    /// The register or slot of the stack that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What made that what it is.
    pub because: Vec<Because>,
    /// What to do.
    pub suggestion: String,
    /// Whether these are the kernel's own words.
    pub by_kernel: bool,
}

/// An instruction that led to a refusal.
#[derive(Clone, Debug, Serialize)]
pub struct Because {
    /// Its slot.
    pub slot: usize,
    /// What it did.
    pub what: String,
}

/// An instruction on a path.
#[derive(Clone, Debug, Serialize)]
pub struct Stop {
    /// Its slot.
    pub slot: usize,
    /// What is known there.
    #[serde(flatten)]
    pub known: Known,
}

/// What is known at an instruction.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Known {
    /// How often the verifier came there.
    pub visits: usize,
    /// How many calls deep it is.
    pub frame: u32,
    /// Whether everything is told.
    #[serde(skip)]
    pub full: bool,
    /// What is known before it, of what it reads, or of everything.
    pub before: Vec<Fact>,
    /// What is known after it, of what it changes, or of everything.
    pub after: Vec<Fact>,
}

/// What a register or a slot of the stack holds.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    /// Which one: `R1`, `fp-8`.
    pub place: String,
    /// In the kernel's notation.
    pub value: String,
    /// In words.
    pub words: String,
    /// What else it held on other visits, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Whether on some visits nothing was known of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sometimes: bool,
}

/// Checks that the verifier can be asked at all.
///
/// # Errors
/// That it is another kernel's.
pub fn check(options: &Options) -> Result<(), Error> {
    if let Some(version) = options.kernel.version {
        return Err(Error::Request(format!(
            "--verifier asks the kernel that runs, and cannot ask that of Linux {version}: leave out --kernel, or run it there"
        )));
    }
    Ok(())
}

/// Says after the output which programs the verifier does not take, so that a script sees it.
///
/// # Errors
/// The names of these programs.
pub fn refusals(listings: &[Listing]) -> Result<(), Error> {
    let is_refused =
        |listing: &&Listing| listing.opinion.as_ref().is_some_and(|opinion| opinion.accepted != Some(true));
    let names: Vec<&str> = listings.iter().filter(is_refused).map(|listing| listing.name.as_str()).collect();
    match names.is_empty() {
        true => Ok(()),
        false => Err(Error::Request(format!("the verifier does not take {}", names.join(", ")))),
    }
}

/// Asks the kernel about the programs of a subject, and makes their listings with what it says.
///
/// # Errors
/// When nothing could be asked: no privilege, no such map. Otherwise that is told with the program.
pub fn ask(subject: &Subject<'_>, full: bool) -> Result<Vec<Listing>, Error> {
    let cannot = |error: Error| Error::About("cannot ask the verifier".to_owned(), Box::new(error));
    let maps = subject.make_maps().map_err(|error| cannot(error.into()))?;
    let mut listings = Vec::new();
    let mut errors = Vec::new();
    for program in &subject.programs {
        let verdict = subject.with_base(program, &maps, |base| match base {
            Some(base) => program.spec().walk_onto(subject.target, &maps, base),
            None => program.walk(subject.target, &maps),
        });
        listings.push(match verdict {
            Ok(verdict) => annotated(&verdict, &subject.maps, full),
            Err(error) => {
                let mut listing = Listing::of(program, &subject.maps);
                let error = Error::from(error);
                listing.opinion = Some(Opinion { error: Some(Chain(&error).to_string()), ..Opinion::of_nothing() });
                errors.push(error);
                listing
            }
        });
    }
    match errors.pop() {
        Some(error) if errors.len() + 1 == listings.len() => Err(error),
        _ => Ok(listings),
    }
}

/// The listing of a program with what the verifier says.
pub fn annotated(verdict: &Verdict, maps: &[MapSpec], full: bool) -> Listing {
    let mut listing = Listing::of(&verdict.linked, maps);
    for row in &mut listing.rows {
        row.known = Some(Known::over_visits(&verdict.walk, row, full));
    }
    listing.opinion = Some(Opinion::of(verdict, &listing, full));
    listing
}

impl Opinion {
    fn of_nothing() -> Self {
        Self {
            accepted: None,
            error: None,
            words: Vec::new(),
            reason: None,
            path: Vec::new(),
            processed: None,
            paths: 0,
            states: None,
            time_us: None,
            stack: Vec::new(),
            is_cut: false,
        }
    }

    fn of(verdict: &Verdict, listing: &Listing, full: bool) -> Self {
        let Verdict { walk, refused, is_cut, diagnosis, .. } = verdict;
        let mut opinion = Self {
            accepted: Some(refused.is_none()),
            error: refused.as_ref().map(ToString::to_string),
            reason: diagnosis.as_ref().map(Reason::of),
            processed: walk.end.processed,
            paths: walk.paths.len(),
            states: walk.end.total_states,
            time_us: walk.end.time_us,
            stack: walk.end.stack.clone(),
            is_cut: *is_cut,
            ..Self::of_nothing()
        };
        if refused.is_some() {
            opinion.words = walk.words.clone();
            let steps = walk.last_path().into_iter().filter_map(|step| walk.steps.get(step));
            opinion.path = steps
                .filter_map(|step| {
                    let row = listing.rows.iter().find(|row| row.slot == step.slot)?;
                    Some(Stop { slot: step.slot, known: Known::at_step(step, row, full) })
                })
                .collect();
        }
        opinion
    }
}

impl Reason {
    fn of(diagnosis: &Diagnosis) -> Self {
        Self {
            title: diagnosis.title.clone(),
            reason: diagnosis.reason.clone(),
            slot: diagnosis.slot,
            place: diagnosis.place.map(|place| place.to_string()),
            because: diagnosis
                .path
                .iter()
                .map(|cause| Because { slot: cause.slot, what: cause.what.clone() })
                .collect(),
            suggestion: diagnosis.suggestion.clone(),
            by_kernel: diagnosis.by_kernel,
        }
    }
}

/// Of how many visits it is looked at what the instruction changes: after so many it has shown what it does.
const LOOKED_AT: usize = 1000;

impl Known {
    fn over_visits(walk: &Walk, row: &Row, full: bool) -> Self {
        let (before, after) = (walk.before(row.slot), walk.after(row.slot));
        let steps: Vec<&Step> =
            walk.at(row.slot).iter().take(LOOKED_AT).filter_map(|&step| walk.steps.get(step)).collect();
        let is_read = |place: &Place| full || steps.iter().any(|step| read(step, row).contains(place));
        let is_changed = |place: &Place| full || steps.iter().any(|step| changed(step, row).contains(place));
        let facts = |join: Option<&Join>, wanted: &dyn Fn(&Place) -> bool| {
            join.map_or(Vec::new(), |join| {
                join.places
                    .iter()
                    .filter(|(place, _)| wanted(place))
                    .map(|(place, held)| Fact {
                        place: place.to_string(),
                        value: held.first.to_string(),
                        words: held.first.in_words(),
                        others: held
                            .others
                            .iter()
                            .map(|value| value.in_words())
                            .filter(|words| *words != held.first.in_words())
                            .collect(),
                        sometimes: held.gaps,
                    })
                    .collect()
            })
        };
        Self {
            visits: walk.at(row.slot).len(),
            frame: before.as_ref().map_or(0, |join| join.frame),
            full,
            before: facts(before.as_ref(), &is_read),
            after: facts(after.as_ref(), &is_changed),
        }
    }

    fn at_step(step: &Step, row: &Row, full: bool) -> Self {
        let facts = |state: Option<&State>, places: &[Place]| {
            let wanted = |place: &Place| full || places.contains(place);
            let cells = state.into_iter().flat_map(State::cells).filter(|(place, _)| wanted(place));
            cells.map(|(place, cell)| Fact::of(place, cell)).collect()
        };
        Self {
            visits: 1,
            frame: step.before.as_ref().map_or(0, |state| state.frame),
            full,
            before: facts(step.before.as_deref(), &read(step, row)),
            after: facts(step.after.as_deref(), &changed(step, row)),
        }
    }
}

impl Fact {
    fn of(place: Place, cell: &Cell) -> Self {
        Self {
            place: place.to_string(),
            value: cell.value.to_string(),
            words: cell.value.in_words(),
            others: Vec::new(),
            sometimes: false,
        }
    }
}

/// What an instruction reads: registers, and the slot of the stack that it loads. R10 is the same everywhere.
fn read(step: &Step, row: &Row) -> Vec<Place> {
    let is_read = |reg: &u8| *reg < 10 && row.helper.is_none_or(|helper| *reg <= arguments(helper));
    let mut places: Vec<Place> = reads(row.insn).into_iter().filter(is_read).map(Place::Reg).collect();
    places.extend(step.before.as_ref().and_then(|before| loads(row.insn, before)));
    places
}

/// How many arguments a helper takes at most: as many as its prototype has, which ends in `...` for one that takes any number.
fn arguments(helper: Helper) -> u8 {
    const MOST: u8 = 5;
    let Some(prototype) = helper.prototype().filter(|prototype| !prototype.contains("...")) else { return MOST };
    let inner = prototype.split_once('(').map_or("", |(_, inner)| inner.trim_end_matches([')', ';']));
    if inner.is_empty() || inner == "void" {
        return 0;
    }
    u8::try_from(inner.split(',').count()).unwrap_or(MOST)
}

/// What an instruction writes, even if it leaves what was there, and what is known of other places through it.
fn changed(step: &Step, row: &Row) -> Vec<Place> {
    let mut places = match (&step.before, &step.after) {
        (Some(before), Some(after)) if before.frame == after.frame => after.changed_since(before),
        (_, Some(after)) => after.cells().map(|(place, _)| place).filter(|place| *place != Place::Reg(10)).collect(),
        _ => Vec::new(),
    };
    places.extend(step.before.as_ref().and_then(|before| writes(row.insn, before)));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_the_arguments_of_its_helper() {
        let of = [
            (Helper::KTIME_GET_NS, 0),
            (Helper::MAP_LOOKUP_ELEM, 2),
            (Helper::PERF_EVENT_OUTPUT, 5),
            (Helper::TRACE_PRINTK, 5),
            (Helper(9999), 5),
        ];
        for (helper, count) in of {
            assert_eq!(arguments(helper), count, "{helper}");
        }
    }
}
