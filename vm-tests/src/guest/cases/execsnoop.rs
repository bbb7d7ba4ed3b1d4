//! `bpfkit execsnoop`, end to end.

use std::env;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bpfkit_loader::Feature;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::tcpconnect::{cgroup_root, own_cgroup, own_cgroup_id, set_of};
use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::exec::{Lingering, child, pages};
use crate::guest::sys;
use crate::guest::tool::{Tool, json_rows, need_types, without};
use crate::{ensure, ensure_eq, fail, skip};

type CaseResult = Result<(), Failure>;

pub const CASES: &[Case] = &[
    Case { name: "execsnoop::tracepoint", run: |ctx| end_to_end(ctx, Way::new("tracepoint")) },
    Case { name: "execsnoop::kprobe", run: |ctx| end_to_end(ctx, Way::new("kprobe")) },
    Case { name: "execsnoop::tracepoint_old_kernel", run: |ctx| end_to_end(ctx, Way::old("tracepoint")) },
    Case { name: "execsnoop::kprobe_old_kernel", run: |ctx| end_to_end(ctx, Way::old("kprobe")) },
    Case { name: "execsnoop::tracepoint_without_types", run: |ctx| end_to_end(ctx, Way::untyped("tracepoint")) },
    Case { name: "execsnoop::kprobe_without_types", run: |ctx| end_to_end(ctx, Way::untyped("kprobe")) },
    Case { name: "execsnoop::auto", run: auto },
    Case { name: "execsnoop::failures", run: failures },
    Case { name: "execsnoop::many_and_long_arguments", run: many },
    Case { name: "execsnoop::no_arguments", run: none },
    Case { name: "execsnoop::hostile_arguments", run: hostile },
    Case { name: "execsnoop::a_32_bit_program", run: narrow },
    Case { name: "execsnoop::the_kernels_own_execs", run: of_the_kernel },
    Case { name: "execsnoop::columns", run: columns },
    Case { name: "execsnoop::user", run: user },
    Case { name: "execsnoop::name_and_line", run: name_and_line },
    Case { name: "execsnoop::parent", run: parent },
    Case { name: "execsnoop::cgroups", run: cgroups },
    Case { name: "execsnoop::mntnsmap", run: mntnsmap },
    Case { name: "execsnoop::no_argument_is_missing_in_parallel", run: stress },
    Case { name: "execsnoop::a_burst_is_accounted_for", run: burst },
    Case { name: "execsnoop::an_exec_that_begins_while_it_leaves_is_let_be", run: leaving },
    Case { name: "execsnoop::sigkill_leaves_nothing", run: sigkill },
    Case { name: "execsnoop::bad_input", run: bad_input },
];

/// What a kernel of 4.18 lacks.
const OLD: [&str; 8] =
    ["kprobe-pmu", "probe-read-kernel", "prog-btf", "jmp32", "large-programs", "map-value", "bounded-loops", "fentry"];

/// A probe, and what the kernel is to do without.
#[derive(Clone, Debug)]
struct Way {
    probe: &'static str,
    options: Vec<&'static str>,
    typed: bool,
}

impl Way {
    fn new(probe: &'static str) -> Self {
        Self { probe, options: vec!["--probe", probe], typed: true }
    }

    fn old(probe: &'static str) -> Self {
        let mut way = Self::new(probe);
        way.options.extend(without(&OLD));
        way
    }

    fn untyped(probe: &'static str) -> Self {
        let mut way = Self::old(probe);
        way.options.extend(["--without", "kernel-btf"]);
        Self { typed: false, ..way }
    }

    /// Skips where the kernel lacks what the probe needs.
    fn need(&self, ctx: &Ctx) -> CaseResult {
        match ctx.target()?.require(Feature::Kprobes) {
            Err(error) if self.probe == "kprobe" => skip!("{error}"),
            _ if self.typed && ctx.btf().is_none() && !ctx.target()?.has(Feature::KernelBtf) => {
                skip!("the kernel has no types")
            }
            _ => Ok(()),
        }
    }

    /// Those that this kernel can go.
    fn all(ctx: &Ctx) -> Vec<Self> {
        let ways = ["tracepoint", "kprobe"].into_iter().flat_map(|probe| [Self::new(probe), Self::untyped(probe)]);
        ways.filter(|way| way.need(ctx).is_ok()).collect()
    }
}

