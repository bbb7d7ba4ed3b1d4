//! The tools under settings that are in their way: each works all the same, or says what to do.

mod cpus;
mod pid_namespace;
mod privileges;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bpfkit_loader::{Feature, online_cpus};
use rustix::process::Signal;

use self::cpus::{LOOKED, offline, ping_on};
use crate::guest::case::{Boot, Case, Ctx, Doing as _, Failure};
use crate::guest::packets::{datagram, ping};
use crate::guest::sys;
use crate::guest::tool::{Tool, listen};
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
    Case { name: "settings::nobody_is_told_what_is_missing", run: privileges::nobody },
    Case { name: "settings::cap_bpf_and_cap_perfmon_are_enough", run: privileges::capable },
    Case { name: "settings::cap_bpf_and_cap_perfmon_with_memlock_of_64_kib", run: privileges::capable_memlock },
    Case { name: "settings::cap_bpf_and_cap_perfmon_with_perf_event_paranoid_3", run: privileges::capable_paranoid },
    Case {
        name: "settings::a_pid_namespace_has_its_own_numbers",
        run: |ctx| pid_namespace::inside(ctx, pid_namespace::numbers),
    },
    Case {
        name: "settings::a_pid_namespace_that_the_kernel_cannot_ask_for",
        run: |ctx| pid_namespace::inside(ctx, pid_namespace::unasked),
    },
    Case { name: "settings::a_cpu_that_was_offline_for_a_moment", run: |ctx| offline(ctx, Duration::ZERO) },
    Case { name: "settings::a_cpu_that_was_offline_for_long", run: |ctx| offline(ctx, LOOKED) },
    Case { name: "settings::a_cpu_that_comes_online_later", run: cpus::late },
];

/// One processor, and a kernel that guards itself as it does where it was booted securely.
pub const ONE_CPU: Boot = Boot { name: "one-cpu", words: &["norandmaps", "lockdown=integrity"], smp: Some(1) };
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
    tool.until_it_reads()?;
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
    tool.until_it_reads()?;
    for &cpu in &online {
        ping_on(usize::try_from(cpu)?, u16::try_from(cpu)?)?;
    }
    sleep(Duration::from_millis(150));
    let (status, out, err) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "{status}: {err}");
    let found = out.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let found: Vec<_> = found.filter_map(|row| Some((row.get(1)?.parse().ok()?, row.last()?.parse().ok()?))).collect();
    let expected: Vec<(u32, u32)> = online.iter().map(|&cpu| (cpu, cpu)).collect();
    ensure!(found == expected, "{found:?}, not {expected:?}: {err}");
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
    // Those that could trace here before; the others have another reason not to.
    let tools = TOOLS.into_iter().map(|name| Ok(can_trace(ctx, name)?.then_some(name)));
    let tools = tools.collect::<Result<Vec<_>, Failure>>()?;
    fs::write("/sys/kernel/security/lockdown", "confidentiality")?;
    sys::unmount(Path::new("/sys/kernel/security"))?;
    for name in tools.into_iter().flatten() {
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
