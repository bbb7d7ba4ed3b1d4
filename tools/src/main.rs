//! The `bpfkit` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bpfkit::cli::main()
}
