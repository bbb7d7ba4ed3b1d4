//! The listings of docs/learn are what the commands above them print.

use std::fs;
use std::path::{Path, PathBuf};

use bpfkit_tests::programs::{fixture, printed};

fn chapters() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/learn");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).expect("docs/learn").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    files
}

/// The words of a command, with the files that it names where they are, and for the kernel of the listings.
fn line(command: &str) -> String {
    let types = |name: &str| fixture(&format!("btf/{name}")).display().to_string();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut words: Vec<String> = Vec::new();
    for word in command.split_whitespace() {
        words.push(match word.strip_suffix(".btf").map(|name| name.rsplit_once('=').unwrap_or(("", name))) {
            Some(("", name)) => types(&format!("{name}.btf")),
            Some((before, name)) => format!("{before}={}", types(&format!("{name}.btf"))),
            None if word.starts_with("docs/") => root.join(word).display().to_string(),
            None => word.to_owned(),
        });
    }
    if words[0] == "dump" {
        words.extend(["--kernel".to_owned(), "6.12".to_owned(), "--btf".to_owned(), types("6.12.btf")]);
    }
    words.join(" ")
}

/// The part of a listing that a chapter shows: all, the first lines, or some slots with what is said of them.
fn part(text: &str, wanted: &str) -> String {
    let slot = |line: &str| line.trim_start().split_once(": ")?.0.parse::<usize>().ok();
    let lines: Vec<&str> = if let Some(count) = wanted.strip_prefix("head=") {
        text.lines().take(count.parse().expect("a number of lines")).collect()
    } else if let Some(range) = wanted.strip_prefix("slots=") {
        let (first, last) = range.split_once('-').expect("slots=FIRST-LAST");
        let (first, last): (usize, usize) = (first.parse().expect("a slot"), last.parse().expect("a slot"));
        let from = text.lines().skip_while(|line| slot(line) != Some(first));
        let lines: Vec<&str> = from.take_while(|line| slot(line).is_none_or(|slot| slot <= last)).collect();
        assert!(!lines.is_empty(), "there is no slot {first}");
        // A label belongs to the slot below it.
        let end = lines.iter().rposition(|line| !line.ends_with(':') && !line.is_empty()).map_or(0, |last| last + 1);
        lines[..end].to_vec()
    } else {
        text.trim_end().lines().collect()
    };
    lines.into_iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A chapter with its listings made anew.
fn renewed(text: &str) -> (String, usize) {
    let mut out = String::new();
    let mut lines = text.lines();
    let mut count = 0;
    while let Some(line_of_text) = lines.next() {
        out.push_str(line_of_text);
        out.push('\n');
        let Some(wanted) = line_of_text.strip_prefix("```console") else { continue };
        let prompt = lines.next().expect("a command");
        let command = prompt.strip_prefix("$ bpfkit ").unwrap_or_else(|| panic!("{prompt} is no command of bpfkit"));
        let listing = printed(&line(command)).unwrap_or_else(|error| panic!("{prompt}: {error}"));
        let files = fixture("btf").display().to_string();
        out.push_str(&format!("{prompt}\n{}```\n", part(&listing, wanted.trim()).replace(&format!("{files}/"), "")));
        lines.find(|line| *line == "```").expect("the end of the listing");
        count += 1;
    }
    (out, count)
}

#[test]
fn every_listing_is_what_its_command_prints() {
    let mut listings = 0;
    for path in chapters() {
        let text = fs::read_to_string(&path).expect("a chapter");
        let (new, count) = renewed(&text);
        listings += count;
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, new).expect("chapters can be written");
        } else {
            for (old, new) in text.lines().zip(new.lines()) {
                assert_eq!(old, new, "{}: BLESS=1 writes it", path.display());
            }
            assert_eq!(text.lines().count(), new.lines().count(), "{}", path.display());
        }
    }
    assert!(listings > 15, "{listings}");
}

/// Links between the chapters go to chapters.
#[test]
fn links_lead_somewhere() {
    for path in chapters() {
        let text = fs::read_to_string(&path).expect("a chapter");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            assert!(path.with_file_name(link).exists(), "{}: {link}", path.display());
        }
    }
}
