//! Prints the verifier's logs of known programs, as in tests/fixtures/verifier:
//!
//! ```text
//! cargo build -p bpfkit-tests --example verifier_logs
//! cargo vm 6.12 --run target/x86_64-unknown-linux-gnu/debug/examples/verifier_logs
//! ```

use bpfkit_loader::{Error, Target};
use bpfkit_tests::verifier::{accepted, maps, refused};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::running()?;
    let maps = maps(&target)?;
    for spec in accepted() {
        println!("@@@@ {} level 2\n{}", spec.name, spec.link(&target)?.walk(&target, &maps)?.log.trim_end());
    }
    for refused in refused() {
        match refused.spec.load(&target, &maps) {
            Err(Error::Rejected(rejection)) => {
                println!("@@@@ {} level 1\n{}", refused.name, rejection.log.trim_end());
                // Before Linux 5.17 only the second level says what was known.
                if !rejection.log.contains("; R") {
                    let verdict = refused.spec.link(&target)?.walk(&target, &maps)?;
                    println!("@@@@ {} level 2\n{}", refused.name, verdict.log.trim_end());
                }
            }
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(format!("{} was loaded", refused.name).into()),
        }
    }
    Ok(())
}
