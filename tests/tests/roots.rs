//! The list of what the tools need of a kernel's types, against what their programs ask for.

use std::collections::BTreeSet;

use bpfkit::cli::Cli;
use bpfkit::roots::ROOTS;
use bpfkit_btf::{Archive, Btf, cut};
use bpfkit_tests::programs::{KERNELS, fixture, parse, programs, target};
use clap::CommandFactory;

/// Lines that make every program of every tool that looks at types.
const LINES: [&str; 15] = [
    "bpf2bpf",
    "execsnoop --probe kprobe -x -M",
    "execsnoop --probe tracepoint -x -M -P 1 --cgroupmap /x",
    "execsnoop --probe tracepoint -c /c",
    "gethostlatency",
    "icmpecho --probe kprobe",
    "icmpecho --probe fentry",
    "skbrecv --probe kprobe",
    "skbrecv --probe tracepoint",
    "tcpconnect --probe kprobe",
    "tcpconnect --probe kprobe -6 --mntnsmap /y",
    "tcpconnect --probe fentry",
    "tcpconnect --probe tracepoint -L",
    "tcpconnect --probe tracepoint -c",
    "writehist",
];

#[test]
fn the_roots_are_what_the_programs_of_all_tools_ask_for() {
    let mut asked = BTreeSet::new();
    for (version, types) in KERNELS {
        let target = target(version, types);
        for line in LINES {
            let Ok(programs) = programs(line, &target) else { continue };
            for program in programs {
                // fentry is not on every kernel.
                let _ = program.link(&target);
            }
        }
        asked.extend(target.asked());
    }
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(asked, ROOTS, "tools/src/roots.rs is the other list");
}

#[test]
fn every_tool_has_a_line() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if parse(name).is_ok_and(|cli| cli.command.tool().is_some()) {
            assert!(LINES.iter().any(|line| line.split(' ').next() == Some(name)), "{name}");
        }
    }
}

#[test]
fn a_kernel_is_kilobytes_and_many_are_tens_of_them() {
    let mut kernels = std::collections::BTreeMap::new();
    for types in ["5.10", "6.12", "7.2"] {
        let btf = Btf::from_file(fixture(&format!("btf/{types}.btf"))).unwrap();
        let cut = cut(&btf, &btf.present(ROOTS)).unwrap();
        assert!(cut.len() < 5_000, "{types}: {} bytes", cut.len());
        for build in 0..20 {
            kernels.insert(format!("{types}.0-{build}"), cut.clone());
        }
    }
    let archive = Archive::write(&kernels).unwrap();
    assert!(archive.len() < 10_000, "{} bytes", archive.len());
}

/// The programs are the same, instruction by instruction, with the whole types and with what is left of them.
#[test]
fn the_programs_of_all_tools_are_made_from_the_cut() {
    for (version, types) in KERNELS {
        let whole = target(version, types);
        let few = cut(whole.btf().unwrap(), &whole.btf().unwrap().present(ROOTS)).unwrap();
        let few = bpfkit_loader::Target::offline(Some(Btf::parse(few).unwrap()), version);
        for line in LINES {
            let listing = |target: &bpfkit_loader::Target| {
                let programs = programs(line, target).map_err(|error| error.to_string())?;
                let link = |program: bpfkit_loader::ProgSpec| Ok(program.link(target)?.insns().to_vec());
                let linked: Result<Vec<_>, bpfkit_loader::Error> = programs.into_iter().map(link).collect();
                linked.map_err(|error| error.to_string())
            };
            assert!(listing(&few) == listing(&whole), "{version} {line}");
        }
    }
}
