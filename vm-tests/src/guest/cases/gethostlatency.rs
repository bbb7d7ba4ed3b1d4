//! `bpfkit gethostlatency`, end to end: a program with a C library of its own looks up hosts.

use std::ffi::OsStr;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bpfkit_loader::{Elf, Feature};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::rooms::{Room, Waiting};
use crate::guest::tool::{Tool, json_rows};
use crate::{ensure, ensure_eq, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "gethostlatency::getaddrinfo_by_one_link", run: |ctx| getaddrinfo(ctx, &[]) },
    Case { name: "gethostlatency::getaddrinfo_by_pmu", run: |ctx| getaddrinfo(ctx, &PMU) },
    Case { name: "gethostlatency::getaddrinfo_by_tracefs", run: |ctx| getaddrinfo(ctx, &TRACEFS) },
    Case { name: "gethostlatency::getaddrinfo_old_kernel", run: |ctx| getaddrinfo(ctx, &OLD) },
    Case { name: "gethostlatency::all_addresses", run: |ctx| all(ctx, &[]) },
    Case { name: "gethostlatency::all_addresses_old_kernel", run: |ctx| all(ctx, &OLD) },
    Case { name: "gethostlatency::gethostby", run: |ctx| gethostby(ctx, &[]) },
    Case { name: "gethostlatency::gethostby_by_pmu", run: |ctx| gethostby(ctx, &PMU) },
    Case { name: "gethostlatency::gethostby_old_kernel", run: |ctx| gethostby(ctx, &OLD) },
    Case { name: "gethostlatency::many_threads_are_not_mixed_up", run: threads },
    Case { name: "gethostlatency::pid_by_pmu", run: |ctx| pid(ctx, &[]) },
    Case { name: "gethostlatency::pid_by_tracefs", run: |ctx| pid(ctx, &TRACEFS) },
    Case { name: "gethostlatency::a_static_program_is_probed_itself", run: statically_linked },
    Case { name: "gethostlatency::libc", run: libc },
    Case { name: "gethostlatency::a_function_that_cannot_be_probed_keeps_no_other_from_it", run: trapped },
    Case { name: "gethostlatency::uid", run: uid },
    Case { name: "gethostlatency::failed_only", run: failed },
    Case { name: "gethostlatency::a_slow_look_up_and_its_page_that_went_away", run: slow },
    Case { name: "gethostlatency::threads_that_end_in_a_look_up_are_forgotten", run: abandoned },
    Case { name: "gethostlatency::a_container_is_seen", run: container },
    Case { name: "gethostlatency::a_container_that_begins_later_is_seen", run: later },
    Case { name: "gethostlatency::a_library_that_was_deleted_is_probed", run: deleted },
    Case { name: "gethostlatency::json", run: json },
    Case { name: "gethostlatency::hostile_names", run: hostile },
    Case { name: "gethostlatency::types_of_the_kernel_are_not_needed", run: without_types },
    Case { name: "gethostlatency::few_descriptors", run: few_descriptors },
    Case { name: "gethostlatency::sigkill_leaves_nothing", run: sigkill },
    Case { name: "gethostlatency::bad_input", run: bad_input },
];

const PMU: [&str; 2] = ["--without", "uprobe-multi"];
const TRACEFS: [&str; 4] = ["--without", "uprobe-multi", "--without", "uprobe-pmu"];
/// What a kernel of 4.18 lacks that these programs could make use of.
const OLD: [&str; 10] = [
    "--without",
    "uprobe-multi",
    "--without",
    "uprobe-pmu",
    "--without",
    "probe-read-kernel",
    "--without",
    "prog-btf",
    "--without",
    "jmp32",
];
const HOSTS: &str = "127.0.0.1 localhost\n10.1.2.3 many\n10.1.2.4 many\nfd00::5 many\n";

/// A program with the machine's own C library, which waits.
fn waiting(ctx: &Ctx, words: &[&str]) -> Result<Waiting, Failure> {
    Waiting::start(Command::new(ctx.lookup(false)?), words)
}

