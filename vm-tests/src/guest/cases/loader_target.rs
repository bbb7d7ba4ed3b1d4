//! What the loader knows of the running kernel, checked against what programs find there.

use std::fs;
use std::path::Path;

use bpfkit_asm::{Version, bpf};
use bpfkit_loader::{Attach, Feature, Target};

use super::probe::{Probe, connection};
use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::sys;
use crate::{ensure, ensure_eq, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::field_offsets_are_the_running_kernels", run: field },
    Case { name: "loader::sizes_and_alternatives_come_from_btf", run: sizes },
    Case { name: "loader::tracepoint_layout_is_the_same_in_tracefs_and_btf", run: layouts },
    Case { name: "loader::members_are_found_without_types_where_the_types_have_them", run: calibration },
    Case { name: "loader::features_are_there_since_their_version", run: features },
    Case { name: "loader::features_can_be_done_without", run: without },
    Case { name: "loader::tracefs_is_mounted_for_the_loader_alone", run: unmounted },
];

/// The program reads the port out of the socket by an offset from BTF; the socket's real port is known here.
fn field(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if target.btf().is_err() {
        skip!("there is no BTF");
    }
    let attach = Attach::RawTracepoint { name: "inet_sock_set_state".to_owned() };
    let value = bpf! {
        r3 = *(u64 *)(r6 + ctx.arg1);
        r3 += sock.__sk_common.skc_num;
        r1 = r10;
        r1 += -24;
        r2 = sizeof(sock.__sk_common.skc_num);
        call bpf_probe_read;
        r7 = *(u16 *)(r10 - 24);
    };
    let mut probe = Probe::start(&target, attach, value)?;
    let (client, _server) = connection()?;
    let port = client.local_addr()?.port();
    probe.expect(u64::from(port))
}

fn sizes(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if target.btf().is_err() {
        skip!("there is no BTF");
    }
    ensure_eq!(target.field("sock.__sk_common.skc_dport")?.size, 2);
    ensure_eq!(target.field("task_struct.comm")?.size, 16);
    // Linux 5.14 renamed it.
    let state = target.field("task_struct.__state|task_struct.state")?;
    let name = if target.version() >= Version::new(5, 14) { "__state" } else { "state" };
    ensure!(state.path.ends_with(&format!("task_struct.{name}")), "{} in {}", state.path, target.version());
    Ok(())
}

fn calibration(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if let Err(error) = target.require(Feature::Kprobes) {
        skip!("{error}");
    }
    if target.btf().is_err() {
        skip!("there is no BTF to compare with");
    }
    let blind = Target::builder().without(Feature::KernelBtf).running()?;
    ensure!(blind.btf().is_err());
    let sock = ["addrpair", "daddr", "rcv_saddr", "portpair", "dport", "num", "family", "v6_daddr", "v6_rcv_saddr"];
    let sock = sock.map(|member| format!("sock.__sk_common.skc_{member}"));
    let skb = ["head", "data", "transport_header", "network_header"].map(|member| format!("sk_buff.{member}"));
    for path in sock.iter().chain(&skb) {
        let (found, known) = (blind.field(path)?, target.field(path)?);
        ensure_eq!((found.offset, found.size), (known.offset, known.size), "{path}");
    }
    let error = blind.field("task_struct.comm").map(drop).map_err(|error| error.to_string());
    ensure!(error.as_ref().is_err_and(|error| error.contains("cannot be found by trying")), "{error:?}");
    Ok(())
}

fn layouts(ctx: &mut Ctx) -> Result<(), Failure> {
    let running = ctx.target()?;
    let Ok(btf) = running.btf() else { skip!("there is no BTF") };
    let offline = Target::offline(Some(btf.clone()), running.version());
    for (category, name, fields) in [
        ("sock", "inet_sock_set_state", &["skaddr", "oldstate", "newstate", "sport", "dport", "saddr", "daddr_v6"][..]),
        ("sched", "sched_process_exec", &["pid", "old_pid"]),
    ] {
        let (from_tracefs, from_btf) = (running.tracepoint(category, name)?, offline.tracepoint(category, name)?);
        for field in fields {
            let place = |format: &bpfkit_loader::Format| format.field(field).map(|field| (field.offset, field.size));
            ensure!(place(&from_tracefs).is_some(), "tracefs has no {field} in {name}");
            ensure_eq!(place(&from_btf), place(&from_tracefs), "{field} of {name} by BTF");
        }
    }
    Ok(())
}

/// A probe and the version beside it are two accounts of the same fact. Vendors add features to old versions and leave some
/// out by configuration, so that only the instruction set and the verifier, which have no configuration, are held to it, and
/// the other direction only on a kernel that is known to be mainline's.
fn features(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let mainline = ctx.release()?.contains("-cloud-amd64");
    for feature in [
        Feature::ProgBtf,
        Feature::Jmp32,
        Feature::LargePrograms,
        Feature::BoundedLoops,
        Feature::ProbeReadKernel,
        Feature::GlobalFunc,
        Feature::AtomicFetch,
        Feature::IsaV4,
        Feature::MayGoto,
        Feature::LoadAcquire,
    ] {
        let (has, expected) = (target.has(feature), target.version() >= feature.since());
        ensure!(has || !expected, "{feature} is missing from {}, it came with {}", target.version(), feature.since());
        ensure!(
            !has || expected || !mainline,
            "{} has {feature}, which came with {}",
            target.version(),
            feature.since()
        );
    }
    Ok(())
}

fn without(ctx: &mut Ctx) -> Result<(), Failure> {
    for &feature in Feature::ALL {
        let target = ctx.target_builder().without(feature).running()?;
        ensure!(!target.has(feature), "{feature}");
        let Err(error) = target.require(feature) else {
            return Err(Failure::Fail(format!("{feature} was not missed")));
        };
        ensure!(error.to_string().contains(&feature.since().to_string()), "{error}");
    }
    Ok(())
}

/// In a mount namespace of its own, without any tracing directory.
fn unmounted(ctx: &mut Ctx) -> Result<(), Failure> {
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    for place in ["/sys/kernel/debug/tracing", "/sys/kernel/debug", "/sys/kernel/tracing"] {
        // Some are not mounted.
        while sys::unmount(Path::new(place)).is_ok() {}
    }
    let attach = Attach::Tracepoint { category: "sock".to_owned(), name: "inet_sock_set_state".to_owned() };
    let code = || bpf! { r7 = *(u32 *)(r6 + ctx.newstate); };
    let target = ctx.target_builder().leave_unmounted().running()?;
    let Err(Failure::Fail(reason)) = Probe::start(&target, attach.clone(), code()).map(drop) else {
        return Err(Failure::Fail("it was attached without tracefs".to_owned()));
    };
    ensure!(reason.contains("tracefs"), "{reason}");

    let before = fs::read_to_string("/proc/self/mounts")?;
    let mut probe = Probe::start(&ctx.target()?, attach, code()).map_err(|failure| match failure {
        Failure::Fail(reason) => Failure::Fail(format!("with leave to mount: {reason}")),
        skip @ Failure::Skip(_) => skip,
    })?;
    let pair = connection()?;
    drop(pair);
    // TCP_SYN_SENT
    probe.expect(2)?;
    // Whoever looks at this namespace, or at another, must not find a mount that they did not ask for.
    ensure_eq!(fs::read_to_string("/proc/self/mounts")?, before, "the mounts");
    Ok(())
}
