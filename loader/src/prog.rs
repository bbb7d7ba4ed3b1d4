//! Programs of the kernel.

mod spec;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bpfkit_asm::Insn;
use bpfkit_btf::Btf;

pub use self::spec::ProgSpec;
use crate::attach::Attach;
use crate::link::Link;
use crate::loaded::{LoadedProg, ProgInfo, Shown};
use crate::origin::Found;
use crate::sys::bpf;
use crate::target::Target;
use crate::{Error, attach, pin};

/// A program of the kernel. It lives as long as this, a clone, which is another handle of the same program, or a link.
#[derive(Clone, Debug)]
pub struct Prog {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) spec: Arc<ProgSpec>,
    pub(crate) found: Arc<[Found]>,
}

/// Lets this process have as many open descriptors as it may: each program and each place that one is attached to takes one, and the
/// usual limit is 1,024. Says whether there are more now.
pub fn raise_descriptor_limit() -> bool {
    crate::sys::process::raise_descriptors()
}

/// Whose calls a program is to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tasks {
    /// Everybody's.
    #[default]
    All,
    /// Those of one process; what it forks is not of it. Others run as fast as if there were no probe. Only uprobes know this.
    Process(u32),
}

/// What a program is given when the kernel is asked to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestInput {
    /// The packet; nothing for types that take none.
    pub data: Vec<u8>,
    /// The context; nothing for one of zeros, where the type has a context of its own.
    pub context: Vec<u8>,
    /// How often it is to run; 0 is once, and all that some types take.
    pub repeat: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned.
    pub result: u32,
    /// How long a run took on average.
    pub each: Duration,
    /// The packet as the program left it.
    pub data: Vec<u8>,
    /// The context as the program left it, where the kernel hands it back.
    pub context: Vec<u8>,
}

impl Prog {
    /// What it was loaded from.
    pub fn spec(&self) -> &ProgSpec {
        &self.spec
    }

    /// The offsets and sizes in it, and where each of them came from.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// It as one of those on the system, which the kernel tells about.
    pub fn loaded(&self) -> LoadedProg {
        LoadedProg::new(Arc::clone(&self.fd), format!("the program `{}`", self.spec.name))
    }

    /// The types that it was loaded with: its functions' prototypes.
    ///
    /// # Errors
    /// As [`LoadedProg::types`].
    pub fn types(&self) -> Result<Shown<Btf>, Error> {
        self.loaded().types(&self.info()?)
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    /// What the kernel says to BPF_OBJ_GET_INFO_BY_FD.
    pub fn info(&self) -> Result<ProgInfo, Error> {
        self.loaded().info()
    }

    /// Its instructions as the verifier rewrote them, before they become machine code: see [`crate::LoadedCode::insns`].
    ///
    /// # Errors
    /// As [`Prog::info`].
    pub fn xlated(&self) -> Result<Shown<Vec<Insn>>, Error> {
        self.loaded().xlated()
    }

    /// Pins it in a bpf file system, where it stays until the file is removed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        pin::pin(&format!("program `{}`", self.spec.name), self.as_fd(), path.as_ref())
    }

    /// Has the kernel run it, with input of the caller's in place of what it would be given where it is attached.
    ///
    /// # Errors
    /// What the kernel says to BPF_PROG_TEST_RUN: ENOTSUPP (524) for types of programs that cannot be run so, EINVAL for input
    /// that is too short, such as a packet without an Ethernet header.
    pub fn test_run(&self, input: &TestInput) -> Result<TestRun, Error> {
        let what = || format!("cannot run the program `{}` by BPF_PROG_TEST_RUN", self.spec.name);
        let ran = bpf::prog_test_run(self.as_fd(), &input.data, &input.context, input.repeat);
        let (result, data, context) = ran.map_err(|error| Error::privileged(what(), error))?;
        let nanos = Duration::from_nanos(result.duration.into());
        Ok(TestRun { result: result.retval, each: nanos, data, context })
    }

    /// Attaches it where its description says, in the best way that the kernel has.
    ///
    /// # Errors
    /// Each way that was tried, and why it failed.
    pub fn attach(self, target: &Target) -> Result<Link, Error> {
        let place = self.spec.attach.clone();
        self.attach_to(&place, Tasks::All, target)
    }

    /// Attaches it to another place of the same kind than its description says; it may be at many at the same time.
    ///
    /// # Errors
    /// A place for another type of program, or which cannot be kept to one process; each way that was tried, and why it failed.
    pub fn attach_to(&self, place: &Attach, tasks: Tasks, target: &Target) -> Result<Link, Error> {
        if place.prog_type() != self.spec.attach.prog_type() || place.expected() != self.spec.attach.expected() {
            return Err(attach::misplaced(
                place,
                &format!("`{}` is a program for a {}", self.spec.name, self.spec.attach),
            ));
        }
        Ok(attach::attach(self.clone(), place, tasks, target)?.at(place))
    }

    /// Whether both are handles of one program of the kernel.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.fd, &other.fd)
    }
}

impl AsFd for Prog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
