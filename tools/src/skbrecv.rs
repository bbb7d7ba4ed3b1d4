//! `bpfkit skbrecv` shows the packets that a network device received: when, on which CPU, how long, which protocol.
//!
//! Every packet that the stack receives passes through `__netif_receive_skb_core`. Its first argument is the packet,
//! `struct sk_buff *`, and since Linux 5.8 a pointer to it, `struct sk_buff **`: the function's prototype in the kernel's types
//! decides. The compiler may have left a copy under another name, such as `__netif_receive_skb_core.constprop.0`, and the types
//! have left the function out for its name; the copy is found in /proc/kallsyms, or on a kernel that does not run here it is the usual one,
//! and since Linux 5.8 it takes what the function takes.
//! Where the kernel has no kprobes the tracepoint `net:netif_receive_skb`, which lies in that function, serves. Its record has all but
//! the protocol, whose place is found by trying where there are no types.
//!
//! LEN is what the packet holds from the network header on: the device's own header is gone at that point.
//!
//! [Its programs](../../pages/skbrecv.html), instruction by instruction, where the documentation was built with its pages.

use bpfkit_asm::{Asm, Label, Version, bpf};
use bpfkit_loader::{
    Error as LoaderError, Feature, MapSpec, Maps, ProgSpec, Sample, Target, TracePipe, function_names, lacks_function,
};
use serde::Serialize;

use crate::columns::Columns;
use crate::escape::{self, Escaped};
use crate::event::Bytes;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, read, report};

/// Trace the packets that a network device received
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Trace this device only; `any` is every device
    #[arg(short, long, value_name = "DEV", default_value = "lo", value_parser = device)]
    pub interface: String,
    /// Let the programs print by bpf_trace_printk, and read it from tracefs' trace_pipe
    #[arg(long)]
    pub printk: bool,
    /// How to see packets; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit skbrecv                 what comes in on lo
  bpfkit skbrecv -i eth0         on eth0
  bpfkit skbrecv -i any --json   on any device, one JSON object a packet
  bpfkit skbrecv --printk        the same by bpf_trace_printk";

/// How packets are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// A kprobe on __netif_receive_skb_core
    Kprobe,
    /// The tracepoint net:netif_receive_skb
    Tracepoint,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        match self {
            Self::Kprobe => Some(Feature::Kprobes),
            Self::Tracepoint => None,
        }
    }
}

const FUNCTION: &str = "__netif_receive_skb_core";

/// Bytes of a device's name, with its NUL.
const IFNAMSIZ: usize = 16;

/// A name that a device can have (dev_valid_name of net/core/dev.c), or `any`.
fn device(text: &str) -> Result<String, String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if text.is_empty() || text.len() >= IFNAMSIZ || text == "." || text == ".." || text.contains(bad) {
        return Err(format!("no device has such a name: it has 1 to {} bytes, no `/`, `:` or space", IFNAMSIZ - 1));
    }
    Ok(text.to_owned())
}

/// A packet, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The device's name, up to 16 bytes.
    pub dev: Vec<u8>,
    /// Bytes from the network header on.
    pub len: u32,
    /// `ETH_P_*` of include/uapi/linux/if_ether.h.
    pub proto: u16,
}

// The event on the stack of a program, from here up, in the order of its bytes.
const EVENT: i32 = -24;
const NAME: i32 = EVENT;
const LEN: i32 = EVENT + 16;
/// 2 bytes, big-endian, and 2 of nothing.
const PROTO: i32 = EVENT + 20;
const SIZE: u32 = 24;
/// 8 bytes below the event.
const SCRATCH: i32 = EVENT - 8;
/// The format of bpf_trace_printk, 32 bytes below those. Linux before 5.9 adds no line feed of its own.
const FORMAT: i32 = SCRATCH - 32;
const PRINTK: &[u8; 32] = b"skbrecv %s len %u proto %x\n\0\0\0\0\0";
/// Up to the first NUL and with it: Linux before 5.13 takes no second one.
const PRINTK_SIZE: i32 = 28;

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(data);
        let dev = escape::comm(bytes.take(IFNAMSIZ)?).to_vec();
        Some(Self { dev, len: bytes.u32()?, proto: u16::from_be_bytes(bytes.array()?) })
    }

    /// Reads what a program printed in the form of [`PRINTK`].
    pub(crate) fn parse_text(text: &str) -> Option<Self> {
        let (dev, rest) = text.strip_prefix("skbrecv ")?.rsplit_once(" len ")?;
        let (len, proto) = rest.split_once(" proto ")?;
        Some(Self { dev: dev.into(), len: len.parse().ok()?, proto: u16::from_str_radix(proto.trim_end(), 16).ok()? })
    }
}

