//! `bpfkit bpf2bpf` shows new TCP connections three times: by a kprobe program, and by programs that watch a function of it.
//!
//! Two kprobe programs, on `tcp_connect` (a connection that a process here asks for) and on `inet_csk_complete_hashdance` (one
//! that was accepted), hand their socket to one subprogram, which is not inlined:
//!
//! ```text
//! int handle_new_connection(struct pt_regs *ctx, struct sock *sk)
//! ```
//!
//! It prints the line `(kprobe)` and returns what the global function `int value_of(u64 port, u64 family)` makes of the remote
//! port and the address family: the port. An fentry and an fexit program are attached to it inside of each of the loaded kprobe
//! programs (Linux 5.5), and print the lines `(fentry)` and `(fexit: RESULT)`. With `--replace` another program takes the place
//! of `value_of` (Linux 5.6) and gives the family, 2 or 10, so that RESULT changes.
//!
//! Addresses are shown local end first. A process that is shown with `--json` is the one that called `connect`; an accepted
//! connection comes up in a softirq, which runs in whatever process it has interrupted, so that it has none, and filters by
//! process apply to `tcp_connect` alone. A connection whose SYN was answered with a cookie comes up in another way and is not
//! shown.
//!
//! The three lines of a connection are printed together and in this order, though fentry runs before the subprogram has sent
//! anything; the times of `--json` tell.
//!
//! [Its programs](../../pages/bpf2bpf.html), instruction by instruction, where the documentation was built with its pages.

use std::collections::HashMap;
use std::time::Instant;

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Attach, CType, Feature, Linkage, MapSpec, ProgSpec, Prototype, Sample, Target};
use serde::Serialize;

use crate::error::Chain;
use crate::escape::Escaped;
use crate::event::Bytes;
use crate::filter::TaskFilter;
use crate::flow::{self, Flow, Ip, JsonFlow};
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, pids, read, report};

/// Trace new TCP connections by a kprobe, and by fentry and fexit on its BPF subprogram
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Attach to these functions only
    #[arg(long, value_enum, value_name = "FUNCTION[,FUNCTION]", value_delimiter = ',')]
    pub probes: Vec<Probe>,
    /// Replace a global function of the programs by another program: the result is the address family, not the port
    #[arg(long)]
    pub replace: bool,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit bpf2bpf                        connections asked for and accepted
  bpfkit bpf2bpf --probes tcp_connect   those asked for
  bpfkit bpf2bpf --replace              with a function replaced: the result is the address family
  bpfkit bpf2bpf --ebpf                 the programs, without running them";

/// Where the kprobes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Probe {
    /// A connection that a process asks for
    #[value(name = "tcp_connect")]
    Connect,
    /// A connection that was accepted
    #[value(name = "inet_csk_complete_hashdance")]
    Accept,
}

impl Probe {
    const fn function(self) -> &'static str {
        match self {
            Self::Connect => "tcp_connect",
            Self::Accept => "inet_csk_complete_hashdance",
        }
    }

    /// What its programs are called.
    const fn short(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
        }
    }
}

/// Which program saw a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The subprogram itself.
    Kprobe,
    /// The program at its entry.
    Fentry,
    /// The program at its return.
    Fexit,
}

/// A connection, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process, of a connection that is asked for.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the thread, up to 16 bytes.
    pub comm: Vec<u8>,
    /// Which program saw it.
    pub via: Via,
    /// Which function of the kernel the socket was given to.
    pub probe: Probe,
    /// What the subprogram returned, as fexit sees it.
    pub ret: Option<i32>,
    /// Addresses and ports.
    pub flow: Flow,
}

// The event on the stack of a program, from here up, in the order of its bytes. What follows the ports is 2 addresses of 4 or
// of 16 bytes. Neither length leaves the record in need of padding: 4 bytes of size and the event are a multiple of 8.
const EVENT: i32 = -80;
const PID_TGID: i32 = EVENT;
const COMM: i32 = EVENT + 8;
/// Which program it is: a byte of [`Via`] and a byte of [`Probe`], in 4 bytes.
const WHICH: i32 = EVENT + 24;
/// 2 bytes, and 2 of nothing.
const FAMILY: i32 = EVENT + 28;
const RET: i32 = EVENT + 32;
const PORTS: i32 = EVENT + 40;
const ADDRESSES: i32 = EVENT + 44;
const SIZE_V4: u32 = 52;
const SIZE_V6: u32 = 76;
/// 8 bytes of the stack of the function where the kernel enters, for filters.
const SCRATCH: i32 = -8;

