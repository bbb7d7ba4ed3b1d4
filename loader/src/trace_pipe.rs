//! What programs say with bpf_trace_printk: lines of text, all programs' in one file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::Error;
use crate::target::Target;

/// tracefs' `trace_pipe`. Whoever reads a line takes it from all other readers.
#[derive(Debug)]
pub struct TracePipe {
    file: File,
    /// The start of a line whose end was not there yet.
    rest: Vec<u8>,
}

/// A line of a program that called bpf_trace_printk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Printed<'a> {
    /// The CPU.
    pub cpu: u32,
    /// Nanoseconds since the machine was started, to the microsecond, by the clock of the CPU.
    pub time: u64,
    /// What the program said.
    pub text: &'a str,
}

impl TracePipe {
    /// Opens it.
    ///
    /// # Errors
    /// Where tracefs is not to be had, or the file may not be read.
    pub fn open(target: &Target) -> Result<Self, Error> {
        let path = target.tracefs()?.path("trace_pipe");
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| Error::privileged("cannot open trace_pipe in tracefs", error))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// Hands over the lines that are there, but for what is none of bpf_trace_printk.
    ///
    /// # Errors
    /// What the kernel says to reading.
    pub fn drain(&mut self, mut on_line: impl FnMut(Printed<'_>)) -> Result<(), Error> {
        let mut chunk = [0; 4096];
        loop {
            match self.file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => self.rest.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("cannot read trace_pipe in tracefs", error)),
            }
            let end = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            for line in self.rest[..end].split(|&byte| byte == b'\n') {
                if let Some(printed) = parse(&String::from_utf8_lossy(line)) {
                    on_line(printed);
                }
            }
            self.rest.drain(..end);
        }
    }
}

impl AsFd for TracePipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes a line apart: `name-123 [001] d..31 12.345678: bpf_trace_printk: text`. Before Linux 5.9 an address stands in the place
/// of the word. The name may hold anything, so the line is taken apart from the first CPU in brackets that makes sense of the rest.
pub(crate) fn parse(line: &str) -> Option<Printed<'_>> {
    line.match_indices(" [").find_map(|(at, _)| {
        let (cpu, rest) = line[at + 2..].split_once("] ")?;
        let (head, rest) = rest.split_once(": ")?;
        let (word, text) = rest.split_once(": ")?;
        let is_ours = word == "bpf_trace_printk" || word == "0" || word.starts_with("0x");
        // Flags and time, and nothing else.
        let (_, time) = head.split_once(' ').filter(|(flags, time)| !flags.is_empty() && !time.trim().contains(' '))?;
        let (seconds, micros) = time.trim().split_once('.')?;
        let digits = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let time = digits(seconds)?.checked_mul(1_000_000)?.checked_add(digits(micros)?)?.checked_mul(1_000)?;
        (is_ours && micros.len() == 6).then_some(Printed { cpu: u32::try_from(digits(cpu)?).ok()?, time, text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_old_and_new_kernels_are_understood() {
        let found = Printed { cpu: 1, time: 12_345_678_000, text: "lo 84: x" };
        for line in [
            "            ping-123     [001] d..31    12.345678: bpf_trace_printk: lo 84: x",
            "          <idle>-0       [001] ..s.    12.345678: 0: lo 84: x",
            "            ping-123     [001] ....    12.345678: 0x00000001: lo 84: x",
            "          a [0] b-123    [001] d..31    12.345678: bpf_trace_printk: lo 84: x",
        ] {
            assert_eq!(parse(line), Some(found), "{line}");
        }
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            " [",
            "CPU:1 [LOST 17 EVENTS]",
            " cat-7 [000] d... 1.000000: sched_switch: prev_comm=a ==> next_comm=b",
            " cat-7 [x] d... 1.000000: bpf_trace_printk: a",
            " cat-7 [0] d... 1.0: bpf_trace_printk: a",
            " cat-7 [0] d... 99999999999999999999.000000: bpf_trace_printk: a",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
