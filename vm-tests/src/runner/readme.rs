//! The table of kernels and tools in README.md, and whether a run bears it out.
//!
//! It is between two comments. A cell tells by which probes a tool worked: a tool's cases are those of the area of its name,
//! and one that is called after a value of the tool's `--probe` is about that probe. What no run on a kernel has shown is
//! `untested`; rows of kernels that did not run are left as they are.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::guest::cases;
use crate::kernels::{Image, KERNELS, Kernel};
use crate::protocol::Outcome;

use super::report::area;
use super::results::{KernelResult, Results, Status};

const BEGIN: &str = "<!-- support table: begin -->\n";
const END: &str = "<!-- support table: end -->\n";
/// The cell of a kernel on which nobody has run the cases.
const UNTESTED: &str = "untested";
/// The columns before the tools'.
const FIRST: [&str; 2] = ["Linux", "image"];

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool {
    name: String,
    /// The values of its `--probe`.
    probes: Vec<String>,
}

/// The tools that have cases, as the tool's own command line lists them.
fn tools() -> Vec<Tool> {
    let command = bpfkit::cli::Cli::whole();
    let areas: Vec<&str> = cases::selected(&[]).into_iter().map(area).collect();
    let probes = |tool: &clap::Command| {
        let probe = tool.get_arguments().find(|argument| argument.get_id() == "probe");
        let values = probe.map(clap::Arg::get_possible_values).unwrap_or_default();
        values.iter().map(|value| value.get_name().to_owned()).collect()
    };
    let tools = command.get_subcommands().map(|tool| Tool { name: tool.get_name().to_owned(), probes: probes(tool) });
    let mut tools: Vec<Tool> = tools.filter(|tool| areas.contains(&tool.name.as_str())).collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools
}

/// What a run found of a tool: the probes whose cases passed, `yes` when none of the tool's cases is about a probe, and `no`
/// when a case failed or none could run.
fn found(kernel: &KernelResult, tool: &Tool) -> String {
    let cases: Vec<_> = kernel.cases.iter().filter(|case| area(&case.name) == tool.name).collect();
    let passed: Vec<_> = cases.iter().filter(|case| case.outcome == Outcome::Pass).collect();
    if passed.is_empty() || cases.iter().any(|case| case.outcome.is_failure()) {
        return "no".to_owned();
    }
    let by =
        |probe: &&String| passed.iter().any(|case| case.name.split_once("::").is_some_and(|(_, name)| name == *probe));
    let probes: Vec<&str> = tool.probes.iter().filter(by).map(String::as_str).collect();
    if probes.is_empty() { "yes".to_owned() } else { probes.join(", ") }
}

/// The cells of the table in a text, row by row, and what is before and after it.
struct Table<'a> {
    before: &'a str,
    rows: Vec<Vec<&'a str>>,
    after: &'a str,
}

impl<'a> Table<'a> {
    fn of(readme: &'a str) -> Result<Table<'a>, String> {
        let missing = || format!("it has no table between {:?} and {:?}", BEGIN.trim(), END.trim());
        let (before, rest) = readme.split_once(BEGIN).ok_or_else(missing)?;
        let (table, after) = rest.split_once(END).ok_or_else(missing)?;
        let rows = table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
        Ok(Table { before, rows, after })
    }

    /// What is said of a tool on a kernel.
    fn cell(&self, kernel: &str, tool: &str) -> Option<&'a str> {
        let column = self.rows.first()?.iter().position(|title| *title == tool)?;
        self.rows.iter().find(|row| row.first() == Some(&kernel))?.get(column).copied()
    }
}

