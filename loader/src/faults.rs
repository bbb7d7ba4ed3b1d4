//! What becomes of an operation when one of its system calls fails: each call of each operation, with each errno.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bpfkit_asm::bpf;

use crate::confine::{Capabilities, to_reading};
use crate::error::chain;
use crate::sys::fake;
use crate::{Attach, Error, Feature, Map, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target, UpdateMode};

/// Where uprobes are put: in a file that nobody runs.
fn nops() -> PathBuf {
    std::env::temp_dir().join(format!("bpfkit-nops-{}", std::process::id()))
}

fn target(without: &[Feature]) -> Result<Target, Error> {
    without.iter().fold(Target::builder(), |builder, &feature| builder.without(feature)).running()
}

fn map() -> Result<(), Error> {
    let spec = MapSpec::hash("counts", 4, 8, 4).with_types(&[("pid", 4)], &[("count", 8)]);
    let map = spec.create(&target(&[])?)?;
    map.update(&[1; 4], &[2; 8], UpdateMode::Any)?;
    let mut value = [0; 8];
    assert!(map.lookup(&[1; 4], &mut value)? && value == [2; 8]);
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
    assert_eq!(keys, [[1; 4]]);
    assert!(map.delete(&[1; 4])?);
    Ok(())
}

fn rings() -> Result<(), Error> {
    let (maps, mut rings) = opened()?;
    maps.iter().try_for_each(|map| map.has_types().map(drop))?;
    rings.drain(&mut |_| {})?;
    rings.finish(&mut |_| {}).map(drop)
}

fn opened() -> Result<(Maps, PerfBuffer), Error> {
    let target = target(&[])?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    maps.create(&MapSpec::percpu_array("unsent", 8, 2), &target)?;
    let map = |name| maps.get(name).unwrap();
    let mut rings = PerfBuffer::open(map("events"), PerfOptions { pages: 1, wake_at: 1 })?;
    rings.watch(map("unsent"))?;
    Ok((maps, rings))
}

/// In a thread, which then ends with what it has given up; the answers are that thread's.
fn confined() -> Result<(), Error> {
    let (maps, rings) = opened()?;
    let map: &Map = maps.get("unsent").unwrap();
    to_reading([map].into_iter(), Some(&rings), Capabilities::NONE)
        .map(drop)
        .map_err(|error| Error::io("cannot give up privileges", error))
}

fn attached(attach: Attach, without: &[Feature]) -> Result<(), Error> {
    let target = target(without)?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("runs", 8, 1), &target)?;
    let code = bpf! {
        r0 = 0;
        exit;
    };
    ProgSpec::new("nothing", attach, code)?.load(&target, &maps)?.attach(&target).map(drop)
}

fn tracepoint() -> Result<(), Error> {
    attached(Attach::Tracepoint { category: "sched".to_owned(), name: "sched_process_exec".to_owned() }, &[])
}

fn raw_tracepoint() -> Result<(), Error> {
    attached(Attach::RawTracepoint { name: "sched_process_exec".to_owned() }, &[])
}

fn uprobe() -> Result<(), Error> {
    attached(Attach::Uprobe { path: nops(), offset: 16 }, &[])
}

fn uprobe_by_text() -> Result<(), Error> {
    attached(Attach::Uretprobe { path: nops(), offset: 16 }, &[Feature::UprobePmu])
}

fn clock() -> Result<(), Error> {
    attached(Attach::PerfEvent { hertz: 1 }, &[])
}

/// An operation, and which errnos its calls are given: not all where the kernel takes a grace period to detach what was attached
/// all the same.
type Operation = (&'static str, fn() -> Result<(), Error>, &'static [i32]);

const SOME: &[i32] = &[libc::EPERM, libc::EINTR, libc::ENOMEM];

const OPERATIONS: [Operation; 8] = [
    ("map", map, &fake::ERRNOS),
    ("rings", rings, &fake::ERRNOS),
    ("confined", confined, &fake::ERRNOS),
    ("tracepoint", tracepoint, SOME),
    ("raw_tracepoint", raw_tracepoint, &fake::ERRNOS),
    ("uprobe", uprobe, SOME),
    ("uprobe_by_text", uprobe_by_text, SOME),
    ("clock", clock, &fake::ERRNOS),
];

