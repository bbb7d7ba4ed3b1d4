//! What the verifier finds out about a program.

use std::io;

use super::diagnosis::Diagnosis;
use super::walk::Walk;
use crate::linked::Linked;

/// What the verifier found out about a program.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// The program.
    pub linked: Linked,
    /// How the verifier went through it.
    pub walk: Walk,
    /// What the system call said, if the program was refused.
    pub refused: Option<io::Error>,
    /// Whether the kernel had more to say than a log holds: then the walk has a part of it, the first one before Linux 6.4, else the last.
    pub is_cut: bool,
    /// Why it was refused, where that is known.
    pub diagnosis: Option<Diagnosis>,
    /// The log as the kernel wrote it.
    pub log: String,
}

impl Verdict {
    /// What a log says of a program, as the kernel that runs or another one wrote it; `error` is what the system call said.
    pub fn new(linked: Linked, log: String, error: Option<io::Error>) -> Self {
        let walk = Walk::parse(&log);
        let is_cut = error.as_ref().is_some_and(|error| error.raw_os_error() == Some(libc::ENOSPC));
        let refused = error.filter(|_| !is_cut);
        let diagnosis = refused.as_ref().and_then(|_| Diagnosis::of(&walk, linked.insns()));
        Self { linked, walk, refused, is_cut, diagnosis, log }
    }
}
