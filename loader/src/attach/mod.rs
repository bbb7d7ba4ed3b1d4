//! Attaching programs: one file for each kind of place.

mod head_start;
mod multi;
mod perf_event;
mod place;
mod probe;
mod semaphore;
mod trace;
mod usdt;

use crate::Error;
use crate::error::{Tried, chain};
use crate::link::Link;
use crate::prog::{Prog, Tasks};
use crate::target::Target;
pub use head_start::HeadStart;
pub use place::Attach;
pub(crate) use place::TRACE_UPROBE_MULTI;
use probe::Place;
pub use probe::lacks_function;
pub(crate) use probe::may_probe_files;
pub(crate) use semaphore::{Semaphore, own_memory};

/// Attaches a program to a place of its kind.
pub(crate) fn attach(prog: Prog, place: &Attach, tasks: Tasks, target: &Target) -> Result<Link, Error> {
    if tasks != Tasks::All && !place.is_user() {
        return Err(misplaced(place, "only uprobes can be kept to one process"));
    }
    if place.feature().is_some() && !place.is_user() && *place != prog.spec.attach {
        return Err(misplaced(
            place,
            &format!("`{}` was loaded for {}, and belongs there", prog.spec.name, prog.spec.attach),
        ));
    }
    match place {
        Attach::None | Attach::Trial { .. } => Err(misplaced(place, "it belongs nowhere")),
        Attach::Kprobe { symbol, offset } => probe::kernel(prog, target, place, symbol, *offset),
        Attach::Kretprobe { symbol } => probe::kernel(prog, target, place, symbol, 0),
        Attach::Uprobe { path, offset } | Attach::Uretprobe { path, offset } => {
            probe::user(prog, target, place, tasks, Place { path, offset: *offset, semaphore: None })
        }
        Attach::UprobeMulti { path, places, .. } => multi::users(prog, target, place, tasks, path, places),
        Attach::Usdt { path, offset, semaphore, .. } => {
            usdt::usdt(prog, target, place, tasks, Place { path, offset: *offset, semaphore: *semaphore })
        }
        Attach::Tracepoint { category, name } => trace::tracepoint(prog, target, category, name),
        Attach::RawTracepoint { name } => trace::raw_tracepoint(prog, name),
        Attach::Fentry { .. }
        | Attach::Fexit { .. }
        | Attach::FmodRet { .. }
        | Attach::FentryProg(_)
        | Attach::FexitProg(_)
        | Attach::Freplace(_)
        | Attach::TpBtf { .. } => trace::tracing(prog, target),
        Attach::Lsm { .. } => trace::lsm(prog, target),
        Attach::PerfEvent { hertz } => perf_event::cpu_clock(prog, *hertz),
    }
}

/// A place where a program cannot be at all.
pub(crate) fn misplaced(place: &Attach, why: &str) -> Error {
    failed(place, vec![("attaching".to_owned(), why.to_owned())])
}

fn failed(attach: &Attach, tried: Tried) -> Error {
    Error::Attach { what: attach.to_string(), tried }
}

/// An entry for the list of what was tried.
fn entry(how: &str, error: &Error) -> (String, String) {
    (how.to_owned(), chain(error))
}
