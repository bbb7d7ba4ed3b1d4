//! Rows of text and of JSON.

use bpfkit_loader::Sample;
use serde::Serialize;

use super::{Args, Event};
use crate::Error;
use crate::columns::Columns;
use crate::escape::Escaped;
use crate::flow::JsonFlow;
use crate::output::Output;
use crate::stamp::Stamps;

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    pid: u32,
    tid: u32,
    uid: u32,
    comm: String,
    #[serde(flatten)]
    flow: JsonFlow,
}

/// Prints events as rows.
pub(super) struct Printer<'a> {
    args: &'a Args,
    columns: Columns,
    stamps: Stamps,
}

impl<'a> Printer<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        let columns = [
            (args.time, "TIME", 8),
            (args.timestamp, "TIME(s)", 8),
            (args.print_uid, "UID", 5),
            (true, "PID", 7),
            (true, "COMM", 12),
            (true, "IP", 2),
            (true, "SADDR", 16),
            (args.lport, "LPORT", 6),
            (true, "DADDR", 16),
            (true, "DPORT", 6),
        ];
        Self { args, columns: Columns::shown(columns), stamps: Stamps::new() }
    }

    pub(super) fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.args.options.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    pub(super) fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
        let Some(event) = Event::parse(sample.data) else {
            return Err(Error::Record(sample.data.len()));
        };
        let comm = Escaped(&event.comm).to_string();
        let Event { pid, tid, uid, flow, .. } = event;
        if self.args.options.json {
            let time_ns = self.stamps.since_1970(sample.time);
            return output.json(&Row { time_ns, pid, tid, uid, comm, flow: flow.into() });
        }
        let since = self.stamps.since_first(sample.time);
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
        cells.extend([pid.to_string(), comm, flow.version().to_string(), flow.saddr.to_string()]);
        if self.args.lport {
            cells.push(flow.lport.to_string());
        }
        cells.extend([flow.daddr.to_string(), flow.dport.to_string()]);
        output.line(self.columns.row(&cells))
    }
}