/// Runs the tool with JSON while something is done, and gives the rows of each of the processes that did it.
fn traced<const N: usize>(
    ctx: &Ctx,
    way: &Way,
    more: &[&str],
    done: impl FnOnce() -> Result<[u32; N], Failure>,
) -> Result<[Vec<Row>; N], Failure> {
    let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--json"], more].concat())?;
    ensure!(tool.said.contains(&format!("attached by {}", way.probe)), "{}", tool.said);
    let pids = done()?;
    let rows = json_rows(&tool.rows()?)?;
    Ok(pids.map(|pid| rows.iter().filter(|row| row["pid"] == pid).cloned().map(Row).collect()))
}

/// A row of JSON.
struct Row(Value);

impl Row {
    fn check(&self, ret: i32, args: &[&str]) -> CaseResult {
        ensure_eq!(self.0["args"], json!(args), "arguments in {}", self.0);
        ensure_eq!(self.0["ret"], json!(ret), "result in {}", self.0);
        Ok(())
    }
}

/// This program, which is what all processes run.
fn exe() -> Result<String, Failure> {
    Ok(env::current_exe()?.display().to_string())
}

/// The name of a process that runs this.
fn comm(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().chars().take(15).collect()
}

/// Has a child run this program with these arguments in some way.
fn run(how: &str, words: &[&str]) -> Result<u32, Failure> {
    let words: Vec<&[u8]> = ["exec", how].iter().chain(words).map(|word| word.as_bytes()).collect();
    child(None, &words)
}

/// Has a child run this program in some way, and stay until the value in the list goes.
fn linger(list: &mut Vec<Lingering>, how: &str, words: &[&str]) -> Result<u32, Failure> {
    let words: Vec<&[u8]> = ["exec", how].iter().chain(words).map(|word| word.as_bytes()).collect();
    list.push(Lingering::start(None, &words)?);
    Ok(list[list.len() - 1].pid())
}

