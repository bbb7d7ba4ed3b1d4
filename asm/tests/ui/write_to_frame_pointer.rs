use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r10 += 8;
        exit;
    };
}
