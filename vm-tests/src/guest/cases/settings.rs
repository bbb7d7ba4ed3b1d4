//! The tools under settings that are in their way: each works all the same, or says what to do.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bpfkit_asm::Version;
use bpfkit_loader::{Feature, function_names, online_cpus};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::guest::case::{Boot, Case, Ctx, Doing as _, Failure};
use crate::guest::packets::{datagram, ping};
use crate::guest::sys;
use crate::guest::tool::{Tool, connect_child, listen};
use crate::protocol::Outcome;
use crate::{ensure, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "settings::tracefs_and_debugfs_unmounted", run: unmounted },
    Case { name: "settings::kptr_restrict_2", run: |ctx| with(ctx, "kernel/kptr_restrict", "2") },
    Case {
        name: "settings::unprivileged_bpf_disabled_2",
        run: |ctx| with(ctx, "kernel/unprivileged_bpf_disabled", "2"),
    },
    Case { name: "settings::bpf_jit_harden_2", run: |ctx| with(ctx, "net/core/bpf_jit_harden", "2") },
    Case { name: "settings::bpf_jit_enable_0", run: |ctx| with(ctx, "net/core/bpf_jit_enable", "0") },
    Case { name: "settings::perf_event_paranoid_3", run: |ctx| with(ctx, "kernel/perf_event_paranoid", "3") },
    Case { name: "settings::memlock_of_64_kib", run: memlock },
    Case { name: "settings::nobody_is_told_what_is_missing", run: nobody },
    Case { name: "settings::cap_bpf_and_cap_perfmon_are_enough", run: capable },
    Case { name: "settings::cap_bpf_and_cap_perfmon_with_memlock_of_64_kib", run: capable_memlock },
    Case { name: "settings::cap_bpf_and_cap_perfmon_with_perf_event_paranoid_3", run: capable_paranoid },
    Case { name: "settings::a_pid_namespace_has_its_own_numbers", run: |ctx| in_pid_namespace(ctx, numbers) },
    Case {
        name: "settings::a_pid_namespace_that_the_kernel_cannot_ask_for",
        run: |ctx| in_pid_namespace(ctx, unasked),
    },
    Case { name: "settings::a_cpu_that_was_offline_for_a_moment", run: |ctx| offline(ctx, Duration::ZERO) },
    Case { name: "settings::a_cpu_that_was_offline_for_long", run: |ctx| offline(ctx, LOOKED) },
    Case { name: "settings::a_cpu_that_comes_online_later", run: late },
];

/// One processor, and a kernel that guards itself as it does where it was booted securely.
pub const ONE_CPU: Boot = Boot { name: "one-cpu", words: &["lockdown=integrity"], smp: Some(1) };
pub const ON_ONE_CPU: &[Case] =
    &[Case { name: "settings::one_cpu_and_lockdown_for_integrity", run: |ctx| locked(ctx, 1, "integrity") }];

/// More processors than usual. What cannot be undone comes last.
pub const FOUR_CPUS: Boot = Boot { name: "four-cpus", words: &[], smp: Some(4) };
pub const ON_FOUR_CPUS: &[Case] = &[
    Case { name: "settings::addresses_are_random", run: random },
    Case { name: "settings::four_cpus", run: |ctx| locked(ctx, 4, "none") },
    Case {
        name: "settings::unprivileged_bpf_disabled_1_for_good",
        run: |ctx| {
            fs::write("/proc/sys/kernel/unprivileged_bpf_disabled", "1")?;
            all_work(ctx, &|_| {})
        },
    },
    Case { name: "settings::lockdown_for_confidentiality_is_told", run: confidential },
];

/// Those that look at the kernel. gethostlatency looks at libraries, and has cases of its own below where that makes a difference.
const TOOLS: [&str; 6] = ["tcpconnect", "icmpecho", "skbrecv", "writehist", "execsnoop", "bpf2bpf"];
/// After so long a tool has seen that a CPU came or went.
const LOOKED: Duration = Duration::from_millis(1500);

