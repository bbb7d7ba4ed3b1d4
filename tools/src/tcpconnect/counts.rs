//! Connects counted by source, destination and port (`-c`): the tables, what programs do with them, and how they are shown.

use std::collections::BTreeMap;

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{MapSpec, Maps};
use serde::Serialize;

use super::Args;
use super::record::{LPORT, PORTS, SCRATCH, WHO};
use crate::columns::Columns;
use crate::event::Bytes;
use crate::flow::{Flow, Ip, JsonFlow};
use crate::output::Output;
use crate::{Error, event};

const BPF_NOEXIST: i32 = 1;
/// Rows of a table of counts.
const FLOWS: u32 = 65_536;

impl Ip {
    const fn counts(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_count",
            Self::V6 => "ipv6_count",
        }
    }
}

/// The table of one version of IP. Its key is what an event has from its ports on.
pub(super) fn map(ip: Ip) -> MapSpec {
    let key_size = ip.event_size() - WHO;
    let address = (key_size - 4) / 2;
    MapSpec::hash(ip.counts(), key_size, 8, FLOWS)
        .with_types(&[("dport", 2), ("lport", 2), ("daddr", address), ("saddr", address)], &[("connects", 8)])
}

/// Adds one to the count of the flow at r10 + PORTS.
pub(super) fn add(ip: Ip, source_port: bool, out: Label) -> Asm {
    let counts = ip.counts();
    let mut code = Asm::new();
    if !source_port {
        code.splice(bpf! { *(u16 *)(r10 + LPORT) = 0; });
    }
    code.splice(bpf! {
        r1 = map[{counts}];
        r2 = r10;
        r2 += PORTS;
        call bpf_map_lookup_elem;
        if r0 != 0 goto known;
        *(u64 *)(r10 + SCRATCH) = 0;
        r1 = map[{counts}];
        r2 = r10;
        r2 += PORTS;
        r3 = r10;
        r3 += SCRATCH;
        r4 = BPF_NOEXIST;                           // another CPU may have been first
        call bpf_map_update_elem;
        r1 = map[{counts}];
        r2 = r10;
        r2 += PORTS;
        call bpf_map_lookup_elem;
        if r0 != 0 goto known;
        {event::drop_one(SCRATCH, out)};
        goto {out};
    known:
        r1 = 1;
        lock *(u64 *)(r0 + 0) += r1;
    });
    code
}

/// A row of the table of counts as JSON.
#[derive(Serialize)]
struct Count {
    #[serde(flatten)]
    flow: JsonFlow,
    connects: u64,
}

/// Prints the table of counts, most first.
pub(super) fn print(args: &Args, maps: &Maps, output: &mut Output) -> Result<(), Error> {
    let mut counts = BTreeMap::<Flow, u64>::new();
    for ip in [Ip::V4, Ip::V6] {
        let Some(map) = maps.get(ip.counts()) else { continue };
        for key in map.keys() {
            let key = key?;
            let mut value = [0; 8];
            if map.lookup(&key, &mut value)?
                && let Some(flow) = Flow::parse(ip, Bytes(&key))
            {
                *counts.entry(flow).or_default() += u64::from_ne_bytes(value);
            }
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(flow, connects)| (std::cmp::Reverse(connects), flow));
    if args.options.json {
        return counts.into_iter().try_for_each(|(flow, connects)| output.json(&Count { flow: flow.into(), connects }));
    }
    let mut columns = Columns::shown([
        (true, "LADDR", 25),
        (true, "RADDR", 25),
        (args.source_port, "LPORT", 20),
        (true, "RPORT", 20),
        (true, "CONNECTS", 10),
    ]);
    output.line("")?;
    output.line(columns.header())?;
    for (flow, connects) in counts {
        let mut cells =
            vec![flow.saddr.to_string(), flow.daddr.to_string(), flow.dport.to_string(), connects.to_string()];
        if args.source_port {
            cells.insert(2, flow.lport.to_string());
        }
        output.line(columns.row(&cells))?;
    }
    Ok(())
}
