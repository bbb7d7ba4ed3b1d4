//! `bpfkit tcpconnect`, end to end.

use std::net::SocketAddr;

use bpfkit_loader::{MapSpec, UpdateMode};
use rustix::process::Signal;

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::tool::{OLD_KERNEL, Pinned, Tool, connect_child, json_rows, listen, need_probe, need_types, without};
use crate::{ensure, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "tcpconnect::kprobe", run: |ctx| end_to_end(ctx, "kprobe", &[]) },
    Case { name: "tcpconnect::kprobe_tracefs", run: |ctx| end_to_end(ctx, "kprobe", &["--without", "kprobe-pmu"]) },
    Case { name: "tcpconnect::kprobe_old_kernel", run: old_kernel },
    Case { name: "tcpconnect::kprobe_without_types", run: without_types },
    Case { name: "tcpconnect::old_kernel_without_types", run: old_kernel_without_types },
    Case { name: "tcpconnect::tracepoint_without_types", run: tracepoint_without_types },
    Case { name: "tcpconnect::fentry", run: |ctx| end_to_end(ctx, "fentry", &[]) },
    Case { name: "tcpconnect::tracepoint", run: |ctx| end_to_end(ctx, "tracepoint", &[]) },
    Case { name: "tcpconnect::auto", run: auto },
    Case { name: "tcpconnect::failed_at_once", run: failed_at_once },
    Case { name: "tcpconnect::port", run: port },
    Case { name: "tcpconnect::pid", run: pid },
    Case { name: "tcpconnect::uid", run: uid },
    Case { name: "tcpconnect::family", run: family },
    Case { name: "tcpconnect::count", run: count },
    Case { name: "tcpconnect::json", run: json },
    Case { name: "tcpconnect::cgroupmap", run: cgroupmap },
    Case { name: "tcpconnect::mntnsmap", run: mntnsmap },
    Case { name: "tcpconnect::cgroup", run: cgroup },
    Case { name: "tcpconnect::duration", run: duration },
    Case { name: "tcpconnect::sigterm", run: sigterm },
    Case { name: "tcpconnect::closed_pipe", run: closed_pipe },
    Case { name: "tcpconnect::sigkill_leaves_nothing", run: sigkill },
    Case { name: "tcpconnect::bad_input", run: bad_input },
    Case { name: "tcpconnect::full_disk", run: full_disk },
];

const V4: &str = "127.0.0.1";
const V6: &str = "::1";

/// The probes that the kernel has.
fn probes(ctx: &Ctx) -> Vec<&'static str> {
    ["kprobe", "fentry", "tracepoint"].into_iter().filter(|probe| need_probe(ctx, probe).is_ok()).collect()
}

/// Connects to a listener of this process's own.
fn connect_here() -> CaseResult {
    let (_listener, to) = listen(V4.parse()?)?;
    std::net::TcpStream::connect(to)?;
    Ok(())
}

/// Probes of ours that are set by text in tracefs.
fn probe_entries() -> Vec<String> {
    let text = std::fs::read_to_string("/sys/kernel/tracing/kprobe_events").unwrap_or_default();
    text.lines().filter(|line| line.contains(":bpfkit/")).map(str::to_owned).collect()
}

/// The rows of a process.
fn of(rows: &[String], pid: u32) -> Vec<Vec<String>> {
    let rows = rows.iter().map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row.contains(&pid.to_string())).collect()
}