fn end_to_end(ctx: &Ctx, way: Way) -> CaseResult {
    way.need(ctx)?;
    let (exe, me) = (exe()?, std::process::id());
    let script = ctx.directory().join("script");
    fs::write(&script, format!("#!{exe} linger\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let script = script.display().to_string();
    let words = [exe.as_str(), "linger", "one", "t w o", ""];
    let ways = ["plain", "fd", "at", "thread"];
    // One that is no script, though its arguments look like those of one.
    let mut renamed = Command::new(&exe);
    renamed.arg0("other").args([&exe, "x"]).stderr(Stdio::null());
    let mut lingering = Vec::new();
    let [plain, fd, at, thread, scripted, renamed] = traced(ctx, &way, &[], || {
        let [plain, fd, at, thread] = ways.map(|how| linger(&mut lingering, how, &words));
        let scripted = linger(&mut lingering, "plain", &[&script, "a", &script, "b"])?;
        let mut renamed = renamed.spawn()?;
        renamed.wait()?;
        Ok([plain?, fd?, at?, thread?, scripted, renamed.id()])
    })?;
    drop(lingering);
    ensure!(renamed.len() == 1, "{} rows, not 1", renamed.len());
    renamed[0].check(0, &[&exe, &exe, "x"])?;
    for (how, rows) in ways.into_iter().zip([plain, fd, at, thread]) {
        let [first, second] = rows.as_slice() else {
            return Err(Failure::Fail(format!("{how}: {} rows, not 2", rows.len())));
        };
        first.check(0, &[&[exe.as_str(), "exec", how], &words[..]].concat())?;
        // The kernel calls what it is given by descriptor /dev/fd/N or /dev/fd/N/PATH; who sees the call sees what it was given.
        let name = second.0["args"][0].as_str().unwrap_or_default();
        let fits = match (how, way.typed || way.probe == "tracepoint") {
            ("fd" | "at", true) => name.starts_with("/dev/fd/"),
            ("fd", false) => name.is_empty(),
            ("at", false) => format!("/{name}") == exe,
            _ => name == exe && second.0["comm"] == comm(&exe),
        };
        ensure!(fits, "{how}: {}", second.0);
        second.check(0, &[&[name], &words[1..]].concat())?;
        for row in [first, second] {
            ensure!(row.0["uid"] == 0 && row.0["more_args"] == false, "{}", row.0);
            let unknown = !way.typed && row.0["ppid"].is_null();
            ensure!(row.0["ppid"] == me || unknown, "parent {me} in {}", row.0);
        }
        // It is there until everybody has looked it up.
        ensure_eq!(second.0["ppid"], json!(me), "parent in {}", second.0);
    }
    ensure!(scripted.len() == 2, "{} rows, not 2", scripted.len());
    scripted[1].check(0, &[&script, "a", &script, "b"])?;
    ensure_eq!(scripted[1].0["comm"], json!("script"));
    Ok(())
}

/// The first that works is taken, and what it lacks is told.
fn auto(ctx: &mut Ctx) -> CaseResult {
    let tool = Tool::start(ctx, "execsnoop", &[])?;
    ensure!(tool.said.contains("attached by tracepoint"), "{}", tool.said);
    let has_types = ctx.btf().is_some() || ctx.target()?.has(Feature::KernelBtf);
    ensure!(tool.said.contains("read at the entry") != has_types, "{}", tool.said);
    if ctx.btf().is_none() {
        let tool = Tool::start(ctx, "execsnoop", &["--without", "kernel-btf"])?;
        ensure!(tool.said.contains("arguments are read at the entry"), "{}", tool.said);
    }
    Ok(())
}

/// Failures are shown with -x, and with their arguments, also where those are nowhere; without it they are not.
fn failures(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    let plain = ctx.directory().join("plain");
    fs::write(&plain, "text")?;
    let plain = plain.display().to_string();
    let attempts = [
        ("plain", "/no/such/file", -libc::ENOENT),
        ("at", "/no/such/file", -libc::ENOENT),
        ("thread", "/no/such/file", -libc::ENOENT),
        ("plain", &plain, -libc::EACCES),
    ];
    for way in Way::all(ctx) {
        let [no_file, at, thread, no_right, fault, nowhere] = traced(ctx, &way, &["-x"], || {
            let [no_file, at, thread, no_right] = attempts.map(|(how, path, _)| run(how, &[path, "a", "", "b"]));
            Ok([no_file?, at?, thread?, no_right?, run("fault", &[&exe, "a"])?, run("nowhere", &[&exe, "a"])?])
        })?;
        for ((how, path, ret), rows) in attempts.into_iter().zip([no_file, at, thread, no_right]) {
            ensure!(rows.len() == 2, "{way:?} {how}: {} rows, not 2", rows.len());
            let shown = if how == "at" { &path[1..] } else { path };
            rows[1].check(ret, &[shown, "a", "", "b"])?;
            ensure_eq!(rows[1].0["comm"], json!(comm(&exe)));
        }
        for (rows, more) in [(fault, false), (nowhere, true)] {
            ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
            let row = &rows[1].0;
            ensure!(row["ret"] == -libc::EFAULT && row["args"] == json!([exe, null]), "{row}");
            ensure!(row["more_args"] == more, "{row}");
        }
        let [rows] = traced(ctx, &way, &[], || Ok([run("plain", &["/no/such/file", "a"])?]))?;
        ensure!(rows.len() == 1 && rows[0].0["ret"] == 0, "{way:?} without -x: {} rows, not 1", rows.len());
    }
    Ok(())
}

/// A hundred arguments, one of them long: as many as are asked for, and the rest is told.
fn many(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    let long = "L".repeat(5000);
    let numbers: Vec<String> = (0..98).map(|number| format!("arg{number}")).collect();
    let mut words: Vec<&str> = vec![&exe, "idle"];
    words.extend(numbers.iter().map(String::as_str));
    words[10] = &long;
    let cut = format!("{}...", "L".repeat(128));
    for way in [Way::all(ctx), vec![Way::old("tracepoint")]].concat() {
        if way.need(ctx).is_err() {
            continue;
        }
        let many: &[usize] = if way.typed && way.options.len() == 2 { &[1, 3, 20, 59, 60] } else { &[60] };
        for &most in many {
            let option = most.to_string();
            let options: &[&str] = if most == 20 { &[] } else { &["--max-args", &option] };
            let [rows] = traced(ctx, &way, options, || Ok([run("plain", &words)?]))?;
            ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
            let expected: Vec<&str> = words.iter().map(|word| if word.len() > 128 { &cut } else { *word }).collect();
            rows[1].check(0, &expected[..most])?;
            ensure!(rows[1].0["more_args"] == true, "{}", rows[1].0);
        }
        // Not one more than are shown.
        let [rows] = traced(ctx, &way, &["--max-args", "60"], || Ok([run("plain", &words[..60])?]))?;
        ensure!(rows.len() == 2 && rows[1].0["more_args"] == false, "{way:?}: {} rows, not 2", rows.len());
        ensure_eq!(rows[1].0["args"].as_array().map(Vec::len), Some(60));
    }
    Ok(())
}

/// No vector and an empty one. From Linux 5.18 on the kernel puts an empty string there.
fn none(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    for way in Way::all(ctx) {
        let both = traced(ctx, &way, &[], || Ok([run("null", &[&exe])?, run("empty", &[&exe])?]))?;
        for rows in both {
            ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
            rows[1].check(0, &[&exe])?;
            ensure!(rows[1].0["more_args"] == false, "{}", rows[1].0);
        }
    }
    Ok(())
}

/// What a process is given cannot write to the terminal, forge a row, or break JSON; and an empty argument is seen.
fn hostile(ctx: &mut Ctx) -> CaseResult {
    let exe = exe()?;
    let link = ctx.directory().join("e\x1b[2J\n");
    symlink(&exe, &link)?;
    let args: [&[u8]; 7] = [b"\n0", b"\x1b[2J", b"\xff\xfe", b"", b"a\"b", b"\\", "größe".as_bytes()];
    let name = [&b"exec"[..], b"plain", link.as_os_str().as_bytes(), b"idle"];
    let words: Vec<&[u8]> = name.into_iter().chain(args).collect();
    let path = format!("{}/e\\u{{1b}}[2J\\n", ctx.directory().display());
    for way in Way::all(ctx) {
        for (options, quote) in [(&[][..], ""), (&["-q"], "\"")] {
            let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], options].concat())?;
            let pid = child(None, &words)?.to_string();
            let rows = tool.rows()?;
            let row = rows.iter().rfind(|row| row.split_whitespace().nth(1) == Some(&pid));
            let row = row.ok_or_else(|| Failure::Fail(format!("{way:?}: no row of {pid}: {rows:#?}")))?;
            let inner = if quote.is_empty() { "a\"b" } else { "a\\\"b" };
            let shown = [&path, "idle", "\\n0", "\\u{1b}[2J", "\\xff\\xfe", "", inner, "\\\\", "größe"];
            let shown = shown.map(|arg| if arg.is_empty() { "\"\"".into() } else { format!("{quote}{arg}{quote}") });
            ensure!(row.starts_with("e\\u{1b}[2J\\n "), "{row:?}");
            ensure!(row.ends_with(&format!("  0 {}", shown.join(" "))), "{row:?} does not end with {shown:?}");
        }
        let [rows] = traced(ctx, &way, &[], || Ok([child(None, &words)?]))?;
        let last = rows.last().ok_or_else(|| Failure::Fail(format!("{way:?}: no row")))?;
        last.check(0, &[&path, "idle", "\\n0", "\\u{1b}[2J", "\\xff\\xfe", "", "a\"b", "\\\\", "größe"])?;
    }
    Ok(())
}

