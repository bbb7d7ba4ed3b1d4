use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = 0xffffffff;
        *(u8 *)(r10 - 1) = 256;
        exit;
    };
}
