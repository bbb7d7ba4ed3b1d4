//! The kprobe programs, and those that watch or replace a function of theirs.

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{Attach, CType, Feature, Linkage, ProgSpec, Prototype, Target};

use super::record::{ADDRESSES, COMM, EVENT, FAMILY, PID_TGID, PORTS, RET, SIZE_V4, SIZE_V6, WHICH, which};
use super::{Args, Probe, Via};
use crate::flow::{self, Ip};
use crate::{Error, event, pids, read, tool};

/// 8 bytes of the stack of the function where the kernel enters, for filters.
const SCRATCH: i32 = -8;

const SUBPROGRAM: &str = "handle_new_connection";
const VALUE_OF: &str = "value_of";

impl Args {
    /// The programs at one function, each after the one that it belongs to.
    pub(super) fn programs_of(&self, target: &Target, probe: Probe) -> Result<Vec<ProgSpec>, Error> {
        let short = probe.short();
        let proto = Prototype::int()
            .param("ctx", CType::Struct("pt_regs".to_owned()))
            .param("sk", CType::Struct("sock".to_owned()));
        let value_proto = Prototype::int().param("port", CType::U64).param("family", CType::U64);
        let value_of = bpf! {
            r0 = r1;                                    // the port
            exit;
        };
        let kprobe = ProgSpec::new(short, tool::kprobe(probe.function()), self.entry(target, probe))?
            .func_with(SUBPROGRAM, proto, Linkage::Static, handle_new_connection(target, probe))?
            .func_with(VALUE_OF, value_proto, Linkage::Global, value_of)?;
        let mut programs = Vec::new();
        if self.replace {
            target.require(Feature::Freplace)?;
            let family = bpf! {
                r0 = r2;                                // the family
                exit;
            };
            let attach = Attach::Freplace(kprobe.function(VALUE_OF)?);
            programs.push(ProgSpec::new(&format!("{short}_family"), attach, family)?);
        }
        if target.has(Feature::FentryProg) {
            let func = kprobe.function(SUBPROGRAM)?;
            let (entry, exit) = (watch(target, probe, Via::Fentry), watch(target, probe, Via::Fexit));
            programs.push(ProgSpec::new(&format!("{short}_entry"), Attach::FentryProg(func.clone()), entry)?);
            programs.push(ProgSpec::new(&format!("{short}_exit"), Attach::FexitProg(func), exit)?);
        }
        programs.insert(0, kprobe);
        Ok(programs)
    }

    /// Where the kernel enters: finds the socket and hands it on.
    fn entry(&self, target: &Target, probe: Probe) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! { r6 = r1; });
        match probe {
            Probe::Connect => {
                if self.filter.is_any() {
                    code.splice(bpf! {
                        call bpf_get_current_pid_tgid;
                        {self.filter.code(target, SCRATCH, out)};
                    });
                }
                code.splice(bpf! { r2 = *(u64 *)(r6 + ctx.arg1); }); // struct sock *sk
            }
            Probe::Accept => {
                code.splice(bpf! {
                    r1 = *(u64 *)(r6 + ctx.arg4);                               // bool own_req
                    r1 &= 255;
                    if r1 == 0 goto {out};                                      // another CPU was first
                    r2 = *(u64 *)(r6 + ctx.arg2);                               // struct sock *child
                });
            }
        }
        code.splice(bpf! {
            r1 = r6;
            call handle_new_connection;
        });
        event::leave(code, out)
    }
}

/// `int handle_new_connection(struct pt_regs *ctx, struct sock *sk)`, of which each program has its copy, as programs have all
/// their functions.
fn handle_new_connection(target: &Target, probe: Probe) -> Asm {
    let mut code = Asm::new();
    let out = code.named_label("out");
    code.splice(bpf! {
        r6 = r1;
        r7 = r2;
        {report(target, probe, Via::Kprobe, out)};
        r1 = *(u16 *)(r10 + PORTS);
        r1 = be16 r1;
        r2 = *(u16 *)(r10 + FAMILY);
        call value_of;
        exit;
    });
    event::leave(code, out)
}

/// The program at the entry or the return of that.
fn watch(target: &Target, probe: Probe, via: Via) -> Asm {
    let mut code = Asm::new();
    let out = code.named_label("out");
    code.splice(bpf! {
        r6 = r1;
        r7 = *(u64 *)(r6 + ctx.arg2);                   // struct sock *sk
        {report(target, probe, via, out)};
    });
    event::leave(code, out)
}

/// Sends the event of the struct sock in r7, with the context in r6; leaves for `out` with one that is not of TCP over IP.
fn report(target: &Target, probe: Probe, via: Via, out: Label) -> Asm {
    let mut code = bpf! {
        *(u64 *)(r10 + RET) = 0;
    };
    if via == Via::Fexit {
        code = bpf! {
            r1 = *(u64 *)(r6 + ctx.ret);
            r1 <<= 32;                                  // an int
            r1 s>>= 32;
            *(u64 *)(r10 + RET) = r1;
        };
    }
    code.splice(bpf! {
        call bpf_get_current_pid_tgid;
        *(u64 *)(r10 + PID_TGID) = r0;
        {pids::here(target, PID_TGID)};
        {event::comm(COMM)};
        *(u32 *)(r10 + WHICH) = {which(probe, via)};
        *(u32 *)(r10 + FAMILY) = 0;
        r3 = r7;
        r3 += sock.__sk_common.skc_family;
        {read::kernel(target, FAMILY, 2)};
        {flow::ports(target, PORTS)};
        r1 = *(u16 *)(r10 + FAMILY);
    });
    let v4 = bpf! {
        if r1 != {Ip::V4.family()} goto {out};
        {flow::addresses_v4(target, ADDRESSES)};
        {event::send(EVENT, SIZE_V4)};
    };
    // A socket of a kernel without IPv6 has no room for its addresses.
    code.splice(if target.field("sock.__sk_common.skc_v6_daddr").is_err() {
        v4
    } else {
        bpf! {
            if r1 == {Ip::V6.family()} goto v6;
            {v4};
            goto sent;
        v6:
            {flow::remote_v6(target, ADDRESSES)};
            {flow::local_v6(target, ADDRESSES + 16)};
            {event::send(EVENT, SIZE_V6)};
        sent:
        }
    });
    code
}