const SUBPROGRAM: &str = "handle_new_connection";
const VALUE_OF: &str = "value_of";

/// What a program writes at [`WHICH`].
const fn which(probe: Probe, via: Via) -> i32 {
    let via = match via {
        Via::Kprobe => 0,
        Via::Fentry => 1,
        Via::Fexit => 2,
    };
    match probe {
        Probe::Connect => via,
        Probe::Accept => 1 << 8 | via,
    }
}

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let (pid, tid) = bytes.halves()?;
        let comm = bytes.comm()?;
        let number = bytes.u32()?;
        let (probe, via) = [Probe::Connect, Probe::Accept]
            .into_iter()
            .flat_map(|probe| [Via::Kprobe, Via::Fentry, Via::Fexit].map(|via| (probe, via)))
            .find(|&(probe, via)| which(probe, via).unsigned_abs() == number)?;
        let [family, _] = [bytes.u16()?, bytes.u16()?];
        let ip = if i32::from(family) == Ip::V4.family() { Ip::V4 } else { Ip::V6 };
        let ret = bytes.u64()?.cast_signed();
        Some(Self {
            pid,
            tid,
            comm,
            via,
            probe,
            ret: if via == Via::Fexit { Some(i32::try_from(ret).ok()?) } else { None },
            flow: Flow::parse(ip, bytes)?,
        })
    }
}

impl Args {
    /// The functions that were asked for: without a filter both, else the one whose process means something.
    fn probes(&self) -> Vec<Probe> {
        let mut probes = self.probes.clone();
        probes.sort_unstable();
        probes.dedup();
        match (probes.is_empty(), self.filter.is_any()) {
            (false, _) => probes,
            (true, false) => vec![Probe::Connect, Probe::Accept],
            (true, true) => vec![Probe::Connect],
        }
    }

    /// The programs at one function, each after the one that it belongs to.
    fn programs_of(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
        let short = probe.short();
        let proto = Prototype::int()
            .param("ctx", CType::Struct("pt_regs".to_owned()))
            .param("sk", CType::Struct("sock".to_owned()));
        let value_proto = Prototype::int().param("port", CType::U64).param("family", CType::U64);
        let value_of = bpf! {
            r0 = r1;                                    // the port
            exit;
        };
        let kprobe = ProgSpec::new(short, tool::kprobe(probe.function()), self.entry(target, probe))?
            .func_with(SUBPROGRAM, proto, Linkage::Static, handle_new_connection(target, probe))?
            .func_with(VALUE_OF, value_proto, Linkage::Global, value_of)?;
        let mut programs = Vec::new();
        if self.replace {
            target.require(Feature::Freplace)?;
            let family = bpf! {
                r0 = r2;                                // the family
                exit;
            };
            let attach = Attach::Freplace(kprobe.function(VALUE_OF)?);
            programs.push(ProgSpec::new(&format!("{short}_family"), attach, family)?);
        }
        if target.has(Feature::FentryProg) {
            let func = kprobe.function(SUBPROGRAM)?;
            let (entry, exit) = (watch(target, probe, Via::Fentry), watch(target, probe, Via::Fexit));
            programs.push(ProgSpec::new(&format!("{short}_entry"), Attach::FentryProg(func.clone()), entry)?);
            programs.push(ProgSpec::new(&format!("{short}_exit"), Attach::FexitProg(func), exit)?);
        }
        programs.insert(0, kprobe);
        Ok(programs)
    }

