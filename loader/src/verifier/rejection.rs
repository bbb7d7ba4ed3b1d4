//! A program that the verifier refuses, and where in our source that is.

use std::fmt;
use std::io;

use bpfkit_asm::{Source, SourceRef};

use super::diagnosis::{Diagnosis, named_slot};
use super::walk::Walk;
use crate::linked::Linked;

/// A program that the verifier refused.
#[derive(Debug)]
pub struct Rejection {
    /// The program's name.
    pub program: String,
    /// What it is for.
    pub attach: String,
    /// What the system call said.
    pub error: io::Error,
    /// The whole log of the first level.
    pub log: String,
    /// The slot at which the verifier gave up, where the log tells.
    pub slot: Option<usize>,
    /// Where that was written.
    pub source: Option<Source>,
    /// Our listing around it.
    pub listing: String,
    /// Why, what led there, and what to do, where that is known.
    pub diagnosis: Option<Diagnosis>,
    words: Option<String>,
}

impl Rejection {
    /// `detail` gives a log with what the verifier knew at each instruction, for kernels whose log of the first level has not got that.
    pub(crate) fn new(linked: &Linked, error: io::Error, log: String, detail: impl FnOnce() -> Option<String>) -> Self {
        let mut walk = Walk::parse(&log);
        let last = |walk: &Walk| walk.steps.last().map(|step| step.slot);
        if walk.steps.last().is_some_and(|step| step.before.is_none())
            && let Some(detailed) = detail().map(|log| Walk::parse(&log)).filter(|walk| !walk.words.is_empty())
            && last(&detailed) == last(&walk)
        {
            walk = detailed;
        }
        let slot = named_slot(&walk.words).or(last(&walk)).filter(|&slot| slot < linked.insns().len());
        let around = slot.map(|slot| slot.saturating_sub(4)..slot + 3);
        let spec = linked.spec();
        let title = walk.report.as_ref().map(|report| report.title.clone());
        Self {
            program: spec.name.clone(),
            attach: spec.attach.to_string(),
            error,
            slot,
            source: slot.and_then(|slot| linked.sources().get(slot).map(SourceRef::to_source)),
            listing: around.zip(slot).map_or(String::new(), |(around, slot)| linked.excerpt(around, slot)),
            diagnosis: Diagnosis::of(&walk, linked.insns()),
            words: walk.words.pop().or(title),
            log,
        }
    }

    /// The verifier's last words: what is wrong, without its statistics.
    pub fn last_words(&self) -> &str {
        self.words.as_deref().unwrap_or("no reason given")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the verifier refused the program `{}`, {}: {}", self.program, self.attach, self.last_words())?;
        write!(f, " ({})", self.error)?;
        if let Some(source) = &self.source {
            write!(f, "\n  at {source}")?;
        }
        self.listing.lines().try_for_each(|line| write!(f, "\n  {line}"))?;
        let Some(diagnosis) = &self.diagnosis else { return Ok(()) };
        write!(f, "\n  reason: {}", diagnosis.reason)?;
        for (index, cause) in diagnosis.path.iter().enumerate() {
            write!(f, "\n  {} {:>4}: {}", if index == 0 { "because" } else { "       " }, cause.slot, cause.what)?;
        }
        write!(f, "\n  to do: {}", diagnosis.suggestion)
    }
}
