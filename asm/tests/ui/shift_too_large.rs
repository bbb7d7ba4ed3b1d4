use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 <<= 64;
        w1 >>= 32;
        r2 /= 0;
        exit;
    };
}