/// Starts the tool, which must have found something to probe.
fn start(ctx: &Ctx, options: &[&str]) -> Result<Tool, Failure> {
    let target = ctx.target()?;
    if !options.contains(&"uprobe-pmu") && !target.has(Feature::UprobePmu) {
        skip!("this kernel has no uprobe PMU");
    }
    let tool = Tool::start(ctx, "gethostlatency", options)?;
    ensure!(tool.said.contains("attached by uprobe"), "{}", tool.said);
    Ok(tool)
}

/// What the rows of a process say: family, address and host, without spaces between.
fn of(rows: &[String], pid: u32) -> Vec<String> {
    let rows = rows.iter().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&pid.to_string().as_str())).map(|row| row[4..].join(" ")).collect()
}

fn getaddrinfo(ctx: &mut Ctx, options: &[&str]) -> CaseResult {
    let words =
        ["numeric", "127.0.0.1", "numeric", "::1", "numeric", "no.such.host", "getaddrinfo", "localhost", "null"];
    let program = waiting(ctx, &[&words[..], &["untouched", "127.0.0.9"]].concat())?;
    let mut tool = start(ctx, options)?;
    let way = match options {
        [] if ctx.target()?.has(Feature::UprobeMulti) => "BPF_LINK_CREATE",
        options if !options.contains(&"uprobe-pmu") => "perf PMU uprobe",
        _ => "tracefs uprobe_events",
    };
    ensure!(tool.said.contains(way), "not by {way}: {}", tool.said);
    let pid = program.go()?;
    let rows = tool.rows()?;
    let titles = ["TIME", "PID", "COMM", "LATms", "AF", "ADDR", "HOST"];
    ensure!(rows.first().is_some_and(|header| header.split_whitespace().eq(titles)), "header {:?}", rows.first());
    let found = of(&rows, pid);
    let exact = ["4 127.0.0.1 127.0.0.1", "6 ::1 ::1", "- EAI_NONAME no.such.host"];
    ensure!(found.len() == 6 && found[..3] == exact, "{rows:#?}");
    // What a name stands for, and what address is to be bound to, is for the machine to say.
    ensure!(["4 127.0.0.1 localhost", "6 ::1 localhost"].contains(&found[3].as_str()), "{rows:#?}");
    ensure!(["4 0.0.0.0 -", "6 :: -"].contains(&found[4].as_str()), "{rows:#?}");
    ensure_eq!(found[5], "4 127.0.0.9 127.0.0.9", "{rows:#?}");
    let row: Vec<&str> =
        rows.iter().find(|row| row.contains("no.such.host")).map_or(Vec::new(), |row| row.split_whitespace().collect());
    let latency: f64 = row[3].parse()?;
    ensure!(row[0].len() == 8 && row[2] == "lookup" && (0.0..1000.0).contains(&latency), "{row:?}");
    Ok(())
}

fn all(ctx: &mut Ctx, options: &[&str]) -> CaseResult {
    let room = Room::new(ctx, "all", HOSTS, "files")?;
    let words = ["any", "many", "gethostbyname", "many", "numeric", "127.0.0.1", "numeric", "x"];
    let program = room.start(false, &words)?;
    let mut tool = start(ctx, &[&["-a"], options].concat())?;
    let pid = program.go()?;
    let rows = tool.rows()?;
    let found = of(&rows, pid);
    ensure!(found.len() == 4, "{rows:#?}");
    // In which order a machine prefers them is for it to say; each is there once, though it is listed for each type of socket.
    let mut addresses: Vec<&str> = found[0].split(' ').nth(1).unwrap_or_default().split(',').collect();
    addresses.sort_unstable();
    ensure_eq!(addresses, ["10.1.2.3", "10.1.2.4", "fd00::5"]);
    ensure!(found[0].starts_with("4,6 ") || found[0].starts_with("6,4 "), "{found:?}");
    ensure_eq!(found[1..], ["4 10.1.2.3,10.1.2.4 many", "4 127.0.0.1 127.0.0.1", "- EAI_NONAME x"]);
    Ok(())
}

