//! Tracepoints, trampolines and the hooks of security modules.

use std::ffi::CString;
use std::os::fd::AsFd;

use bpfkit_asm::Version;

use crate::error::Tried;
use crate::feature::Feature;
use crate::link::Link;
use crate::prog::{Prog, Tasks};
use crate::sys::{bpf, perf};
use crate::target::Target;
use crate::{Error, cpus, lsm};

/// At a tracepoint, by its number in tracefs. One event serves all CPUs, but for kernels that ask for one on each: on those the CPUs
/// count that are online now.
pub(super) fn tracepoint(prog: Prog, target: &Target, category: &str, name: &str) -> Result<Link, Error> {
    let what = format!("cannot attach to the tracepoint {category}:{name}");
    let id = target.tracefs()?.id(category, name)?;
    let event = perf::tracepoint(id, Tasks::All, 0).map_err(|error| Error::privileged(&what, error))?;
    perf::set_bpf(event.as_fd(), prog.as_fd()).map_err(|error| Error::privileged(&what, error))?;
    perf::enable(event.as_fd()).map_err(|error| Error::privileged(&what, error))?;
    let mut events = vec![event];
    if is_for_cpus_with_events(target.version(), category, name) {
        for cpu in cpus::online()?.into_iter().filter(|&cpu| cpu != 0) {
            events.push(perf::tracepoint(id, Tasks::All, cpu).map_err(|error| Error::privileged(&what, error))?);
        }
    }
    Ok(Link::new(prog, events, "perf tracepoint", Tried::new()))
}

/// Whether the programs at a tracepoint may run only on CPUs that have an event there, as those at the entries of system calls that
/// take pointers do: since Linux 6.19 the kernel reads what these point to first, and after that 7.1.13 looks for events
/// (`perf_syscall_enter` of kernel/trace/trace_syscalls.c). An event on each CPU has it go on, and costs nothing else.
///
/// A CPU that is offline can have none: what is called on one that comes online later is not seen there, by those kernels.
fn is_for_cpus_with_events(version: Version, category: &str, name: &str) -> bool {
    version >= Version::new(6, 19) && category == "syscalls" && name.starts_with("sys_enter_")
}

/// At a tracepoint, by its name.
pub(super) fn raw_tracepoint(prog: Prog, name: &str) -> Result<Link, Error> {
    let what = format!("cannot attach to the raw tracepoint {name}");
    let text = CString::new(name).map_err(|error| Error::io(&what, error.into()))?;
    let event = bpf::raw_tracepoint_open(prog.as_fd(), Some(&text)).map_err(|error| Error::privileged(&what, error))?;
    Ok(Link::new(prog, vec![event], "BPF_RAW_TRACEPOINT_OPEN", Tried::new()))
}

/// At a hook of the security modules, where programs are run at all.
pub(super) fn lsm(prog: Prog, target: &Target) -> Result<Link, Error> {
    match target.security_modules().and_then(|list| lsm::why_not(&list)) {
        Some(why) => Err(super::failed(&prog.spec.attach, vec![("security modules".to_owned(), why)])),
        None => tracing(prog, target),
    }
}

/// Where the program has said when it was loaded.
pub(super) fn tracing(prog: Prog, target: &Target) -> Result<Link, Error> {
    let mut tried = Tried::new();
    let refused = |error: std::io::Error| {
        let is_taken = error.raw_os_error() == Some(libc::EBUSY) && prog.spec.attach.onto().is_some();
        let why = if is_taken {
            "cannot attach, as a function is either replaced or watched by fentry and fexit, and this one is already"
        } else {
            "cannot attach"
        };
        Error::privileged(why, error)
    };
    let link = match target.is_without(Feature::TracingLink) {
        true => Err(std::io::ErrorKind::Unsupported.into()),
        false => bpf::link_create(prog.as_fd(), None, prog.spec.attach.expected()),
    };
    match link {
        Ok(link) => return Ok(Link::new(prog, vec![link], "BPF_LINK_CREATE", tried)),
        Err(error) => tried.push(super::entry("BPF_LINK_CREATE", &refused(error))),
    }
    match bpf::raw_tracepoint_open(prog.as_fd(), None) {
        Ok(link) => Ok(Link::new(prog, vec![link], "BPF_RAW_TRACEPOINT_OPEN", tried)),
        Err(error) => {
            tried.push(super::entry("BPF_RAW_TRACEPOINT_OPEN", &refused(error)));
            Err(super::failed(&prog.spec.attach, tried))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_calls_have_an_event_on_each_cpu_where_kernels_ask_for_them() {
        let asked = |minor, category, name| is_for_cpus_with_events(Version::new(6, minor), category, name);
        assert!(asked(19, "syscalls", "sys_enter_write"));
        assert!(!asked(18, "syscalls", "sys_enter_write"));
        assert!(!asked(19, "syscalls", "sys_exit_write") && !asked(19, "sched", "sched_process_exec"));
    }
}
