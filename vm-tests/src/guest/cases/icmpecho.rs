//! `bpfkit icmpecho`, end to end.

use std::net::IpAddr;

use crate::ensure;
use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::packets::ping;
use crate::guest::sys;
use crate::guest::tool::{OLD_KERNEL, Tool, json_rows, need_probe, without};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "icmpecho::kprobe", run: |ctx| end_to_end(ctx, "kprobe", &[]) },
    Case { name: "icmpecho::kprobe_tracefs", run: |ctx| end_to_end(ctx, "kprobe", &["--without", "kprobe-pmu"]) },
    Case { name: "icmpecho::kprobe_old_kernel", run: old_kernel },
    Case { name: "icmpecho::kprobe_without_types", run: without_types },
    Case { name: "icmpecho::fentry", run: |ctx| end_to_end(ctx, "fentry", &[]) },
    Case { name: "icmpecho::cpu_is_the_one_that_served", run: cpu },
    Case { name: "icmpecho::family", run: family },
    Case { name: "icmpecho::json", run: json },
    Case { name: "icmpecho::without_kprobes_and_fentry_it_says_so", run: nothing },
];

/// The words of the rows without the header. Nobody else pings here. On loopback pings are answered in the context of who sent them,
/// or of ksoftirqd when there was much to do.
fn mine(rows: &[String]) -> Vec<Vec<&str>> {
    rows.iter().skip(1).map(|row| row.split_whitespace().collect()).collect()
}

/// Identifier, sequence number and address are those that were sent, for both families.
fn end_to_end(ctx: &Ctx, probe: &str, more: &[&str]) -> CaseResult {
    need_probe(ctx, probe)?;
    let mut tool = Tool::start(ctx, "icmpecho", &[&["--probe", probe], more].concat())?;
    let said = tool.said.clone();
    for (to, id, seq) in [("127.0.0.1", 0x1234, 7), ("::1", 0xfedc, 65535), ("127.0.0.1", 1, 0)] {
        ping(to.parse()?, id, seq)?;
    }
    let rows = tool.rows()?;
    let titles = ["TIME", "CPU", "TGID", "PID", "COMM", "SADDR", "ID", "SEQ"];
    ensure!(rows.first().is_some_and(|header| header.split_whitespace().eq(titles)), "header {:?}", rows.first());
    let found: Vec<_> = mine(&rows).iter().map(|row| row[5..].join(" ")).collect();
    ensure!(found == ["127.0.0.1 4660 7", "::1 65244 65535", "127.0.0.1 1 0"], "{found:?} of {rows:#?}\n{said}");
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    let me = (std::process::id().to_string(), comm.trim());
    let is_one = |row: &Vec<&str>| (row[2], row[4]) == (me.0.as_str(), me.1) || row[4].starts_with("ksoftirqd/");
    ensure!(mine(&rows).iter().all(is_one), "{rows:#?}");
    ensure!(said.contains(&format!("attached by {probe}")), "{said}");
    Ok(())
}

fn old_kernel(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &without(&OLD_KERNEL))
}

/// Where nothing tells the offsets they are found by pings of the tool's own.
fn without_types(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &["--without", "kernel-btf"])?;
    let tool = Tool::start(ctx, "icmpecho", &["--without", "kernel-btf"])?;
    ensure!(tool.said.contains("struct sk_buff was looked into"), "{}", tool.said);
    Ok(())
}

fn cpu(ctx: &mut Ctx) -> CaseResult {
    need_probe(ctx, "kprobe")?;
    let cpus = bpfkit_loader::online_cpus()?;
    let mut tool = Tool::start(ctx, "icmpecho", &[])?;
    for &cpu in &cpus {
        sys::stay_on_cpu(usize::try_from(cpu)?)?;
        ping("127.0.0.1".parse()?, 1, u16::try_from(cpu)?)?;
    }
    let rows = tool.rows()?;
    let found: Vec<_> = mine(&rows).iter().map(|row| (row[1].to_owned(), row[7].to_owned())).collect();
    let expected: Vec<_> = cpus.iter().map(|cpu| (cpu.to_string(), cpu.to_string())).collect();
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

fn family(ctx: &mut Ctx) -> CaseResult {
    need_probe(ctx, "kprobe")?;
    let (v4, v6): (IpAddr, IpAddr) = ("127.0.0.1".parse()?, "::1".parse()?);
    for (option, expected) in [("-4", "127.0.0.1"), ("-6", "::1")] {
        let mut tool = Tool::start(ctx, "icmpecho", &[option])?;
        ping(v4, 1, 1)?;
        ping(v6, 1, 1)?;
        let rows = tool.rows()?;
        let found: Vec<_> = mine(&rows).iter().map(|row| row[5].to_owned()).collect();
        ensure!(found == [expected], "{option}: {rows:#?}");
    }
    Ok(())
}

fn json(ctx: &mut Ctx) -> CaseResult {
    need_probe(ctx, "kprobe")?;
    let mut tool = Tool::start(ctx, "icmpecho", &["--json"])?;
    ping("127.0.0.1".parse()?, 77, 78)?;
    let rows = tool.rows()?;
    let rows = json_rows(&rows)?;
    let row = rows.iter().find(|row| row["id"] == 77);
    let Some(row) = row else { return Err(Failure::Fail(format!("no row: {rows:?}"))) };
    ensure!(row["seq"] == 78 && row["saddr"] == "127.0.0.1" && row["tgid"].is_u64(), "{row}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seconds = row["time_ns"].as_u64().unwrap_or_default() / 1_000_000_000;
    ensure!(now.abs_diff(seconds) < 30, "{seconds} is not about {now}");
    Ok(())
}

fn nothing(ctx: &mut Ctx) -> CaseResult {
    let output = ctx.tool("icmpecho")?.args(["--without", "kprobes", "--without", "fentry"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("no probe could be attached"), "{output:?}");
    ensure!(said.contains("kprobe: the kernel lacks kprobes") && said.contains("fentry: the kernel lacks"), "{said}");
    Ok(())
}