/// Each function has one row, though some call others of them.
fn gethostby(ctx: &mut Ctx, options: &[&str]) -> CaseResult {
    let calls = [
        ("gethostbyname", "localhost", "4 127.0.0.1 localhost"),
        ("gethostbyname", "127.0.0.3", "4 127.0.0.3 127.0.0.3"),
        ("gethostbyname2", "many", "6 fd00::5 many"),
        ("gethostbyname_r", "many", "4 10.1.2.3 many"),
        ("gethostbyname2_r", "localhost", "4 127.0.0.1 localhost"),
        ("gethostbyaddr", "127.0.0.1", "4 127.0.0.1 localhost"),
        ("gethostbyaddr", "fd00::5", "6 fd00::5 many"),
        ("gethostbyaddr_r", "10.1.2.4", "4 10.1.2.4 many"),
        ("gethostbyname", "no.such.host", "- failed no.such.host"),
        ("gethostbyaddr", "10.9.8.7", "- failed 10.9.8.7"),
        ("gethostbyaddr", "fd00::6", "- failed fd00::6"),
        ("small", "localhost", "- ERANGE localhost"),
    ];
    let room = Room::new(ctx, "gethostby", HOSTS, "files")?;
    let words: Vec<&str> = calls.iter().flat_map(|(call, host, _)| [*call, *host]).collect();
    let program = room.start(false, &words)?;
    let mut tool = start(ctx, options)?;
    let pid = program.go()?;
    let rows = tool.rows()?;
    let found = of(&rows, pid);
    let expected: Vec<&str> = calls.iter().map(|(.., row)| *row).collect();
    ensure!(found == expected, "{found:#?} instead of {expected:#?}");
    Ok(())
}

