//! The lessons in `docs/learn`: every listing in them is what `bpfkit` prints, every program runs, every command is one.
//!
//! What stands behind the three marks of a block says what it is:
//!
//! | | |
//! |---|---|
//! | `bpf FILE` | a text for `bpfkit asm`, which later blocks call by its name |
//! | `asm FILE FLAGS` | what `bpfkit asm FILE FLAGS` lists |
//! | `run FILE FLAGS` | what `bpfkit asm FILE --run FLAGS` prints, or what it fails with; times are not compared |
//! | `verifier FILE` | what `bpfkit asm FILE --verifier` lists |
//! | `dump TOOL FLAGS` | what `bpfkit dump` lists for a kernel, with the types of a fixture |
//! | `sh` | commands for the reader |
//!
//! A listing may be cut: `from "TEXT" to "TEXT"` takes the lines from the first with one text to the next with the other. `bytes` keeps
//! the bytes of instructions. `BLESS=1` writes all of them; what the kernel says only where it can be asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bpfkit::Chain;
use bpfkit::cli::Cli;
use bpfkit_tests::programs::{KERNELS, fixture, printed};

/// Where the tree is.
fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A block of a lesson.
#[derive(Clone, Debug)]
struct Block {
    /// The words behind the marks.
    info: String,
    text: String,
}

/// The chapters by name.
fn chapters() -> BTreeMap<String, String> {
    let files = fs::read_dir(tree().join("docs/learn")).unwrap().map(|file| file.unwrap().path());
    let named = files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), file));
    named.map(|(name, file)| (name, fs::read_to_string(file).unwrap())).collect()
}

/// The blocks of a chapter, each of which `make` may replace; the chapter with what it made.
fn blocks(chapter: &str, mut make: impl FnMut(&Block) -> Option<String>) -> String {
    let mut made = String::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        made.push_str(&format!("{line}\n"));
        let Some(info) = line.strip_prefix("```") else { continue };
        let text: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        let block = Block { info: info.to_owned(), text };
        made.push_str(&make(&block).unwrap_or(block.text));
        made.push_str("```\n");
    }
    made
}

/// Makes each block of all chapters again, and compares it with what is there, or writes it.
fn check(mut make: impl FnMut(&Path, &Block) -> Option<String>) {
    // Two tests may write the same chapters.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, chapter) in chapters() {
        // A chapter's texts are files beside each other, as the reader has them.
        let directory = tempfile::tempdir().unwrap();
        let made = blocks(&chapter, |block| {
            if let Some(file) = block.info.strip_prefix("bpf ") {
                fs::write(directory.path().join(file), &block.text).unwrap();
            }
            make(directory.path(), block)
        });
        if std::env::var_os("BLESS").is_some() {
            fs::write(tree().join("docs/learn").join(&name), &made).unwrap();
        }
        for (line, (ours, written)) in made.lines().zip(chapter.lines()).enumerate() {
            assert!(ours == written || std::env::var_os("BLESS").is_some(), "{name}:{}\n{ours}\n{written}", line + 1);
        }
        assert!(made == chapter || std::env::var_os("BLESS").is_some(), "{name}: one is longer");
    }
}

/// The value of a word in an info such as `to "exit"`, and the info without both.
fn taken(info: &str, word: &str) -> (String, Option<String>) {
    let Some((before, rest)) = info.split_once(&format!(" {word} \"")) else { return (info.to_owned(), None) };
    let (value, after) = rest.split_once('"').expect("a text ends");
    (format!("{before}{after}"), Some(value.to_owned()))
}

/// The listing that a command prints for a kernel, as a lesson shows it.
fn listing(info: &str, line: &str) -> String {
    let (line, from) = taken(line, "from");
    let (line, to) = taken(&line, "to");
    let bytes = line.ends_with(" bytes");
    let mut line = line.trim_end_matches(" bytes").to_owned();
    if !line.contains("--verifier") {
        if !line.contains("--kernel") {
            line.push_str(" --kernel 5.10");
        }
        let version = line.split_once("--kernel ").unwrap().1.split(' ').next().unwrap();
        let (_, types) = KERNELS.iter().find(|(known, _)| known.to_string() == version).expect(version);
        line.push_str(&format!(" --btf {}", fixture(&format!("btf/{types}.btf")).display()));
    }
    let text = printed(&line).unwrap_or_else(|error| panic!("{info}: {}", Chain(&error)));
    let shown: Vec<String> = text.lines().filter_map(|line| shown(line, bytes)).collect();
    // What is said of an instruction belongs to it.
    let is_more = |line: &&String| line.starts_with("        ");
    let find = |from: usize, text: &str| {
        let found = shown[from..].iter().position(|line| line.contains(text) && !is_more(&line));
        from + found.unwrap_or_else(|| panic!("{info}: no line has {text}"))
    };
    let start = from.as_deref().map_or(0, |from| find(0, from));
    let end = to.as_deref().map_or(shown.len(), |to| {
        let last = find(start, to);
        last + 1 + shown[last + 1..].iter().take_while(is_more).count()
    });
    shown[start..end].iter().map(|line| format!("{line}\n")).collect()
}

