//! The command line of `cargo vm`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::kernels::{self, Kernel};

use super::bundle::Extra;
use super::image::BootImage;

/// Runs the cases of vm-tests, or with --run a program of yours, on a matrix of kernels in QEMU.
///
/// Everything below target/vm is written by it: images in kernels/, the consoles in logs/, and the results in results.md,
/// results.json and junit.xml.
///
/// Exit status: 0 when no case failed, 1 when one did, 2 for a wrong command line, 69 when the machinery broke (no QEMU, a
/// guest that never answered, a kernel that panicked, fewer kernels than --min-kernels).
#[derive(Parser, Debug)]
#[command(name = "cargo vm", bin_name = "cargo vm")]
pub struct Cli {
    /// Lines of the list (see --list), or `all`; by default 5.10, 6.12 and 7.2 unless --kernel brings others
    #[arg(value_name = "KERNEL")]
    pub kernels: Vec<String>,

    /// Boot an image from outside: its path, and if it has no BTF of its own a file with it
    #[arg(long = "kernel", value_name = "PATH[,btf=FILE][,name=NAME]", value_parser = outside)]
    pub outside: Vec<BootImage>,

    /// Run this program in place of the cases, as root, with the rest of the command line as its arguments: exit code 0 is a
    /// pass, 77 a skip, any other a failure. A dynamic program takes its libraries along
    #[arg(long, value_names = ["PROGRAM", "ARGUMENTS"], num_args = 1.., allow_hyphen_values = true)]
    pub run: Vec<String>,

    /// Take a file or directory along for --run: to /root, where the program starts, or to another place
    #[arg(long = "with", value_name = "FILE[:PLACE]", requires = "run", value_parser = Extra::parse)]
    pub extras: Vec<Extra>,

    /// Print the list of kernels and leave
    #[arg(long)]
    pub list: bool,

    /// With --list, print JSON: `bootable` has the names of those that can be had, `kernels` all of them
    #[arg(long, requires = "list")]
    pub json: bool,

    /// Print a row for each case, not only for each area
    #[arg(long)]
    pub table: bool,

    /// Compare the table in README.md with what was found on the kernels that ran; BLESS=1 writes it
    #[arg(long, conflicts_with_all = ["run", "filter"])]
    pub check_readme: bool,

    /// Print the names of the cases and leave
    #[arg(long)]
    pub list_cases: bool,

    /// Fetch the images and leave
    #[arg(long)]
    pub fetch: bool,

    /// Look for newer images than the cached ones
    #[arg(long)]
    pub refresh: bool,

    /// Where images, logs and results go, instead of target/vm
    #[arg(long, value_name = "DIRECTORY")]
    pub work: Option<PathBuf>,

    /// The mirror of Debian to fetch from, instead of this machine's own
    #[arg(long, value_name = "URI")]
    pub mirror: Option<String>,

    /// The tool to test, instead of building it as it is shipped
    #[arg(long, value_name = "PATH")]
    pub bpfkit: Option<PathBuf>,

    /// VMs at a time; by default three for each processor, as far as memory goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// The time limit for one VM
    #[arg(long, value_name = "SECS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,

    /// Memory of a VM, in QEMU's notation
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub memory: String,

    /// Processors of a VM
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,

    /// A word for the kernels' command lines, may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Who executes the guests' instructions
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub accel: AccelChoice,

    /// Fail when fewer kernels than this could be booted
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_kernels: usize,

    /// Run only the cases whose name contains one of these
    #[arg(last = true, value_name = "FILTER", value_parser = filter, conflicts_with = "run")]
    pub filter: Vec<String>,
}

/// The choice of `--accel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelChoice {
    /// KVM where a guest answers under it, else the translator
    Auto,
    /// The translator
    Tcg,
}

impl Cli {
    /// The lines that are asked for, in the order of the list.
    ///
    /// # Errors
    /// A name that no line has.
    pub fn lines(&self) -> Result<Vec<&'static Kernel>, String> {
        let mut names: Vec<&str> = self.kernels.iter().map(String::as_str).collect();
        if names.is_empty() && self.outside.is_empty() {
            names = kernels::DEFAULT.to_vec();
        }
        if let Some(unknown) = names.iter().find(|name| **name != "all" && kernels::find(name).is_none()) {
            let known: Vec<&str> = kernels::KERNELS.iter().map(|kernel| kernel.name).collect();
            return Err(format!("there is no kernel {unknown:?} in the list: {}, or all", known.join(", ")));
        }
        let wanted = |kernel: &&Kernel| names.contains(&"all") || names.contains(&kernel.name);
        Ok(kernels::KERNELS.iter().filter(wanted).collect())
    }
}

