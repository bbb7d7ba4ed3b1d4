//! More events than anybody reads: what is printed and what is told to be lost is what there was.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Event, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, UNSENT_FULL, online_cpus};
use std::os::fd::AsFd as _;

use rustix::process::Signal;

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::sys;
use crate::guest::tool::{Tool, need_types};
use crate::{ensure, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "load::every_packet_is_printed_or_lost", run: |ctx| flood(ctx, &[], true) },
    Case {
        name: "load::a_reader_that_does_not_read_loses_exactly",
        run: |ctx| flood(ctx, &["--buffer-pages", "8"], false),
    },
    Case { name: "load::a_stopped_tool_loses_exactly", run: stopped },
    Case { name: "load::every_connect_is_printed_or_lost", run: |ctx| connects(ctx, true) },
    Case { name: "load::every_connect_is_printed_or_lost_where_nobody_reads", run: |ctx| connects(ctx, false) },
    Case { name: "load::events_of_a_tracepoint_are_read_or_lost", run: events },
    Case { name: "load::a_lone_event_is_shown_soon", run: lone },
];

/// Packets on loopback so far. The kernel counts each where it hands it on to be received.
fn received() -> Result<u64, Failure> {
    let table = fs::read_to_string("/proc/net/dev")?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| Failure::Fail(format!("no packets of lo in {table}")))
}

/// How many packets make a flood; an emulated processor has enough to do with these.
const FLOOD: u32 = 20_000;

/// Sends packets to a socket that has them thrown away when its buffer is full.
fn send(count: u32) -> CaseResult {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    for _ in 0..count {
        sender.send(b"what a lot of packets")?;
    }
    Ok(())
}

/// The most memory that it has had, in KiB, about: from 6.2 on the kernel counts pages per processor, and a later answer may be less.
fn peak(tool: &Tool) -> Result<u64, Failure> {
    peak_of(tool.pid())
}

fn peak_of(pid: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.ok_or_else(|| Failure::Fail(format!("no VmHWM in {status}")))
}

/// Rows and losses, which it tells on stderr, are all packets.
fn check(rows: usize, said: &str, produced: u64, must_lose: bool) -> CaseResult {
    let lost =
        said.lines().find_map(|line| line.strip_prefix("bpfkit: ")?.strip_suffix(" events lost: the ring was full"));
    let lost: u64 = lost.map_or(Ok(0), str::parse)?;
    let missed = said.lines().find(|line| line.contains("packets missed"));
    let printed = u64::try_from(rows)?;
    ensure!(
        missed.is_none() && printed + lost == produced,
        "{printed} printed, {lost} lost, {produced} produced: {said}"
    );
    ensure!((lost != 0) == must_lose, "{lost} of {produced} were lost, {printed} printed");
    Ok(())
}

/// A flood while its output is read, or while nobody does.
fn flood(ctx: &mut Ctx, options: &[&str], is_read: bool) -> CaseResult {
    need_types(ctx)?;
    let mut tool = Tool::start(ctx, "skbrecv", options)?;
    let before = received()?;
    let mut rows = 0;
    if is_read {
        // In parts that the ring has room for, each read to its end before the next.
        for _ in 0..FLOOD / 500 {
            send(500)?;
            let until = received()? - before;
            while rows < until {
                rows += u64::from(!tool.line()?.starts_with("TIME"));
            }
        }
    } else {
        send(FLOOD)?;
    }
    let produced = received()? - before;
    let (status, out, said) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "it ended with {status}: {said}");
    let rest = out.lines().filter(|line| !line.starts_with("TIME")).count();
    check(usize::try_from(rows)? + rest, &said, produced, !is_read)?;
    Ok(())
}

/// As with Ctrl-Z. Its memory does not grow by what it could not read.
fn stopped(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let mut tool = Tool::start(ctx, "skbrecv", &["--buffer-pages", "4"])?;
    let before = (received()?, peak(&tool)?);
    tool.signal(Signal::STOP)?;
    send(FLOOD)?;
    tool.signal(Signal::CONT)?;
    std::thread::sleep(Duration::from_millis(300));
    let grown = peak(&tool)?.saturating_sub(before.1);
    let produced = received()? - before.0;
    let (status, out, said) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "it ended with {status}: {said}");
    check(out.lines().filter(|line| !line.starts_with("TIME")).count(), &said, produced, true)?;
    ensure!(grown < 1024, "it took {grown} KiB more");
    Ok(())
}

