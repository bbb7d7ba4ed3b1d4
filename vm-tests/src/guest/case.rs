//! What a case is made of.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfkit_loader::{Feature, Target, TargetBuilder};

use crate::protocol::Outcome;

use super::settings::Settings;

/// A test that runs on a kernel.
#[derive(Clone, Copy)]
pub struct Case {
    /// `area::what_holds`; the name is a sentence.
    pub name: &'static str,
    /// The test. It runs in a process of its own.
    pub run: fn(&mut Ctx) -> Result<(), Failure>,
}

/// A way to boot a kernel for cases that the usual one does not suit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// What logs and the guest call it; nothing for the usual one.
    pub name: &'static str,
    /// Words for the kernel's command line.
    pub words: &'static [&'static str],
    /// Processors, where it matters.
    pub smp: Option<u32>,
}

/// Why a case did not pass.
#[derive(Debug)]
pub enum Failure {
    /// It does not hold.
    Fail(String),
    /// This kernel or machine lacks what it needs.
    Skip(String),
}

impl<E: Error> From<E> for Failure {
    /// Any error fails the case, with all that it says about its causes.
    fn from(error: E) -> Failure {
        Failure::Fail(chain(&error))
    }
}

impl From<Result<(), Failure>> for Outcome {
    fn from(result: Result<(), Failure>) -> Outcome {
        match result {
            Ok(()) => Outcome::Pass,
            Err(Failure::Fail(reason)) => Outcome::Fail(reason),
            Err(Failure::Skip(reason)) => Outcome::Skip(reason),
        }
    }
}

/// An error with its sources, joined by `: ` unless the error says them itself.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

/// Saying what was being done when an error came.
pub trait Doing<T> {
    /// Fails the case with `what` before the error.
    ///
    /// # Errors
    /// The error it had.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Error> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::Fail(format!("{}: {}", what(), chain(&error))))
    }
}

/// Leaves the case as skipped, with the reason in the manner of `format!`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => { return Err($crate::guest::case::Failure::Skip(format!($($reason)+))) };
}

/// Leaves the case as failed, with the reason in the manner of `format!`.
#[macro_export]
macro_rules! fail {
    ($($reason:tt)+) => { return Err($crate::guest::case::Failure::Fail(format!($($reason)+))) };
}

/// Fails the case unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr) => { $crate::ensure!($condition, "{} does not hold", stringify!($condition)) };
    ($condition:expr, $($reason:tt)+) => { if !$condition { $crate::fail!($($reason)+) } };
}

/// Fails the case unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr) => { $crate::ensure_eq!($left, $right, "{}", stringify!($left)) };
    ($left:expr, $right:expr, $($what:tt)+) => {
        match (&$left, &$right) {
            (left, right) => if left != right {
                $crate::fail!("{}: {left:?} instead of {right:?}", format!($($what)+))
            }
        }
    };
}

/// Skips the case where the kernel lacks something.
///
/// # Errors
/// The first thing that is missing, and how that is known.
pub fn need(target: &Target, features: &[Feature]) -> Result<(), Failure> {
    match features.iter().try_for_each(|&feature| target.require(feature)) {
        Ok(()) => Ok(()),
        Err(error) => skip!("{error}"),
    }
}

/// What a case knows of its surroundings.
pub struct Ctx {
    settings: Settings,
    directory: PathBuf,
}

impl Ctx {
    /// The surroundings of a case that may write into `directory`.
    pub(super) fn new(settings: Settings, directory: PathBuf) -> Result<Ctx, Failure> {
        fs::create_dir_all(&directory).doing(|| format!("create {}", directory.display()))?;
        Ok(Ctx { settings, directory })
    }

    /// A directory for the case alone, removed after it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether this is a VM of ours, where nobody else loads programs and nothing need be preserved.
    pub fn is_vm(&self) -> bool {
        self.settings.vm
    }

    /// BTF that came with a kernel which has none of its own.
    pub fn btf(&self) -> Option<&Path> {
        self.settings.btf.as_deref()
    }

    /// `bpfkit TOOL`, with `--btf` where this kernel needs it.
    ///
    /// # Errors
    /// Skips the case when the binary is not here, as when the guest runs natively and nobody built it.
    pub fn tool(&self, name: &str) -> Result<Command, Failure> {
        let mut command = self.bpfkit()?;
        command.arg(name);
        if let Some(btf) = self.btf() {
            command.arg("--btf").arg(btf);
        }
        Ok(command)
    }

    /// `bpfkit dump TOOL ARGUMENTS`, with `--btf` where this kernel needs it.
    ///
    /// # Errors
    /// As for `tool`.
    pub fn dump(&self, line: &[&str]) -> Result<Command, Failure> {
        let mut command = self.bpfkit()?;
        command.arg("dump").args(line);
        if let Some(btf) = self.btf() {
            command.arg("--btf").arg(btf);
        }
        Ok(command)
    }

    /// `bpfkit` without arguments.
    ///
    /// # Errors
    /// As for `tool`.
    pub fn bpfkit(&self) -> Result<Command, Failure> {
        let bpfkit = &self.settings.bpfkit;
        if !bpfkit.exists() {
            skip!("there is no {} (build it, or set BPFKIT)", bpfkit.display());
        }
        Ok(Command::new(bpfkit))
    }

    /// The program that looks up hosts, linked dynamically or statically.
    ///
    /// # Errors
    /// Skips the case when it is not here.
    pub fn lookup(&self, is_static: bool) -> Result<&Path, Failure> {
        let path = &self.settings.lookup[usize::from(is_static)];
        if !path.exists() {
            skip!(
                "there is no {} (cargo test builds it and says where; or set LOOKUP and LOOKUP_STATIC)",
                path.display()
            );
        }
        Ok(path)
    }

    /// The running kernel, with the BTF that came with it.
    ///
    /// # Errors
    /// Fails the case on a machine that the loader does not know.
    pub fn target(&self) -> Result<Target, Failure> {
        self.target_builder().running().doing(|| "look at the running kernel".to_owned())
    }

    /// The same, before it is built, for a case that takes something away from it.
    pub fn target_builder(&self) -> TargetBuilder {
        match self.btf() {
            Some(btf) => Target::builder().btf_file(btf),
            None => Target::builder(),
        }
    }

    /// The kernel's release, as `uname -r` says it.
    ///
    /// # Errors
    /// Fails the case without /proc.
    pub fn release(&self) -> Result<String, Failure> {
        let path = "/proc/sys/kernel/osrelease";
        Ok(fs::read_to_string(path).doing(|| format!("read {path}"))?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_name_what_was_found() {
        let unequal = || -> Result<(), Failure> {
            ensure_eq!(1 + 1, 3);
            Ok(())
        };
        assert!(matches!(unequal(), Err(Failure::Fail(reason)) if reason == "1 + 1: 2 instead of 3"));
        let skipped = || -> Result<(), Failure> { skip!("no {}", "BTF") };
        assert_eq!(Outcome::from(skipped()), Outcome::Skip("no BTF".into()));
    }

    #[test]
    fn errors_are_told_with_their_context() {
        let missing = fs::read("/nonexistent").doing(|| "read it".to_owned());
        assert!(matches!(missing, Err(Failure::Fail(reason)) if reason.starts_with("read it: No such file")));
    }
}
