//! Places that a program's author marked: uprobes that raise the probe's semaphore.

use super::probe::{self, Place};
use super::semaphore::Semaphore;
use crate::Error;
use crate::attach::Attach;
use crate::feature::Feature;
use crate::link::Link;
use crate::prog::{Prog, Tasks};
use crate::target::Target;

/// From Linux 4.20 on the kernel itself raises the semaphore of every process that has the file mapped, as long as the probe is
/// there. Before, one process's can be raised from outside.
pub(super) fn usdt(prog: Prog, target: &Target, at: &Attach, tasks: Tasks, place: Place<'_>) -> Result<Link, Error> {
    let Some(offset) = place.semaphore.filter(|_| !target.has(Feature::UprobeRefCtr)) else {
        return probe::user(prog, target, at, tasks, place);
    };
    let Tasks::Process(pid) = tasks else {
        return Err(super::misplaced(
            at,
            "it has a semaphore, which this kernel cannot raise in all processes, as Linux 4.20 can: name a process",
        ));
    };
    // The semaphore is the program's leave to prepare arguments, so that nothing is missed if it comes last.
    let link = probe::user(prog, target, at, tasks, Place { semaphore: None, ..place })?;
    Ok(link.with_semaphore(Semaphore::raise(pid, place.path, offset)?))
}
