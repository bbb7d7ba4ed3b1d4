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
    KprobeTracefs "kprobe-tracefs" "kprobes by kprobe_events in tracefs" 4 . 1;
    KprobeMulti "kprobe-multi" "one link for many kprobes" 5 . 18;
    KprobeSession "kprobe-session" "one program at entry and return of functions" 6 . 10;
    UprobePmu "uprobe-pmu" "uprobes by perf_event_open" 4 . 17;
    UprobeRefCtr "uprobe-ref-ctr" "uprobes that count in a program's semaphore" 4 . 20;
    UprobeTracefs "uprobe-tracefs" "uprobes by uprobe_events in tracefs" 4 . 3;
    UprobeMulti "uprobe-multi" "one link for many uprobes" 6 . 6;
    UprobeSession "uprobe-session" "one program at entry and return of users' functions" 6 . 13;
    Tracepoint "tracepoint" "tracepoints" 4 . 7;
    RawTracepoint "raw-tracepoint" "raw tracepoints" 4 . 17;
    TpBtf "tp-btf" "tracepoints whose arguments have types" 5 . 5;
    PerfEvent "perf-event" "clocks and counters of perf" 4 . 9;
    PerfLink "perf-link" "links of perf events" 5 . 15;
    Fentry "fentry" "fentry and fexit" 5 . 5;
    FentryProg "fentry-prog" "fentry and fexit on BPF programs" 5 . 5;
    TracingLink "tracing-link" "fentry by BPF_LINK_CREATE" 5 . 19;
    Freplace "freplace" "programs that replace a function of another" 5 . 6;
    FmodRet "fmod-ret" "programs that return in a kernel function's place" 5 . 7;
    Lsm "lsm" "programs at the hooks of security modules" 5 . 7;
    Iter "iter" "programs that read the kernel's lists" 5 . 8;
    Sleepable "sleepable" "programs that may sleep" 5 . 10;
    ProbeReadKernel "probe-read-kernel" "bpf_probe_read_kernel" 5 . 5;
    NsPid "ns-pid" "pids of a pid namespace" 5 . 7;
    Jmp32 "jmp32" "32-bit comparisons" 5 . 1;
    MapValue "map-value" "addresses of map values" 5 . 2;
    BoundedLoops "bounded-loops" "bounded loops" 5 . 3;
    AtomicFetch "atomic-fetch" "fetching atomics" 5 . 12;
    FuncPointer "func-pointer" "addresses of functions" 5 . 13;
    Kfunc "kfunc" "kernel function calls" 5 . 13;
    IsaV4 "isa-v4" "the instructions of ISA version 4" 6 . 6;
    MayGoto "may-goto" "may_goto" 6 . 9;
    LoadAcquire "load-acquire" "ordered loads and stores" 6 . 15;
    LargePrograms "large-programs" "programs of more than 4,096 instructions" 5 . 2;
    LargeLogs "large-logs" "verifier logs of 16 MiB and more" 5 . 2;
    RotatingLogs "rotating-logs" "verifier logs that keep their end" 6 . 4;
    CgroupMemory "cgroup-memory" "memory charged to the cgroup, not to RLIMIT_MEMLOCK" 5 . 11;
    KernelBtf "kernel-btf" "types of its own" 5 . 4;
    MapNames "map-names" "names of maps" 4 . 15;
    MapBtf "map-btf" "types of keys and values of maps" 4 . 18;
    ProgBtf "prog-btf" "types and source lines of programs" 5 . 0;
    FuncInfo "func-info" "functions of programs by their types" 5 . 0;
    LineInfo "line-info" "source lines of programs" 5 . 0;
    GlobalFunc "global-func" "global functions" 5 . 6;
    BtfFloat "btf-float" "BTF_KIND_FLOAT" 5 . 13;
    BtfDeclTag "btf-decl-tag" "BTF_KIND_DECL_TAG" 5 . 16;
    BtfTypeTag "btf-type-tag" "BTF_KIND_TYPE_TAG" 5 . 17;
    BtfEnum64 "btf-enum64" "BTF_KIND_ENUM64" 6 . 0;
    MapFreeze "map-freeze" "BPF_MAP_FREEZE" 5 . 2;
    MapBatch "map-batch" "elements of maps by the batch" 5 . 6;
    EnableStats "enable-stats" "BPF_ENABLE_STATS" 5 . 8;
}

