//! Starting programs, and seeing what they print at once.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};

use crate::Result;
use crate::command::Program;

/// Peers look for tracefs where it is mounted; where it is not, this is done again in a mount namespace of its own that has it.
pub fn with_tracefs() -> Result<()> {
    const PLACE: &str = "/sys/kernel/tracing";
    if fs::exists(format!("{PLACE}/events"))? || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if std::env::var_os("BESIDE_TRACEFS").is_none() {
        let error = Command::new("unshare")
            .arg("--mount")
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("BESIDE_TRACEFS", "1")
            .exec();
        return Err(format!("cannot start unshare: {error}").into());
    }
    rustix::mount::mount("tracefs", PLACE, "tracefs", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>)?;
    Ok(())
}

/// A program that writes to a terminal: into a pipe most would write only when a buffer is full.
#[derive(Debug)]
pub struct Running {
    child: Child,
    terminal: File,
    started: Instant,
    /// What it wrote so far.
    text: String,
}

impl Running {
    /// Starts it.
    pub fn start(program: &Program) -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let name = ptsname(&terminal, Vec::new())?;
        let other = File::options().read(true).write(true).open(std::path::Path::new(name.to_str()?))?;
        let mut modes = tcgetattr(&other)?;
        modes.output_modes.remove(OutputModes::OPOST);
        tcsetattr(&other, OptionalActions::Now, &modes)?;
        let mut command = program.command();
        command.stdin(Stdio::null()).stdout(other).stderr(Stdio::null());
        let started = Instant::now();
        let child = command.spawn()?;
        Ok(Self { child, terminal: terminal.into(), started, text: String::new() })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has written a line that begins so; how long after its start that was.
    pub fn line(&mut self, start: &str) -> Result<Duration> {
        const PATIENCE: Duration = Duration::from_secs(60);
        loop {
            let is_it = |line: &str| line.ends_with('\n') && line.starts_with(start);
            if self.text.split_inclusive('\n').any(is_it) {
                return Ok(self.started.elapsed());
            }
            if self.started.elapsed() > PATIENCE {
                return Err(format!("it was not ready after {} s; it said {:?}", PATIENCE.as_secs(), self.text).into());
            }
            let mut fds = [PollFd::from_borrowed_fd(self.terminal.as_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
            if fds[0].revents().is_empty() {
                continue;
            }
            let mut bytes = [0; 4096];
            match self.terminal.read(&mut bytes) {
                Ok(len) if len > 0 => self.text.push_str(&String::from_utf8_lossy(&bytes[..len])),
                // The last who had the terminal open has gone.
                _ => return Err(format!("it ended; it said {:?}", self.text).into()),
            }
        }
    }

    /// Asks it to end, and sees to it that it does.
    pub fn end(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no such process")?;
        kill_process(pid, Signal::INT)?;
        let asked = Instant::now();
        // Nobody must wait for a terminal that nobody reads.
        drop(self.terminal);
        while asked.elapsed() < Duration::from_secs(5) {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Builds one of the C programs in `peers/` against libbpf.
pub fn build(source: &str, text: &str, directory: &std::path::Path) -> Result<Program> {
    if !fs::exists("/usr/include/bpf/libbpf.h")? {
        return Err("libbpf-dev is not installed".into());
    }
    let program = directory.join(source);
    let mut compiler = Command::new("cc")
        .args(["-O2", "-x", "c", "-", "-o"])
        .arg(&program)
        .arg("-lbpf")
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start cc: {error}"))?;
    compiler.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    if !compiler.wait()?.success() {
        return Err(format!("cc does not take {source}").into());
    }
    Ok(Program::at(program))
}
