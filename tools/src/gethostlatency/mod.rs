//! `bpfkit gethostlatency` shows each look-up of a host by a C library: who asked, for what, how long it took, what came out.
//!
//! Probed are `getaddrinfo`, `gethostbyname`, `gethostbyname2`, `gethostbyaddr` and the variants of the last three that end in
//! `_r`, in every C library that a process on this machine has mapped, at the start and every two seconds after it: each file
//! once, in whatever container it is. `-p` looks at one process, `-l` at one file. Programs that bring their own resolver, as many
//! in Go do, do not call a C library and are not seen.
//!
//! The entry keeps what was asked for by thread, and the return reads the answer from the memory of the process. A C library
//! calls its own functions: `gethostbyname` of glibc calls `gethostbyname_r`. What is shown is the call of the program. An inner
//! call is one that begins deeper on the stack than the call that the thread has begun, and a return belongs to the entry
//! that left the stack pointer where the return finds it. A call that is left by `longjmp` leaves a record, which the next call at the
//! same depth or above replaces.
//!
//! No type of the kernel is needed, unless `--mntnsmap` asks for one. Columns are those of bcc's tool of this name, and AF and ADDR.
//!
//! [Its programs](../../pages/gethostlatency.html), instruction by instruction, where the documentation was built with its pages.

mod function;
mod probes;
mod programs;
mod record;
mod rows;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bpfkit_loader::confine;
use bpfkit_loader::{HeadStart, Link, MapSpec, Maps, ProgSpec, Target};

use self::function::Function;
use self::probes::Probes;
use self::rows::Printer;
pub(crate) use self::rows::shown;
use crate::error::Chain;
use crate::event::{Bytes, count_dropped};
use crate::filter::TaskFilter;
use crate::libcs::{Libcs, Passed, Scope};
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::{self, Attached, Tool};
use crate::{Error, report};

/// Trace look-ups of hosts by C libraries: who asks, for what, how long it takes, what comes out
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show every address that was found (of the first 16 that the function returned)
    #[arg(short, long)]
    pub all: bool,
    /// Show look-ups that failed only
    #[arg(short = 'x', long)]
    pub failed: bool,
    /// Show look-ups that took at least so many milliseconds only
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub min_ms: Option<Duration>,
    /// Probe this C library, or program that was linked statically
    #[arg(short = 'l', long, value_name = "PATH")]
    pub libc: Option<PathBuf>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit gethostlatency               every look-up, in containers too
  bpfkit gethostlatency -p 181 -a     those of a process, with all addresses
  bpfkit gethostlatency -x            those that failed, and why
  bpfkit gethostlatency --min-ms 100  those that took long
  bpfkit gethostlatency --ebpf        the programs, without running them";

/// A number of milliseconds, fractions included.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let wrong = || "not a number of milliseconds".to_owned();
    let millis: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(millis / 1e3).map_err(|_| wrong())
}