fn half(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn whole(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Makes a program of these bytes, and says where it is.
fn kept(ctx: &Ctx, name: &str, program: &[u8]) -> Result<String, Failure> {
    let path = ctx.directory().join(name);
    fs::write(&path, program)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path.display().to_string())
}

/// A program that ends at once, for who runs many: one of a few bytes is begun much sooner than this one by an emulated processor.
fn brief(ctx: &Ctx) -> Result<String, Failure> {
    if !cfg!(target_arch = "x86_64") {
        return exe();
    }
    let code = [0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]; // eax = 60; edi = 0; syscall: exit(0)
    let length: u32 = 120 + 9;
    let program = [
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"[..],
        &half(&[2, 62]),                                       // ET_EXEC, EM_X86_64
        &whole(&[1, 0x0040_0078, 0, 64, 0, 0, 0, 0]),          // entry, program headers
        &half(&[64, 56, 1, 0, 0, 0]),                          // sizes and numbers of headers
        &whole(&[1, 5, 0, 0, 0x0040_0000, 0, 0x0040_0000, 0]), // PT_LOAD, to be read and run
        &whole(&[length, 0, length, 0, 0x1000, 0]),
        &code,
    ]
    .concat();
    kept(ctx, "brief", &program)
}

/// A program of 32 bits that ends at once. The tracepoint at the end of its exec is silent.
fn narrow(ctx: &mut Ctx) -> CaseResult {
    if !cfg!(target_arch = "x86_64") {
        skip!("the program is one of x86");
    }
    let code = [0x31, 0xc0, 0x40, 0x31, 0xdb, 0xcd, 0x80]; // eax = 1; ebx = 0; int 0x80: exit(0)
    let length: u32 = 84 + 7;
    let program = [
        &b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0"[..],
        &half(&[2, 3]),                                                       // ET_EXEC, EM_386
        &whole(&[1, 0x0804_8054, 52, 0, 0]),                                  // entry, program headers
        &half(&[52, 32, 1, 0, 0, 0]),                                         // sizes and numbers of headers
        &whole(&[1, 0, 0x0804_8000, 0x0804_8000, length, length, 5, 0x1000]), // PT_LOAD
        &code,
    ]
    .concat();
    let path = kept(ctx, "narrow", &program)?;
    for way in [Way::all(ctx), vec![Way::old("tracepoint")]].concat() {
        if way.need(ctx).is_err() {
            continue;
        }
        let [rows] = traced(ctx, &way, &["-x"], || Ok([run("plain", &[&path, "one", "", "two"])?]))?;
        ensure!(rows.len() == 2, "{way:?}: {} rows, not 2", rows.len());
        if rows[1].0["ret"] == -libc::ENOEXEC {
            skip!("this kernel runs no 32-bit programs");
        }
        rows[1].check(0, &[&path, "one", "", "two"])?;
        ensure_eq!(rows[1].0["comm"], json!("narrow"));
    }
    Ok(())
}

/// What the kernel runs of itself, without any system call: modprobe, for a file system that it does not know.
fn of_the_kernel(ctx: &mut Ctx) -> CaseResult {
    const MODPROBE: &str = "/proc/sys/kernel/modprobe";
    let Ok(before) = fs::read(MODPROBE) else { skip!("this kernel has no modules") };
    if !ctx.is_vm() {
        skip!("this machine's modules are its own");
    }
    let exe = exe()?;
    fs::write(MODPROBE, &exe)?;
    let result = (|| {
        for way in Way::all(ctx).into_iter().filter(|way| way.typed) {
            let mut tool = Tool::start(ctx, "execsnoop", &way.options)?;
            ensure!(sys::mount("nosuchfs", ctx.directory()).is_err());
            let rows = tool.rows()?;
            let expected = format!("  0 {exe} -q -- fs-nosuchfs");
            ensure!(rows.iter().any(|row| row.ends_with(&expected)), "{way:?}: {rows:#?}");
        }
        Ok(())
    })();
    fs::write(MODPROBE, before)?;
    result
}

fn columns(ctx: &mut Ctx) -> CaseResult {
    let mntns = fs::metadata("/proc/self/ns/mnt")?.ino().to_string();
    for way in Way::all(ctx) {
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["-T", "-t", "-U", "-C", "-M"]].concat())?;
        let lingering = Lingering::start(Some(4_294_967_000), &[b"linger", b"x"])?;
        let pid = lingering.pid().to_string();
        let rows = tool.rows()?;
        drop(lingering);
        let header = "TIME     TIME(s) UID   PCOMM            PID     PPID    CPU MNTNS      RET ARGS";
        ensure_eq!(rows.first().map(String::as_str), Some(header));
        let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.split_whitespace().collect()).collect();
        let row = rows.iter().find(|row| row.get(4) == Some(&pid.as_str()));
        let row = row.ok_or_else(|| Failure::Fail(format!("{way:?}: no row of {pid}: {rows:?}")))?;
        let (exe, me) = (exe()?, std::process::id().to_string());
        let is_time = row[0].len() == 8 && row[0].as_bytes()[2] == b':' && row[1].parse::<f64>().is_ok();
        let expected = ["4294967000", &comm(&exe), &pid, &me];
        ensure!(is_time && row[2..6] == expected, "{row:?}");
        let cpu: Option<u32> = row[6].parse().ok();
        ensure!(cpu.is_some_and(|cpu| bpfkit_loader::possible_cpus().is_ok_and(|cpus| cpus.contains(&cpu))), "{row:?}");
        ensure!(row[7] == mntns && row[8..] == ["0", &exe, "linger", "x"], "{row:?}");
        // Without options, the columns are the ones that bcc's users know.
        let mut tool = Tool::start(ctx, "execsnoop", &way.options)?;
        ensure_eq!(tool.line()?, "PCOMM            PID     PPID    RET ARGS\n");
        tool.stop(Signal::INT)?;
    }
    Ok(())
}

