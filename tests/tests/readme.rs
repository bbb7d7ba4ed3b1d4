//! What README.md shows is what there is.

use std::fs;
use std::path::Path;

use bpfkit_tests::programs::{fixture, printed};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn the_program_of_ones_own_is_the_example() {
    let example = read("loader/examples/count_syscalls.rs");
    let code = example.split_once("\n\n").unwrap().1;
    assert!(read("README.md").contains(&format!("```rust\n{code}```")));
}

#[test]
fn ci_runs_the_test_commands() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in ["cargo test --workspace", "cargo vm"] {
        assert!(readme.contains(command) && ci.contains(command), "{command}");
    }
}

/// The command lines that print the same on every machine, once they are told of which kernel.
const SAMPLES: [(&str, &str); 5] = [
    ("tcpconnect --ebpf -P 80", " --kernel 6.12 --btf 6.12.btf"),
    ("dump tcpconnect -P 80 --explain", " --kernel 6.12 --btf 6.12.btf"),
    ("dump execsnoop --program exec --diff 4.18,btf=5.10.btf --diff 7.2,btf=7.2.btf", ""),
    ("dump tcpconnect --probe kprobe --kernel 5.10 --btf 5.10.btf --program v4_connect --format dot", ""),
    ("dump tcpconnect --format c", " --kernel 6.12 --btf 6.12.btf"),
];

/// What a command prints where the fixtures are in the directory.
fn output(line: &str) -> Vec<String> {
    let directory = format!("{}/", fixture("btf").display());
    let with_paths = ["5.10", "6.12", "7.2"]
        .iter()
        .fold(line.to_owned(), |line, name| line.replace(&format!("{name}.btf"), &format!("{directory}{name}.btf")));
    let text = printed(&with_paths).unwrap_or_else(|error| panic!("{line}: {}", bpfkit::Chain(&error)));
    text.replace(&directory, "").lines().map(|line| line.trim_end().replace('\t', "")).collect()
}

/// A line without the numbers of lines in sources, which change with any of those.
fn without_places(line: &str) -> String {
    let mut parts = line.split(".rs:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + ".rs:" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Each sample has lines of the output, in their order; what is left out is marked. `BLESS=1` writes the numbers of lines.
#[test]
fn the_samples_are_what_is_printed() {
    let readme = read("README.md");
    let mut made: Vec<String> = readme.lines().map(str::to_owned).collect();
    for (command, kernel) in SAMPLES {
        let start = made.iter().position(|line| *line == format!("    $ bpfkit {command}")).expect(command);
        let output = output(&format!("{command}{kernel}"));
        let mut rest = output.iter();
        for line in made[start + 1..].iter_mut().take_while(|line| line.starts_with("    ")) {
            let shown = line[4..].to_owned();
            if shown.trim().trim_matches('.').is_empty() {
                continue;
            }
            let found = rest.find(|line| without_places(line) == without_places(&shown));
            *line = format!(
                "    {}",
                found.unwrap_or_else(|| panic!("{command} does not print this, or not here:\n{shown}"))
            );
        }
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"), made.join("\n") + "\n").unwrap();
    }
}
