use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = *(u32 *)(w2 + 0);
        *(u64 *)(r10 - 8) = w1;
        exit;
    };
}