/// A line of a listing without what changes with the tools' sources, and with what fits a page: the place of the source, prototypes,
/// the bytes unless they are asked for.
fn shown(line: &str, with_bytes: bool) -> Option<String> {
    let trimmed = line.trim_start();
    if let Some((slot, rest)) = trimmed.split_once(": ").filter(|(slot, _)| slot.parse::<usize>().is_ok()) {
        let (bytes, rest) = rest.split_at(16);
        let column = if with_bytes { format!("{bytes}  ") } else { String::new() };
        if rest.is_empty() {
            return with_bytes.then(|| format!("{slot:>4}: {bytes}"));
        }
        let (notation, source) = rest.trim_start().split_once(" ; ").unwrap_or((rest.trim_start(), ""));
        let notation = notation.trim_end();
        let source = source.split_once("  ").map_or("", |(_, text)| text);
        let (source, filled) = source.split_once("  [").unwrap_or((source, ""));
        let filled = if filled.is_empty() || filled.contains('(') { String::new() } else { format!("  [{filled}") };
        let plain = |text: &str| text.split('#').next().unwrap_or_default().replace(' ', "");
        let is_same = notation.split_once(") ").is_some_and(|(_, text)| plain(text) == plain(source));
        let source = if is_same && filled.is_empty() { String::new() } else { format!(" ; {source}{filled}") };
        return Some(format!("{slot:>4}: {column}{notation:<40}{source}").trim_end().to_owned());
    }
    match trimmed {
        "" => None,
        _ if trimmed.starts_with("// ") => None,
        _ if trimmed.starts_with("| ") || trimmed.starts_with("> ") => Some(format!("        {trimmed}")),
        _ if trimmed.starts_with("-- ") => Some(format!("          {trimmed}")),
        _ if line.starts_with("        ") => Some(format!("             {trimmed}")),
        _ => Some(line.to_owned()),
    }
}

#[test]
fn every_listing_is_what_is_printed() {
    let mut count = 0;
    check(|directory, block| {
        let line = match block.info.split_once(' ') {
            Some(("dump", rest)) => format!("dump {rest}"),
            Some(("asm", rest)) => format!("asm {}", directory.join(rest).display()),
            _ => return None,
        };
        count += 1;
        Some(listing(&block.info, &line))
    });
    assert!(count > 15, "{count}");
}

/// What the kernel says of the programs in the lessons.
#[test]
fn every_program_does_what_is_said() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"])) {
        println!("skipped: it takes root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let smallest = directory.path().join("smallest.bpf");
    fs::write(&smallest, "r0 = 0; exit;").unwrap();
    if let Err(error) = printed(&format!("asm {} --run", smallest.display())) {
        println!("skipped: {}", Chain(&error));
        return;
    }
    // Other kernels say the same in other words: there the programs run, or are refused, as they are here.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_this_kernel = release.starts_with("6.18.");
    check(|directory, block| {
        if let Some(rest) = block.info.strip_prefix("verifier ") {
            let (file, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let line = format!("asm {} --verifier {rest}", directory.join(file).display());
            return Some(if is_this_kernel {
                listing(&block.info, &line)
            } else {
                printed(&line).unwrap_or_else(|error| panic!("{}: {}", block.info, Chain(&error)));
                block.text.clone()
            });
        }
        let rest = block.info.strip_prefix("run ")?;
        let path = directory.join(rest);
        let said = printed(&format!("asm {} --run", path.display()));
        let said = said.unwrap_or_else(|error| format!("bpfkit: {}\n", Chain(&error)));
        let said = said.replace(&format!("{}/", directory.display()), "");
        let is_refused = |text: &str| text.starts_with("bpfkit: ");
        let is_same = if is_this_kernel {
            without_times(&said) == without_times(&block.text)
        } else {
            is_refused(&said) == is_refused(&block.text)
        };
        Some(if is_same { block.text.clone() } else { said })
    });
}

/// How long a program ran is different each time.
fn without_times(text: &str) -> String {
    let is_time = |word: &&str| word.parse::<u64>().is_err();
    text.lines().map(|line| line.split(' ').filter(is_time).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn every_command_is_one_and_what_needs_no_kernel_works() {
    let mut count = 0;
    for (name, chapter) in chapters() {
        let directory = tempfile::tempdir().unwrap();
        blocks(&chapter, |block| {
            if let Some(file) = block.info.strip_prefix("bpf ") {
                fs::write(directory.path().join(file), &block.text).unwrap();
            }
            for line in block.text.lines().filter(|_| block.info == "sh") {
                // `echo '...' | sudo bpfkit asm - --run    # a remark`
                let command = line.split("  #").next().unwrap().split('|').find(|part| part.contains("bpfkit "));
                let Some((_, words)) = command.and_then(|command| command.split_once("bpfkit ")) else { continue };
                // What stands between single quotation marks is one word.
                let parts = words.split('\'').enumerate();
                let words: Vec<&str> = parts
                    .flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
                    .collect();
                let cli = Cli::read(["bpfkit"].iter().chain(&words));
                cli.unwrap_or_else(|error| panic!("{name}: {line}\n{error}"));
                count += 1;
                let needs_kernel = ["--run", "--verifier", "--jited", "--id", "--name", "--all", "--diff", "-o"];
                let is_offline = words[0] == "dump" && !words.iter().any(|word| needs_kernel.contains(word));
                if is_offline && !words.contains(&"--kernel") {
                    let types = fixture("btf/5.10.btf");
                    let line = format!("{} --kernel 5.10 --btf {}", words.join(" "), types.display());
                    printed(&line).unwrap_or_else(|error| panic!("{name}: {line}: {}", Chain(&error)));
                }
            }
            None
        });
    }
    assert!(count > 12, "{count}");
}

#[test]
fn links_between_chapters_lead_somewhere() {
    let readme = fs::read_to_string(tree().join("README.md")).unwrap();
    assert!(readme.contains("](docs/learn/README.md)"));
    let chapters = chapters();
    assert_eq!(chapters.len(), 7);
    for (name, chapter) in &chapters {
        for link in chapter.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(tree().join("docs/learn").join(link).exists(), "{name}: {link}");
        }
        // Each is reached from the first page.
        assert!(name == "README.md" || chapters["README.md"].contains(&format!("]({name})")), "{name}");
    }
}
