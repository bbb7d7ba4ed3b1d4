//! Writes the manual pages and the completions for shells, which a package brings along:
//! `cargo run -p bpfkit --example manual -- target/manual`
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bpfkit::cli::Cli;
use clap::Command;
use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: manual DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: cannot write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let mut command = Cli::whole();
    fs::create_dir_all(directory)?;
    pages(&command, directory)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "bpfkit", directory)?;
    }
    Ok(())
}

/// When this version was packaged, from the last line of the package's changelog: `2026-11-21`.
fn date() -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let signed = include_str!("../debian/changelog").lines().find(|line| line.starts_with(" -- ")).unwrap_or_default();
    // ` -- NAME <ADDRESS>  Sat, 21 Nov 2026 12:00:00 +0000`
    let mut words = signed.rsplit("  ").next().unwrap_or_default().split(' ').skip(1);
    let (day, month, year) = (words.next(), words.next(), words.next());
    let month = MONTHS.iter().zip(1..).find(|(name, _)| Some(**name) == month).map_or(0, |(_, number)| number);
    format!("{}-{month:02}-{:0>2}", year.unwrap_or_default(), day.unwrap_or_default())
}

/// A page for the command and one for each command below it, named as in git: `bpfkit-btf-min.1`.
fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.clone()).title(&name).date(date()).manual("bpfkit");
    manual.source(concat!("bpfkit ", env!("CARGO_PKG_VERSION"))).render(&mut page)?;
    // A backslash of the text is printed by its own escape; two of them are not an escape everywhere.
    let page = String::from_utf8_lossy(&page).replace(r"\\", r"\e");
    fs::write(directory.join(format!("{name}.1")), page)?;
    // What dump does with a tool is on its own page; the tools have pages of theirs.
    let below = command.get_subcommands().filter(|_| command.get_name() != "dump");
    below.filter(|below| !below.is_hide_set()).try_for_each(|below| pages(below, directory))
}
