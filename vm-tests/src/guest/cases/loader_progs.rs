//! Every type of program is loaded and attached in every way, and its event arrives with the right number.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Feature, Target, online_cpus};

use super::probe::{PATIENCE, Probe, connection};
use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::sys;
use crate::{ensure, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::kprobe_by_pmu_delivers_an_argument", run: |ctx| kprobe(ctx, Way::Pmu) },
    Case { name: "loader::kprobe_by_tracefs_delivers_an_argument", run: |ctx| kprobe(ctx, Way::Tracefs) },
    Case { name: "loader::kretprobe_by_pmu_delivers_the_result", run: |ctx| kretprobe(ctx, Way::Pmu) },
    Case { name: "loader::kretprobe_by_tracefs_delivers_the_result", run: |ctx| kretprobe(ctx, Way::Tracefs) },
    Case { name: "loader::fentry_delivers_an_argument", run: fentry },
    Case { name: "loader::fexit_delivers_argument_and_result", run: fexit },
    Case { name: "loader::tracepoint_delivers_a_field", run: tracepoint },
    Case { name: "loader::tracepoint_of_a_call_on_every_cpu", run: call_on_every_cpu },
    Case { name: "loader::raw_tracepoint_delivers_an_argument", run: raw_tracepoint },
    Case { name: "loader::perf_event_ticks", run: perf_event },
    Case { name: "loader::detached_program_is_silent", run: detached },
];

/// A size that nothing else sends.
const SIZE: usize = 1237;
/// SIZE as programs see it.
const SENT: u64 = 1237;

/// How a kprobe is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pmu,
    Tracefs,
}

fn target(ctx: &Ctx, way: Way) -> Result<Target, Failure> {
    let target = ctx.target()?;
    if !target.has(Feature::Kprobes) {
        skip!("this kernel has no kprobes");
    }
    match way {
        Way::Pmu if !target.has(Feature::KprobePmu) => skip!("this kernel has no kprobe PMU"),
        Way::Pmu => Ok(target),
        Way::Tracefs => Ok(ctx.target_builder().without(Feature::KprobePmu).running()?),
    }
}

fn check_way(probe: &Probe, way: Way) -> Result<(), Failure> {
    let word = if way == Way::Pmu { "PMU" } else { "tracefs" };
    ensure!(probe.how().contains(word), "attached by {:?} instead of by {word}", probe.how());
    Ok(())
}

/// `tcp_sendmsg(sk, msg, size)` returns the size: one function for arguments and results.
const FUNCTION: &str = "tcp_sendmsg";

fn send() -> Result<(), Failure> {
    let (mut client, _server) = connection()?;
    client.write_all(&[7; SIZE])?;
    Ok(())
}

fn kprobe(ctx: &mut Ctx, way: Way) -> Result<(), Failure> {
    let target = target(ctx, way)?;
    let attach = Attach::Kprobe { symbol: FUNCTION.to_owned(), offset: 0 };
    let mut probe = Probe::start(&target, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg3); })?;
    check_way(&probe, way)?;
    send()?;
    probe.expect(SENT)
}

fn kretprobe(ctx: &mut Ctx, way: Way) -> Result<(), Failure> {
    let target = target(ctx, way)?;
    let attach = Attach::Kretprobe { symbol: FUNCTION.to_owned() };
    let mut probe = Probe::start(&target, attach, bpf! { r7 = *(u64 *)(r6 + ctx.ret); })?;
    check_way(&probe, way)?;
    send()?;
    probe.expect(SENT)
}

fn tracing_target(ctx: &Ctx) -> Result<Target, Failure> {
    let target = ctx.target()?;
    if !target.has(Feature::Fentry) {
        skip!("this kernel has no fentry and fexit");
    }
    Ok(target)
}

fn fentry(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = tracing_target(ctx)?;
    let attach = Attach::Fentry { func: FUNCTION.to_owned() };
    let mut probe = Probe::start(&target, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg3); })?;
    send()?;
    probe.expect(SENT)
}

