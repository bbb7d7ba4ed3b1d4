//! The tool under test as a process, and processes that connect for it to see.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bpfkit_loader::{Feature, Map};
use rustix::process::{Pid, Signal, kill_process};

use super::case::{Ctx, Failure, need};
use crate::{ensure, skip};

/// What `guest connect ADDRESS..` does: connects to each in turn and prints the local address, or the error.
pub fn connect(addresses: &[&str]) -> ExitCode {
    for address in addresses {
        let Ok(address) = address.parse::<SocketAddr>() else { return ExitCode::from(2) };
        match TcpStream::connect_timeout(&address, Duration::from_secs(30)) {
            Ok(stream) => println!("{}", stream.local_addr().map_or("?".to_owned(), |local| local.to_string())),
            Err(error) => println!("error {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// What `guest parent PROGRAM ARGUMENT..` does: starts it, says which process it is, and reads what it prints, until it ends.
pub fn parent(words: &[&str]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else { return ExitCode::from(2) };
    match Command::new(program).args(arguments).stdout(Stdio::piped()).spawn() {
        Ok(child) => {
            println!("{}", child.id());
            let _ = child.wait_with_output();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("guest: cannot start {program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A child that connects to these addresses, as this user where one is given. Its pid, and the local addresses that it had.
pub fn connect_child(user: Option<u32>, to: &[SocketAddr]) -> Result<(u32, Vec<String>), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("connect").args(to.iter().map(SocketAddr::to_string)).stdout(Stdio::piped());
    if let Some(user) = user {
        command.uid(user);
    }
    let child = command.spawn()?;
    let pid = child.id();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the child: {}", output.status);
    Ok((pid, String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()))
}

/// A listener at a free port of this address.
pub fn listen(address: IpAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(SocketAddr::new(address, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What a kernel of 4.18 lacks: the PMU, a helper for each memory, source lines, 32-bit comparisons, trampolines.
pub const OLD_KERNEL: [&str; 5] = ["kprobe-pmu", "probe-read-kernel", "prog-btf", "jmp32", "fentry"];

/// The options that make a tool do without these features.
pub fn without<'a>(features: &[&'a str]) -> Vec<&'a str> {
    features.iter().flat_map(|feature| ["--without", feature]).collect()
}

/// Skips the case of a tool that nothing but types tells where things are, where there are none.
///
/// # Errors
/// That there are none.
pub fn need_types(ctx: &Ctx) -> Result<(), Failure> {
    if ctx.target()?.btf().is_err() {
        skip!("there is no BTF");
    }
    Ok(())
}

/// Skips where the kernel lacks what a probe of this name needs.
///
/// # Errors
/// Fails the case on a machine that the loader does not know.
pub fn need_probe(ctx: &Ctx, probe: &str) -> Result<(), Failure> {
    let features: &[Feature] = match probe {
        "kprobe" => &[Feature::Kprobes],
        "fentry" => &[Feature::Fentry],
        _ => &[],
    };
    need(&ctx.target()?, features)
}

/// Rows of JSON.
///
/// # Errors
/// Fails the case at one that is none.
pub fn json_rows(rows: &[String]) -> Result<Vec<serde_json::Value>, Failure> {
    Ok(rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>()?)
}

/// A tool that runs.
pub struct Tool {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
    /// What it said on stderr until it was attached.
    pub said: String,
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tool {
    /// Starts it and waits until it says that it is attached, or has ended.
    ///
    /// # Errors
    /// Skips the case when there is no binary.
    pub fn start(ctx: &Ctx, name: &str, arguments: &[&str]) -> Result<Self, Failure> {
        Self::start_as(ctx, name, arguments, &|_| {})
    }

    /// The same in surroundings that `prepare` makes for it alone.
    ///
    /// # Errors
    /// Skips the case when there is no binary.
    pub fn start_as(
        ctx: &Ctx,
        name: &str,
        arguments: &[&str],
        prepare: &dyn Fn(&mut Command),
    ) -> Result<Self, Failure> {
        // A tool that is to do without types, or has others, is not given any.
        let untyped =
            arguments.windows(2).any(|pair| pair == ["--without", "kernel-btf"]) || arguments.contains(&"--btf");
        let mut command = if untyped { ctx.bpfkit()? } else { ctx.tool(name)? };
        if untyped {
            command.arg(name);
        }
        command.args(arguments).arg("-v");
        prepare(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (out, err) = pipes.ok_or_else(|| Failure::Fail("no pipes".to_owned()))?;
        let mut tool = Self { child, out: BufReader::new(out), err: BufReader::new(err), said: String::new() };
        loop {
            let mut line = String::new();
            if tool.err.read_line(&mut line)? == 0 {
                return Ok(tool);
            }
            tool.said.push_str(&line);
            if line.contains("bpfkit: attached by ") {
                return Ok(tool);
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says something that has this in it, however long that takes on a busy machine; what it says is kept.
    pub fn until(&mut self, part: &str) -> Result<(), Failure> {
        loop {
            let mut line = String::new();
            ensure!(self.err.read_line(&mut line)? != 0, "it ended without a word of {part:?}: {}", self.said);
            self.said.push_str(&line);
            if line.contains(part) {
                return Ok(());
            }
        }
    }

    /// Waits until it has given up what reading does not take. Before that it looks at its maps, and while it does the kernel runs no
    /// program on that CPU, which may be the only one (`bpf_prog_active` in kernel/bpf/syscall.c): it tells of those as missed.
    pub fn until_it_reads(&mut self) -> Result<(), Failure> {
        self.until("bpfkit: capabilities left: ")
    }

    /// Reads a line of its output.
    pub fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line)
    }

    /// Closes its output, as `head` does.
    pub fn close_output(&mut self) -> Result<ExitStatus, Failure> {
        // What was read from is exchanged for something that is not its output.
        let mut other = Command::new("/proc/self/exe").arg("--list").stdout(Stdio::piped()).spawn()?;
        let out = other.stdout.take().ok_or_else(|| Failure::Fail("no pipe".to_owned()))?;
        self.out = BufReader::new(out);
        other.wait()?;
        self.wait()
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let end = Instant::now() + Duration::from_secs(45);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::Fail("no pid".to_owned()))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Sends it a signal, waits for its end, and gives its output and the rest of what it said.
    pub fn stop(&mut self, signal: Signal) -> Result<(ExitStatus, String, String), Failure> {
        self.signal(signal)?;
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out)?;
        self.err.read_to_string(&mut err)?;
        Ok((self.wait()?, out, err))
    }

    /// Ends it as Ctrl-C does, after what was done has had time to be printed.
    pub fn rows(&mut self) -> Result<Vec<String>, Failure> {
        std::thread::sleep(Duration::from_millis(150));
        let (status, out, err) = self.stop(Signal::INT)?;
        ensure!(status.success(), "it ended with {status}: {}{err}", self.said);
        Ok(out.lines().map(str::to_owned).collect())
    }
}

/// Pins a map where the bpf file system is, and unpins it in the end.
pub struct Pinned {
    /// Where.
    pub path: PathBuf,
    _map: Map,
}

impl Pinned {
    /// Pins a map until the value is dropped.
    ///
    /// # Errors
    /// Skips the case where no bpf file system is mounted.
    pub fn new(map: Map, name: &str) -> Result<Self, Failure> {
        let path = Path::new("/sys/fs/bpf").join(format!("bpfkit-{name}-{}", std::process::id()));
        if let Err(error) = map.pin(&path) {
            skip!("no bpf file system: {}", super::case::chain(&error));
        }
        Ok(Self { path, _map: map })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
