//! `cargo vm`: runs the cases on a matrix of kernels.

use std::process::ExitCode;

fn main() -> ExitCode {
    bpfkit_vm_tests::runner::main()
}
