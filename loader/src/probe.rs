//! Asking the running kernel what it has, by trying.

mod attach;
pub(crate) mod kind;
pub(crate) mod map;
mod tracing;
pub(crate) mod types;

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use bpfkit_asm::{Asm, AtomicOp, ByteOrder, Helper, Insn, JmpOp, JumpTo, MapRef, Mem, Reg, Size, WReg};

use crate::attach::Attach;
use crate::feature::Feature;
use crate::kind::ProgType;
use crate::map::{MapSpec, Maps, with_memlock};
use crate::prog::ProgSpec;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;

/// Whether the running kernel has it; nothing where the answer does not tell, for want of privilege.
pub(crate) fn feature(feature: Feature, target: &Target) -> Option<bool> {
    let pmu = |name: &str| Path::new("/sys/bus/event_source/devices").join(name).join("type").exists();
    match feature {
        feature if takes_types(feature) && types::has_none() => Some(false),
        Feature::KprobePmu => Some(pmu("kprobe")),
        Feature::UprobePmu => Some(pmu("uprobe")),
        // A kernel that has them lists where they are set, in a directory that only root can read.
        Feature::Kprobes if pmu("kprobe") => Some(true),
        Feature::Kprobes => match target.tracefs() {
            Ok(tracefs) => Some(tracefs.path("kprobe_events").exists()),
            Err(_) => None,
        },
        // Whoever has it has the PMU, which came before.
        Feature::UprobeRefCtr => Some(Path::new("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset").exists()),
        Feature::Fentry | Feature::FmodRet | Feature::Lsm | Feature::TpBtf => tracing::kernel(feature, target),
        Feature::FentryProg | Feature::Freplace => tracing::program(feature, target),
        Feature::KprobeTracefs
        | Feature::KprobeMulti
        | Feature::KprobeSession
        | Feature::UprobeTracefs
        | Feature::UprobeMulti
        | Feature::UprobeSession
        | Feature::Tracepoint
        | Feature::RawTracepoint
        | Feature::PerfEvent
        | Feature::PerfLink
        | Feature::TracingLink
        | Feature::Iter
        | Feature::Sleepable => attach::feature(feature, target),
        Feature::KernelBtf
        | Feature::ProgBtf
        | Feature::FuncInfo
        | Feature::LineInfo
        | Feature::GlobalFunc
        | Feature::BtfFloat
        | Feature::BtfDeclTag
        | Feature::BtfTypeTag
        | Feature::BtfEnum64 => types::feature(feature),
        Feature::MapNames | Feature::MapBtf | Feature::MapFreeze | Feature::MapBatch | Feature::CgroupMemory => {
            map::feature(feature)
        }
        Feature::NsPid => kind::Shape::of(ProgType::KPROBE, target).ok()?.may_call(Helper::GET_NS_CURRENT_PID_TGID),
        Feature::EnableStats => match bpf::enable_stats() {
            Ok(_) => Some(true),
            Err(error) => (error.raw_os_error() != Some(libc::EPERM)).then_some(false),
        },
        Feature::LargeLogs => taken(load(ProgType::TRACEPOINT, &plain()?, 1, &mut vec![0; 16 << 20])),
        Feature::RotatingLogs => {
            let plain = plain()?;
            rotates(|level| load(ProgType::TRACEPOINT, &plain, level, &mut [0; 4096]).is_ok(), may_load)
        }
        Feature::MapValue => map_value(target),
        Feature::FuncPointer => func_pointer(target),
        Feature::Kfunc => kfunc(target),
        _ => accepts(ProgType::TRACEPOINT, &snippet(feature)?),
    }
}

/// Whether it goes by the numbers that the kernel's own types have, without which no kernel has it.
fn takes_types(feature: Feature) -> bool {
    use Feature::*;
    matches!(feature, Fentry | FmodRet | Lsm | TpBtf | TracingLink | Iter | Sleepable | Kfunc)
}

/// What the kernel says of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// These programs may call it.
    Callable,
    /// Others may.
    NotHere,
    /// It has none of this number, nor of a greater one.
    NoSuch,
}

/// What the verifier's words on a program that only calls a helper tell of it; nothing where it did not get as far as the call. A call that
/// it refuses for its arguments is one that it knows.
fn judge(is_loaded: bool, log: &str) -> Option<Said> {
    match log {
        _ if is_loaded => Some(Said::Callable),
        log if log.contains("invalid func ") => Some(Said::NoSuch),
        // The second is what kernels from 6.8 on say.
        log if log.contains("unknown func ") || log.contains("program of this type cannot use helper ") => {
            Some(Said::NotHere)
        }
        log if log.contains("(85) call ") => Some(Said::Callable),
        _ => None,
    }
}

/// A program that is refused where the feature is missing.
fn snippet(feature: Feature) -> Option<Vec<Insn>> {
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
    insns(asm)
}

fn insns(asm: Asm) -> Option<Vec<Insn>> {
    Some(asm.finish().ok()?.insns().to_vec())
}