/// Whether this kernel has what a tool's probes need.
fn can_trace(ctx: &Ctx, name: &str) -> Result<bool, Failure> {
    let target = ctx.target()?;
    Ok(match name {
        "icmpecho" => target.has(Feature::Kprobes) || target.has(Feature::Fentry),
        "bpf2bpf" => target.has(Feature::Kprobes),
        _ => true,
    })
}

/// Starts a tool, does what it looks for, and looks for it in its output. What it said until it was attached.
pub(super) fn works(
    ctx: &Ctx,
    name: &str,
    options: &[&str],
    prepare: &dyn Fn(&mut Command),
) -> Result<String, Failure> {
    let mut tool = Tool::start_as(ctx, name, options, prepare)?;
    let said = tool.said.clone();
    ensure!(said.contains("bpfkit: attached by "), "{name}: {said}");
    let me = std::process::id().to_string();
    let is_mine: Box<dyn Fn(&str) -> bool> = match name {
        "tcpconnect" => {
            let (_listener, to) = listen("127.0.0.1".parse()?)?;
            TcpStream::connect(to)?;
            let port = to.port().to_string();
            Box::new(move |row| {
                row.split_whitespace().next() == Some(&me) && row.split_whitespace().last() == Some(&port)
            })
        }
        "icmpecho" => {
            ping("127.0.0.1".parse()?, 4711, 42)?;
            // In the context of this process, or of ksoftirqd.
            Box::new(|row| row.split_whitespace().skip(5).eq(["127.0.0.1", "4711", "42"]))
        }
        "skbrecv" => {
            datagram("127.0.0.1".parse()?, 4321)?;
            Box::new(|row| row.contains(" 4349 "))
        }
        "bpf2bpf" => {
            let (_listener, to) = listen("127.0.0.1".parse()?)?;
            let from = TcpStream::connect(to)?.local_addr()?;
            Box::new(move |row| row == format!("new tcp connection: {from} -> {to} (kprobe)"))
        }
        "execsnoop" => {
            let mut child = Command::new(std::env::current_exe()?).arg("--list").stdout(Stdio::null()).spawn()?;
            let pid = child.id().to_string();
            child.wait()?;
            Box::new(move |row| row.split_whitespace().nth(1) == Some(&pid) && row.ends_with("--list"))
        }
        _ => {
            sys::write_of_size(1 << 20);
            Box::new(move |row| row.contains(&format!("(pid {me}, ")))
        }
    };
    let rows = tool.rows()?;
    ensure!(rows.iter().any(|row| is_mine(row)), "{name}: {rows:#?}\n{said}");
    Ok(said)
}

fn all_work(ctx: &Ctx, prepare: &dyn Fn(&mut Command)) -> CaseResult {
    for name in TOOLS {
        if can_trace(ctx, name)? {
            works(ctx, name, &[], prepare)?;
        }
    }
    Ok(())
}

/// A tool that must leave with an error, which it tells.
fn refused(ctx: &Ctx, name: &str, prepare: &dyn Fn(&mut Command)) -> Result<String, Failure> {
    let mut command = ctx.tool(name)?;
    command.args(["--duration", "5"]);
    prepare(&mut command);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{name}: {}: {said}", output.status);
    Ok(said)
}

/// A sysctl that has its old value again in the end.
pub(super) struct Sysctl {
    path: PathBuf,
    old: String,
}

impl Sysctl {
    pub(super) fn set(name: &str, value: &str) -> Result<Self, Failure> {
        let path = Path::new("/proc/sys").join(name);
        let old = match fs::read_to_string(&path) {
            Ok(old) => old.trim().to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => skip!("this kernel has no {name}"),
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = fs::write(&path, value) {
            // CONFIG_BPF_JIT_ALWAYS_ON leaves no other value.
            skip!("{name} cannot be {value}, it is {old}: {error}");
        }
        Ok(Self { path, old })
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.old);
    }
}

