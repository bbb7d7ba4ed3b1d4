//! What becomes of a tool when something fails or ends it, and of what it put into the kernel: nothing stays.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use bpfkit_loader::Feature;
use rustix::process::Signal;

use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::leaks::{Leftovers, PATIENCE};
use crate::guest::packets::datagram;
use crate::guest::sys;
use crate::guest::tool::{Tool, json_rows, listen, need_types};
use crate::{ensure, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "faults::a_leak_is_found", run: leak },
    Case { name: "faults::sigkill_at_any_moment_leaves_nothing", run: sigkill },
    Case { name: "faults::signals_that_end_it", run: signals },
    Case { name: "faults::a_second_signal_ends_it_where_nobody_reads", run: twice },
    Case { name: "faults::a_parent_that_dies", run: orphan },
    Case { name: "faults::stopped_and_continued", run: stopped },
    Case { name: "faults::too_few_descriptors_are_told", run: descriptors },
    Case { name: "faults::too_little_memory_is_no_leak", run: memory },
    Case { name: "faults::a_full_disk_is_told", run: full },
    Case { name: "faults::clock_steps", run: clock },
];

/// What the kernel holds of tools: all that there is in a VM, and elsewhere what has a name that only they give.
fn held(ctx: &Ctx) -> Leftovers {
    if ctx.is_vm() { Leftovers::now() } else { Leftovers::named(&["set_state", "skbrecv", "bpfkit/"]) }
}

/// Nothing more is there than was.
fn check(before: &Leftovers) -> CaseResult {
    before.leak().map_or(Ok(()), |leak| fail!("it left behind {leak}"))
}

/// A map that is open, a mount and a pinned file are what the check around each case says that they are; and what is not new is not.
fn leak(ctx: &mut Ctx) -> CaseResult {
    let before = Leftovers::now();
    let map = bpfkit_loader::MapSpec::hash("bpfkit_leak", 4, 4, 1).create(&ctx.target()?)?;
    ensure!(before.now_beyond().iter().any(|more| more.contains("\"bpfkit_leak\"")), "{:?}", before.now_beyond());
    let directory = ctx.directory().join("mounted");
    fs::create_dir(&directory)?;
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    sys::mount("tmpfs", &directory)?;
    ensure!(before.now_beyond().iter().any(|more| more.contains("/mounted ")), "{:?}", before.now_beyond());
    sys::unmount(&directory)?;
    let is_there = |part: &str| before.now_beyond().iter().any(|more| more.contains(part));
    if ctx.target()?.has(Feature::Kprobes) {
        // To be opened for appending: else the kernel removes all that are there.
        let mut events = File::options().append(true).open("/sys/kernel/tracing/kprobe_events")?;
        events.write_all(b"p:leak/leak tcp_v4_connect\n")?;
        let found = is_there("kprobe_events");
        events.write_all(b"-:leak/leak\n")?;
        ensure!(found, "a probe was not found");
    }
    drop(map);
    // The kernel frees it after a while.
    let end = Instant::now() + PATIENCE;
    while is_there("\"bpfkit_leak\"") || is_there("/mounted ") {
        ensure!(Instant::now() < end, "{:?}", before.now_beyond());
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Numbers that look as if they came by chance, the same for the same seed: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Up to this.
    fn time(&mut self, most: Duration) -> Duration {
        most.mul_f64(f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) / f64::from(u32::MAX))
    }
}

/// The tools that are killed: by whatever the kernel has, and by text in tracefs, which outlives its process until the next one.
fn victims(ctx: &Ctx) -> Result<Vec<Vec<&'static str>>, Failure> {
    let mut victims = vec![vec!["skbrecv"], vec!["tcpconnect", "--probe", "tracepoint"]];
    if ctx.target()?.has(Feature::Kprobes) {
        victims.push(vec!["tcpconnect", "--probe", "kprobe", "--without", "kprobe-pmu"]);
    }
    Ok(victims)
}

/// From its start to after it has attached; a tool that is killed as it leaves, too.
fn sigkill(ctx: &mut Ctx) -> CaseResult {
    // Another one at each run, and the same again where it is given.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
    let seed = std::env::var("BPFKIT_SEED").map_or(Ok(u64::try_from(now)?), |seed| seed.parse())?;
    let points = if ctx.is_vm() { 8 } else { 100 };
    println!("BPFKIT_SEED={seed}, {points} points for each tool");
    let mut random = Random(seed);
    let before = held(ctx);
    for words in victims(ctx)? {
        let began = Instant::now();
        Tool::start(ctx, words[0], &words[1..])?.stop(Signal::INT)?;
        // As long as starting and leaving takes when nothing is in its way, and others do not have the processor.
        let most = began.elapsed().min(Duration::from_millis(if ctx.is_vm() { 600 } else { 200 }));
        for _ in 0..points {
            let mut command = ctx.tool(words[0])?;
            let mut child = command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let until_killed = random.time(most);
            if random.next().is_multiple_of(4) {
                // It is told to leave, and killed in the middle of that.
                sleep(most.mul_f64(0.8));
                sys::interrupt(child.id());
                sleep(until_killed.mul_f64(0.2));
            } else {
                sleep(until_killed);
            }
            child.kill()?;
            child.wait()?;
        }
        // The next one removes what is left of probes by text.
        Tool::start(ctx, words[0], &words[1..])?.stop(Signal::INT)?;
        if let Some(leak) = before.leak() {
            fail!("{words:?} left behind {leak}; BPFKIT_SEED={seed}");
        }
    }
    Ok(())
}

