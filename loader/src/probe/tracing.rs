//! Programs that belong to a function, a hook or a tracepoint by the number of its type.

use std::os::fd::{AsFd, BorrowedFd};

use bpfkit_asm::Asm;
use bpfkit_btf::{Btf, Kind};

use super::{may_load, plain};
use crate::attach::Attach;
use crate::ctx::Arch;
use crate::feature::Feature;
use crate::func::{CType, Linkage, ProgFunc, Prototype};
use crate::map::{Maps, with_memlock};
use crate::prog::{Prog, ProgSpec};
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;

/// A program at a place of the kernel that every kernel has which has any.
pub(super) fn kernel(feature: Feature, target: &Target) -> Option<bool> {
    let attach = match feature {
        Feature::Fentry => Attach::Fentry { func: "tcp_close".to_owned() },
        Feature::FmodRet => Attach::FmodRet { func: "security_file_open".to_owned() },
        Feature::Lsm => Attach::Lsm { hook: "file_open".to_owned() },
        Feature::TpBtf => Attach::TpBtf { name: "sched_switch".to_owned() },
        _ => return None,
    };
    let (kind, name) = attach.kernel_type()?;
    let found = target.numbered_btf(feature).ok()?.find(&name, &[kind]);
    let Some(found) = found else {
        // Every kernel with security modules has the hook's function if it lets programs in; the others may be left out.
        return (feature == Feature::Lsm).then_some(false);
    };
    let plain = plain()?;
    let insns: Vec<u8> = plain.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: attach.prog_type().0,
        expected_attach_type: attach.expected(),
        attach_btf_id: found.id.0,
        ..Default::default()
    };
    let input = ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() };
    match with_memlock(|| bpf::prog_load(attributes, input, &mut [])) {
        // At a tracepoint there is nothing that is written over.
        Ok(prog) => Some(feature == Feature::TpBtf || is_patched(target) || attaches(prog.as_fd())),
        // Some kernels refuse tracing programs with EPERM, whoever asks: so privilege is judged by a plain one.
        Err(_) => may_load(),
    }
}

/// A program at a function of another one.
pub(super) fn program(feature: Feature, target: &Target) -> Option<bool> {
    let host = ProgSpec::new("probe", Attach::RawTracepoint { name: "sys_enter".to_owned() }, calls("called")).ok()?;
    let proto = Prototype::int().param("number", CType::U64);
    let host = host.func_with("called", proto, Linkage::Global, returns()).ok()?;
    let called: ProgFunc = host.function("called").ok()?;
    let attach = if feature == Feature::Freplace { Attach::Freplace(called) } else { Attach::FentryProg(called) };
    let host = host.load(target, &Maps::new()).ok()?;
    match loaded(target, attach, &host) {
        // Before Linux 6.0 arm64 loads such programs and has no trampolines. On x86 whoever compiles programs has them.
        Some(prog) => Some(target.arch() == Arch::X86_64 || attaches(prog.as_fd())),
        None => may_load(),
    }
}

/// Without [`ProgSpec::load_onto`], which asks for the feature where the load fails.
fn loaded(target: &Target, attach: Attach, host: &Prog) -> Option<Prog> {
    let place = crate::func::Place::find(attach.onto()?, &attach, host).ok()?;
    let spec = ProgSpec::new("probe", attach, returns()).ok()?;
    let linked = crate::Linked::new(&spec, target, Some(&place)).ok()?;
    linked.load_at(target, &Maps::new(), Some(host.as_fd())).ok()
}

fn returns() -> Asm {
    let mut asm = Asm::new();
    asm.mov(bpfkit_asm::Reg::R0, 0).exit();
    asm
}

fn calls(name: &'static str) -> Asm {
    let mut asm = Asm::new();
    asm.mov(bpfkit_asm::Reg::R1, 0).call_func(name).mov(bpfkit_asm::Reg::R0, 0).exit();
    asm
}

/// Whether the kernel can lead its own functions over trampolines of programs, by what its types say: then to attach would tell
/// nothing more, and to detach takes a while. Without CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS such programs are loaded all the same.
fn is_patched(target: &Target) -> bool {
    let types = target.numbered_btf(Feature::Fentry).ok();
    let has_direct_calls = |types: &Btf| types.find("register_ftrace_direct", &[Kind::FUNC]).is_some();
    target.arch() == Arch::X86_64 && types.is_some_and(has_direct_calls)
}

fn attaches(prog: BorrowedFd<'_>) -> bool {
    bpf::raw_tracepoint_open(prog, None).is_ok()
}
