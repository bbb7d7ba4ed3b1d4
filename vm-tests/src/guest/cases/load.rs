//! More events than anybody reads: what is printed and what is told to be lost is what there was.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;

use crate::ensure;
use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::tool::Tool;

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "load::every_packet_is_printed_or_lost", run: |ctx| flood(ctx, &[], true) },
    Case {
        name: "load::a_reader_that_does_not_read_loses_exactly",
        run: |ctx| flood(ctx, &["--buffer-pages", "8"], false),
    },
    Case { name: "load::a_stopped_tool_loses_exactly", run: stopped },
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

/// The most memory that it has had, in KiB.
fn peak(tool: &Tool) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{}/status", tool.pid()))?;
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
    let mut tool = Tool::start(ctx, "skbrecv", &["--buffer-pages", "4"])?;
    let before = (received()?, peak(&tool)?);
    tool.signal(Signal::STOP)?;
    send(FLOOD)?;
    tool.signal(Signal::CONT)?;
    std::thread::sleep(Duration::from_millis(300));
    let grown = peak(&tool)? - before.1;
    let produced = received()? - before.0;
    let (status, out, said) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "it ended with {status}: {said}");
    check(out.lines().filter(|line| !line.starts_with("TIME")).count(), &said, produced, true)?;
    ensure!(grown < 1024, "it took {grown} KiB more");
    Ok(())
}
