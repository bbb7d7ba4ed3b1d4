//! `bpfkit icmpecho` shows each ping that this machine answers: on which CPU, and in the context of which task.
//!
//! The kernel answers pings in a soft interrupt, which runs in the context of whatever task the interrupt found on that CPU. So
//! PID and COMM tell who pays for it: `swapper` when the CPU was idle, `ksoftirqd` under load, and on loopback the sender.
//!
//! `icmp_echo` is given the packet and nothing else, from the oldest kernel to the newest; that it returns a drop reason since
//! Linux 6.1 (it was a bool before) changes nothing for who looks at its entry. `icmpv6_echo_reply` is its counterpart.
//!
//! [Its programs](../../pages/icmpecho.html), instruction by instruction, where the documentation was built with its pages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bpfkit_asm::{Asm, FieldPath, bpf};
use bpfkit_loader::{Attach, Feature, MapSpec, Maps, ProgSpec, Sample, Target};
use serde::Serialize;

use crate::columns::Columns;
use crate::error::Chain;
use crate::escape::Escaped;
use crate::event::Bytes;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, pids, report, skb};

/// Trace answered pings: on which CPU, and in whose context
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Trace IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Trace IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// How to see pings; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit icmpecho                every ping that is answered
  bpfkit icmpecho -4 --json      one JSON object for each, IPv4 only";

/// How pings are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// kprobes on icmp_echo and icmpv6_echo_reply
    Kprobe,
    /// fentry on the same functions
    Fentry,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        Some(match self {
            Self::Kprobe => Feature::Kprobes,
            Self::Fentry => Feature::Fentry,
        })
    }
}

/// A ping, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process whose context it was.
    pub tgid: u32,
    /// Thread whose context it was.
    pub pid: u32,
    /// Name of that thread, up to 16 bytes.
    pub comm: Vec<u8>,
    /// Identifier of the ping's sender.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
    /// Where it came from.
    pub saddr: IpAddr,
}

// The event on the stack of a program, from here up, in the order of its bytes. It ends with 4 or 16 bytes of address; neither
// length leaves the record in need of padding.
const EVENT: i32 = -48;
const PID_TGID: i32 = EVENT;
const COMM: i32 = EVENT + 8;
/// Identifier and sequence number, big-endian.
const ID_SEQ: i32 = EVENT + 24;
const SADDR: i32 = EVENT + 28;
const SIZE_V4: u32 = 32;
const SIZE_V6: u32 = 44;
/// 16 bytes below the event.
const SCRATCH: i32 = EVENT - 16;

/// `id` in struct icmphdr and struct icmp6hdr (include/uapi/linux/icmp.h, icmpv6.h); `sequence` follows it.
const ICMP_ID: i32 = 4;
/// `saddr` in struct iphdr (include/uapi/linux/ip.h).
const IP_SADDR: i32 = 12;
/// `saddr` in struct ipv6hdr (include/uapi/linux/ipv6.h).
const IPV6_SADDR: i32 = 8;

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(data);
        let (tgid, pid) = bytes.halves()?;
        let comm = bytes.comm()?;
        let (id, seq) = (u16::from_be_bytes(bytes.array()?), u16::from_be_bytes(bytes.array()?));
        // The ring pads a record to a multiple of 8 bytes less 4: 32 bytes become 36, and 44 stay.
        let saddr = match bytes.0.len() {
            16.. => Ipv6Addr::from(bytes.array::<16>()?).into(),
            _ => Ipv4Addr::from(bytes.array::<4>()?).into(),
        };
        Some(Self { tgid, pid, comm, id, seq, saddr })
    }
}

impl Args {
    fn programs_by(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
        let mut programs = Vec::new();
        for (v4, wanted, func) in [(true, !self.ipv6, "icmp_echo"), (false, !self.ipv4, "icmpv6_echo_reply")] {
            if wanted {
                let attach = match probe {
                    Probe::Kprobe => tool::kprobe(func),
                    Probe::Fentry => Attach::Fentry { func: func.to_owned() },
                };
                programs.push(ProgSpec::new(func, attach, echo(target, v4))?);
            }
        }
        Ok(programs)
    }

