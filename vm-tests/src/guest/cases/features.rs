//! What a kernel is said to have, checked against its version, against its own lists and by `bpfkit features`.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use bpfkit_asm::{Helper, Version};
use bpfkit_btf::Kind;
use bpfkit_loader::{Answer, Feature, MapType, ProgType, Target};
use serde_json::Value;

use crate::guest::case::{Case, Ctx, Failure};
use crate::{ensure, ensure_eq, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "features::each_is_there_since_its_version", run: versions },
    Case { name: "features::types_and_helpers_are_those_of_the_kernels_own_lists", run: lists },
    Case { name: "features::the_report_is_json_with_an_answer_for_each", run: report },
    Case { name: "features::without_privilege_it_says_why_it_cannot_tell", run: unprivileged },
];

/// What some kernels of the matrix leave out by configuration: a function that they have if they have the feature, and the
/// option that it depends on.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("lirc_mode2", "lirc_prog_attach", "CONFIG_BPF_LIRC_MODE2"),
    ("bpf_rc_repeat", "bpf_rc_repeat", "CONFIG_BPF_LIRC_MODE2"),
    ("bpf_rc_keydown", "bpf_rc_keydown", "CONFIG_BPF_LIRC_MODE2"),
    ("bpf_rc_pointer_rel", "bpf_rc_pointer_rel", "CONFIG_BPF_LIRC_MODE2"),
    ("bpf_override_return", "bpf_override_return", "CONFIG_BPF_KPROBE_OVERRIDE"),
    ("kprobe-multi", "register_fprobe", "CONFIG_FPROBE"),
];

/// Whether the kernel is mainline's as far as features go: vendors bring some to old versions, and these do not.
fn is_mainline(ctx: &Ctx) -> Result<bool, Failure> {
    Ok(ctx.release()?.contains("-cloud-amd64"))
}

/// Every probe with its version.
fn answers(target: &Target) -> Vec<(String, Version, Answer)> {
    let features = Feature::ALL.iter().map(|&one| (one.slug().to_owned(), one.since(), target.try_feature(one)));
    let progs = ProgType::ALL.iter().map(|&(kind, name, since)| (name.to_owned(), since, target.try_prog_type(kind)));
    let maps =
        MapType::ALL.iter().map(|&(kind, name, since)| (format!("map {name}"), since, target.try_map_type(kind)));
    let mut all: Vec<_> = features.chain(progs).chain(maps).collect();
    let mut called = BTreeSet::new();
    for &(kind, ..) in ProgType::ALL.iter().filter(|(kind, ..)| target.try_prog_type(*kind) == Answer::Yes) {
        let helpers = target.try_helpers(kind, true);
        called.extend(helpers.into_iter().filter(|(_, answer)| *answer == Answer::Yes).map(|(helper, _)| helper));
    }
    all.extend(Helper::ALL.iter().map(|&(helper, name, since)| {
        (name.to_owned(), since, if called.contains(&helper) { Answer::Yes } else { Answer::No })
    }));
    all
}

/// A probe that says no where its version says yes is wrong, or the version is, or the kernel was built without; and as to
/// one that says yes too early, only a vendor's kernel may.
fn versions(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    let mainline = is_mainline(ctx)?;
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    let symbols: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let mut wrong = Vec::new();
    for (name, since, answer) in answers(&target) {
        let expected = target.version() >= since;
        let left_out = EXCEPTIONS.iter().find(|(known, symbol, _)| *known == name && !symbols.contains(symbol));
        let is_exception = left_out.is_some();
        if let (Some((.., option)), Answer::Yes) = (left_out, &answer) {
            wrong.push(format!("{name} is there, though {option} is off"));
        }
        match answer {
            Answer::Yes if !expected && mainline => wrong.push(format!("{name} is there, before {since}")),
            Answer::Yes if !expected => eprintln!("{name} is there, before {since}"),
            Answer::No if expected && !is_exception => wrong.push(format!("{name} is missing, after {since}")),
            Answer::Unknown(why) if expected && !is_exception => wrong.push(format!("{name} is not known: {why}")),
            _ => {}
        }
    }
    ensure!(wrong.is_empty(), "{}:\n{}", target.version(), wrong.join("\n"));
    Ok(())
}

