//! `bpfkit features` for kernels that are not here, and what programs make of a pid namespace.

use bpfkit::features::{Report, Wanted};
use bpfkit_asm::{Helper, Version};
use bpfkit_loader::{PidNamespace, Target};
use bpfkit_tests::programs::{KERNELS, programs, target};
use serde_json::Value;

fn report(version: Version) -> Value {
    serde_json::to_value(Report::of(&Target::offline(None, version), Wanted::default(), false)).unwrap()
}

/// The names of what a kernel has in a list of its report.
fn has(report: &Value, list: &str) -> Vec<String> {
    let rows = report[list].as_array().unwrap().iter();
    rows.filter(|row| row["has"] == "yes").map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_version_has_what_it_brought_and_what_came_before() {
    let report = report(Version::new(4, 18));
    assert_eq!(report["kernel"], serde_json::json!({"version": "4.18", "arch": "x86_64", "running": false}));
    assert_eq!(report["limits"]["instructions"], 4096);
    assert_eq!(report["limits"]["log_bytes"], 16_777_215);
    assert_eq!(report["limits"]["memory"], "rlimit");
    assert_eq!(has(&report, "program_types").last().unwrap(), "lirc_mode2");
    assert_eq!(has(&report, "map_types").last().unwrap(), "sockhash");
    assert_eq!(has(&report, "helpers").last().unwrap(), "bpf_get_current_cgroup_id");
    assert!(has(&report, "features").contains(&"kprobe-pmu".to_owned()));
    for later in ["jmp32", "fentry", "prog-btf", "cgroup-memory"] {
        assert!(!has(&report, "features").contains(&later.to_owned()), "{later}");
    }
}

#[test]
fn what_a_kernel_has_newer_ones_have_too() {
    let mut before = (Version::new(4, 18), report(Version::new(4, 18)));
    for (version, _) in KERNELS {
        let now = report(version);
        for list in ["features", "program_types", "map_types", "helpers"] {
            let (old, new) = (has(&before.1, list), has(&now, list));
            let lost = old.iter().find(|name| !new.contains(name));
            assert_eq!(lost, None, "{list} of {version}, and of {}", before.0);
        }
        before = (version, now);
    }
    assert_eq!(has(&before.1, "helpers").len(), Helper::ALL.len());
}

/// The keys that the manual promises, and no unknown answer where only a version is asked.
#[test]
fn every_row_has_the_documented_members() {
    let report = report(Version::new(6, 1));
    for (list, more) in [
        ("features", &["config", "group", "text"][..]),
        ("program_types", &["number"]),
        ("map_types", &["number"]),
        ("helpers", &["number", "program_types"]),
    ] {
        for row in report[list].as_array().unwrap() {
            let mut keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
            let mut expected = [&["has", "name", "since", "why"], more].concat();
            keys.sort_unstable();
            expected.sort_unstable();
            assert_eq!(keys, expected, "{list}");
            assert!(["yes", "no"].contains(&row["has"].as_str().unwrap()) && row["why"].is_null(), "{row}");
        }
    }
}

/// The names of all rows of a report's four lists.
fn names(report: &Value) -> [Vec<&str>; 4] {
    ["features", "program_types", "map_types", "helpers"]
        .map(|list| report[list].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect())
}

#[test]
fn what_has_a_name_that_is_asked_for_is_told_alone() {
    let target = Target::offline(None, Version::new(5, 8));
    let asked = ["lsm", "ringbuf", "ringbuf_output", "bpf_bind"].map(str::to_owned);
    let report = serde_json::to_value(Report::of(&target, Wanted::new(&asked).unwrap(), false)).unwrap();
    let expected: [&[&str]; 4] = [&["lsm"], &["lsm"], &["ringbuf"], &["bpf_bind", "bpf_ringbuf_output"]];
    assert_eq!(names(&report), expected);
    for (list, index) in [("features", 0), ("program_types", 0), ("map_types", 0), ("helpers", 1)] {
        assert_eq!(report[list][index]["has"], "yes", "{list}");
    }
    assert_eq!(report["features"][0]["config"][0], "CONFIG_BPF_LSM");
    let old = Target::offline(None, Version::new(5, 7));
    let old = serde_json::to_value(Report::of(&old, Wanted::new(&asked).unwrap(), false)).unwrap();
    assert_eq!((&old["map_types"][0]["has"], &old["helpers"][1]["has"]), (&"no".into(), &"no".into()));
}

#[test]
fn a_name_that_nothing_has_is_an_error_with_what_may_be_meant() {
    for (name, said) in [
        ("ringbuff", "there is no feature, type or helper `ringbuff`; did you mean `ringbuf`?"),
        ("bpf_no\x1bsuch", "there is no feature, type or helper `bpf_no\\u{1b}such`"),
        ("", "there is no feature, type or helper ``"),
    ] {
        assert_eq!(Wanted::new(&[name.to_owned()]).unwrap_err().to_string(), said);
    }
}

const NAMESPACE: PidNamespace = PidNamespace { dev: 4, ino: 0xf000_0123 };
const LINES: [&str; 8] = [
    "tcpconnect --probe kprobe -p 7",
    "tcpconnect --probe tracepoint -L -p 7",
    "icmpecho --probe kprobe",
    "writehist -p 7",
    "gethostlatency -p 7",
    "bpf2bpf",
    "execsnoop --probe tracepoint",
    "execsnoop --probe kprobe -x",
];

/// In the initial namespace there is nothing to ask; in another, who is shown or filtered is asked for by its numbers.
#[test]
fn programs_ask_for_the_numbers_of_the_namespace_that_they_are_made_in() {
    let version = Version::new(5, 10);
    for line in LINES {
        for (namespace, is_asked) in [(None, false), (Some(NAMESPACE), true)] {
            let mut target = target(version, "5.10");
            if let Some(namespace) = namespace {
                target = target.in_pid_namespace(namespace);
            }
            let linked: Vec<_> =
                programs(line, &target).unwrap().iter().map(|program| program.link(&target).unwrap()).collect();
            for linked in &linked {
                linked.check(&target).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
            let asks = |insn: &bpfkit_asm::Insn| insn.helper() == Some(Helper::GET_NS_CURRENT_PID_TGID);
            assert_eq!(linked.iter().flat_map(|linked| linked.insns()).any(asks), is_asked, "{line}, {namespace:?}");
        }
    }
}

#[test]
fn programs_for_kernels_that_know_no_namespaces_do_not_ask() {
    for (version, types) in KERNELS.into_iter().filter(|(version, _)| *version < Version::new(5, 7)) {
        let target = target(version, types).in_pid_namespace(NAMESPACE);
        for line in LINES.into_iter().filter(|line| *line != "bpf2bpf") {
            for program in programs(line, &target).unwrap() {
                program
                    .link(&target)
                    .unwrap()
                    .check(&target)
                    .unwrap_or_else(|error| panic!("{line}, {version}: {error}"));
            }
        }
    }
}