/// Whether logs keep their end, as they do where the kernel takes BPF_LOG_FIXED, which asks for one that does not. Before Linux 5.2 it
/// takes every level, those too that nobody has given a meaning.
fn rotates(takes: impl Fn(u32) -> bool, may_load: impl FnOnce() -> Option<bool>) -> Option<bool> {
    const FIXED: u32 = 8;
    const NONSENSE: u32 = 1 << 30;
    match takes(1 | FIXED) {
        true => Some(!takes(1 | NONSENSE)),
        false => may_load(),
    }
}

/// The program that every kernel takes of who may load any.
fn plain() -> Option<Vec<Insn>> {
    let mut asm = Asm::new();
    asm.mov(Reg::R0, 0).exit();
    insns(asm)
}

/// Whether the kernel takes the program; nothing where it does not take the plainest one either.
fn accepts(kind: ProgType, insns: &[Insn]) -> Option<bool> {
    taken(load(kind, insns, 0, &mut []))
}

/// That a load was refused tells something where a plain program is not.
fn taken(result: std::io::Result<()>) -> Option<bool> {
    if result.is_ok() { Some(true) } else { may_load() }
}

/// `Some(false)` where a plain program is taken, so that a refusal has a reason in what is refused.
pub(crate) fn may_load() -> Option<bool> {
    load(ProgType::TRACEPOINT, &plain()?, 0, &mut []).is_ok().then_some(false)
}

/// Loads a program, which goes at once.
fn load(kind: ProgType, insns: &[Insn], log_level: u32, log: &mut [u8]) -> std::io::Result<()> {
    let insns: Vec<u8> = insns.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: kind.0,
        log_level,
        kern_version: crate::kernel::version_code().unwrap_or_default(),
        ..Default::default()
    };
    let input = ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() };
    with_memlock(|| bpf::prog_load(attributes, input, log)).map(drop)
}

/// The address of a value of an array.
fn map_value(target: &Target) -> Option<bool> {
    let map = MapSpec::array("probe", 4, 1).create(target).ok()?;
    let mut asm = Asm::new();
    asm.load_map_value(Reg::R1, MapRef::new("probe"), 0).mov(Reg::R0, 0).exit();
    let mut insns = insns(asm)?;
    insns[0].imm = map.as_fd().as_raw_fd();
    accepts(ProgType::TRACEPOINT, &insns)
}

/// The address of a function, which is there to be called back.
fn func_pointer(target: &Target) -> Option<bool> {
    let mut asm = Asm::new();
    asm.load_func(Reg::R1, "back").mov(Reg::R0, 0).exit();
    let mut back = Asm::new();
    back.mov(Reg::R0, 0).exit();
    let attach = Attach::RawTracepoint { name: "sys_enter".to_owned() };
    let spec = ProgSpec::new("probe", attach, asm).and_then(|spec| spec.func("back", back)).ok()?;
    if spec.load(target, &Maps::new()).is_ok() {
        return Some(true);
    }
    may_load()
}

/// A call of a function of the kernel by the number of its type. Who may call it is another question, so that the verifier's
/// words tell.
fn kfunc(target: &Target) -> Option<bool> {
    let func = target.numbered_btf(Feature::Kfunc).ok()?.find(kind::FUNC, &[bpfkit_btf::Kind::FUNC])?;
    let mut asm = Asm::new();
    asm.call_kfunc(kind::FUNC).mov(Reg::R0, 0).exit();
    let mut insns = insns(asm)?;
    insns[0].imm = i32::try_from(func.id.0).ok()?;
    let mut log = vec![0; 4096];
    if load(ProgType::TRACEPOINT, &insns, 1, &mut log).is_ok() {
        return Some(true);
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    if log.contains("calling kernel function") { Some(true) } else { may_load() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_takes_every_level_of_logs_tells_nothing_by_taking_one() {
        let may_load = || Some(false);
        assert_eq!(rotates(|_| true, may_load), Some(false), "before Linux 5.2");
        assert_eq!(rotates(|level| level & !7 == 0, may_load), Some(false));
        assert_eq!(rotates(|level| level & !15 == 0, may_load), Some(true), "from Linux 6.4 on");
        assert_eq!(rotates(|_| false, || None), None, "without privilege");
    }

    #[test]
    fn the_words_of_old_and_new_verifiers_tell_whether_a_helper_is_known() {
        for (log, known) in [
            ("0: (85) call bpf_spin_lock#93\nunknown func bpf_spin_lock#93\n", Some(Said::NotHere)),
            ("0: (85) call unknown#9999\ninvalid func unknown#9999\n", Some(Said::NoSuch)),
            ("0: (85) call bpf_bind#64\nprogram of this type cannot use helper bpf_bind#64\n", Some(Said::NotHere)),
            ("0: (85) call bpf_map_lookup_elem#1\nR1 type=ctx expected=map_ptr\n", Some(Said::Callable)),
            ("", None),
            ("at least one ptr to BTF is needed\n", None),
        ] {
            assert_eq!(judge(false, log), known, "{log}");
        }
        assert_eq!(judge(true, ""), Some(Said::Callable));
    }
}
