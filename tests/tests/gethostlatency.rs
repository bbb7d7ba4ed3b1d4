//! The programs of `bpfkit gethostlatency` for other kernels, made and checked without any, and without a C library.

use bpfkit_asm::Version;
use bpfkit_loader::{Attach, Feature, Target};
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

const FLAGS: [&str; 12] = [
    "",
    "-a",
    "-x",
    "-a -x",
    "--min-ms 0",
    "--min-ms 0.5 -a",
    "--min-ms 100000000",
    "-p 1",
    "-u 0 -l /x",
    "-C /sys/fs/cgroup",
    "--cgroupmap /x --mntnsmap /y",
    "-a -p 1 -u 2 -C /c --cgroupmap /x --mntnsmap /y --min-ms 5 -l /x",
];

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    let lines = FLAGS.map(|flags| format!("gethostlatency {flags}"));
    let checked = check_rules(Version::new(4, 18), &lines.each_ref().map(String::as_str));
    assert!(checked > 1500, "{checked}");
}

/// Only --mntnsmap asks for a type of the kernel.
#[test]
fn a_kernel_without_types_is_enough() {
    let bare = Target::offline(None, Version::new(4, 18));
    for flags in ["", "-a", "-x --min-ms 3 -p 1 -u 2 -C /c --cgroupmap /x"] {
        let programs = programs(&format!("gethostlatency {flags}"), &bare).unwrap();
        assert_eq!(programs.len(), 14);
        programs.iter().for_each(|program| drop(program.link(&bare).unwrap()));
    }
    let programs = programs("gethostlatency --mntnsmap /x", &bare).unwrap();
    let error = programs.iter().find_map(|program| program.link(&bare).err()).unwrap();
    assert!(bpfkit::Chain(&error).to_string().contains("--btf"), "{error}");
}

/// A kernel that has one link for many uprobes is given a program for all functions, unless it is to keep to one process.
#[test]
fn one_program_is_for_all_functions_where_one_link_can_be() {
    let target = target(Version::new(6, 12), "6.12");
    let names = |line: &str, target: &Target| -> Vec<String> {
        programs(line, target).unwrap().into_iter().map(|program| program.name).collect()
    };
    assert_eq!(names("gethostlatency", &target), ["lookup_ret", "lookup"]);
    assert_eq!(names("gethostlatency -p 1", &target).len(), 14);
    assert_eq!(names("gethostlatency", &target.lacking(Feature::UprobeMulti)).len(), 14);
}

#[test]
fn listings_are_the_committed_ones() {
    let lines = ["gethostlatency", "gethostlatency -x --min-ms 5 -p 1"];
    check_listings("gethostlatency-4.18", &target(Version::new(4, 18), "5.10"), &lines);
    check_listings("gethostlatency-7.2", &target(Version::new(7, 2), "7.2"), &lines);
    check_listings("gethostlatency-all-7.2", &target(Version::new(7, 2), "7.2"), &["gethostlatency -a"]);
}

/// A kernel of 4.18 walks at most 131,072 instructions, and every branch may double the way: so these have few.
#[test]
fn programs_are_short() {
    let target = target(Version::new(6, 12), "6.12");
    for (line, most, all) in
        [("gethostlatency", 80, 120), ("gethostlatency -x", 80, 120), ("gethostlatency -a", 300, 600)]
    {
        for program in programs(line, &target).unwrap() {
            let most = if matches!(program.attach, Attach::UprobeMulti { .. }) { all } else { most };
            let length = program.link(&target).unwrap().insns().len();
            assert!(length <= most, "{line}: {} has {length} instructions", program.name);
        }
    }
}

#[test]
fn wrong_usage_is_refused_before_anything_is_touched() {
    check_refused(
        "gethostlatency",
        &[
            ("-p 0", "0"),
            ("-p x", "'x'"),
            ("--min-ms -1", "-1"),
            ("--min-ms soon", "not a number of milliseconds"),
            ("--min-ms nan", "not a number of milliseconds"),
            ("--duration 0", "more than nothing"),
            ("--without nothing", "no such feature"),
            ("--kernel 5.10", "--ebpf"),
            ("-P 53", "-P"),
        ],
    );
}
