//! From a guest's events to its results: a value without I/O, so that every way a VM can end is tested without one.

use crate::protocol::{Event, Outcome};

use super::results::{CaseResult, Status};

/// What is known about a guest so far.
#[derive(Debug)]
pub struct Progress {
    cases: Vec<CaseResult>,
    running: Option<String>,
    release: Option<String>,
    notes: Vec<String>,
    output: String,
    done: bool,
}

/// How much output is kept for the results; a log has all of it.
const OUTPUT: usize = 1 << 20;

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended by itself; what it or the kernel said last, if it looks like a reason.
    Exited(String),
    /// The runner ended it, after this many seconds.
    TimedOut(u64),
    /// The runner ended it, because there was no event for this many seconds.
    Silent(u64),
}

impl Progress {
    /// A guest that is expected to run `cases`.
    pub fn new<'a>(cases: impl IntoIterator<Item = &'a str>) -> Progress {
        let not_run = |name: &str| CaseResult {
            name: name.to_owned(),
            outcome: Outcome::NotRun("the guest did not come to it".into()),
            millis: 0,
        };
        Progress {
            cases: cases.into_iter().map(not_run).collect(),
            running: None,
            release: None,
            notes: Vec::new(),
            output: String::new(),
            done: false,
        }
    }

    /// Takes in one event.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Hello { release, notes } => {
                self.release = Some(release);
                self.notes = notes;
            }
            Event::Start { case } => self.running = Some(case),
            Event::Finish { case, outcome, millis } => {
                self.running = None;
                match self.cases.iter_mut().find(|known| known.name == case) {
                    Some(known) => (known.outcome, known.millis) = (outcome, millis),
                    None => self.cases.push(CaseResult { name: case, outcome, millis }),
                }
            }
            Event::Output { text, .. } if self.output.len() + text.len() <= OUTPUT => self.output.push_str(&text),
            Event::Output { .. } => {}
            Event::Done => self.done = true,
        }
    }

    /// Whether the guest has said anything.
    pub fn answered(&self) -> bool {
        self.release.is_some()
    }

    /// Whether the guest has said all.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The results. A hang is the fault of the case that was running; a panic, or a guest that never answered, is the
    /// machinery's, and every case that it kept from running says so.
    pub fn finish(mut self, end: &End) -> Finished {
        let status = match end {
            _ if self.done => Status::Ran,
            End::TimedOut(seconds) | End::Silent(seconds) if self.release.is_none() => {
                Status::Broken(format!("the guest did not answer within {seconds} s"))
            }
            End::TimedOut(seconds) | End::Silent(seconds) => {
                let stopped = match end {
                    End::Silent(_) => format!("the VM was stopped after it had said nothing for {seconds} s"),
                    _ => format!("the VM was stopped after {seconds} s"),
                };
                let running = self.running.take();
                if let Some(name) = &running {
                    self.event(Event::Finish {
                        case: name.clone(),
                        outcome: Outcome::Fail(format!("still running when {stopped}")),
                        millis: 0,
                    });
                }
                let during = running.map_or(String::new(), |name| format!(" during {name}"));
                self.not_run(&format!("{stopped}{during}"));
                Status::Ran
            }
            End::Exited(reason) if self.release.is_none() => {
                Status::Broken(format!("the guest never answered: {reason}"))
            }
            End::Exited(reason) => {
                let running = self.running.take();
                let during = running.as_ref().map_or(String::new(), |name| format!(" during {name}"));
                let reason = format!("the guest ended{during}: {reason}");
                if let Some(case) = running {
                    self.event(Event::Finish { case, outcome: Outcome::Fail(reason.clone()), millis: 0 });
                }
                Status::Broken(reason)
            }
        };
        if let Status::Broken(reason) = &status {
            self.not_run(reason);
        }
        Finished { status, release: self.release, notes: self.notes, output: self.output, cases: self.cases }
    }

    fn not_run(&mut self, reason: &str) {
        for case in &mut self.cases {
            if let Outcome::NotRun(why) = &mut case.outcome {
                reason.clone_into(why);
            }
        }
    }
}

