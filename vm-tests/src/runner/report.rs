//! Showing results: on the terminal, and as Markdown, JSON and JUnit XML in the work directory.

mod junit;
mod markdown;
#[cfg(test)]
mod schema;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::protocol::Outcome;

use super::results::{CaseResult, KernelResult, Results, Status};

/// Writes `results.md`, `results.json` (see `results.schema.json`) and `junit.xml` into `directory`.
///
/// # Errors
/// A file that cannot be written.
pub fn write(directory: &Path, results: &Results) -> Result<(), String> {
    let json = serde_json::to_string_pretty(results).map_err(|error| format!("results as JSON: {error}"))?;
    for (name, text) in [
        ("results.json", json + "\n"),
        ("results.md", markdown::render(results)),
        ("junit.xml", junit::render(results)),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// One line for a kernel as soon as it is over.
pub fn line(kernel: &KernelResult) -> String {
    let release = kernel.release.as_deref().unwrap_or("-");
    match &kernel.status {
        Status::Ran => format!(
            "{:<8} {release:<30} {} ({:.1} s, up after {:.1} s, {:.1} s of CPU)",
            kernel.name,
            kernel.totals(),
            kernel.seconds,
            kernel.boot_seconds,
            kernel.cpu_seconds
        ),
        Status::Broken(reason) => format!("{:<8} {release:<30} broken: {reason}", kernel.name),
        Status::Unavailable(reason) => format!("{:<8} {release:<30} unavailable: {reason}", kernel.name),
    }
}

/// How long it all took, and how much of the processors' time the guests had.
pub fn time(results: &Results, building: Duration, guests: Duration) -> String {
    let cpu: f64 = results.kernels.iter().map(|kernel| kernel.cpu_seconds).sum();
    let (building, guests) = (building.as_secs(), guests.as_secs());
    format!("{building} s for the programs, {} min {} s for the guests ({cpu:.0} s of CPU)", guests / 60, guests % 60)
}

/// The table of areas and kernels, or of cases and kernels when `all` is to be seen, then every skip and failure with its reason and the kernels it has in common.
pub fn terminal(results: &Results, all: bool) -> String {
    let mut text = String::new();
    table(results, all, &mut text);
    for word in ["skip", "fail"] {
        for ((case, reason), kernels) in by_reason(results, word) {
            let _ = writeln!(text, "{word} {case} on {}: {}", kernels.join(", "), reason.replace('\n', "\n    "));
        }
    }
    for kernel in &results.kernels {
        not_run(kernel, &mut text);
        for note in &kernel.notes {
            let _ = writeln!(text, "note on {}: {note}", kernel.name);
        }
        if !kernel.console.is_empty() {
            let _ = writeln!(text, "the console of {} ended with\n    {}", kernel.name, kernel.console.join("\n    "));
        }
    }
    text
}

/// Cases that a VM's end kept from running have that one reason, so they are only counted.
fn not_run(kernel: &KernelResult, text: &mut String) {
    let reasons: Vec<&str> = kernel
        .cases
        .iter()
        .filter(|case| matches!(case.outcome, Outcome::NotRun(_)))
        .filter_map(|case| case.outcome.reason())
        .collect();
    if let Some(reason) = reasons.first() {
        let _ = writeln!(text, "fail: {} cases were not run on {}: {reason}", reasons.len(), kernel.name);
    }
}

/// One column a kernel that has cases, one row an area or a case: `12` passed, `11+1s` one skipped, `10+2F` two failed. A row of
/// one case has its word.
fn table(results: &Results, all: bool, text: &mut String) {
    let kernels: Vec<&KernelResult> = results.kernels.iter().filter(|kernel| !kernel.cases.is_empty()).collect();
    let row_of = |case: &'_ CaseResult| if all { case.name.clone() } else { area(&case.name).to_owned() };
    let mut rows: Vec<String> = kernels.iter().flat_map(|kernel| kernel.cases.iter().map(row_of)).collect();
    rows.sort_unstable();
    rows.dedup();
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(String::len).max().unwrap_or(0);
    let _ = write!(text, "\n{:width$}", "");
    for kernel in &kernels {
        let _ = write!(text, " {:>8}", kernel.name);
    }
    for row in rows {
        let _ = write!(text, "\n{row:width$}");
        for kernel in &kernels {
            let cases = kernel.cases.iter().filter(|case| row_of(case) == row);
            let cell = if all { cases.map(|case| case.outcome.word()).collect() } else { cell(cases) };
            let _ = write!(text, " {cell:>8}");
        }
    }
    text.push_str("\n\n");
}

fn cell<'a>(cases: impl Iterator<Item = &'a CaseResult>) -> String {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in cases {
        match case.outcome {
            Outcome::Pass => passed += 1,
            Outcome::Skip(_) => skipped += 1,
            Outcome::Fail(_) | Outcome::NotRun(_) => failed += 1,
        }
    }
    let mut cell = passed.to_string();
    for (count, letter) in [(skipped, 's'), (failed, 'F')] {
        if count > 0 {
            let _ = write!(cell, "+{count}{letter}");
        }
    }
    cell
}

/// `loader` of `loader::kprobe`.
pub(super) fn area(case: &str) -> &str {
    case.split_once("::").map_or(case, |(area, _)| area)
}

/// The cases that ended so, by case and reason.
fn by_reason<'a>(results: &'a Results, word: &str) -> BTreeMap<(&'a str, &'a str), Vec<&'a str>> {
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for kernel in &results.kernels {
        for case in kernel.cases.iter().filter(|case| case.outcome.word() == word) {
            found.entry((&case.name, case.outcome.reason().unwrap_or_default())).or_default().push(&kernel.name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::kernel;
    use super::*;

    #[test]
    fn the_table_counts_and_the_reasons_are_shared() {
        let outcomes = [Outcome::Pass, Outcome::Skip("no BTF".into()), Outcome::Fail("one\ntwo".into())];
        let results = Results::new(vec![
            kernel("5.4", Status::Ran, &outcomes),
            kernel("5.10", Status::Ran, &outcomes),
            KernelResult::unavailable("6.6", "gone".into()),
        ]);
        let text = terminal(&results, false);
        assert!(text.contains("\n          5.4     5.10\narea  1+1s+1F  1+1s+1F\n"), "{text}");
        let full = terminal(&results, true);
        assert!(full.contains("\narea::case0     pass     pass\narea::case1     skip     skip\n"), "{full}");
        assert!(text.contains("skip area::case1 on 5.4, 5.10: no BTF\n"), "{text}");
        assert!(text.contains("fail area::case2 on 5.4, 5.10: one\n    two\n"), "{text}");
        let hung = kernel("5.4", Status::Ran, &[Outcome::NotRun("hang".into()), Outcome::NotRun("hang".into())]);
        assert!(terminal(&Results::new(vec![hung]), false).contains("fail: 2 cases were not run on 5.4: hang\n"));
        assert!(line(&results.kernels[2]).contains("unavailable: gone"));
        assert!(line(&results.kernels[0]).contains("1 passed, 1 failed, 1 skipped"));
        let time = time(&results, Duration::from_millis(7_400), Duration::from_secs(601));
        assert_eq!(time, "7 s for the programs, 10 min 1 s for the guests (3 s of CPU)");
    }
}
