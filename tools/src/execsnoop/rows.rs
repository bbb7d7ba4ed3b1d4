//! Rows of text and of JSON.

use bpfkit_loader::Sample;
use serde::Serialize;

use super::record::{Arg, Event};
use super::{Args, proc};
use crate::Error;
use crate::columns::Columns;
use crate::escape::Escaped;
use crate::output::Output;
use crate::stamp::Stamps;

/// What stands for an argument that could not be read.
const HOLE: &str = "[?]";
/// What stands for the rest of an argument, or for more arguments.
const MORE: &str = "...";

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    comm: String,
    pid: u32,
    /// Null where it is not known.
    ppid: Option<u32>,
    uid: u32,
    cpu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mntns: Option<u32>,
    /// 0, or the negative number of an error.
    ret: i32,
    /// The file and its arguments as they are shown; null for one that could not be read.
    args: Vec<Option<String>>,
    /// Whether there are more.
    more_args: bool,
}

/// Prints events as rows.
pub struct Printer<'a> {
    args: &'a Args,
    typed: bool,
    columns: Columns,
    stamps: Stamps,
}

impl<'a> Printer<'a> {
    /// `typed` tells whether events have the new program's own arguments.
    pub fn new(args: &'a Args, typed: bool) -> Self {
        let columns = [
            (args.time, "TIME", 8),
            (args.timestamp, "TIME(s)", 7),
            (args.print_uid, "UID", 5),
            (true, "PCOMM", 16),
            (true, "PID", 7),
            (true, "PPID", 7),
            (args.cpu, "CPU", 3),
            (args.mntns, "MNTNS", 10),
            (true, "RET", 3),
            (true, "ARGS", 0),
        ];
        Self { args, typed, columns: Columns::shown(columns), stamps: Stamps::new() }
    }

    /// Prints the titles of the columns.
    pub fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.args.options.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    /// Prints a row, if its name, its arguments and its parent are what was asked for.
    pub fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
        let Some(mut event) = Event::parse(sample.data, self.typed) else {
            return Err(Error::Record(sample.data.len()));
        };
        proc::complete(&mut event, self.args.mntns);
        let most = usize::try_from(self.args.max_args).unwrap_or(usize::MAX);
        let (args, more_args) = event.arguments(most);
        if !self.wants(&event, &args) {
            return Ok(());
        }
        let comm = Escaped(&event.comm).to_string();
        let Event { pid, ppid, uid, ret, mntns, .. } = event;
        if self.args.options.json {
            let time_ns = self.stamps.since_1970(sample.time);
            let args = args.into_iter().map(|arg| arg.map(text)).collect();
            let cpu = sample.cpu;
            return output.json(&Row { time_ns, comm, pid, ppid, uid, cpu, mntns, ret, args, more_args });
        }
        let since = self.stamps.since_first(sample.time);
        let unknown = |number: Option<u32>| number.map_or("?".to_owned(), |number| number.to_string());
        let mut cells = Vec::with_capacity(10);
        if self.args.time {
            cells.push(self.stamps.time_of_day(sample.time));
        }
        if self.args.timestamp {
            cells.push(format!("{since:.3}"));
        }
        if self.args.print_uid {
            cells.push(uid.to_string());
        }
        cells.extend([comm, pid.to_string(), unknown(ppid)]);
        if self.args.cpu {
            cells.push(sample.cpu.to_string());
        }
        if self.args.mntns {
            cells.push(unknown(mntns));
        }
        cells.extend([format!("{ret:>3}"), line(&args, more_args, self.args.quote)]);
        output.line(self.columns.row(&cells))
    }

    fn wants(&self, event: &Event, args: &[Option<&Arg>]) -> bool {
        let Args { ppid, name, line, .. } = self.args;
        ppid.is_none_or(|ppid| event.ppid == Some(ppid))
            && name.as_ref().is_none_or(|name| name.is_match(&String::from_utf8_lossy(&event.comm)))
            && line.as_ref().is_none_or(|line| {
                let args: Vec<_> = args.iter().flatten().map(|arg| String::from_utf8_lossy(&arg.bytes)).collect();
                args.iter().any(|arg| line.is_match(arg)) || line.is_match(&args.join(" "))
            })
    }
}

/// An argument as it may be shown.
fn text(arg: &Arg) -> String {
    let more = if arg.is_cut { MORE } else { "" };
    format!("{}{more}", Escaped(&arg.bytes))
}

/// What a record says, in one line, if it is one.
pub fn shown(record: &[u8], is_image: bool) -> Option<String> {
    let event = Event::parse(record, is_image)?;
    let (args, more) = event.arguments(20);
    Some(format!("{} {} {}", Escaped(&event.comm), event.has_holes(), line(&args, more, true)))
}

/// All arguments in one line.
fn line(args: &[Option<&Arg>], more: bool, quote: bool) -> String {
    let shown = args.iter().map(|arg| match arg {
        None => HOLE.to_owned(),
        Some(arg) if quote || arg.bytes.is_empty() => {
            let more = if arg.is_cut { MORE } else { "" };
            format!("\"{}\"{more}", Escaped(&arg.bytes).to_string().replace('"', "\\\""))
        }
        Some(arg) => text(arg),
    });
    shown.chain(more.then(|| MORE.to_owned())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_is_empty_cut_hostile_or_missing() {
        let args = [&b"/bin/x"[..], b"", b"a b", b"\x1b[2J\n", b"\"q\" \\", &[b'y'; 129]].map(Arg::new);
        let mut args: Vec<Option<&Arg>> = args.iter().map(Some).collect();
        args.push(None);
        let long = "y".repeat(128);
        assert_eq!(line(&args, true, false), format!("/bin/x \"\" a b \\u{{1b}}[2J\\n \"q\" \\\\ {long}... [?] ..."));
        assert_eq!(
            line(&args, false, true),
            format!("\"/bin/x\" \"\" \"a b\" \"\\u{{1b}}[2J\\n\" \"\\\"q\\\" \\\\\" \"{long}\"... [?]")
        );
    }
}
