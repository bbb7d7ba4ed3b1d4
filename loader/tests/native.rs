//! The loader beside the kernel that runs here. A test says that it was skipped where this machine lacks what it needs; the
//! cases of `vm-tests` run on other kernels.
//!
//! Its own `main` instead of libtest's, which knows no skipping at run time. A word on the command line selects by name.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use bpfkit_asm::{Asm, Helper, Version, bpf};
use bpfkit_btf::Btf;
use bpfkit_loader::verifier::Place;
use bpfkit_loader::{
    Answer, Attach, Error, Feature, Known, Map, MapSpec, MapType, Maps, Prog, ProgSpec, ProgType, Target, UpdateMode,
    load_btf,
};

#[path = "native/loaded.rs"]
mod loaded;
#[path = "native/ring.rs"]
mod ring;

/// Why a test did not run here.
struct Skip(String);

type Test = (&'static str, fn() -> Result<(), Skip>);

const TESTS: &[Test] = &[
    ("a_kernel_has_what_its_version_brought_unless_it_was_built_without", features),
    ("helpers_are_asked_for_by_type_of_program", helpers),
    ("a_map_whose_values_are_per_cpu_never_overruns_the_readers_bytes", per_cpu_storage),
    ("every_type_of_program_is_loaded", types),
    ("a_refused_program_with_a_callback_is_refused_for_its_own_reason", callback),
    ("the_log_of_a_refused_program_quotes_its_source", quoted),
    ("the_kernel_shows_what_was_loaded", info),
    ("a_loaded_program_is_found_by_number_name_and_pin", loaded::found),
    ("a_loaded_program_reads_as_it_was_written", loaded::code),
    ("machine_code_is_cut_into_functions_and_lines", loaded::jited),
    ("a_program_without_types_is_read_all_the_same", loaded::untyped),
    ("what_is_hidden_has_a_reason", loaded::hidden),
    ("runs_are_counted_while_they_are_asked_for", loaded::runs),
    ("a_tracepoint_counts_until_its_link_is_dropped", tracepoint),
    ("a_full_ring_tells_in_the_end_how_much_it_lost", ring::lost),
    ("types_out_of_dwarf_are_taken_by_the_kernel", dwarf),
    ("nothing_stays_open_whether_it_worked_or_not", descriptors),
    ("a_refusal_for_want_of_privilege_says_what_is_missing", unprivileged),
    ("the_verifier_says_what_it_knows_and_why_it_refuses", verifier),
];

/// Makes this binary a process without privilege that loads a program and prints what came of it.
const UNPRIVILEGED: &str = "BPFKIT_TEST_UNPRIVILEGED";

fn main() -> ExitCode {
    if std::env::var_os(UNPRIVILEGED).is_some() {
        print!("{}", load(Attach::None, plain()).map_or_else(|error| chain(&error), |_| "loaded".to_owned()));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, test) in TESTS.iter().filter(|(name, _)| is_wanted(name)) {
        let outcome =
            if is_root() { catch_unwind(AssertUnwindSafe(test)) } else { Ok(Err(Skip("it takes root".to_owned()))) };
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Err(Skip(why))) => {
                skipped += 1;
                println!("test {name} ... skipped, {why}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    println!("\n{passed} passed; {failed} failed; {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]))
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn plain() -> Asm {
    bpf! {
        r0 = 0;
        exit;
    }
}

fn load(attach: Attach, code: Asm) -> Result<Prog, Error> {
    ProgSpec::new("native", attach, code)?.load(&Target::running()?, &Maps::new())
}

/// What a kernel of any version may be built without. Everything else is the verifier's or the instruction set's.
const OPTIONAL: [Feature; 15] = [
    Feature::Kprobes,
    Feature::KprobePmu,
    Feature::UprobePmu,
    Feature::UprobeRefCtr,
    Feature::Fentry,
    Feature::FentryProg,
    Feature::TpBtf,
    Feature::Freplace,
    Feature::FmodRet,
    Feature::Lsm,
    Feature::KprobeTracefs,
    Feature::KprobeMulti,
    Feature::KprobeSession,
    Feature::TracingLink,
    Feature::Sleepable,
];

fn features() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let mut tried = 0;
    for &feature in Feature::ALL {
        let (has, known) = target.ask(feature);
        assert_eq!((has, known), target.ask(feature), "{feature}: the second answer");
        assert_ne!(known, Known::Without, "{feature}");
        if known == Known::Tried {
            tried += 1;
            let is_due = target.version() >= feature.since();
            assert!(has || !is_due || OPTIONAL.contains(&feature), "{feature} of {} is refused", feature.since());
        }
        let without = Target::builder().without(feature).running().unwrap();
        assert_eq!(without.ask(feature), (false, Known::Without), "{feature}");
    }
    // Root is told of all but those that only a function of the kernel could tell: fentry, if this one has no types, and two.
    assert!(tried + 3 >= Feature::ALL.len(), "{tried} of {} were tried", Feature::ALL.len());
    Ok(())
}

fn helpers() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    for (kind, helper, has) in [
        (ProgType::TRACEPOINT, Helper::MAP_LOOKUP_ELEM, true),
        (ProgType::TRACEPOINT, Helper::PERF_EVENT_OUTPUT, true),
        (ProgType::RAW_TRACEPOINT, Helper::GET_CURRENT_COMM, true),
        // Only programs that choose a socket's address bind it; a socket filter reads packets and never writes to them.
        (ProgType::TRACEPOINT, Helper::BIND, false),
        (ProgType::SOCKET_FILTER, Helper::SKB_LOAD_BYTES, true),
        (ProgType::SOCKET_FILTER, Helper::SKB_STORE_BYTES, false),
        (ProgType::TRACEPOINT, Helper(9999), false),
    ] {
        assert_eq!(target.has_helper(kind, helper), has, "{helper} in {kind:?}");
    }
    // What is asked by trying alone; the kernel's log is spared of what need not be asked.
    let asked = [Helper::GET_CURRENT_COMM, Helper::BIND, Helper::TRACE_PRINTK, Helper(9999), Helper(10_000)];
    let answers = target.try_helpers(ProgType::TRACEPOINT, &asked, false);
    assert_eq!(answers[..2], [Answer::Yes, Answer::No]);
    assert!(matches!(&answers[2], Answer::Unknown(why) if why.contains("log")));
    assert_eq!(answers[3..], [Answer::No, Answer::No]);
    assert_eq!(target.try_prog_type(ProgType::RAW_TRACEPOINT), Answer::Yes);
    assert_eq!(target.try_prog_type(ProgType(9999)), Answer::No);
    assert_eq!(target.try_map_type(MapType::ARRAY), Answer::Yes);
    assert_eq!(target.try_map_type(MapType(9999)), Answer::No);
    let without = Target::builder().without(Feature::ProbeReadKernel).running().unwrap();
    assert!(!without.has_helper(ProgType::TRACEPOINT, Helper::PROBE_READ_USER_STR));
    assert!(without.has_helper(ProgType::TRACEPOINT, Helper::GET_CURRENT_PID_TGID));
    Ok(())
}