/// Runs the tool with options that fit and with some that do not: the row is there, and then is not. Other probes have the same
/// filters.
fn both(ctx: &Ctx, user: Option<u32>, fits: &[&str], not: &[&str]) -> CaseResult {
    // Who looks up the parent in /proc finds it as long as the process is there.
    let word: &[u8] = if fits[0] == "-P" { b"linger" } else { b"idle" };
    for way in Way::all(ctx).into_iter().filter(|way| way.probe == "tracepoint") {
        for (options, expected) in [(fits, 1), (not, 0)] {
            let failing = [&b"exec"[..], b"plain", b"/no/such/idle", b"one", b"two"];
            let mut lingering = None;
            let [rows, failed] = traced(ctx, &way, &[options, &["-x"]].concat(), || {
                let started = lingering.insert(Lingering::start(user, &[word, b"one", b"two"])?);
                Ok([started.pid(), child(user, &failing)?])
            })?;
            drop(lingering);
            ensure!(rows.len() == expected, "{way:?} {options:?}: {} rows, not {expected}", rows.len());
            let found = failed.iter().filter(|row| row.0["ret"] == -libc::ENOENT).count();
            // The line of that is another one, and nobody may have had the time to look up its parent.
            let fits = found == expected || fits[0] == "-l" || (fits[0] == "-P" && !way.typed);
            ensure!(fits, "{way:?} {options:?}: {found} failures, not {expected}");
        }
    }
    Ok(())
}

