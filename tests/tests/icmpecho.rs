//! The programs of `bpfkit icmpecho` for other kernels.

use bpfkit_asm::{Version, list};
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    let lines = ["icmpecho --probe kprobe", "icmpecho --probe kprobe -4", "icmpecho --probe kprobe -6"];
    assert_eq!(check_rules(Version::new(4, 18), &lines), 17 * 4);
    assert_eq!(check_rules(Version::new(5, 5), &["icmpecho --probe fentry -4"]), 14);
}

#[test]
fn listings_are_the_committed_ones() {
    let lines = ["icmpecho --probe kprobe", "icmpecho --probe fentry -4"];
    check_listings("icmpecho-4.18", &target(Version::new(4, 18), "5.10"), &lines[..1]);
    check_listings("icmpecho-7.2", &target(Version::new(7, 2), "7.2"), &lines);
}

/// icmp_echo returned a bool, and returns a drop reason since Linux 6.1; its one argument stayed. The programs of both differ in
/// offsets and in nothing else.
#[test]
fn what_the_function_returns_changes_nothing() {
    let instructions = |version, types| {
        let target = target(version, types);
        let program = programs("icmpecho --probe kprobe -4", &target).unwrap().remove(0);
        let linked = program.link(&target).unwrap();
        let spelt = |btf: &bpfkit_btf::Btf| btf.spell(btf.func_proto("icmp_echo").unwrap().id);
        let text: Vec<String> = list(linked.insns(), &linked).map(|insn| insn.to_string()).collect();
        (spelt(target.btf().unwrap()), text)
    };
    let (old, before) = instructions(Version::new(5, 10), "5.10");
    let (new, after) = instructions(Version::new(6, 12), "6.12");
    assert!(old.contains("bool") && new.contains("enum skb_drop_reason"), "{old} {new}");
    let differ = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(differ.clone().all(|(before, _)| before.starts_with("(07) r3 += ")), "{:#?}", differ.collect::<Vec<_>>());
    assert_eq!(before.len(), after.len());
}

#[test]
fn wrong_usage_is_refused() {
    check_refused("icmpecho", &[("-4 -6", "cannot be used with"), ("--probe tracepoint", "kprobe")]);
}
