use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        lock *(u8 *)(r1 + 0) += r2;
        r2 = atomic64_fetch_nand((u64 *)(r1 + 0), r2);
        exit;
    };
}