fn user(ctx: &mut Ctx) -> CaseResult {
    both(ctx, Some(1234), &["-u", "1234"], &["-u", "0"])
}

fn name_and_line(ctx: &mut Ctx) -> CaseResult {
    let name = regex_of(&comm(&exe()?));
    both(ctx, None, &["-n", &format!("^{name}$")], &["-n", "^no such name$"])?;
    both(ctx, None, &["-l", "^two$"], &["-l", "^tw$"])?;
    both(ctx, None, &["-l", "idle one t"], &["-l", "one  two"])
}

/// A text as a regular expression that matches it.
fn regex_of(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c])).collect()
}

fn parent(ctx: &mut Ctx) -> CaseResult {
    both(ctx, None, &["-P", &std::process::id().to_string()], &["-P", "1"])
}

/// The directory that this process is in, and an empty one; a set with its number, and one with another.
fn cgroups(ctx: &mut Ctx) -> CaseResult {
    let own = own_cgroup()?;
    let empty = cgroup_root()?.join(format!("bpfkit-{}", std::process::id()));
    fs::create_dir(&empty)?;
    let result = both(ctx, None, &["-c", &own.display().to_string()], &["-c", &empty.display().to_string()]);
    fs::remove_dir(&empty)?;
    result?;
    with_set(ctx, "--cgroupmap", own_cgroup_id(ctx)?)
}

fn with_set(ctx: &Ctx, option: &str, key: u64) -> CaseResult {
    let (ours, other) = (set_of(ctx, "ours", key)?, set_of(ctx, "other", key + 1)?);
    let (ours, other) = (ours.path.display().to_string(), other.path.display().to_string());
    both(ctx, None, &[option, &ours], &[option, &other])
}

/// It takes the kernel's types, and is told so without them.
fn mntnsmap(ctx: &mut Ctx) -> CaseResult {
    need_types(ctx)?;
    let key = fs::metadata("/proc/self/ns/mnt")?.ino();
    let (ours, other) = (set_of(ctx, "ours", key)?, set_of(ctx, "other", key + 1)?);
    let (ours, other) = (ours.path.display().to_string(), other.path.display().to_string());
    for way in Way::all(ctx) {
        if !way.typed && ctx.btf().is_none() {
            let tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--mntnsmap", &ours]].concat())?;
            ensure!(tool.said.contains("--btf FILE names a file"), "{}", tool.said);
            continue;
        }
        for (path, expected) in [(&ours, 1), (&other, 0)] {
            let [rows] = traced(ctx, &way, &["--mntnsmap", path], || Ok([child(None, &[b"idle"])?]))?;
            ensure!(rows.len() == expected, "{way:?}: {} rows, not {expected}", rows.len());
        }
    }
    Ok(())
}

