use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = *(u24 *)(r2 + 0);
        exit;
    };
}