/// The table that a run makes of an old one.
fn render(old: &Table<'_>, tools: &[Tool], results: &Results) -> String {
    let mut text = format!("{}{BEGIN}", old.before);
    let titles = FIRST.into_iter().chain(tools.iter().map(|tool| tool.name.as_str()));
    let _ = writeln!(text, "| {} |", titles.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(FIRST.len() + tools.len()));
    for kernel in KERNELS {
        let _ = write!(text, "| {} | {} |", kernel.name, origin(kernel));
        for tool in tools {
            let cell = match ran(results, kernel.name) {
                Some(result) => found(result, tool),
                None => old.cell(kernel.name, &tool.name).unwrap_or(UNTESTED).to_owned(),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push_str(END);
    text.push_str(old.after);
    text
}

fn origin(kernel: &Kernel) -> &'static str {
    match kernel.image {
        Image::Debian { .. } => "Debian",
        Image::BringYourOwn => "bring your own",
    }
}

fn ran<'a>(results: &'a Results, name: &str) -> Option<&'a KernelResult> {
    results.kernels.iter().find(|kernel| kernel.name == name && kernel.status == Status::Ran)
}

/// Where the table of a text differs from what a run found, a line for each cell.
fn differences(readme: &str, tools: &[Tool], results: &Results) -> Result<Vec<String>, String> {
    let old = Table::of(readme)?;
    let fresh = render(&old, tools, results);
    if fresh == readme {
        return Ok(Vec::new());
    }
    let new = Table::of(&fresh)?;
    let columns = old.rows.first().cloned().unwrap_or_default();
    let (known, unknown): (Vec<_>, Vec<_>) = tools.iter().partition(|tool| columns.contains(&tool.name.as_str()));
    let mut lines: Vec<String> = unknown.iter().map(|tool| format!("it has no column for {}", tool.name)).collect();
    for kernel in KERNELS {
        for tool in &known {
            let (old, new) = (old.cell(kernel.name, &tool.name), new.cell(kernel.name, &tool.name));
            if old != new {
                let (old, new) = (old.unwrap_or("nothing"), new.unwrap_or("nothing"));
                lines.push(format!("of {} on {} it says {old:?}, the run found {new:?}", tool.name, kernel.name));
            }
        }
    }
    if lines.is_empty() {
        lines.push("its table has other rows or columns than there are kernels and tools".to_owned());
    }
    lines.push("BLESS=1 cargo vm all --check-readme writes what a run finds".to_owned());
    Ok(lines)
}