    /// Attaches by one probe. IPv6 may be missing from a kernel; where it was not asked for alone, that is said.
    fn attach(&self, target: &Target, probe: Probe) -> Result<Attached, Error> {
        let mut attached = Attached::prepare(own_maps(), Maps::new(), target, &self.options)?;
        for program in self.programs_by(target, probe)? {
            match attached.attach(&[program], target) {
                Err(error) if !attached.links.is_empty() => {
                    report::say(format_args!("IPv6 pings are not shown: {}", Chain(&error)));
                }
                result => result?,
            }
        }
        Ok(attached)
    }
}

fn own_maps() -> Vec<MapSpec> {
    vec![MapSpec::perf_event_array("events")]
}

/// At the entry: who runs, and what the packet says.
fn echo(target: &Target, v4: bool) -> Asm {
    let (transport, network) = (FieldPath::new("sk_buff.transport_header"), FieldPath::new("sk_buff.network_header"));
    let (saddr, size) = if v4 { (IP_SADDR, SIZE_V4) } else { (IPV6_SADDR, SIZE_V6) };
    bpf! {
        r6 = r1;
        r7 = *(u64 *)(r6 + ctx.arg1);                   // struct sk_buff *skb
        {skb::header(target, transport, ICMP_ID, ID_SEQ, 4, SCRATCH)};
        {skb::header(target, network, saddr, SADDR, if v4 { 4 } else { 16 }, SCRATCH)};
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 + PID_TGID) = r0;
        {pids::here(target, PID_TGID)};
        {event::comm(COMM)};
        {event::send(EVENT, size)};
        r0 = 0;
        exit;
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        tool::likely(self.probe, target).map_or(Ok(Vec::new()), |probe| self.programs_by(target, probe))
    }

    fn maps(&self, _: &Target) -> Result<Vec<MapSpec>, Error> {
        Ok(tool::with_filter(own_maps(), &crate::TaskFilter::default()))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| self.attach(&target, probe))?;
        drop(target);
        let mut printer = Printer::new(self.options.json);
        printer.header(output)?;
        let lost =
            attached.read(&mut session, &self.options, output, |sample, output| printer.print(sample, output))?;
        report::count(lost, "events lost: the ring was full");
        report::count(attached.detach(), "pings missed: the kernel could not run the program");
        Ok(())
    }
}

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    cpu: u32,
    tgid: u32,
    pid: u32,
    comm: String,
    saddr: IpAddr,
    id: u16,
    seq: u16,
}

/// Prints events as rows.
struct Printer {
    json: bool,
    columns: Columns,
    stamps: Stamps,
}

impl Printer {
    fn new(json: bool) -> Self {
        let columns =
            [("TIME", 8), ("CPU", 3), ("TGID", 7), ("PID", 7), ("COMM", 15), ("SADDR", 15), ("ID", 5), ("SEQ", 5)];
        Self { json, columns: Columns::new(columns), stamps: Stamps::new() }
    }

    fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
        let event = Event::parse(sample.data).ok_or(Error::Record(sample.data.len()))?;
        let comm = Escaped(&event.comm).to_string();
        let Event { tgid, pid, saddr, id, seq, .. } = event;
        if self.json {
            let time_ns = self.stamps.since_1970(sample.time);
            return output.json(&Row { time_ns, cpu: sample.cpu, tgid, pid, comm, saddr, id, seq });
        }
        let cells = [
            self.stamps.time_of_day(sample.time),
            sample.cpu.to_string(),
            tgid.to_string(),
            pid.to_string(),
            comm,
            saddr.to_string(),
            id.to_string(),
            seq.to_string(),
        ];
        output.line(self.columns.row(&cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_the_programs_write_it() {
        let head =
            [&0x0000_0007_0000_0009_u64.to_ne_bytes()[..], b"ping\0\0\0\0\0\0\0\0\0\0\0\0", &[1, 2, 0, 3]].concat();
        let v4 = Event::parse(&[&head[..], &[10, 0, 2, 15], &[0; 4]].concat()).unwrap();
        assert_eq!((v4.tgid, v4.pid, v4.comm.as_slice(), v4.id, v4.seq), (7, 9, &b"ping"[..], 0x0102, 3));
        assert_eq!(v4.saddr.to_string(), "10.0.2.15");
        let v6 = Event::parse(&[&head[..], &Ipv6Addr::LOCALHOST.octets()].concat()).unwrap();
        assert_eq!(v6.saddr.to_string(), "::1");
        for end in 0..32 {
            assert_eq!(Event::parse(&[&head[..], &[10, 0, 2, 15]].concat()[..end]), None);
        }
    }
}