/// A protocol by its name in tcpdump and ip-link, else by its number.
fn protocol(number: u16) -> String {
    match number {
        0x0800 => "IPv4".to_owned(),
        0x86dd => "IPv6".to_owned(),
        0x0806 => "ARP".to_owned(),
        0x8100 => "802.1Q".to_owned(),
        0x88a8 => "802.1ad".to_owned(),
        0x8847 => "MPLS".to_owned(),
        0x88cc => "LLDP".to_owned(),
        number => format!("{number:#06x}"),
    }
}

/// A copy of the function that keeps the first argument in its place; `.cold` and `.part` are pieces of a function.
const COPY: &str = "__netif_receive_skb_core.constprop.";
/// What it is called where only one was made.
const USUAL_COPY: &str = "__netif_receive_skb_core.constprop.0";
/// The mainline kernel since which the function takes a pointer to a pointer. Stable kernels before it may do so as well
/// (commit c0bbbdc32feb), so that of those only the types can tell.
const INDIRECT: Version = Version::new(5, 8);

/// Whether the first argument of the function of this name is a pointer to a pointer. Types leave out what has lost its name, and those
/// of old kernels leave out all functions: of a copy the version tells, where it is new enough to tell; else it is tried.
fn is_indirect(target: &Target, symbol: &str) -> Result<bool, Error> {
    let proto = match target.func_proto(FUNCTION) {
        Err(_) if symbol.starts_with(COPY) && target.version() >= INDIRECT => return Ok(true),
        // Where there is no such function its copy is next.
        Err(error @ LoaderError::Btf(_)) if target.is_running() && !lacks_function(symbol) => {
            return target.takes_packets_indirectly(symbol).map_err(|_| error.into());
        }
        found => found?,
    };
    let types = target.btf()?;
    let first = proto.params().next();
    let spelt = first.map_or_else(String::new, |param| types.spell(param.ty));
    Ok(spelt.replace(' ', "").ends_with("**"))
}

/// The copy that the compiler left in place of the function.
fn copy(target: &Target) -> Result<Option<String>, Error> {
    if target.is_running() {
        return Ok(copy_among(&function_names(FUNCTION)?));
    }
    Ok((target.version() >= INDIRECT).then(|| USUAL_COPY.to_owned()))
}

/// The copy among these names; none where the function itself is, so that it is something else that is wrong.
fn copy_among(names: &[String]) -> Option<String> {
    names
        .iter()
        .find(|name| name.starts_with(COPY))
        .filter(|_| names.first().is_some_and(|name| name != FUNCTION))
        .cloned()
}

/// The device's name and the length of the packet in r7, from its members.
fn members(target: &Target) -> (Asm, Asm) {
    let name = bpf! {
        r3 = r7;
        r3 += sk_buff.dev;
        {read::kernel(target, SCRATCH, 8)};
        r3 = *(u64 *)(r10 + SCRATCH);
        r3 += net_device.name;
        {read::kernel(target, NAME, 16)};
    };
    let len = bpf! {
        r3 = r7;
        r3 += sk_buff.len;
        {read::kernel(target, LEN, 4)};
    };
    (name, len)
}

/// The same from the tracepoint's record. Of what follows a short name there nothing is shown.
fn record(target: &Target) -> (Asm, Asm) {
    let name = bpf! {
        r3 = *(u32 *)(r6 + ctx.name);                   // __data_loc: its length, and where in the record it is
        r3 &= 0xffff;
        r3 += r6;
        {read::kernel(target, NAME, 16)};
    };
    let len = bpf! {
        r1 = *(u32 *)(r6 + ctx.len);
        *(u32 *)(r10 + LEN) = r1;
    };
    (name, len)
}