/// IPv4, IPv6 and IPv4-mapped: pid, comm, addresses and ports are those of the very connections, with the local port and
/// without.
fn end_to_end(ctx: &Ctx, probe: &str, more: &[&str]) -> CaseResult {
    need_probe(ctx, probe)?;
    let (_l4, to4) = listen(V4.parse()?)?;
    let (_l6, to6) = listen(V6.parse()?)?;
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", to4.port()).parse()?;
    let mut tool = Tool::start(ctx, "tcpconnect", &[&["--probe", probe, "-L", "-U", "-t", "-T"], more].concat())?;
    let (pid, local) = connect_child(None, &[to4, to6, mapped])?;
    let said = tool.said.clone();
    let rows = tool.rows()?;
    ensure!(
        rows.first().is_some_and(|header| header
            .split_whitespace()
            .eq(["TIME", "TIME(s)", "UID", "PID", "COMM", "IP", "SADDR", "LPORT", "DADDR", "DPORT"])),
        "header {:?}",
        rows.first()
    );
    let expected = [(4, V4, to4), (6, V6, to6), (4, V4, to4)];
    let found = of(&rows, pid);
    ensure!(found.len() == 3, "{} rows of {pid}, not 3: {rows:#?}\n{said}", found.len());
    for ((row, (version, address, to)), local) in found.iter().zip(expected).zip(&local) {
        let local: SocketAddr = local.parse()?;
        let exe = std::env::current_exe()?;
        let comm: String = exe.file_name().unwrap_or_default().to_string_lossy().chars().take(15).collect();
        let expected = [
            "0".to_owned(),
            pid.to_string(),
            comm,
            version.to_string(),
            address.to_owned(),
            local.port().to_string(),
            address.to_owned(),
            to.port().to_string(),
        ];
        ensure!(row[0].len() == 8 && row[2..] == expected, "{row:?}, not {expected:?}");
    }
    ensure!(said.contains(&format!("attached by {probe}")), "{said}");
    // Without options, the columns are the ones that bcc's users know.
    let mut tool = Tool::start(ctx, "tcpconnect", &[&["--probe", probe], more].concat())?;
    let (pid, _) = connect_child(None, &[to4])?;
    let rows = tool.rows()?;
    ensure!(rows[0].split_whitespace().eq(["PID", "COMM", "IP", "SADDR", "DADDR", "DPORT"]), "{:?}", rows[0]);
    ensure!(of(&rows, pid).len() == 1, "{rows:#?}");
    Ok(())
}

/// What a kernel of 4.18 has: no PMU, one helper for all memory, no source lines.
fn old_kernel(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &without(&OLD_KERNEL))
}

/// Where nothing tells the offsets they are found by connections of the tool's own, and everything is shown as ever.
fn without_types(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &["--without", "kernel-btf"])?;
    let tool = Tool::start(ctx, "tcpconnect", &["--probe", "kprobe", "--without", "kernel-btf"])?;
    ensure!(tool.said.contains("struct sock was looked into"), "{}", tool.said);
    Ok(())
}

fn old_kernel_without_types(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "kprobe", &without(&[&["kernel-btf"], &OLD_KERNEL[..]].concat()))
}

/// The tracepoint needs none.
fn tracepoint_without_types(ctx: &mut Ctx) -> CaseResult {
    end_to_end(ctx, "tracepoint", &["--without", "kernel-btf"])?;
    let tool = Tool::start(ctx, "tcpconnect", &["--probe", "tracepoint", "--without", "kernel-btf"])?;
    ensure!(!tool.said.contains("looked into"), "{}", tool.said);
    Ok(())
}

fn auto(ctx: &mut Ctx) -> CaseResult {
    let best = probes(ctx)[0];
    let tool = Tool::start(ctx, "tcpconnect", &[])?;
    ensure!(tool.said.contains(&format!("attached by {best}")), "{}", tool.said);
    Ok(())
}

/// A connect that the kernel turns down at once is not shown by the first two, and is by the tracepoint if it came that far.
/// One that the other side refuses is an attempt like any other, as in bcc's tool.
fn failed_at_once(ctx: &mut Ctx) -> CaseResult {
    for probe in probes(ctx).into_iter().filter(|probe| *probe != "tracepoint") {
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe])?;
        // 240.0.0.0/4 is reserved, and there is no route to it from a machine with nothing but loopback; multicast is
        // refused by tcp_v4_connect itself.
        let (pid, said) = connect_child(None, &["224.0.0.1:80".parse()?])?;
        ensure!(said[0].starts_with("error"), "{said:?}");
        let rows = tool.rows()?;
        ensure!(of(&rows, pid).is_empty(), "{probe}: {rows:#?}");
    }
    Ok(())
}

