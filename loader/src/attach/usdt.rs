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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::hint::black_box;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;
    use crate::ProgSpec;
    use crate::attach::own_memory;
    use crate::sys::fake;
    use bpfkit_asm::bpf;

    /// A semaphore of this program. It begins above 0, as what is zero is in no file.
    static WATCHED: AtomicU16 = AtomicU16::new(7);

    /// A place for a probe, to which nobody comes.
    #[inline(never)]
    fn marked() {
        black_box(1);
    }

    /// Where an address is in the file of this program.
    fn place(address: usize, access: &str) -> u64 {
        let address = u64::try_from(address).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let find = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            let range = hex(start)?..hex(end)?;
            let is_it = words.next()? == access && range.contains(&address);
            is_it.then(|| Some(address - range.start + hex(words.next()?)?))?
        };
        maps.lines().find_map(find).unwrap_or_else(|| panic!("{address:x} is nowhere in\n{maps}"))
    }

    /// Before Linux 4.20: the probe is there when the program is told that somebody looks, and still there when it is told that
    /// nobody does.
    #[test]
    fn a_semaphore_is_raised_after_its_probe_is_there() {
        let id = std::process::Command::new("id").arg("-u").output();
        if !id.is_ok_and(|output| output.stdout == b"0\n") {
            eprintln!("skipped: probes are for root");
            return;
        }
        let target = Target::builder().without(Feature::UprobeRefCtr).running().unwrap();
        let path = std::env::current_exe().unwrap();
        let offset = place((black_box(marked as fn()) as *const ()).addr(), "r-xp");
        let semaphore = place((&raw const WATCHED).addr(), "rw-p");
        let own = std::fs::read_to_string("/proc/self/maps").unwrap();
        let found = own.lines().filter_map(|line| own_memory(line, semaphore));
        assert!(found.map(|at| usize::try_from(at).unwrap()).any(|at| at == (&raw const WATCHED).addr()));
        let attach = Attach::Usdt { path, probe: "a:b".to_owned(), offset, semaphore: Some(semaphore) };
        let code = bpf! {
            r0 = 0;
            exit;
        };
        let prog = ProgSpec::new("nothing", attach.clone(), code).unwrap().load(&target, &crate::Maps::new()).unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let calls = Rc::clone(&seen);
        let look = move |call: &'static str| {
            calls.borrow_mut().push((call, WATCHED.load(Ordering::Relaxed)));
            None
        };
        let link = fake::with(look, || prog.attach_to(&attach, Tasks::Process(std::process::id()), &target));
        let link = link.unwrap();
        assert_eq!(WATCHED.load(Ordering::Relaxed), 8);
        drop(link);
        assert_eq!(WATCHED.load(Ordering::Relaxed), 7);
        let seen = seen.borrow();
        assert!(seen.iter().any(|(call, _)| *call == "PERF_EVENT_IOC_SET_BPF"), "{seen:?}");
        assert!(seen.iter().all(|&(_, count)| count == 7), "{seen:?}");
    }
}
