//! The programs of the tools for kernels that are not here.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use bpfkit::Output;
use bpfkit::cli::Cli;
use bpfkit::dump::Subject;
use bpfkit::roots::ROOTS;
use bpfkit_asm::{Version, list};
use bpfkit_btf::Btf;
use bpfkit_loader::{ProgSpec, Target};

/// Every version of the matrix, and the fixture whose types stand in for its own.
pub const KERNELS: [(Version, &str); 17] = [
    (Version::new(4, 18), "5.10"),
    (Version::new(4, 19), "5.10"),
    (Version::new(5, 4), "5.10"),
    (Version::new(5, 5), "5.10"),
    (Version::new(5, 10), "5.10"),
    (Version::new(5, 15), "5.10"),
    (Version::new(6, 1), "6.12"),
    (Version::new(6, 6), "6.12"),
    (Version::new(6, 12), "6.12"),
    (Version::new(6, 16), "6.12"),
    (Version::new(6, 17), "6.12"),
    (Version::new(6, 18), "6.12"),
    (Version::new(6, 19), "6.12"),
    (Version::new(7, 0), "7.2"),
    (Version::new(7, 1), "7.2"),
    (Version::new(7, 2), "7.2"),
    (Version::new(7, 3), "7.2"),
];

/// A file below `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A kernel of this version with the types of a fixture.
///
/// # Panics
/// Where there is no such fixture.
pub fn target(version: Version, types: &str) -> Target {
    let btf = Btf::from_file(fixture(&format!("btf/{types}.btf"))).expect("a fixture");
    Target::offline(Some(btf), version)
}

/// The command of a line such as `tcpconnect -P 80`.
///
/// # Errors
/// What the command line says of wrong usage.
pub fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::read(["bpfkit"].into_iter().chain(line.split_whitespace()))
}

/// Checks that each of the lines is wrong usage, and that what is said of it has the part beside it.
///
/// # Panics
/// Where one is taken, or where what is said lacks the part.
pub fn check_refused(tool: &str, lines: &[(&str, &str)]) {
    for (flags, part) in lines {
        let error = parse(&format!("{tool} {flags}")).map(drop).expect_err(flags).to_string();
        assert!(error.contains(part), "{tool} {flags}: {error}");
    }
}

/// The programs of a line such as `tcpconnect -P 80`.
///
/// # Errors
/// What the tool says.
///
/// # Panics
/// Where the line is no tool's.
pub fn programs(line: &str, target: &Target) -> Result<Vec<ProgSpec>, bpfkit::Error> {
    let command = parse(line).unwrap_or_else(|error| panic!("{error}")).command;
    command.tool().unwrap_or_else(|| panic!("{line}: no tool")).programs(target)
}

/// What a line such as `dump tcpconnect` prints.
///
/// # Errors
/// What the command says.
///
/// # Panics
/// Where the line is wrong usage, or what is printed is no text.
pub fn printed(line: &str) -> Result<String, bpfkit::Error> {
    let mut file = tempfile::tempfile().expect("a file without a name");
    let command = parse(line).unwrap_or_else(|error| panic!("{error}")).command;
    let mut output = Output::file(file.try_clone().expect("another handle of it"));
    command.run(&mut output)?;
    output.flush()?;
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("text");
    Ok(text)
}

/// What `bpfkit dump` looks at for a line such as `tcpconnect -P 80`.
///
/// # Errors
/// What the tool says.
///
/// # Panics
/// Where the line is no tool's.
pub fn subject<'a>(line: &str, target: &'a Target) -> Result<Subject<'a>, bpfkit::Error> {
    let command = parse(line).unwrap_or_else(|error| panic!("{error}")).command;
    Subject::of(command.tool().unwrap_or_else(|| panic!("{line}: no tool")), target)
}

/// Makes the programs of all lines for all kernels from `since` on, checks each by rule, that the types they ask for are known
/// to be needed, and that the tool describes all maps that they use. How many there were.
///
/// # Panics
/// Where one cannot be made, or breaks a rule.
pub fn check_rules(since: Version, lines: &[&str]) -> usize {
    let mut checked = 0;
    for (version, types) in KERNELS.into_iter().filter(|&(version, _)| version >= since) {
        let target = target(version, types);
        for line in lines {
            let subject = subject(line, &target).unwrap_or_else(|error| panic!("{version} {line}: {error}"));
            let mut used = BTreeSet::new();
            for program in &subject.programs {
                program.check(&target).unwrap_or_else(|error| panic!("{version} {line}: {error}"));
                used.extend(program.maps().values().map(String::as_str));
                checked += 1;
            }
            let described: BTreeSet<&str> = subject.maps.iter().map(|map| map.name.as_str()).collect();
            assert!(used.is_subset(&described), "{version} {line}: maps {used:?}, described {described:?}");
        }
        for root in target.asked() {
            assert!(ROOTS.contains(&root.as_str()), "{lines:?} asks for {root}, which is not in tools/src/roots.rs");
        }
    }
    checked
}

/// Compares the listings of all lines with `fixtures/listings/NAME.txt`, which `BLESS=1` rewrites.
///
/// # Panics
/// At the first line that differs.
pub fn check_listings(name: &str, target: &Target, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        for program in programs(line, target).unwrap_or_else(|error| panic!("{line}: {error}")) {
            let _ = writeln!(text, "bpfkit {line}: {}: {}", program.name, program.attach);
            let linked = program.link(target).unwrap_or_else(|error| panic!("{line}: {error}"));
            for insn in list(linked.insns(), &linked) {
                let _ = writeln!(text, "{:>4}: {insn}", insn.slot);
            }
        }
    }
    check_file(&format!("listings/{name}.txt"), &text);
}

/// Compares a text with the file of this name below `fixtures`, which `BLESS=1` rewrites.
///
/// # Panics
/// At the first line that differs.
pub fn check_file(name: &str, text: &str) {
    let path = fixture(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("fixtures can be written");
        std::fs::write(&path, text).expect("fixtures can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("BLESS=1 writes it");
    for (ours, committed) in text.lines().zip(committed.lines()) {
        assert_eq!(ours, committed, "{name}");
    }
    assert_eq!(text.lines().count(), committed.lines().count(), "{name}");
}