    /// Where the kernel enters: finds the socket and hands it on.
    fn entry(&self, target: &Target, probe: Probe) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! { r6 = r1; });
        match probe {
            Probe::Connect => {
                if self.filter.is_any() {
                    code.splice(bpf! {
                        call bpf_get_current_pid_tgid;
                        {self.filter.code(target, SCRATCH, out)};
                    });
                }
                code.splice(bpf! { r2 = *(u64 *)(r6 + ctx.arg1); }); // struct sock *sk
            }
            Probe::Accept => {
                code.splice(bpf! {
                    r1 = *(u64 *)(r6 + ctx.arg4);                               // bool own_req
                    r1 &= 255;
                    if r1 == 0 goto {out};                                      // another CPU was first
                    r2 = *(u64 *)(r6 + ctx.arg2);                               // struct sock *child
                });
            }
        }
        code.splice(bpf! {
            r1 = r6;
            call handle_new_connection;
        });
        event::leave(code, out)
    }
}

/// `int handle_new_connection(struct pt_regs *ctx, struct sock *sk)`, of which each program has its copy, as programs have all
/// their functions.
fn handle_new_connection(target: &Target, probe: Probe) -> Asm {
    let mut code = Asm::new();
    let out = code.named_label("out");
    code.splice(bpf! {
        r6 = r1;
        r7 = r2;
        {report(target, probe, Via::Kprobe, out)};
        r1 = *(u16 *)(r10 + PORTS);
        r1 = be16 r1;
        r2 = *(u16 *)(r10 + FAMILY);
        call value_of;
        exit;
    });
    event::leave(code, out)
}

/// The program at the entry or the return of that.
fn watch(target: &Target, probe: Probe, via: Via) -> Asm {
    let mut code = Asm::new();
    let out = code.named_label("out");
    code.splice(bpf! {
        r6 = r1;
        r7 = *(u64 *)(r6 + ctx.arg2);                   // struct sock *sk
        {report(target, probe, via, out)};
    });
    event::leave(code, out)
}

/// Sends the event of the struct sock in r7, with the context in r6; leaves for `out` with one that is not of TCP over IP.
fn report(target: &Target, probe: Probe, via: Via, out: Label) -> Asm {
    let mut code = bpf! {
        *(u64 *)(r10 + RET) = 0;
    };
    if via == Via::Fexit {
        code = bpf! {
            r1 = *(u64 *)(r6 + ctx.ret);
            r1 <<= 32;                                  // an int
            r1 s>>= 32;
            *(u64 *)(r10 + RET) = r1;
        };
    }
    code.splice(bpf! {
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 + PID_TGID) = r0;
        {pids::here(target, PID_TGID)};
        {event::comm(COMM)};
        *(u32 *)(r10 + WHICH) = {which(probe, via)};
        *(u32 *)(r10 + FAMILY) = 0;
        r3 = r7;
        r3 += sock.__sk_common.skc_family;
        {read::kernel(target, FAMILY, 2)};
        {flow::ports(target, PORTS)};
        r1 = *(u16 *)(r10 + FAMILY);
    });
    let v4 = bpf! {
        if r1 != {Ip::V4.family()} goto {out};
        {flow::addresses_v4(target, ADDRESSES)};
        {event::send(EVENT, SIZE_V4)};
    };
    // A socket of a kernel without IPv6 has no room for its addresses.
    code.splice(if target.field("sock.__sk_common.skc_v6_daddr").is_err() {
        v4
    } else {
        bpf! {
            if r1 == {Ip::V6.family()} goto v6;
            {v4};
            goto sent;
        v6:
            {flow::remote_v6(target, ADDRESSES)};
            {flow::local_v6(target, ADDRESSES + 16)};
            {event::send(EVENT, SIZE_V6)};
        sent:
        }
    });
    code
}

fn own_maps() -> Vec<MapSpec> {
    vec![MapSpec::perf_event_array("events")]
}

