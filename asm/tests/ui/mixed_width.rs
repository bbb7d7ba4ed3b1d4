use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 += w2;
        w3 = r4;
        exit;
    };
}
