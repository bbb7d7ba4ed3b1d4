//! The options that every tool has.

use std::path::PathBuf;
use std::time::Duration;

use bpfkit_asm::Version;
use bpfkit_btf::Btf;
use bpfkit_loader::{Feature, PerfOptions, Target};

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
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub kernel: Kernel,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Give each CPU's ring so many pages of memory, a power of two; what finds no room in it is lost, and counted [default: 64]
    #[arg(long, value_name = "PAGES", value_parser = pages)]
    pub buffer_pages: Option<usize>,
    /// Say on stderr how the programs were attached and why so
    #[arg(short, long)]
    pub verbose: bool,
}

/// Which kernel programs are made for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Kernel {
    /// Take the kernel's types, where they are needed, from this file: BTF, a vmlinux with BTF or DWARF, or an archive that `bpfkit btf
    /// archive` made
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Show the programs as they are for this kernel, not for the running one; --btf has its types
    #[arg(id = "kernel", long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Behave as if the kernel lacked this feature
    #[arg(long, value_name = "FEATURE", hide = true)]
    pub without: Vec<Feature>,
}

impl Options {
    /// How rings are made.
    pub fn rings(&self) -> PerfOptions {
        let usual = PerfOptions::default();
        PerfOptions { pages: self.buffer_pages.unwrap_or(usual.pages), ..usual }
    }

    /// The kernel that programs are made for.
    ///
    /// # Errors
    /// When the BTF file cannot be read or the running kernel cannot be told.
    pub fn target(&self) -> Result<Target, Error> {
        self.kernel.target(Some(ROOTS))
    }
}

impl Kernel {
    /// The kernel of this version with the types in the file, or the running one where there is no version. Of DWARF, only what
    /// `roots` name is read.
    ///
    /// # Errors
    /// As [`Options::target`].
    pub fn target(&self, roots: Option<&'static [&'static str]>) -> Result<Target, Error> {
        if let Some(version) = self.version {
            // Of an archive, the first kernel of this version.
            let is_wanted = |release: &str| release.parse() == Ok(version);
            let btf = self.btf.as_ref().map(|file| Btf::open(file, roots, is_wanted)).transpose()?;
            let target = Target::offline(btf.map(|(btf, _)| btf), version);
            return Ok(self.without.iter().copied().fold(target, Target::lacking));
        }
        let mut builder = Target::builder().carried(CARRIED);
        if let Some(roots) = roots {
            builder = builder.roots(roots);
        }
        if let Some(path) = &self.btf {
            builder = builder.btf_file(path);
        }
        Ok(self.without.iter().fold(builder, |builder, &feature| builder.without(feature)).running()?)
    }
}

/// A number of pages, as the kernel takes it: up to 4 GiB of 4 KiB each.
fn pages(text: &str) -> Result<usize, String> {
    let pages: usize = text.parse().map_err(|_| "not a number of pages".to_owned())?;
    if pages.is_power_of_two() && pages <= 1 << 20 {
        Ok(pages)
    } else {
        Err("must be 1, 2, 4, .. or 1048576".to_owned())
    }
}

/// A positive number of seconds, fractions included.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("must be more than nothing".to_owned()),
        Err(_) if seconds > 0.0 => Err("longer than can be counted".to_owned()),
        Err(_) => Err("must be a positive number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_a_power_of_two() {
        assert_eq!((pages("1"), pages("1048576")), (Ok(1), Ok(1 << 20)));
        for text in ["0", "3", "2097152", "-8", "many", ""] {
            assert!(pages(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_a_positive_number() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for (text, reason) in [
            ("0", "more than nothing"),
            ("-1", "positive"),
            ("nan", "positive"),
            ("inf", "longer"),
            ("1e30", "longer"),
            ("soon", "not a number"),
            ("", "not a number"),
        ] {
            assert!(seconds(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