/// Each thread finds the address that it asked for, by two functions in turn.
fn threads(ctx: &mut Ctx) -> CaseResult {
    let (threads, each) = (24, 10);
    let program = waiting(ctx, &["threads", &threads.to_string(), &each.to_string()])?;
    let mut tool = start(ctx, &[])?;
    let pid = program.go()?;
    sleep(Duration::from_millis(150));
    let (status, out, said) = tool.stop(Signal::INT)?;
    ensure!(status.success(), "{status}: {said}");
    let rows: Vec<String> = out.lines().map(str::to_owned).collect();
    let found = of(&rows, pid);
    ensure_eq!(found.len(), threads * each * 2, "rows of {pid}, with {said:?}");
    for row in &found {
        let words: Vec<&str> = row.split(' ').collect();
        ensure!(words[0] == "4" && words[1] == words[2], "{row}");
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    ensure_eq!(distinct.len(), found.len());
    Ok(())
}

fn pid(ctx: &mut Ctx, options: &[&str]) -> CaseResult {
    let (one, other) = (waiting(ctx, &["numeric", "10.0.0.1"])?, waiting(ctx, &["numeric", "10.0.0.2"])?);
    let mut tool = start(ctx, &[&["-p", &one.pid().to_string()], options].concat())?;
    let (one, other) = (one.go()?, other.go()?);
    let rows = tool.rows()?;
    ensure_eq!(of(&rows, one), ["4 10.0.0.1 10.0.0.1"]);
    ensure_eq!(of(&rows, other), [""; 0]);
    Ok(())
}

fn statically_linked(ctx: &mut Ctx) -> CaseResult {
    let path = ctx.lookup(true)?.display().to_string();
    let program = Waiting::start(Command::new(&path), &["numeric", "10.0.0.1"])?;
    let mut tool = start(ctx, &["-p", &program.pid().to_string()])?;
    ensure!(tool.said.contains("its executable"), "{}", tool.said);
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
    let program = Waiting::start(Command::new(&path), &["numeric", "10.0.0.2"])?;
    let mut tool = start(ctx, &["-l", &path])?;
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.2 10.0.0.2"]);
    Ok(())
}

/// A library that is named is the only one that is probed: the process that has another is not seen.
fn libc(ctx: &mut Ctx) -> CaseResult {
    let room = Room::new(ctx, "libc", HOSTS, "files")?;
    let (own, rooms) = (waiting(ctx, &["numeric", "10.0.0.1"])?, room.start(false, &["numeric", "10.0.0.2"])?);
    let mut tool = start(ctx, &["-l", &room.libc().display().to_string()])?;
    let (own, rooms) = (own.go()?, rooms.go()?);
    let rows = tool.rows()?;
    ensure_eq!(of(&rows, rooms), ["4 10.0.0.2 10.0.0.2"]);
    ensure_eq!(of(&rows, own), [""; 0]);
    Ok(())
}

/// Where a function begins with a breakpoint, and a process has it mapped, the kernel takes no uprobe, and so no link for all
/// functions. The others are probed one by one.
fn trapped(ctx: &mut Ctx) -> CaseResult {
    const FUNCTION: &str = "gethostbyaddr_r";
    let room = Room::new(ctx, "trapped", HOSTS, "files")?;
    let functions = Elf::open(room.libc())?.functions(&[FUNCTION])?;
    ensure!(!functions.is_empty(), "{} has no {FUNCTION}", room.libc().display());
    let file = File::options().write(true).open(room.libc())?;
    for function in &functions {
        // `int3`
        file.write_all_at(&[0xcc], function.offset)?;
    }
    drop(file);
    let program = room.start(false, &["numeric", "10.0.0.2", "gethostbyname", "many"])?;
    let mut tool = start(ctx, &["-l", &room.libc().display().to_string()])?;
    ensure!(tool.said.contains(&format!("cannot probe {FUNCTION} of ")), "{}", tool.said);
    ensure!(tool.said.contains("by perf PMU uprobe"), "{}", tool.said);
    if ctx.target()?.has(Feature::UprobeMulti) {
        ensure!(tool.said.contains("cannot probe all functions of "), "{}", tool.said);
    }
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.2 10.0.0.2", "4 10.1.2.3 many"]);
    Ok(())
}

fn uid(ctx: &mut Ctx) -> CaseResult {
    for (user, expected) in [(0, 0), (1234, 1)] {
        let mut command = Command::new(ctx.lookup(false)?);
        command.uid(1234);
        let program = match Waiting::start(command, &["numeric", "10.0.0.1"]) {
            Ok(program) => program,
            // Natively it may lie where nobody but root may go.
            Err(Failure::Fail(why)) if why.contains("denied") => skip!("{why}"),
            Err(error) => return Err(error),
        };
        let mut tool = start(ctx, &["-u", &user.to_string()])?;
        let pid = program.go()?;
        ensure_eq!(of(&tool.rows()?, pid).len(), expected, "rows with -u {user}");
    }
    Ok(())
}

fn failed(ctx: &mut Ctx) -> CaseResult {
    let room = Room::new(ctx, "failed", HOSTS, "files")?;
    let words = [
        "numeric",
        "10.0.0.1",
        "numeric",
        "x",
        "gethostbyname",
        "localhost",
        "gethostbyname",
        "y.z",
        "gethostbyname_r",
        "many",
    ];
    let program = room.start(false, &words)?;
    let mut tool = start(ctx, &["-x"])?;
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["- EAI_NONAME x", "- failed y.z"]);
    Ok(())
}

/// A room whose names are asked for at a server that never answers. The server is there as long as the second value.
fn silent(ctx: &Ctx, name: &str) -> Result<(Room, UdpSocket), Failure> {
    let server = match UdpSocket::bind("127.77.0.1:53") {
        Ok(server) => server,
        Err(error) => skip!("no server can be at 127.77.0.1:53: {error}"),
    };
    let room = Room::new(ctx, name, HOSTS, "files dns")?;
    room.write("etc/resolv.conf", "nameserver 127.77.0.1\noptions timeout:1 attempts:1\n")?;
    Ok((room, server))
}

