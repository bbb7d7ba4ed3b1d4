//! `bpfkit tcpconnect` shows each TCP connection that a process on this machine asks for: who, from where, to where.
//!
//! The connection is taken down when the kernel has accepted the request (`connect` sends the SYN), so it is shown whether or
//! not the other side answers. How it is seen, in order of preference:
//!
//! * `kprobe`: the entry of `tcp_v4_connect` and `tcp_v6_connect` remembers the socket, the return reads it. A connect that the
//!   kernel turns down at once, such as one without a route, is not shown.
//! * `fentry`: the same at the return alone, which sees the arguments too (Linux 5.5).
//! * `tracepoint`: `sock:inet_sock_set_state`, when a socket enters SYN_SENT (Linux 4.16). It shows connects that fail at once
//!   as well. The kernel has not chosen the local port yet at that moment, so where the local port is wanted (`-L`, `-s`) the
//!   row waits until the socket leaves SYN_SENT.
//!
//! Flags, columns and widths are those of bcc's tool of this name.
//!
//! [Its programs](../../pages/tcpconnect.html), instruction by instruction, where the documentation was built with its pages.

use std::collections::BTreeMap;

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Attach, Feature, MapSpec, Maps, ProgSpec, Sample, Target};
use serde::Serialize;

use crate::columns::Columns;
use crate::error::Chain;
use crate::escape::Escaped;
use crate::event::Bytes;
use crate::filter::TaskFilter;
use crate::flow::{self, Flow, Ip, JsonFlow};
use crate::options::Options;
use crate::output::Output;
use crate::session::Session;
use crate::stamp::Stamps;
use crate::tool::{self, Attached, Tool};
use crate::{Error, event, pids, report};

/// Trace TCP connects: who asks for a connection, and where to
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show the time of day
    #[arg(short = 'T', long)]
    pub time: bool,
    /// Show the time since the first row
    #[arg(short, long)]
    pub timestamp: bool,
    /// Trace these destination ports only
    #[arg(short = 'P', long, value_name = "PORT[,PORT]", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Trace IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Trace IPv6 only; an IPv4-mapped address is IPv4
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Show the local port
    #[arg(short = 'L', long)]
    pub lport: bool,
    /// Show the user's number
    #[arg(short = 'U', long)]
    pub print_uid: bool,
    /// Count connects by source, destination and port, and show the table at the end
    #[arg(short, long)]
    pub count: bool,
    /// With -c: count by source port too
    #[arg(short, long, requires = "count")]
    pub source_port: bool,
    /// How to see connects; without it, the first of these that works
    #[arg(long, value_enum)]
    pub probe: Option<Probe>,
    #[allow(missing_docs)] // clap would show it
    #[command(flatten)]
    pub filter: TaskFilter,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "\
Examples:
  bpfkit tcpconnect              every connect
  bpfkit tcpconnect -t -U -L     with time, user and local port
  bpfkit tcpconnect -P 80,443    to these ports only
  bpfkit tcpconnect -c           a table of counts, at Ctrl-C
  bpfkit tcpconnect --ebpf       the programs, without running them";

/// How connects are seen, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// kprobe and kretprobe on tcp_v4_connect and tcp_v6_connect
    Kprobe,
    /// fexit on the same functions
    Fentry,
    /// The tracepoint sock:inet_sock_set_state
    Tracepoint,
}

impl tool::Probe for Probe {
    fn feature(self) -> Option<Feature> {
        match self {
            Self::Kprobe => Some(Feature::Kprobes),
            Self::Fentry => Some(Feature::Fentry),
            Self::Tracepoint => None,
        }
    }
}

/// One connect, as the programs hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the thread, up to 16 bytes.
    pub comm: Vec<u8>,
    /// Effective user.
    pub uid: u32,
    /// Addresses and ports.
    pub flow: Flow,
}

// The event on the stack of a program, from here up, in the order of its bytes. What follows the ports is 2 addresses of 4 or
// of 16 bytes, remote before local, as struct sock_common has them. From the ports on it is the key of the tables of counts.
// Neither length leaves the record in need of padding: 4 bytes of size and the event are a multiple of 8.
const EVENT: i32 = -72;
const PID_TGID: i32 = EVENT;
const COMM: i32 = EVENT + 8;
const UID: i32 = EVENT + 24;
const FAMILY: i32 = EVENT + 28;
const PORTS: i32 = EVENT + 32;
const LPORT: i32 = PORTS + 2;
const DADDR: i32 = PORTS + 4;
const SIZE_V4: u32 = 44;
const SIZE_V6: u32 = 68;
/// 8 bytes below the event.
const SCRATCH: i32 = EVENT - 8;
/// What the tracepoint's program remembers of a connect until its local port is known: the event up to its ports.
const WHO: u32 = 32;

