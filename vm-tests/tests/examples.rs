//! The examples of the loader do on this kernel what they say.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

/// The guest, which has probes and passes them at each line that it reads.
const GUEST: &str = env!("CARGO_BIN_EXE_guest");

/// A copy of it, which no other test runs: probes are of files.
fn traced() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("traced");
    // A copy that this process wrote could not run as long as a child of another test holds it open for writing.
    assert!(Command::new("cp").arg(GUEST).arg(&path).status().unwrap().success());
    (directory, path)
}

/// An example that cargo has built; nothing where this user may load no programs.
fn example(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        eprintln!("skipped: it takes root to run the example {name}");
        return None;
    }
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "bpfkit-loader", "--examples"]);
        // They are looked for beside the guest.
        cargo.args(Some("--release").filter(|_| !cfg!(debug_assertions)));
        cargo.status().unwrap().success()
    };
    assert!(BUILT.get_or_init(build), "the examples do not compile");
    Some(Path::new(GUEST).with_file_name("examples").join(name))
}

/// A process that is read from and written to line by line, until the value goes.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Writes a line, and waits for the answer.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.line()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_probe_of_a_program_is_shown_with_its_argument() {
    let Some(usdt) = example("usdt") else { return };
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the traced program has probes on x86-64 only");
        return;
    }
    let (_directory, file) = traced();
    let mut tracer = Process::start(&usdt, &[file.to_str().unwrap(), "bpfkit", "copies", "4"]);
    assert_eq!(tracer.line(), "attached to 2 places of bpfkit:copies");
    let mut traced = Process::start(&file, &["pass-usdt"]);
    for number in ["32766", "32767"] {
        assert_eq!(traced.ask(number), "0");
    }
    let numbers = [32766, 32767, 32767, -32768].map(|number| format!("bpfkit:copies with {number}"));
    assert_eq!(tracer.lines(4), numbers);
    assert!(tracer.child.wait().unwrap().success());
}

#[test]
fn a_function_of_a_running_program_is_shown_with_its_argument() {
    let Some(uprobe) = example("uprobe") else { return };
    let (_directory, file) = traced();
    let mut traced = Process::start(&file, &["pass-usdt"]);
    traced.ask("1");
    let mut tracer = Process::start(&uprobe, &[file.to_str().unwrap(), "write", "2"]);
    assert!(tracer.line().starts_with("attached to write by "));
    traced.ask("2");
    traced.ask("3");
    // Standard output is what it writes to.
    let call = format!("process {} called write(0x1, ..)", traced.child.id());
    assert_eq!(tracer.lines(2), [call.clone(), call]);
}

#[test]
fn programs_that_start_are_shown() {
    let Some(tracepoint) = example("tracepoint") else { return };
    let mut tracer = Process::start(&tracepoint, &["1000"]);
    let attached = tracer.line();
    assert!(attached.starts_with("tracepoint sched:sched_process_exec: by perf"), "{attached}");
    let mut child = Command::new(GUEST).arg("--list").stdout(Stdio::null()).spawn().unwrap();
    let expected = format!("process {} is guest", child.id());
    child.wait().unwrap();
    // Others may start programs, too, but hardly so many.
    assert!((0..1000).any(|_| tracer.line() == expected), "{expected}");
}

#[test]
fn system_calls_are_counted() {
    let Some(count_syscalls) = example("count_syscalls") else { return };
    let line = Process::start(&count_syscalls, &[]).line();
    let count = line.strip_suffix(" system calls in a second").and_then(|count| count.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 0), "{line}");
}

/// Does something while each CPU has something to do: the clock of an idle one may not tick at all.
fn with_busy_cpus<T>(work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let spin = |cpu: u32| {
        let mut only = CpuSet::new();
        only.set(usize::try_from(cpu).unwrap());
        sched_setaffinity(None, &only).unwrap();
        while !is_over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        for cpu in bpfkit_loader::online_cpus().unwrap() {
            let spin = &spin;
            scope.spawn(move || spin(cpu));
        }
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn events_of_all_cpus_come_in_order() {
    let Some(perf_ring) = example("perf_ring") else { return };
    let output = with_busy_cpus(|| Command::new(perf_ring).output()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (cpus, last) = text.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{text}"));
    assert_eq!(last, "0 were lost, and time went backwards 0 times", "{text}");
    // How often the clock of a CPU ticks is up to the machine, which may be a virtual one.
    let events = |line: &str| line.strip_prefix("CPU ")?.split_whitespace().nth(1)?.parse::<u64>().ok();
    let events: Vec<u64> = cpus.lines().map(|line| events(line).unwrap_or_else(|| panic!("{text}"))).collect();
    assert!(events.iter().all(|&count| count > 0) && events.iter().sum::<u64>() > 100, "{text}");
    assert_eq!(cpus.lines().count(), bpfkit_loader::online_cpus().unwrap().len(), "{text}");
}
