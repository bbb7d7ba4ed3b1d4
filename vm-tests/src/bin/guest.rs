//! Init and test harness of the guests; `guest --native FILTER` runs cases on the running kernel.

use std::process::ExitCode;

fn main() -> ExitCode {
    bpfkit_vm_tests::guest::main()
}
