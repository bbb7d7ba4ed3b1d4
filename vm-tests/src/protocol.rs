//! What a guest tells the runner: JSON lines, one event each, over the second serial port.

use serde::{Deserialize, Serialize};

/// One line of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The guest is up.
    Hello {
        /// The kernel's release, as `uname -r` says it.
        release: String,
        /// What could not be set up, such as a file system that this kernel lacks.
        notes: Vec<String>,
    },
    /// A case begins. It is sent before the case runs, so that a hang or a panic has a name.
    Start {
        /// The case's name.
        case: String,
    },
    /// A case is over.
    Finish {
        /// The case's name.
        case: String,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
        /// How long it took.
        millis: u64,
    },
    /// A piece of what the program of `--run` writes: a line with its end, or a part of a long one.
    Output {
        /// Whether it was written to stderr.
        error: bool,
        /// The piece; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// Every case is over; the guest powers off.
    Done,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// It held.
    Pass,
    /// It did not hold.
    Fail(String),
    /// This kernel or machine lacks what the case needs.
    Skip(String),
    /// The VM ended before its turn. Only the runner says so, and counts it as a failure.
    NotRun(String),
}

impl Outcome {
    /// The one word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail(_) => "fail",
            Outcome::Skip(_) => "skip",
            Outcome::NotRun(_) => "not run",
        }
    }

    /// Why, unless it passed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Outcome::Pass => None,
            Outcome::Fail(reason) | Outcome::Skip(reason) | Outcome::NotRun(reason) => Some(reason),
        }
    }

    /// Whether this outcome must make the run fail.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Fail(_) | Outcome::NotRun(_))
    }
}

/// What begins a line that had to go to the console because the kernel has no second serial port.
pub const CONSOLE_MARK: &str = "@bpfkit ";

impl Event {
    /// The event in a line of the results' port, or `None` for anything else; a line torn by a panic is no event.
    pub fn parse(line: &str) -> Option<Event> {
        serde_json::from_str(line.trim()).ok()
    }

    /// The event in a line of the console, where kernel messages may stand before the mark.
    pub fn parse_console(line: &str) -> Option<Event> {
        let (_, event) = line.split_once(CONSOLE_MARK)?;
        Event::parse(event)
    }

    /// The line, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("events hold strings and numbers only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_its_line() {
        let finish = |outcome| Event::Finish { case: "asm::listing".into(), outcome, millis: 12 };
        for event in [
            Event::Hello { release: "5.10.0".into(), notes: vec!["no cgroup2".into()] },
            Event::Start { case: "asm::listing".into() },
            finish(Outcome::Pass),
            finish(Outcome::Fail("two\nlines \"quoted\"".into())),
            finish(Outcome::Skip("no BTF".into())),
            Event::Output { error: true, text: "half a line".into() },
            Event::Done,
        ] {
            let line = event.to_line();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Event::parse(&line), Some(event.clone()));
            assert_eq!(Event::parse_console(&format!("[    1.2] x {CONSOLE_MARK}{line}\r")), Some(event));
        }
    }

    #[test]
    fn torn_and_foreign_lines_are_no_events() {
        for line in ["", "{\"event\":\"fin", "{\"event\":\"other\"}", "[    0.1] Linux version 5.10"] {
            assert_eq!(Event::parse(line), None, "{line}");
        }
        assert_eq!(Event::parse_console("{\"event\":\"done\"}"), None, "without the mark");
    }
}