/// Runs the tool with an option that fits and one that does not: the row is there, and then is not.
fn both(ctx: &Ctx, fits: &[&str], not: &[&str]) -> CaseResult {
    let (_listener, to) = listen(V4.parse()?)?;
    for probe in probes(ctx) {
        for (options, expected) in [(fits, 1), (not, 0)] {
            let mut tool = Tool::start(ctx, "tcpconnect", &[&["--probe", probe], options].concat())?;
            let (pid, _) = connect_child(None, &[to])?;
            let rows = tool.rows()?;
            let found = of(&rows, pid).len();
            ensure!(found == expected, "{probe} {options:?}: {found} rows, not {expected}: {rows:#?}\n{}", tool.said);
        }
    }
    Ok(())
}

fn port(ctx: &mut Ctx) -> CaseResult {
    let (_listener, to) = listen(V4.parse()?)?;
    let (_other, other) = listen(V4.parse()?)?;
    for probe in probes(ctx) {
        let ports = format!("1,{},65535", to.port());
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-P", &ports])?;
        let (pid, _) = connect_child(None, &[other, to, other])?;
        let rows = of(&tool.rows()?, pid);
        ensure!(rows.len() == 1 && rows[0][5] == to.port().to_string(), "{probe}: {rows:?}");
    }
    Ok(())
}

/// The process is this one, as it has to be there before the tool is started.
fn pid(ctx: &mut Ctx) -> CaseResult {
    let me = std::process::id();
    for probe in probes(ctx) {
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-p", &me.to_string()])?;
        connect_here()?;
        let (_listener, to) = listen(V4.parse()?)?;
        let (child, _) = connect_child(None, &[to])?;
        let rows = tool.rows()?;
        ensure!(of(&rows, me).len() == 1 && of(&rows, child).is_empty(), "{probe}: {rows:#?}");
    }
    Ok(())
}

fn uid(ctx: &mut Ctx) -> CaseResult {
    // Zero is a user like others, and the other one's number does not fit a signed constant.
    const USERS: [u32; 2] = [0, 4_294_967_000];
    let (_listener, to) = listen(V4.parse()?)?;
    for probe in probes(ctx) {
        for wanted in USERS {
            let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-u", &wanted.to_string()])?;
            let mut pids = [0; USERS.len()];
            for (pid, user) in pids.iter_mut().zip(USERS) {
                *pid = connect_child(Some(user), &[to])?.0;
            }
            let rows = tool.rows()?;
            for (pid, user) in pids.into_iter().zip(USERS) {
                let found = of(&rows, pid).len();
                ensure!(found == usize::from(user == wanted), "{probe} -u {wanted}: {found} of {user}: {rows:#?}");
            }
        }
    }
    Ok(())
}

fn family(ctx: &mut Ctx) -> CaseResult {
    let (_l4, to4) = listen(V4.parse()?)?;
    let (_l6, to6) = listen(V6.parse()?)?;
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", to4.port()).parse()?;
    for probe in probes(ctx) {
        for (option, expected) in [("-4", vec!["4", "4"]), ("-6", vec!["6"])] {
            let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, option])?;
            let (pid, _) = connect_child(None, &[to4, to6, mapped])?;
            let rows = of(&tool.rows()?, pid);
            let found: Vec<&str> = rows.iter().map(|row| row[2].as_str()).collect();
            ensure!(found == expected, "{probe} {option}: {rows:?}");
        }
    }
    Ok(())
}

