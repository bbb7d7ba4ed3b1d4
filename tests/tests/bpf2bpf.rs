//! The programs of `bpfkit bpf2bpf` for other kernels.

use bpfkit_asm::Version;
use bpfkit_btf::{Btf, Builder};
use bpfkit_loader::{Attach, ProgType, Target};
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

const LINES: [&str; 4] = [
    "bpf2bpf",
    "bpf2bpf --probes inet_csk_complete_hashdance",
    "bpf2bpf -p 1 -u 2 -C /c --cgroupmap /x --mntnsmap /y",
    "bpf2bpf --probes tcp_connect,tcp_connect",
];

/// Before Linux 5.5 there is nothing but the kprobes, from then on fentry and fexit besides; a function is replaced from 5.6 on.
#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    assert_eq!(check_rules(Version::new(4, 18), &LINES), 17 * 5 + 14 * 10);
    assert_eq!(check_rules(Version::new(5, 6), &["bpf2bpf --replace"]), 13 * 8);
}

#[test]
fn listings_are_the_committed_ones() {
    check_listings("bpf2bpf-4.18", &target(Version::new(4, 18), "5.10"), &LINES[..1]);
    check_listings("bpf2bpf-7.2", &target(Version::new(7, 2), "7.2"), &["bpf2bpf --replace"]);
}

#[test]
fn what_belongs_to_a_program_comes_after_it_and_names_it() {
    let made = programs("bpf2bpf --replace", &target(Version::new(6, 12), "6.12")).unwrap();
    let names: Vec<&str> = made.iter().map(|program| program.name.as_str()).collect();
    let each = ["", "_family", "_entry", "_exit"];
    assert_eq!(names, ["connect", "accept"].map(|name| each.map(|part| format!("{name}{part}"))).concat());
    for hosted in made.chunks(4) {
        assert_eq!(hosted[0].attach.prog_type(), ProgType::KPROBE);
        let functions: Vec<(&str, &str)> = hosted[1..]
            .iter()
            .filter_map(|program| program.attach.onto())
            .map(|func| (func.program.as_str(), func.func.as_str()))
            .collect();
        let host = hosted[0].name.as_str();
        assert_eq!(functions, [(host, "value_of"), (host, "handle_new_connection"), (host, "handle_new_connection")]);
    }
    assert!(matches!(&made[0].attach, Attach::Kprobe { symbol, .. } if symbol == "tcp_connect"));
}

/// The functions that both kprobes call are the same in both, but for the number that tells one program's events from the other's.
#[test]
fn the_subprogram_is_shared() {
    let made = programs("bpf2bpf", &target(Version::new(4, 18), "5.10")).unwrap();
    let shared = |index: usize| {
        let insns = made[index].funcs[1..].iter().flat_map(|func| func.code.insns().iter().map(ToString::to_string));
        insns.collect::<Vec<_>>()
    };
    let names = |index: usize| made[index].funcs[1..].iter().map(|func| func.name.as_str()).collect::<Vec<_>>();
    assert_eq!((made.len(), names(0), names(1)), (2, vec!["handle_new_connection", "value_of"], names(0)));
    let (connect, accept) = (shared(0), shared(1));
    assert_eq!(connect.len(), accept.len());
    let different: Vec<_> = connect.iter().zip(&accept).filter(|(connect, accept)| connect != accept).collect();
    assert_eq!(different.len(), 1, "{different:?}");
}

#[test]
fn a_kernel_that_replaces_no_functions_is_told_so() {
    let error = programs("bpf2bpf --replace", &target(Version::new(5, 5), "5.10")).map(drop).unwrap_err();
    assert!(error.to_string().contains("5.6"), "{error}");
}

/// A kernel that was built without IPv6 has no such addresses in its sockets.
#[test]
fn without_ipv6_there_is_ipv4() {
    let mut types = Builder::new();
    let int = types.int("unsigned int", 4, false);
    let members = [("skc_addrpair", int, 0), ("skc_portpair", int, 8), ("skc_family", int, 12)];
    let common = types.strukt("sock_common", 20, &members);
    types.strukt("sock", 20, &[("__sk_common", common, 0)]);
    let lengths = |btf: Btf| {
        let target = Target::offline(Some(btf), Version::new(4, 18));
        let made = programs("bpf2bpf", &target).unwrap();
        made.iter().map(|program| program.link(&target).unwrap().insns().len()).collect::<Vec<_>>()
    };
    let without = lengths(Btf::parse(types.finish()).unwrap());
    let file = bpfkit_tests::programs::fixture("btf/5.10.btf");
    let with = lengths(Btf::from_file(file).unwrap());
    assert!(without.iter().zip(&with).all(|(without, with)| without + 10 < *with), "{without:?} {with:?}");
}

#[test]
fn wrong_usage_is_refused() {
    check_refused(
        "bpf2bpf",
        &[
            ("--probes tcp_close", "tcp_connect"),
            ("--probes", "value is required"),
            ("--kernel 5.10", "--ebpf"),
            ("-p 0", "0"),
        ],
    );
}