impl Args {
    /// Attaches at each function. One that was not asked for by its name may be missing: that is said.
    fn attach(&self, target: &Target) -> Result<Attached, Error> {
        target.require(Feature::Kprobes)?;
        if let Err(error) = target.require(Feature::FentryProg) {
            report::say(format_args!("fentry and fexit show nothing: {}", Chain(&error)));
        }
        let mut attached = Attached::prepare(own_maps(), self.filter.maps(target)?, target, &self.options)?;
        for probe in self.probes() {
            let result = self.programs_of(target, probe).and_then(|programs| attached.attach(&programs, target));
            match result {
                Err(error) if probe == Probe::Accept && self.probes.is_empty() && !error.is_final() => {
                    report::say(format_args!("accepted connections are not shown: {}", Chain(&error)));
                }
                result => result?,
            }
        }
        Ok(attached)
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        let programs = self.probes().into_iter().map(|probe| self.programs_of(target, probe));
        Ok(programs.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn maps(&self, _: &Target) -> Result<Vec<MapSpec>, Error> {
        Ok(tool::with_filter(own_maps(), &self.filter))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        if self.filter.is_any() && self.probes.contains(&Probe::Accept) {
            return Err(Error::Request(format!(
                "{} runs in whatever process was interrupted, so that filters by process do not apply to it",
                Probe::Accept.function()
            )));
        }
        self.filter.check(&target)?;
        let mut session = Session::new()?;
        let started = Instant::now();
        let mut attached = self.attach(&target)?;
        let how = if target.has(Feature::FentryProg) { "kprobe, fentry and fexit" } else { "kprobe" };
        attached.tell(&self.options, &target, how, started);
        drop(target);
        let mut printer = Printer::new(self.options.json);
        let lost = attached.read(&mut session, &self.options, output, |sample, output| {
            let event = Event::parse(sample.data).ok_or(Error::Record(sample.data.len()))?;
            printer.take(sample, event, output)
        })?;
        printer.finish(output)?;
        output.flush()?;
        report::count(lost, "events lost: the ring was full");
        report::count(attached.detach(), "connections missed: the kernel could not run a program");
        Ok(())
    }
}

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    via: Via,
    /// The function of the kernel.
    probe: &'static str,
    /// Null for an accepted connection, as are `tid` and `comm`.
    pid: Option<u32>,
    tid: Option<u32>,
    comm: Option<String>,
    #[serde(flatten)]
    flow: JsonFlow,
    /// What the subprogram returned; null but for fexit.
    ret: Option<i32>,
}

/// An event and its time.
type Seen = (u64, Event);

/// Puts the events of each call in the order in which they are printed.
#[derive(Default)]
struct Calls {
    /// What fentry saw, by CPU, until the subprogram, which runs there without a break, has sent its event, too.
    entered: HashMap<u32, Seen>,
}

impl Calls {
    /// What can be printed once this event is there. Any event but this may have been lost.
    fn take(&mut self, cpu: u32, seen: Seen) -> [Option<Seen>; 2] {
        match seen.1.via {
            Via::Fentry => [self.entered.insert(cpu, seen), None],
            Via::Kprobe => [Some(seen), self.entered.remove(&cpu)],
            Via::Fexit => [self.entered.remove(&cpu), Some(seen)],
        }
    }
}

/// Prints events.
struct Printer {
    json: bool,
    stamps: Stamps,
    calls: Calls,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { json, stamps: Stamps::new(), calls: Calls::default() }
    }

    fn take(&mut self, sample: &Sample<'_>, event: Event, output: &mut Output) -> Result<(), Error> {
        let ready = self.calls.take(sample.cpu, (sample.time, event));
        ready.into_iter().flatten().try_for_each(|seen| self.print(&seen, output))
    }

    /// Prints what still waits for an event that was lost.
    fn finish(mut self, output: &mut Output) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.calls.entered);
        waiting.values().try_for_each(|seen| self.print(seen, output))
    }

    fn print(&self, (time, event): &Seen, output: &mut Output) -> Result<(), Error> {
        if !self.json {
            return output.line(&text(event));
        }
        let &Event { via, probe, ret, flow, .. } = event;
        let of_process = probe == Probe::Connect;
        output.json(&Row {
            time_ns: self.stamps.since_1970(*time),
            via,
            probe: probe.function(),
            pid: of_process.then_some(event.pid),
            tid: of_process.then_some(event.tid),
            comm: of_process.then(|| Escaped(&event.comm).to_string()),
            flow: flow.into(),
            ret,
        })
    }
}

