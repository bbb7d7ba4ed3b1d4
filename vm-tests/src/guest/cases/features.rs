//! What a kernel is said to have, checked against its version, against its own lists and by `bpfkit features`.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bpfkit_asm::{Helper, Version};
use bpfkit_btf::Kind;
use bpfkit_loader::{Feature, MapType, ProgType};
use serde_json::Value;

use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::guest::sys;
use crate::guest::tool::Tool;
use crate::{ensure, ensure_eq, fail, skip};

/// The lists of a report, and how long each is.
const LISTS: [(&str, usize); 4] = [
    ("features", Feature::ALL.len()),
    ("program_types", ProgType::ALL.len()),
    ("map_types", MapType::ALL.len()),
    ("helpers", Helper::ALL.len()),
];

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "features::each_is_there_since_its_version", run: versions },
    Case { name: "features::types_and_helpers_are_those_of_the_kernels_own_lists", run: lists },
    Case { name: "features::helpers_have_the_parameters_of_the_kernels_own_types", run: prototypes },
    Case { name: "features::without_privilege_it_says_why_it_cannot_tell", run: unprivileged },
    Case { name: "features::a_kernel_without_types_has_nothing_that_goes_by_them", run: untyped },
    Case { name: "features::another_kernels_are_told_by_its_version", run: other_kernel },
];

/// Stands in the list below for one function of two.
const MAY_SLEEP: &str = "a place for programs that sleep";

/// What kernels leave out by configuration: a function or file that they have if they have the feature, and the option that it
/// depends on.
const LEFT_OUT: &[(&[&str], &str, &str)] = &[
    (
        &["lirc_mode2", "bpf_rc_repeat", "bpf_rc_keydown", "bpf_rc_pointer_rel"],
        "lirc_prog_attach",
        "CONFIG_BPF_LIRC_MODE2",
    ),
    (&["bpf_override_return"], "bpf_override_return", "CONFIG_BPF_KPROBE_OVERRIDE"),
    (&["kprobe-multi", "kprobe-session"], "register_fprobe", "CONFIG_FPROBE"),
    (&["kprobes", "kprobe-pmu", "kprobe-tracefs"], "kprobe_dispatcher", "CONFIG_KPROBE_EVENTS"),
    (
        &["uprobe-pmu", "uprobe-ref-ctr", "uprobe-tracefs", "uprobe-multi", "uprobe-session"],
        "uprobe_dispatcher",
        "CONFIG_UPROBE_EVENTS",
    ),
    (
        &[
            "kernel-btf",
            "fentry",
            "fmod-ret",
            "tp-btf",
            "tracing-link",
            "iter",
            "kfunc",
            "tracing",
            "struct_ops",
            "map struct_ops",
            "lsm",
            "sleepable",
            // Helpers of programs of these types alone.
            "bpf_tcp_send_ack",
            "bpf_seq_printf",
            "bpf_seq_write",
            "bpf_seq_printf_btf",
            "bpf_inode_storage_get",
            "bpf_inode_storage_delete",
            "bpf_bprm_opts_set",
            "bpf_ima_inode_hash",
            "bpf_ima_file_hash",
        ],
        SYSFS_BTF,
        "CONFIG_DEBUG_INFO_BTF",
    ),
    (&["lsm", "map inode_storage"], "bpf_lsm_file_open", "CONFIG_BPF_LSM"),
    (
        &["fentry", "fmod-ret", "lsm", "tracing-link"],
        "register_ftrace_direct",
        "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    ),
    (&["fmod-ret"], "security_file_open", "CONFIG_SECURITY"),
    (&["sleepable"], MAY_SLEEP, "CONFIG_BPF_LSM and CONFIG_FUNCTION_ERROR_INJECTION"),
    (
        &[
            "cgroup_skb",
            "cgroup_sock",
            "cgroup_device",
            "cgroup_sock_addr",
            "cgroup_sysctl",
            "cgroup_sockopt",
            "map cgroup_storage",
            "map percpu_cgroup_storage",
        ],
        "__cgroup_bpf_run_filter_skb",
        "CONFIG_CGROUP_BPF",
    ),
    (&["map xskmap"], "xsk_generic_rcv", "CONFIG_XDP_SOCKETS"),
    (&["netfilter"], "bpf_nf_link_attach", "CONFIG_NETFILTER_BPF_LINK"),
];
const SYSFS_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Whether the kernel is mainline's as far as features go: vendors bring some to old versions, and these do not.
fn is_mainline(ctx: &Ctx) -> Result<bool, Failure> {
    Ok(ctx.release()?.contains("-cloud-amd64"))
}

/// A row of a report: name, version, what the kernel has, and why that is not known.
fn answer<'a>(row: &'a Value, list: &str) -> Option<(String, Version, &'a str, &'a str)> {
    let name = row["name"].as_str()?;
    // A type of maps may have the name of a feature.
    let name = if list == "map_types" { format!("map {name}") } else { name.to_owned() };
    Some((name, row["since"].as_str()?.parse().ok()?, row["has"].as_str()?, row["why"].as_str().unwrap_or_default()))
}

