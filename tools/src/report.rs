//! What is said beside the rows: on stderr, after the name of the program.

use std::fmt::Display;
use std::io::Write;

/// Says something. A stderr that cannot be written is no reason to stop.
pub fn say(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "bpfkit: {what}");
}

/// Says how many there were of something, if there were any.
pub fn count(number: u64, what: &str) {
    if number != 0 {
        say(format_args!("{number} {what}"));
    }
}
