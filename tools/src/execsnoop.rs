//! `bpfkit execsnoop` shows each program that is run on this machine: who ran what, with which arguments.
//!
//! An exec that succeeds is seen at its end, within the kernel, and its arguments are read from the new program's own stack,
//! where the kernel has just written them: so none is missing, as it is for those who read them at the entry of the system
//! call, when their pages need not be there yet. It is seen
//!
//! * `tracepoint`: at `sched_process_exec`, which tells of each exec, be it by execve, execveat or the kernel itself. The
//!   tracepoint at the return of the system call does not: it is silent when the new program is a 32-bit one. Up to Linux 6.18
//!   one program does all. From then on the kernel may interrupt a program that is given its own structures for another task,
//!   whose exec the same program would then miss: so that one only notes what few execs need, and another reports.
//! * `kprobe`: at `finalize_exec`, the last thing that the kernel does before the new program runs. A probe of the return of
//!   the system call would miss those that are under way while others are: the kernel has room for few returns at one time.
//!
//! With `-x` failed execs are shown too. They are seen at the entry and the end of execve and execveat: by the tracepoints
//! `syscalls:sys_{enter,exit}_execve[at]`, or by kprobes and kretprobes on the functions of these calls. A 32-bit program's own
//! calls are others, whose failures are not shown.
//!
//! Without the kernel's types its structures cannot be read. Then arguments are read at the entry, and what is not there yet is
//! looked up in /proc/PID/cmdline, as is the parent in /proc/PID/status. What has gone by then is shown as `[?]`.
//!
//! Flags, columns and widths are those of bcc's tool of this name.
//!
//! [Its programs](../../pages/execsnoop.html), instruction by instruction, where the documentation was built with its pages.

mod proc;
mod programs;
mod record;
mod rows;

use std::path::PathBuf;

use bpfkit_loader::confine::Capabilities;
use bpfkit_loader::{Feature, MapSpec, ProgSpec, Target};
use regex_lite::Regex;

use crate::error::Chain;
use crate::filter::TaskFilter;
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, report};
pub(crate) use proc::number;
use programs::Programs;
use record::MOST_ARGS;
use rows::Printer;
pub(crate) use rows::shown;

/// Trace new programs: who runs what, with which arguments
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show the time of day
    #[arg(short = 'T', long)]
    pub time: bool,
    /// Show the time since the first row
    #[arg(short, long)]
    pub timestamp: bool,
    /// Show failed execs too
    #[arg(short = 'x', long)]
    pub fails: bool,
    /// Show the user's number
    #[arg(short = 'U', long)]
    pub print_uid: bool,
    /// Show the CPU
    #[arg(short = 'C', long)]
    pub cpu: bool,
    /// Show the inode number of the mount namespace
    #[arg(short = 'M', long)]
    pub mntns: bool,
    /// Put arguments in quotation marks, and a backslash before those within
    #[arg(short, long)]
    pub quote: bool,
    /// Show at most this many arguments, the file among them; `...` stands for more
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_ARGS)))]
    pub max_args: u32,
    /// How to see execs; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    /// Show this user's only, by name or number
    #[arg(short, long, value_name = "USER", value_parser = user, help_heading = FILTERS)]
    pub user: Option<u32>,
    /// Show those only whose name matches this regular expression
    #[arg(short, long, value_name = "REGEX", value_parser = regex, help_heading = FILTERS)]
    pub name: Option<Regex>,
    /// Show those only of which an argument, or all of them joined by blanks, matches this regular expression
    #[arg(short, long, value_name = "REGEX", value_parser = regex, help_heading = FILTERS)]
    pub line: Option<Regex>,
    /// Show those only whose parent is this process
    #[arg(short = 'P', long, value_parser = clap::value_parser!(u32).range(0..=4 << 20), help_heading = FILTERS)]
    pub ppid: Option<u32>,
    /// Show those in this cgroup v2 directory and below it only
    #[arg(short = 'c', long, value_name = "CGROUPDIR", help_heading = FILTERS)]
    pub cgroup: Option<PathBuf>,
    /// Show those only in the cgroups whose ids are the keys of this pinned map (u64)
    #[arg(long, value_name = "PATH", help_heading = FILTERS)]
    pub cgroupmap: Option<PathBuf>,
    /// Show those only in the mount namespaces whose inode numbers are the keys of this pinned map (u64)
    #[arg(long, value_name = "PATH", help_heading = FILTERS)]
    pub mntnsmap: Option<PathBuf>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub options: Options,
}

const FILTERS: &str = "Filters";

const EXAMPLES: &str = "\
Arguments are cut after 128 bytes, and marked with `...`. An empty one is shown
as \"\", one that could not be read as [?].

Examples:
  bpfkit execsnoop               every program that is run
  bpfkit execsnoop -x -T -U      failed ones too, with time and user
  bpfkit execsnoop -u www-data   by this user
  bpfkit execsnoop -l '\\.conf$'  with such an argument
  bpfkit execsnoop -q            with arguments in quotation marks";