fn with(ctx: &Ctx, name: &str, value: &str) -> CaseResult {
    let _sysctl = Sysctl::set(name, value)?;
    all_work(ctx, &|_| {})
}

fn unmounted(ctx: &mut Ctx) -> CaseResult {
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    for place in ["/sys/kernel/debug/tracing", "/sys/kernel/debug", "/sys/kernel/tracing"] {
        // Some are not mounted.
        while sys::unmount(Path::new(place)).is_ok() {}
    }
    all_work(ctx, &|_| {})?;
    // By the ways too that need tracefs.
    works(ctx, "tcpconnect", &["--probe", "tracepoint"], &|_| {})?;
    if ctx.target()?.has(Feature::Kprobes) {
        works(ctx, "tcpconnect", &["--probe", "kprobe", "--without", "kprobe-pmu"], &|_| {})?;
    }
    super::gethostlatency::json(ctx)
}

const LITTLE: u64 = 64 << 10;

fn memlock(ctx: &mut Ctx) -> CaseResult {
    all_work(ctx, &|command| sys::memlock(command, LITTLE, LITTLE))
}

/// Somebody who may do nothing is told what it takes, by every tool, at once and not once for each probe.
fn nobody(ctx: &mut Ctx) -> CaseResult {
    for name in TOOLS.into_iter().chain(["gethostlatency"]) {
        let said = refused(ctx, name, &|command| sys::nobody_with(command, &[]))?;
        let is_new = ctx.target()?.version() >= Version::new(5, 8);
        let expected = if is_new { "it takes root, or CAP_BPF and CAP_PERFMON" } else { "it takes root" };
        ensure!(said.contains(expected), "{name}: {said}");
        ensure!(said.matches("it takes root").count() == 1, "{name} says it more than once: {said}");
    }
    Ok(())
}

const CAPS: &[u32] = &[sys::CAP_BPF, sys::CAP_PERFMON, sys::CAP_NET_ADMIN];

