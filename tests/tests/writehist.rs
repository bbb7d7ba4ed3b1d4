//! The programs of `bpfkit writehist` for other kernels.

use bpfkit_asm::Version;
use bpfkit_loader::Target;
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

const LINES: [&str; 4] = [
    "writehist --probe kprobe",
    "writehist --probe tracepoint",
    "writehist --probe kprobe -p 1 -u 2 -C /c --cgroupmap /x --mntnsmap /y",
    "writehist --probe tracepoint -p 1 -u 2 -C /c --cgroupmap /x --mntnsmap /y",
];

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    assert_eq!(check_rules(Version::new(4, 18), &LINES), 17 * LINES.len());
}

#[test]
fn listings_are_the_committed_ones() {
    check_listings("writehist-4.18", &target(Version::new(4, 18), "5.10"), &LINES[..2]);
    check_listings("writehist-7.2", &target(Version::new(7, 2), "7.2"), &LINES[..2]);
}

#[test]
fn it_needs_no_types() {
    let target = Target::offline(None, Version::new(4, 18));
    for line in &LINES[..2] {
        for program in programs(line, &target).unwrap() {
            program.link(&target).unwrap().check(&target).unwrap();
        }
    }
}

#[test]
fn wrong_usage_is_refused() {
    check_refused("writehist", &[("-i 0", "more than nothing"), ("--probe fentry", "kprobe")]);
}