impl Args {
    fn programs_by(&self, target: &Target, probe: Probe, symbol: &str) -> Result<Vec<ProgSpec>, Error> {
        let (attach, mut packet) = match probe {
            Probe::Kprobe => {
                let mut packet = bpf! { r7 = *(u64 *)(r6 + ctx.arg1); };
                if is_indirect(target, symbol)? {
                    packet.splice(bpf! {
                        r3 = r7;                        // struct sk_buff **pskb
                        {read::kernel(target, SCRATCH, 8)};
                        r7 = *(u64 *)(r10 + SCRATCH);
                    });
                }
                (tool::kprobe(symbol), packet)
            }
            Probe::Tracepoint => {
                (tool::tracepoint("net", "netif_receive_skb"), bpf! { r7 = *(u64 *)(r6 + ctx.skbaddr); })
            }
        };
        let (name, len) = match probe {
            Probe::Kprobe => members(target),
            Probe::Tracepoint => record(target),
        };
        packet.splice(name);
        Ok(vec![ProgSpec::new("skbrecv", attach, self.receive(target, packet, len))?])
    }

    /// Reports the packet that `packet` puts into r7, with the device's name at r10 + [`NAME`]; `len` adds the length.
    fn receive(&self, target: &Target, packet: Asm, len: Asm) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            {packet};
            {self.device_filter(out)};
            {len};
            *(u32 *)(r10 + PROTO) = 0;
            r3 = r7;
            r3 += sk_buff.protocol;
            {read::kernel(target, PROTO, 2)};
            {if self.printk { print() } else { event::send(EVENT, SIZE) }};
        });
        event::leave(code, out)
    }

    /// Leaves for `out` unless the name at r10 + NAME is the one asked for. What follows the NUL is not looked at: a device that
    /// was renamed has the rest of a longer name there.
    fn device_filter(&self, out: Label) -> Asm {
        let mut code = Asm::new();
        if self.interface == "any" {
            return code;
        }
        let wanted = [self.interface.as_bytes(), b"\0"].concat();
        for (at, part) in (NAME..).step_by(8).zip(wanted.chunks(8)) {
            let (mut word, mut mask) = ([0; 8], [0; 8]);
            word[..part.len()].copy_from_slice(part);
            mask[..part.len()].fill(0xff);
            code.splice(bpf! { r1 = *(u64 *)(r10 + {at}); });
            if part.len() < 8 {
                code.splice(bpf! {
                    r2 = {u64::from_ne_bytes(mask)} ll;
                    r1 &= r2;
                });
            }
            code.splice(bpf! {
                r2 = {u64::from_ne_bytes(word)} ll;
                if r1 != r2 goto {out};
            });
        }
        code
    }

    fn own_maps(&self) -> Vec<MapSpec> {
        if self.printk { Vec::new() } else { vec![MapSpec::perf_event_array("events")] }
    }

    /// Attaches by one probe; where the compiler left only a copy of the function, to that.
    fn attach(&self, target: &Target, probe: Probe) -> Result<Attached, Error> {
        let mut attached = Attached::prepare(self.own_maps(), Maps::new(), target, &self.options)?;
        let by_name = |symbol: &str, attached: &mut Attached| {
            let programs = self.programs_by(target, probe, symbol)?;
            attached.attach(&programs, target)
        };
        // The kernel's list of functions is long: the usual name of a copy is tried before it is read.
        let by_pmu = probe == Probe::Kprobe && target.version() >= INDIRECT && target.has(Feature::KprobePmu);
        if by_pmu && lacks_function(FUNCTION) {
            match by_name(USUAL_COPY, &mut attached) {
                Err(Error::Loader(LoaderError::NoSymbol { .. })) => {}
                result => return result.map(|()| attached),
            }
        }
        match by_name(FUNCTION, &mut attached) {
            Err(error @ Error::Loader(LoaderError::NoSymbol { .. } | LoaderError::Btf(_))) => {
                let found = match &error {
                    Error::Loader(LoaderError::NoSymbol { variants, .. }) => copy_among(variants),
                    _ => copy(target)?,
                };
                by_name(&found.ok_or(error)?, &mut attached)?;
            }
            result => result?,
        }
        Ok(attached)
    }
}

