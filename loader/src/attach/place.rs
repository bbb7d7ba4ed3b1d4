//! Where a program is attached.

use std::fmt;
use std::path::PathBuf;

use bpfkit_btf::Kind;

use crate::feature::Feature;
use crate::func::ProgFunc;
use crate::kind::ProgType;

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
