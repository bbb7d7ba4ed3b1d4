//! Programs: from a description to what the kernel runs.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bpfkit_asm::{Asm, Insn};
use bpfkit_btf::{Btf, Kind};

use crate::feature::Feature;
use crate::func::{CType, Func, Linkage, Place, ProgFunc, Prototype};
use crate::kind::ProgType;
use crate::link::Link;
use crate::linked::Linked;
use crate::loaded::{LoadedProg, ProgInfo, Shown};
use crate::map::Maps;
use crate::origin::Found;
use crate::sys::bpf;
use crate::target::Target;
use crate::verifier::Verdict;
use crate::{Error, attach};

/// Of `enum bpf_attach_type`.
pub(crate) const TRACE_UPROBE_MULTI: u32 = 48;

/// Where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attach {
    /// Nowhere: a socket filter that is loaded to see whether it can be.
    None,
    /// Nowhere: a program of any type, which is loaded to be tried.
    Trial {
        /// The type.
        kind: ProgType,
        /// `enum bpf_attach_type`, for the types that are verified by it, else 0.
        expected: u32,
    },
    /// Before an instruction of a kernel function.
    Kprobe {
        /// The function.
        symbol: String,
        /// Bytes from its start.
        offset: u64,
    },
    /// At the return of a kernel function.
    Kretprobe {
        /// The function.
        symbol: String,
    },
    /// Before an instruction of a program or library.
    Uprobe {
        /// The file.
        path: PathBuf,
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// At the return of a function of a program or library.
    Uretprobe {
        /// The file.
        path: PathBuf,
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// Before instructions of a program or library, or at the returns of functions, by one link (Linux 6.6). Detaching takes the kernel as long
    /// as for one of them. The program has to return 0: before Linux 6.13 another number removes the probe.
    UprobeMulti {
        /// The file.
        path: PathBuf,
        /// Bytes from the start of the file, and what `bpf_get_attach_cookie` returns there.
        places: Vec<(u64, u64)>,
        /// Whether it is at the returns of the functions that begin there.
        at_return: bool,
    },
    /// At a place that the author of a program or library marked, as [`crate::usdt::Usdt::attach`] says.
    Usdt {
        /// The file.
        path: PathBuf,
        /// The probe, `provider:name`.
        probe: String,
        /// Bytes from the start of the file to the instruction.
        offset: u64,
        /// Bytes from the start of the file to the counter that is above 0 while somebody traces.
        semaphore: Option<u64>,
    },
    /// At a tracepoint, with the record that it would write.
    Tracepoint {
        /// The directory below events in tracefs.
        category: String,
        /// The tracepoint.
        name: String,
    },
    /// At a tracepoint, with the arguments that it is given.
    RawTracepoint {
        /// The tracepoint.
        name: String,
    },
    /// At the entry of a kernel function, through a trampoline. Of an argument that has fewer than 8 bytes the rest of its word
    /// is undefined; so it is at all places of this kind.
    Fentry {
        /// The function.
        func: String,
    },
    /// At the return of a kernel function, through a trampoline.
    Fexit {
        /// The function.
        func: String,
    },
    /// Before a kernel function, in whose place it returns what is not 0. The kernel allows this for functions into which
    /// errors may be injected, and for those whose names begin with `security_`.
    FmodRet {
        /// The function.
        func: String,
    },
    /// At the entry of a function of another program.
    FentryProg(ProgFunc),
    /// At the return of a function of another program.
    FexitProg(ProgFunc),
    /// In place of a global function of another program, with its arguments in r1 to r5. It may return what programs of that
    /// one's type may, which is nothing but 0 for some, such as those at raw tracepoints.
    Freplace(ProgFunc),
    /// At a hook of the security modules. What is not 0 denies, as a negative errno.
    Lsm {
        /// The hook, such as `file_open`.
        hook: String,
    },
    /// At a tracepoint, with the arguments that it is given, whose types the kernel knows.
    TpBtf {
        /// The tracepoint.
        name: String,
    },
    /// At each tick of every CPU's clock.
    PerfEvent {
        /// Ticks a second.
        hertz: u64,
    },
}

impl Attach {
    /// The type of the programs that are attached so.
    pub fn prog_type(&self) -> ProgType {
        match self {
            Self::None => ProgType::SOCKET_FILTER,
            Self::Trial { kind, .. } => *kind,
            Self::Kprobe { .. }
            | Self::Kretprobe { .. }
            | Self::Uprobe { .. }
            | Self::Uretprobe { .. }
            | Self::UprobeMulti { .. }
            | Self::Usdt { .. } => ProgType::KPROBE,
            Self::Tracepoint { .. } => ProgType::TRACEPOINT,
            Self::RawTracepoint { .. } => ProgType::RAW_TRACEPOINT,
            Self::Fentry { .. }
            | Self::Fexit { .. }
            | Self::FmodRet { .. }
            | Self::FentryProg(_)
            | Self::FexitProg(_)
            | Self::TpBtf { .. } => ProgType::TRACING,
            Self::Freplace(_) => ProgType::EXT,
            Self::Lsm { .. } => ProgType::LSM,
            Self::PerfEvent { .. } => ProgType::PERF_EVENT,
        }
    }

    /// The type of the programs whose context such a program has: one that replaces a function is given what that one was.
    pub(crate) fn context_of(&self) -> ProgType {
        self.onto().map_or(self.prog_type(), |func| func.kind)
    }

    /// Whether it is at the return of a function, by a probe.
    pub(crate) fn is_return(&self) -> bool {
        matches!(self, Self::Kretprobe { .. } | Self::Uretprobe { .. } | Self::UprobeMulti { at_return: true, .. })
    }

    /// Whether it is in a program or library, so that it can be kept to one process.
    pub(crate) fn is_user(&self) -> bool {
        matches!(self, Self::Uprobe { .. } | Self::Uretprobe { .. } | Self::UprobeMulti { .. } | Self::Usdt { .. })
    }

    /// `enum bpf_attach_type`, for the types that have one.
    pub(crate) fn expected(&self) -> u32 {
        match self {
            Self::TpBtf { .. } => 23,
            Self::Fentry { .. } | Self::FentryProg(_) => 24,
            Self::Fexit { .. } | Self::FexitProg(_) => 25,
            Self::FmodRet { .. } => 26,
            Self::Lsm { .. } => 27,
            Self::UprobeMulti { .. } => TRACE_UPROBE_MULTI,
            Self::Trial { expected, .. } => *expected,
            _ => 0,
        }
    }

    /// The function of another program that it belongs to.
    pub fn onto(&self) -> Option<&ProgFunc> {
        match self {
            Self::FentryProg(func) | Self::FexitProg(func) | Self::Freplace(func) => Some(func),
            _ => None,
        }
    }

    /// The type by whose number the kernel knows the place, where it is one of the kernel's own.
    pub(crate) fn kernel_type(&self) -> Option<(Kind, String)> {
        match self {
            Self::Fentry { func } | Self::Fexit { func } | Self::FmodRet { func } => Some((Kind::FUNC, func.clone())),
            Self::Lsm { hook } => Some((Kind::FUNC, format!("bpf_lsm_{hook}"))),
            Self::TpBtf { name } => Some((Kind::TYPEDEF, format!("btf_trace_{name}"))),
            _ => None,
        }
    }

    /// What a kernel must have for programs that are attached so, where not every one has it.
    pub fn feature(&self) -> Option<Feature> {
        match self {
            Self::Fentry { .. } | Self::Fexit { .. } => Some(Feature::Fentry),
            Self::FmodRet { .. } => Some(Feature::FmodRet),
            Self::FentryProg(_) | Self::FexitProg(_) => Some(Feature::FentryProg),
            Self::Freplace(_) => Some(Feature::Freplace),
            Self::Lsm { .. } => Some(Feature::Lsm),
            Self::TpBtf { .. } => Some(Feature::TpBtf),
            Self::UprobeMulti { .. } => Some(Feature::UprobeMulti),
            _ => None,
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Trial { kind, .. } => match kind.name() {
                Some(name) => write!(f, "nothing ({name})"),
                None => write!(f, "nothing (program type {})", kind.0),
            },
            Self::Kprobe { symbol, offset: 0 } => write!(f, "kprobe on {symbol}"),
            Self::Kprobe { symbol, offset } => write!(f, "kprobe on {symbol}+{offset}"),
            Self::Kretprobe { symbol } => write!(f, "kretprobe on {symbol}"),
            Self::Uprobe { path, offset: 0 } => write!(f, "uprobe on {}", path.display()),
            Self::Uretprobe { path, offset: 0 } => write!(f, "uretprobe on {}", path.display()),
            Self::Uprobe { path, offset } => write!(f, "uprobe on {}+{offset:#x}", path.display()),
            Self::Uretprobe { path, offset } => write!(f, "uretprobe on {}+{offset:#x}", path.display()),
            Self::UprobeMulti { path, places, at_return } => {
                let kind = if *at_return { "uretprobes" } else { "uprobes" };
                write!(f, "{} {kind} on {}", places.len(), path.display())
            }
            Self::Usdt { path, probe, offset, .. } => write!(f, "usdt {probe} at {}+{offset:#x}", path.display()),
            Self::Tracepoint { category, name } => write!(f, "tracepoint {category}:{name}"),
            Self::RawTracepoint { name } => write!(f, "raw tracepoint {name}"),
            Self::Fentry { func } => write!(f, "fentry on {func}"),
            Self::Fexit { func } => write!(f, "fexit on {func}"),
            Self::FmodRet { func } => write!(f, "fmod_ret on {func}"),
            Self::FentryProg(func) => write!(f, "fentry on {func}"),
            Self::FexitProg(func) => write!(f, "fexit on {func}"),
            Self::Freplace(func) => write!(f, "freplace of {func}"),
            Self::Lsm { hook } => write!(f, "LSM hook {hook}"),
            Self::TpBtf { name } => write!(f, "tp_btf {name}"),
            Self::PerfEvent { hertz } => write!(f, "CPU clock of {hertz} Hz"),
        }
    }
}

/// A program that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgSpec {
    /// Its name; the kernel keeps 15 bytes of it.
    pub name: String,
    /// Where it is attached.
    pub attach: Attach,
    /// Its licence. Many helpers are for GPL programs only.
    pub license: String,
    /// Its functions. The kernel enters at the first.
    pub funcs: Vec<Func>,
}

