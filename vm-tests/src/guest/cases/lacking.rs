//! What a kernel may lack: for each feature, who takes it away and sees that things are seen all the same.

use std::fs;

use bpfkit_loader::{Feature, RunStats};

use crate::guest::case::{Case, Ctx, Doing as _, Failure, need};
use crate::guest::cases::settings::works;
use crate::guest::tool::{need_probe, without};
use crate::{ensure, ensure_eq, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "lacking::bounded_loops", run: bounded_loops },
    Case { name: "lacking::tracing_link", run: tracing_link },
    Case { name: "lacking::no_way_to_a_function_is_told", run: no_way },
    Case { name: "lacking::enable_stats", run: enable_stats },
    Case { name: "lacking::what_no_tool_asks_for_changes_nothing", run: nothing },
];

/// Who takes a feature away.
enum Lack {
    /// These cases, which see events of a tool or a program.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test looks whether they exist"))]
    Cases(&'static [&'static str]),
    /// Nobody: no tool depends on it. A program that wants it is told that it is missing.
    Unused,
}

use Feature as F;
use Lack::{Cases, Unused};

const OLD_KPROBES: &[&str] = &["tcpconnect::kprobe_old_kernel", "execsnoop::kprobe_old_kernel"];
const OLD_EXECSNOOP: &[&str] = &["execsnoop::tracepoint_old_kernel", "execsnoop::kprobe_old_kernel"];

/// Every feature.
const TABLE: &[(Feature, Lack)] = &[
    (F::Kprobes, Cases(&["skbrecv::without_kprobes_it_takes_the_tracepoint", "bpf2bpf::without_kprobes_it_says_so"])),
    (F::KprobePmu, Cases(&["tcpconnect::kprobe_tracefs", "icmpecho::kprobe_tracefs"])),
    (F::KprobeTracefs, Cases(&["lacking::no_way_to_a_function_is_told"])),
    (F::KprobeMulti, Unused),
    (F::KprobeSession, Unused),
    (F::UprobePmu, Cases(&["gethostlatency::getaddrinfo_by_tracefs", "loader::uprobes_of_one_program_by_tracefs"])),
    (F::UprobeRefCtr, Cases(&["usdt::semaphore_is_above_0_while_attached"])),
    (F::UprobeTracefs, Cases(&["lacking::no_way_to_a_function_is_told"])),
    (F::UprobeMulti, Cases(&["gethostlatency::getaddrinfo_by_pmu", "gethostlatency::gethostby_by_pmu"])),
    (F::UprobeSession, Unused),
    // There is no Linux from 4.18 on without them.
    (F::Tracepoint, Unused),
    (F::RawTracepoint, Unused),
    (F::TpBtf, Unused),
    (F::PerfEvent, Unused),
    (F::PerfLink, Unused),
    (F::Fentry, Cases(OLD_KPROBES)),
    (F::FentryProg, Cases(&["bpf2bpf::kprobe_old_kernel"])),
    (F::TracingLink, Cases(&["lacking::tracing_link"])),
    (F::Freplace, Cases(&["bpf2bpf::bad_input"])),
    (F::FmodRet, Unused),
    (F::Lsm, Unused),
    (F::Iter, Unused),
    (F::Sleepable, Unused),
    (F::ProbeReadKernel, Cases(OLD_KPROBES)),
    (F::NsPid, Cases(&["settings::a_pid_namespace_that_the_kernel_cannot_ask_for"])),
    (F::Jmp32, Cases(OLD_KPROBES)),
    (F::MapValue, Cases(OLD_EXECSNOOP)),
    (F::BoundedLoops, Cases(&["lacking::bounded_loops", "execsnoop::tracepoint_old_kernel"])),
    (F::AtomicFetch, Unused),
    (F::FuncPointer, Unused),
    (F::Kfunc, Unused),
    (F::IsaV4, Unused),
    (F::MayGoto, Unused),
    (F::LoadAcquire, Unused),
    (F::LargePrograms, Cases(OLD_EXECSNOOP)),
    (F::LargeLogs, Unused),
    (F::RotatingLogs, Unused),
    (F::CgroupMemory, Cases(&["settings::memlock_of_64_kib"])),
    (F::KernelBtf, Cases(&["tcpconnect::kprobe_without_types", "types::a_vmlinux_with_dwarf_is_found"])),
    (F::MapNames, Unused),
    (F::MapBtf, Unused),
    (F::ProgBtf, Cases(OLD_KPROBES)),
    (F::FuncInfo, Unused),
    (F::LineInfo, Unused),
    (F::GlobalFunc, Cases(&["bpf2bpf::kprobe_old_kernel"])),
    (F::BtfFloat, Unused),
    (F::BtfDeclTag, Unused),
    (F::BtfTypeTag, Unused),
    (F::BtfEnum64, Unused),
    (F::MapFreeze, Unused),
    (F::MapBatch, Unused),
    (F::EnableStats, Cases(&["lacking::enable_stats"])),
];