/// A row as text.
fn text(event: &Event) -> String {
    let flow = event.flow;
    match (event.via, event.ret) {
        (Via::Kprobe, _) => format!("new tcp connection: {flow} (kprobe)"),
        (Via::Fentry, _) => format!("new tcp connection: {flow} (fentry)"),
        (Via::Fexit, ret) => format!("new tcp connection: {flow} (fexit: {})", ret.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(which: u32, family: u16, ret: i64) -> Vec<u8> {
        let mut record =
            [&(7_u64 << 32 | 8).to_ne_bytes()[..], b"curl\0junk\0\0\0\0\0\0\0", &which.to_ne_bytes()].concat();
        record.extend([family.to_ne_bytes(), [0; 2]].concat());
        record.extend(ret.to_ne_bytes());
        record.extend([0, 80]);
        record.extend(36532_u16.to_ne_bytes());
        let addresses: &[u8] = if family == 2 { &[93, 184, 216, 34, 10, 0, 2, 15] } else { &[0; 32] };
        record.extend(addresses);
        record
    }

    #[test]
    fn a_record_is_a_line() {
        for (via, family, ret, line) in [
            (0, 2, 0, "10.0.2.15:36532 -> 93.184.216.34:80 (kprobe)"),
            (1, 2, 0, "10.0.2.15:36532 -> 93.184.216.34:80 (fentry)"),
            (2, 2, 80, "10.0.2.15:36532 -> 93.184.216.34:80 (fexit: 80)"),
            (2, 10, -1, "[::]:36532 -> [::]:80 (fexit: -1)"),
        ] {
            let event = Event::parse(&record(via, family, ret)).unwrap();
            assert_eq!(text(&event), format!("new tcp connection: {line}"));
            assert_eq!((event.pid, event.tid, event.comm.as_slice()), (7, 8, &b"curl"[..]));
        }
    }

    #[test]
    fn records_have_the_sizes_that_programs_send_and_no_others() {
        assert_eq!(record(0, 2, 0).len(), usize::try_from(SIZE_V4).unwrap());
        let whole = record(0, 10, 0);
        assert_eq!(whole.len(), usize::try_from(SIZE_V6).unwrap());
        for end in 0..whole.len() {
            assert_eq!(Event::parse(&whole[..end]), None, "{end}");
        }
        assert_eq!(Event::parse(&record(3, 2, 0)), None, "a program that is none of ours");
    }

    #[test]
    fn lines_of_a_call_stand_together_and_none_waits_for_a_lost_one() {
        let mut calls = Calls::default();
        let mut take = |cpu, via, time| {
            let event = Event::parse(&record(via, 2, 0)).unwrap();
            calls.take(cpu, (time, event)).into_iter().flatten().map(|(time, _)| time).collect::<Vec<_>>()
        };
        let (kprobe, fentry, fexit) = (0, 1, 2);
        assert_eq!((take(0, fentry, 1), take(1, fentry, 2)), (vec![], vec![]));
        assert_eq!((take(0, kprobe, 3), take(0, fexit, 4)), (vec![3, 1], vec![4]));
        // On the other CPU the event of the kprobe was lost, and then that and the one of fexit.
        assert_eq!((take(1, fexit, 5), take(1, fentry, 6), take(1, fentry, 7)), (vec![2, 5], vec![], vec![6]));
        assert_eq!(calls.entered.len(), 1);
    }

    #[test]
    fn a_record_tells_which_function_the_socket_was_given_to() {
        let event = |which| Event::parse(&record(which, 2, 0)).map(|event| (event.probe, event.via));
        assert_eq!(event(0), Some((Probe::Connect, Via::Kprobe)));
        assert_eq!(event(0x102), Some((Probe::Accept, Via::Fexit)));
        assert_eq!(event(0x200), None);
    }

    #[test]
    fn a_filter_by_process_leaves_accepted_connections_out() {
        let mut args = Args::default();
        assert_eq!(args.probes(), [Probe::Connect, Probe::Accept]);
        args.filter.uid = Some(0);
        assert_eq!(args.probes(), [Probe::Connect]);
        args.probes = vec![Probe::Accept, Probe::Connect, Probe::Accept];
        assert_eq!(args.probes(), [Probe::Connect, Probe::Accept]);
    }
}
