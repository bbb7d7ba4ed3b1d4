//! Rows of text and of JSON, those of a call together.

use std::collections::HashMap;

use bpfkit_loader::Sample;
use serde::Serialize;

use super::{Event, Probe, Via};
use crate::Error;
use crate::escape::Escaped;
use crate::flow::JsonFlow;
use crate::output::Output;
use crate::stamp::Stamps;

/// A row as JSON.
#[derive(Serialize)]
struct Row {
    /// Nanoseconds since 1970.
    time_ns: u64,
    via: Via,
    /// The function of the kernel.
    probe: &'static str,
    /// Null for an accepted connection, as are `tid` and `comm`.
    pid: Option<u32>,
    tid: Option<u32>,
    comm: Option<String>,
    #[serde(flatten)]
    flow: JsonFlow,
    /// What the subprogram returned; null but for fexit.
    ret: Option<i32>,
}

/// An event and its time.
type Seen = (u64, Event);

/// Puts the events of each call in the order in which they are printed.
#[derive(Default)]
struct Calls {
    /// What fentry saw, by CPU, until the subprogram, which runs there without a break, has sent its event, too.
    entered: HashMap<u32, Seen>,
}

impl Calls {
    /// What can be printed once this event is there. Any event but this may have been lost.
    fn take(&mut self, cpu: u32, seen: Seen) -> [Option<Seen>; 2] {
        match seen.1.via {
            Via::Fentry => [self.entered.insert(cpu, seen), None],
            Via::Kprobe => [Some(seen), self.entered.remove(&cpu)],
            Via::Fexit => [self.entered.remove(&cpu), Some(seen)],
        }
    }

    /// What still waits for an event that was lost, in the order in which it was seen.
    fn rest(self) -> Vec<Seen> {
        let mut rest: Vec<Seen> = self.entered.into_values().collect();
        rest.sort_by_key(|&(time, _)| time);
        rest
    }
}

/// Prints events.
pub(super) struct Printer {
    json: bool,
    stamps: Stamps,
    calls: Calls,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, stamps: Stamps::new(), calls: Calls::default() }
    }

    pub(super) fn take(&mut self, sample: &Sample<'_>, event: Event, output: &mut Output) -> Result<(), Error> {
        let ready = self.calls.take(sample.cpu, (sample.time, event));
        ready.into_iter().flatten().try_for_each(|seen| self.print(&seen, output))
    }

    /// Prints what still waits for an event that was lost.
    pub(super) fn finish(mut self, output: &mut Output) -> Result<(), Error> {
        let rest = std::mem::take(&mut self.calls).rest();
        rest.iter().try_for_each(|seen| self.print(seen, output))
    }

    fn print(&self, (time, event): &Seen, output: &mut Output) -> Result<(), Error> {
        if !self.json {
            return output.line(&text(event));
        }
        let &Event { via, probe, ret, flow, .. } = event;
        let of_process = probe == Probe::Connect;
        output.json(&Row {
            time_ns: self.stamps.since_1970(*time),
            via,
            probe: probe.function(),
            pid: of_process.then_some(event.pid),
            tid: of_process.then_some(event.tid),
            comm: of_process.then(|| Escaped(&event.comm).to_string()),
            flow: flow.into(),
            ret,
        })
    }
}

/// A row as text.
fn text(event: &Event) -> String {
    let flow = event.flow;
    match (event.via, event.ret) {
        (Via::Kprobe, _) => format!("new tcp connection: {flow} (kprobe)"),
        (Via::Fentry, _) => format!("new tcp connection: {flow} (fentry)"),
        (Via::Fexit, ret) => format!("new tcp connection: {flow} (fexit: {})", ret.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn a_record_is_a_line() {
        for (via, family, ret, line) in [
            (0, 2, 0, "10.0.2.15:36532 -> 93.184.216.34:80 (kprobe)"),
            (1, 2, 0, "10.0.2.15:36532 -> 93.184.216.34:80 (fentry)"),
            (2, 2, 80, "10.0.2.15:36532 -> 93.184.216.34:80 (fexit: 80)"),
            (2, 10, -1, "[::]:36532 -> [::]:80 (fexit: -1)"),
        ] {
            let event = Event::parse(&record(via, family, ret)).unwrap();
            assert_eq!(text(&event), format!("new tcp connection: {line}"));
            assert_eq!((event.pid, event.tid, event.comm.as_slice()), (7, 8, &b"curl"[..]));
        }
    }
    #[test]
    fn lines_of_a_call_stand_together_and_none_waits_for_a_lost_one() {
        let mut calls = Calls::default();
        let mut take = |cpu, via, time| {
            let event = Event::parse(&record(via, 2, 0)).unwrap();
            calls.take(cpu, (time, event)).into_iter().flatten().map(|(time, _)| time).collect::<Vec<_>>()
        };
        let (kprobe, fentry, fexit) = (0, 1, 2);
        assert_eq!((take(0, fentry, 1), take(1, fentry, 2)), (vec![], vec![]));
        assert_eq!((take(0, kprobe, 3), take(0, fexit, 4)), (vec![3, 1], vec![4]));
        // On the other CPU the event of the kprobe was lost, and then that and the one of fexit.
        assert_eq!((take(1, fexit, 5), take(1, fentry, 6), take(1, fentry, 7)), (vec![2, 5], vec![], vec![6]));
        assert!(take(0, fentry, 8).is_empty());
        assert_eq!(calls.rest().into_iter().map(|(time, _)| time).collect::<Vec<_>>(), [7, 8]);
    }
}
