//! What is printed of a look-up.

use std::time::Duration;

use bpfkit_loader::Sample;
use serde::Serialize;

use super::Args;
use super::record::{Event, Host, first_of_each};
use crate::Error;
use crate::columns::Columns;
use crate::escape::Escaped;
use crate::netdb::Address;
use crate::output::Output;
use crate::stamp::Stamps;

/// A row as JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// When it ended, in nanoseconds since 1970.
    time_ns: u64,
    pid: u32,
    tid: u32,
    comm: String,
    call: &'static str,
    /// Null where none was asked for, or where it could not be read.
    host: Option<String>,
    latency_ns: u64,
    /// Null where it did not fail.
    error: Option<&'a str>,
    /// All with `-a`, else the first; none where it failed.
    addresses: Vec<String>,
}

/// What a record says, in one line, if it is one.
pub fn shown(record: &[u8], all: bool) -> Option<String> {
    let event = Event::parse(record, all)?;
    let addresses: Vec<String> = event.answer.iter().flatten().map(Address::to_string).collect();
    Some(format!("{} {} {}", Escaped(&event.comm), name(&event.host).unwrap_or_default(), addresses.join(" ")))
}

fn name(host: &Host) -> Option<String> {
    match host {
        Host::Name(name) => Some(Escaped(name).to_string()),
        Host::Address(address) => Some(address.to_string()),
        Host::Null | Host::Unreadable => None,
    }
}

/// Prints events as rows.
pub struct Printer<'a> {
    args: &'a Args,
    columns: Columns,
    stamps: Stamps,
}

impl<'a> Printer<'a> {
    pub fn new(args: &'a Args) -> Self {
        let columns = [("TIME", 9), ("PID", 7), ("COMM", 16), ("     LATms", 10), ("AF", 2), ("ADDR", 15), ("HOST", 4)];
        Self { args, columns: Columns::new(columns), stamps: Stamps::new() }
    }

    pub fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.args.options.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    pub fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
        let Some(event) = Event::parse(sample.data, self.args.all) else {
            return Err(Error::Record(sample.data.len()));
        };
        let latency_ns = sample.time.saturating_sub(event.start);
        let comm = Escaped(&event.comm).to_string();
        let host = name(&event.host);
        let Event { pid, tid, function, answer, .. } = event;
        let addresses: Vec<String> = answer.iter().flatten().map(Address::to_string).collect();
        if self.args.options.json {
            let time_ns = self.stamps.since_1970(sample.time);
            let error = answer.as_ref().err().map(AsRef::as_ref);
            return output.json(&Row {
                time_ns,
                pid,
                tid,
                comm,
                call: function.name(),
                host,
                latency_ns,
                error,
                addresses,
            });
        }
        let (families, shown) = match &answer {
            Err(error) => ("-".to_owned(), error.to_string()),
            // An address that could not be read, or of a family without one.
            Ok(found) if found.is_empty() => ("?".to_owned(), "?".to_owned()),
            Ok(found) => (families(found), addresses.join(",")),
        };
        let host = host.unwrap_or_else(|| if event.host == Host::Null { "-".to_owned() } else { "?".to_owned() });
        let latency = Duration::from_nanos(latency_ns).as_secs_f64() * 1e3;
        let cells = [
            self.stamps.time_of_day(sample.time),
            pid.to_string(),
            comm,
            format!("{latency:>10.2}"),
            families,
            shown,
            host,
        ];
        output.line(self.columns.row(&cells))
    }
}

/// `4`, `6`, or both in the order in which they were found.
fn families(addresses: &[Address]) -> String {
    let mut versions: Vec<u8> = addresses.iter().map(Address::version).collect();
    first_of_each(&mut versions);
    versions.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}