/// Many at one time, each with a vector and strings that are in pages of a file which nobody has touched: a probe at the entry
/// would find none of them. Each argument is compared with what was run.
fn stress(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 6;
    let brief = brief(ctx)?;
    let rounds = if ctx.is_vm() { 6 } else { 60 };
    for way in [Way::all(ctx), vec![Way::old("tracepoint")]].concat() {
        if way.need(ctx).is_err() {
            continue;
        }
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--json", "--max-args", "60"]].concat())?;
        let argv = |worker: usize, round: usize| -> Vec<String> {
            let count = 1 + (worker * 7 + round * 11) % 57;
            let numbers = (0..count).map(|n| format!("{}-{worker}-{round}-{n}", "z".repeat((n * 13) % 90)));
            [brief.clone(), "idle".to_owned()].into_iter().chain(numbers).collect()
        };
        let mut rows: Vec<Value> = Vec::new();
        let directory = ctx.directory().to_owned();
        let ran = std::thread::scope(|scope| {
            let worker = |worker: usize| {
                let (directory, brief, argv) = (&directory, &brief, &argv);
                move || -> Result<Vec<(u32, Vec<String>)>, Failure> {
                    let mut ran = Vec::new();
                    for round in 0..rounds {
                        let argv = argv(worker, round);
                        let bytes: Vec<Vec<u8>> = argv.iter().map(|arg| arg.as_bytes().to_vec()).collect();
                        let file = directory.join(format!("{worker}-{round}"));
                        fs::write(&file, pages(&bytes))?;
                        let words = [&b"exec"[..], b"paged", file.as_os_str().as_bytes(), brief.as_bytes()];
                        ran.push((child(None, &words)?, argv));
                        fs::remove_file(&file)?;
                    }
                    Ok(ran)
                }
            };
            let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(worker(number))).collect();
            let over = scope.spawn(move || {
                let ran = workers.into_iter().map(|worker| worker.join());
                let ran: Vec<_> = ran.map(|ran| ran.unwrap_or_else(|_| Err(Failure::Fail("panic".into())))).collect();
                child(None, &[b"idle", b"over"]).map(|_| ran)
            });
            read_until_over(&mut tool, &mut rows)?;
            over.join().unwrap_or_else(|_| Err(Failure::Fail("panic".into())))
        })?;
        let (status, _, said) = tool.stop(Signal::INT)?;
        // Entries are looked at only where there are no types; and what others run on this machine may be under way.
        let is_other = |what: &str| {
            what.starts_with("entries missed") && !way.typed || what.starts_with("execs without") && !ctx.is_vm()
        };
        let told = counts(&said).filter(|(_, what)| !is_other(what)).count();
        ensure!(status.success() && told == 0, "{way:?}: {status}: {said}");
        let ran: Vec<_> = ran.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        ensure_eq!(ran.len(), WORKERS * rounds);
        for (pid, argv) in ran {
            let of_pid: Vec<&Value> = rows.iter().filter(|row| row["pid"] == pid).collect();
            // The last, because of the one before, `guest exec`, too it may be that nothing could be read.
            let found = of_pid.iter().rfind(|row| row["args"][1] != "exec").map(|row| &row["args"]);
            if way.typed {
                ensure_eq!(found, Some(&json!(argv)), "{way:?}: arguments of {pid} in {of_pid:?}");
            } else {
                // Where they could not be read that is told, and none is wrong.
                let args = found.and_then(Value::as_array).ok_or_else(|| Failure::Fail(format!("no row of {pid}")))?;
                let fits = args.iter().zip(&argv).all(|(arg, ran)| arg == ran || arg.is_null());
                ensure!(fits && (args.len() == argv.len() || args.contains(&Value::Null)), "{args:?}, not {argv:?}");
            }
        }
    }
    Ok(())
}

/// What is told of in numbers: `bpfkit: 3 execs lost`.
fn counts(said: &str) -> impl Iterator<Item = (usize, &str)> {
    let told = said.lines().filter_map(|line| line.strip_prefix("bpfkit: ")?.split_once(' '));
    told.filter_map(|(number, what)| Some((number.parse().ok()?, what)))
}

/// Reads rows up to that of `guest idle over`, which is run after everything else.
fn read_until_over(tool: &mut Tool, rows: &mut Vec<Value>) -> CaseResult {
    loop {
        let line = tool.line()?;
        if line.is_empty() {
            let (status, _, said) = tool.stop(Signal::INT)?;
            fail!("it ended with {status}: {said}");
        }
        let row: Value = serde_json::from_str(&line)?;
        if row["args"][2] == "over" {
            return Ok(());
        }
        rows.push(row);
    }
}