const TCP_SYN_SENT: i32 = 2;
const BPF_NOEXIST: i32 = 1;
/// Connects under way at one time: more than any machine has threads in connect(2).
const IN_FLIGHT: u32 = 10_240;
/// Rows of a table of counts.
const FLOWS: u32 = 65_536;

impl Ip {
    const fn event_size(self) -> u32 {
        match self {
            Self::V4 => SIZE_V4,
            Self::V6 => SIZE_V6,
        }
    }

    const fn counts(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_count",
            Self::V6 => "ipv6_count",
        }
    }

    const fn function(self) -> &'static str {
        match self {
            Self::V4 => "tcp_v4_connect",
            Self::V6 => "tcp_v6_connect",
        }
    }
}

impl Event {
    /// Reads the bytes that a program wrote at [`EVENT`].
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let (pid, tid) = bytes.halves()?;
        let comm = bytes.comm()?;
        let uid = bytes.u32()?;
        let ip = if bytes.u32()? == libc::AF_INET.unsigned_abs() { Ip::V4 } else { Ip::V6 };
        Some(Self { pid, tid, comm, uid, flow: Flow::parse(ip, bytes)? })
    }
}

impl Args {
    fn wants(&self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => !self.ipv6,
            Ip::V6 => !self.ipv4,
        }
    }

    /// Whether the local port must be known.
    fn needs_lport(&self) -> bool {
        if self.count { self.source_port } else { self.lport }
    }

    /// The maps that the programs of a probe use, but for those of the filter.
    fn maps_of(&self, probe: Probe) -> Vec<MapSpec> {
        let mut maps = vec![event::dropped()];
        if self.count {
            maps.extend([Ip::V4, Ip::V6].map(|ip| {
                let address = (ip.event_size() - 36) / 2;
                MapSpec::hash(ip.counts(), ip.event_size() - 32, 8, FLOWS).with_types(
                    &[("dport", 2), ("lport", 2), ("daddr", address), ("saddr", address)],
                    &[("connects", 8)],
                )
            }));
        } else {
            maps.push(MapSpec::perf_event_array("events"));
        }
        match probe {
            Probe::Kprobe => maps.push(MapSpec::hash("sockets", 8, 8, IN_FLIGHT)),
            Probe::Tracepoint if self.needs_lport() => maps.push(MapSpec::lru_hash("connecting", 8, WHO, IN_FLIGHT)),
            _ => {}
        }
        maps
    }

    /// The programs of a probe, in the order in which they are attached: returns before entries, so that nothing is remembered
    /// that nobody collects.
    ///
    /// # Errors
    /// A constant that fits no instruction.
    fn programs_by(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
        if probe == Probe::Tracepoint {
            let attach = tool::tracepoint("sock", "inet_sock_set_state");
            return Ok(vec![ProgSpec::new("set_state", attach, self.set_state(target)?)?]);
        }
        let mut programs = Vec::new();
        for ip in [Ip::V4, Ip::V6] {
            programs.extend(self.programs_of(target, probe, ip)?);
        }
        Ok(programs)
    }

    fn programs_of(&self, target: &Target, probe: Probe, ip: Ip) -> Result<Vec<ProgSpec>, Error> {
        if !self.wants(ip) {
            return Ok(Vec::new());
        }
        let function = ip.function();
        let short = function.trim_start_matches("tcp_");
        Ok(if probe == Probe::Fentry {
            let attach = Attach::Fexit { func: function.into() };
            vec![ProgSpec::new(&format!("{short}_x"), attach, self.exit(target, ip))?]
        } else {
            vec![
                ProgSpec::new(&format!("{short}_r"), tool::kretprobe(function), self.ret(target, ip))?,
                ProgSpec::new(short, tool::kprobe(function), self.entry(target))?,
            ]
        })
    }

    /// At the entry: remembers the socket for the return, by thread.
    fn entry(&self, target: &Target) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = *(u64 *)(r1 + ctx.arg1);               // struct sock *sk
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + PID_TGID) = r0;
            {self.filter.code(target, SCRATCH, out)};
            *(u64 *)(r10 + SCRATCH) = r6;
            r1 = map[sockets];
            r2 = r10;
            r2 += PID_TGID;
            r3 = r10;
            r3 += SCRATCH;
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
            if r0 == 0 goto {out};
            {event::drop_one(SCRATCH, out)};
        });
        event::leave(code, out)
    }

    /// At the return: fetches the socket and reports it, if the connect did not fail.
    fn ret(&self, target: &Target, ip: Ip) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + PID_TGID) = r0;
            r1 = map[sockets];
            r2 = r10;
            r2 += PID_TGID;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};                      // filtered out, or reported by tcp_v4_connect within tcp_v6_connect
            r7 = *(u64 *)(r0 + 0);                      // struct sock *sk
            r1 = map[sockets];
            r2 = r10;
            r2 += PID_TGID;
            call bpf_map_delete_elem;
            r1 = *(u64 *)(r6 + ctx.ret);
            w1 = w1;                                    // an int
            if r1 != 0 goto {out};
            {self.read_socket(target, ip, self.ipv6, out)};
            {self.report(target, ip, out)};
        });
        event::leave(code, out)
    }

    /// fexit sees the arguments and the result at once.
    fn exit(&self, target: &Target, ip: Ip) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            r1 = *(u64 *)(r6 + ctx.ret);
            w1 = w1;                                    // an int
            if r1 != 0 goto {out};
            r7 = *(u64 *)(r6 + ctx.arg1);               // struct sock *sk
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + PID_TGID) = r0;
            {self.filter.code(target, SCRATCH, out)};
            {self.read_socket(target, ip, true, out)};
            {self.report(target, ip, out)};
        });
        event::leave(code, out)
    }

    /// Copies ports and addresses of the struct sock in r7 into the event, and leaves for `out` where a filter says so.
    ///
    /// `drop_mapped` leaves out the IPv4-mapped addresses of an IPv6 socket: tcp_v6_connect hands those to tcp_v4_connect,
    /// which reports them.
    fn read_socket(&self, target: &Target, ip: Ip, drop_mapped: bool, out: Label) -> Asm {
        let mut code = bpf! {
            {flow::ports(target, PORTS)};
            {self.port_filter(out)};
        };
        code.splice(match ip {
            Ip::V4 => flow::addresses_v4(target, DADDR),
            Ip::V6 => bpf! {
                {flow::remote_v6(target, DADDR)};
                {if drop_mapped { keep_mapped(false, out) } else { Asm::new() }};
                {flow::local_v6(target, DADDR + 16)};
            },
        });
        code
    }

    /// Leaves for `out` unless the destination port is one of those asked for.
    fn port_filter(&self, out: Label) -> Asm {
        let mut code = Asm::new();
        if self.port.is_empty() {
            return code;
        }
        let wanted = code.named_label("wanted");
        code.splice(bpf! { r1 = *(u16 *)(r10 + PORTS); });
        for port in &self.port {
            code.splice(bpf! { if r1 == {port.to_be()} goto {wanted}; });
        }
        code.goto(out);
        code.bind(wanted);
        code
    }

    /// Hands over the event whose process, ports and addresses are there, or counts it. r6 is the program's context.
    fn report(&self, target: &Target, ip: Ip, out: Label) -> Asm {
        if self.count { self.count(ip, out) } else { send(target, ip) }
    }

    /// Adds one to the count of the flow at r10 + PORTS.
    fn count(&self, ip: Ip, out: Label) -> Asm {
        let counts = ip.counts();
        let mut code = Asm::new();
        if !self.source_port {
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

    /// At sock:inet_sock_set_state.
    fn set_state(&self, target: &Target) -> Result<Asm, Error> {
        let protocol = target.tracepoint("sock", "inet_sock_set_state")?.field("protocol").map(|field| field.size);
        let load_protocol = match protocol {
            Some(1) => bpf! { r1 = *(u8 *)(r6 + ctx.protocol); },
            _ => bpf! { r1 = *(u16 *)(r6 + ctx.protocol); },
        };
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            {load_protocol};
            if r1 != {libc::IPPROTO_TCP} goto {out};
        });
        if !self.needs_lport() {
            code.splice(bpf! {
                r1 = *(u32 *)(r6 + ctx.newstate);
                if r1 != TCP_SYN_SENT goto {out};
                {self.who(target, out)};
                {self.read_tracepoint(target, out)?};
                {self.report(target, Ip::V6, out)};
            });
            return Ok(event::leave(code, out));
        }
        code.splice(bpf! {
            r1 = *(u64 *)(r6 + ctx.skaddr);
            *(u64 *)(r10 + SCRATCH) = r1;               // the key of `connecting`
            r1 = *(u32 *)(r6 + ctx.newstate);
            if r1 != TCP_SYN_SENT goto left;
            {self.who(target, out)};
            r1 = *(u64 *)(r6 + ctx.skaddr);
            *(u64 *)(r10 + SCRATCH) = r1;               // the filter may have used it
            r1 = map[connecting];
            r2 = r10;
            r2 += SCRATCH;
            r3 = r10;
            r3 += EVENT;
            r4 = 0;                                     // BPF_ANY
            call bpf_map_update_elem;
            if r0 == 0 goto {out};
            {event::drop_one(SCRATCH, out)};
            goto {out};
        left:
            r1 = *(u32 *)(r6 + ctx.oldstate);
            if r1 != TCP_SYN_SENT goto {out};
            r1 = map[connecting];
            r2 = r10;
            r2 += SCRATCH;
            call bpf_map_lookup_elem;
            if r0 == 0 goto {out};
            r1 = *(u64 *)(r0 + 0);
            *(u64 *)(r10 + EVENT) = r1;
            r1 = *(u64 *)(r0 + 8);
            *(u64 *)(r10 + COMM) = r1;
            r1 = *(u64 *)(r0 + 16);
            *(u64 *)(r10 + COMM + 8) = r1;
            r1 = *(u64 *)(r0 + 24);
            *(u64 *)(r10 + UID) = r1;                   // and the family
            r1 = map[connecting];
            r2 = r10;
            r2 += SCRATCH;
            call bpf_map_delete_elem;
            {self.read_tracepoint(target, out)?};
        });
        code.splice(if self.count { self.count(Ip::V6, out) } else { output(Ip::V6) });
        Ok(event::leave(code, out))
    }

    /// The part of the event that tells who connects, and the filter by it.
    fn who(&self, target: &Target, out: Label) -> Asm {
        let mut code = bpf! {
            call bpf_get_current_pid_tgid;
            *(u64 *)(r10 + PID_TGID) = r0;
            {self.filter.code(target, SCRATCH, out)};
        };
        if self.needs_lport() {
            code.splice(user_and_name(target, Ip::V6));
        }
        code
    }

    /// Copies ports and addresses of the tracepoint in r6 into the event; its IPv6 addresses are IPv4-mapped for IPv4.
    fn read_tracepoint(&self, target: &Target, out: Label) -> Result<Asm, Error> {
        let mut code = bpf! {
            r1 = *(u16 *)(r6 + ctx.dport);
            r1 = be16 r1;
            *(u16 *)(r10 + PORTS) = r1;
            r1 = *(u16 *)(r6 + ctx.sport);
            *(u16 *)(r10 + LPORT) = r1;
            {self.port_filter(out)};
        };
        let record = target.tracepoint("sock", "inet_sock_set_state")?;
        let is_even = |name: &str| record.field(name).is_none_or(|field| field.offset % 4 == 0);
        if is_even("daddr_v6") && is_even("saddr_v6") {
            for part in (0..16).step_by(4) {
                code.splice(bpf! {
                    r1 = *(u32 *)(r6 + ctx.daddr_v6 + {part});
                    *(u32 *)(r10 + DADDR + {part}) = r1;
                    r1 = *(u32 *)(r6 + ctx.saddr_v6 + {part});
                    *(u32 *)(r10 + DADDR + 16 + {part}) = r1;
                });
            }
        } else {
            // Before Linux 5.6 the protocol has one byte, and the addresses behind it begin at odd places, where no kernel
            // lets more than a byte be read.
            for part in 0..16 {
                code.splice(bpf! {
                    r1 = *(u8 *)(r6 + ctx.daddr_v6 + {part});
                    *(u8 *)(r10 + DADDR + {part}) = r1;
                    r1 = *(u8 *)(r6 + ctx.saddr_v6 + {part});
                    *(u8 *)(r10 + DADDR + 16 + {part}) = r1;
                });
            }
        }
        if self.ipv4 || self.ipv6 {
            code.splice(keep_mapped(self.ipv4, out));
        }
        Ok(code)
    }
}

