//! Why a program was refused, what led there, and what to do: as Linux 7.3 tells it, for every kernel.

use std::fmt;

use bpfkit_asm::{Class, Insn, Opcode};

use super::operands::{self, Effect};
use super::reasons::{self, About};
use super::state::{Place, State};
use super::walk::{Step, Walk};

/// Why a program was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What went wrong, in a few words.
    pub title: String,
    /// Why that is refused.
    pub reason: String,
    /// The slot of the instruction that was refused.
    pub slot: Option<usize>,
    /// The register or slot of the stack that it is about.
    pub place: Option<Place>,
    /// What made that what it is, in the order in which it happened.
    pub path: Vec<Cause>,
    /// What to do.
    pub suggestion: String,
    /// Whether title, reason and suggestion are the kernel's own words.
    pub by_kernel: bool,
}

/// An instruction that led to a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cause {
    /// The instruction's slot.
    pub slot: usize,
    /// What it did.
    pub what: String,
}

/// How many instructions are named at most.
const MOST: usize = 24;
/// How many branches, where nothing else led there.
const BRANCHES: usize = 8;

impl Diagnosis {
    /// What a log says about a program that was refused; nothing if neither the kernel nor the table of reasons has an explanation.
    pub fn of(walk: &Walk, insns: &[Insn]) -> Option<Self> {
        let last = walk.last_path().last().and_then(|&step| walk.steps.get(step));
        let found = reasons::find(&walk.words);
        let slot = walk
            .report
            .as_ref()
            .and_then(|report| report.slot)
            .or_else(|| named_slot(&walk.words))
            .or(last.map(|step| step.slot));
        let insn = last.and_then(|step| insns.get(step.slot)).copied();
        let before = last.and_then(|step| step.before.as_deref());
        let place = found.as_ref().and_then(|(known, captures)| match known.about {
            About::Nothing => None,
            About::Named => captures.first()?.parse().ok().filter(|&number| number <= 10).map(Place::Reg),
            About::Base => insn.and_then(base).map(Place::Reg),
            About::Slot => insn.and_then(|insn| operands::slot(base(insn)?, insn.off, before)),
            About::Dst => insn.map(|insn| Place::Reg(insn.dst())),
            About::Result => Some(Place::Reg(0)),
        });
        let lineage = Lineage { walk, insns };
        let mut path = place.map_or(Vec::new(), |place| lineage.of(place));
        if let Some(report) = &walk.report {
            if path.is_empty() {
                path = report.path.iter().map(|(slot, what)| Cause { slot: *slot, what: what.clone() }).collect();
            }
            let (title, reason, suggestion) = (report.title.clone(), report.reason.clone(), report.suggestion.clone());
            return Some(Self { title, reason, slot, place, path, suggestion, by_kernel: true });
        }
        let (known, captures) = found?;
        let mut reason = known.reason.to_owned();
        for (index, capture) in captures.iter().enumerate() {
            reason = reason.replace(&format!("{{{index}}}"), capture);
        }
        let is = place.and_then(|place| Some(before?.get(place)?.value.in_words()));
        reason = reason.replace("{is}", is.as_deref().unwrap_or("what the verifier does not say"));
        reason = reason.replace("{place}", &place.map_or_else(|| "the register".to_owned(), |place| place.to_string()));
        let (title, suggestion) = (known.title.to_owned(), known.suggestion.to_owned());
        Some(Self { title, reason, slot, place, path, suggestion, by_kernel: false })
    }
}

/// The register at whose address an instruction reads or writes.
fn base(insn: Insn) -> Option<u8> {
    match insn.code.class() {
        Class::Ldx => Some(insn.src()),
        Class::St | Class::Stx => Some(insn.dst()),
        _ => None,
    }
}

/// `unreachable insn 17`, `infinite loop detected at insn 1`, `back-edge from insn 4 to 2`
pub(super) fn named_slot(words: &[String]) -> Option<usize> {
    words.iter().find_map(|line| {
        let mut words = line.split([' ', ',', ':']);
        words.find(|word| *word == "insn").and_then(|_| words.next()).and_then(|word| word.parse().ok())
    })
}