/// A probe that says no where its version says yes is wrong, or the version is, or the kernel was built without; and as to
/// one that says yes too early, only a vendor's kernel may.
fn versions(ctx: &mut Ctx) -> CaseResult {
    let begin = Instant::now();
    let report = json(ctx.bpfkit()?, &["--all"])?;
    let time = begin.elapsed();
    ensure!(time < PATIENCE, "it took {time:?}");
    let target = ctx.target()?;
    let mainline = is_mainline(ctx)?;
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    // The list is long, and only these are looked for.
    let known = ["within_error_injection_list"].into_iter().chain(LEFT_OUT.iter().map(|(_, symbol, _)| *symbol));
    let known: BTreeSet<&str> = known.collect();
    let names = symbols.lines().filter_map(|line| line.splitn(3, ' ').nth(2)?.split('\t').next());
    let mut symbols: BTreeSet<&str> = names.filter(|name| name.starts_with("bpf_") || known.contains(name)).collect();
    symbols.extend(Path::new(SYSFS_BTF).exists().then_some(SYSFS_BTF));
    // Programs may sleep at hooks of LSM, or where errors may be injected: either is enough.
    let may_sleep =
        ["bpf_lsm_bprm_committed_creds", "within_error_injection_list"].iter().any(|name| symbols.contains(name));
    symbols.extend(may_sleep.then_some(MAY_SLEEP));
    let mut wrong = Vec::new();
    for (list, count) in LISTS {
        let rows = rows(&report, list)?;
        ensure_eq!(rows.len(), count, "{list}");
        for row in rows {
            let Some((name, since, has, why)) = answer(row, list) else { fail!("{row}") };
            let expected = target.version() >= since;
            let mut left_out =
                LEFT_OUT.iter().filter(|(names, symbol, _)| names.contains(&&*name) && !symbols.contains(symbol));
            // A function that serves a helper has the helper's name.
            let unserved = list == "helpers" && !symbols.contains(&*name);
            let left_out = left_out.next().map(|(.., option)| *option).or(unserved.then_some("what it belongs to"));
            match (has, left_out) {
                ("yes", Some(option)) if !unserved => wrong.push(format!("{name} is there, though {option} is off")),
                ("yes", _) if !expected && mainline => wrong.push(format!("{name} is there, before {since}")),
                ("yes", _) if !expected => eprintln!("{name} is there, before {since}"),
                ("no", None) if expected => wrong.push(format!("{name} is missing, after {since}")),
                ("unknown", None) if expected => wrong.push(format!("{name} is not known: {why}")),
                _ => {}
            }
        }
    }
    ensure!(wrong.is_empty(), "{}:\n{}", target.version(), wrong.join("\n"));

    ensure_eq!(report["kernel"]["version"], target.version().to_string());
    ensure_eq!(report["kernel"]["running"], true);
    let called_by = |name: &str| -> Result<Vec<&str>, Failure> {
        let row = rows(&report, "helpers")?.iter().find(|row| row["name"] == name);
        let types = row.and_then(|row| row["program_types"].as_array());
        let types = types.ok_or_else(|| Failure::Fail(format!("no types for {name}: {row:?}")))?;
        Ok(types.iter().filter_map(Value::as_str).collect())
    };
    let output = called_by("bpf_perf_event_output")?;
    ensure!(
        ["kprobe", "tracepoint", "raw_tracepoint", "perf_event"].iter().all(|kind| output.contains(kind)),
        "{output:?}"
    );
    ensure!(!called_by("bpf_get_stackid")?.contains(&"xdp"));
    Ok(())
}

/// How long the report may take under emulation.
const PATIENCE: Duration = Duration::from_secs(40);

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