/// Leaves for `out` unless the address at r10 + DADDR is IPv4-mapped (`keep`), or if it is (not `keep`).
fn keep_mapped(keep: bool, out: Label) -> Asm {
    let mut code = Asm::new();
    let native = code.named_label("native");
    let to = if keep { out } else { native };
    code.splice(bpf! {
        r1 = *(u32 *)(r10 + DADDR);
        if r1 != 0 goto {to};
        r1 = *(u32 *)(r10 + DADDR + 4);
        if r1 != 0 goto {to};
        r1 = *(u32 *)(r10 + DADDR + 8);
        w2 = {0xffff_u32.to_be()};
        if r1 != r2 goto {to};
    });
    if !keep {
        code.goto(out);
    }
    code.bind(native);
    code
}

/// Fills in user, family and name, which nothing so far needed.
fn user_and_name(target: &Target, ip: Ip) -> Asm {
    bpf! {
        {pids::here(target, PID_TGID)};
        call bpf_get_current_uid_gid;
        *(u32 *)(r10 + UID) = w0;
        *(u32 *)(r10 + FAMILY) = {ip.family()};
        {event::comm(COMM)};
    }
}

/// Completes the event and hands it over.
fn send(target: &Target, ip: Ip) -> Asm {
    bpf! {
        {user_and_name(target, ip)};
        {output(ip)};
    }
}