impl ProgSpec {
    /// A program of one function, under the licence `GPL`, which is what the kernel means by it: what it may call, not how
    /// this source is licensed.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn new(name: &str, attach: Attach, code: Asm) -> Result<Self, Error> {
        let entry = match &attach {
            // The kernel wants the prototype of the function that it takes the place of.
            Attach::Freplace(func) => (func.proto.clone(), Linkage::Global),
            _ => (Prototype::int().param("ctx", CType::Context), Linkage::Static),
        };
        let mut spec = Self { name: name.to_owned(), attach, license: "GPL".to_owned(), funcs: Vec::new() };
        spec = spec.func_with(name, entry.0, entry.1, code)?;
        Ok(spec)
    }

    /// Adds a function that `call name` finds, `static int name(void)` for those who look at the program.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn func(self, name: &str, code: Asm) -> Result<Self, Error> {
        self.func_with(name, Prototype::int(), Linkage::Static, code)
    }

    /// Adds a function that `call name` finds, with the prototype by which other programs watch or replace it. Where the kernel
    /// knows no global functions (before Linux 5.6) it is static.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn func_with(mut self, name: &str, proto: Prototype, linkage: Linkage, code: Asm) -> Result<Self, Error> {
        self.funcs.push(Func { name: name.to_owned(), code: code.finish()?, proto, linkage });
        Ok(self)
    }

    /// One of its functions, as a place for other programs.
    ///
    /// # Errors
    /// When it has none of this name.
    pub fn function(&self, name: &str) -> Result<ProgFunc, Error> {
        let found = self.funcs.iter().find(|func| func.name == name);
        let unknown = || Error::Unknown { what: "function", name: name.to_owned(), program: self.name.clone() };
        Ok(ProgFunc {
            program: self.name.clone(),
            kind: self.attach.prog_type(),
            func: name.to_owned(),
            proto: found.ok_or_else(unknown)?.proto.clone(),
        })
    }

    /// Fills the holes for a kernel.
    ///
    /// # Errors
    /// What cannot be found: a member, a function.
    pub fn link(&self, target: &Target) -> Result<Linked, Error> {
        Linked::new(self, target, None)
    }

    /// Loads it into the running kernel.
    ///
    /// # Errors
    /// As [`ProgSpec::link`]; a map that is not there; what the verifier says.
    pub fn load(&self, target: &Target, maps: &Maps) -> Result<Prog, Error> {
        self.link(target)?.load(target, maps)
    }

    /// Loads it into the running kernel, for a function of a program that is there already: fentry, fexit and freplace.
    ///
    /// # Errors
    /// As [`ProgSpec::load`]; a program that has no types, or no such function.
    pub fn load_onto(&self, target: &Target, maps: &Maps, onto: &Prog) -> Result<Prog, Error> {
        let loaded = self.link_onto(target, onto).and_then(|linked| linked.load_at(target, maps, Some(onto.as_fd())));
        loaded.map_err(|error| self.lacking(target, error))
    }

    /// What the verifier finds out about a program for a function of one that is there already; see [`Linked::walk`].
    ///
    /// # Errors
    /// As [`ProgSpec::load_onto`], but for a refusal.
    pub fn walk_onto(&self, target: &Target, maps: &Maps, onto: &Prog) -> Result<Verdict, Error> {
        let walked = self.link_onto(target, onto).and_then(|linked| linked.walk_at(target, maps, Some(onto.as_fd())));
        walked.map_err(|error| self.lacking(target, error))
    }

    fn link_onto(&self, target: &Target, onto: &Prog) -> Result<Linked, Error> {
        let func = self.attach.onto().ok_or_else(|| Error::Attach {
            what: self.attach.to_string(),
            tried: vec![(format!("program {}", onto.spec.name), "this belongs to no function of another".to_owned())],
        })?;
        let place = Place::find(func, &self.attach, onto)?;
        Linked::new(self, target, Some(&place))
    }

    /// What is missing from a kernel that refuses all programs of this kind says more than the refusal of one.
    pub(crate) fn lacking(&self, target: &Target, error: Error) -> Error {
        if error.is_permission() {
            return error;
        }
        self.attach.feature().and_then(|feature| target.require(feature).err()).unwrap_or(error)
    }
}

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
        let path = path.as_ref();
        let what = format!("cannot pin the program `{}` at {}", self.spec.name, path.display());
        let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| Error::io(&what, error.into()))?;
        bpf::obj_pin(&text, self.as_fd()).map_err(|error| Error::privileged(what, error))
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
