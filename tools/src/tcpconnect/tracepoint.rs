//! The program at the tracepoint `sock:inet_sock_set_state`.

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::Target;

use super::programs::{keep_mapped, output, user_and_name};
use super::record::{COMM, DADDR, EVENT, LPORT, PID_TGID, PORTS, SCRATCH, UID};
use super::{Args, counts};
use crate::flow::Ip;
use crate::{Error, event};

const TCP_SYN_SENT: i32 = 2;

impl Args {
    /// At sock:inet_sock_set_state.
    pub(super) fn set_state(&self, target: &Target) -> Result<Asm, Error> {
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
        code.splice(if self.count { counts::add(Ip::V6, self.source_port, out) } else { output(Ip::V6) });
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
