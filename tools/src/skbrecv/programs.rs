//! The program, at either probe.

use bpfkit_asm::{Asm, Label, bpf};
use bpfkit_loader::{ProgSpec, Target};

use super::function::is_indirect;
use super::record::{EVENT, FORMAT, LEN, NAME, PRINTK, PRINTK_SIZE, PROTO, SCRATCH, SIZE};
use super::{Args, Probe};
use crate::{Error, event, read, tool};

impl Args {
    /// The programs of a probe; a kprobe is on the function of this name.
    ///
    /// # Errors
    /// What the target cannot tell of the function or of the tracepoint.
    pub(super) fn programs_by(
        &self,
        target: &Target,
        probe: Probe,
        symbol: &str,
        is_there: bool,
    ) -> Result<Vec<ProgSpec>, Error> {
        let (attach, mut packet) = match probe {
            Probe::Kprobe => {
                let mut packet = bpf! { r7 = *(u64 *)(r6 + ctx.arg1); };
                if is_indirect(target, symbol, is_there)? {
                    packet.splice(bpf! {
                        r3 = r7;                        // struct sk_buff **pskb
                        {read::kernel(target, SCRATCH, 8)};
                        r7 = *(u64 *)(r10 + SCRATCH);
                    });
                }
                (tool::kprobe(symbol), packet)
            }
            Probe::Tracepoint => {
                (tool::tracepoint("net", "netif_receive_skb"), bpf! { r7 = *(u64 *)(r6 + ctx.skbaddr); })
            }
        };
        let (name, len) = match probe {
            Probe::Kprobe => members(target),
            Probe::Tracepoint => record(target),
        };
        packet.splice(name);
        Ok(vec![ProgSpec::new("skbrecv", attach, self.receive(target, packet, len))?])
    }

    /// Reports the packet that `packet` puts into r7, with the device's name at r10 + [`NAME`]; `len` adds the length.
    fn receive(&self, target: &Target, packet: Asm, len: Asm) -> Asm {
        let mut code = Asm::new();
        let out = code.named_label("out");
        code.splice(bpf! {
            r6 = r1;
            {packet};
            {self.device_filter(out)};
            {len};
            *(u32 *)(r10 + PROTO) = 0;
            r3 = r7;
            r3 += sk_buff.protocol;
            {read::kernel(target, PROTO, 2)};
            {if self.printk { print() } else { event::send(EVENT, SIZE) }};
        });
        event::leave(code, out)
    }

    /// Leaves for `out` unless the name at r10 + NAME is the one asked for. What follows the NUL is not looked at: a device that
    /// was renamed has the rest of a longer name there.
    fn device_filter(&self, out: Label) -> Asm {
        let mut code = Asm::new();
        if self.interface == "any" {
            return code;
        }
        let wanted = [self.interface.as_bytes(), b"\0"].concat();
        for (at, part) in (NAME..).step_by(8).zip(wanted.chunks(8)) {
            let (mut word, mut mask) = ([0; 8], [0; 8]);
            word[..part.len()].copy_from_slice(part);
            mask[..part.len()].fill(0xff);
            code.splice(bpf! { r1 = *(u64 *)(r10 + {at}); });
            if part.len() < 8 {
                code.splice(bpf! {
                    r2 = {u64::from_ne_bytes(mask)} ll;
                    r1 &= r2;
                });
            }
            code.splice(bpf! {
                r2 = {u64::from_ne_bytes(word)} ll;
                if r1 != r2 goto {out};
            });
        }
        code
    }
}

/// The device's name and the length of the packet in r7, from its members.
fn members(target: &Target) -> (Asm, Asm) {
    let name = bpf! {
        r3 = r7;
        r3 += sk_buff.dev;
        {read::kernel(target, SCRATCH, 8)};
        r3 = *(u64 *)(r10 + SCRATCH);
        r3 += net_device.name;
        {read::kernel(target, NAME, 16)};
    };
    let len = bpf! {
        r3 = r7;
        r3 += sk_buff.len;
        {read::kernel(target, LEN, 4)};
    };
    (name, len)
}

/// The same from the tracepoint's record. Of what follows a short name there nothing is shown.
fn record(target: &Target) -> (Asm, Asm) {
    let name = bpf! {
        r3 = *(u32 *)(r6 + ctx.name);                   // __data_loc: its length, and where in the record it is
        r3 &= 0xffff;
        r3 += r6;
        {read::kernel(target, NAME, 16)};
    };
    let len = bpf! {
        r1 = *(u32 *)(r6 + ctx.len);
        *(u32 *)(r10 + LEN) = r1;
    };
    (name, len)
}

/// Prints the event, one of the lines that bpf_trace_printk writes for all programs.
fn print() -> Asm {
    let mut code = Asm::new();
    for (at, part) in (FORMAT..).step_by(8).zip(PRINTK.chunks_exact(8)) {
        let word = part.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        code.splice(bpf! {
            r1 = {word} ll;
            *(u64 *)(r10 + {at}) = r1;
        });
    }
    code.splice(bpf! {
        r1 = r10;
        r1 += FORMAT;
        r2 = PRINTK_SIZE;
        r3 = r10;
        r3 += NAME;
        r4 = *(u32 *)(r10 + LEN);
        r5 = *(u16 *)(r10 + PROTO);
        r5 = be16 r5;
        call bpf_trace_printk;
    });
    code
}
