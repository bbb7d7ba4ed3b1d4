//! What the verifier says of a program that it refuses, and where in our source that is.

use std::fmt;
use std::io;

use bpfkit_asm::Source;

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
    /// The whole log.
    pub log: String,
    /// The slot at which the verifier gave up, where the log tells.
    pub slot: Option<usize>,
    /// Where that was written.
    pub source: Option<Source>,
    /// Our listing around it.
    pub listing: String,
}

impl Rejection {
    pub(crate) fn new(linked: &Linked, error: io::Error, log: String) -> Self {
        let slot = last_slot(told(&log).0).filter(|&slot| slot < linked.insns().len());
        let around = slot.map(|slot| slot.saturating_sub(4)..slot + 3);
        let spec = linked.spec();
        Self {
            program: spec.name.clone(),
            attach: spec.attach.to_string(),
            error,
            slot,
            source: slot.and_then(|slot| linked.sources().get(slot).cloned().flatten()),
            listing: around.zip(slot).map_or(String::new(), |(around, slot)| linked.excerpt(around, slot)),
            log,
        }
    }

    /// The verifier's last words: what is wrong, without its statistics.
    pub fn last_words(&self) -> &str {
        let is_statistic = |line: &str| {
            let counts =
                ["processed ", "verification time", "stack depth", "max_states", "total_states", "peak_states"];
            counts.iter().any(|start| line.starts_with(start)) || line.is_empty() || slot_of(line).is_some()
        };
        let (classic, title) = told(&self.log);
        let words = classic.lines().map(str::trim).rfind(|line| !is_statistic(line));
        words.or(title).unwrap_or("no reason given")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the verifier refused the program `{}`, {}: {}", self.program, self.attach, self.last_words())?;
        write!(f, " ({})", self.error)?;
        if let Some(source) = &self.source {
            write!(f, "\n  at {source}")?;
        }
        self.listing.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// What every kernel logs, and the title of the report that Linux 7.3 adds to it. The report tells the same at more length, and
/// ends with advice and with instructions that led to the one in question.
fn told(log: &str) -> (&str, Option<&str>) {
    match log.split_once("Verification failed: ") {
        Some((classic, report)) => (classic, report.lines().next()),
        None => (log, None),
    }
}

/// The slot of the last instruction that the log is about. It is one that was printed (`17: (79) r1 = ..`), or named
/// (`unreachable insn 17`, `insn 17`, `at insn 17`).
fn last_slot(log: &str) -> Option<usize> {
    log.lines().rev().find_map(|line| slot_of(line.trim()).or_else(|| named_slot(line)))
}

fn slot_of(line: &str) -> Option<usize> {
    let (slot, rest) = line.split_once(": (")?;
    let (code, _) = rest.split_once(") ")?;
    let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
    slot.parse().ok().filter(|_| is_code)
}

fn named_slot(line: &str) -> Option<usize> {
    let mut words = line.split([' ', ',', ':']);
    words.find(|word| *word == "insn").and_then(|_| words.next()).and_then(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_newer_kernels_is_not_taken_for_the_reason() {
        let log = "4: (0f) r0 += r3\nR3 !read_ok\n\nVerification failed: Register Type Safety: Unreadable register\n\nAt:\n  insn 4\n\n\
                   Causal path:\n  insn 2\n\nSuggestion:\n  Initialize R3 on every path before this instruction.\n";
        let (classic, title) = told(log);
        assert_eq!((classic.lines().nth(1), last_slot(classic)), (Some("R3 !read_ok"), Some(4)));
        assert_eq!(title, Some("Register Type Safety: Unreadable register"));
        assert_eq!(told("R2 !read_ok\n"), ("R2 !read_ok\n", None));
    }

    #[test]
    fn the_place_is_found_in_old_and_new_logs() {
        assert_eq!(last_slot("0: (b7) r0 = 0\n1: (79) r1 = *(u64 *)(r2 +0)\nR2 !read_ok\n"), Some(1));
        assert_eq!(
            last_slot("0: R1=ctx() R10=fp0\n; call bpf_x; @ a.rs:7\n12: (85) call bpf_x#1\nR1 type=ctx expected=fp\n"),
            Some(12)
        );
        assert_eq!(last_slot("unreachable insn 17\n"), Some(17));
        assert_eq!(last_slot("back-edge from insn 4 to 2\n"), Some(4));
        assert_eq!(last_slot("nothing of use"), None);
        assert_eq!(last_slot("9: (zz) what\n"), None);
    }
}
