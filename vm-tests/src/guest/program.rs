//! The program of `cargo vm --run`: started by init in place of the cases.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::protocol::{Event, Outcome};

/// What is to be run; the runner puts it into the guest as `FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name in the results, as that of a case.
    pub case: String,
    /// Where it is in the guest.
    pub path: String,
    /// What follows its name on the command line.
    pub arguments: Vec<String>,
}

/// Where the guest is told what to run.
pub const FILE: &str = "/program.json";
/// Where a program starts.
pub const DIRECTORY: &str = "/root";
/// The exit code of a test that could not be run: the convention of automake.
const SKIPPED: i32 = 77;
/// The longest piece of output that is sent at once.
const PIECE: u64 = 4096;
/// How often its end is looked for while it says nothing.
const POLL: Duration = Duration::from_millis(20);

impl Program {
    /// The program that this VM is for, if it is not for the cases.
    pub fn of_vm() -> Option<Program> {
        serde_json::from_slice(&fs::read(FILE).ok()?).ok()
    }

    /// Runs it, and tells its output and how it ended. `end_others` ends what it left running, which may hold its output open.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn run(&self, tell: &mut dyn FnMut(&Event) -> io::Result<()>, end_others: fn()) -> io::Result<()> {
        tell(&Event::Start { case: self.case.clone() })?;
        let begin = Instant::now();
        let outcome = match self.start() {
            Ok((child, output)) => follow(child, &output, tell, end_others)?,
            Err(error) => Outcome::Fail(format!("start {}: {error}", self.path)),
        };
        let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        tell(&Event::Finish { case: self.case.clone(), outcome, millis })
    }

    fn start(&self) -> io::Result<(Child, Receiver<Event>)> {
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs([("HOME", DIRECTORY), ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"), ("USER", "root")])
            .current_dir(DIRECTORY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, output) = channel();
        if let Some(pipe) = child.stdout.take() {
            pass_on(pipe, false, sender.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            pass_on(pipe, true, sender);
        }
        Ok((child, output))
    }
}

/// Makes events of a pipe's bytes until its last writer has closed it.
fn pass_on(pipe: impl Read + Send + 'static, error: bool, sender: Sender<Event>) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut piece = Vec::new();
        while pipe.by_ref().take(PIECE).read_until(b'\n', &mut piece).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&piece).into_owned();
            if sender.send(Event::Output { error, text }).is_err() {
                return;
            }
            piece.clear();
        }
    });
}

/// Tells the output until the program has ended and nobody can write any more.
fn follow(
    mut child: Child,
    output: &Receiver<Event>,
    tell: &mut dyn FnMut(&Event) -> io::Result<()>,
    end_others: fn(),
) -> io::Result<Outcome> {
    let mut ended = None;
    let mut last = String::new();
    loop {
        match output.recv_timeout(POLL) {
            Ok(event) => {
                tell(&event)?;
                if let Event::Output { text, .. } = event
                    && !text.trim().is_empty()
                {
                    text.trim().clone_into(&mut last);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // It may close its output and go on.
            Err(RecvTimeoutError::Disconnected) => {
                let status = ended.map_or_else(|| child.wait(), Ok)?;
                end_others();
                return Ok(judge(status, &last));
            }
        }
        if ended.is_none() {
            ended = child.try_wait()?;
            if ended.is_some() {
                end_others();
            }
        }
    }
}

/// An exit code in the manner of automake's test driver; `last` is what was said last.
fn judge(status: ExitStatus, last: &str) -> Outcome {
    let said = if last.is_empty() { String::new() } else { format!(": {last}") };
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Pass,
        (Some(SKIPPED), _) => Outcome::Skip(format!("exit code {SKIPPED}{said}")),
        (Some(code), _) => Outcome::Fail(format!("exit code {code}{said}")),
        (None, Some(signal)) => Outcome::Fail(format!("ended by signal {signal}{said}")),
        (None, None) => Outcome::Fail(format!("{status}{said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell's script here, and gives its output and how it ended.
    fn run(script: &str) -> (Vec<(bool, String)>, Outcome) {
        let program = Program { case: "run::sh".into(), path: "/bin/sh".into(), arguments: vec![] };
        let mut command = Command::new(&program.path);
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        let (sender, output) = channel();
        pass_on(child.stdout.take().expect("a pipe"), false, sender.clone());
        pass_on(child.stderr.take().expect("a pipe"), true, sender);
        let mut said = Vec::new();
        let mut tell = |event: &Event| {
            if let Event::Output { error, text } = event {
                said.push((*error, text.clone()));
            }
            Ok(())
        };
        let outcome = follow(child, &output, &mut tell, || ()).expect("an outcome");
        (said, outcome)
    }

    #[test]
    fn exit_codes_are_those_of_automakes_tests() {
        assert_eq!(run("exit 0").1, Outcome::Pass);
        assert_eq!(run("echo no BTF; exit 77").1, Outcome::Skip("exit code 77: no BTF".into()));
        assert_eq!(run("echo bad >&2; exit 3").1, Outcome::Fail("exit code 3: bad".into()));
        assert_eq!(run("kill -9 $$").1, Outcome::Fail("ended by signal 9".into()));
    }

    #[test]
    fn output_comes_by_lines_and_long_lines_in_pieces() {
        let (said, _) = run("echo one; printf two");
        assert_eq!(said, [(false, "one\n".to_owned()), (false, "two".to_owned())]);
        assert_eq!(run("echo err >&2").0, [(true, "err\n".to_owned())]);
        let (long, _) = run("head -c 10000 /dev/zero | tr '\\0' x");
        assert_eq!(long.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }

    #[test]
    fn a_program_that_closes_its_output_is_waited_for() {
        assert_eq!(run("exec >&- 2>&-; sleep 0.2; exit 4").1, Outcome::Fail("exit code 4".into()));
    }

    #[test]
    fn what_cannot_be_started_fails_with_the_reason() {
        let program = Program { case: "run::x".into(), path: "/nonexistent/x".into(), arguments: vec![] };
        let mut events = Vec::new();
        let mut tell = |event: &Event| {
            events.push(event.clone());
            Ok(())
        };
        program.run(&mut tell, || ()).expect("events");
        let Some(Event::Finish { outcome: Outcome::Fail(reason), .. }) = events.last() else { panic!("{events:?}") };
        assert!(reason.starts_with("start /nonexistent/x: No such file"), "{reason}");
    }
}
