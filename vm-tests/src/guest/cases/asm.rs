//! The listing, compared with the verifier's log of the same instructions.

use std::collections::BTreeMap;

use bpfkit_asm::{Asm, list};
use bpfkit_loader::Feature;

use crate::guest::case::{Case, Ctx, Failure};
use crate::guest::sys;
use crate::{ensure, fail, skip};

pub const CASES: &[Case] = &[
    Case { name: "asm::listing_is_the_verifiers_for_alu", run: |ctx| compare(ctx, None, ALU) },
    Case { name: "asm::listing_is_the_verifiers_for_memory", run: |ctx| compare(ctx, None, MEMORY) },
    Case { name: "asm::listing_is_the_verifiers_for_jumps", run: |ctx| compare(ctx, None, JUMPS) },
    Case { name: "asm::listing_is_the_verifiers_for_calls", run: |ctx| compare(ctx, None, CALLS) },
    Case { name: "asm::listing_is_the_verifiers_for_packets", run: |ctx| compare(ctx, None, PACKETS) },
    Case { name: "asm::listing_is_the_verifiers_for_jmp32", run: |ctx| compare(ctx, Some(Feature::Jmp32), JMP32) },
    Case {
        name: "asm::listing_is_the_verifiers_for_atomics",
        run: |ctx| compare(ctx, Some(Feature::AtomicFetch), ATOMICS),
    },
    Case { name: "asm::listing_is_the_verifiers_for_isa_v4", run: |ctx| compare(ctx, Some(Feature::IsaV4), ISA_V4) },
    Case {
        name: "asm::listing_is_the_verifiers_for_may_goto",
        run: |ctx| compare(ctx, Some(Feature::MayGoto), MAY_GOTO),
    },
    Case {
        name: "asm::listing_is_the_verifiers_for_ordered_access",
        run: |ctx| compare(ctx, Some(Feature::LoadAcquire), ORDERED),
    },
];

/// Numbers that the verifier does not know, so that it walks both sides of a jump.
const UNKNOWN: &str = "
    r6 = r1;
    call bpf_get_prandom_u32;
    r7 = r0;
    call bpf_get_prandom_u32;
    r8 = r0;
    *(u64 *)(r10 - 8) = r7;
    *(u64 *)(r10 - 16) = r8;
";

const END: &str = "
    r0 = 0;
    exit;
";

const ALU: &str = "
    r0 = r7; w0 = w7; r0 = 5; w0 = 5; r0 = -1; w0 = -1; r0 = 0x7fffffff;
    r0 += r7; r0 -= r7; r0 *= r7; r0 /= r7; r0 |= r7; r0 &= r7; r0 <<= r7; r0 >>= r7; r0 %= r7; r0 ^= r7; r0 s>>= r7;
    r0 += 11; r0 -= 12; r0 *= 13; r0 /= 14; r0 |= 15; r0 &= 16; r0 <<= 17; r0 >>= 18; r0 %= 19; r0 ^= -20; r0 s>>= 21;
    w0 += w7; w0 -= w7; w0 *= w7; w0 /= w7; w0 |= w7; w0 &= w7; w0 <<= w7; w0 >>= w7; w0 %= w7; w0 ^= w7;
    w0 += 11; w0 -= 12; w0 *= 13; w0 /= 14; w0 |= 15; w0 &= 16; w0 <<= 17; w0 >>= 18; w0 %= 19; w0 ^= -20;
    r0 = -r0; w0 = -w0;
    r0 = be16 r0; r0 = be32 r0; r0 = be64 r0; r0 = le16 r0; r0 = le32 r0; r0 = le64 r0;
    r0 = 0x1122334455667788 ll; r9 = -1 ll; r9 = 1 ll;
";

const MEMORY: &str = "
    *(u8 *)(r10 - 24) = r7; *(u16 *)(r10 - 24) = r7; *(u32 *)(r10 - 24) = r7; *(u64 *)(r10 - 24) = r7;
    *(u8 *)(r10 - 24) = 1; *(u16 *)(r10 - 24) = 2; *(u32 *)(r10 - 24) = -3; *(u64 *)(r10 - 24) = -4;
    r0 = *(u8 *)(r10 - 24); r0 = *(u16 *)(r10 - 24); r0 = *(u32 *)(r10 - 24); r0 = *(u64 *)(r10 - 24);
    r2 = r10; r2 += -24; r0 = *(u64 *)(r2 + 16); r0 = *(u64 *)(r2 + 0);
    lock *(u32 *)(r10 - 24) += r7; lock *(u64 *)(r10 - 24) += r7;
    r0 = *(u32 *)(r6 + 0); r0 = *(u32 *)(r6 + 4);
