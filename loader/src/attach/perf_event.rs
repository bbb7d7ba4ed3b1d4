//! The clocks of the CPUs.

use std::os::fd::AsFd;

use crate::error::Tried;
use crate::link::Link;
use crate::prog::Prog;
use crate::sys::perf;
use crate::{Error, cpus};

/// On every CPU that runs now.
pub(super) fn cpu_clock(prog: Prog, hertz: u64) -> Result<Link, Error> {
    let mut events = Vec::new();
    for cpu in cpus::online()? {
        let what = |error| Error::privileged(format!("cannot attach to the clock of CPU {cpu}"), error);
        let event = perf::cpu_clock(cpu, hertz).map_err(what)?;
        perf::set_bpf(event.as_fd(), prog.as_fd()).map_err(what)?;
        perf::enable(event.as_fd()).map_err(what)?;
        events.push(event);
    }
    Ok(Link::new(prog, events, "perf CPU clock", Tried::new()))
}
