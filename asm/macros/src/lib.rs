//! The `bpf!` macro of bpfkit-asm: tokens of the compiler in, calls of the builder out.
#![forbid(unsafe_code)]

mod emit;
mod input;

use proc_macro::TokenStream;

/// Writes eBPF as the kernel prints it; an expression of type `bpfkit_asm::Asm`.
///
/// One statement is one instruction, and each keeps the place and the text of its source.
///
/// | statement | |
/// |---|---|
/// | `r1 = r2;` `w1 = 5;` `r1 += {x};` | arithmetic: `= += -= *= /= s/= %= s%= \|= &= ^= <<= >>= s>>=` |
/// | `r1 = -r1;` `r1 = be16 r1;` `r1 = bswap32 r1;` `r1 = (s8)r2;` | negation, byte order, sign extension |
/// | `r1 = 0xffffffff ll;` | 64-bit constant |
/// | `r1 = map[name];` `r1 = map[name][0] + 8;` `r1 = func[name];` | address of a map, a map's value, a function |
/// | `r1 = *(u32 *)(r2 + 4);` `r1 = *(s8 *)(r2 + 0);` | load, load with its sign |
/// | `*(u32 *)(r10 - 4) = w1;` `*(u8 *)(r1 + 0) = 5;` | store |
/// | `r0 = *(u16 *)skb[12];` `r0 = *(u8 *)skb[r7 + 1];` | packet |
/// | `lock *(u64 *)(r1 + 0) += r2;` | atomic `+= \|= &= ^=` |
/// | `r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2);` | also `_or _and _xor`, `atomic64_xchg`, `atomic64_cmpxchg(.., r0, r2)` |
/// | `r1 = load_acquire((u64 *)(r2 + 0));` `store_release((u64 *)(r1 + 0), r2);` | ordered access |
/// | `if r1 == 5 goto out;` `if w1 s< w2 goto +3;` `goto out;` `gotol out;` `may_goto out;` | jumps: `== != > >= < <= s> s>= s< s<= &` |
/// | `call bpf_get_current_comm;` `call {helper};` `call report;` `call func bpf_report;` `call kfunc name;` | helper, function of the program, of the kernel |
/// | `exit;` | |
/// | `call pc+3;` `r1 = func[pc+3];` `call kfunc 1234;` `r1 = map[fd:5];` `r1 = map[idx:0][0] + 8;` `r1 = btf[id:7];` | the same by their numbers |
/// | `r1 = addr_space_cast(r2, 0, 1);` | a pointer into or out of an arena |
/// | `insn(0x07, 1, 0, 0, -1);` | a slot by its opcode, destination, source, offset and constant |
/// | `r1 = 0 ll @ map[name];` `call pc-1 @ func[report];` | what an object file has: linking puts in what the name stands for |
/// | `out:` | a label, of this block alone |
/// | `{expr};` | the instructions of another `Asm` |
///
/// A constant is a number, a Rust constant (`AF_INET`, `libc::AF_INET`), a Rust expression in braces, the offset of a member
/// (`sock.__sk_common.skc_dport`), its size (`sizeof(sock.sk_err)`), or the offset of a word of the program's context
/// (`ctx.arg1`, `ctx.ret`, `ctx.newstate`). Offsets of members are filled in for each kernel.
#[proc_macro]
pub fn bpf(input: TokenStream) -> TokenStream {
    let (tokens, end) = input::tokens(input);
    match bpfkit_asm_syntax::parse(&input::Compiler, &tokens, end) {
        Ok(statements) => emit::block(&statements, &tokens),
        Err(mistakes) => emit::complaints(&mistakes),
    }
}