";

const JUMPS: &str = "
    if r7 == r8 goto a; a: if r7 != r8 goto b; b: if r7 > r8 goto c; c: if r7 >= r8 goto d; d: if r7 < r8 goto e;
    e: if r7 <= r8 goto f; f: if r7 & r8 goto g; g: if r7 s> r8 goto h; h: if r7 s>= r8 goto i; i: if r7 s< r8 goto j;
    j: if r7 s<= r8 goto k; k: r0 = 1;
    if r7 == 1 goto l; l: if r7 != 2 goto m; m: if r7 > 3 goto n; n: if r7 >= 4 goto o; o: if r7 < 5 goto p;
    p: if r7 <= 6 goto q; q: if r7 & 7 goto r; r: if r7 s> 8 goto s; s: if r7 s>= -9 goto t; t: if r7 s< -10 goto u;
    u: if r7 s<= 0x7fffffff goto v; v: r0 = 2; if r7 == 77 goto far; r0 = 3; goto near; far: r0 = 4; near: r0 = 5;
";

const CALLS: &str = "
    call bpf_ktime_get_ns; call bpf_get_smp_processor_id; r1 = r10; r1 += -8; r2 = 8; *(u64 *)(r10 - 32) = 0;
    r3 = r6;
";

const PACKETS: &str = "
    r0 = *(u8 *)skb[1]; r0 = *(u16 *)skb[2]; r0 = *(u32 *)skb[4];
    r0 = *(u8 *)skb[r7 + 1]; r0 = *(u16 *)skb[r7 + 2]; r0 = *(u32 *)skb[r7 + 4];
";

const JMP32: &str = "
    if w7 == w8 goto a; a: if w7 != w8 goto b; b: if w7 > w8 goto c; c: if w7 >= w8 goto d; d: if w7 < w8 goto e;
    e: if w7 <= w8 goto f; f: if w7 & w8 goto g; g: if w7 s> w8 goto h; h: if w7 s>= w8 goto i; i: if w7 s< w8 goto j;
    j: if w7 s<= w8 goto k; k: r0 = 1;
    if w7 == 1 goto l; l: if w7 != 2 goto m; m: if w7 > 3 goto n; n: if w7 >= 4 goto o; o: if w7 < 5 goto p;
    p: if w7 <= 6 goto q; q: if w7 & 7 goto r; r: if w7 s> 8 goto s; s: if w7 s>= -9 goto t; t: if w7 s< -10 goto u;
    u: if w7 s<= 0x7fffffff goto v; v: r0 = 2; w0 s>>= w7; w0 s>>= 3;
";

const ATOMICS: &str = "
    r1 = 1;
    lock *(u64 *)(r10 - 8) += r1; lock *(u64 *)(r10 - 8) |= r1; lock *(u64 *)(r10 - 8) &= r1; lock *(u64 *)(r10 - 8) ^= r1;
    lock *(u32 *)(r10 - 8) += r1; lock *(u32 *)(r10 - 8) |= r1; lock *(u32 *)(r10 - 8) &= r1; lock *(u32 *)(r10 - 8) ^= r1;
    r1 = atomic64_fetch_add((u64 *)(r10 - 8), r1); r1 = atomic64_fetch_or((u64 *)(r10 - 8), r1);
    r1 = atomic64_fetch_and((u64 *)(r10 - 8), r1); r1 = atomic64_fetch_xor((u64 *)(r10 - 8), r1);
    r1 = atomic_fetch_add((u32 *)(r10 - 8), r1); r1 = atomic_fetch_or((u32 *)(r10 - 8), r1);
    r1 = atomic64_xchg((u64 *)(r10 - 8), r1); r1 = atomic_xchg((u32 *)(r10 - 8), r1);
    r0 = 7; r0 = atomic64_cmpxchg((u64 *)(r10 - 8), r0, r1); r0 = atomic_cmpxchg((u32 *)(r10 - 8), r0, r1);
";