/// How many events a case makes: as many as BPFKIT_EVENTS says, or as an emulated processor and others make in a second or two.
fn amount(ctx: &Ctx, emulated: u64, usual: u64) -> Result<u64, Failure> {
    match std::env::var("BPFKIT_EVENTS") {
        Ok(number) => Ok(number.parse()?),
        Err(_) => Ok(if ctx.is_vm() { emulated } else { usual }),
    }
}

/// What `guest connects NUMBER ADDRESS` does: waits for a line, and connects so often to where nobody listens.
pub fn connect(number: &str, address: &str) -> ExitCode {
    let (Ok(number), Ok(address)) = (number.parse::<u64>(), address.parse::<SocketAddr>()) else {
        return ExitCode::from(2);
    };
    let _ = std::io::stdin().read(&mut [0]);
    let refused = |_: &u64| TcpStream::connect(address).is_err();
    if (0..number).filter(refused).count() as u64 == number { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A child that will connect so often.
fn connecting(number: u64) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    // Nobody listens at port 1.
    command.args(["connects", &number.to_string(), "127.0.0.1:1"]);
    Ok(command.stdin(Stdio::piped()).spawn()?)
}

/// Lets it, and waits until it has.
fn connect_all(mut child: Child) -> CaseResult {
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(b"\n")?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "connecting ended with {status}");
    Ok(())
}

/// How often it has waited for something.
fn waits(tool: &Tool) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{}/status", tool.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|line| line.trim().parse().ok()).ok_or_else(|| Failure::Fail(format!("no switches in {status}")))
}

/// The connects of one process, of which the tool sees all, while its rows are read or not.
fn connects(ctx: &mut Ctx, is_read: bool) -> CaseResult {
    let number = amount(ctx, 3_000, 30_000)?;
    let child = connecting(number)?;
    let pid = child.id().to_string();
    let pages = if is_read { "256" } else { "4" };
    let options = ["--probe", "tracepoint", "-p", &pid, "--buffer-pages", pages];
    let mut tool = Tool::start(ctx, "tcpconnect", &options)?;
    let (before, began) = ((peak(&tool)?, waits(&tool)?), Instant::now());
    let mut rows = 0;
    let (status, out, said) = if is_read {
        // In parts, as reading all of them would wait for those that are lost.
        let worker = std::thread::spawn(|| connect_all(child));
        while !worker.is_finished() && rows < number * 9 / 10 {
            rows += u64::from(tool.line()?.contains("127.0.0.1"));
        }
        worker.join().unwrap_or_else(|_| Err(Failure::Fail("panic".to_owned())))?;
        std::thread::sleep(Duration::from_millis(200));
        // Each look at the rings takes up what came since the one before, and there are few looks.
        let (waited, time) = (waits(&tool)? - before.1, began.elapsed());
        let most = number / 10 + u64::try_from(time.as_millis())? / 25 + 50;
        ensure!(waited < most, "it waited {waited} times in {time:?} for {number} events");
        println!("{waited} waits in {time:?}");
        tool.stop(Signal::INT)?
    } else {
        connect_all(child)?;
        std::thread::sleep(Duration::from_millis(300));
        let grown = peak(&tool)?.saturating_sub(before.0);
        ensure!(grown < 1024, "it took {grown} KiB more");
        tool.stop(Signal::INT)?
    };
    ensure!(status.success(), "it ended with {status}: {said}");
    let rest = out.lines().filter(|line| line.contains("127.0.0.1")).count();
    let printed = rows + u64::try_from(rest)?;
    let lost =
        said.lines().find_map(|line| line.strip_prefix("bpfkit: ")?.strip_suffix(" events lost: the ring was full"));
    let lost: u64 = lost.map_or(Ok(0), str::parse)?;
    println!("{printed} printed, {lost} lost, {number} produced");
    ensure!(
        printed + lost == number && !said.contains("missed"),
        "{printed} printed, {lost} lost, {number} made: {said}"
    );
    ensure!(is_read || lost > 0, "nothing was lost of {number}");
    Ok(())
}

