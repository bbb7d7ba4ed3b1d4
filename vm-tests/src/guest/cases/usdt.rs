//! Probes that a program's author marked: this one's, which `marks` has.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bpfkit_asm::{Asm, Reg, bpf};
use bpfkit_loader::{
    Event, Feature, Link, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target, TargetBuilder, Tasks, Usdt,
};

use super::probe::PATIENCE;
use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::marks::{self, Passed};
use crate::{ensure, ensure_eq, fail, skip};

pub const CASES: &[Case] = &[
    Case { name: "usdtlist::shows_the_probes_of_a_file_and_of_a_process", run: list },
    Case { name: "usdt::arguments_arrive_by_pmu", run: |ctx| arguments(&target(ctx, &[])?, Tasks::All, "PMU") },
    Case {
        name: "usdt::arguments_arrive_by_tracefs",
        run: |ctx| arguments(&target(ctx, &[Feature::UprobePmu])?, Tasks::All, "tracefs"),
    },
    Case { name: "usdt::arguments_arrive_as_on_4_18", run: |ctx| arguments(&target(ctx, &OLD)?, own(), "tracefs") },
    Case { name: "usdt::semaphore_is_above_0_while_attached", run: semaphore },
    Case { name: "usdt::semaphore_of_all_processes_needs_the_kernel", run: no_pid },
    Case { name: "usdt::killed_tracer_leaves_no_semaphore", run: killed },
    Case { name: "usdt::one_process_is_traced_alone", run: one_process },
];

/// What came after 4.18, so that all of it is done in other ways.
const OLD: [Feature; 4] = [Feature::UprobePmu, Feature::UprobeRefCtr, Feature::ProbeReadKernel, Feature::ProgBtf];

/// The running kernel without these.
fn target(ctx: &Ctx, without: &[Feature]) -> Result<Target, Failure> {
    let builder = without.iter().fold(ctx.target_builder(), |builder, &feature| builder.without(feature));
    let target = builder.running()?;
    if !without.contains(&Feature::UprobePmu) && !target.has(Feature::UprobePmu) {
        skip!("this kernel has no uprobe PMU");
    }
    if !without.contains(&Feature::UprobeRefCtr) && !target.has(Feature::UprobeRefCtr) {
        skip!("this kernel does not raise semaphores");
    }
    Ok(target)
}

/// This process alone.
fn own() -> Tasks {
    Tasks::Process(std::process::id())
}

fn this_file() -> Result<PathBuf, Failure> {
    Ok(fs::read_link("/proc/self/exe")?)
}

/// The probes of this program, or those of one name.
fn probes(name: Option<&str>) -> Result<Vec<Usdt>, Failure> {
    if !cfg!(target_arch = "x86_64") {
        skip!("this program has probes on x86-64 only");
    }
    let mut probes = Usdt::of_file(this_file()?)?;
    probes.retain(|probe| probe.provider == "bpfkit" && name.is_none_or(|name| probe.name == name));
    Ok(probes)
}

/// What a tracer makes of a semaphore: the kernel counts each breakpoint that it sets, and it sets one wherever the
/// instruction may be run from. Linkers let the last page of one part of a file be the first of the next, so the instruction
/// may be mapped twice. From outside it is raised by one.
fn raised(guarded: &Usdt, target: &Target) -> Result<u16, Failure> {
    if !target.has(Feature::UprobeRefCtr) {
        return Ok(1);
    }
    let (file, offset) = (this_file()?, guarded.location.offset.unwrap_or_default());
    let maps = fs::read_to_string("/proc/self/maps")?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let has_breakpoint = |line: &&str| -> Option<bool> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (access, rest) = rest.split_once(' ')?;
        let first = number(rest.split(' ').next()?)?;
        let holds = (first..first + number(end)? - number(start)?).contains(&offset);
        Some(holds && line.ends_with(&*file.to_string_lossy()) && access.starts_with("r-") && access.ends_with('p'))
    };
    Ok(u16::try_from(maps.lines().filter(|line| has_breakpoint(line) == Some(true)).count())?)
}

/// Programs at probes, and what they send.
struct Tracer {
    links: Vec<Link>,
    ring: PerfBuffer,
    names: Vec<String>,
}