fn count(ctx: &mut Ctx) -> CaseResult {
    let (_l4, to4) = listen(V4.parse()?)?;
    let (_l6, to6) = listen(V6.parse()?)?;
    for probe in probes(ctx) {
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-c"])?;
        connect_child(None, &[to4, to6, to6, to4, to4])?;
        let rows = tool.rows()?;
        let lines: Vec<Vec<&str>> = rows.iter().map(|row| row.split_whitespace().collect()).collect();
        let header = lines.iter().position(|line| line[..] == ["LADDR", "RADDR", "RPORT", "CONNECTS"]);
        let header = header.ok_or_else(|| Failure::Fail(format!("{probe}: no header: {rows:#?}")))?;
        let port4 = to4.port().to_string();
        let port6 = to6.port().to_string();
        let expected = [vec![V4, V4, port4.as_str(), "3"], vec![V6, V6, port6.as_str(), "2"]];
        let ours: Vec<_> =
            lines[header + 1..].iter().filter(|line| line[2] == port4 || line[2] == port6).cloned().collect();
        ensure!(ours == expected, "{probe}: {rows:#?}");

        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "-c", "-s"])?;
        let (_, local) = connect_child(None, &[to4, to4])?;
        let rows = tool.rows()?;
        for local in local {
            let port = local.parse::<SocketAddr>()?.port().to_string();
            let found = rows.iter().any(|row| row.split_whitespace().eq([V4, V4, &port, &port4, "1"]));
            ensure!(found, "{probe} -s: no {port}: {rows:#?}");
        }
    }
    Ok(())
}

fn json(ctx: &mut Ctx) -> CaseResult {
    let (_l4, to4) = listen(V4.parse()?)?;
    for probe in probes(ctx) {
        let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe, "--json"])?;
        let (pid, _) = connect_child(Some(77), &[to4])?;
        let rows = tool.rows()?;
        let rows = json_rows(&rows)?;
        let row = rows.iter().find(|row| row["pid"] == pid);
        let row = row.ok_or_else(|| Failure::Fail(format!("{probe}: no row of {pid}: {rows:?}")))?;
        let fits = row["ip"] == 4
            && row["saddr"] == V4
            && row["daddr"] == V4
            && row["dport"] == to4.port()
            && row["uid"] == 77;
        ensure!(fits, "{probe}: {row}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let time = u128::from(row["time_ns"].as_u64().unwrap_or_default());
        ensure!(now.abs_diff(time) < 60_000_000_000, "{probe}: time {time}, now {now}");
    }
    Ok(())
}

/// A pinned map whose only key is this.
pub fn set_of(ctx: &Ctx, name: &str, key: u64) -> Result<Pinned, Failure> {
    let map = MapSpec::hash(name, 8, 4, 16).create(&ctx.target()?)?;
    map.update(&key.to_ne_bytes(), &[1; 4], UpdateMode::Any)?;
    Pinned::new(map, name)
}

fn with_set(ctx: &Ctx, option: &str, key: u64) -> CaseResult {
    let (ours, other) = (set_of(ctx, "ours", key)?, set_of(ctx, "other", key + 1)?);
    let (ours, other) = (ours.path.display().to_string(), other.path.display().to_string());
    both(ctx, &[option, &ours], &[option, &other])
}

/// Where the hierarchy of cgroup v2 is.
pub fn cgroup_root() -> Result<std::path::PathBuf, Failure> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let place = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    match place {
        Some(place) => Ok(place.into()),
        None => skip!("cgroup2 is not mounted"),
    }
}

/// The directory of the cgroup that this process is in.
pub fn own_cgroup() -> Result<std::path::PathBuf, Failure> {
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(cgroup_root()?.join(own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default()))
}

/// The id of a cgroup is the inode number of its directory (Linux 5.5); before, the lower half of the id is.
pub fn own_cgroup_id(ctx: &Ctx) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    let id = std::fs::metadata(own_cgroup()?)?.ino();
    let is_half = ctx.target()?.version() < bpfkit_asm::Version::new(5, 5);
    Ok(if is_half { id | 1 << 32 } else { id })
}

fn cgroupmap(ctx: &mut Ctx) -> CaseResult {
    with_set(ctx, "--cgroupmap", own_cgroup_id(ctx)?)
}

fn mntnsmap(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    use std::os::unix::fs::MetadataExt;
    with_set(ctx, "--mntnsmap", std::fs::metadata("/proc/self/ns/mnt")?.ino())
}

