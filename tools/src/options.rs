//! The options that every tool has.

use std::path::PathBuf;
use std::time::Duration;

use bpfkit_asm::Version;
use bpfkit_btf::Btf;
use bpfkit_loader::{Feature, Target};

use crate::Error;
use crate::roots::{CARRIED, ROOTS};

/// Options that mean the same in every tool.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Options {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Print the programs, instruction by instruction, and leave; needs no root
    #[arg(long)]
    pub ebpf: bool,
    /// Take the kernel's types from this file: BTF, a vmlinux with BTF or DWARF, or an archive that `bpfkit btf archive` made
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// With --ebpf or dump: print the programs for this kernel, not for the running one; --btf has its types
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<Version>,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Say on stderr how the programs were attached and why so
    #[arg(short, long)]
    pub verbose: bool,
    /// Behave as if the kernel lacked this feature
    #[arg(long, value_name = "FEATURE", hide = true)]
    pub without: Vec<Feature>,
}

impl Options {
    /// The kernel that programs are made for.
    ///
    /// # Errors
    /// When the BTF file cannot be read or the running kernel cannot be told.
    pub fn target(&self) -> Result<Target, Error> {
        if let Some(version) = self.kernel {
            // Of an archive, the first kernel of this version.
            let is_wanted = |release: &str| release.parse() == Ok(version);
            let btf = self.btf.as_deref().map(|file| Btf::open(file, Some(ROOTS), is_wanted)).transpose()?;
            return Ok(Target::offline(btf.map(|(btf, _)| btf), version));
        }
        let mut builder = Target::builder().roots(ROOTS).carried(CARRIED);
        if let Some(path) = &self.btf {
            builder = builder.btf_file(path);
        }
        Ok(self.without.iter().fold(builder, |builder, &feature| builder.without(feature)).running()?)
    }
}

/// A positive number of seconds, fractions included.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_positive_number() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
