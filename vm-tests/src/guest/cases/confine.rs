//! What the tools give up once they are attached.

use std::fs;

use bpfkit_loader::Feature;

use crate::ensure;
use crate::guest::case::{Case, Ctx, Failure, need};
use crate::guest::cases::settings::Sysctl;
use crate::guest::sys;
use crate::guest::tool::Tool;

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "confine::tcpconnect", run: |ctx| reader(ctx, "tcpconnect", &[]) },
    Case { name: "confine::tcpconnect_count", run: |ctx| reader(ctx, "tcpconnect", &["-c"]) },
    Case { name: "confine::execsnoop", run: |ctx| reader(ctx, "execsnoop", &["-x"]) },
    Case { name: "confine::icmpecho", run: |ctx| reader(ctx, "icmpecho", &[]) },
    Case { name: "confine::skbrecv", run: |ctx| reader(ctx, "skbrecv", &[]) },
    Case { name: "confine::skbrecv_printk", run: |ctx| reader(ctx, "skbrecv", &["--printk"]) },
    Case { name: "confine::writehist", run: |ctx| reader(ctx, "writehist", &[]) },
    Case { name: "confine::bpf2bpf", run: |ctx| reader(ctx, "bpf2bpf", &[]) },
    Case { name: "confine::gethostlatency", run: attacher },
];

/// CAP_PERFMON and CAP_BPF, in which is all that reading takes from Linux 5.8 on.
const READING: u64 = 1 << 38 | 1 << 39;
/// What looking for C libraries takes beside: CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE.
const ATTACHING: u64 = READING | 1 << 2 | 1 << 19 | 1 << 21 | 1 << 40;

/// Its capabilities, whether it may gain new ones, and its mode of seccomp.
fn means(tool: &Tool) -> Result<(u64, bool, u32), Failure> {
    let status = fs::read_to_string(format!("/proc/{}/status", tool.pid()))?;
    let word = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.ok_or_else(|| Failure::Fail(format!("no {name} in {status}")))
    };
    let sets = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(|set| Ok(u64::from_str_radix(word(set)?, 16)?));
    let sets = sets.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    ensure!(
        sets[0] == sets[1] && sets[2] | sets[3] == 0,
        "permitted and effective differ, or others are left: {status}"
    );
    Ok((sets[0], word("NoNewPrivs:")? == "0", word("Seccomp:")?.parse()?))
}

/// What reading may take on this kernel. Those that lack CAP_BPF have it in CAP_SYS_ADMIN; and where no types tell where the arguments of
/// a new program are, execsnoop reads in /proc what it could not at the entry, with CAP_SYS_PTRACE.
fn reading(ctx: &Ctx, name: &str) -> Result<u64, Failure> {
    let old = if sys::has_cap_bpf()? { 0 } else { 1 << 21 };
    let untyped = if name == "execsnoop" && ctx.target()?.btf().is_err() { 1 << 19 } else { 0 };
    Ok(READING | old | untyped)
}

/// A tool that only reads is left CAP_PERFMON and CAP_BPF at most, and the system calls of reading.
fn reader(ctx: &mut Ctx, name: &str, options: &[&str]) -> CaseResult {
    if matches!(name, "icmpecho" | "bpf2bpf") {
        need(&ctx.target()?, &[Feature::Kprobes])?;
    }
    // Debian has a level that leaves perf events, and so rings, to CAP_SYS_ADMIN.
    let _sysctl = Sysctl::set("kernel/perf_event_paranoid", "2")?;
    let mut tool = Tool::start(ctx, name, options)?;
    tool.until_it_reads()?;
    let (capabilities, may_gain, seccomp) = means(&tool)?;
    ensure!(capabilities & !reading(ctx, name)? == 0, "{capabilities:#x} are left: {}", tool.said);
    ensure!(!may_gain && seccomp == 2, "may gain: {may_gain}, seccomp: {seccomp}: {}", tool.said);
    // All that it does until its end, and after the signal, is allowed.
    tool.rows().map(drop)
}

/// One that goes on to attach keeps what that takes, and nothing else.
fn attacher(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "gethostlatency", &[])?;
    tool.until_it_reads()?;
    let (capabilities, may_gain, _) = means(&tool)?;
    ensure!(capabilities & !ATTACHING == 0 && !may_gain, "{capabilities:#x} are left: {}", tool.said);
    tool.rows().map(drop)
}