fn need_caps(ctx: &Ctx) -> CaseResult {
    let target = ctx.target()?;
    if target.version() < Version::new(5, 8) {
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

fn capable(ctx: &mut Ctx) -> CaseResult {
    need_caps(ctx)?;
    let _sysctl = Sysctl::set("kernel/perf_event_paranoid", "2")?;
    by_kprobes(ctx, &|command| {
        sys::memlock(command, u64::MAX, u64::MAX);
        sys::nobody_with(command, CAPS);
    })
}

/// Before Linux 5.11 maps are locked memory, of which there is not enough, and who is not root cannot have more.
fn capable_memlock(ctx: &mut Ctx) -> CaseResult {
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
fn capable_paranoid(ctx: &mut Ctx) -> CaseResult {
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

/// Runs the rest of a case in a process that is the first of a pid namespace and has its /proc.
fn in_pid_namespace(ctx: &mut Ctx, rest: fn(&Ctx) -> CaseResult) -> CaseResult {
    const INSIDE: &str = "BPFKIT_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        ensure!(std::process::id() == 1, "not the first process");
        return rest(ctx);
    }
    // The same arguments with another file for the result: `case NAME RESULT SETTINGS`.
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = ctx.directory().join("inside");
    if let Some(to) = arguments.get_mut(2) {
        *to = result.clone().into();
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).env(INSIDE, "1");
    sys::own_pid_namespace(&mut command)?;
    let status = command.status()?;
    let word = fs::read(&result).doing(|| format!("the process inside ended with {status}"))?;
    match serde_json::from_slice(&word)? {
        Outcome::Pass => Ok(()),
        Outcome::Skip(why) => Err(Failure::Skip(why)),
        Outcome::Fail(why) | Outcome::NotRun(why) => Err(Failure::Fail(why)),
    }
}

/// The processes that are shown, and the one that is asked for, have the numbers that they have here.
fn numbers(ctx: &Ctx) -> CaseResult {
    if !ctx.target()?.has(Feature::NsPid) {
        skip!("bpf_get_ns_current_pid_tgid came with Linux 5.7");
    }
    all_work(ctx, &|_| {})?;
    for probe in ["kprobe", "fentry", "tracepoint"] {
        if probe == "kprobe" && !ctx.target()?.has(Feature::Kprobes)
            || probe == "fentry" && !ctx.target()?.has(Feature::Fentry)
        {
            continue;
        }
        works(ctx, "tcpconnect", &["--probe", probe, "-p", "1"], &|_| {})?;
        works(ctx, "tcpconnect", &["--probe", probe, "-L"], &|_| {})?;
        // A child has another number, and is left out.
        let (_listener, to) = listen("127.0.0.1".parse()?)?;
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-p", "1"])?;
        connect_child(None, &[to])?;
        let rows = tool.rows()?;
        ensure!(rows.len() == 1, "{probe}: {rows:#?}");
    }
    works(ctx, "writehist", &["-p", "1"], &|_| {})?;
    Ok(())
}

/// As on a kernel before 5.7: rows have other numbers, which is said, and to ask for one makes no sense, which is said too.
fn unasked(ctx: &Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &["--without", "ns-pid"])?;
    ensure!(tool.said.contains("the numbers of the initial pid namespace"), "{}", tool.said);
    let (_listener, to) = listen("127.0.0.1".parse()?)?;
    TcpStream::connect(to)?;
    let rows = tool.rows()?;
    let port = to.port().to_string();
    let row = rows.iter().find(|row| row.split_whitespace().last() == Some(&port));
    let pid = row.and_then(|row| row.split_whitespace().next()?.parse::<u32>().ok());
    ensure!(pid.is_some_and(|pid| pid > 1), "{rows:#?}");
    let output = ctx.tool("tcpconnect")?.args(["--without", "ns-pid", "-p", "1"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("run where the host's processes are seen"), "{said}");
    Ok(())
}

/// A CPU that can be taken offline, brought back in the end.
struct Offline(PathBuf);

impl Offline {
    const CPU: usize = 1;

    fn new(ctx: &Ctx) -> Result<Self, Failure> {
        let switch = PathBuf::from(format!("/sys/devices/system/cpu/cpu{}/online", Self::CPU));
        if !ctx.is_vm() || !switch.exists() {
            skip!("there is no second CPU that may be taken offline");
        }
        if !can_trace(ctx, "icmpecho")? {
            skip!("icmpecho has no probe here");
        }
        Ok(Self(switch))
    }

    fn take(&self) -> CaseResult {
        fs::write(&self.0, "0").doing(|| "take the CPU offline".to_owned())
    }

    fn back(&self) -> CaseResult {
        fs::write(&self.0, "1").doing(|| "bring the CPU back".to_owned())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        let _ = self.back();
    }
}

/// Pings on one CPU. The kernel answers in the context of the sender.
fn ping_on(cpu: usize, seq: u16) -> CaseResult {
    sys::stay_on_cpu(cpu)?;
    ping("127.0.0.1".parse()?, 4711, seq)?;
    let mut all = CpuSet::new();
    online_cpus()?.into_iter().filter_map(|cpu| usize::try_from(cpu).ok()).for_each(|cpu| all.set(cpu));
    Ok(sched_setaffinity(None, &all)?)
}

/// The sequence numbers that were shown for a CPU, and how many events the tool says were lost.
fn shown(mut tool: Tool, cpu: usize) -> Result<(Vec<u16>, usize), Failure> {
    sleep(Duration::from_millis(150));
    let (status, out, err) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "{status}: {err}");
    let rows = out.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.get(1) == Some(&cpu.to_string().as_str()));
    let lost = err.lines().find(|line| line.contains("events lost"));
    let lost = lost.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default();
    Ok((rows.filter_map(|row| row.last()?.parse().ok()).collect(), lost))
}

/// What happens on a CPU that came back is seen again after a while, and what was not seen until then is told.
fn offline(ctx: &mut Ctx, time: Duration) -> CaseResult {
    let cpu = Offline::new(ctx)?;
    let tool = Tool::start(ctx, "icmpecho", &["-4"])?;
    ping_on(Offline::CPU, 1)?;
    cpu.take()?;
    sleep(time);
    cpu.back()?;
    ping_on(Offline::CPU, 2)?;
    sleep(LOOKED);
    ping_on(Offline::CPU, 3)?;
    let (seen, lost) = shown(tool, Offline::CPU)?;
    ensure!(seen.contains(&1) && seen.contains(&3), "{seen:?}, {lost} lost");
    ensure!(seen.len() + lost == 3, "{seen:?} and {lost} lost are not three");
    Ok(())
}

fn late(ctx: &mut Ctx) -> CaseResult {
    let cpu = Offline::new(ctx)?;
    cpu.take()?;
    let tool = Tool::start(ctx, "icmpecho", &["-4"])?;
    cpu.back()?;
    ping_on(Offline::CPU, 1)?;
    sleep(LOOKED);
    ping_on(Offline::CPU, 2)?;
    let (seen, lost) = shown(tool, Offline::CPU)?;
    ensure!(seen.contains(&2), "{seen:?}, {lost} lost");
    ensure!(seen.len() + lost == 2, "{seen:?} and {lost} lost are not two");
    Ok(())
}

/// What is chosen in the kernel's list of modes; none where it has none.
fn lockdown() -> Result<Option<String>, Failure> {
    sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
    let at = Path::new("/sys/kernel/security");
    sys::mount("securityfs", at).doing(|| "mount securityfs".to_owned())?;
    let modes = fs::read_to_string(at.join("lockdown")).ok();
    Ok(modes.and_then(|modes| Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())))
}