/// How often libraries are looked for that were not there before, and threads that have ended in a look-up.
const RESCAN: Duration = Duration::from_secs(2);

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        if self.takes_all(target) {
            return Ok(self.programs_of_all(target)?.into());
        }
        let programs = Function::ALL.into_iter().map(|function| self.programs_of(target, function));
        Ok(programs.collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn maps(&self, _: &Target) -> Result<Vec<MapSpec>, Error> {
        Ok(tool::with_filter(self.own_maps(), &self.filter))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        self.filter.check(&target)?;
        let mut head_start = HeadStart::of_uprobes(&target);
        // Each library takes up to 14.
        bpfkit_loader::raise_descriptor_limit();
        let started = Instant::now();
        let mut session = Session::new()?;
        let mut libcs = Libcs::new(self.scope(), &Function::ALL.map(Function::name));
        let (found, passed) = libcs.first()?;
        let mut attached = Attached::prepare(self.own_maps(), self.filter.maps(&target)?, &target, &self.options)?;
        let mut probes = Probes::new(self, target);
        let mut problems = Vec::new();
        self.tell_passed(passed);
        for libc in &found {
            match probes.attach(libc, &attached.maps, &mut attached.links) {
                Err(error @ Error::About(..)) => problems.push(error),
                result => result?,
            }
        }
        head_start.iter_mut().for_each(HeadStart::end);
        drop(found);
        if attached.links.is_empty() {
            return Err(problems.pop().unwrap_or_else(|| Error::NoLibc(Passed::new())));
        }
        problems.iter().for_each(|error| report::say(Chain(error)));
        if self.options.verbose {
            report::say("members of the C library's structures by the C ABI");
            tool::tell_found(&attached.links);
            report::say(format_args!("attached by uprobe after {:.1} ms", started.elapsed().as_secs_f64() * 1e3));
        }
        // Libraries that come later are attached to as well.
        let kept = confine::to_attaching();
        let kept = kept.map_err(|error| Error::Io("cannot give up privileges".to_owned(), error))?;
        if self.options.verbose {
            report::say(format_args!("capabilities left: {kept}"));
        }
        let mut printer = Printer::new(self);
        printer.header(output)?;
        output.flush()?;
        let Attached { links, rings, maps, .. } = &mut attached;
        let rings = rings.as_mut().ok_or_else(|| Error::Request("there are no rings".to_owned()))?;
        let mut next = started + RESCAN;
        let between = || {
            if Instant::now() < next {
                return Ok(());
            }
            next = Instant::now() + RESCAN;
            head_start = None;
            self.forget_the_dead(maps)?;
            self.attach_to_new(&mut libcs, &mut probes, maps, links)
        };
        let accounts = session.run_between(
            rings,
            self.options.duration,
            output,
            |sample, output| printer.print(sample, output),
            between,
        )?;
        let missed = attached.detach();
        report::count(accounts.lost, "events lost: the ring was full");
        report::count(count_dropped(&attached.maps)?, "look-ups not recorded: too many at one time");
        report::count(missed, "look-ups missed: too many at one time for the kernel's probes");
        Ok(())
    }
}

impl Args {
    /// Whose C libraries are probed.
    fn scope(&self) -> Scope {
        match (&self.libc, self.filter.pid) {
            (Some(path), _) => Scope::File(path.clone()),
            (None, Some(pid)) => Scope::Process(pid),
            (None, None) => Scope::All,
        }
    }

    /// Libraries of other machines or for 32-bit processes are nothing to worry about, so it takes `-v` to hear of them.
    fn tell_passed(&self, passed: Passed) {
        if self.options.verbose {
            passed.iter().for_each(|(name, why)| report::say(format_args!("passed over {name}: {why}")));
        }
    }

    /// Probes the libraries that were not there at the last look. What cannot be probed is told, and the rest goes on.
    fn attach_to_new(
        &self,
        libcs: &mut Libcs,
        probes: &mut Probes<'_>,
        maps: &Maps,
        links: &mut Vec<Link>,
    ) -> Result<(), Error> {
        let (found, passed) = libcs.more()?;
        self.tell_passed(passed);
        for libc in &found {
            if let Err(error) = probes.attach(libc, maps, links) {
                report::say(Chain(&error));
            }
        }
        Ok(())
    }

    /// Frees the records of threads that have ended in a look-up, which would fill the map in the end. Only who sees all
    /// processes by the numbers that the kernel has for them can tell.
    fn forget_the_dead(&self, maps: &Maps) -> Result<(), Error> {
        let Some(lookups) = maps.get("lookups") else { return Ok(()) };
        if !is_first_pid_namespace() {
            return Ok(());
        }
        let mut dead = Vec::new();
        for key in lookups.keys() {
            let key = key?;
            let Some((pid, tid)) = Bytes(&key).halves() else { continue };
            if !Path::new(&format!("/proc/{pid}/task/{tid}")).exists() {
                dead.push(key);
            }
        }
        for key in &dead {
            lookups.delete(key)?;
        }
        if self.options.verbose && !dead.is_empty() {
            report::say(format_args!("{} threads ended in a look-up", dead.len()));
        }
        Ok(())
    }
}

/// Whether this process is in the namespace of process numbers that the machine began with: PROC_PID_INIT_INO of
/// include/linux/proc_ns.h.
fn is_first_pid_namespace() -> bool {
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == 0xefff_fffc)
}
