//! `bpfkit bpf2bpf`, end to end.

use std::net::SocketAddr;

use bpfkit_loader::Feature;

use crate::guest::case::{Case, Ctx, Failure, need};
use crate::guest::tool::{OLD_KERNEL, Tool, connect_child, json_rows, listen, without};
use crate::{ensure, ensure_eq};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "bpf2bpf::ipv4", run: |ctx| end_to_end(ctx, V4, Shown::all(), &[]) },
    Case { name: "bpf2bpf::ipv6", run: |ctx| end_to_end(ctx, V6, Shown::all(), &[]) },
    Case { name: "bpf2bpf::ipv4_of_an_ipv6_socket", run: mapped },
    Case {
        name: "bpf2bpf::kprobe_tracefs",
        run: |ctx| end_to_end(ctx, V4, Shown::all(), &["--without", "kprobe-pmu"]),
    },
    Case { name: "bpf2bpf::kprobe_old_kernel", run: old_kernel },
    Case { name: "bpf2bpf::without_types_of_the_kernel", run: without_types },
    Case { name: "bpf2bpf::connects_only", run: |ctx| one_probe(ctx, true) },
    Case { name: "bpf2bpf::accepts_only", run: |ctx| one_probe(ctx, false) },
    Case { name: "bpf2bpf::replace", run: replace },
    Case { name: "bpf2bpf::every_connection_has_its_three_lines", run: many },
    Case { name: "bpf2bpf::pid", run: pid },
    Case { name: "bpf2bpf::json", run: json },
    Case { name: "bpf2bpf::without_kprobes_it_says_so", run: without_kprobes },
    Case { name: "bpf2bpf::bad_input", run: bad_input },
];

const V4: &str = "127.0.0.1";
const V6: &str = "::1";

/// What the tool is expected to show.
#[derive(Clone, Copy)]
struct Shown {
    connects: bool,
    accepts: bool,
    /// Whether there are fentry and fexit.
    watched: bool,
    /// What fexit shows in the place of the remote port.
    ret: Option<u16>,
}

impl Shown {
    const fn all() -> Self {
        Self { connects: true, accepts: true, watched: true, ret: None }
    }

    /// The lines of a connection, seen from one end.
    fn lines(self, local: SocketAddr, remote: SocketAddr) -> Vec<String> {
        let line = |what: String| format!("new tcp connection: {local} -> {remote} ({what})");
        let ret = self.ret.unwrap_or(remote.port());
        let mut lines = vec![line("kprobe".to_owned())];
        if self.watched {
            lines.extend([line("fentry".to_owned()), line(format!("fexit: {ret}"))]);
        }
        lines
    }

    /// Whether a connection's lines are there, once each and in their order; and those of an end that is not to be shown are not.
    fn check(self, rows: &[String], client: SocketAddr, server: SocketAddr) -> CaseResult {
        for (local, remote, is_shown) in [(client, server, self.connects), (server, client, self.accepts)] {
            let start = format!("new tcp connection: {local} -> {remote} (");
            let found: Vec<&String> = rows.iter().filter(|row| row.starts_with(&start)).collect();
            let expected = if is_shown { self.lines(local, remote) } else { Vec::new() };
            ensure!(found.iter().copied().eq(&expected), "{found:#?} instead of {expected:#?} in {rows:#?}");
        }
        Ok(())
    }
}

fn end_to_end(ctx: &Ctx, address: &str, shown: Shown, options: &[&str]) -> CaseResult {
    let target = ctx.target()?;
    need(&target, &[Feature::Kprobes])?;
    // Before Linux 5.5 there are the lines of the kprobes alone.
    let shown = Shown { watched: shown.watched && target.has(Feature::FentryProg), ..shown };
    let (_listener, to) = listen(address.parse()?)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", options)?;
    let (_, local) = connect_child(None, &[to])?;
    let said = tool.said.clone();
    let rows = tool.rows()?;
    shown.check(&rows, local[0].parse()?, to)?;
    let how = if shown.watched { "attached by kprobe, fentry and fexit" } else { "attached by kprobe after" };
    ensure!(said.contains(how), "{said}");
    Ok(())
}

/// Both ends are IPv4, and so they are shown, whichever type the sockets are of.
fn mapped(ctx: &mut Ctx) -> CaseResult {
    let target = ctx.target()?;
    need(&target, &[Feature::Kprobes])?;
    let shown = Shown { watched: target.has(Feature::FentryProg), ..Shown::all() };
    let (_listener, to) = listen(V4.parse()?)?;
    let (_both, to_both) = listen("::".parse()?)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", &[])?;
    let (_, local) = connect_child(
        None,
        &[format!("[::ffff:127.0.0.1]:{}", to.port()).parse()?, SocketAddr::new(V4.parse()?, to_both.port())],
    )?;
    let rows = tool.rows()?;
    for (local, to) in local.iter().zip([to, to_both]) {
        let local = SocketAddr::new(V4.parse()?, local.parse::<SocketAddr>()?.port());
        shown.check(&rows, local, SocketAddr::new(V4.parse()?, to.port()))?;
    }
    Ok(())
}

