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

mod programs;
mod record;
mod rows;

use std::time::Instant;

use bpfkit_loader::{Feature, MapSpec, ProgSpec, Target};

use crate::error::Chain;
use crate::filter::TaskFilter;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::{self, Attached, Tool};
use crate::{Error, report};
pub use record::{Event, Via};
use rows::Printer;

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
  bpfkit bpf2bpf --replace              with a function replaced: the result is
                                        the address family
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
fn own_maps() -> Vec<MapSpec> {
    vec![MapSpec::perf_event_array("events")]
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
#[cfg(test)]
mod tests {
    use super::*;

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