fn per_cpu_storage() -> Result<(), Skip> {
    let spec = MapSpec { kind: MapType::PERCPU_CGROUP_STORAGE, ..MapSpec::hash("storage", 16, 8, 0) };
    let map = spec.create(&Target::running().unwrap()).map_err(|error| Skip(chain(&error)))?;
    if bpfkit_loader::possible_cpus().unwrap().len() < 2 {
        return Err(Skip("there is one CPU".to_owned()));
    }
    let error = map.lookup(&[0; 16], &mut [0; 8]).unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput), "{error}");
    Ok(())
}

fn types() -> Result<(), Skip> {
    let attaches = [
        Attach::None,
        Attach::Kprobe { symbol: "tcp_close".to_owned(), offset: 0 },
        Attach::Tracepoint { category: "sched".to_owned(), name: "sched_switch".to_owned() },
        Attach::RawTracepoint { name: "sched_switch".to_owned() },
        Attach::PerfEvent { hertz: 10 },
    ];
    for attach in attaches {
        let kind = attach.prog_type();
        let prog = load(attach.clone(), plain()).unwrap_or_else(|error| panic!("{attach}: {}", chain(&error)));
        assert_eq!(prog.info().unwrap().kind, kind, "{attach}");
    }
    Ok(())
}

fn callback() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    if !target.has(Feature::FuncPointer) {
        return Err(Skip("this kernel has no addresses of functions".to_owned()));
    }
    let code = bpf! {
        r2 = func[back];
        r0 = r7;
        exit;
    };
    let attach = Attach::RawTracepoint { name: "sys_enter".to_owned() };
    let spec = ProgSpec::new("calls_back", attach, code).unwrap().func("back", plain()).unwrap();
    let error = spec.load(&target, &Maps::new()).unwrap_err();
    let Error::Rejected(rejection) = &error else { panic!("{}", chain(&error)) };
    assert!(rejection.last_words().contains("R7 !read_ok"), "{error}\n{}", rejection.log);
    assert_eq!(rejection.slot, Some(2));
    Ok(())
}

