//! `junit.xml`, which CI systems show: a suite for each kernel.

use std::fmt::Write as _;

use crate::protocol::Outcome;
use crate::runner::results::{CaseResult, KernelResult, Results, Status};

/// The whole document.
pub fn render(results: &Results) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for kernel in &results.kernels {
        suite(kernel, &mut text);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(kernel: &KernelResult, text: &mut String) {
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
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
        escape(&kernel.name),
        cases.len(),
        count(|outcome| matches!(outcome, Outcome::Fail(_))),
        count(|outcome| matches!(outcome, Outcome::NotRun(_))),
        count(|outcome| matches!(outcome, Outcome::Skip(_))),
        kernel.seconds
    );
    for case in cases {
        let (area, name) = case.name.split_once("::").unwrap_or(("", &case.name));
        let _ = write!(
            text,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{}.{:03}\"",
            escape(&format!("{}.{area}", kernel.name)),
            escape(name),
            case.millis / 1000,
            case.millis % 1000
        );
        let element = match &case.outcome {
            Outcome::Pass => None,
            Outcome::Fail(reason) => Some(("failure", reason)),
            Outcome::Skip(reason) => Some(("skipped", reason)),
            Outcome::NotRun(reason) => Some(("error", reason)),
        };
        let _ = match element {
            None => writeln!(text, "/>"),
            Some((element, reason)) => writeln!(text, "><{element} message=\"{}\"/></testcase>", escape(reason)),
        };
    }
    text.push_str("</testsuite>\n");
}

/// Text for an attribute. XML 1.0 has no way to write most control characters, so they are replaced.
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
            text.contains("<testsuite name=\"5.10\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""),
            "{text}"
        );
        assert!(text.contains("<testcase classname=\"5.10.area\" name=\"case0\" time=\"1.500\"/>"), "{text}");
        assert!(text.contains("><failure message=\"x&lt;y\"/></testcase>"), "{text}");
        assert!(text.contains("><skipped message=\"unavailable: gone\"/></testcase>"), "{text}");
    }
}