/// The kernel's enumerations have what it was made of, whatever its configuration.
fn lists(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    let Ok(btf) = target.btf() else { skip!("there is no BTF") };
    let mainline = is_mainline(ctx)?;
    let progs = ProgType::ALL.iter().map(|&(kind, name, since)| (kind.0, name.to_ascii_uppercase(), since));
    let maps = MapType::ALL.iter().map(|&(kind, name, since)| (kind.0, name.to_ascii_uppercase(), since));
    let helpers = Helper::ALL.iter().map(|&(helper, name, since)| (helper.0, name.replacen("bpf_", "", 1), since));
    let mut wrong = Vec::new();
    for (list, prefix, known) in [
        ("bpf_prog_type", "BPF_PROG_TYPE_", progs.collect::<Vec<_>>()),
        ("bpf_map_type", "BPF_MAP_TYPE_", maps.collect()),
        ("bpf_func_id", "BPF_FUNC_", helpers.collect()),
    ] {
        let Some(own) = btf.find(list, &[Kind::ENUM]) else { skip!("the types have no {list}") };
        let own: Vec<(String, i64)> = own
            .values()
            .map(|(name, value)| (name.into_owned(), value))
            .filter(|(name, _)| name.starts_with(prefix))
            .collect();
        let first: Vec<i64> = own.iter().map(|&(_, value)| value).collect();
        // The first of each list stands for none.
        for (name, value) in own.iter().filter(|(_, value)| *value != 0) {
            if !known.iter().any(|(number, ..)| i64::from(*number) == *value) {
                wrong.push(format!("{name} = {value} is not known here"));
            }
        }
        for (number, name, since) in known {
            let is_there = first.contains(&number.into());
            let expected = target.version() >= since;
            // Some have a second name, by which the first is deprecated.
            let has_name = own.iter().any(|(own, value)| *value == i64::from(number) && own.ends_with(&name));
            if is_there && !has_name {
                wrong.push(format!("{prefix}{name} = {number} is not what the kernel calls it"));
            }
            if is_there != expected && (mainline || expected) {
                let what = if is_there { "has" } else { "lacks" };
                wrong.push(format!("{} {what} {prefix}{name}, which came with {since}", target.version()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn json(mut command: Command) -> Result<Value, Failure> {
    let output = command.args(["features", "--json"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn rows<'a>(report: &'a Value, list: &str) -> Result<&'a Vec<Value>, Failure> {
    report[list].as_array().ok_or_else(|| Failure::Fail(format!("no {list} in {report}")))
}

/// How long the report may take under emulation.
const PATIENCE: Duration = Duration::from_secs(30);

fn report(ctx: &mut Ctx) -> CaseResult {
    let begin = Instant::now();
    let report = json(ctx.bpfkit()?)?;
    let time = begin.elapsed();
    ensure!(time < PATIENCE, "it took {time:?}");
    let target = ctx.target()?;
    ensure_eq!(report["kernel"]["version"], target.version().to_string());
    ensure_eq!(report["kernel"]["running"], true);
    let counts = [
        ("features", Feature::ALL.len()),
        ("program_types", ProgType::ALL.len()),
        ("map_types", MapType::ALL.len()),
        ("helpers", Helper::ALL.len()),
    ];
    for (list, count) in counts {
        ensure_eq!(rows(&report, list)?.len(), count, "{list}");
    }
    let find = |list: &str, name: &str| {
        let rows = rows(&report, list)?;
        rows.iter().find(|row| row["name"] == name).ok_or_else(|| Failure::Fail(format!("no {name} in {list}")))
    };
    ensure_eq!(find("features", "raw-tracepoint")?["has"], "yes");
    ensure_eq!(find("program_types", "kprobe")?["has"], "yes");
    ensure_eq!(find("map_types", "perf_event_array")?["has"], "yes");
    let override_return = find("helpers", "bpf_override_return")?;
    ensure_eq!(override_return["program_types"].as_array().map(|types| types.contains(&"xdp".into())), Some(false));
    let output = find("helpers", "bpf_perf_event_output")?;
    for kind in ["kprobe", "tracepoint", "raw_tracepoint", "perf_event"] {
        ensure!(output["program_types"].as_array().is_some_and(|types| types.contains(&kind.into())), "{output}");
    }
    let printk = find("helpers", "bpf_trace_printk")?;
    ensure!(printk["has"] == "unknown" && printk["why"].is_string(), "{printk}");
    let jmp32 = find("features", "jmp32")?;
    let expected = if target.version() >= Version::new(5, 1) { "yes" } else { "no" };
    ensure!(jmp32["has"] == expected && jmp32["since"] == "5.1" && jmp32["why"].is_null(), "{jmp32}");
    Ok(())
}

/// As somebody who may do nothing: no feature is denied for want of privilege, and each says what is missing.
fn unprivileged(ctx: &mut Ctx) -> CaseResult {
    let mut command = ctx.bpfkit()?;
    command.uid(65534).gid(65534);
    let report = json(command)?;
    for (list, name) in
        [("features", "jmp32"), ("program_types", "kprobe"), ("map_types", "hash"), ("helpers", "bpf_probe_read")]
    {
        let rows = rows(&report, list)?;
        let Some(row) = rows.iter().find(|row| row["name"] == name) else { fail!("no {name} in {list}") };
        let why = row["why"].as_str().unwrap_or_default();
        ensure!(row["has"] == "unknown" && why.contains("it takes root"), "{row}");
    }
    Ok(())
}