/// The time of the row is that of the look-up; --min-ms leaves out the quick ones. The name is where the process alone can read it,
/// and at the end not even that.
fn slow(ctx: &mut Ctx) -> CaseResult {
    let (room, _server) = silent(ctx, "slow")?;
    let program = room.start(false, &["numeric", "10.0.0.1", "getaddrinfo", "slow.host", "forgotten", "other.host"])?;
    let mut tool = start(ctx, &["--min-ms", "500"])?;
    let begin = Instant::now();
    let pid = program.go()?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let rows = tool.rows()?;
    ensure_eq!(of(&rows, pid), ["- EAI_AGAIN slow.host", "- EAI_AGAIN ?"]);
    for row in rows.iter().filter(|row| row.contains("EAI_AGAIN")) {
        let latency: f64 = row.split_whitespace().nth(3).unwrap_or_default().parse()?;
        ensure!(latency >= 900.0 && latency <= took, "{latency} ms of {took}: {row}");
    }
    Ok(())
}

fn abandoned(ctx: &mut Ctx) -> CaseResult {
    let (room, _server) = silent(ctx, "abandoned")?;
    let program = room.start(false, &["abandoned", "slow.host"])?;
    let other = room.start(false, &["numeric", "10.0.0.1"])?;
    let mut tool = start(ctx, &[])?;
    program.go()?;
    if std::fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| std::os::unix::fs::MetadataExt::ino(&ns) == 0xefff_fffc) {
        tool.until("1 threads ended in a look-up")?;
    }
    let pid = other.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
    Ok(())
}

/// Nobody else has a path to the library.
fn container(ctx: &mut Ctx) -> CaseResult {
    let room = Room::new(ctx, "container", HOSTS, "files")?;
    let program = room.start(true, &["getaddrinfo", "localhost"])?;
    for options in [&[][..], &TRACEFS] {
        let other = room.start(true, &["getaddrinfo", "localhost"])?;
        let mut tool = start(ctx, options)?;
        let pid = other.go()?;
        ensure_eq!(of(&tool.rows()?, pid), ["4 127.0.0.1 localhost"]);
    }
    let mut tool = start(ctx, &["-p", &program.pid().to_string()])?;
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 127.0.0.1 localhost"]);
    Ok(())
}

/// It is looked for anew every two seconds. What is there already goes on, also when its library goes.
fn later(ctx: &mut Ctx) -> CaseResult {
    let (one, other) = (Room::new(ctx, "one", HOSTS, "files")?, Room::new(ctx, "other", HOSTS, "files")?);
    let before = one.start(false, &["numeric", "10.0.0.1"])?;
    let mut tool = start(ctx, &[])?;
    std::fs::remove_file(one.libc())?;
    let after = other.start(true, &["numeric", "10.0.0.2"])?;
    tool.until(&format!("(process {})", after.pid()))?;
    let (before, after) = (before.go()?, after.go()?);
    let rows = tool.rows()?;
    ensure_eq!(of(&rows, before), ["4 10.0.0.1 10.0.0.1"]);
    ensure_eq!(of(&rows, after), ["4 10.0.0.2 10.0.0.2"]);
    Ok(())
}

/// A package was upgraded: the process still has the old library, and its path is another file's.
fn deleted(ctx: &mut Ctx) -> CaseResult {
    let room = Room::new(ctx, "deleted", HOSTS, "files")?;
    for replace in [false, true] {
        let program = room.start(false, &["numeric", "10.0.0.1"])?;
        let libc = std::fs::read(room.libc())?;
        std::fs::remove_file(room.libc())?;
        if replace {
            // Whoever probed the path would probe this, at places that have another meaning here.
            std::fs::write(room.libc(), [&libc[..libc.len() / 2], &[0x90; 1 << 20]].concat())?;
        }
        let mut tool = start(ctx, &["-p", &program.pid().to_string()])?;
        ensure!(tool.said.contains("deleted)"), "{}", tool.said);
        let pid = program.go()?;
        ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
        std::fs::write(room.libc(), &libc)?;
    }
    Ok(())
}

