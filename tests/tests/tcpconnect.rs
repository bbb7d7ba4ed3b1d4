//! The programs of `bpfkit tcpconnect` for other kernels, made and checked without any.

use bpfkit_asm::{Version, bpf};
use bpfkit_btf::{Btf, Builder};
use bpfkit_loader::{Attach, ProgSpec, Target};
use bpfkit_tests::programs::{check_listings, check_refused, check_rules, programs, target};

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

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    let mut checked = 0;
    for (probe, since) in [("kprobe", (4, 18)), ("fentry", (5, 5)), ("tracepoint", (4, 18))] {
        let lines = FLAGS.map(|flags| format!("tcpconnect --probe {probe} {flags}"));
        checked += check_rules(Version::new(since.0, since.1), &lines.each_ref().map(String::as_str));
    }
    assert!(checked > 1000, "{checked}");
}

/// One port more than instructions fit before Linux 5.2 is told, and not loaded to see what happens.
#[test]
fn too_many_ports_for_an_old_kernel_are_told_so() {
    let ports: Vec<String> = (1..=4100).map(|port: u16| port.to_string()).collect();
    let check = |target: &Target| {
        let programs = programs(&format!("tcpconnect -P {}", ports.join(",")), target).unwrap();
        programs.iter().try_for_each(|program| program.link(target)?.check(target))
    };
    let error = check(&target(Version::new(4, 18), "5.10")).unwrap_err().to_string();
    assert!(error.contains("more than the 4096 before Linux 5.2"), "{error}");
    check(&target(Version::new(5, 4), "5.10")).unwrap();
}

/// Linux before 5.6 has one byte for the protocol in the tracepoint's record, so that addresses begin at odd places, where the verifier
/// lets a byte be read and no more.
#[test]
fn addresses_at_odd_places_of_the_record_are_read_by_the_byte() {
    let mut types = Builder::new();
    let byte = types.int("unsigned char", 1, false);
    let short = types.int("unsigned short", 2, false);
    let int = types.int("int", 4, true);
    let long = types.int("unsigned long", 8, false);
    let (four, sixteen) = (types.array(byte, int, 4), types.array(byte, int, 16));
    let members = [
        ("skaddr", long, 8),
        ("oldstate", int, 16),
        ("newstate", int, 20),
        ("sport", short, 24),
        ("dport", short, 26),
        ("family", short, 28),
        ("protocol", byte, 30),
        ("saddr", four, 31),
        ("daddr", four, 35),
        ("saddr_v6", sixteen, 39),
        ("daddr_v6", sixteen, 55),
    ];
    types.strukt("trace_event_raw_inet_sock_set_state", 72, &members);
    let btf = Btf::parse(types.finish()).unwrap();
    let target = Target::offline(Some(btf), Version::new(4, 18));
    for flags in FLAGS.into_iter().filter(|flags| !flags.contains("mntnsmap")) {
        let programs = programs(&format!("tcpconnect --probe tracepoint {flags}"), &target).unwrap();
        for program in programs {
            let linked = program.link(&target).unwrap();
            linked.check(&target).unwrap_or_else(|error| panic!("{flags}: {error}"));
            let reads = |offset| linked.insns().iter().any(|insn| (insn.code.0, insn.off) == (0x71, offset));
            assert!((39..71).all(reads), "{flags}: a byte of the addresses is not read");
        }
    }
    // As it was read before the record's layout was looked at.
    let code = bpf! {
        r0 = *(u32 *)(r1 + ctx.daddr_v6 + 4);
        exit;
    };
    let attach = Attach::Tracepoint { category: "sock".to_owned(), name: "inet_sock_set_state".to_owned() };
    let linked = ProgSpec::new("odd", attach, code).unwrap().link(&target).unwrap();
    let error = linked.check(&target).unwrap_err().to_string();
    assert!(error.contains("4 bytes of a tracepoint's record are read only at a multiple of 4"), "{error}");
}

#[test]
fn listings_are_the_committed_ones() {
    let lines = [
        "tcpconnect --probe kprobe -P 80",
        "tcpconnect --probe tracepoint -L",
        "tcpconnect --probe kprobe -c -6",
        "tcpconnect --probe fentry",
    ];
    check_listings("tcpconnect-4.18", &target(Version::new(4, 18), "5.10"), &lines[..3]);
    check_listings("tcpconnect-5.10", &target(Version::new(5, 10), "5.10"), &lines);
    check_listings("tcpconnect-7.2", &target(Version::new(7, 2), "7.2"), &lines);
}

/// clang's have 32 at entry and 171 at return.
#[test]
fn programs_are_shorter_than_those_of_a_compiler() {
    let target = target(Version::new(6, 12), "6.12");
    for program in programs("tcpconnect --probe kprobe", &target).unwrap() {
        let length = program.link(&target).unwrap().insns().len();
        let most = if program.name.ends_with("_r") { 66 } else { 32 };
        assert!(length <= most, "{} has {length} instructions", program.name);
    }
}

#[test]
fn without_types_the_tracepoint_still_needs_to_know_its_record_and_says_so() {
    let target = Target::offline(None, Version::new(4, 18));
    let error = programs("tcpconnect --probe tracepoint", &target).map(drop).unwrap_err();
    assert!(bpfkit::Chain(&error).to_string().contains("--btf"), "{error}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_touched() {
    check_refused(
        "tcpconnect",
        &[
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
        ],
    );
}
