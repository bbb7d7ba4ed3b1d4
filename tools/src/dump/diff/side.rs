//! What programs are made with, on one side of a difference.

use std::ffi::OsString;

use bpfkit_loader::Target;
use clap::error::ErrorKind;

use crate::Error;
use crate::cli::{Cli, Command, ToolCommand};
use crate::dump::{self, Subject};

/// One side of a difference: a tool as the command line and the side together have it.
#[derive(Clone, Debug)]
pub struct Side {
    /// As it was asked for: `7.2,btf=vmlinux.btf,-P 80`.
    pub words: String,
    /// The flags of the tool that it adds: `-P 80`.
    pub flags: String,
    /// Whether it names a kernel or types.
    pub is_other_kernel: bool,
    /// The tool.
    pub tool: ToolCommand,
}

/// The parts of a side.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts<'a> {
    kernel: Option<&'a str>,
    btf: Option<&'a str>,
    flags: &'a str,
}

impl<'a> Parts<'a> {
    /// `VERSION`, `btf=FILE` or a path, and flags; separated by commas. Flags come last, as they may have commas themselves.
    fn of(words: &'a str) -> Result<Self, String> {
        let mut parts = Self::default();
        let mut rest = if words == "none" { "" } else { words };
        while !rest.is_empty() {
            if rest.starts_with('-') {
                parts.flags = rest;
                break;
            }
            let (part, more) = rest.split_once(',').unwrap_or((rest, ""));
            rest = more.trim_start();
            let is_version =
                part.starts_with(|c: char| c.is_ascii_digit()) && part.chars().all(|c| c.is_ascii_digit() || c == '.');
            if is_version {
                parts.kernel = Some(part);
            } else if let Some(file) = part.strip_prefix("btf=") {
                parts.btf = Some(file);
            } else if part.contains(['.', '/']) {
                parts.btf = Some(part);
            } else {
                return Err(format!(
                    "`{part}` is neither a kernel such as 4.18, nor btf=FILE, nor flags of the tool such as -P 80, nor none"
                ));
            }
        }
        Ok(parts)
    }
}

impl Side {
    /// Reads the sides of this command line, where it has any.
    ///
    /// # Errors
    /// Another number of them than two, and as [`Side::read`].
    pub fn both(words: &[String], line: &[OsString]) -> Result<Option<Box<[Self; 2]>>, clap::Error> {
        match words {
            [] => Ok(None),
            [one, two] => Ok(Some(Box::new([Self::read(one, line)?, Self::read(two, line)?]))),
            _ => {
                let are = if words.len() == 1 { "is" } else { "are" };
                let why = format!("a difference has two sides, and there {are} {} --diff", words.len());
                Err(Cli::misused(line, ErrorKind::WrongNumberOfValues, why))
            }
        }
    }

    /// Reads a side of this command line, which has the tool and what both sides share.
    ///
    /// # Errors
    /// What it means nothing by, and what the tool says of its flags.
    pub fn read(words: &str, line: &[OsString]) -> Result<Self, clap::Error> {
        let refuse = |why: String| Cli::misused(line, ErrorKind::ValueValidation, format!("--diff {words}: {why}"));
        let parts = Parts::of(words).map_err(refuse)?;
        let mut side = without(line, "--diff");
        for (option, value) in [("--kernel", parts.kernel), ("--btf", parts.btf)] {
            if let Some(value) = value {
                side = without(&side, option);
                side.extend([option.into(), value.into()]);
            }
        }
        side.extend(parts.flags.split_whitespace().map(OsString::from));
        match Cli::parsed(&side)?.command {
            Command::Dump(args) => {
                let dump::Args { tool, .. } = args;
                let none = || refuse("a difference is one of a tool's programs, and no tool is named".to_owned());
                Ok(Self {
                    words: words.to_owned(),
                    flags: parts.flags.to_owned(),
                    is_other_kernel: parts.kernel.is_some() || parts.btf.is_some(),
                    tool: tool.ok_or_else(none)?,
                })
            }
            _ => Err(refuse("it changes the command".to_owned())),
        }
    }

    /// The kernel of this side.
    pub(super) fn target(&self) -> Result<Target, Error> {
        self.tool.tool().options().target()
    }

    /// The programs of this side.
    pub(super) fn subject<'a>(&self, target: &'a Target) -> Result<Subject<'a>, Error> {
        Subject::of(self.tool.tool(), target)
    }
}

/// A command line without an option and its values.
fn without(line: &[OsString], option: &str) -> Vec<OsString> {
    let mut rest = Vec::new();
    let mut words = line.iter();
    while let Some(word) = words.next() {
        if word == option {
            words.next();
        } else if !word.to_str().is_some_and(|word| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')))
        {
            rest.push(word.clone());
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_kernel_types_and_flags() {
        let of = |words: &'static str| Parts::of(words).unwrap();
        let parts = |kernel, btf, flags| Parts { kernel, btf, flags };
        assert_eq!(of("4.18"), parts(Some("4.18"), None, ""));
        assert_eq!(of("7.2,btf=a b.btf,-P 80,443 -4"), parts(Some("7.2"), Some("a b.btf"), "-P 80,443 -4"));
        assert_eq!(of("5.10.btf"), parts(None, Some("5.10.btf"), ""));
        assert_eq!(of("dir/types, 5.10"), parts(Some("5.10"), Some("dir/types"), ""));
        assert_eq!((of("none"), of("")), (Parts::default(), Parts::default()));
        assert!(Parts::of("4.18,later").unwrap_err().starts_with("`later` is neither"));
    }

    #[test]
    fn the_rest_of_the_line_is_shared() {
        let line: Vec<OsString> = ["--diff", "a", "x", "--diff=b", "--difference", "c"].map(OsString::from).into();
        assert_eq!(without(&line, "--diff"), ["x", "--difference", "c"].map(OsString::from));
    }
}