/// Kernels keep the types of the functions that serve the helpers from some version of pahole on, whatever their own is.
fn prototypes(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    let Ok(btf) = target.btf() else { skip!("there is no BTF") };
    let (compared, wrong) = bpfkit_tests::prototypes::compare(btf);
    if compared == 0 {
        skip!("the types have no typedefs of the helpers' functions");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn json(mut command: Command, more: &[&str]) -> Result<Value, Failure> {
    let output = command.args(["features", "--json"]).args(more).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn rows<'a>(report: &'a Value, list: &str) -> Result<&'a Vec<Value>, Failure> {
    report[list].as_array().ok_or_else(|| Failure::Fail(format!("no {list} in {report}")))
}

/// As somebody who may do nothing: no feature is denied for want of privilege, and each says what is missing.
fn unprivileged(ctx: &mut Ctx) -> CaseResult {
    let mut command = ctx.bpfkit()?;
    command.uid(65534).gid(65534);
    let asked =
        [("features", "jmp32"), ("program_types", "kprobe"), ("map_types", "hash"), ("helpers", "bpf_probe_read")];
    let report = json(command, &asked.map(|(_, name)| name))?;
    // Where everybody may make maps, as was usual before Linux 5.16, that they are made is known.
    let everybody = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")?.trim() == "0";
    for (list, name) in asked {
        let [row] = &rows(&report, list)?[..] else { fail!("not {name} alone in {list}: {report}") };
        ensure_eq!(row["name"], name);
        let why = row["why"].as_str().unwrap_or_default();
        if list == "map_types" && everybody {
            ensure_eq!(row["has"], "yes", "{row}");
            continue;
        }
        ensure!(row["has"] == "unknown" && why.contains("it takes root"), "{row}");
    }
    // For people each reason is told once, by a number.
    let mut command = ctx.bpfkit()?;
    let output = command.uid(65534).gid(65534).arg("features").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = |name: &str| -> Vec<&str> {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.map_or_else(Vec::new, |line| line.split_whitespace().take(3).collect())
    };
    ensure_eq!(words("jmp32"), ["jmp32", "5.1", "?1"]);
    ensure!(text.lines().filter(|line| line.contains("it takes root")).count() == 1, "{text}");
    ensure!(text.lines().any(|line| line.starts_with("?1: it takes root")), "{text}");
    Ok(())
}

/// As one that was built without CONFIG_DEBUG_INFO_BTF: what goes by the kernel's own types is denied, and not unknown or, as the version
/// would have it, there; and the tools do without.
fn untyped(ctx: &mut Ctx) -> CaseResult {
    if Path::new(SYSFS_BTF).exists() {
        sys::private_mounts().doing(|| "a mount namespace".to_owned())?;
        sys::mount("tmpfs", Path::new("/sys/kernel/btf")).doing(|| "hide the types".to_owned())?;
    }
    let lists = [
        ("features", &["kernel-btf", "fentry", "fmod-ret", "lsm", "tp-btf", "tracing-link", "iter", "kfunc"][..]),
        ("program_types", &["tracing", "lsm", "struct_ops"]),
        ("map_types", &["struct_ops"]),
    ];
    let report = json(ctx.bpfkit()?, &lists.map(|(_, names)| names).concat())?;
    for (list, names) in lists {
        let rows = rows(&report, list)?;
        ensure_eq!(rows.len(), names.len(), "{list}");
        for name in names {
            let row = rows.iter().find(|row| row["name"] == *name);
            ensure!(row.is_some_and(|row| row["has"] == "no"), "{name}: {row:?}");
        }
    }
    if ctx.target()?.has(Feature::Kprobes) {
        let mut tool = Tool::start(ctx, "tcpconnect", &[])?;
        ensure!(tool.said.contains("attached by kprobe"), "{}", tool.said);
        tool.rows()?;
    }
    Ok(())
}

/// Of another kernel only the version is known, and this one is not asked.
fn other_kernel(ctx: &mut Ctx) -> CaseResult {
    let mut command = ctx.bpfkit()?;
    let output = command.uid(65534).gid(65534).args(["features", "--kernel", "4.18"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.starts_with("Linux 4.18, x86_64: by version alone\n"), "{text}");
    for (name, has) in [("jmp32", "no"), ("raw-tracepoint", "yes"), ("sockhash", "yes"), ("ringbuf", "no")] {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        ensure!(found.is_some_and(|line| line.split_whitespace().nth(2) == Some(has)), "{name}: {found:?}");
    }
    ensure!(text.contains("Helpers: 80 of 211\n") && text.trim_end().ends_with("get_current_cgroup_id"), "{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_says_was_left_out_is_what_leaves_it_out() {
        for (names, _, options) in LEFT_OUT {
            let features = names.iter().filter_map(|name| name.parse::<Feature>().ok());
            for feature in features.filter(|feature| *feature != Feature::Sleepable) {
                assert!(feature.config().contains(options), "{}: {options}", feature.slug());
            }
        }
    }
}