/// A program that sends process, the probe's number and all arguments.
fn program(usdt: &Usdt, number: u32, target: &Target) -> Result<Asm, Failure> {
    let count = usdt.args()?.len();
    let size = 16 + 8 * i32::try_from(count)?;
    // The word at r10 - 8 is for reading arguments in memory.
    let start = -8 - size;
    let mut code = bpf! {
        r6 = r1;
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 + {start}) = r0;
        *(u64 *)(r10 + {start + 8}) = {number};
    };
    for (n, at) in (0..count).zip((start + 16..).step_by(8)) {
        code.splice(usdt.read_arg(n, target, Reg::R7, Reg::R6, -8)?);
        code.splice(bpf! { *(u64 *)(r10 + {at}) = r7; });
    }
    code.splice(bpf! {
        r1 = r6;
        r2 = map[events];
        r3 = 0xffffffff ll;
        r4 = r10;
        r4 += {start};
        r5 = {size};
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    });
    Ok(code)
}

impl Tracer {
    /// Attaches to all places of these probes.
    fn start(target: &Target, probes: &[Usdt], tasks: Tasks) -> Result<Self, Failure> {
        let mut maps = Maps::new();
        maps.create(&MapSpec::perf_event_array("events"), target)?;
        let events = maps.get("events").ok_or_else(|| Failure::Fail("no map of events".to_owned()))?;
        let ring = PerfBuffer::open(events, PerfOptions::default())?;
        let mut links = Vec::new();
        for (usdt, number) in probes.iter().zip(0..) {
            let attach = usdt.attach()?;
            let what = attach.to_string();
            let prog = ProgSpec::new("usdt", attach.clone(), program(usdt, number, target)?)?.load(target, &maps)?;
            links.push(prog.attach_to(&attach, tasks, target).doing(|| format!("attach to {what}"))?);
        }
        Ok(Self { links, ring, names: probes.iter().map(|probe| probe.name.clone()).collect() })
    }

    /// What processes passed: their numbers, probes and arguments, in order of time, until there are `count`.
    fn passed(&mut self, count: usize) -> Result<Vec<(u32, String, Vec<u64>)>, Failure> {
        let begin = Instant::now();
        let mut passed = Vec::new();
        let mut lost = 0;
        while passed.len() < count && begin.elapsed() < PATIENCE {
            self.ring.drain(&mut |event| match event {
                Event::Sample(sample) => passed.extend(record(sample.data, &self.names)),
                Event::Lost { count, .. } => lost += count,
            })?;
            sleep(Duration::from_millis(5));
        }
        ensure_eq!(lost, 0, "lost");
        Ok(passed)
    }
}

/// Reads what [`program`] sent. The kernel pads it with 4 bytes.
fn record(data: &[u8], names: &[String]) -> Option<(u32, String, Vec<u64>)> {
    let words: Vec<u64> =
        data.chunks_exact(8).filter_map(|word| word.first_chunk().copied().map(u64::from_ne_bytes)).collect();
    let (&pid, rest) = words.split_first()?;
    let (&number, arguments) = rest.split_first()?;
    let name = names.get(usize::try_from(number).ok()?)?.clone();
    Some((u32::try_from(pid >> 32).ok()?, name, arguments.to_vec()))
}

/// Passes all probes some times, and expects exactly that.
fn arguments(target: &Target, tasks: Tasks, way: &str) -> Result<(), Failure> {
    const TIMES: u64 = 40;
    let probes = probes(None)?;
    let count = |name| probes.iter().filter(|probe| probe.name == name).count();
    ensure_eq!(["sizes", "places", "copies", "guarded"].map(count), [1, 1, 2, 1], "{probes:#?}");
    ensure_eq!(marks::watched(), 0, "semaphore before");
    let mut tracer = Tracer::start(target, &probes, tasks)?;
    for link in &tracer.links {
        ensure!(link.how().contains(way), "attached by {:?} instead of by {way}", link.how());
    }
    let guarded =
        probes.iter().find(|probe| probe.name == "guarded").ok_or_else(|| Failure::Fail("none".to_owned()))?;
    let raised = raised(guarded, target)?;
    ensure!(raised > 0 && marks::watched() == raised, "semaphore while attached: {}, not {raised}", marks::watched());
    let expected: Vec<Passed> = (0..TIMES).flat_map(|time| marks::pass(time * 0x0101_0101)).collect();
    ensure_eq!(expected.len(), 5 * 40, "passed");
    let own = std::process::id();
    let arrived = tracer.passed(expected.len())?;
    let arrived: Vec<_> = arrived.into_iter().filter(|(pid, ..)| *pid == own).collect();
    for ((_, name, arguments), (expected_name, expected)) in arrived.iter().zip(&expected) {
        ensure!(
            name == expected_name && arguments == expected,
            "{name} {arguments:x?}, not {expected_name} {expected:x?}"
        );
    }
    ensure_eq!(arrived.len(), expected.len(), "arrived");
    drop(tracer);
    ensure_eq!(marks::watched(), 0, "semaphore after");
    ensure_eq!(marks::pass(0).len(), 4, "without a tracer");
    Ok(())
}