pub(super) fn json(ctx: &mut Ctx) -> CaseResult {
    let room = Room::new(ctx, "json", HOSTS, "files")?;
    let words =
        ["getaddrinfo", "many", "gethostbyname", "localhost", "numeric", "x", "null", "gethostbyaddr", "10.9.9.9"];
    let program = room.start(false, &words)?;
    let mut tool = start(ctx, &["--json", "-a"])?;
    let pid = program.go()?;
    let rows = tool.rows()?;
    let rows = json_rows(&rows)?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row["pid"] == pid).collect();
    ensure_eq!(rows.len(), 5, "{rows:?}");
    let part = |n: usize, key: &str| rows[n][key].clone();
    let mut many: Vec<String> = serde_json::from_value(part(0, "addresses"))?;
    many.sort();
    ensure_eq!(many, ["10.1.2.3", "10.1.2.4", "fd00::5"]);
    ensure!(part(0, "host") == "many" && part(0, "error").is_null() && part(0, "call") == "getaddrinfo", "{rows:?}");
    ensure!(part(1, "call") == "gethostbyname" && part(1, "addresses") == serde_json::json!(["127.0.0.1"]), "{rows:?}");
    ensure!(part(2, "error") == "EAI_NONAME" && part(2, "addresses") == serde_json::json!([]), "{rows:?}");
    ensure!(part(3, "host").is_null() && part(3, "error").is_null(), "{rows:?}");
    ensure!(part(4, "host") == "10.9.9.9" && part(4, "error") == "failed", "{rows:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    for row in &rows {
        let time = u128::from(row["time_ns"].as_u64().unwrap_or_default());
        let latency = row["latency_ns"].as_u64().unwrap_or_default();
        ensure!(now.abs_diff(time) < 60_000_000_000 && (1..10_000_000_000).contains(&latency), "{row}");
        ensure!(row["tid"] == pid && row["comm"] == "lookup", "{row}");
    }
    Ok(())
}

/// No name reaches the terminal as it is, and none is another row.
fn hostile(ctx: &mut Ctx) -> CaseResult {
    let long = [b'x'; 400];
    let names: [&[u8]; 5] = [b"\x1b[2Jevil", b"a\n12:00:00 1 forged", b"\xff\xfe", &long, b""];
    let words: Vec<&OsStr> = names.iter().flat_map(|name| [OsStr::new("numeric"), OsStr::from_bytes(name)]).collect();
    let program = Waiting::start(Command::new(ctx.lookup(false)?), &words)?;
    let mut tool = start(ctx, &[])?;
    let pid = program.go()?;
    let rows = tool.rows()?;
    let found = of(&rows, pid);
    let shown: Vec<&str> = found.iter().map(|row| row.trim_start_matches("- EAI_NONAME").trim_start()).collect();
    let cut = "x".repeat(255);
    ensure_eq!(shown, ["\\u{1b}[2Jevil", "a\\n12:00:00 1 forged", "\\xff\\xfe", cut.as_str(), ""], "{rows:#?}");
    ensure!(rows.iter().all(|row| !row.starts_with("12:00:00 1 forged")), "{rows:#?}");
    Ok(())
}

/// What is said to hold them is never opened, unless an option needs one.
fn without_types(ctx: &mut Ctx) -> CaseResult {
    let program = waiting(ctx, &["numeric", "10.0.0.1"])?;
    let mut tool = start(ctx, &["--btf", "/no/such/file"])?;
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
    let options = ["--btf", "/no/such/file", "--mntnsmap", "/sys/fs/bpf/none", "--ebpf"];
    let output = ctx.bpfkit()?.arg("gethostlatency").args(options).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("/no/such/file"), "{}: {said}", output.status);
    Ok(())
}