fn fexit(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = tracing_target(ctx)?;
    let attach = Attach::Fexit { func: FUNCTION.to_owned() };
    // The size in the upper half and the result in the lower one.
    let value = bpf! {
        r7 = *(u64 *)(r6 + ctx.arg3);
        r7 <<= 32;
        r1 = *(u64 *)(r6 + ctx.ret);
        r7 |= r1;
    };
    let mut probe = Probe::start(&target, attach, value)?;
    send()?;
    probe.expect(SENT << 32 | SENT)
}

/// TCP_SYN_SENT of include/net/tcp_states.h.
const SYN_SENT: u64 = 2;

fn connect() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    TcpStream::connect(address)?;
    Ok(address.port())
}

fn tracepoint(ctx: &mut Ctx) -> Result<(), Failure> {
    let attach = Attach::Tracepoint { category: "sock".to_owned(), name: "inet_sock_set_state".to_owned() };
    // The port in the upper half and the new state in the lower one.
    let value = bpf! {
        r7 = *(u16 *)(r6 + ctx.dport);
        r7 <<= 32;
        r1 = *(u32 *)(r6 + ctx.newstate);
        r7 |= r1;
    };
    let mut probe = Probe::start(&ctx.target()?, attach, value)?;
    let port = connect()?;
    probe.expect(u64::from(port) << 32 | SYN_SENT)
}

/// A call that takes a pointer: of such, kernels look at more than programs.
fn call_on_every_cpu(ctx: &mut Ctx) -> Result<(), Failure> {
    let attach = Attach::Tracepoint { category: "syscalls".to_owned(), name: "sys_enter_write".to_owned() };
    let mut probe = Probe::start(&ctx.target()?, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg3); })?;
    let cpus = online_cpus()?;
    let sizes: Vec<u64> = cpus.iter().map(|&cpu| SENT << 16 | u64::from(cpu)).collect();
    for (&cpu, &size) in cpus.iter().zip(&sizes) {
        sys::stay_on_cpu(usize::try_from(cpu)?)?;
        sys::write_of_size(usize::try_from(size)?);
    }
    let values = probe.events().values(PATIENCE, |values| sizes.iter().all(|size| values.contains(size)))?;
    ensure!(sizes.iter().all(|size| values.contains(size)), "{values:x?} lacks some of {sizes:x?}");
    Ok(())
}

fn raw_tracepoint(ctx: &mut Ctx) -> Result<(), Failure> {
    let attach = Attach::RawTracepoint { name: "inet_sock_set_state".to_owned() };
    // (sk, old state, new state)
    let mut probe = Probe::start(&ctx.target()?, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg3); })?;
    connect()?;
    probe.expect(SYN_SENT)
}

fn perf_event(ctx: &mut Ctx) -> Result<(), Failure> {
    let mut probe = Probe::start(&ctx.target()?, Attach::PerfEvent { hertz: 100 }, bpf! { r7 = 42; })?;
    let (begin, mut ticks) = (Instant::now(), Vec::new());
    let mut sum = 0_u64;
    // The clock ticks for whoever runs, so this process must; on a machine that stands still at times, for longer.
    while ticks.len() < 3 && begin.elapsed() < PATIENCE {
        let round = Instant::now();
        while round.elapsed() < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        ticks.extend(probe.events().values(Duration::from_millis(20), |values| values.len() > 2)?);
    }
    let took = begin.elapsed();
    ensure!(ticks.len() > 2 && ticks.iter().all(|&tick| tick == 42), "{ticks:?} in {took:?} at 100 Hz");
    Ok(())
}

fn detached(ctx: &mut Ctx) -> Result<(), Failure> {
    let attach = Attach::RawTracepoint { name: "inet_sock_set_state".to_owned() };
    let mut probe = Probe::start(&ctx.target()?, attach, bpf! { r7 = *(u64 *)(r6 + ctx.arg3); })?;
    connect()?;
    probe.expect(SYN_SENT)?;
    let mut silent = probe.detach();
    connect()?;
    let values = silent.values(Duration::from_millis(300), |values| !values.is_empty())?;
    ensure!(values.is_empty(), "{values:?} arrived after the link was dropped");
    Ok(())
}