/// Three are ways to leave with success, and one that it does not know is none.
fn signals(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let before = held(ctx);
    for (signal, is_success) in [(Signal::INT, true), (Signal::TERM, true), (Signal::HUP, true), (Signal::USR1, false)]
    {
        let (status, _, said) = Tool::start(ctx, "skbrecv", &[])?.stop(signal)?;
        ensure!(status.success() == is_success, "{signal:?}: {status}: {said}");
    }
    // What writing to a pipe that nobody reads says.
    let status = Tool::start(ctx, "skbrecv", &[])?.close_output()?;
    ensure!(status.success(), "{status}");
    check(&before)
}

/// Packets on loopback until a tool has more to say than its pipe holds.
fn fill() -> CaseResult {
    for _ in 0..4000 {
        datagram("127.0.0.1".parse()?, 4321)?;
    }
    Ok(())
}

/// It writes what it has before it leaves. If nobody reads that, a second signal does not wait.
fn twice(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let before = held(ctx);
    let mut tool = Tool::start(ctx, "skbrecv", &[])?;
    fill()?;
    sleep(Duration::from_millis(200));
    tool.signal(Signal::INT)?;
    sleep(Duration::from_millis(200));
    ensure!(tool.has_ended()?.is_none(), "it did not wait for its reader");
    tool.signal(Signal::INT)?;
    let status = tool.wait()?;
    ensure!(status.code() == Some(1), "{status}");
    check(&before)
}

/// Who reads what the tool prints is killed, and takes the end of the pipe along.
fn orphan(ctx: &mut Ctx) -> CaseResult {
    let before = held(ctx);
    let tool = ctx.tool("skbrecv")?;
    let words: Vec<_> = std::iter::once(tool.get_program()).chain(tool.get_args()).map(ToOwned::to_owned).collect();
    let mut parent = Command::new(std::env::current_exe()?);
    parent.arg("parent").args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut parent = parent.spawn()?;
    let mut said = BufReader::new(parent.stdout.take().ok_or_else(|| Failure::Fail("no pipe".to_owned()))?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let pid: u32 = line.trim().parse().doing(|| format!("the child's number in {line:?}"))?;
    parent.kill()?;
    parent.wait()?;
    let end = Instant::now() + PATIENCE;
    // Whoever reaps it: init does.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        ensure!(Instant::now() < end, "process {pid} lives on");
        sleep(Duration::from_millis(20));
    }
    check(&before)
}

/// As with Ctrl-Z and fg.
fn stopped(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", "tracepoint"])?;
    let (_listener, to) = listen("127.0.0.1".parse()?)?;
    for signals in [&[][..], &[Signal::STOP], &[Signal::CONT], &[Signal::STOP, Signal::CONT]] {
        signals.iter().try_for_each(|&signal| tool.signal(signal))?;
        TcpStream::connect(to)?;
    }
    let rows = tool.rows()?;
    let port = to.port().to_string();
    let seen = rows.iter().filter(|row| row.split_whitespace().last() == Some(&port)).count();
    ensure!(seen == 4, "{seen} of 4: {rows:#?}");
    Ok(())
}

/// From three descriptors up to as many as it takes, each time with an error that says what could not be had.
fn descriptors(ctx: &mut Ctx) -> CaseResult {
    let before = held(ctx);
    // A VM has little time: there one tool stands for all.
    let tools: &[&str] =
        if ctx.is_vm() { &["tcpconnect"] } else { &["tcpconnect", "execsnoop", "skbrecv", "writehist"] };
    for name in tools {
        let mut needed = None;
        for limit in 3..64 {
            let mut command = ctx.tool(name)?;
            command.args(["--duration", "0.01"]).stdout(Stdio::null());
            sys::limit(&mut command, sys::RLIMIT_NOFILE, limit);
            let output = command.output()?;
            if output.status.success() {
                needed = Some(limit);
                break;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(1), "{name} with {limit}: {}: {said}", output.status);
            ensure!(said.contains("cannot ") && said.contains("Too many open files"), "{name} with {limit}: {said}");
            ensure!(!said.contains("verifier"), "{name} with {limit}: {said}");
        }
        ensure!(needed.is_some_and(|needed| needed > 6), "{name} needs {needed:?}");
    }
    check(&before)
}

