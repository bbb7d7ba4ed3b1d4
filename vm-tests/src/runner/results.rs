//! What a run of the matrix found.

use serde::Serialize;

use crate::protocol::Outcome;

/// One case on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// `area::case`.
    pub name: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub millis: u64,
}

/// What became of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "reason", rename_all = "snake_case")]
pub enum Status {
    /// It was booted and judged.
    Ran,
    /// The machinery failed: QEMU, the boot, a panic.
    Broken(String),
    /// There is no image.
    Unavailable(String),
}

/// One kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelResult {
    /// The line's name.
    pub name: String,
    /// Where the image came from.
    pub origin: String,
    /// What `uname -r` says.
    pub release: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub status: Status,
    /// When it was started, in UTC: `2026-01-31T12:00:00Z`. Empty for a kernel that was not.
    pub started: String,
    /// Seconds until the guest answered.
    pub boot_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds that processors were busy with its guests.
    pub cpu_seconds: f64,
    /// What the guest could not set up.
    pub notes: Vec<String>,
    /// What the program of `--run` wrote, up to 1 MiB.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// The last lines of the console, for a broken kernel.
    pub console: Vec<String>,
    /// Every selected case.
    pub cases: Vec<CaseResult>,
}

impl KernelResult {
    /// A kernel without an image.
    pub fn unavailable(name: &str, reason: String) -> KernelResult {
        KernelResult {
            name: name.to_owned(),
            origin: String::new(),
            release: None,
            status: Status::Unavailable(reason),
            started: String::new(),
            boot_seconds: 0.0,
            seconds: 0.0,
            cpu_seconds: 0.0,
            notes: Vec::new(),
            output: String::new(),
            console: Vec::new(),
            cases: Vec::new(),
        }
    }

    /// Takes in the result of another boot of the same kernel.
    pub fn add(&mut self, boot: &str, other: KernelResult) {
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.cases.extend(other.cases);
        self.notes.extend(other.notes.into_iter().map(|note| format!("{boot}: {note}")));
        if self.status == Status::Ran && other.status != Status::Ran {
            self.status = match other.status {
                Status::Broken(reason) => Status::Broken(format!("{boot}: {reason}")),
                status => status,
            };
            self.console = other.console;
        }
    }

    /// How its cases ended.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for case in &self.cases {
            match case.outcome {
                Outcome::Pass => totals.passed += 1,
                Outcome::Skip(_) => totals.skipped += 1,
                Outcome::Fail(_) | Outcome::NotRun(_) => totals.failed += 1,
            }
        }
        totals
    }

    /// Whether a guest answered.
    pub fn booted(&self) -> bool {
        self.release.is_some()
    }
}

/// Counts of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Cases that held.
    pub passed: usize,
    /// Cases that did not hold, or did not run because a VM ended early.
    pub failed: usize,
    /// Cases that this kernel or machine cannot run.
    pub skipped: usize,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The version of this format, which changes when a reader must.
    pub format: u32,
    /// Over all kernels.
    pub totals: Totals,
    /// In the order of the list.
    pub kernels: Vec<KernelResult>,
}

/// The version of `results.json` that `results.schema.json` describes.
pub const FORMAT: u32 = 1;
/// The exit code for a failing case.
pub const FAILED: u8 = 1;
/// The exit code for a wrong command line.
pub const USAGE: u8 = 2;
/// The exit code for machinery that broke, that of `EX_UNAVAILABLE` in `sysexits.h`.
pub const BROKEN: u8 = 69;

impl Results {
    /// The results of these kernels.
    pub fn new(kernels: Vec<KernelResult>) -> Results {
        let totals = kernels.iter().map(KernelResult::totals).fold(Totals::default(), |sum, one| Totals {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
            skipped: sum.skipped + one.skipped,
        });
        Results { format: FORMAT, totals, kernels }
    }

    /// How many kernels were booted.
    pub fn booted(&self) -> usize {
        self.kernels.iter().filter(|kernel| kernel.booted()).count()
    }

    /// The exit code. A case that was judged and failed is the stronger news; cases that a broken kernel kept from
    /// running are not that, and neither is a run in which fewer than `min_kernels` could be booted.
    pub fn exit_code(&self, min_kernels: usize) -> u8 {
        let judged = |kernel: &KernelResult| {
            kernel.cases.iter().any(|case| match case.outcome {
                Outcome::Fail(_) => true,
                Outcome::NotRun(_) => kernel.status == Status::Ran,
                Outcome::Pass | Outcome::Skip(_) => false,
            })
        };
        if self.kernels.iter().any(judged) {
            FAILED
        } else if self.booted() < min_kernels || self.kernels.iter().any(|k| matches!(k.status, Status::Broken(_))) {
            BROKEN
        } else {
            0
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn kernel(name: &str, status: Status, outcomes: &[Outcome]) -> KernelResult {
        let case = |(i, outcome): (usize, &Outcome)| CaseResult {
            name: format!("area::case{i}"),
            outcome: outcome.clone(),
            millis: 1500,
        };
        KernelResult {
            release: matches!(status, Status::Ran).then(|| format!("{name}.0")),
            status,
            cases: outcomes.iter().enumerate().map(case).collect(),
            cpu_seconds: 1.5,
            ..KernelResult::unavailable(name, String::new())
        }
    }

    #[test]
    fn the_exit_code_tells_failing_cases_from_broken_machinery() {
        let ran = |outcomes: &[Outcome]| kernel("6.1", Status::Ran, outcomes);
        let broken = kernel("5.10", Status::Broken("panic".into()), &[Outcome::NotRun("panic".into())]);
        let gone = KernelResult::unavailable("6.6", "404".into());
        let code = |kernels: &[KernelResult], min| Results::new(kernels.to_vec()).exit_code(min);

        assert_eq!(code(&[ran(&[Outcome::Pass, Outcome::Skip("old".into())]), gone.clone()], 1), 0);
        assert_eq!(code(&[ran(&[Outcome::Fail("no".into())]), broken.clone()], 1), FAILED);
        assert_eq!(code(&[ran(&[Outcome::NotRun("hang".into())])], 1), FAILED);
        assert_eq!(code(&[ran(&[Outcome::Pass]), broken], 1), BROKEN);
        assert_eq!(code(&[ran(&[Outcome::Pass]), gone.clone()], 2), BROKEN);
        assert_eq!(code(&[gone], 1), BROKEN);
    }

    #[test]
    fn a_boot_that_broke_breaks_the_kernel_whatever_the_others_did() {
        let mut result = kernel("6.1", Status::Ran, &[Outcome::Pass]);
        result.add("four", kernel("6.1", Status::Ran, &[Outcome::Pass]));
        assert_eq!((result.status.clone(), result.cases.len()), (Status::Ran, 2));
        result.add("one", kernel("6.1", Status::Broken("panic".into()), &[Outcome::NotRun("panic".into())]));
        result.add("four", kernel("6.1", Status::Ran, &[Outcome::Pass]));
        assert_eq!(result.status, Status::Broken("one: panic".into()));
        assert_eq!(result.totals().to_string(), "3 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn what_did_not_run_counts_as_failed() {
        let outcomes = [Outcome::Pass, Outcome::NotRun("hang".into()), Outcome::Skip("old".into())];
        let results = Results::new(vec![kernel("6.1", Status::Ran, &outcomes), kernel("6.6", Status::Ran, &outcomes)]);
        assert_eq!(results.totals.to_string(), "2 passed, 2 failed, 2 skipped");
    }
}
