//! `bpfkit skbrecv`, end to end.

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::packets::{datagram, ping};
use crate::guest::tool::{OLD_KERNEL, Tool, json_rows, need_probe, need_types, without};
use crate::{ensure, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "skbrecv::kprobe", run: |ctx| end_to_end(ctx, "kprobe", &[]) },
    Case { name: "skbrecv::kprobe_tracefs", run: |ctx| end_to_end(ctx, "kprobe", &["--without", "kprobe-pmu"]) },
    Case { name: "skbrecv::kprobe_old_kernel", run: old_kernel },
    Case { name: "skbrecv::tracepoint", run: |ctx| end_to_end(ctx, "tracepoint", &[]) },
    Case {
        name: "skbrecv::tracepoint_without_types",
        run: |ctx| end_to_end(ctx, "tracepoint", &["--without", "kernel-btf"]),
    },
    Case { name: "skbrecv::kprobe_without_a_prototype", run: without_prototype },
    Case { name: "skbrecv::printk_by_kprobe", run: |ctx| end_to_end(ctx, "kprobe", &["--printk"]) },
    Case { name: "skbrecv::printk_by_tracepoint", run: |ctx| end_to_end(ctx, "tracepoint", &["--printk"]) },
    Case { name: "skbrecv::device", run: device },
    Case { name: "skbrecv::without_kprobes_it_takes_the_tracepoint", run: fallback },
    Case { name: "skbrecv::json", run: json },
];

/// Lengths that nothing else on the loopback device has, and what the tool shows of them.
const V4: (&str, usize, &str) = ("127.0.0.1", 4321, "lo 4349 IPv4");
const V6: (&str, usize, &str) = ("::1", 2345, "lo 2393 IPv6");

/// Device, length and protocol of the rows, each in one text.
fn packets(rows: &[String]) -> Vec<String> {
    rows.iter().skip(1).map(|row| row.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")).collect()
}

fn end_to_end(ctx: &Ctx, probe: &str, more: &[&str]) -> CaseResult {
    if probe == "kprobe" {
        need_types(ctx)?;
    }
    need_probe(ctx, probe)?;
    let mut tool = Tool::start(ctx, "skbrecv", &[&["--probe", probe], more].concat())?;
    for (to, length, _) in [V4, V6, V4] {
        datagram(to.parse()?, length)?;
    }
    ping("127.0.0.1".parse()?, 1, 1)?;
    let said = tool.said.clone();
    let rows = tool.rows()?;
    let titles = ["TIME", "CPU", "DEV", "LEN", "PROTO"];
    ensure!(rows.first().is_some_and(|header| header.split_whitespace().eq(titles)), "header {:?}", rows.first());
    let found = packets(&rows);
    for (expected, times) in [(V4.2, 2), (V6.2, 1), ("lo 36 IPv4", 2)] {
        let seen = found.iter().filter(|row| *row == expected).count();
        ensure!(seen == times, "{seen} of {expected:?}, not {times}: {rows:#?}\n{said}");
    }
    let cpus = bpfkit_loader::online_cpus()?;
    let on = rows.iter().skip(1).filter_map(|row| row.split_whitespace().nth(1)?.parse().ok());
    ensure!(on.clone().count() == rows.len() - 1 && on.clone().all(|cpu: u32| cpus.contains(&cpu)), "{rows:#?}");
    ensure!(said.contains(&format!("attached by {probe}")), "{said}");
    Ok(())
}

fn old_kernel(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &without(&OLD_KERNEL))
}

/// Types without functions, as those of kernels before 5.8 may be: what the function is given is found by trying.
fn without_prototype(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    need_probe(ctx, "kprobe")?;
    let target = ctx.target()?;
    let (names, btf) = (bpfkit_loader::function_names("__netif_receive_skb_core")?, target.btf()?);
    if names.first().is_none_or(|name| name.contains('.')) {
        skip!("the kernel has a copy of the function alone, whose arguments the version tells: {names:?}");
    }
    let file = ctx.directory().join("structures.btf");
    let structures = ["sk_buff.dev", "sk_buff.len", "sk_buff.protocol", "net_device.name"];
    std::fs::write(&file, bpfkit_btf::cut(btf, &structures)?)?;
    end_to_end(ctx, "kprobe", &["--without", "kernel-btf", "--btf", &file.to_string_lossy()])
}

/// The name is compared as a whole: neither a shorter nor a longer one is taken for it.
fn device(ctx: &mut Ctx) -> CaseResult {
    for (name, expected) in [("lo", 1), ("any", 1), ("l", 0), ("lo0", 0), ("lo-a-long-name", 0)] {
        let mut tool = Tool::start(ctx, "skbrecv", &["-i", name])?;
        datagram(V4.0.parse()?, V4.1)?;
        let rows = tool.rows()?;
        let seen = packets(&rows).iter().filter(|row| *row == V4.2).count();
        ensure!(seen == expected, "-i {name}: {seen} rows, not {expected}: {rows:#?}");
    }
    let output = ctx.tool("skbrecv")?.args(["-i", "eth/0"]).output()?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}

fn fallback(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "skbrecv", &["--without", "kprobes"])?;
    ensure!(tool.said.contains("attached by tracepoint"), "{}", tool.said);
    datagram(V4.0.parse()?, V4.1)?;
    ensure!(packets(&tool.rows()?).contains(&V4.2.to_owned()));
    Ok(())
}

fn json(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "skbrecv", &["--json"])?;
    datagram(V6.0.parse()?, V6.1)?;
    let rows = tool.rows()?;
    let rows = json_rows(&rows)?;
    let seen = rows.iter().filter(|row| row["dev"] == "lo" && row["len"] == 2393 && row["proto"] == 0x86dd).count();
    ensure!(seen == 1, "{rows:?}");
    Ok(())
}