/// A walk over argv is written out.
fn bounded_loops(ctx: &mut Ctx) -> CaseResult {
    works(ctx, "execsnoop", &["--without", "bounded-loops"], &|_| {}).map(drop)
}

/// fentry as before Linux 5.19.
fn tracing_link(ctx: &mut Ctx) -> CaseResult {
    need_probe(ctx, "fentry")?;
    let said = works(ctx, "tcpconnect", &["--probe", "fentry", "--without", "tracing-link"], &|_| {})?;
    ensure!(said.contains("by BPF_RAW_TRACEPOINT_OPEN; not by BPF_LINK_CREATE"), "{said}");
    Ok(())
}

/// Neither the PMU nor text.
fn no_way(ctx: &mut Ctx) -> CaseResult {
    let lack = ["uprobe-multi", "uprobe-pmu", "uprobe-tracefs", "kprobe-pmu", "kprobe-tracefs"];
    for (tool, probe, which) in [("gethostlatency", &[][..], "uprobe"), ("writehist", &["--probe", "kprobe"], "kprobe")]
    {
        if which == "kprobe" && need(&ctx.target()?, &[Feature::Kprobes]).is_err() {
            continue;
        }
        let output = ctx.bpfkit()?.arg(tool).args(probe).args(without(&lack)).args(["--duration", "1"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let pmu = format!("perf PMU {which}: the kernel has none");
        let text = format!("the kernel lacks {which}s by {which}_events in tracefs, which came with Linux 4.");
        ensure!(output.status.code() == Some(1) && said.contains(&pmu) && said.contains(&text), "{tool}: {said}");
    }
    Ok(())
}

/// Runs are counted by the sysctl, which is as before in the end.
fn enable_stats(ctx: &mut Ctx) -> CaseResult {
    const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";
    let Ok(before) = fs::read_to_string(SYSCTL) else { skip!("there is no {SYSCTL}, which came with Linux 5.1") };
    let target = ctx.target_builder().without(Feature::EnableStats).running()?;
    let stats = RunStats::enable(&target)?;
    ensure_eq!(fs::read_to_string(SYSCTL)?.trim(), "1", "while counting");
    drop(stats);
    ensure_eq!(fs::read_to_string(SYSCTL).doing(|| format!("read {SYSCTL}"))?, before, "after that");
    Ok(())
}

/// With all of them taken away, a tool attaches and sees as ever.
fn nothing(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Tracepoint])?;
    let unused: Vec<&str> =
        TABLE.iter().filter(|(_, lack)| matches!(lack, Unused)).map(|(feature, _)| feature.slug()).collect();
    let how = |said: &str| said.lines().filter(|line| line.contains(": by ")).map(str::to_owned).collect::<Vec<_>>();
    let with = works(ctx, "tcpconnect", &[], &|_| {})?;
    let said = works(ctx, "tcpconnect", &without(&unused), &|_| {})?;
    ensure_eq!(how(&said), how(&with));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit::cli::Cli;
    use bpfkit_tests::programs::{KERNELS, parse, programs, target};
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    #[test]
    fn every_feature_is_taken_away_by_a_case_that_exists_or_is_known_to_be_unused() {
        for &feature in Feature::ALL {
            let rows: Vec<_> = TABLE.iter().filter(|(known, _)| *known == feature).collect();
            assert_eq!(rows.len(), 1, "{} has {} rows: which case takes it away?", feature.slug(), rows.len());
            if let Cases(names) = rows[0].1 {
                assert!(!names.is_empty());
                for name in names {
                    assert!(crate::guest::cases::find(name).is_some(), "{}: there is no case {name}", feature.slug());
                }
            }
        }
        assert_eq!(TABLE.len(), Feature::ALL.len());
    }

    /// A tool that begins to depend on a feature needs a case without it.
    #[test]
    fn no_program_of_a_tool_depends_on_a_feature_that_no_case_takes_away() {
        let mut asked = BTreeSet::new();
        for (version, types) in KERNELS {
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                if !parse(name).is_ok_and(|cli| cli.command.tool().is_some()) {
                    continue;
                }
                for line in [name.to_owned(), format!("{name} --probe kprobe"), format!("{name} --probe tracepoint")] {
                    if parse(&line).is_err() {
                        continue;
                    }
                    let target = target(version, types);
                    for program in programs(&line, &target).unwrap_or_default() {
                        let _ = program.link(&target);
                    }
                    asked.extend(target.answers().into_keys());
                }
            }
        }
        assert!(asked.contains(&Feature::BoundedLoops) && asked.len() > 3, "{asked:?}");
        for (feature, lack) in TABLE {
            assert!(!(asked.contains(feature) && matches!(lack, Unused)), "{} is asked for", feature.slug());
        }
    }
}
