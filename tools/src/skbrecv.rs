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

mod function;
mod programs;
mod record;
mod rows;

use bpfkit_loader::{
    Error as LoaderError, Feature, MapSpec, Maps, ProgSpec, Sample, Target, TracePipe, lacks_function,
};

use self::function::{FUNCTION, INDIRECT, USUAL_COPY, copy, copy_among};
use self::record::IFNAMSIZ;
use self::rows::Printer;
use crate::escape::Escaped;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::{self, Attached, Tool};
use crate::{Error, report};
pub use record::Event;

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

/// A name that a device can have (dev_valid_name of net/core/dev.c), or `any`.
fn device(text: &str) -> Result<String, String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace();
    if text.is_empty() || text.len() >= IFNAMSIZ || text == "." || text == ".." || text.contains(bad) {
        return Err(format!("no device has such a name: it has 1 to {} bytes, no `/`, `:` or space", IFNAMSIZ - 1));
    }
    Ok(text.to_owned())
}

impl Args {
    fn own_maps(&self) -> Vec<MapSpec> {
        if self.printk { Vec::new() } else { vec![MapSpec::perf_event_array("events")] }
    }

    /// Attaches by one probe; where the compiler left only a copy of the function, to that.
    fn attach(&self, target: &Target, probe: Probe) -> Result<Attached, Error> {
        let mut attached = Attached::prepare(self.own_maps(), Maps::new(), target, &self.options)?;
        let by_name = |symbol: &str, is_there: bool, attached: &mut Attached| {
            let programs = self.programs_by(target, probe, symbol, is_there)?;
            attached.attach(&programs, target)
        };
        // The kernel's list of functions is long: the usual name of a copy is tried before it is read.
        let is_asked = probe == Probe::Kprobe && target.version() >= INDIRECT && target.has(Feature::KprobePmu);
        let is_there = is_asked && !lacks_function(FUNCTION);
        if is_asked && !is_there {
            match by_name(USUAL_COPY, false, &mut attached) {
                Err(Error::Loader(LoaderError::NoSymbol { .. })) => {}
                result => return result.map(|()| attached),
            }
        }
        match by_name(FUNCTION, is_there, &mut attached) {
            Err(error @ Error::Loader(LoaderError::NoSymbol { .. } | LoaderError::Btf(_))) => {
                let found = match &error {
                    Error::Loader(LoaderError::NoSymbol { variants, .. }) => copy_among(variants),
                    _ => copy(target)?,
                };
                by_name(&found.ok_or(error)?, false, &mut attached)?;
            }
            result => result?,
        }
        Ok(attached)
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        let Some(probe) = tool::likely(self.probe, target) else { return Ok(Vec::new()) };
        match self.programs_by(target, probe, FUNCTION, false) {
            // The types are there, and the function is not among them.
            Err(error @ Error::Loader(LoaderError::Btf(_))) if probe == Probe::Kprobe => {
                match copy(target)?.map(|copy| self.programs_by(target, probe, &copy, false)) {
                    Some(Ok(programs)) => Ok(programs),
                    _ if self.probe.is_none() => self.programs_by(target, Probe::Tracepoint, FUNCTION, false),
                    _ => Err(error),
                }
            }
            // There are no types, and of the tracepoint's packets the rest is found by trying.
            Err(Error::Loader(LoaderError::NoBtf(_))) if self.probe.is_none() && target.is_running() => {
                self.programs_by(target, Probe::Tracepoint, FUNCTION, false)
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
            session.watch(&mut pipe, self.options.duration, output, |pipe, output| {
                let mut result = Ok(());
                pipe.drain(|line| {
                    if let (Ok(()), Some(event)) = (&result, Event::parse_text(line.text)) {
                        result = printer.print(line.time, line.cpu, &event, output);
                    }
                })?;
                result
            })?;
        } else {
            drop(target);
            let print = |sample: &Sample<'_>, output: &mut Output| {
                let event = Event::parse(sample.data).ok_or(Error::Record(sample.data.len()))?;
                printer.print(sample.time, sample.cpu, &event, output)
            };
            let lost = attached.read(&mut session, &self.options, output, print)?;
            report::count(lost, "events lost: the ring was full");
        }
        report::count(attached.detach(), "packets missed: the kernel could not run the program");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_name_that_the_kernel_takes() {
        assert_eq!(device("enp0s31f6").as_deref(), Ok("enp0s31f6"));
        for text in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-it"] {
            assert!(device(text).is_err(), "{text}");
        }
    }
}