/// What was run is what is shown and what is told to be lost, to the last one.
fn burst(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 4;
    let count = if ctx.is_vm() { 200 } else { 20_000 };
    let brief = brief(ctx)?;
    for way in Way::all(ctx).into_iter().filter(|way| way.typed) {
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["--json"]].concat())?;
        let mut rows = Vec::new();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let brief = &brief;
                    scope.spawn(move || {
                        (worker..count).step_by(WORKERS).try_for_each(|number| -> CaseResult {
                            let status = Command::new(brief).args(["idle", "burst", &number.to_string()]).status()?;
                            ensure!(status.success(), "{brief}: {status}");
                            Ok(())
                        })
                    })
                })
                .collect();
            let over = scope.spawn(move || {
                let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
                child(None, &[b"idle", b"over"])?;
                results.into_iter().try_for_each(|result| result.unwrap_or(Err(Failure::Fail("panic".into()))))
            });
            read_until_over(&mut tool, &mut rows)?;
            over.join().unwrap_or(Err(Failure::Fail("panic".into())))
        })?;
        let (status, _, said) = tool.stop(Signal::INT)?;
        ensure!(status.success(), "{status}: {said}");
        let number = |row: &Value| row["args"][3].as_str().and_then(|number| number.parse::<usize>().ok());
        let mut shown: Vec<usize> = rows.iter().filter(|row| row["args"][2] == "burst").filter_map(number).collect();
        shown.sort_unstable();
        let lost: usize = counts(&said).map(|(number, _)| number).sum();
        ensure_eq!(shown.len() + lost, count, "{way:?}: {} shown and {lost} lost: {said}", shown.len());
        shown.dedup();
        ensure_eq!(shown.len() + lost, count, "{way:?}: one was shown twice");
    }
    Ok(())
}

/// Detaching takes the kernel a while, in which programs are run as ever: at each moment one by each worker.
fn leaving(ctx: &mut Ctx) -> CaseResult {
    const WORKERS: usize = 3;
    // Others run programs too, where there are others.
    let most = if ctx.is_vm() { WORKERS } else { WORKERS + 8 };
    let way = Way::untyped("tracepoint");
    way.need(ctx)?;
    let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["-x"]].concat())?;
    let is_over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        child(None, &[b"idle"])?;
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let stopped = tool.stop(Signal::INT);
        is_over.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(Failure::Fail("panic".into()))))?;
        let (status, _, said) = stopped?;
        ensure!(status.success(), "{status}: {said}");
        Ok(said)
    })?;
    let left = counts(&said).find(|(_, what)| what.starts_with("execs without")).map_or(0, |(number, _)| number);
    ensure!(left <= most, "{left} are left: {said}");
    Ok(())
}

/// What is left in the kernel is looked for after each case.
fn sigkill(ctx: &mut Ctx) -> CaseResult {
    for way in Way::all(ctx) {
        let mut tool = Tool::start(ctx, "execsnoop", &[&way.options[..], &["-x"]].concat())?;
        let (status, ..) = tool.stop(Signal::KILL)?;
        ensure!(!status.success(), "{status}");
        // Text in tracefs outlives its process, until the next one comes.
        Tool::start(ctx, "execsnoop", &[&way.options[..], &["-x"]].concat())?.stop(Signal::INT)?;
    }
    Ok(())
}

fn bad_input(ctx: &mut Ctx) -> CaseResult {
    let garbage = ctx.directory().join("garbage");
    fs::write(&garbage, [0x5a; 4096])?;
    let garbage = garbage.display().to_string();
    let attempts: [(&[&str], i32, &str); 9] = [
        (&["-n", "("], 2, "'('"),
        (&["-l", "[a"], 2, "'[a'"),
        (&["-u", "no such user"], 2, "no such user"),
        (&["--max-args", "0"], 2, "0"),
        (&["--max-args", "61"], 2, "61"),
        (&["-P", "x"], 2, "'x'"),
        (&["-c", "/proc"], 1, "/proc is not a cgroup v2 directory"),
        (&["--cgroupmap", "/sys/fs/bpf/no-such-map"], 1, "no-such-map"),
        (&["--btf", &garbage], 1, "not BTF"),
    ];
    for (options, code, part) in attempts {
        let output = ctx.bpfkit()?.arg("execsnoop").args(options).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{options:?}: {}, not {code}: {said}", output.status);
        ensure!(said.contains(part), "{options:?}: no {part:?} in {said}");
    }
    Ok(())
}