fn semaphore(ctx: &mut Ctx) -> Result<(), Failure> {
    let guarded = probes(Some("guarded"))?;
    let mut ways = vec![(vec![], Tasks::All), (vec![], own()), (vec![Feature::UprobePmu], Tasks::All)];
    ways.extend([(vec![Feature::UprobeRefCtr], own()), (OLD.to_vec(), own())]);
    for (without, tasks) in ways {
        let target = target(ctx, &without)?;
        ensure_eq!(marks::watched(), 0, "without {without:?}, before");
        let first = Tracer::start(&target, &guarded, tasks)?;
        ensure_eq!(marks::watched(), raised(&guarded[0], &target)?, "without {without:?}, while attached");
        if without.contains(&Feature::UprobeRefCtr) {
            // Each tracer counts for itself; the kernel counts a place once.
            let second = Tracer::start(&target, &guarded, tasks)?;
            ensure_eq!(marks::watched(), 2, "without {without:?}, by two tracers");
            drop(second);
            ensure_eq!(marks::watched(), 1, "without {without:?}, by one of two");
        }
        drop(first);
        ensure_eq!(marks::watched(), 0, "without {without:?}, after");
    }
    Ok(())
}

fn no_pid(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = target(ctx, &[Feature::UprobeRefCtr])?;
    let guarded = probes(Some("guarded"))?;
    let Err(Failure::Fail(error)) = Tracer::start(&target, &guarded, Tasks::All).map(drop) else {
        fail!("it was attached")
    };
    ensure!(error.contains("4.20") && error.contains("process"), "{error}");
    // A process that has not mapped the file has no semaphore to raise.
    let copy = ctx.directory().join("copy");
    fs::copy("/proc/self/exe", &copy)?;
    let copied: Vec<Usdt> = Usdt::of_file(&copy)?.into_iter().filter(|probe| probe.name == "guarded").collect();
    let Err(Failure::Fail(error)) = Tracer::start(&target, &copied, own()).map(drop) else { fail!("it was attached") };
    ensure!(error.contains("has not mapped it"), "{error}");
    ensure_eq!(marks::watched(), 0);
    Ok(())
}

