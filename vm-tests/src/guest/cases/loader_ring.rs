//! Perf rings: nothing is out of order, nothing is lost silently, nobody is woken for nothing.

use std::process;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Event, Link, MapSpec, Maps, PerfBuffer, PerfOptions, ProgSpec, Target, online_cpus};
use std::os::fd::AsFd as _;

use super::loader_uprobes::place_of;
use super::probe::{program, record};
use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::sys;
use crate::{ensure, ensure_eq, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::ring_keeps_the_order_of_causes_across_cpus", run: order },
    Case { name: "loader::ring_counts_exactly_what_it_lost", run: lost },
    Case { name: "loader::ring_wakes_its_reader_by_watermark", run: wake },
    Case { name: "loader::ring_of_odd_size_is_refused", run: odd },
    Case { name: "loader::ring_hands_over_records_that_wrap", run: wrap },
];

/// Sends its argument, by a uprobe: the one event that a case can time to the instruction.
#[inline(never)]
extern "C" fn emit(number: u64) -> u64 {
    std::hint::black_box(number ^ 1)
}

fn send(number: u64) {
    let emit: extern "C" fn(u64) -> u64 = std::hint::black_box(emit);
    emit(number);
}

/// The rings of a program at `emit`.
fn start(target: &Target, options: PerfOptions) -> Result<(PerfBuffer, Link), Failure> {
    let mut maps = Maps::new();
    maps.create(&MapSpec::perf_event_array("events"), target)?;
    let (path, offset) = place_of(emit)?;
    let code = program(bpf! { r7 = *(u64 *)(r6 + ctx.arg1); });
    let prog = ProgSpec::new("emit", Attach::Uprobe { path, offset }, code)?.load(target, &maps)?;
    let events = maps.get("events").ok_or_else(|| Failure::Fail("no map of events".to_owned()))?;
    let ring = PerfBuffer::open(events, options)?;
    let link = prog.attach(target).doing(|| "attach to this program".to_owned())?;
    Ok((ring, link))
}

/// What arrived: numbers in the order in which they were handed over, and how many were lost.
#[derive(Default)]
struct Arrived {
    values: Vec<u64>,
    times: Vec<u64>,
    lost: u64,
}

impl Arrived {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Sample(sample) => {
                if let Some((pid, value)) = record(sample.data)
                    && pid == u64::from(process::id())
                {
                    self.values.push(value);
                    self.times.push(sample.time);
                }
            }
            Event::Lost { count, .. } => self.lost += count,
        }
    }
}

/// Two threads on two CPUs hand a token to each other, so that every event is the cause of the next.
fn order(ctx: &mut Ctx) -> Result<(), Failure> {
    const TURNS: u64 = 500;
    let cpus = online_cpus()?;
    let [first, second, ..] = cpus[..] else { skip!("there is one CPU only") };
    let (mut ring, _link) = start(&ctx.target()?, PerfOptions::default())?;
    let mut arrived = Arrived::default();
    let player = |cpu: u32, own: Receiver<u64>, other: SyncSender<u64>| {
        move || -> Result<(), String> {
            sys::stay_on_cpu(usize::try_from(cpu).unwrap_or_default()).map_err(|error| error.to_string())?;
            while let Ok(turn) = own.recv() {
                send(turn);
                if turn + 1 >= TURNS {
                    break;
                }
                let _ = other.send(turn + 1);
            }
            Ok(())
        }
    };
    let (to_first, of_first) = sync_channel(1);
    let (to_second, of_second) = sync_channel(1);
    let _ = to_first.send(0);
    thread::scope(|scope| -> Result<(), Failure> {
        let players =
            [scope.spawn(player(first, of_first, to_second)), scope.spawn(player(second, of_second, to_first))];
        // Reading while they play is what puts samples of one CPU before older ones of another, if the fence is wrong.
        while !players.iter().all(thread::ScopedJoinHandle::is_finished) {
            ring.drain(&mut |event| arrived.take(&event))?;
        }
        for player in players {
            if let Err(error) = player.join().unwrap_or_else(|_| Err("it panicked".to_owned())) {
                return Err(Failure::Fail(format!("a player: {error}")));
            }
        }
        Ok(())
    })?;
    ring.finish(&mut |event| arrived.take(&event))?;
    ensure_eq!(arrived.lost, 0, "lost");
    let wrong = arrived.values.iter().zip(0..).find(|&(&value, turn)| value != turn);
    ensure!(wrong.is_none(), "{wrong:?} is the first (found, expected) that differ");
    ensure_eq!(arrived.values.len(), 500, "events");
    ensure!(arrived.times.is_sorted(), "times go back");
    Ok(())
}