/// The results of a guest that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Whether its word counts.
    pub status: Status,
    /// The kernel's release.
    pub release: Option<String>,
    /// What it could not set up.
    pub notes: Vec<String>,
    /// What the program of `--run` wrote.
    pub output: String,
    /// Every expected case, in order.
    pub cases: Vec<CaseResult>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(events: &[Event]) -> Progress {
        let mut progress = Progress::new(["a::one", "a::two", "a::three"]);
        progress.event(Event::Hello { release: "5.10.0".into(), notes: Vec::new() });
        for event in events {
            progress.event(event.clone());
        }
        progress
    }

    fn pass(case: &str) -> Event {
        Event::Finish { case: case.into(), outcome: Outcome::Pass, millis: 3 }
    }

    fn words(finished: &Finished) -> Vec<&str> {
        finished.cases.iter().map(|case| case.outcome.word()).collect()
    }

    #[test]
    fn a_guest_that_says_done_has_run_however_it_ends() {
        let progress = started(&[pass("a::one"), pass("a::two"), pass("a::three"), Event::Done]);
        let finished = progress.finish(&End::TimedOut(9));
        assert_eq!(finished.status, Status::Ran);
        assert_eq!(words(&finished), ["pass", "pass", "pass"]);
    }

    #[test]
    fn a_hang_fails_the_running_case_and_names_it_in_the_rest() {
        let finished = started(&[pass("a::one"), Event::Start { case: "a::two".into() }]).finish(&End::TimedOut(60));
        assert_eq!(finished.status, Status::Ran);
        assert_eq!(words(&finished), ["pass", "fail", "not run"]);
        assert_eq!(finished.cases[2].outcome.reason(), Some("the VM was stopped after 60 s during a::two"));
    }

    #[test]
    fn a_silent_guest_fails_the_running_case_as_a_hang_does() {
        let finished = started(&[Event::Start { case: "a::one".into() }]).finish(&End::Silent(200));
        assert_eq!(words(&finished), ["fail", "not run", "not run"]);
        assert!(finished.cases[0].outcome.reason().is_some_and(|why| why.contains("said nothing for 200 s")));
    }

    #[test]
    fn output_is_kept_up_to_a_limit() {
        let output = |text: &str| Event::Output { error: false, text: text.to_owned() };
        let finished = started(&[output("a\n"), output("b"), output(&"x".repeat(OUTPUT)), Event::Done]);
        assert_eq!(finished.finish(&End::Exited(String::new())).output, "a\nb");
    }

    #[test]
    fn a_panic_breaks_the_kernel_and_names_the_case() {
        let progress = started(&[pass("a::one"), Event::Start { case: "a::two".into() }]);
        let finished = progress.finish(&End::Exited("Kernel panic - not syncing: Attempted to kill init!".into()));
        let Status::Broken(reason) = &finished.status else { panic!("{:?}", finished.status) };
        assert!(reason.contains("during a::two") && reason.contains("Kernel panic"), "{reason}");
        assert_eq!(words(&finished), ["pass", "fail", "not run"]);
    }

    #[test]
    fn silence_breaks_the_kernel_and_fails_every_case() {
        let silent = || Progress::new(["a::one"]);
        for end in [End::TimedOut(60), End::Exited("QEMU ended".into())] {
            let finished = silent().finish(&end);
            assert!(matches!(finished.status, Status::Broken(_)));
            assert!(finished.cases.iter().all(|case| case.outcome.is_failure()));
        }
    }

    #[test]
    fn a_guest_that_skips_a_case_silently_does_not_pass_it() {
        let finished = started(&[pass("a::one"), Event::Done]).finish(&End::Exited(String::new()));
        assert_eq!(words(&finished), ["pass", "not run", "not run"]);
    }
}
