//! What the documents name is there: files, commands, and what the code calls so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bpfkit::cli::Cli;

/// The documents that name files. The chapters of docs/learn have a test of their own.
const DOCUMENTS: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "fuzz/README.md",
    "vm-tests/README.md",
];

/// What stands at the root of the tree, and so begins the path of a file.
const ROOTS: [&str; 11] =
    [".cargo", ".ci", "asm", "benches", "btf", "docs", "fuzz", "loader", "tests", "tools", "vm-tests"];

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(tree().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Adds the files below a directory, without what is built and what is not of this project.
fn add_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            add_files(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// The words of a document that can be parts of paths.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_./*{},-".contains(c);
    text.split(move |c| !is_part(c)).map(|word| word.trim_end_matches(['.', ',', '/', '*', '-']))
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let parts = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (among, after))) = parts else { return vec![path.to_owned()] };
    among.split(',').map(|one| format!("{before}{one}{after}")).collect()
}

/// A path without the parts that stand for others, which are in capitals: `fuzz/TARGET-WHAT`.
fn without_placeholders(path: &str) -> PathBuf {
    let stands_for_others = |part: &&str| {
        part.split('-').next().is_some_and(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase()))
    };
    path.split('/').take_while(|part| !stands_for_others(part)).collect()
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut files = Vec::new();
    add_files(&tree(), &mut files);
    // What runs write is in nobody's checkout.
    let written: Vec<String> = read("fuzz/.gitignore").lines().map(|line| format!("fuzz{line}")).collect();
    let mut named = 0;
    for document in DOCUMENTS {
        for path in words(&read(document)).flat_map(alternatives) {
            let first = path.split('/').next().unwrap_or_default();
            if path.contains('/') && ROOTS.contains(&first) {
                named += 1;
                let is_written = written.iter().any(|written| path.starts_with(written));
                assert!(is_written || tree().join(without_placeholders(&path)).exists(), "{document}: {path}");
            } else if path.ends_with(".rs") && path != ".rs" {
                named += 1;
                assert!(files.iter().any(|file| file.ends_with(&path)), "{document}: {path}");
            }
        }
    }
    assert!(named > 50, "{named}");
}

/// The words in `marks` of a text that can be names of Rust's: types, and what is in them or in a module.
fn names(text: &str) -> BTreeSet<&str> {
    let marked = text.split('`').skip(1).step_by(2).filter(|marked| !marked.contains('\n'));
    let paths = marked.map(|marked| marked.split(['(', '!']).next().unwrap_or_default());
    let is_path = |path: &&str| {
        let is_type =
            path.starts_with(|c: char| c.is_ascii_uppercase()) && path.contains(|c: char| c.is_ascii_lowercase());
        (is_type || path.contains("::")) && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    paths.filter(is_path).flat_map(|path| path.split("::")).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_type_and_function_that_the_architecture_names_is_there() {
    let mut files = Vec::new();
    add_files(&tree(), &mut files);
    let mut known = BTreeSet::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(file).unwrap();
        known.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
        known.extend(file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    let text = read("ARCHITECTURE.md");
    let names = names(&text);
    assert!(names.len() > 40, "{names:?}");
    let unknown: Vec<_> = names.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_command_line_in_the_readme_is_one() {
    let text = read("README.md");
    let mut count = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
        let Some(at) = line.find("bpfkit ").filter(|at| {
            let before = &line[..*at];
            *at == 0
                || before.ends_with("$ ")
                || before.ends_with("# ")
                || before.ends_with("; ")
                || before.ends_with("| ")
        }) else {
            continue;
        };
        // Nothing of what the shell does with it.
        let command = line[at..].split(['|', '>', ')', '#']).next().unwrap_or_default();
        // A path with another mark in it is in quotation marks, as is a field with an alternative.
        let whole = if command.matches('\'').count() % 2 == 1 { &line[at..] } else { command };
        let arguments = whole.split_whitespace().map(|word| word.trim_matches('\''));
        count += 1;
        let read = Cli::read(arguments.map(str::to_owned).collect::<Vec<_>>());
        assert!(read.is_ok(), "{line}: {}", read.err().map(|error| error.to_string()).unwrap_or_default());
    }
    assert!(count > 25, "{count}");
}