/// Names the operation of a process.
const OPERATION: &str = "BPFKIT_OPERATION";

/// What this process has: descriptors by what they are of, probes by text, mounts.
fn possessions() -> BTreeSet<String> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut found: BTreeSet<String> = descriptors
        .filter_map(|entry| Some(format!("{:?} {}", entry.file_name(), fs::read_link(entry.path()).ok()?.display())))
        .filter(|descriptor| !descriptor.contains("/proc/"))
        .collect();
    let tracefs = target(&[]).unwrap();
    let probes = fs::read_to_string(tracefs.tracefs().unwrap().path("uprobe_events")).unwrap();
    let ours = format!("bpfkit/p{}_", std::process::id());
    found.extend(probes.lines().filter(|line| line.contains(&ours)).map(str::to_owned));
    found.extend(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned));
    found
}

/// Runs an operation in a thread of its own, with this fake.
fn run(
    operation: fn() -> Result<(), Error>,
    fake: impl FnMut(&'static str) -> Option<i32> + Send + 'static,
) -> Result<(), String> {
    let run = move || fake::with(fake, || operation().map_err(|error| chain(&error)));
    std::thread::spawn(run).join().expect("it panics")
}

/// The calls that an operation makes where nothing is in its way.
fn calls(operation: fn() -> Result<(), Error>) -> Vec<&'static str> {
    let (to, from) = std::sync::mpsc::channel();
    run(operation, move |call| {
        let _ = to.send(call);
        None
    })
    .expect("it fails without a fault");
    from.into_iter().collect()
}

/// Lets each call of an operation fail in turn, once or from then on. It is `faults_are_told_and_leave_nothing` that runs this.
#[test]
#[ignore = "it counts what its process has, so it takes a process of its own, which another test makes"]
fn inject() {
    let wanted = std::env::var(OPERATION).expect("the operation's name");
    let (_, operation, errnos) = OPERATIONS.into_iter().find(|(name, ..)| *name == wanted).expect("no such operation");
    fs::write(nops(), [0x90; 4096]).unwrap();
    let calls = calls(operation);
    let before = possessions();
    let (mut injected, mut told) = (0, 0);
    for (at, call) in calls.iter().copied().enumerate() {
        for (errno, stays) in errnos.iter().flat_map(|&errno| [(errno, false), (errno, true)]) {
            let mut count = 0;
            let result = run(operation, move |made| {
                count += 1;
                let is_due = count == at + 1 || stays && count > at && made == call;
                is_due.then_some(errno)
            });
            let what = format!("call {at} of {}, {call}: errno {errno}, stays: {stays}", calls.len());
            injected += 1;
            if let Err(text) = result {
                told += 1;
                let said = std::io::Error::from_raw_os_error(errno).to_string();
                assert!(text.contains("cannot ") && text.contains(&said), "{what}: {text:?}");
                let is_interrupted = matches!(errno, libc::EINTR | libc::EAGAIN);
                assert!(stays || !is_interrupted || !fake::is_repeated(call), "{what}: {text:?}");
            }
            let left: Vec<_> = possessions().difference(&before).cloned().collect();
            assert_eq!(left, [""; 0], "{what}");
        }
    }
    fs::remove_file(nops()).unwrap();
    // The others were in the way of what may be done without, or can be done in another way.
    println!("{wanted}: {} calls, {injected} faults, {told} of them told", calls.len());
    assert!(told > 10 && told < injected, "{told} of {injected}");
}

#[test]
fn faults_are_told_and_leave_nothing() {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        eprintln!("skipped: it takes root to load programs");
        return;
    }
    // What an operation mounts must not be seen outside.
    let inject = |(name, ..): &Operation| {
        Command::new("unshare")
            .arg("--mount")
            .arg(std::env::current_exe().unwrap())
            .args(["faults::inject", "--exact", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(OPERATION, name)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Together, as most of their time goes by in waiting for the kernel.
    let children: Vec<_> = OPERATIONS.iter().map(inject).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        println!("{said}");
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
