//! The programs of `bpfkit execsnoop` for other kernels, made and checked without any.

use bpfkit_asm::{Version, list};
use bpfkit_loader::{Attach, Target};
use bpfkit_tests::programs::{KERNELS, check_listings, check_refused, check_rules, parse, programs, target};

const FLAGS: [&str; 8] = [
    "",
    "-x",
    "-x -u 4294967295 -P 1 -M",
    "-P 4194304",
    "-c /sys/fs/cgroup -x",
    "--cgroupmap /x --mntnsmap /y -x",
    "--max-args 1 -x",
    "--max-args 60 -x -u 0 -P 2 -M -c /c --cgroupmap /x --mntnsmap /y",
];

/// The command with each of the flags, by this probe.
fn lines(probe: &str) -> Vec<String> {
    FLAGS.iter().map(|flags| format!("execsnoop --probe {probe} {flags}")).collect()
}

#[test]
fn every_program_keeps_the_rules_of_every_kernel() {
    let mut checked = 0;
    for probe in ["tracepoint", "kprobe"] {
        let lines = lines(probe);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        checked += check_rules(Version::new(4, 18), &lines);
    }
    assert!(checked > 1000, "{checked}");
}

/// Without the kernel's types everything is read at the entry, but for what takes them by its nature.
#[test]
fn every_program_keeps_the_rules_without_types_too() {
    let mut checked = 0;
    for (version, _) in KERNELS {
        let target = Target::offline(None, version);
        for line in ["tracepoint", "kprobe"].into_iter().flat_map(lines) {
            let check = || -> Result<usize, bpfkit::Error> {
                let programs = programs(&line, &target)?;
                programs.iter().try_for_each(|program| program.link(&target)?.check(&target))?;
                Ok(programs.len())
            };
            match check() {
                Ok(5) => checked += 5,
                Err(error) if line.contains("mntnsmap") => {
                    assert!(bpfkit::Chain(&error).to_string().contains("--btf"), "{error}");
                }
                other => panic!("{version} {line}: {:?}", other.map_err(|error| bpfkit::Chain(&error).to_string())),
            }
        }
    }
    assert!(checked > 800, "{checked}");
}

/// Before Linux 5.3 the walk over the arguments is written out, once for each that is shown, so that listing has one.
#[test]
fn listings_are_the_committed_ones() {
    check_listings("execsnoop-4.18", &target(Version::new(4, 18), "5.10"), &["execsnoop --max-args 1"]);
    check_listings("execsnoop-5.10", &target(Version::new(5, 10), "5.10"), &["execsnoop -M"]);
    check_listings("execsnoop-6.12", &target(Version::new(6, 12), "6.12"), &["execsnoop --probe kprobe -x -u 0 -P 1"]);
    check_listings("execsnoop-7.2", &target(Version::new(7, 2), "7.2"), &["execsnoop"]);
    check_listings("execsnoop-untyped", &Target::offline(None, Version::new(5, 10)), &["execsnoop"]);
}

/// clang's have 2176 at the entry, with the walk written out, and 64 at the return.
#[test]
fn programs_are_shorter_than_those_of_a_compiler() {
    for (version, types, most) in [((4, 18), "5.10", [30, 900, 800]), ((6, 12), "6.12", [30, 190, 150])] {
        let target = target(Version::new(version.0, version.1), types);
        for program in programs("execsnoop -x", &target).unwrap() {
            let length = program.link(&target).unwrap().insns().len();
            let most = match program.name.as_str() {
                "exec" => most[1],
                name if name.ends_with("_r") => most[2],
                _ => most[0],
            };
            assert!(length <= most, "{} has {length} instructions", program.name);
        }
    }
}

/// What is attached, and to what, with and without failures.
#[test]
fn system_calls_are_looked_at_only_for_what_they_alone_tell() {
    let attached = |line: &str, target: &Target| -> Vec<String> {
        programs(line, target).unwrap().iter().map(|program| program.attach.to_string()).collect()
    };
    let typed = target(Version::new(5, 10), "5.10");
    assert_eq!(attached("execsnoop", &typed), ["raw tracepoint sched_process_exec"]);
    assert_eq!(attached("execsnoop --probe kprobe", &typed), ["kprobe on finalize_exec"]);
    assert_eq!(
        attached("execsnoop -x", &typed),
        [
            "tracepoint syscalls:sys_exit_execve",
            "tracepoint syscalls:sys_exit_execveat",
            "raw tracepoint sched_process_exec",
            "tracepoint syscalls:sys_enter_execve",
            "tracepoint syscalls:sys_enter_execveat",
        ]
    );
    assert_eq!(
        attached("execsnoop --probe kprobe -x", &typed)[..2],
        ["kretprobe on __x64_sys_execve", "kretprobe on __x64_sys_execveat"]
    );
    // From 6.19 on what is given the kernel's structures may be interrupted.
    assert_eq!(
        attached("execsnoop", &target(Version::new(7, 2), "7.2")),
        ["raw tracepoint sched_process_exec", "tracepoint sched:sched_process_exec"]
    );
    let untyped = Target::offline(None, Version::new(5, 10));
    assert_eq!(attached("execsnoop", &untyped).len(), 5);
    assert_eq!(attached("execsnoop", &untyped)[2], "tracepoint sched:sched_process_exec");
}

/// The arguments of a call are where its function has them: behind the user's registers, or its own from before Linux 4.17.
#[test]
fn arguments_are_read_through_the_registers_where_there_is_a_wrapper() {
    let entry = |version| {
        let target = Target::offline(None, version);
        let programs = programs("execsnoop --probe kprobe", &target).unwrap();
        let entry = programs.into_iter().find(|program| program.name == "execveat").unwrap();
        let linked = entry.link(&target).unwrap();
        let listing: Vec<String> = list(linked.insns(), &linked).map(|insn| insn.to_string()).collect();
        (entry.attach.clone(), listing.join("\n"))
    };
    let kprobe = |symbol: &str| Attach::Kprobe { symbol: symbol.to_owned(), offset: 0 };
    let (attach, listing) = entry(Version::new(4, 18));
    assert_eq!(attach, kprobe("__x64_sys_execveat"));
    assert!(listing.contains("r3 = *(u64 *)(r6 +112)") && listing.contains("r3 += 104"), "{listing}");
    let (attach, listing) = entry(Version::new(4, 16));
    assert_eq!(attach, kprobe("sys_execveat"));
    assert!(listing.contains("r1 = *(u64 *)(r6 +104)") && listing.contains("r1 = *(u64 *)(r6 +96)"), "{listing}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_touched() {
    check_refused(
        "execsnoop",
        &[
            ("-n (", "'('"),
            ("-l [", "'['"),
            ("-u no-such-user", "no user `no-such-user`"),
            ("-u -1", "-1"),
            ("--max-args 0", "0"),
            ("--max-args 61", "61"),
            ("-P 4194305", "4194305"),
            ("-c", "CGROUPDIR"),
            ("--probe fentry", "tracepoint"),
            ("--kernel 5.10", "--ebpf"),
            ("extra", "extra"),
        ],
    );
    // What may be asked for at most.
    parse(
        "execsnoop -T -t -x -U -u root -q -n ^ls$ -l conf -C -M --max-args 60 -P 1 --cgroupmap /x --mntnsmap /y -c /c",
    )
    .unwrap();
}
