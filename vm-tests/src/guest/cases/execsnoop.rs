//! `bpfkit execsnoop`, end to end.

mod arguments;
mod filters;
mod load;
mod tiny;

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bpfkit_loader::Feature;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::exec::{Lingering, child};
use crate::guest::sys;
use crate::guest::tool::{Tool, json_rows, without};
use crate::{ensure, ensure_eq, skip};

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
    Case { name: "execsnoop::many_and_long_arguments", run: arguments::many },
    Case { name: "execsnoop::no_arguments", run: arguments::none },
    Case { name: "execsnoop::hostile_arguments", run: arguments::hostile },
    Case { name: "execsnoop::a_32_bit_program", run: narrow },
    Case { name: "execsnoop::the_kernels_own_execs", run: of_the_kernel },
    Case { name: "execsnoop::columns", run: columns },
    Case { name: "execsnoop::user", run: filters::user },
    Case { name: "execsnoop::name_and_line", run: filters::name_and_line },
    Case { name: "execsnoop::parent", run: filters::parent },
    Case { name: "execsnoop::cgroups", run: filters::cgroups },
    Case { name: "execsnoop::mntnsmap", run: filters::mntnsmap },
    Case { name: "execsnoop::no_argument_is_missing_in_parallel", run: load::stress },
    Case { name: "execsnoop::a_burst_is_accounted_for", run: load::burst },
    Case { name: "execsnoop::an_exec_that_begins_while_it_leaves_is_let_be", run: load::leaving },
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

    /// The same, and tracepoints without what old kernels lack.
    fn all_and_old(ctx: &Ctx) -> Vec<Self> {
        let old = Some(Self::old("tracepoint")).filter(|way| way.need(ctx).is_ok());
        Self::all(ctx).into_iter().chain(old).collect()
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

/// A program of 32 bits that ends at once. The tracepoint at the end of its exec is silent.
fn narrow(ctx: &mut Ctx) -> CaseResult {
    if !cfg!(target_arch = "x86_64") {
        skip!("the program is one of x86");
    }
    let path = tiny::of_32_bits(ctx)?;
    for way in Way::all_and_old(ctx) {
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
