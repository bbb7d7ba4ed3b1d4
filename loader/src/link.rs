//! What keeps a program attached.

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::attach::Attach;
use crate::attach::Semaphore;
use crate::error::Tried;
use crate::prog::Prog;
use crate::tracefs::TextProbe;

/// A program at its place. Dropping it detaches the program.
///
/// Fields are dropped in order: the events first, so that nothing runs any more, then the text of a probe, which cannot be
/// removed while an event uses it, then the semaphore that was raised for it, then the program.
#[derive(Debug)]
pub struct Link {
    _events: Vec<OwnedFd>,
    _text: Option<TextProbe>,
    _semaphore: Option<Semaphore>,
    prog: Prog,
    place: Attach,
    how: &'static str,
    tried: Tried,
}

impl Link {
    pub(crate) fn new(prog: Prog, events: Vec<OwnedFd>, how: &'static str, tried: Tried) -> Self {
        let place = prog.spec.attach.clone();
        Self { _events: events, _text: None, _semaphore: None, prog, place, how, tried }
    }

    pub(crate) fn at(mut self, place: &Attach) -> Self {
        self.place = place.clone();
        self
    }

    pub(crate) fn with_text(mut self, text: TextProbe) -> Self {
        self._text = Some(text);
        self
    }

    pub(crate) fn with_semaphore(mut self, semaphore: Semaphore) -> Self {
        self._semaphore = Some(semaphore);
        self
    }

    /// The way it was attached, such as `perf PMU`.
    pub fn how(&self) -> &'static str {
        self.how
    }

    /// What was tried before, and why it failed.
    pub fn tried(&self) -> &[(String, String)] {
        &self.tried
    }

    /// The program.
    pub fn prog(&self) -> &Prog {
        &self.prog
    }

    /// How often the kernel could not run the programs of these links, as far as it tells. A program that is attached at many
    /// places has one count, which is taken once.
    pub fn missed_by(links: &[Self]) -> u64 {
        let is_first = |&(n, link): &(usize, &Self)| links[..n].iter().all(|other| !other.prog.is_same(&link.prog));
        links.iter().enumerate().filter(is_first).filter_map(|(_, link)| link.missed()).sum()
    }

    /// How often the kernel could not run its program, wherever that is attached, where the kernel tells: a return probe that had
    /// no room for another call under way, or a program that was running already.
    pub fn missed(&self) -> Option<u64> {
        let fdinfo = |fd: i32| fs::read_to_string(PathBuf::from(format!("/proc/self/fdinfo/{fd}"))).ok();
        let line = |text: &str, key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim_start_matches(':').trim().parse::<u64>().ok()
        };
        let prog = fdinfo(std::os::fd::AsRawFd::as_raw_fd(&self.prog.fd))?;
        line(&prog, "recursion_misses")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: by {}", self.place, self.how)?;
        self.tried.iter().try_for_each(|(how, why)| write!(f, "; not by {how}: {why}"))
    }
}
