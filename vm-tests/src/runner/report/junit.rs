//! `junit.xml`, which CI systems show: a suite for each kernel.
//!
//! It has what both schemas in use ask for: that of Ant's JUnit task, which wants every element and attribute, and that of
//! Jenkins' xUnit plugin.

use std::fmt::Write as _;

use crate::protocol::Outcome;
use crate::runner::clock;
use crate::runner::results::{CaseResult, KernelResult, Results, Status};

/// The whole document.
pub fn render(results: &Results) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (id, kernel) in results.kernels.iter().enumerate() {
        suite(id, kernel, &mut text);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(id: usize, kernel: &KernelResult, text: &mut String) {
    // A kernel without an image has one skipped case, so that it is seen and not taken for a pass.
    let unavailable = match &kernel.status {
        Status::Unavailable(reason) => vec![CaseResult {
            name: "vm::boot".to_owned(),
            outcome: Outcome::Skip(format!("unavailable: {reason}")),
            millis: 0,
        }],
        Status::Ran | Status::Broken(_) => Vec::new(),
    };
    let cases: Vec<&CaseResult> = kernel.cases.iter().chain(&unavailable).collect();
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&case.outcome)).count();
    let never = clock::utc(std::time::UNIX_EPOCH);
    let started = if kernel.started.is_empty() { &never } else { &kernel.started };
    let _ = writeln!(
        text,
        "<testsuite id=\"{id}\" package=\"bpfkit\" name=\"{}\" timestamp=\"{}\" hostname=\"localhost\" tests=\"{}\" \
         failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
        escape(&kernel.name),
        // The schema's pattern has no zone.
        started.trim_end_matches('Z'),
        cases.len(),
        count(|outcome| matches!(outcome, Outcome::Fail(_))),
        count(|outcome| matches!(outcome, Outcome::NotRun(_))),
        count(|outcome| matches!(outcome, Outcome::Skip(_))),
        kernel.seconds
    );
    text.push_str("<properties>\n");
    for (name, value) in [("release", kernel.release.as_deref().unwrap_or_default()), ("image", &kernel.origin)] {
        let _ = writeln!(text, "<property name=\"{name}\" value=\"{}\"/>", escape(value));
    }
    text.push_str("</properties>\n");
    for case in cases {
        testcase(kernel, case, text);
    }
    let said = kernel.notes.iter().chain(&kernel.console).map(String::as_str).collect::<Vec<_>>().join("\n");
    let _ = writeln!(text, "<system-out>{}</system-out>", escape(&kernel.output));
    let _ = writeln!(text, "<system-err>{}</system-err>\n</testsuite>", escape(&said));
}

fn testcase(kernel: &KernelResult, case: &CaseResult, text: &mut String) {
    let (area, name) = case.name.split_once("::").unwrap_or(("", &case.name));
    let _ = write!(
        text,
        "<testcase classname=\"{}\" name=\"{}\" time=\"{}.{:03}\"",
        escape(&format!("{}.{area}", kernel.name)),
        escape(name),
        case.millis / 1000,
        case.millis % 1000
    );
    // Ant's schema wants a type for the first and the last, and takes none for a skip.
    let (element, reason) = match &case.outcome {
        Outcome::Pass => {
            text.push_str("/>\n");
            return;
        }
        Outcome::Fail(reason) => ("failure type=\"fail\"", reason),
        Outcome::Skip(reason) => ("skipped", reason),
        Outcome::NotRun(reason) => ("error type=\"not run\"", reason),
    };
    let _ = writeln!(text, "><{element} message=\"{}\"/></testcase>", escape(reason));
}

/// Text for an attribute or an element. XML 1.0 has no way to write most control characters, so they are replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::kernel;
    use super::*;

    #[test]
    fn markup_and_control_characters_are_escaped() {
        assert_eq!(escape("a<b> & \"c\"\n\u{1b}[0m"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{fffd}[0m");
    }

    #[test]
    fn failures_skips_and_what_did_not_run_are_told_apart() {
        let outcomes =
            [Outcome::Pass, Outcome::Fail("x<y".into()), Outcome::Skip("no".into()), Outcome::NotRun("hang".into())];
        let text = render(&Results::new(vec![
            kernel("5.10", Status::Ran, &outcomes),
            KernelResult::unavailable("6.6", "gone".into()),
        ]));
        assert!(
            text.contains("name=\"5.10\" timestamp=\"1970-01-01T00:00:00\" hostname=\"localhost\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""),
            "{text}"
        );
        assert!(text.contains("<testcase classname=\"5.10.area\" name=\"case0\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("><failure type=\"fail\" message=\"x&lt;y\"/></testcase>"), "{text}");
        assert!(text.contains("><skipped message=\"unavailable: gone\"/></testcase>"), "{text}");
        // Both schemas are about the order too.
        let parts = [
            "<testsuites>",
            "<testsuite id=\"0\" package=",
            "<properties>",
            "<testcase",
            "<system-out>",
            "<system-err>",
        ];
        let places: Vec<_> = parts.iter().map(|part| text.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{text}");
    }
}
