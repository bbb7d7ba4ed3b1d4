//! Running one case: in a process of its own, with a time limit, and with a look at what it left in the kernel.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::protocol::Outcome;

use super::leaks::Leftovers;
use super::settings::Settings;
use super::sys;

/// The word that makes this binary run one case.
pub const CASE: &str = "case";

/// The time limit for a case: the slowest take a few seconds under emulation, but the whole machine may stand still for longer.
const LIMIT: Duration = Duration::from_secs(120);
/// How much of a case's output is told when it fails.
const OUTPUT_LINES: usize = 40;

/// Runs the case called `name`, and says how it ended and how long it took.
pub fn run(name: &str, settings: &Settings) -> (Outcome, Duration) {
    let before = settings.vm.then(Leftovers::now);
    let begin = Instant::now();
    let mut outcome = run_child(name, settings).unwrap_or_else(Outcome::Fail);
    let time = begin.elapsed();
    if let Some(before) = before
        && let Some(leak) = before.leak()
    {
        outcome = match outcome {
            Outcome::Fail(reason) => Outcome::Fail(format!("{reason}\nit left behind {leak}")),
            Outcome::Pass | Outcome::Skip(_) | Outcome::NotRun(_) => Outcome::Fail(format!("it left behind {leak}")),
        };
    }
    (outcome, time)
}

fn run_child(name: &str, settings: &Settings) -> Result<Outcome, String> {
    let base = std::env::temp_dir().join(format!("guest-{}", std::process::id()));
    let scratch = Scratch::new(&base)?;
    let (result, output) = (scratch.0.join("result"), scratch.0.join("output"));
    let settings = serde_json::to_string(settings).map_err(|error| error.to_string())?;
    let log = File::create(&output).map_err(|error| format!("create {}: {error}", output.display()))?;
    let log_too = log.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new("/proc/self/exe")
        .args([CASE, name])
        .arg(&result)
        .arg(&settings)
        .current_dir(&scratch.0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        // A group of its own, so that what the case started can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("start the case: {error}"))?;
    let group = child.id();
    // A thread waits, because looking every few milliseconds costs an emulated processor as much as some cases do.
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || ended.send(child.wait()));
    let status = match end.recv_timeout(LIMIT) {
        Ok(status) => Some(status.map_err(|error| format!("wait for the case: {error}"))?),
        Err(_) => None,
    };
    sys::kill_group(group);
    // It has ended by now, by itself or with its group.
    let _ = waiter.join();
    Ok(judge(status, &result, &output))
}

/// The case's own word if it left one; its output tells about a panic.
fn judge(status: Option<ExitStatus>, result: &Path, output: &Path) -> Outcome {
    let said = || {
        let bytes = fs::read(output).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(OUTPUT_LINES);
        let lines = lines.get(from..).unwrap_or_default().join("\n");
        if lines.is_empty() { String::new() } else { format!("\n{lines}") }
    };
    let Some(status) = status else {
        return Outcome::Fail(format!("it was still running after {} s{}", LIMIT.as_secs(), said()));
    };
    let word = fs::read(result).ok().and_then(|bytes| serde_json::from_slice::<Outcome>(&bytes).ok());
    match word {
        Some(Outcome::Fail(reason)) => Outcome::Fail(reason + &said()),
        Some(outcome) if status.success() => outcome,
        _ => Outcome::Fail(format!("its process ended with {status}{}", said())),
    }
}

/// A directory that goes when the case is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: &Path) -> Result<Scratch, String> {
        fs::create_dir_all(path).map_err(|error| format!("create {}: {error}", path.display()))?;
        Ok(Scratch(path.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    /// How a case is judged that ended with this wait status, this word and this output.
    fn judged(status: Option<i32>, word: Option<&Outcome>, said: &str) -> Outcome {
        let directory = tempfile::tempdir().expect("directory");
        let (result, output) = (directory.path().join("result"), directory.path().join("output"));
        if let Some(word) = word {
            fs::write(&result, serde_json::to_vec(word).expect("JSON")).expect("write");
        }
        fs::write(&output, said).expect("write");
        judge(status.map(ExitStatus::from_raw), &result, &output)
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let Outcome::Fail(reason) = judged(Some(101 << 8), None, "thread 'main' panicked at x.rs:1\n") else {
            panic!("not a failure")
        };
        assert!(reason.contains("exit status: 101") && reason.ends_with("panicked at x.rs:1"), "{reason}");
    }

    #[test]
    fn a_word_counts_only_from_a_process_that_ended_well() {
        assert_eq!(judged(Some(0), Some(&Outcome::Pass), "noise"), Outcome::Pass);
        assert_eq!(judged(Some(0), Some(&Outcome::Skip("old".into())), ""), Outcome::Skip("old".into()));
        assert!(judged(Some(11), Some(&Outcome::Pass), "").is_failure(), "it crashed after its word");
        assert!(judged(Some(0), None, "").is_failure(), "it left no word");
        assert!(judged(None, Some(&Outcome::Pass), "").is_failure(), "it had to be killed");
    }
}