/// Where the table in README.md differs from what a run found. With BLESS=1 in the environment it is written instead.
///
/// # Errors
/// A README that cannot be read or written, or has no table.
pub fn check(root: &Path, results: &Results) -> Result<Vec<String>, String> {
    let path = root.join("README.md");
    let failed = |what: &str, error| format!("{what} {}: {error}", path.display());
    let readme = fs::read_to_string(&path).map_err(|error| failed("read", error))?;
    let tools = tools();
    if env::var_os("BLESS").is_some_and(|value| value == "1") {
        let old = Table::of(&readme).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = render(&old, &tools, results);
        fs::write(&path, text).map_err(|error| failed("write", error))?;
        return Ok(Vec::new());
    }
    differences(&readme, &tools, results).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::results::CaseResult;
    use super::super::results::tests::kernel;
    use super::*;

    fn case(name: &str, outcome: Outcome) -> CaseResult {
        CaseResult { name: name.to_owned(), outcome, millis: 1 }
    }

    fn run(name: &str, cases: Vec<CaseResult>) -> Results {
        Results::new(vec![KernelResult { cases, ..kernel(name, Status::Ran, &[]) }])
    }

    fn two_tools() -> Vec<Tool> {
        let tool = |name: &str, probes: &[&str]| Tool {
            name: name.to_owned(),
            probes: probes.iter().map(|&probe| probe.to_owned()).collect(),
        };
        vec![tool("snoop", &["kprobe", "fentry"]), tool("lat", &[])]
    }

    fn passes() -> Vec<CaseResult> {
        vec![
            case("snoop::kprobe", Outcome::Pass),
            case("snoop::kprobe_old", Outcome::Pass),
            case("snoop::fentry", Outcome::Skip("old".into())),
            case("lat::glibc", Outcome::Pass),
            case("loader::snoop", Outcome::Fail("other".into())),
        ]
    }

    #[test]
    fn readme_has_a_row_for_each_kernel_and_a_column_for_each_tool() {
        let readme = include_str!("../../../README.md");
        assert_eq!(
            differences(readme, &tools(), &Results::new(vec![])),
            Ok(vec![]),
            "BLESS=1 cargo vm all --check-readme"
        );
        let table = Table::of(readme).expect("a table");
        for kernel in KERNELS {
            for tool in tools() {
                let cell = table.cell(kernel.name, &tool.name).expect("a cell");
                let word = ["yes", "no", UNTESTED].contains(&cell);
                let probes = cell.split(", ").all(|probe| tool.probes.iter().any(|known| known == probe));
                assert!(word || probes, "{} on {}: {cell}", tool.name, kernel.name);
            }
        }
    }

    #[test]
    fn tools_and_probes_are_those_of_the_command_line() {
        let tools = tools();
        let tcpconnect = tools.iter().find(|tool| tool.name == "tcpconnect").expect("tcpconnect");
        assert_eq!(tcpconnect.probes, ["kprobe", "fentry", "tracepoint"]);
        assert!(!tools.iter().any(|tool| tool.name == "loader"), "an area that is no tool");
    }

    #[test]
    fn a_cell_names_the_probes_that_passed() {
        let tools = two_tools();
        let cells = |cases| {
            let results = run("5.10", cases);
            tools.iter().map(|tool| found(&results.kernels[0], tool)).collect::<Vec<_>>()
        };
        assert_eq!(cells(passes()), ["kprobe", "yes"]);
        let mut failing = passes();
        failing.push(case("snoop::json", Outcome::Fail("no".into())));
        assert_eq!(cells(failing), ["no", "yes"]);
        assert_eq!(cells(vec![case("lat::glibc", Outcome::Skip("no libc".into()))]), ["no", "no"]);
    }

    #[test]
    fn a_claim_that_the_run_does_not_show_is_found_and_blessing_mends_it() {
        let tools = two_tools();
        let empty = format!("# x\n{BEGIN}{END}rest\n");
        let before = render(&Table::of(&empty).expect("a table"), &tools, &run("5.10", passes()));
        assert!(before.contains("\n| 5.10 | Debian | kprobe | yes |\n"), "{before}");
        assert!(before.contains("\n| 4.18 | bring your own | untested | untested |\n"), "{before}");
        assert!(before.starts_with("# x\n") && before.ends_with("rest\n"), "{before}");
        assert_eq!(differences(&before, &tools, &run("5.10", passes())), Ok(vec![]));

        let claim = before.replace("| kprobe | yes |", "| kprobe, fentry | yes |");
        let said = differences(&claim, &tools, &run("5.10", passes())).expect("a table");
        assert_eq!(said[0], "of snoop on 5.10 it says \"kprobe, fentry\", the run found \"kprobe\"");
        assert_eq!(
            differences(&claim, &tools, &run("6.1", passes())).expect("a table").len(),
            3,
            "6.1 is untested there"
        );
        // What did not run is left alone, and so is a kernel that is not in the list or that broke down.
        for other in [
            Results::new(vec![]),
            run("my-kernel", passes()),
            Results::new(vec![kernel("5.10", Status::Broken("panic".into()), &[])]),
        ] {
            assert_eq!(differences(&claim, &tools, &other), Ok(vec![]));
        }
        let row = claim.lines().find(|line| line.starts_with("| 6.6 |")).expect("a row");
        let without = claim.replace(&format!("{row}\n"), "");
        assert!(!differences(&without, &tools, &Results::new(vec![])).expect("a table").is_empty(), "a row is missing");
        assert!(differences("no table", &tools, &Results::new(vec![])).is_err());
    }
}