fn quoted() -> Result<(), Skip> {
    let code = bpf! {
        r6 = 7;
        r0 = *(u64 *)(r6 + 0);
        exit;
    };
    let spec = ProgSpec::new("quoted", Attach::None, code).unwrap();
    for (without, quotes) in [(None, true), (Some(Feature::ProgBtf), false)] {
        let target = without.into_iter().fold(Target::builder(), |builder, feature| builder.without(feature));
        let error = spec.load(&target.running().unwrap(), &Maps::new()).unwrap_err();
        let Error::Rejected(rejection) = &error else { panic!("{}", chain(&error)) };
        assert_eq!(rejection.log.contains("; r0 = *(u64 *)(r6 + 0)"), quotes, "{}", rejection.log);
        assert!(rejection.last_words().contains("R6 invalid mem access"), "{error}\n{}", rejection.log);
        assert_eq!(rejection.slot, Some(1));
    }
    Ok(())
}

fn info() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("cells", 8, 1), &target).unwrap();
    let code = bpf! {
        r1 = map[cells];
        r0 = 7;
        exit;
    };
    let spec = ProgSpec::new("a_name_of_more_than_fifteen", Attach::None, code).unwrap();
    let prog = spec.load(&target, &maps).unwrap();
    let info = prog.info().unwrap();
    assert_eq!((info.kind, info.name.as_str()), (ProgType::SOCKET_FILTER, "a_name_of_more_"));
    assert!(info.id != 0 && info.load_time != 0 && info.tag != [0; 8], "{info:?}");
    assert_eq!(info.xlated_len % 8, 0);
    let Ok(insns) = prog.xlated().unwrap() else {
        return Err(Skip("this kernel keeps instructions to itself".to_owned()));
    };
    assert_eq!(insns.len() * 8, usize::try_from(info.xlated_len).unwrap());
    let texts: Vec<String> = insns.iter().map(ToString::to_string).collect();
    assert!(
        texts.contains(&"(b7) r0 = 7".to_owned()) && texts.last().is_some_and(|text| text == "(95) exit"),
        "{texts:?}"
    );
    Ok(())
}

/// A program that counts in the first cell of the map `count`.
fn counter() -> Asm {
    bpf! {
        *(u32 *)(r10 - 4) = 0;
        r1 = map[count];
        r2 = r10;
        r2 += -4;
        call bpf_map_lookup_elem;
        if r0 == 0 goto out;
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    out:
        r0 = 0;
        exit;
    }
}

fn read(map: &Map) -> u64 {
    let mut value = [0; 8];
    assert!(map.lookup(&[0; 4], &mut value).unwrap());
    u64::from_ne_bytes(value)
}

fn tracepoint() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("count", 8, 1), &target).unwrap();
    let attach = Attach::Tracepoint { category: "raw_syscalls".to_owned(), name: "sys_enter".to_owned() };
    let link = ProgSpec::new("count", attach, counter()).unwrap().load(&target, &maps).unwrap().attach(&target);
    let link = link.map_err(|error| Skip(chain(&error)))?;
    let map = maps.get("count").unwrap();
    let before = read(map);
    for _ in 0..100 {
        let _ = fs::metadata("/");
    }
    assert!(read(map) >= before + 100, "{before} to {} while 100 calls were made", read(map));
    drop(link);
    // What other CPUs run at this moment may still count.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let after = read(map);
    for _ in 0..100 {
        let _ = fs::metadata("/");
    }
    assert_eq!(read(map), after, "it was detached");
    Ok(())
}

