//! What kernels have or lack: one list, each with how to ask for it and the version that brought it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use bpfkit_asm::{Asm, AtomicOp, ByteOrder, Code, Helper, JmpOp, JumpTo, Mem, Reg, Size, Version, WReg};

use crate::prog::ProgType;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;

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
    ProgBtf "prog-btf" "types and source lines of programs" 5 . 0;
    Jmp32 "jmp32" "32-bit comparisons" 5 . 1;
    LargePrograms "large-programs" "programs of more than 4,096 instructions" 5 . 2;
    MapValue "map-value" "addresses of map values" 5 . 2;
    BoundedLoops "bounded-loops" "bounded loops" 5 . 3;
    ProbeReadKernel "probe-read-kernel" "bpf_probe_read_kernel" 5 . 5;
    Fentry "fentry" "fentry and fexit" 5 . 5;
    TracingLink "tracing-link" "fentry by BPF_LINK_CREATE" 5 . 11;
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

/// Asks the running kernel, by trying; nothing where the answer does not tell, for want of privilege.
pub(crate) fn probe(feature: Feature, target: &Target) -> Option<bool> {
    let pmu = |name: &str| Path::new("/sys/bus/event_source/devices").join(name).join("type").exists();
    match feature {
        Feature::KprobePmu => Some(pmu("kprobe")),
        Feature::UprobePmu => Some(pmu("uprobe")),
        // A kernel that has them lists where they are set, in a directory that only root can read.
        Feature::Kprobes if pmu("kprobe") => Some(true),
        Feature::Kprobes => match target.tracefs() {
            Ok(tracefs) => Some(tracefs.path("kprobe_events").exists()),
            Err(_) => None,
        },
        Feature::Fentry => fentry(target),
        Feature::ProgBtf => prog_btf(),
        // What these need cannot be tried without a map, a function or a name; those who use them try by loading.
        Feature::Kfunc | Feature::MapValue | Feature::FuncPointer | Feature::TracingLink => None,
        _ => accepts(ProgType::TRACEPOINT, &snippet(feature)?),
    }
}

/// A program that is refused where the feature is missing.
fn snippet(feature: Feature) -> Option<Code> {
    let mut asm = Asm::new();
    let stack = || Mem::at(Reg::R10).minus(8);
    asm.mov(Reg::R0, 0);
    match feature {
        Feature::Jmp32 => {
            asm.jump(JmpOp::Eq, WReg::W0, 0, JumpTo::Relative(1)).mov(Reg::R0, 1);
        }
        Feature::LargePrograms => {
            for _ in 0..4096 {
                asm.mov(Reg::R0, 0);
            }
        }
        Feature::BoundedLoops => {
            asm.add(Reg::R0, 1).jump(JmpOp::Lt, Reg::R0, 4, JumpTo::Relative(-2));
        }
        Feature::ProbeReadKernel => {
            asm.mov(Reg::R1, Reg::R10).add(Reg::R1, -8).mov(Reg::R2, 8).mov(Reg::R3, 0).call(Helper::PROBE_READ_KERNEL);
        }
        Feature::AtomicFetch => {
            asm.store(Size::DW, stack(), 0).atomic(AtomicOp::FetchAdd, Size::DW, stack(), Reg::R0);
        }
        Feature::IsaV4 => {
            asm.endian(ByteOrder::Swap, Reg::R0, 16);
        }
        Feature::MayGoto => {
            // Linux 6.9 to 6.12 refuse one that goes nowhere.
            asm.may_goto(JumpTo::Relative(1)).mov(Reg::R0, 1);
        }
        Feature::LoadAcquire => {
            asm.store(Size::DW, stack(), 0).load_acquire(Size::DW, Reg::R0, stack());
        }
        _ => return None,
    }
    asm.mov(Reg::R0, 0).exit();
    asm.finish().ok()
}

/// Whether the kernel takes the program; nothing where it does not take the plainest one either.
fn accepts(kind: ProgType, code: &Code) -> Option<bool> {
    if load(kind, code).is_ok() {
        return Some(true);
    }
    let mut plain = Asm::new();
    plain.mov(Reg::R0, 0).exit();
    load(kind, &plain.finish().ok()?).is_ok().then_some(false)
}

fn load(kind: ProgType, code: &Code) -> std::io::Result<()> {
    let insns: Vec<u8> = code.insns().iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: kind.0,
        kern_version: crate::kernel::version_code().unwrap_or_default(),
        ..Default::default()
    };
    bpf::prog_load(attributes, ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() }, &mut []).map(drop)
}

/// Types of a program: a function without parameters.
fn prog_btf() -> Option<bool> {
    let mut types = bpfkit_btf::Builder::new();
    let int = types.int("int", 4, true);
    let proto = types.func_proto(&[], int);
    types.func("probe", proto);
    match bpf::btf_load(&types.finish()) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
        Err(_) => Some(false),
    }
}

/// A tracing program on a function that every kernel with a network has.
fn fentry(target: &Target) -> Option<bool> {
    const TRACE_FENTRY: u32 = 24;
    let btf = target.btf().ok()?;
    let attach_btf_id = btf.find("tcp_close", &[bpfkit_btf::Kind::FUNC])?.id.0;
    let mut plain = Asm::new();
    plain.mov(Reg::R0, 0).exit();
    let plain = plain.finish().ok()?;
    let insns: Vec<u8> = plain.insns().iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: ProgType::TRACING.0,
        expected_attach_type: TRACE_FENTRY,
        attach_btf_id,
        ..Default::default()
    };
    let input = ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() };
    if bpf::prog_load(attributes, input, &mut []).is_ok() {
        return Some(true);
    }
    // Some kernels refuse tracing programs with EPERM, whoever asks: so privilege is judged by a plain one.
    load(ProgType::TRACEPOINT, &plain).is_ok().then_some(false)
}
