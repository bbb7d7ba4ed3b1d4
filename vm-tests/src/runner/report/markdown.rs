//! `results.md`: every case on every kernel.

use std::fmt::Write as _;

use crate::runner::results::{KernelResult, Results, Status};

/// The whole document.
pub fn render(results: &Results) -> String {
    let mut text = format!("# Kernels and cases\n\n{}\n\n", results.totals);
    text.push_str("| kernel | release | image | result | seconds |\n|---|---|---|---|---|\n");
    for kernel in &results.kernels {
        let result = match &kernel.status {
            Status::Ran => kernel.totals().to_string(),
            Status::Broken(reason) => format!("broken: {reason}"),
            Status::Unavailable(reason) => format!("unavailable: {reason}"),
        };
        let release = kernel.release.as_deref().unwrap_or("");
        let (origin, result) = (escape(&kernel.origin), escape(&result));
        let _ = writeln!(text, "| {} | {release} | {origin} | {result} | {:.1} |", kernel.name, kernel.seconds);
    }
    matrix(results, &mut text);
    reasons(results, &mut text);
    text
}

fn matrix(results: &Results, text: &mut String) {
    let kernels: Vec<&KernelResult> = results.kernels.iter().filter(|kernel| !kernel.cases.is_empty()).collect();
    let Some(first) = kernels.first() else { return };
    text.push_str("\n| case |");
    kernels.iter().for_each(|kernel| text.push_str(&format!(" {} |", kernel.name)));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(kernels.len()));
    // Every kernel has the same cases, since the guest is the same binary.
    for case in &first.cases {
        let _ = write!(text, "\n| `{}` |", case.name);
        for kernel in &kernels {
            let outcome = kernel.cases.iter().find(|other| other.name == case.name).map(|other| &other.outcome);
            let _ = write!(text, " {} |", outcome.map_or("", |outcome| outcome.word()));
        }
    }
    text.push('\n');
}

fn reasons(results: &Results, text: &mut String) {
    let mut heading = "\n## Reasons\n\n";
    for kernel in &results.kernels {
        for case in &kernel.cases {
            if let Some(reason) = case.outcome.reason() {
                text.push_str(std::mem::take(&mut heading));
                let _ = writeln!(text, "* {} `{}` {}: {}", kernel.name, case.name, case.outcome.word(), escape(reason));
            }
        }
    }
}

/// A reason may hold several lines and bars, which would end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::kernel;
    use super::*;
    use crate::protocol::Outcome;

    #[test]
    fn every_case_has_a_row_and_every_reason_a_line() {
        let outcomes = [Outcome::Pass, Outcome::Fail("a | b\nc".into())];
        let text = render(&Results::new(vec![
            kernel("5.10", Status::Ran, &outcomes),
            KernelResult::unavailable("6.6", "gone".into()),
        ]));
        assert!(text.contains("\n| `area::case1` | fail |\n"), "{text}");
        assert!(text.contains("* 5.10 `area::case1` fail: a \\| b<br>c\n"), "{text}");
        assert!(text.contains("| 6.6 |  |  | unavailable: gone | 0.0 |"), "{text}");
    }
}
