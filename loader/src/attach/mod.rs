//! Attaching programs: one file for each kind of place.

mod perf_event;
mod probe;
mod trace;

use crate::Error;
use crate::error::{Tried, chain};
use crate::link::Link;
use crate::prog::{Attach, Prog};
use crate::target::Target;

/// Attaches a program where its description says.
pub(crate) fn attach(prog: Prog, target: &Target) -> Result<Link, Error> {
    match prog.spec.attach.clone() {
        Attach::None => Err(failed(&prog.spec.attach, vec![("attaching".to_owned(), "it belongs nowhere".to_owned())])),
        Attach::Kprobe { symbol, offset } => probe::kernel(prog, target, &symbol, offset, false),
        Attach::Kretprobe { symbol } => probe::kernel(prog, target, &symbol, 0, true),
        Attach::Uprobe { path, offset } => probe::user(prog, target, &path, offset, false),
        Attach::Uretprobe { path, offset } => probe::user(prog, target, &path, offset, true),
        Attach::Tracepoint { category, name } => trace::tracepoint(prog, target, &category, &name),
        Attach::RawTracepoint { name } => trace::raw_tracepoint(prog, &name),
        Attach::Fentry { .. } | Attach::Fexit { .. } => trace::tracing(prog),
        Attach::PerfEvent { hertz } => perf_event::cpu_clock(prog, hertz),
    }
}

fn failed(attach: &Attach, tried: Tried) -> Error {
    Error::Attach { what: attach.to_string(), tried }
}

/// An entry for the list of what was tried.
fn entry(how: &str, error: &Error) -> (String, String) {
    (how.to_owned(), chain(error))
}
