//! Places for programs: each is attached to for a moment, where nothing happens meanwhile.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bpfkit_btf::Kind;

use super::kind::{FUNC, SLEEPABLE, SLEEPABLE_HOOK};
use super::{may_load, plain};
use crate::attach::TRACE_UPROBE_MULTI;
use crate::feature::Feature;
use crate::kind::ProgType;
use crate::map::with_memlock;
use crate::prog::Tasks;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::sys::perf;
use crate::target::Target;

/// A tracepoint that every kernel has, and that is seldom passed.
const TRACEPOINT: &str = "sched_process_exec";
/// Numbers of `enum bpf_attach_type`.
const TRACE_FENTRY: u32 = 24;
const LSM_MAC: u32 = 27;
const TRACE_ITER: u32 = 28;
const PERF_EVENT: u32 = 41;
const TRACE_KPROBE_MULTI: u32 = 42;
const TRACE_KPROBE_SESSION: u32 = 56;
const TRACE_UPROBE_SESSION: u32 = 57;

pub(super) fn feature(feature: Feature, target: &Target) -> Option<bool> {
    let kprobe = |expected| load(ProgType::KPROBE, expected, None, 0);
    let result = match feature {
        Feature::KprobeTracefs => return target.tracefs().ok().map(|tracefs| tracefs.path("kprobe_events").exists()),
        Feature::UprobeTracefs => return target.tracefs().ok().map(|tracefs| tracefs.path("uprobe_events").exists()),
        Feature::Tracepoint => {
            let id = target.tracefs().and_then(|tracefs| tracefs.id("sched", TRACEPOINT)).ok()?;
            load(ProgType::TRACEPOINT, 0, None, 0).and_then(|prog| {
                let event = perf::tracepoint(id, Tasks::All, 0)?;
                perf::set_bpf(event.as_fd(), prog.as_fd())
            })
        }
        Feature::RawTracepoint => load(ProgType::RAW_TRACEPOINT, 0, None, 0)
            .and_then(|prog| bpf::raw_tracepoint_open(prog.as_fd(), Some(c"sched_process_exec")).map(drop)),
        Feature::PerfEvent => load(ProgType::PERF_EVENT, 0, None, 0)
            .and_then(|prog| perf::set_bpf(perf::cpu_clock(0, 1)?.as_fd(), prog.as_fd())),
        Feature::PerfLink => load(ProgType::PERF_EVENT, 0, None, 0).and_then(|prog| {
            let event = perf::cpu_clock(0, 1)?;
            bpf::link_create(prog.as_fd(), Some(event.as_fd()), PERF_EVENT).map(drop)
        }),
        Feature::KprobeMulti => kprobe(TRACE_KPROBE_MULTI).and_then(|prog| link_kprobe(&prog, TRACE_KPROBE_MULTI)),
        Feature::KprobeSession => {
            kprobe(TRACE_KPROBE_SESSION).and_then(|prog| link_kprobe(&prog, TRACE_KPROBE_SESSION))
        }
        Feature::UprobeMulti => kprobe(TRACE_UPROBE_MULTI).and_then(|prog| link_uprobe(&prog, TRACE_UPROBE_MULTI)),
        Feature::UprobeSession => {
            kprobe(TRACE_UPROBE_SESSION).and_then(|prog| link_uprobe(&prog, TRACE_UPROBE_SESSION))
        }
        Feature::TracingLink => load(ProgType::TRACING, TRACE_FENTRY, Some(number(target, FUNC)?), 0)
            .and_then(|prog| bpf::link_create(prog.as_fd(), None, TRACE_FENTRY).map(drop)),
        Feature::Iter => {
            // The kernel has a function for each list that programs may read.
            let types = target.numbered_btf(feature).ok()?;
            let Some(func) = types.find("bpf_iter_task", &[Kind::FUNC]) else { return Some(false) };
            load(ProgType::TRACING, TRACE_ITER, Some(func.id.0), 0)
                .and_then(|prog| bpf::link_create(prog.as_fd(), None, TRACE_ITER).map(drop))
        }
        Feature::Sleepable => {
            // Programs may sleep at some hooks, at first at this one only, and where errors may be injected: in system calls.
            let hook = number(target, SLEEPABLE_HOOK).map(|id| (ProgType::LSM, LSM_MAC, id));
            let call = number(target, "__x64_sys_getpid").map(|id| (ProgType::TRACING, TRACE_FENTRY, id));
            let mut places = [hook, call].into_iter().flatten().peekable();
            places.peek()?;
            let taken = places.any(|(kind, expected, id)| load(kind, expected, Some(id), SLEEPABLE).is_ok());
            return if taken { Some(true) } else { may_load() };
        }
        _ => return None,
    };
    match result {
        Ok(()) => Some(true),
        // There is no function of this name to be probed.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => None,
        Err(_) => may_load(),
    }
}

/// By which number the kernel knows a function.
fn number(target: &Target, func: &str) -> Option<u32> {
    Some(target.numbered_btf(Feature::Fentry).ok()?.find(func, &[Kind::FUNC])?.id.0)
}

fn link_kprobe(prog: &OwnedFd, attach_type: u32) -> io::Result<()> {
    bpf::link_kprobe(prog.as_fd(), attach_type, c"tcp_close").map(drop)
}

/// A directory has no places for probes, as only a kernel says that knows what is asked. To remove a probe would take it a grace period.
fn link_uprobe(prog: &OwnedFd, attach_type: u32) -> io::Result<()> {
    match bpf::link_uprobes(prog.as_fd(), attach_type, c"/", &[(0, 0)], false) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
        result => result.map(drop),
    }
}

fn load(kind: ProgType, expected_attach_type: u32, func: Option<u32>, prog_flags: u32) -> io::Result<OwnedFd> {
    let insns = plain().unwrap_or_default();
    let insns: Vec<u8> = insns.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: kind.0,
        expected_attach_type,
        attach_btf_id: func.unwrap_or_default(),
        prog_flags,
        kern_version: crate::kernel::version_code().unwrap_or_default(),
        ..Default::default()
    };
    let input = ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() };
    with_memlock(|| bpf::prog_load(attributes, input, &mut []))
}
