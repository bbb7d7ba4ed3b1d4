//! What the cases of programs have in common: a program that sends one number, and the numbers that arrive.

use std::net::{TcpListener, TcpStream};
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bpfkit_asm::{Asm, bpf};
use bpfkit_loader::{Attach, Error, Event, Link, MapSpec, Maps, PerfBuffer, PerfOptions, Prog, ProgSpec, Target};

use crate::guest::case::{Doing as _, Failure};

/// How long an event may take to arrive under emulation.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often rings are looked at.
const POLL: Duration = Duration::from_millis(5);

/// The numbers that a program sent.
pub struct Events(PerfBuffer);

/// An attached program whose numbers are read.
pub struct Probe {
    events: Events,
    link: Link,
}

/// A program that sends the process's number and what `value` leaves in r7. `value` finds the context in r6 and may use r0
/// to r5, r8 and r9.
pub fn program(value: Asm) -> Asm {
    bpf! {
        r6 = r1;
        {value};
        *(u64 *)(r10 - 8) = r7;
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 - 16) = r0;
        r1 = r6;
        r2 = map[events];
        r3 = 0xffffffff ll;
        r4 = r10;
        r4 += -16;
        r5 = 16;
        call bpf_perf_event_output;
        r0 = 0;
        exit;
    }
}

impl Probe {
    /// Loads and attaches `program(value)`.
    pub fn start(target: &Target, attach: Attach, value: Asm) -> Result<Probe, Failure> {
        Probe::load(target, ProgSpec::new("probe", attach, program(value))?)
    }

    /// Loads and attaches a program that begins with `program(value)`.
    pub fn load(target: &Target, spec: ProgSpec) -> Result<Probe, Failure> {
        Probe::attach(target, spec, |spec, maps| spec.load(target, maps))
    }

    /// The same for a program that belongs to a function of another.
    pub fn load_onto(target: &Target, spec: ProgSpec, onto: &Prog) -> Result<Probe, Failure> {
        Probe::attach(target, spec, |spec, maps| spec.load_onto(target, maps, onto))
    }

    fn attach(
        target: &Target,
        spec: ProgSpec,
        load: impl FnOnce(&ProgSpec, &Maps) -> Result<Prog, Error>,
    ) -> Result<Probe, Failure> {
        let mut maps = Maps::new();
        maps.create(&MapSpec::perf_event_array("events"), target)?;
        let what = spec.attach.to_string();
        let prog = load(&spec, &maps).doing(|| format!("load the program for {what}"))?;
        let events = maps.get("events").ok_or_else(|| Failure::Fail("no map of events".to_owned()))?;
        let events = Events(PerfBuffer::open(events, PerfOptions::default())?);
        let link = prog.attach(target).doing(|| format!("attach to {what}"))?;
        Ok(Probe { events, link })
    }

    /// The program.
    pub fn prog(&self) -> &Prog {
        self.link.prog()
    }

    /// By which way it was attached.
    pub fn how(&self) -> &str {
        self.link.how()
    }

    /// Its numbers.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Waits for a number that must come.
    pub fn expect(&mut self, wanted: u64) -> Result<(), Failure> {
        let values = self.events.values(PATIENCE, |values| values.contains(&wanted))?;
        if values.contains(&wanted) {
            Ok(())
        } else {
            Err(Failure::Fail(format!("{wanted} did not arrive by {}, only {values:?}", self.how())))
        }
    }

    /// Detaches it; what it has sent can still be read.
    pub fn detach(self) -> Events {
        self.events
    }
}

impl Events {
    /// The numbers that this process caused to be sent, in order of time, until `enough` has seen what it wants or `limit`
    /// is over.
    pub fn values(&mut self, limit: Duration, mut enough: impl FnMut(&[u64]) -> bool) -> Result<Vec<u64>, Failure> {
        let begin = Instant::now();
        let mut values = Vec::new();
        loop {
            self.0.drain(&mut |event| {
                if let Event::Sample(sample) = event
                    && let Some((pid, value)) = record(sample.data)
                    && pid == u64::from(process::id())
                {
                    values.push(value);
                }
            })?;
            if enough(&values) || begin.elapsed() > limit {
                return Ok(values);
            }
            sleep(POLL);
        }
    }
}

/// Process and number of a record.
pub fn record(data: &[u8]) -> Option<(u64, u64)> {
    let word = |at: usize| Some(u64::from_ne_bytes(data.get(at..at + 8)?.try_into().ok()?));
    Some((word(0)? >> 32, word(8)?))
}

/// Two ends of a connection over the loopback interface.
pub fn connection() -> Result<(TcpStream, TcpStream), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((client, server))
}
