//! Rows of text and of JSON.

use serde::Serialize;

use super::Event;
use crate::Error;
use crate::columns::Columns;
use crate::escape::Escaped;
use crate::output::Output;
use crate::stamp::Stamps;

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    cpu: u32,
    dev: String,
    len: u32,
    /// `ETH_P_*`
    proto: u16,
}

/// Prints events as rows.
pub(super) struct Printer {
    json: bool,
    columns: Columns,
    stamps: Stamps,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        let columns = [("TIME", 8), ("CPU", 3), ("DEV", 15), ("LEN", 5), ("PROTO", 6)];
        Self { json, columns: Columns::new(columns), stamps: Stamps::new() }
    }

    pub(super) fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    pub(super) fn print(&mut self, time: u64, cpu: u32, event: &Event, output: &mut Output) -> Result<(), Error> {
        let dev = Escaped(&event.dev).to_string();
        let &Event { len, proto, .. } = event;
        if self.json {
            return output.json(&Row { time_ns: self.stamps.since_1970(time), cpu, dev, len, proto });
        }
        let cells = [self.stamps.time_of_day(time), cpu.to_string(), dev, len.to_string(), protocol(proto)];
        output.line(self.columns.row(&cells))
    }
}

/// A protocol by its name in tcpdump and ip-link, else by its number.
fn protocol(number: u16) -> String {
    match number {
        0x0800 => "IPv4".to_owned(),
        0x86dd => "IPv6".to_owned(),
        0x0806 => "ARP".to_owned(),
        0x8100 => "802.1Q".to_owned(),
        0x88a8 => "802.1ad".to_owned(),
        0x8847 => "MPLS".to_owned(),
        0x88cc => "LLDP".to_owned(),
        number => format!("{number:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_names_or_numbers() {
        assert_eq!((protocol(0x0800).as_str(), protocol(0x88f7).as_str()), ("IPv4", "0x88f7"));
    }
}