/// A process that cannot have more memory may end in any way, but not hang, and not leave anything.
fn memory(ctx: &mut Ctx) -> CaseResult {
    let before = held(ctx);
    // The kernel's answer is told where a mapping is refused to the tool itself, and not to the allocator: in few places.
    let sizes: Vec<u64> =
        if ctx.is_vm() { vec![6 << 10, 10 << 10, 14 << 10] } else { (1 << 10..20 << 10).step_by(256).collect() };
    let mut told = 0;
    for (resource, name) in [(sys::RLIMIT_AS, "RLIMIT_AS"), (sys::RLIMIT_DATA, "RLIMIT_DATA")] {
        for &kib in &sizes {
            let mut command = ctx.tool("tcpconnect")?;
            // A debug build's own message about memory may wait for itself when it is to have a backtrace. (A release has none.)
            command.args(["--duration", "0.01"]).env_remove("RUST_BACKTRACE");
            sys::limit(&mut command, resource, kib << 10);
            let mut child = match command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
                Ok(child) => child,
                // Not even exec has enough.
                Err(_) => continue,
            };
            let end = Instant::now() + PATIENCE;
            while child.try_wait()?.is_none() {
                if Instant::now() > end {
                    child.kill()?;
                    child.wait()?;
                    fail!("it hangs with {name} of {kib} KiB");
                }
                sleep(Duration::from_millis(5));
            }
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            // No code: a signal, such as that of the allocator's abort.
            let is_told = output.status.code().is_none_or(|code| code == 0 || code == 1 && said.contains("cannot "));
            ensure!(is_told || said.contains("TLS"), "{name} of {kib} KiB: {}: {said}", output.status);
            told += u32::from(output.status.code() == Some(1));
        }
    }
    ensure!(told > 0 || ctx.is_vm(), "no limit was in its way and told");
    check(&before)
}

/// A file system of a few pages, and a device that is always full.
fn full(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let before = held(ctx);
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    let place = ctx.directory().join("small");
    fs::create_dir(&place)?;
    sys::mount_sized("tmpfs", &place, "size=16k")?;
    let refused = |command: &mut Command| -> Result<String, Failure> {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{command:?}: {}: {said}", output.status);
        ensure!(said.contains("cannot write") && said.contains("No space left on device"), "{said}");
        Ok(said)
    };
    let file = place.join("file");
    // What is printed as it comes: at once, and when there is no more room.
    let full = File::options().write(true).open("/dev/full")?;
    refused(ctx.tool("skbrecv")?.args(["--duration", "20"]).stdout(full))?;
    let mut tool = ctx.tool("skbrecv")?;
    tool.args(["--duration", "60", "--json"]).stdout(File::create(&file)?).stderr(Stdio::piped());
    let mut tool = tool.spawn()?;
    let end = Instant::now() + PATIENCE;
    while tool.try_wait()?.is_none() {
        ensure!(Instant::now() < end, "it goes on");
        datagram("127.0.0.1".parse()?, 4321)?;
        sleep(Duration::from_millis(1));
    }
    let output = tool.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("cannot write to standard output"), "{said}");
    fs::remove_file(&file)?;
    // A file that is asked for is whole, or is not there.
    for format in ["text", "json", "obj"] {
        let said = refused(ctx.bpfkit()?.args(["dump", "skbrecv", "--format", format, "-o"]).arg(&file))?;
        ensure!(said.contains("small/file"), "{said}");
        ensure!(!file.exists(), "a part of it is there: {format}");
    }
    refused(ctx.bpfkit()?.args(["dump", "skbrecv", "-o", "/dev/full"]))?;
    ensure!(Path::new("/dev/full").exists(), "/dev/full was removed");
    sys::unmount(&place)?;
    check(&before)
}

/// Steps of the clock of the day change neither the order of rows nor their distances, and nothing waits for a time that does not come.
fn clock(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    if !ctx.is_vm() {
        skip!("the clock of this machine is not ours to set");
    }
    let mut tool = Tool::start(ctx, "skbrecv", &["--json"])?;
    let began = Instant::now();
    for step in [0, 3600, -7200, 3600] {
        sys::step_clock(step)?;
        datagram("127.0.0.1".parse()?, 4321)?;
        let asked = Instant::now();
        tool.line()?;
        ensure!(asked.elapsed() < PATIENCE, "a row came after {:?}", asked.elapsed());
    }
    let took = began.elapsed();
    datagram("127.0.0.1".parse()?, 4321)?;
    let rows = json_rows(&tool.rows()?)?;
    let times: Vec<u64> = rows.iter().filter_map(|row| row["time_ns"].as_u64()).collect();
    ensure!(!times.is_empty() && times.is_sorted(), "{times:?}");
    // The first row's time is not kept, but all of them are within what this took.
    let span = times[times.len() - 1] - times[0];
    ensure!(Duration::from_nanos(span) < took + Duration::from_secs(2), "{times:?}");
    // A time to stop that is counted by that clock would be over, or never come.
    let began = Instant::now();
    let mut timed = Tool::start(ctx, "skbrecv", &["--duration", "1"])?;
    sys::step_clock(-3600)?;
    let status = timed.wait()?;
    sys::step_clock(3600)?;
    ensure!(status.success() && began.elapsed() > Duration::from_secs(1), "{status} after {:?}", began.elapsed());
    Ok(())
}