/// Calls of getppid(2) from two CPUs at once, as fast as they can, while one reader empties the rings, which have room for a part.
fn events(ctx: &mut Ctx) -> CaseResult {
    let number = amount(ctx, 10_000, 1_000_000)? / 2;
    let target = ctx.target()?;
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), &target)?;
    maps.create(&MapSpec::percpu_array("unsent", 8, 2), &target)?;
    let (map, unsent) = maps.get("events").zip(maps.get("unsent")).ok_or_else(|| Failure::Fail("no maps".into()))?;
    let me = std::process::id().cast_signed();
    let code = bpf! {
        r6 = r1;
        call bpf_get_current_pid_tgid;
        r0 >>= 32;
        if r0 != {me} goto out;
        *(u64 *)(r10 - 8) = r0;
        *(u64 *)(r10 - 16) = 0;
        *(u64 *)(r10 - 24) = 0;
        *(u64 *)(r10 - 32) = 0;
        *(u64 *)(r10 - 40) = 0;
        *(u64 *)(r10 - 48) = 0;
        r1 = r6;
        r2 = map[events];
        w3 = -1;                                        // BPF_F_CURRENT_CPU
        r4 = r10;
        r4 += -48;
        r5 = 48;
        call bpf_perf_event_output;
        if r0 == 0 goto out;
        *(u32 *)(r10 - 8) = UNSENT_FULL;
        r1 = map[unsent];
        r2 = r10;
        r2 += -8;
        call bpf_map_lookup_elem;
        if r0 == 0 goto out;
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    out:
        r0 = 0;
        exit;
    };
    let attach = Attach::Tracepoint { category: "syscalls".to_owned(), name: "sys_enter_getppid".to_owned() };
    let prog = ProgSpec::new("getppid", attach, code)?.load(&target, &maps)?;
    let mut rings = PerfBuffer::open(map, PerfOptions::default())?;
    rings.watch(unsent)?;
    let link = match prog.attach(&target) {
        Ok(link) => link,
        Err(error) => skip!("no tracepoint of a system call: {}", crate::guest::case::chain(&error)),
    };
    let own = own_peak()?;
    let (mut read, mut lost, mut wakes, produced) = (0_u64, 0, 0, number * 2);
    let began = Instant::now();
    std::thread::scope(|scope| -> CaseResult {
        let cpus = online_cpus()?;
        let call = |cpu: u32, number: u64| {
            move || -> std::io::Result<()> {
                sys::stay_on_cpu(usize::try_from(cpu).unwrap_or_default())?;
                (0..number).for_each(|_| {
                    let _ = rustix::process::getppid();
                });
                Ok(())
            }
        };
        let callers: Vec<_> = cpus.iter().cycle().take(2).map(|&cpu| scope.spawn(call(cpu, number))).collect();
        while !callers.iter().all(ScopedJoinHandle::is_finished) {
            wakes += u64::from(sys::is_readable_within(rings.as_fd(), Duration::from_millis(50))?);
            rings.drain(&mut |event| count(&event, &mut read, &mut lost))?;
        }
        let joined = |caller: ScopedJoinHandle<'_, std::io::Result<()>>| -> CaseResult {
            Ok(caller.join().unwrap_or_else(|_| Err(std::io::Error::other("panic")))?)
        };
        callers.into_iter().try_for_each(joined)
    })?;
    let took = began.elapsed();
    let missed = link.missed().unwrap_or_default();
    drop(link);
    rings.finish(&mut |event| count(&event, &mut read, &mut lost))?;
    println!("{read} read, {lost} lost, {missed} missed, {produced} produced in {took:?}; {wakes} wake-ups");
    ensure!(read + lost + missed == produced, "{read} read, {lost} lost, {missed} missed, {produced} produced");
    // A quarter of a ring has room for some thousand events.
    ensure!(wakes <= read / 50 + 20, "{wakes} wake-ups for {read} events");
    let grown = own_peak()?.saturating_sub(own);
    ensure!(grown < 16 << 10, "the reader took {grown} KiB more");
    Ok(())
}

fn count(event: &Event<'_>, read: &mut u64, lost: &mut u64) {
    match event {
        Event::Sample(_) => *read += 1,
        Event::Lost { count, .. } => *lost += count,
    }
}

/// The most memory that this process has had, in KiB.
fn own_peak() -> Result<u64, Failure> {
    peak_of(std::process::id())
}

/// From a connect to its row, when there are no others.
fn lone(ctx: &mut Ctx) -> CaseResult {
    let me = std::process::id().to_string();
    let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", "tracepoint", "-p", &me])?;
    tool.line()?;
    let most = Duration::from_millis(if ctx.is_vm() { 400 } else { 100 });
    // Others may have the processor, so that one may come later, and the whole machine may stand still for a while.
    let mut all = Vec::new();
    for _ in 0..5 {
        let mut times = Vec::new();
        for number in 0..8_u64 {
            // At other moments of the 50 ms after which the tool looks by itself.
            std::thread::sleep(Duration::from_millis(60 + number * 7));
            let began = Instant::now();
            let _ = TcpStream::connect("127.0.0.1:1");
            tool.line()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("{times:?}");
        if times[times.len() - 2] < most {
            return Ok(());
        }
        all.push(times);
    }
    fail!("{all:?}")
}