/// How execs are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// The tracepoints sched_process_exec and, for failures, sys_enter and sys_exit of execve and execveat
    Tracepoint,
    /// A kprobe on finalize_exec and, for failures, kprobes and kretprobes on the functions of execve and execveat
    Kprobe,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        match self {
            Self::Tracepoint => None,
            Self::Kprobe => Some(Feature::Kprobes),
        }
    }
}

/// A user by number, or by the name that /etc/passwd has.
fn user(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    user_in(&users, text).ok_or_else(|| format!("/etc/passwd has no user `{text}`"))
}

/// Lines are `name:password:uid:...`.
fn user_in(users: &str, name: &str) -> Option<u32> {
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut parts| (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok()).flatten())
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

/// How often programs were not run when they were due.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    successes: u64,
    entries: u64,
    ends: u64,
}

impl Args {
    /// The filters that are compiled into the programs.
    fn filter(&self) -> TaskFilter {
        TaskFilter {
            uid: self.user,
            cgroup: self.cgroup.clone(),
            cgroupmap: self.cgroupmap.clone(),
            mntnsmap: self.mntnsmap.clone(),
            ..TaskFilter::default()
        }
    }

    /// Whether the kernel's types are known; why not is said with -v.
    ///
    /// # Errors
    /// That a file does not have them which was named for that.
    fn typed(&self, target: &Target) -> Result<bool, Error> {
        match programs::TYPES.iter().try_for_each(|path| target.field(path).map(drop)) {
            Ok(()) => Ok(true),
            Err(error) if self.options.kernel.btf.is_some() => Err(error.into()),
            Err(error) => {
                if self.options.verbose {
                    report::say(format_args!("arguments are read at the entry: {}", Chain(&error)));
                }
                Ok(false)
            }
        }
    }

    /// How often the kernel could not run the programs of successes, of entries and of ends; how often each, is said with -v.
    /// Without the note an exec is shown all the same.
    fn missed(&self, attached: &Attached) -> Missed {
        let mut missed = Missed::default();
        for link in &attached.links {
            let times = link.missed().unwrap_or_default();
            let name = link.prog().spec().name.as_str();
            match name {
                "exec" => missed.successes += times,
                "execve" | "execveat" => missed.entries += times,
                "execve_r" | "execveat_r" => missed.ends += times,
                _ => {}
            }
            if self.options.verbose && times != 0 {
                report::say(format_args!("the program `{name}` was not run {times} times when it was due"));
            }
        }
        missed
    }

    fn programs_by<'a>(&'a self, target: &'a Target, probe: Probe, typed: bool) -> Programs<'a> {
        Programs { args: self, target, probe, typed }
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        let typed = self.typed(target)?;
        tool::likely(self.probe, target).map_or(Ok(Vec::new()), |probe| self.programs_by(target, probe, typed).all())
    }

    fn maps(&self, target: &Target) -> Result<Vec<MapSpec>, Error> {
        let typed = self.typed(target)?;
        let maps = tool::likely(self.probe, target).map(|probe| self.programs_by(target, probe, typed).maps());
        Ok(tool::with_filter(maps.unwrap_or_default(), &self.filter()))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        let typed = self.typed(&target)?;
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| {
            let programs = self.programs_by(&target, probe, typed);
            let mut attached =
                Attached::prepare(programs.maps(), self.filter().maps(&target)?, &target, &self.options)?;
            attached.attach(&programs.all()?, &target)?;
            Ok(attached)
        })?;
        // The kernel's types take several megabytes, and have served.
        drop(target);
        if !typed {
            // What the programs cannot tell is looked up in /proc.
            attached.keep = Capabilities::PROC;
        }
        let mut printer = Printer::new(self, typed);
        printer.header(output)?;
        let lost =
            attached.read(&mut session, &self.options, output, |sample, output| printer.print(sample, output))?;
        let missed = self.missed(&attached);
        attached.detach();
        report::count(lost, "execs lost: the ring was full");
        report::count(event::count_dropped(&attached.maps)?, "execs not recorded: too many were under way");
        report::count(missed.successes, "execs missed: the kernel could not run a program at that time");
        if self.fails {
            report::count(missed.ends, "ends missed: these execs are not shown if they failed");
        }
        let left = attached.maps.get("execs").map_or(0, |execs| execs.keys().filter(Result::is_ok).count());
        // What is kept of an exec whose end the kernel says was missed is left, too. Older kernels do not say.
        let left = u64::try_from(left).unwrap_or(u64::MAX).saturating_sub(missed.ends);
        report::count(left, "execs without an end: still under way, or missed there");
        report::count(missed.entries, "entries missed: arguments of theirs, or that they failed, may not be shown");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_numbers() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:none\nwww-data:x:33:33::/var/www:\n";
        assert_eq!((user_in(users, "root"), user_in(users, "www-data")), (Some(0), Some(33)));
        assert_eq!((user_in(users, "www"), user_in(users, "broken"), user_in(users, "")), (None, None, None));
        assert_eq!(user("4294967295"), Ok(u32::MAX));
        assert!(user("no such user").is_err());
    }
}