/// The directory that this process is in, and an empty one.
fn cgroup(ctx: &mut Ctx) -> CaseResult {
    let own = own_cgroup()?;
    let empty = cgroup_root()?.join(format!("bpfkit-{}", std::process::id()));
    std::fs::create_dir(&empty)?;
    let result = both(ctx, &["-C", &own.display().to_string()], &["-C", &empty.display().to_string()]);
    std::fs::remove_dir(&empty)?;
    result
}

fn duration(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &["--duration", "0.3"])?;
    let status = tool.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn sigterm(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &[])?;
    let (status, ..) = tool.stop(Signal::TERM)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// As with `| head -1`: the header is there at once, and the tool leaves when nobody reads on.
fn closed_pipe(ctx: &mut Ctx) -> CaseResult {
    let mut tool = Tool::start(ctx, "tcpconnect", &[])?;
    let header = tool.line()?;
    ensure!(header.starts_with("PID"), "{header:?}");
    let status = tool.close_output()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What is left in the kernel is looked for after each case.
fn sigkill(ctx: &mut Ctx) -> CaseResult {
    for probe in probes(ctx) {
        for round in 0..3 {
            let mut tool = Tool::start(ctx, "tcpconnect", &["--probe", probe])?;
            let (status, ..) = tool.stop(Signal::KILL)?;
            ensure!(!status.success(), "round {round}: {status}");
        }
    }
    if need_probe(ctx, "kprobe").is_ok() {
        // Text in tracefs outlives its process, until the next one comes.
        let without = ["--probe", "kprobe", "--without", "kprobe-pmu"];
        Tool::start(ctx, "tcpconnect", &without)?.stop(Signal::KILL)?;
        ensure!(!probe_entries().is_empty(), "nothing was left to be removed");
        Tool::start(ctx, "tcpconnect", &["--probe", "kprobe"])?.stop(Signal::INT)?;
        ensure!(probe_entries().is_empty(), "the next start left {:?}", probe_entries());
    }
    Ok(())
}

fn bad_input(ctx: &mut Ctx) -> CaseResult {
    let directory = ctx.directory();
    let (empty, garbage, cut) = (directory.join("empty"), directory.join("garbage"), directory.join("cut"));
    std::fs::write(&empty, "")?;
    std::fs::write(&garbage, [0x5a; 4096])?;
    let types = std::fs::read("/sys/kernel/btf/vmlinux").or_else(|_| std::fs::read("/btf")).unwrap_or_default();
    std::fs::write(&cut, &types[..types.len() / 2])?;
    let (empty, garbage, cut) = (empty.display().to_string(), garbage.display().to_string(), cut.display().to_string());
    let pinned = ["--cgroupmap", "/sys/fs/bpf/no-such-map"];
    let attempts: [(&[&str], i32, &str); 11] = [
        (&["-P", "80,x"], 2, "'x'"),
        (&["-P", "70000"], 2, "70000"),
        (&["-P", "0"], 2, "0"),
        (&["-4", "-6"], 2, "cannot be used with"),
        (&["-p", "4194303"], 1, "4194303"),
        (&pinned, 1, "no-such-map"),
        (&["-C", "/proc"], 1, "/proc is not a cgroup v2 directory"),
        (&["--btf", &empty, "--ebpf", "--probe", "kprobe"], 1, "truncated BTF"),
        (&["--btf", &garbage, "--ebpf", "--probe", "kprobe"], 1, "not BTF"),
        (&["--btf", &cut, "--ebpf", "--probe", "kprobe"], 1, "truncated BTF"),
        (&["--btf", "/no/such/file", "--ebpf", "--probe", "kprobe"], 1, "/no/such/file"),
    ];
    for (options, code, part) in attempts {
        let output = ctx.bpfkit()?.arg("tcpconnect").args(options).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{options:?}: {}, not {code}: {said}", output.status);
        ensure!(said.contains(part), "{options:?}: no {part:?} in {said}");
    }
    Ok(())
}

fn full_disk(ctx: &mut Ctx) -> CaseResult {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let output = ctx.tool("tcpconnect")?.args(["--duration", "5"]).stdout(full).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("No space left"), "{}: {said}", output.status);
    Ok(())
}