/// What features are about, as a report groups them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Group {
    /// Places for programs, and ways to put them there.
    Attach,
    /// What programs are made of.
    Isa,
    /// How large things may be, and who pays for them.
    Limits,
    /// Types.
    Btf,
    /// Commands of bpf(2).
    Commands,
}

impl Group {
    /// Every group, in the order of a report.
    pub const ALL: &'static [Self] = &[Self::Attach, Self::Isa, Self::Limits, Self::Btf, Self::Commands];

    /// What JSON calls it.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Isa => "isa",
            Self::Limits => "limits",
            Self::Btf => "btf",
            Self::Commands => "commands",
        }
    }
}

impl Feature {
    /// What it is about.
    pub fn group(self) -> Group {
        use Feature::*;
        match self {
            Kprobes | KprobePmu | KprobeTracefs | KprobeMulti | KprobeSession | UprobePmu | UprobeRefCtr
            | UprobeTracefs | UprobeMulti | UprobeSession | Tracepoint | RawTracepoint | TpBtf | PerfEvent
            | PerfLink | Fentry | FentryProg | TracingLink | Freplace | FmodRet | Lsm | Iter | Sleepable => {
                Group::Attach
            }
            ProbeReadKernel | NsPid | Jmp32 | MapValue | BoundedLoops | AtomicFetch | FuncPointer | Kfunc | IsaV4
            | MayGoto | LoadAcquire => Group::Isa,
            LargePrograms | LargeLogs | RotatingLogs | CgroupMemory => Group::Limits,
            KernelBtf | MapNames | MapBtf | ProgBtf | FuncInfo | LineInfo | GlobalFunc | BtfFloat | BtfDeclTag
            | BtfTypeTag | BtfEnum64 => Group::Btf,
            MapFreeze | MapBatch | EnableStats => Group::Commands,
        }
    }
}

impl Feature {
    /// The options of the kernel's configuration, beside CONFIG_BPF_SYSCALL, without which a kernel of any version lacks it; empty where
    /// there is none. The first of them is the one that kernels of distributions leave out most often.
    pub fn config(self) -> &'static [&'static str] {
        use Feature::*;
        const TYPES: &str = "CONFIG_DEBUG_INFO_BTF";
        const TRAMPOLINES: &str = "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS";
        match self {
            Kprobes | KprobePmu | KprobeTracefs => &["CONFIG_KPROBE_EVENTS"],
            KprobeMulti | KprobeSession => &["CONFIG_FPROBE"],
            UprobePmu | UprobeRefCtr | UprobeTracefs | UprobeMulti | UprobeSession => &["CONFIG_UPROBE_EVENTS"],
            Tracepoint | RawTracepoint | PerfEvent => &["CONFIG_BPF_EVENTS"],
            Fentry | TracingLink => &[TYPES, TRAMPOLINES],
            FmodRet => &[TYPES, TRAMPOLINES, "CONFIG_SECURITY"],
            Lsm => &["CONFIG_BPF_LSM", TYPES, TRAMPOLINES],
            KernelBtf | TpBtf | Iter | Kfunc | Sleepable => &[TYPES],
            _ => &[],
        }
    }

    /// How a kernel is said to have refused it: one that is new enough was built without it, or is kept from it.
    pub(crate) fn refused_by(self, version: Version) -> String {
        let options = self.config().join(" or ");
        match options.is_empty() || version < self.since() {
            true => format!("this one, {version}, refused it"),
            false => format!("this one, {version}, refused it, as those do that are built without {options}"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_kernel_without_a_feature_was_built_so_and_an_old_one_is_only_old() {
        let refused = |feature: Feature, minor| feature.refused_by(Version::new(5, minor));
        assert_eq!(
            refused(Feature::Kprobes, 15),
            "this one, 5.15, refused it, as those do that are built without CONFIG_KPROBE_EVENTS"
        );
        assert_eq!(refused(Feature::Fentry, 4), "this one, 5.4, refused it");
        let options = "CONFIG_DEBUG_INFO_BTF or CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS";
        assert!(refused(Feature::Fentry, 15).ends_with(&format!("built without {options}")));
        assert_eq!(refused(Feature::Jmp32, 15), "this one, 5.15, refused it", "no option leaves it out");
    }
}