fn dwarf() -> Result<(), Skip> {
    // They have values of enumerations that take 64 bits.
    let version = Target::running().unwrap().version();
    if version < Version::new(6, 0) {
        return Err(Skip(format!("{version} knows no ENUM64, which came with Linux 6.0")));
    }
    for name in ["mixed", "old", "compressed", "units", "lto"] {
        let file = format!("{}/../tests/fixtures/dwarf/{name}.so", env!("CARGO_MANIFEST_DIR"));
        for roots in [None, Some(&["node.later", "parts.named.flag", "first_entry", "tail"][..])] {
            let btf = Btf::from_dwarf_file(&file, roots).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            load_btf(&btf).unwrap_or_else(|error| panic!("{name} {roots:?}: {}", chain(&error)));
        }
    }
    let broken = {
        let mut types = bpfkit_btf::Builder::new();
        types.ptr(bpfkit_btf::TypeId(77));
        Btf::parse(types.finish()).unwrap()
    };
    assert!(load_btf(&broken).is_err(), "a pointer to a type that is not there");
    Ok(())
}

fn descriptors() -> Result<(), Skip> {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..3 {
        let target = Target::running().unwrap();
        for &feature in Feature::ALL {
            let _ = target.has(feature);
        }
        let _ = target.has_helper(ProgType::KPROBE, Helper::BIND);
        let mut maps = Maps::new();
        maps.create(&MapSpec::array("count", 8, 1).with_types(&[("key", 4)], &[("value", 8)]), &target).unwrap();
        maps.get("count").unwrap().update(&[0; 4], &[1; 8], UpdateMode::Any).unwrap();
        let attach = Attach::Tracepoint { category: "raw_syscalls".to_owned(), name: "sys_enter".to_owned() };
        let prog = ProgSpec::new("count", attach, counter()).unwrap().load(&target, &maps).unwrap();
        let _ = prog.attach(&target);
        let broken = bpf! {
            r0 = r7;
            exit;
        };
        assert!(load(Attach::None, broken).is_err());
        assert!(Map::from_pinned("/proc/self/exe").is_err());
        assert!(MapSpec::hash("none", 0, 0, 1).create(&target).is_err());
    }
    assert_eq!(open(), before, "{:?}", fs::read_dir("/proc/self/fd").unwrap().collect::<Vec<_>>());
    Ok(())
}

fn unprivileged() -> Result<(), Skip> {
    const NOBODY: u32 = 65534;
    let binary = std::env::current_exe().unwrap();
    let output = Command::new(binary).env(UNPRIVILEGED, "1").uid(NOBODY).gid(NOBODY).output();
    let said = output.map_err(|error| Skip(format!("nobody may not start this test: {error}")))?.stdout;
    let said = String::from_utf8(said).unwrap();
    if said == "loaded" {
        return Err(Skip("this kernel lets everybody load socket filters".to_owned()));
    }
    for part in ["native", "it takes root", "Operation not permitted"] {
        assert!(said.contains(part), "{said}");
    }
    let level = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_default();
    if !matches!(level.trim(), "" | "0") {
        assert!(said.contains("kernel.unprivileged_bpf_disabled"), "{said}");
    }
    Ok(())
}

fn verifier() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let walk = |code: Asm| {
        let spec = ProgSpec::new("walked", Attach::None, code).unwrap();
        spec.link(&target).unwrap().walk(&target, &Maps::new())
    };
    let taken = bpf! {
        r6 = r1;
        call bpf_get_prandom_u32;
        r0 &= 7;
        exit;
    };
    let verdict = match walk(taken) {
        Err(error) if error.is_permission() => return Err(Skip(error.to_string())),
        result => result.unwrap(),
    };
    assert!(verdict.refused.is_none(), "{}", verdict.log);
    let result = verdict.walk.before(3).unwrap().places[&Place::Reg(0)].first.in_words();
    assert_eq!(result, "a number from 0 to 7", "{}", verdict.log);

    let refused = bpf! {
        r6 = 5;
        r7 = r6;
        r0 = *(u64 *)(r7 + 0);
        exit;
    };
    let verdict = walk(refused).unwrap();
    assert_eq!(verdict.refused.map(|error| error.raw_os_error()), Some(Some(libc::EACCES)), "{}", verdict.log);
    let diagnosis = verdict.diagnosis.unwrap_or_else(|| panic!("{}", verdict.log));
    assert_eq!((diagnosis.slot, diagnosis.place), (Some(2), Some(Place::Reg(7))));
    assert_eq!(diagnosis.path.iter().map(|cause| cause.slot).collect::<Vec<_>>(), [0, 1], "{diagnosis}");
    Ok(())
}