/// What `guest watch-usdt WITHOUT..` does: traces `guarded` everywhere until it is killed.
pub fn watch(without: &[&str]) -> ExitCode {
    let builder =
        without.iter().filter_map(|feature| feature.parse().ok()).fold(Target::builder(), TargetBuilder::without);
    let start =
        || -> Result<Tracer, Failure> { Tracer::start(&builder.running()?, &probes(Some("guarded"))?, Tasks::All) };
    match start() {
        Ok(_tracer) => {
            println!("attached");
            loop {
                std::thread::park();
            }
        }
        Err(Failure::Fail(reason) | Failure::Skip(reason)) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// What `guest pass-usdt` does: at each line that it reads it passes all probes, and prints its semaphore.
pub fn pass() -> ExitCode {
    for number in std::io::stdin().lines().map_while(Result::ok).filter_map(|line| line.parse().ok()) {
        marks::pass(number);
        println!("{}", marks::watched());
    }
    ExitCode::SUCCESS
}

/// This program as another process, which ends with the value.
struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new("/proc/self/exe");
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| Failure::Fail("no pipes".to_owned()))?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Passes the probes with this number, and says what its semaphore is.
    fn pass(&mut self, number: u64) -> Result<String, Failure> {
        writeln!(self.input, "{number}")?;
        self.line()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn killed(ctx: &mut Ctx) -> Result<(), Failure> {
    for without in [None, Some(Feature::UprobePmu)] {
        let target = target(ctx, without.as_slice())?;
        let guarded = probes(Some("guarded"))?;
        ensure_eq!(marks::watched(), 0, "without {without:?}, before");
        let arguments: Vec<&str> = ["watch-usdt"].into_iter().chain(without.map(Feature::slug)).collect();
        let mut tracer = Other::start(&arguments)?;
        ensure_eq!(tracer.line()?, "attached");
        ensure_eq!(marks::watched(), raised(&guarded[0], &target)?, "without {without:?}, while attached");
        drop(tracer);
        ensure_eq!(marks::watched(), 0, "without {without:?}, after SIGKILL");
    }
    // The text of a killed tracer's probe stays until the next one starts.
    let target = target(ctx, &[Feature::UprobePmu])?;
    drop(Tracer::start(&target, &probes(Some("guarded"))?, Tasks::All)?);
    let list = fs::read_to_string("/sys/kernel/tracing/uprobe_events")?;
    ensure!(!list.contains(":bpfkit/"), "{list}");
    Ok(())
}

fn one_process(ctx: &mut Ctx) -> Result<(), Failure> {
    let all = probes(None)?;
    let guarded = all.iter().find(|probe| probe.name == "guarded").ok_or_else(|| Failure::Fail("none".to_owned()))?;
    for without in [vec![], vec![Feature::UprobePmu], OLD.to_vec()] {
        let target = target(ctx, &without)?;
        let mut other = Other::start(&["pass-usdt"])?;
        ensure_eq!(other.pass(1)?, "0", "without {without:?}, its semaphore before");
        let mut tracer = Tracer::start(&target, &all, Tasks::Process(other.child.id()))?;
        marks::pass(2);
        let semaphore = other.pass(3)?;
        ensure_eq!(semaphore, raised(guarded, &target)?.to_string(), "without {without:?}, its semaphore");
        ensure_eq!(marks::watched(), 0, "without {without:?}, the semaphore here");
        marks::pass(4);
        let arrived = tracer.passed(5)?;
        let arrived: Vec<(u32, &str)> = arrived.iter().map(|(pid, name, _)| (*pid, &**name)).collect();
        let pid = other.child.id();
        let expected = ["sizes", "places", "copies", "copies", "guarded"].map(|name| (pid, name));
        ensure_eq!(arrived, expected, "without {without:?}");
        drop(tracer);
        ensure_eq!(other.pass(5)?, "0", "without {without:?}, its semaphore after");
    }
    Ok(())
}

fn list(ctx: &mut Ctx) -> Result<(), Failure> {
    let probes = probes(None)?;
    let file = this_file()?;
    let run = |arguments: &[&str]| -> Result<String, Failure> {
        let output = ctx.bpfkit()?.arg("usdt").arg("list").args(arguments).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && error.is_empty(), "{arguments:?}: {}: {error}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    };
    let path = file.to_string_lossy();
    let table = run(&[&path])?;
    let mut rows = table.lines();
    let titles = ["PROVIDER", "NAME", "ADDRESS", "OFFSET", "SEMAPHORE", "ARGUMENTS"];
    ensure!(rows.next().is_some_and(|header| header.split_whitespace().eq(titles)), "{table}");
    for (row, probe) in rows.zip(&probes) {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| format!("{number:#x}"));
        let numbers = [Some(probe.location.address), probe.location.offset, probe.semaphore.map(|place| place.address)];
        let expected = [&["bpfkit".to_owned(), probe.name.clone()][..], &numbers.map(number)].concat();
        let cells: Vec<&str> = row.split_whitespace().collect();
        ensure!(
            cells.len() > 5 && cells[..5] == expected && cells[5..].join(" ") == probe.arguments,
            "{row}, not {expected:?}"
        );
    }
    ensure_eq!(table.lines().count() - 1, probes.len(), "rows of {table}");
    let json = run(&[&path, "--json"])?;
    let pid = std::process::id().to_string();
    let of_process = run(&["-p", &pid, "--json"])?;
    ensure_eq!(of_process, json, "this process maps no other file");
    for (row, probe) in json.lines().zip(&probes) {
        let row: serde_json::Value = serde_json::from_str(row)?;
        ensure_eq!(row["file"], path.as_ref());
        ensure_eq!(row["arguments"], probe.arguments.as_str());
        ensure_eq!(row["offset"].as_u64(), probe.location.offset);
        ensure_eq!(row["semaphore"]["offset"].as_u64(), probe.semaphore.and_then(|place| place.offset));
    }
    ensure_eq!(json.lines().count(), probes.len());
    let table = run(&["-p", &pid])?;
    ensure!(table.starts_with("FILE ") && table.lines().nth(1).is_some_and(|row| row.starts_with(&*path)), "{table}");
    for wrong in [&["usdt", "list"][..], &["usdt", "list", "-p", "1", "x"], &["usdt"]] {
        let status = ctx.bpfkit()?.args(wrong).stderr(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure_eq!(status.code(), Some(2), "{wrong:?}");
    }
    for (wrong, part) in [("/proc/version", "it is not an ELF file"), ("-p4194303", "process 4194303 is not there")] {
        let output = ctx.bpfkit()?.args(["usdt", "list", wrong]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.contains(part), "{said}");
    }
    Ok(())
}