/// So many CPUs and this mode are there, every tool works, and the ring of every CPU is read.
fn locked(ctx: &Ctx, cpus: usize, mode: &str) -> CaseResult {
    let online = online_cpus()?;
    ensure!(online.len() == cpus, "{online:?}");
    if let Some(found) = lockdown()? {
        ensure!(found == mode, "the kernel is locked down for {found}");
    }
    all_work(ctx, &|_| {})?;
    if !can_trace(ctx, "icmpecho")? {
        return Ok(());
    }
    let mut tool = Tool::start(ctx, "icmpecho", &["-4"])?;
    for &cpu in &online {
        ping_on(usize::try_from(cpu)?, u16::try_from(cpu)?)?;
    }
    let rows = tool.rows()?;
    let found = rows.iter().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let found: Vec<_> = found.filter_map(|row| Some((row.get(1)?.parse().ok()?, row.last()?.parse().ok()?))).collect();
    let expected: Vec<(u32, u32)> = online.iter().map(|&cpu| (cpu, cpu)).collect();
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

/// A C library is elsewhere in each process, which it is not where the kernel was booted with `norandmaps`.
fn random(ctx: &mut Ctx) -> CaseResult {
    let path = "/proc/sys/kernel/randomize_va_space";
    ensure!(fs::read_to_string(path)?.trim() == "2", "{path} is not 2");
    super::gethostlatency::json(ctx)
}

/// A kernel that keeps its memory to itself shows none of it to programs: the tools say so, with the mode and where it is set. What a
/// tracepoint records some kernels show all the same, and a tool that needs no more works then.
fn confidential(ctx: &mut Ctx) -> CaseResult {
    if lockdown()?.is_none() {
        skip!("this kernel cannot be locked down");
    }
    fs::write("/sys/kernel/security/lockdown", "confidentiality")?;
    sys::unmount(Path::new("/sys/kernel/security"))?;
    for name in TOOLS {
        let output = ctx.tool(name)?.args(["--duration", "1"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let said = works(ctx, name, &[], &|_| {})?;
            ensure!(said.contains("attached by tracepoint"), "{name}: {said}");
        } else {
            ensure!(output.status.code() == Some(1), "{name}: {}: {said}", output.status);
            ensure!(said.contains("locked down for confidentiality"), "{name}: {said}");
        }
    }
    Ok(())
}
