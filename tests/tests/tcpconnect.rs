//! The programs of `bpfkit tcpconnect` for other kernels, made and checked without any.

use std::path::{Path, PathBuf};

use bpfkit::cli::{Cli, Command};
use bpfkit::tcpconnect::{Args, Probe};
use bpfkit_asm::{Version, list};
use bpfkit_btf::Btf;
use bpfkit_loader::Target;
use clap::Parser;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn args(flags: &str) -> Args {
    let Command::Tcpconnect(args) =
        Cli::try_parse_from(["bpfkit", "tcpconnect"].into_iter().chain(flags.split_whitespace())).unwrap().command;
    args
}

/// Every version of the matrix, and the fixture whose types stand in for its own.
const VERSIONS: [(u16, u16, &str); 17] = [
    (4, 18, "5.10"),
    (4, 19, "5.10"),
    (5, 4, "5.10"),
    (5, 5, "5.10"),
    (5, 10, "5.10"),
    (5, 15, "5.10"),
    (6, 1, "6.12"),
    (6, 6, "6.12"),
    (6, 12, "6.12"),
    (6, 16, "6.12"),
    (6, 17, "6.12"),
    (6, 18, "6.12"),
    (6, 19, "6.12"),
    (7, 0, "7.2"),
    (7, 1, "7.2"),
    (7, 2, "7.2"),
    (7, 3, "7.2"),
];

const FLAGS: [&str; 14] = [
    "",
    "-p 1",
    "-P 80",
    "-P 80,443,8080",
    "-u 0",
    "-u 4294967295",
    "-4",
    "-6",
    "-L",
    "-c",
    "-c -s",
    "-C /sys/fs/cgroup",
    "--cgroupmap /x --mntnsmap /y",
    "-p 1 -u 2 -P 3 -6 -L -C /c --cgroupmap /x --mntnsmap /y",
];

fn target(major: u16, minor: u16, types: &str) -> Target {
    let btf = Btf::from_file(fixture(&format!("btf/{types}.btf"))).unwrap();
    Target::offline(Some(btf), Version::new(major, minor))
}

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    let mut checked = 0;
    for (major, minor, types) in VERSIONS {
        let target = target(major, minor, types);
        for flags in FLAGS {
            for probe in [Probe::Kprobe, Probe::Fentry, Probe::Tracepoint] {
                if probe == Probe::Fentry && (major, minor) < (5, 5) {
                    continue;
                }
                for program in args(flags).programs(&target, probe).unwrap() {
                    let linked = program.link(&target).unwrap();
                    linked.check(&target).unwrap_or_else(|error| panic!("{major}.{minor} {flags} {probe:?}: {error}"));
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}

/// One port more than instructions fit before Linux 5.2 is told, and not loaded to see what happens.
#[test]
fn too_many_ports_for_an_old_kernel_are_told_so() {
    let ports: Vec<String> = (1..=4100).map(|port: u16| port.to_string()).collect();
    let args = args(&format!("-P {}", ports.join(",")));
    let check = |target: &Target| {
        let programs = args.programs(target, Probe::Kprobe).unwrap();
        programs.iter().try_for_each(|program| program.link(target)?.check(target))
    };
    let error = check(&target(4, 18, "5.10")).unwrap_err().to_string();
    assert!(error.contains("more than the 4096 before Linux 5.2"), "{error}");
    check(&target(5, 4, "5.10")).unwrap();
}

#[test]
fn listings_are_the_committed_ones() {
    for (kernel, (major, minor)) in [("5.10", (5, 10)), ("7.2", (7, 2)), ("4.18", (4, 18))] {
        let target = target(major, minor, if kernel == "7.2" { "7.2" } else { "5.10" });
        let mut text = String::new();
        for (flags, probe) in
            [("-P 80", Probe::Kprobe), ("", Probe::Fentry), ("-L", Probe::Tracepoint), ("-c -6", Probe::Kprobe)]
        {
            if probe == Probe::Fentry && kernel == "4.18" {
                continue;
            }
            for program in args(flags).programs(&target, probe).unwrap() {
                text.push_str(&format!("{} {flags:?}: {}\n", program.name, program.attach));
                let linked = program.link(&target).unwrap();
                for line in list(linked.insns(), &linked) {
                    text.push_str(&format!("{:>4}: {line}\n", line.slot));
                }
            }
        }
        let path = fixture(&format!("listings/tcpconnect-{kernel}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).expect("BLESS=1 writes it");
        for (ours, committed) in text.lines().zip(committed.lines()) {
            assert_eq!(ours, committed, "{kernel}");
        }
        assert_eq!(text.lines().count(), committed.lines().count());
    }
}

/// clang's have 32 at entry and 171 at return.
#[test]
fn programs_are_shorter_than_those_of_a_compiler() {
    let target = target(6, 12, "6.12");
    for program in args("").programs(&target, Probe::Kprobe).unwrap() {
        let length = program.link(&target).unwrap().insns().len();
        let most = if program.name.ends_with("_r") { 60 } else { 32 };
        assert!(length <= most, "{} has {length} instructions", program.name);
    }
}

#[test]
fn without_types_the_tracepoint_still_needs_to_know_its_record_and_says_so() {
    let target = Target::offline(None, Version::new(4, 18));
    let error = args("").programs(&target, Probe::Tracepoint).map(drop).unwrap_err();
    assert!(bpfkit::Chain(&error).to_string().contains("--btf"), "{error}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_touched() {
    for (flags, part) in [
        ("-P 80,x", "'x'"),
        ("-P 70000", "70000"),
        ("-P 0", "0"),
        ("-p 0", "0"),
        ("-4 -6", "cannot be used with"),
        ("-s", "--count"),
        ("--duration 0", "more than nothing"),
        ("--probe ebpf", "kprobe"),
        ("--without nothing", "no such feature"),
        ("--kernel 5.10", "--ebpf"),
    ] {
        let words = ["bpfkit", "tcpconnect"].into_iter().chain(flags.split_whitespace());
        let error = Cli::try_parse_from(words).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{flags}: {error}");
    }
}