/// Hands over the event.
fn output(ip: Ip) -> Asm {
    event::send(EVENT, ip.event_size())
}

impl Args {
    /// Attaches by one probe.
    ///
    /// IPv6 may be missing from a kernel; where it was not asked for alone, that is said and IPv4 is traced.
    fn attach(&self, target: &Target, probe: Probe) -> Result<Attached, Error> {
        let mut attached = Attached::prepare(self.maps_of(probe), self.filter.maps(target)?, target, &self.options)?;
        if probe == Probe::Tracepoint {
            attached.attach(&self.programs_by(target, probe)?, target)?;
            return Ok(attached);
        }
        attached.attach(&self.programs_of(target, probe, Ip::V4)?, target)?;
        let v6 = self.programs_of(target, probe, Ip::V6).and_then(|programs| attached.attach(&programs, target));
        match v6 {
            Err(error) if self.wants(Ip::V4) => {
                report::say(format_args!("IPv6 connects are not shown: {}", Chain(&error)));
            }
            result => result?,
        }
        Ok(attached)
    }
}

impl Tool for Args {
    fn options(&self) -> &Options {
        &self.options
    }

    fn programs(&self, target: &Target) -> Result<Vec<ProgSpec>, Error> {
        tool::likely(self.probe, target).map_or(Ok(Vec::new()), |probe| self.programs_by(target, probe))
    }

