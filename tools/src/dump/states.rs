//! What the verifier says, in the listing for people.

use super::listing::Listing;
use super::text::line;
use super::verifier::{Because, Fact, Known, Opinion};
use crate::Error;
use crate::escape::Quoted;
use crate::output::Output;

/// How many values of a place are told: what a loop counts is different each time.
const OTHERS: usize = 3;

/// What the verifier says of the whole program, in lines.
pub fn about(opinion: &Opinion) -> Vec<String> {
    let error = opinion.error.as_deref().unwrap_or_default();
    let mut lines = vec![match opinion.accepted {
        None => return vec![format!("the verifier was not asked: {error}")],
        Some(true) => format!("the verifier takes it: {}", counts(opinion)),
        Some(false) => format!("the verifier refuses it ({error}): {}", counts(opinion)),
    }];
    if opinion.is_cut {
        lines.push("what it says is too long, and a part of it is missing here".to_owned());
    }
    lines.extend(opinion.words.iter().map(|words| format!("  {words}")));
    if let Some(reason) = &opinion.reason {
        lines.push(format!("{}: {}", reason.title, reason.reason));
        lines.extend(reason.because.iter().map(|Because { slot, what }| format!("  {slot:>4}: {what}")));
        lines.push(format!("to do: {}", reason.suggestion));
    }
    harmless(lines)
}

/// A log is the kernel's, and has names in it that programs gave it.
fn harmless(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| Quoted(&line).to_string()).collect()
}

/// `58 instructions on 4 paths, 5 states, 120 us, stack of 72 bytes`
fn counts(opinion: &Opinion) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let mut all = Vec::new();
    if let Some(processed) = opinion.processed {
        let paths = u64::try_from(opinion.paths).unwrap_or(u64::MAX);
        all.push(format!("{processed} instruction{} on {paths} path{}", plural(processed), plural(paths)));
    }
    all.extend(opinion.states.map(|states| format!("{states} state{}", plural(states))));
    all.extend(opinion.time_us.map(|time| format!("{time} us")));
    if !opinion.stack.is_empty() {
        let stack: Vec<String> = opinion.stack.iter().map(u64::to_string).collect();
        all.push(format!("stack of {} bytes", stack.join(" + ")));
    }
    all.join(", ")
}

/// What is known at an instruction, in lines: `|` before what was known before it, `>` before what is known after it.
pub fn lines(known: &Known) -> Vec<String> {
    if known.visits == 0 {
        return vec!["| the verifier does not come here".to_owned()];
    }
    let mut lines = Vec::new();
    let is_told_at_all = !known.before.is_empty() || !known.after.is_empty();
    if known.visits > 1 && is_told_at_all {
        lines.push(format!("| {} visits", known.visits));
    }
    for (mark, facts) in [('|', &known.before), ('>', &known.after)] {
        if known.full && !facts.is_empty() {
            let all: Vec<String> = facts.iter().map(noted).collect();
            lines.push(format!("{mark} {}", all.join(" ")));
        } else {
            lines.extend(facts.iter().map(|fact| format!("{mark} {}", told(fact))));
        }
    }
    harmless(lines)
}

/// The same below an instruction of a listing.
///
/// # Errors
/// As [`Output::line`].
pub fn known(known: &Known, output: &mut Output) -> Result<(), Error> {
    lines(known).iter().try_for_each(|line| output.line(&format!("        {line}")))
}

/// In words, with what else it held.
fn told(fact: &Fact) -> String {
    let Fact { place, words, others, sometimes, .. } = fact;
    let mut text = format!("{place}: {words}");
    others.iter().take(OTHERS).for_each(|other| text.push_str(&format!("; or {other}")));
    if others.len() > OTHERS {
        text.push_str(&format!("; or {} more", others.len() - OTHERS));
    }
    if *sometimes {
        text.push_str("; or nothing known");
    }
    text
}

/// In the kernel's notation; `|..` says that it held something else as well.
fn noted(fact: &Fact) -> String {
    let differs = fact.sometimes || !fact.others.is_empty();
    format!("{}={}{}", fact.place, fact.value, if differs { "|.." } else { "" })
}

/// The path to the instruction that was refused, which is marked.
///
/// # Errors
/// As [`Output::line`].
pub fn path(listing: &Listing, opinion: &Opinion, output: &mut Output) -> Result<(), Error> {
    let last = opinion.path.len().saturating_sub(1);
    for (index, stop) in opinion.path.iter().enumerate() {
        let Some(row) = listing.rows.iter().find(|row| row.slot == stop.slot) else { continue };
        let mut line = line(row, None);
        if index == last {
            line.replace_range(..1, ">");
        }
        output.line(&line)?;
        known(&stop.known, output)?;
    }
    output.line("")
}