/// Prints the event, one of the lines that bpf_trace_printk writes for all programs.
fn print() -> Asm {
    let mut code = Asm::new();
    for (at, part) in (FORMAT..).step_by(8).zip(PRINTK.chunks_exact(8)) {
        let word = part.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        code.splice(bpf! {
            r1 = {word} ll;
            *(u64 *)(r10 + {at}) = r1;
        });
    }
    code.splice(bpf! {
        r1 = r10;
        r1 += FORMAT;
        r2 = PRINTK_SIZE;
        r3 = r10;
        r3 += NAME;
        r4 = *(u32 *)(r10 + LEN);
        r5 = *(u16 *)(r10 + PROTO);
        r5 = be16 r5;
        call bpf_trace_printk;
    });
    code
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        let Some(probe) = tool::likely(self.probe, target) else { return Ok(Vec::new()) };
        match self.programs_by(target, probe, FUNCTION) {
            // The types are there, and the function is not among them.
            Err(error @ Error::Loader(LoaderError::Btf(_))) if probe == Probe::Kprobe => {
                match copy(target)?.map(|copy| self.programs_by(target, probe, &copy)) {
                    Some(Ok(programs)) => Ok(programs),
                    _ if self.probe.is_none() => self.programs_by(target, Probe::Tracepoint, FUNCTION),
                    _ => Err(error),
                }
            }
            // There are no types, and of the tracepoint's packets the rest is found by trying.
            Err(Error::Loader(LoaderError::NoBtf(_))) if self.probe.is_none() && target.is_running() => {
                self.programs_by(target, Probe::Tracepoint, FUNCTION)
            }
            programs => programs,
        }
    }

    fn maps(&self, _: &Target) -> Result<Vec<MapSpec>, Error> {
        Ok(tool::with_filter(self.own_maps(), &crate::TaskFilter::default()))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| self.attach(&target, probe))?;
        if self.interface != "any" && !std::path::Path::new("/sys/class/net").join(&self.interface).exists() {
            report::say(format_args!("there is no device {} now", Escaped(self.interface.as_bytes())));
        }
        let mut printer = Printer::new(self.options.json);
        printer.header(output)?;
        if self.printk {
            let mut pipe = TracePipe::open(&target)?;
            drop(target);
            attached.confine(&self.options)?;
            return session.watch(&mut pipe, self.options.duration, output, |pipe, output| {
                let mut result = Ok(());
                pipe.drain(|line| {
                    if let (Ok(()), Some(event)) = (&result, Event::parse_text(line.text)) {
                        result = printer.print(line.time, line.cpu, &event, output);
                    }
                })?;
                result
            });
        }
        drop(target);
        let print = |sample: &Sample<'_>, output: &mut Output| {
            let event = Event::parse(sample.data).ok_or(Error::Record(sample.data.len()))?;
            printer.print(sample.time, sample.cpu, &event, output)
        };
        let lost = attached.read(&mut session, &self.options, output, print)?;
        report::count(lost, "events lost: the ring was full");
        report::count(attached.detach(), "packets missed: the kernel could not run the program");
        Ok(())
    }
}

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    cpu: u32,
    dev: String,
    len: u32,
    /// `ETH_P_*`
    proto: u16,
}

/// Prints events as rows.
struct Printer {
    json: bool,
    columns: Columns,
    stamps: Stamps,
}

impl Printer {
    fn new(json: bool) -> Self {
        let columns = [("TIME", 8), ("CPU", 3), ("DEV", 15), ("LEN", 5), ("PROTO", 6)];
        Self { json, columns: Columns::new(columns), stamps: Stamps::new() }
    }

    fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    fn print(&mut self, time: u64, cpu: u32, event: &Event, output: &mut Output) -> Result<(), Error> {
        let dev = Escaped(&event.dev).to_string();
        let &Event { len, proto, .. } = event;
        if self.json {
            return output.json(&Row { time_ns: self.stamps.since_1970(time), cpu, dev, len, proto });
        }
        let cells = [self.stamps.time_of_day(time), cpu.to_string(), dev, len.to_string(), protocol(proto)];
        output.line(self.columns.row(&cells))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_sent() {
        let sent = [&b"eth0\0garbage\0\0\0\0"[..], &84_u32.to_ne_bytes(), &[0x86, 0xdd, 0, 0]].concat();
        let event = Event { dev: b"eth0".to_vec(), len: 84, proto: 0x86dd };
        assert_eq!(Event::parse(&sent), Some(event.clone()));
        assert_eq!(Event::parse_text("skbrecv eth0 len 84 proto 86dd"), Some(event));
        for end in 0..sent.len() - 2 {
            assert_eq!(Event::parse(&sent[..end]), None);
        }
        for text in ["", "other eth0 len 84 proto 86dd", "skbrecv eth0 len x proto 1", "skbrecv eth0 len 1 proto 12345"]
        {
            assert_eq!(Event::parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_device_has_a_name_that_the_kernel_takes() {
        assert_eq!(device("enp0s31f6").as_deref(), Ok("enp0s31f6"));
        for text in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-it"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn protocols_have_names_or_numbers() {
        assert_eq!((protocol(0x0800).as_str(), protocol(0x88f7).as_str()), ("IPv4", "0x88f7"));
    }
}