    fn maps(&self, target: &Target) -> Result<Vec<MapSpec>, Error> {
        let maps = tool::likely(self.probe, target).map_or(Vec::new(), |probe| self.maps_of(probe));
        Ok(tool::with_filter(maps, &self.filter))
    }

    fn trace(&self, target: Target, output: &mut Output) -> Result<(), Error> {
        self.filter.check(&target)?;
        let mut session = Session::new()?;
        let mut attached = tool::choose(self.probe, &self.options, &target, |probe| self.attach(&target, probe))?;
        // The kernel's types take several megabytes, and have served.
        drop(target);
        let mut printer = Printer::new(self);
        match (self.count, self.options.json) {
            (false, _) => printer.header(output)?,
            (true, false) => output.line("Tracing connect ... Hit Ctrl-C to end")?,
            (true, true) => {}
        }
        let lost =
            attached.read(&mut session, &self.options, output, |sample, output| printer.print(sample, output))?;
        let missed = attached.detach();
        if self.count {
            print_counts(self, &attached.maps, output)?;
            output.flush()?;
        }
        report::count(lost, "events lost: the ring was full");
        report::count(event::count_dropped(&attached.maps)?, "connects not recorded: a map was full");
        report::count(missed, "connects missed: too many at one time for the kernel's return probes");
        Ok(())
    }
}

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

/// A row of the table of counts as JSON.
#[derive(Serialize)]
struct Count {
    #[serde(flatten)]
    flow: JsonFlow,
    connects: u64,
}

/// Prints events as rows.
struct Printer<'a> {
    args: &'a Args,
    columns: Columns,
    stamps: Stamps,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args) -> Self {
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

    fn header(&mut self, output: &mut Output) -> Result<(), Error> {
        if self.args.options.json { Ok(()) } else { output.line(self.columns.header()) }
    }

    fn print(&mut self, sample: &Sample<'_>, output: &mut Output) -> Result<(), Error> {
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

/// Prints the table of counts, most first.
fn print_counts(args: &Args, maps: &Maps, output: &mut Output) -> Result<(), Error> {
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