/// Follows what a place held back to where it came from.
struct Lineage<'a> {
    walk: &'a Walk,
    insns: &'a [Insn],
}

impl Lineage<'_> {
    /// The causes of what a place held at the last step.
    fn of(&self, place: Place) -> Vec<Cause> {
        let path: Vec<&Step> = self.walk.last_path().into_iter().filter_map(|step| self.walk.steps.get(step)).collect();
        let mut causes = Vec::new();
        let mut branches = Vec::new();
        let (mut place, mut frame) = (place, path.last().map_or(0, |step| depth(step)));
        for pair in path.windows(2).rev() {
            let [step, next] = pair else { break };
            let Some(&insn) = self.insns.get(step.slot) else { continue };
            let here = depth(step);
            let mut cause = |what: String| causes.push(Cause { slot: step.slot, what });
            if here > frame {
                // What a function gives back comes from its R0; its caller's registers it leaves alone.
                if here == frame + 1 && insn.code == Opcode::EXIT && place == Place::Reg(0) {
                    cause("R0 is given back to the caller".to_owned());
                    frame = here;
                }
                continue;
            }
            if here < frame {
                if !matches!(place, Place::Reg(1..=5)) {
                    break;
                }
                cause(format!("{place} is handed to the function"));
                frame = here;
                continue;
            }
            let now = next.before.as_deref().filter(|state| state.frame == frame);
            let holds = |state: Option<&State>| state.and_then(|state| Some(state.get(place)?.value.in_words()));
            if let Some(taken) = decision(step, next, insn) {
                let compares = operands::reads(insn).into_iter().any(|reg| place == Place::Reg(reg));
                if compares {
                    let is = holds(now).map_or(String::new(), |is| format!(": {place} is {is}"));
                    cause(format!("the jump is {taken}{is}"));
                } else if branches.len() < BRANCHES {
                    branches.push(Cause { slot: step.slot, what: format!("the jump is {taken}") });
                }
                if causes.len() >= MOST {
                    break;
                }
                continue;
            }
            let effect = Effect::of(insn, step.before.as_deref());
            if effect.calls && matches!(place, Place::Reg(1..=5)) {
                cause(format!("the call uses up {place}"));
                break;
            }
            if effect.calls && matches!(place, Place::Slot(_)) {
                let (then, now) = (holds(step.before.as_deref()), holds(now));
                if then != now {
                    cause(format!("the call leaves {} in {place}", now.as_deref().unwrap_or("nothing known")));
                    break;
                }
                continue;
            }
            if effect.written != Some(place) || (effect.calls && insn.is_local_call()) {
                continue;
            }
            let verb = if effect.updates { "becomes" } else { "is set to" };
            cause(match (holds(now), effect.copied) {
                (Some(is), Some(from)) => format!("{place} is a copy of {from}: {is}"),
                (None, Some(from)) => format!("{place} is a copy of {from}"),
                (Some(is), None) if effect.calls => format!("the call gives {place}: {is}"),
                (Some(is), None) => format!("{place} {verb} {is}"),
                (None, None) => format!("{place} is written"),
            });
            match effect.copied {
                Some(from) => place = from,
                None if effect.updates => {}
                None => break,
            }
            if causes.len() >= MOST {
                break;
            }
        }
        if causes.is_empty() {
            causes = branches;
        }
        causes.reverse();
        causes
    }
}

fn depth(step: &Step) -> u32 {
    step.before.as_ref().map_or(0, |state| state.frame)
}

/// Whether a conditional jump was followed.
fn decision(step: &Step, next: &Step, insn: Insn) -> Option<&'static str> {
    let is_jump = insn.jump().is_some() && !matches!(insn.code, Opcode::JA | Opcode::JA32);
    is_jump.then_some(if next.slot == step.slot + 1 { "not taken" } else { "taken" })
}

/// Reason, path and suggestion on lines of their own.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.reason)?;
        for Cause { slot, what } in &self.path {
            write!(f, "\n  {slot:>4}: {what}")?;
        }
        write!(f, "\n{}", self.suggestion)
    }
}
