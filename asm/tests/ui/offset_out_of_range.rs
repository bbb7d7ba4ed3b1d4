use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = *(u64 *)(r2 + 40000);
        exit;
    };
}