/// Parses `PATH[,btf=FILE][,name=NAME]`.
fn outside(text: &str) -> Result<BootImage, String> {
    let mut parts = text.split(',');
    let kernel = PathBuf::from(parts.next().unwrap_or_default());
    let mut image =
        BootImage { name: name_of(&kernel), origin: kernel.display().to_string(), kernel, btf: None, is_listed: false };
    for part in parts {
        match part.split_once('=') {
            Some(("btf", file)) if !file.is_empty() => image.btf = Some(file.into()),
            Some(("name", name)) if !name.is_empty() && !name.contains('/') => name.clone_into(&mut image.name),
            _ => return Err(format!("{part:?} is neither btf=FILE nor name=NAME")),
        }
    }
    for file in [Some(&image.kernel), image.btf.as_ref()].into_iter().flatten() {
        let opened = std::fs::File::open(file).and_then(|file| file.metadata());
        if opened.map_err(|error| format!("{}: {error}", file.display()))?.is_dir() {
            return Err(format!("{} is a directory", file.display()));
        }
    }
    Ok(image)
}

/// What an image from outside is called in the results: its file name without the usual prefixes, or that of the directory
/// when the file name is nothing but such a prefix.
fn name_of(path: &std::path::Path) -> String {
    let file = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = file(path);
    if ["vmlinuz", "bzImage", "vmlinux", "Image"].contains(&name.as_str()) {
        let parent = path.parent().map(file).unwrap_or_default();
        return if parent.is_empty() { name } else { parent };
    }
    let short = ["vmlinuz-", "bzImage-", "vmlinux-"].iter().find_map(|prefix| name.strip_prefix(prefix));
    short.unwrap_or(&name).to_owned()
}

/// A filter travels on a kernel's command line, so it must be one word.
fn filter(text: &str) -> Result<String, String> {
    let word = text.chars().all(|c| c.is_ascii_alphanumeric() || "_:-.".contains(c));
    if word && !text.is_empty() { Ok(text.to_owned()) } else { Err("a filter is part of a case's name".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["cargo vm"], words].concat())
    }

    fn names(words: &[&str]) -> Vec<&'static str> {
        let lines = parse(words).expect("a command line").lines().expect("lines");
        lines.into_iter().map(|kernel| kernel.name).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn kernels_come_in_the_order_of_the_list_and_the_filter_behind_the_dashes() {
        assert_eq!(names(&[]), kernels::DEFAULT);
        assert_eq!(names(&["7.2", "5.10"]), ["5.10", "7.2"]);
        assert_eq!(names(&["all"]).len(), kernels::KERNELS.len());
        assert_eq!(names(&["--kernel", "/dev/null"]), Vec::<&str>::new());
        assert_eq!(names(&["6.1", "--kernel", "/dev/null"]), ["6.1"]);
        assert_eq!(parse(&["6.1", "--", "asm::", "loader::map"]).expect("parsed").filter, ["asm::", "loader::map"]);
    }

    #[test]
    fn unknown_kernels_and_bad_words_are_usage_errors() {
        assert!(parse(&["--kernel", "/proc"]).expect_err("no image").to_string().contains("/proc is a directory"));
        assert!(parse(&["6.13"]).expect("parsed").lines().expect_err("unknown").contains("6.13"));
        for words in [
            &["--kernel", "/nonexistent"][..],
            &["--kernel", "/dev/null,btf=/nonexistent"],
            &["--kernel", "/dev/null,initrd=/x"],
            &["--jobs", "0"],
            &["--", "a b"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn what_follows_run_is_the_programs() {
        let cli = parse(&["6.1", "--timeout", "5", "--with", "/dev", "--run", "./x", "--timeout", "-v", "--", "7"]);
        let cli = cli.expect("parsed");
        assert_eq!((cli.kernels, cli.timeout, cli.extras.len()), (vec!["6.1".to_owned()], 5, 1));
        assert_eq!(cli.run, ["./x", "--timeout", "-v", "--", "7"]);
        for words in [
            &["--run"][..],
            &["--with", "/dev/null"],
            &["--with", "/dev/null:/proc/x", "--run", "x"],
            &["--check-readme", "--run", "x"],
            &["--check-readme", "--", "asm::"],
            &["--json"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn images_from_outside_have_short_names() {
        for (path, name) in [
            ("/boot/vmlinuz-4.18.0-80", "4.18.0-80"),
            ("/k/4.19/bzImage", "4.19"),
            ("vmlinuz", "vmlinuz"),
            ("/k/linux-5.4.img", "linux-5.4.img"),
        ] {
            assert_eq!(name_of(path.as_ref()), name, "{path}");
        }
        let image = outside("/dev/null,btf=/dev/zero,name=4.18").expect("an image");
        assert_eq!((image.name.as_str(), image.btf), ("4.18", Some("/dev/zero".into())));
    }
}
