//! `bpfkit tcpconnect` shows each TCP connection that a process on this machine asks for: who, from where, to where.
//!
//! The connection is taken down when the kernel has accepted the request (`connect` sends the SYN), so it is shown whether or
//! not the other side answers. How it is seen, in order of preference:
//!
//! * `kprobe`: the entry of `tcp_v4_connect` and `tcp_v6_connect` remembers the socket, the return reads it. A connect that the
//!   kernel turns down at once, such as one without a route, is not shown.
//! * `fentry`: the same at the return alone, which sees the arguments too (Linux 5.5).
//! * `tracepoint`: `sock:inet_sock_set_state`, when a socket enters SYN_SENT (Linux 4.16). It shows connects that fail at once
//!   as well. The kernel has not chosen the local port yet at that moment, so where the local port is wanted (`-L`, `-s`) the
//!   row waits until the socket leaves SYN_SENT.
//!
//! Flags, columns and widths are those of bcc's tool of this name.
//!
//! [Its programs](../../pages/tcpconnect.html), instruction by instruction, where the documentation was built with its pages.

mod counts;
mod programs;
mod record;
mod rows;
mod tracepoint;

use bpfkit_loader::{Feature, MapSpec, ProgSpec, Target};

use crate::error::Chain;
use crate::filter::TaskFilter;
use crate::flow::Ip;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, report};
pub use record::Event;
use rows::Printer;

/// Trace TCP connects: who asks for a connection, and where to
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show the time of day
    #[arg(short = 'T', long)]
    pub time: bool,
    /// Show the time since the first row
    #[arg(short, long)]
    pub timestamp: bool,
    /// Trace these destination ports only
    #[arg(short = 'P', long, value_name = "PORT[,PORT]", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Trace IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Trace IPv6 only; an IPv4-mapped address is IPv4
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Show the local port
    #[arg(short = 'L', long)]
    pub lport: bool,
    /// Show the user's number
    #[arg(short = 'U', long)]
    pub print_uid: bool,
    /// Count connects by source, destination and port, and show the table at the end
    #[arg(short, long)]
    pub count: bool,
    /// With -c: count by source port too
    #[arg(short, long, requires = "count")]
    pub source_port: bool,
    /// How to see connects; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit tcpconnect              every connect
  bpfkit tcpconnect -t -U -L     with time, user and local port
  bpfkit tcpconnect -P 80,443    to these ports only
  bpfkit tcpconnect -c           a table of counts, at Ctrl-C
  bpfkit tcpconnect --ebpf       the programs, without running them";

/// How connects are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// kprobe and kretprobe on tcp_v4_connect and tcp_v6_connect
    Kprobe,
    /// fexit on the same functions
    Fentry,
    /// The tracepoint sock:inet_sock_set_state
    Tracepoint,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        match self {
            Self::Kprobe => Some(Feature::Kprobes),
            Self::Fentry => Some(Feature::Fentry),
            Self::Tracepoint => None,
        }
    }
}

impl Args {
    fn wants(&self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => !self.ipv6,
            Ip::V6 => !self.ipv4,
        }
    }

    /// Whether the local port must be known.
    fn needs_lport(&self) -> bool {
        if self.count { self.source_port } else { self.lport }
    }

    /// Attaches by one probe.
    ///
    /// IPv6 may be missing from a kernel; where it was not asked for alone, that is said and IPv4 is traced.
    fn attach(&self, target: &Target, probe: Probe) -> Result<Attached, Error> {
        let mut attached = Attached::prepare(self.maps_of(probe), self.filter.maps(target)?, target, &self.options)?;
        if probe == Probe::Tracepoint {
            attached.attach(&self.programs_by(target, probe)?, target)?;
            return Ok(attached);
        }
        attached.attach(&self.programs_of(target, probe, Ip::V4)?, target)?;
        let v6 = self.programs_of(target, probe, Ip::V6).and_then(|programs| attached.attach(&programs, target));
        match v6 {
            Err(error) if self.wants(Ip::V4) => {
                report::say(format_args!("IPv6 connects are not shown: {}", Chain(&error)));
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
        tool::likely(self.probe, target).map_or(Ok(Vec::new()), |probe| self.programs_by(target, probe))
    }

    fn maps(&self, target: &Target) -> Result<Vec<MapSpec>, Error> {
        let maps = tool::likely(self.probe, target).map_or(Vec::new(), |probe| self.maps_of(probe));
        Ok(tool::with_filter(maps, &self.filter))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        self.filter.check(&target)?;
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| self.attach(&target, probe))?;
        // The kernel's types take several megabytes, and have served.
        drop(target);
        let mut printer = Printer::new(self);
        match (self.count, self.options.json) {
            (false, _) => printer.header(output)?,
            (true, false) => output.line("Tracing connect ... Hit Ctrl-C to end")?,
            (true, true) => {}
        }
        let lost =
            attached.read(&mut session, &self.options, output, |sample, output| printer.print(sample, output))?;
        let missed = attached.detach();
        if self.count {
            counts::print(self, &attached.maps, output)?;
            output.flush()?;
        }
        report::count(lost, "events lost: the ring was full");
        report::count(event::count_dropped(&attached.maps)?, "connects not recorded: a map was full");
        report::count(missed, "connects missed: too many at one time for the kernel's return probes");
        Ok(())
    }
}
