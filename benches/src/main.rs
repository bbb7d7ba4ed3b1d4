//! Compares bpfkit with its peers: each row is two programs that do the same, run in turn on this machine, and their ratio.
#![forbid(unsafe_code)]

mod command;
mod disasm;
mod find;
mod proc;
mod read;
mod run;
mod start;
mod table;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::table::Table;

/// What goes wrong is told in words, and ends the comparison that it happened in.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Compares bpfkit with its peers, and prints a table of ratios in Markdown. Peers that are not installed are skipped.
#[derive(Parser, Debug)]
pub struct Args {
    /// Where libbpf-tools and bpftrace are installed: a root directory, such as that of a chroot. Else they are looked for in PATH
    #[arg(long, value_name = "DIRECTORY")]
    peers: Option<PathBuf>,
    /// The bpfkit to compare; by default the one that is built beside this program
    #[arg(long, value_name = "FILE")]
    bpfkit: Option<PathBuf>,
    /// How often each program is run
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// The kernel that is booted for what needs kprobes, by `cargo vm`
    #[arg(long, value_name = "KERNEL", default_value = "6.12")]
    kernel: String,
    /// Compare only these: start, types, ring, disasm, vm
    #[arg(value_name = "WHAT", value_parser = ["start", "types", "ring", "disasm", "vm"])]
    what: Vec<String>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program starts itself as.
#[derive(Subcommand, Debug)]
enum Part {
    /// Calls getppid(2) so often, on the first CPU
    #[command(hide = true)]
    Produce { times: u64 },
    /// Reads what getppid sends, with so many pages a ring, on the last CPU
    #[command(hide = true)]
    Read { pages: usize },
    /// Finds the members in the kernel's types, so often
    #[command(hide = true)]
    Find { rounds: u16 },
    /// What is compared within a virtual machine
    #[command(hide = true)]
    Guest,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.part {
        Some(Part::Produce { times }) => read::produce(*times),
        Some(Part::Read { pages }) => read::read(*pages),
        Some(Part::Find { rounds }) => find::measure(*rounds),
        Some(Part::Guest) => vm::guest(&args),
        None => compare(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<()> {
    run::with_tracefs()?;
    let mut table = Table::begin();
    type Comparison = fn(&Args, &mut Table) -> Result<()>;
    let all: [(&str, Comparison); 5] = [
        ("start", start::compare),
        ("types", find::compare),
        ("ring", read::compare),
        ("disasm", disasm::compare),
        ("vm", vm::compare),
    ];
    for (name, comparison) in all {
        if args.what.is_empty() || args.what.iter().any(|what| what == name) {
            // What one of them lacks says nothing about the others.
            if let Err(error) = comparison(args, &mut table) {
                table.skipped(name, error);
            }
        }
    }
    Ok(())
}