fn lost(ctx: &mut Ctx) -> Result<(), Failure> {
    const SENT: u64 = 1000;
    let (mut ring, _link) = start(&ctx.target()?, PerfOptions { pages: 1, ..PerfOptions::default() })?;
    let mut arrived = Arrived::default();
    sys::stay_on_cpu(0)?;
    (0..SENT).for_each(send);
    ring.finish(&mut |event| arrived.take(&event))?;
    let fit = arrived.values.len();
    ensure!(fit > 0 && fit < 200, "{fit} records fit into a page");
    // The kernel tells how many were lost with the first record that finds room again, and that need not be one of a program.
    ensure_eq!(
        u64::try_from(fit).unwrap_or_default() + arrived.lost,
        SENT,
        "{fit} arrived and {} were lost, the sum",
        arrived.lost
    );
    send(SENT);
    ring.finish(&mut |event| arrived.take(&event))?;
    let seen = u64::try_from(arrived.values.len()).unwrap_or_default();
    ensure_eq!(seen + arrived.lost, SENT + 1, "{seen} arrived and {} were lost, the sum", arrived.lost);
    ensure_eq!(arrived.values.last(), Some(&SENT));
    Ok(())
}

fn wake(ctx: &mut Ctx) -> Result<(), Failure> {
    let options = PerfOptions { pages: 4, wake_at: 4 };
    let (mut ring, _link) = start(&ctx.target()?, options)?;
    sys::stay_on_cpu(0)?;
    send(1);
    let early = sys::is_readable_within(ring.as_fd(), Duration::from_millis(50))?;
    ensure!(!early, "the reader was woken for one event");
    // A quarter of four pages is 4096 bytes, and a record has about 40.
    (0..150).for_each(send);
    ensure!(sys::is_readable_within(ring.as_fd(), Duration::from_secs(30))?, "150 events did not wake the reader");
    let mut arrived = Arrived::default();
    ring.finish(&mut |event| arrived.take(&event))?;
    ensure_eq!((arrived.values.len(), arrived.lost), (151, 0));
    Ok(())
}

fn odd(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::perf_event_array("events").create(&ctx.target()?)?;
    for pages in [0, 3, 12] {
        let opened = PerfBuffer::open(&map, PerfOptions { pages, ..PerfOptions::default() });
        ensure!(opened.is_err(), "{pages} pages were taken");
    }
    Ok(())
}

/// A ring of one page is gone through many times, so that some records lie across its end.
fn wrap(ctx: &mut Ctx) -> Result<(), Failure> {
    let (mut ring, _link) = start(&ctx.target()?, PerfOptions { pages: 1, ..PerfOptions::default() })?;
    sys::stay_on_cpu(0)?;
    let mut arrived = Arrived::default();
    for number in 0..600 {
        send(number);
        if number % 7 == 0 {
            ring.drain(&mut |event| arrived.take(&event))?;
        }
    }
    ring.finish(&mut |event| arrived.take(&event))?;
    ensure_eq!(arrived.lost, 0, "lost");
    ensure!(arrived.values.iter().copied().eq(0..600), "{:?}", arrived.values);
    Ok(())
}
