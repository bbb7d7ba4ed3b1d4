//! What is said beside the rows: on stderr, after the name of the program.

use std::fmt::Display;
use std::io::Write;

use crate::escape::Quoted;

/// Says something. A stderr that cannot be written is no reason to stop.
///
/// Errors quote files, the kernel and processes, and not all who make them know that a terminal will show them.
pub fn say(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "bpfkit: {}", harmless(&what.to_string()));
}

/// A text of several lines that does no harm to a terminal.
fn harmless(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| Quoted(&line.replace('\t', "    ")).to_string()).collect();
    lines.join("\n")
}

/// Says how many there were of something, if there were any.
pub fn count(number: u64, what: &str) {
    if number != 0 {
        say(format_args!("{number} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn lines_stay_and_what_a_terminal_would_obey_does_not() {
        assert_eq!(harmless("a\n\tb \\ é"), "a\n    b \\ é");
        assert_eq!(harmless("\u{1b}[2J\r"), "\\u{1b}[2J\\r");
    }
}