/// Each probe takes one, and there are fewer than probes until more are asked for.
fn few_descriptors(ctx: &mut Ctx) -> CaseResult {
    let program = waiting(ctx, &["numeric", "10.0.0.1"])?;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(24), ..before })?;
    let tool = start(ctx, &[]);
    setrlimit(Resource::Nofile, before)?;
    let pid = program.go()?;
    ensure_eq!(of(&tool?.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
    Ok(())
}

/// Probes of ours that are set by text in tracefs.
fn probe_entries() -> Vec<String> {
    let text = std::fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    text.lines().filter(|line| line.contains(":bpfkit/")).map(str::to_owned).collect()
}

/// What is left in the kernel is looked for after each case.
fn sigkill(ctx: &mut Ctx) -> CaseResult {
    let program = waiting(ctx, &["numeric", "10.0.0.1"])?;
    for round in 0..2 {
        let (status, ..) = start(ctx, &[])?.stop(Signal::KILL)?;
        ensure!(!status.success(), "round {round}: {status}");
    }
    // Text in tracefs outlives its process, until the next one comes.
    start(ctx, &TRACEFS)?.stop(Signal::KILL)?;
    ensure!(!probe_entries().is_empty(), "nothing was left to be removed");
    let mut tool = start(ctx, &[])?;
    // A program whose probe was removed is as it was.
    let pid = program.go()?;
    ensure_eq!(of(&tool.rows()?, pid), ["4 10.0.0.1 10.0.0.1"]);
    ensure!(probe_entries().is_empty(), "the next start left {:?}", probe_entries());
    Ok(())
}

fn bad_input(ctx: &mut Ctx) -> CaseResult {
    let directory = ctx.directory().to_owned();
    let (text, cut, stripped) = (directory.join("text"), directory.join("cut"), directory.join("stripped"));
    let room = Room::new(ctx, "bad", HOSTS, "files")?;
    let library = std::fs::read(room.libc())?;
    std::fs::write(&text, "127.0.0.1 localhost\n")?;
    std::fs::write(&cut, &library[..library.len() / 2])?;
    let mut without = library.clone();
    // e_shoff, e_shnum and e_shstrndx of the header: what `strip` of sections leaves.
    without[40..48].fill(0);
    without[60..64].fill(0);
    std::fs::write(&stripped, without)?;
    let path = |path: &std::path::Path| path.display().to_string();
    let (text, cut, stripped, folder) = (path(&text), path(&cut), path(&stripped), path(&directory));
    let interpreter = "/lib64/ld-linux-x86-64.so.2";
    let thread = std::thread::spawn(|| sleep(Duration::from_secs(20)));
    let me = std::process::id();
    let tasks =
        std::fs::read_dir("/proc/self/task")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let tid = tasks.into_iter().find(|tid| *tid != me.to_string()).unwrap_or_default();
    let attempts: [(&[&str], i32, &str); 12] = [
        (&["-p", "0"], 2, "0"),
        (&["--min-ms", "x"], 2, "not a number of milliseconds"),
        (&["-p", "4194303"], 1, "no process 4194303"),
        (&["-p", &tid], 1, "is a thread of process"),
        (&["-p", "2"], 1, "process 2"),
        (&["-l", &folder], 1, "it is a directory"),
        (&["-l", "/no/such/libc.so"], 1, "/no/such/libc.so"),
        (&["-l", &text], 1, "it is no ELF file"),
        (&["-l", &cut], 1, "cut"),
        (&["-l", &stripped], 1, "stripped"),
        (&["-l", interpreter], 1, "has none of getaddrinfo, gethostbyname"),
        (&["-l", "/dev/null"], 1, "no regular file"),
    ];
    for (options, code, part) in attempts {
        let output = ctx.bpfkit()?.arg("gethostlatency").args(options).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{options:?}: {}, not {code}: {said}", output.status);
        ensure!(said.contains(part), "{options:?}: no {part:?} in {said}");
    }
    drop(thread);
    Ok(())
}
