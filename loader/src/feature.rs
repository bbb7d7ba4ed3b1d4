//! What kernels have or lack: one list, each with the version that brought it. `probe` asks the running kernel.

use std::fmt;
use std::str::FromStr;

use bpfkit_asm::Version;

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident $slug:literal $text:literal $major:literal . $minor:literal;)*) => {
        /// Something that one kernel has and another lacks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Feature {
            $(#[doc = $text] $name,)*
        }

        impl Feature {
            /// Every feature.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What an option calls it.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The mainline kernel that brought it. Others may have it earlier, by a backport, or lack it, by configuration.
            pub fn since(self) -> Version {
                match self { $(Self::$name => Version::new($major, $minor),)* }
            }
        }
    };
}

features! {
    Kprobes "kprobes" "kprobes" 4 . 1;
    KprobePmu "kprobe-pmu" "kprobes by perf_event_open" 4 . 17;
    UprobePmu "uprobe-pmu" "uprobes by perf_event_open" 4 . 17;
    UprobeRefCtr "uprobe-ref-ctr" "uprobes that count in a program's semaphore" 4 . 20;
    ProgBtf "prog-btf" "types and source lines of programs" 5 . 0;
    Jmp32 "jmp32" "32-bit comparisons" 5 . 1;
    LargePrograms "large-programs" "programs of more than 4,096 instructions" 5 . 2;
    MapValue "map-value" "addresses of map values" 5 . 2;
    BoundedLoops "bounded-loops" "bounded loops" 5 . 3;
    KernelBtf "kernel-btf" "types of its own" 5 . 4;
    ProbeReadKernel "probe-read-kernel" "bpf_probe_read_kernel" 5 . 5;
    Fentry "fentry" "fentry and fexit" 5 . 5;
    FentryProg "fentry-prog" "fentry and fexit on BPF programs" 5 . 5;
    TpBtf "tp-btf" "tracepoints whose arguments have types" 5 . 5;
    GlobalFunc "global-func" "global functions" 5 . 6;
    Freplace "freplace" "programs that replace a function of another" 5 . 6;
    FmodRet "fmod-ret" "programs that return in a kernel function's place" 5 . 7;
    Lsm "lsm" "programs at the hooks of security modules" 5 . 7;
    TracingLink "tracing-link" "fentry by BPF_LINK_CREATE" 5 . 19;
    AtomicFetch "atomic-fetch" "fetching atomics" 5 . 12;
    FuncPointer "func-pointer" "addresses of functions" 5 . 13;
    Kfunc "kfunc" "kernel function calls" 5 . 13;
    IsaV4 "isa-v4" "the instructions of ISA version 4" 6 . 6;
    MayGoto "may-goto" "may_goto" 6 . 9;
    LoadAcquire "load-acquire" "ordered loads and stores" 6 . 15;
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|feature| feature.slug() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|feature| feature.slug()).collect();
            format!("no such feature; there are {}", all.join(", "))
        })
    }
}

/// How it is known whether a kernel has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Known {
    /// The running kernel was asked, by trying.
    Tried,
    /// By the version alone: the kernel does not run here, cannot be asked, or did not tell, as it does without privilege.
    ByVersion,
    /// [`crate::TargetBuilder::without`] says so.
    Without,
}
