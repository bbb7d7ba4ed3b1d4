//! Somebody who may do less than root.

use std::process::Command;

use bpfkit_asm::Version;
use bpfkit_loader::{Feature, function_names};

use super::{CaseResult, LITTLE, Sysctl, TOOLS, refused, works};
use crate::guest::case::Ctx;
use crate::guest::sys;
use crate::{ensure, skip};

/// Somebody who may do nothing is told what it takes, by every tool, at once and not once for each probe.
pub(super) fn nobody(ctx: &mut Ctx) -> CaseResult {
    for name in TOOLS.into_iter().chain(["gethostlatency"]) {
        let said = refused(ctx, name, &|command| sys::nobody_with(command, &[]))?;
        let expected = if sys::has_cap_bpf()? { "it takes root, or CAP_BPF and CAP_PERFMON" } else { "it takes root" };
        ensure!(said.contains(expected), "{name}: {said}");
        ensure!(said.matches("it takes root").count() == 1, "{name} says it more than once: {said}");
    }
    Ok(())
}

const CAPS: &[u32] = &[sys::CAP_BPF, sys::CAP_PERFMON, sys::CAP_NET_ADMIN];

fn need_caps(ctx: &Ctx) -> CaseResult {
    let target = ctx.target()?;
    if !sys::has_cap_bpf()? {
        skip!("CAP_BPF came with Linux 5.8, this is {}", target.version());
    }
    if !target.has(Feature::KprobePmu) {
        skip!("without kprobes by perf it takes tracefs, which only root can read");
    }
    Ok(())
}

/// Tracefs is for root, so that the tools go by perf's kprobes, even the one that prefers a tracepoint. One of them must know
/// what its function is given.
fn by_kprobes(ctx: &Ctx, prepare: &dyn Fn(&mut Command)) -> CaseResult {
    const FUNCTION: &str = "__netif_receive_skb_core";
    let target = ctx.target()?;
    // Types tell, or a trial where the kernel has more than a copy of the function, or the version.
    let has_function = function_names(FUNCTION)?.first().is_some_and(|name| name == FUNCTION);
    let is_new = target.version() >= Version::new(5, 8);
    let is_told = target.btf().is_ok_and(|btf| is_new || has_function || btf.func_proto(FUNCTION).is_ok());
    for name in TOOLS {
        let missing = match name {
            "skbrecv" if !is_told => "is for root only",
            // Where members are is tried with pings.
            "icmpecho" if target.btf().is_err() => "which takes CAP_NET_RAW",
            _ => {
                works(ctx, name, &[], prepare)?;
                continue;
            }
        };
        let said = refused(ctx, name, prepare)?;
        ensure!(said.contains(missing), "{name}: {said}");
    }
    Ok(())
}

pub(super) fn capable(ctx: &mut Ctx) -> CaseResult {
    need_caps(ctx)?;
    let _sysctl = Sysctl::set("kernel/perf_event_paranoid", "2")?;
    by_kprobes(ctx, &|command| {
        sys::memlock(command, u64::MAX, u64::MAX);
        sys::nobody_with(command, CAPS);
    })
}

/// Before Linux 5.11 maps are locked memory, of which there is not enough, and who is not root cannot have more.
pub(super) fn capable_memlock(ctx: &mut Ctx) -> CaseResult {
    need_caps(ctx)?;
    let _sysctl = Sysctl::set("kernel/perf_event_paranoid", "2")?;
    let prepare = |command: &mut Command| {
        sys::memlock(command, LITTLE, LITTLE);
        sys::nobody_with(command, CAPS);
    };
    if ctx.target()?.has(Feature::CgroupMemory) {
        return by_kprobes(ctx, &prepare);
    }
    for name in TOOLS {
        let said = refused(ctx, name, &prepare)?;
        ensure!(said.contains("65536 bytes are allowed: ulimit -l"), "{name}: {said}");
    }
    Ok(())
}

/// Debian's kernels leave perf to root at this level, where mainline's know none above 2.
pub(super) fn capable_paranoid(ctx: &mut Ctx) -> CaseResult {
    need_caps(ctx)?;
    let _sysctl = Sysctl::set("kernel/perf_event_paranoid", "3")?;
    let prepare = |command: &mut Command| {
        sys::memlock(command, u64::MAX, u64::MAX);
        sys::nobody_with(command, CAPS);
    };
    if ctx.release()?.contains("-cloud-amd64") {
        let said = refused(ctx, "tcpconnect", &prepare)?;
        ensure!(said.contains("kernel.perf_event_paranoid is 3"), "{said}");
        Ok(())
    } else {
        by_kprobes(ctx, &prepare)
    }
}