const ISA_V4: &str = "
    r0 = (s8)r7; r0 = (s16)r7; r0 = (s32)r7; w0 = (s8)w7; w0 = (s16)w7;
    r0 = bswap16 r0; r0 = bswap32 r0; r0 = bswap64 r0;
    r0 s/= r7; r0 s%= r7; r0 s/= 3; r0 s%= -4; w0 s/= w7; w0 s%= w7; w0 s/= 3; w0 s%= 4;
    r0 = *(s8 *)(r10 - 8); r0 = *(s16 *)(r10 - 8); r0 = *(s32 *)(r10 - 8);
    gotol a; a: r0 = 1;
";

const MAY_GOTO: &str = "
    may_goto a; r0 = 1; a: r0 = 2;
";

const ORDERED: &str = "
    r0 = load_acquire((u64 *)(r10 - 8)); r0 = load_acquire((u32 *)(r10 - 8)); w0 = load_acquire((u8 *)(r10 - 8));
    store_release((u64 *)(r10 - 8), r0); store_release((u16 *)(r10 - 8), r0);
";

fn compare(ctx: &mut Ctx, needs: Option<Feature>, text: &str) -> Result<(), Failure> {
    if let Some(feature) = needs
        && !ctx.target()?.has(feature)
    {
        skip!("this kernel lacks {feature}");
    }
    let text = format!("{UNKNOWN}{text}{END}");
    let code = Asm::parse(&text, "case.bpf")?.finish()?;
    let insns: Vec<[u8; 8]> = code.insns().iter().map(|insn| insn.to_ne_bytes()).collect();
    let log = match sys::verifier_log(&insns) {
        Ok(log) => log,
        Err((error, log)) => fail!("{error}: {log}"),
    };
    let kernel = printed(&log);
    let mut differences = Vec::new();
    let mut seen = 0;
    for ours in list(code.insns(), &()) {
        match kernel.get(&ours.slot) {
            Some(theirs) if *theirs == ours.to_string() => seen += 1,
            Some(theirs) => differences.push(format!("slot {}: ours is {ours:?}, the kernel's {theirs}", ours.slot)),
            None => differences.push(format!("slot {}: the kernel's log has no {ours:?}", ours.slot)),
        }
    }
    ensure!(differences.is_empty(), "{}\n{log}", differences.join("\n"));
    ensure!(seen > 0, "nothing was compared: {log}");
    Ok(())
}

/// The instructions of a log by slot: `12: (07) r0 += 1     ; R0_w=scalar()`, the state being left out.
fn printed(log: &str) -> BTreeMap<usize, String> {
    log.lines()
        .filter_map(|line| {
            let (slot, rest) = line.split_once(": (")?;
            let slot = slot.parse().ok()?;
            let text = line.get(line.len() - rest.len() - 1..)?;
            Some((slot, of_now(text.split(';').next().unwrap_or(text).trim_end())))
        })
        .collect()
}

/// Before Linux 5.0 the verifier writes `(u32) r0 += (u32) r7` and `r0 = (u32) -r0` for what it writes as `w0 += w7` and `w0 = -w0` since.
fn of_now(text: &str) -> String {
    match text.strip_prefix("(84) ") {
        Some(rest) if text.contains("(u32) -r") => format!("(84) {}", rest.replace("(u32) ", "").replace('r', "w")),
        _ => text.replace("(u32) r", "w").replace("(u32) ", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_found_among_states() {
        let log = "0: R1=ctx() R10=fp0\n0: (bf) r6 = r1                       ; R1=ctx() R6_w=ctx()\n1: (85) call bpf_x#7\n\
                   from 1 to 2: safe\n; r0 = 1 @ x.rs:2\n2: (95) exit\nprocessed 3 insns\n";
        let found: Vec<(usize, String)> = printed(log).into_iter().collect();
        assert_eq!(
            found,
            [(0, "(bf) r6 = r1"), (1, "(85) call bpf_x#7"), (2, "(95) exit")].map(|(n, text)| (n, text.to_owned()))
        );
    }

    #[test]
    fn what_old_kernels_write_is_read_as_what_new_ones_write() {
        for (old, new) in [
            ("(bc) (u32) r0 = (u32) r7", "(bc) w0 = w7"),
            ("(b4) (u32) r0 = (u32) -1", "(b4) w0 = -1"),
            ("(84) r0 = (u32) -r0", "(84) w0 = -w0"),
            ("(61) r0 = *(u32 *)(r10 -8)", "(61) r0 = *(u32 *)(r10 -8)"),
            ("(84) w0 = -w0", "(84) w0 = -w0"),
        ] {
            assert_eq!(of_now(old), new);
        }
    }
}
