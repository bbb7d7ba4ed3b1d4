//! Reading perf rings beside libbpf: the same program at getppid(2), the same calls of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use bpfkit_benches::ring;
use bpfkit_loader::{Event, PerfOptions, clock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::command::Program;
use crate::find::thread_time;
use crate::table::{Table, Values};
use crate::{Args, Result, run};

/// How many events are sent.
const EVENTS: u64 = 500_000;
/// As the tools wait: as long, a lone event may lie in its ring.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Keeps this process on a processor.
fn pin(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// The last processor; the first is the producer's.
fn last_cpu() -> Result<usize> {
    Ok(usize::try_from(*bpfkit_loader::online_cpus()?.last().ok_or("no processor")?)?)
}

/// Calls getppid(2).
pub fn produce(times: u64) -> Result<()> {
    pin(0)?;
    let mut sum = 0;
    for _ in 0..times {
        sum |= rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid());
    }
    std::hint::black_box(sum);
    Ok(())
}

/// Reads events until the input ends, and prints how many there were, how many were lost, the nanoseconds that the thread ran, and
/// the longest delay of an event.
pub fn read(pages: usize) -> Result<()> {
    let (_link, mut rings) = ring::at_getppid(PerfOptions { pages, ..PerfOptions::default() })?;
    println!("ready");
    std::io::stdout().flush()?;
    let input = std::io::stdin();
    let (mut events, mut lost, mut delay) = (0_u64, 0_u64, 0_u64);
    loop {
        let mut fds = [PollFd::new(&rings, PollFlags::IN), PollFd::new(&input, PollFlags::IN)];
        poll(&mut fds, Some(&TICK))?;
        let is_over = !fds[1].revents().is_empty();
        let now = clock::now();
        let mut take = |event: Event<'_>| match event {
            Event::Sample(sample) => {
                events += 1;
                delay = delay.max(now.saturating_sub(sample.time));
            }
            Event::Lost { count, .. } => lost += count,
        };
        if is_over {
            rings.finish(&mut take)?
        } else {
            rings.drain(&mut take)?
        };
        if is_over {
            println!("{events} {lost} {} {delay}", thread_time().as_nanos());
            return Ok(());
        }
    }
}

/// What a reader did.
#[derive(Debug)]
struct Reading {
    events: u64,
    lost: u64,
    cpu: Duration,
    /// How long the producer took.
    took: Duration,
    delay: Duration,
}

/// Has a reader read what `produce` sends.
fn once(reader: &Program, produce: impl FnOnce() -> Result<()>) -> Result<Reading> {
    let mut command = reader.command();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    if line(&mut output)? != "ready\n" {
        return Err("the reader cannot be started".into());
    }
    let started = Instant::now();
    produce()?;
    let took = started.elapsed();
    drop(child.stdin.take());
    let text = line(&mut output)?;
    child.wait()?;
    let numbers = text.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<u64>, _>>()?;
    let &[events, lost, cpu, ref delay @ ..] = &numbers[..] else { return Err(format!("it said {text:?}").into()) };
    let delay = Duration::from_nanos(delay.first().copied().unwrap_or_default());
    Ok(Reading { events, lost, cpu: Duration::from_nanos(cpu), took, delay })
}

fn line(output: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    Ok(line)
}

/// A reader on the last processor, which has it before what else the machine does: the comparison is of readers, not of schedulers.
fn pinned(reader: Program) -> Result<Program> {
    Ok(Program::at("chrt").with(["-f", "1", "taskset"]).with(["-c", &last_cpu()?.to_string()]).followed_by(reader))
}

/// Compares events a second, the reader's time for an event, and what is lost.
pub fn compare(args: &Args, table: &mut Table) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        table.skipped("perf ring", "not root");
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let own = args.own()?;
    lone(&own, table)?;
    let theirs = match run::build("ring", include_str!("../peers/ring.c"), directory.path()) {
        Ok(theirs) => theirs,
        Err(error) => {
            table.skipped("perf ring", error);
            return Ok(());
        }
    };
    let produce = || {
        let times = EVENTS.to_string();
        let status = own.clone().with(["produce", &times]).command().status()?;
        if status.success() { Ok(()) } else { Err("the producer failed".into()) }
    };
    // Where they fit and where they do not.
    for pages in [64, 8] {
        let pages_of = pages.to_string();
        let ours = pinned(own.clone().with(["read", &pages_of]))?;
        let theirs = pinned(theirs.clone().with([&pages_of]))?;
        let (mut rates, mut times, mut losses) = (Pair::default(), Pair::default(), Pair::default());
        // Ten seconds a round where the machine has other things to do.
        for _ in 0..args.runs.min(5) {
            let (a, b) = (once(&ours, produce)?, once(&theirs, produce)?);
            rates.add(&a, &b, |it| number(it.events) / it.took.as_secs_f64() / 1e6);
            times.add(&a, &b, |it| it.cpu.as_secs_f64() * 1e9 / number(it.events));
            losses.add(&a, &b, |it| number(it.lost) * 100.0 / number(it.lost + it.events));
        }
        let what = format!("perf ring, {pages} pages a CPU");
        table.row(&format!("{what}: events a second"), "M", &rates.0, "libbpf", &rates.1);
        table.row(&format!("{what}: reader's CPU an event"), "ns", &times.0, "libbpf", &times.1);
        table.row(&format!("{what}: lost"), "%", &losses.0, "libbpf", &losses.1);
    }
    Ok(())
}

/// The longest that a lone event lies in its ring: this process calls getppid now and then.
fn lone(own: &Program, table: &mut Table) -> Result<()> {
    let reading = once(&own.clone().with(["read", "64"]), || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(130));
            std::hint::black_box(rustix::process::getppid());
        }
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    let what = format!("perf ring: longest delay of {} lone events", reading.events);
    let delay = Values(vec![reading.delay.as_secs_f64() * 1e3]);
    table.row(&what, "ms", &delay, "the goal", &Values(vec![100.0]));
    Ok(())
}

/// A number of events, as what is divided by.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The values of bpfkit and of the peer.
#[derive(Debug, Default)]
struct Pair(Values, Values);

impl Pair {
    fn add(&mut self, ours: &Reading, theirs: &Reading, value: impl Fn(&Reading) -> f64) {
        self.0.0.push(value(ours));
        self.1.0.push(value(theirs));
    }
}
