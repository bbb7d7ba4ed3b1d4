//! The programs on `tcp_v4_connect` and `tcp_v6_connect`, and what the one at the tracepoint has in common with them.

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Attach, MapSpec, ProgSpec, Target};

use super::record::{COMM, DADDR, EVENT, FAMILY, PID_TGID, PORTS, SCRATCH, UID, WHO};
use super::{Args, Probe, counts};
use crate::flow::{self, Ip};
use crate::{Error, event, pids, tool};

/// Connects under way at one time: more than any machine has threads in connect(2).
const IN_FLIGHT: u32 = 10_240;

impl Ip {
    const fn function(self) -> &'static str {
        match self {
            Self::V4 => "tcp_v4_connect",
            Self::V6 => "tcp_v6_connect",
        }
    }
}

impl Args {
    /// The maps that the programs of a probe use, but for those of the filter.
    pub(super) fn maps_of(&self, probe: Probe) -> Vec<MapSpec> {
        let mut maps = vec![event::dropped()];
        if self.count {
            maps.extend([Ip::V4, Ip::V6].map(counts::map));
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
    pub(super) fn programs_by(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
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

    pub(super) fn programs_of(&self, target: &Target, probe: Probe, ip: Ip) -> Result<Vec<ProgSpec>, Error> {
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
    pub(super) fn port_filter(&self, out: Label) -> Asm {
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
    pub(super) fn report(&self, target: &Target, ip: Ip, out: Label) -> Asm {
        if self.count { counts::add(ip, self.source_port, out) } else { send(target, ip) }
    }
}

/// Leaves for `out` unless the address at r10 + DADDR is IPv4-mapped (`keep`), or if it is (not `keep`).
pub(super) fn keep_mapped(keep: bool, out: Label) -> Asm {
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
pub(super) fn user_and_name(target: &Target, ip: Ip) -> Asm {
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
pub(super) fn output(ip: Ip) -> Asm {
    event::send(EVENT, ip.event_size())
}
