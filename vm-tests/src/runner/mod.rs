//! The runner: `cargo vm`.

mod apt;
mod boot;
pub mod build;
mod bundle;
mod cli;
mod clock;
mod cpio;
mod elf;
mod image;
mod initramfs;
mod kept;
mod machine;
mod matrix;
mod pattern;
mod progress;
mod readme;
mod report;
mod results;
mod schedule;
mod sources;
mod tail;
mod tree;
mod unpacked;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    ExitCode::from(matrix::run(&cli).unwrap_or_else(|stop| {
        eprintln!("cargo vm: {}", stop.message);
        stop.code
    }))
}