/// What a kernel of 4.18 has: the lines of the kprobes alone, and the reason why there are no others.
fn old_kernel(ctx: &mut Ctx) -> CaseResult {
    let options = without(&[&OLD_KERNEL[..], &["fentry-prog", "global-func"]].concat());
    end_to_end(ctx, V4, Shown { watched: false, ..Shown::all() }, &options)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", &options)?;
    ensure!(tool.said.contains("fentry and fexit show nothing: the kernel lacks"), "{}", tool.said);
    tool.rows().map(drop)
}

/// The members of the socket are found by trying, and programs have their own types.
fn without_types(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, V6, Shown::all(), &["--without", "kernel-btf"])
}

fn one_probe(ctx: &Ctx, connects: bool) -> CaseResult {
    let function = if connects { "tcp_connect" } else { "inet_csk_complete_hashdance" };
    end_to_end(ctx, V6, Shown { connects, accepts: !connects, ..Shown::all() }, &["--probes", function])
}

/// The function that gives the port is replaced by one that gives the family.
fn replace(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Freplace])?;
    end_to_end(ctx, V4, Shown { ret: Some(2), ..Shown::all() }, &["--replace"])?;
    end_to_end(ctx, V6, Shown { ret: Some(10), ..Shown::all() }, &["--replace"])
}

/// Connections one after the other from two processes at a time, so that both ends are on all processors.
fn many(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Kprobes, Feature::FentryProg])?;
    let (_listener, to) = listen(V4.parse()?)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", &[])?;
    let connect = || connect_child(None, &[to; 50]);
    let locals = std::thread::scope(|scope| {
        let other = scope.spawn(connect);
        let mut locals = connect()?.1;
        let others = other.join().map_err(|_| Failure::Fail("a thread panicked".to_owned()))?;
        locals.extend(others?.1);
        Ok::<_, Failure>(locals)
    })?;
    let rows = tool.rows()?;
    ensure_eq!(locals.len(), 100, "connections");
    locals.iter().try_for_each(|local| Shown::all().check(&rows, local.parse()?, to))
}

/// A filter by process leaves out what has none.
fn pid(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Kprobes, Feature::FentryProg])?;
    let (_listener, to) = listen(V4.parse()?)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", &["-p", &std::process::id().to_string()])?;
    let (_, local) = connect_child(None, &[to])?;
    let own = std::net::TcpStream::connect(to)?.local_addr()?;
    let rows = tool.rows()?;
    Shown { connects: false, accepts: false, ..Shown::all() }.check(&rows, local[0].parse()?, to)?;
    Shown { accepts: false, ..Shown::all() }.check(&rows, own, to)
}

fn json(ctx: &mut Ctx) -> CaseResult {
    need(&ctx.target()?, &[Feature::Kprobes, Feature::FentryProg])?;
    let (_listener, to) = listen(V6.parse()?)?;
    let mut tool = Tool::start(ctx, "bpf2bpf", &["--json"])?;
    let (pid, local) = connect_child(None, &[to])?;
    let local: SocketAddr = local[0].parse()?;
    let rows = tool.rows()?;
    let rows = json_rows(&rows)?;
    for (probe, from, to, pid) in
        [("tcp_connect", local, to, Some(pid)), ("inet_csk_complete_hashdance", to, local, None)]
    {
        let seen = rows.iter().filter(|row| row["lport"] == from.port() && row["dport"] == to.port());
        let seen: Vec<&serde_json::Value> = seen.collect();
        let vias: Vec<&str> = seen.iter().filter_map(|row| row["via"].as_str()).collect();
        ensure_eq!(vias, ["kprobe", "fentry", "fexit"]);
        for row in &seen {
            let is_due = row["via"] == "fexit";
            let ret = row["ret"].as_u64();
            ensure!(ret == is_due.then_some(u64::from(to.port())), "{row}");
            ensure!(row["probe"] == probe && row["ip"] == 6 && row["saddr"] == V6 && row["daddr"] == V6, "{row}");
            ensure!(row["pid"].as_u64() == pid.map(u64::from) && row["comm"].is_null() == pid.is_none(), "{row}");
        }
        // fentry runs before the subprogram sends anything, and fexit after it.
        let times: Vec<u64> = [1, 0, 2].iter().filter_map(|&n| seen[n]["time_ns"].as_u64()).collect();
        ensure!(times.len() == 3 && times.is_sorted(), "{times:?}");
    }
    Ok(())
}

/// As on a machine whose kernel was built without: there is no other way to see this.
fn without_kprobes(ctx: &mut Ctx) -> CaseResult {
    let output = ctx.tool("bpf2bpf")?.args(["--without", "kprobes"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("the kernel lacks kprobes"), "{}: {said}", output.status);
    Ok(())
}

fn bad_input(ctx: &mut Ctx) -> CaseResult {
    let me = std::process::id().to_string();
    let attempts: [(&[&str], i32, &str); 4] = [
        (&["--probes", "tcp_close"], 2, "tcp_close"),
        (&["-p", "4194303"], 1, "4194303"),
        (&["-p", &me, "--probes", "inet_csk_complete_hashdance"], 1, "do not apply"),
        (&["--replace", "--without", "freplace"], 1, "the kernel lacks"),
    ];
    for (options, code, part) in attempts {
        let output = ctx.bpfkit()?.arg("bpf2bpf").args(options).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{options:?}: {}, not {code}: {said}", output.status);
        ensure!(said.contains(part), "{options:?}: no {part:?} in {said}");
    }
    Ok(())
}
