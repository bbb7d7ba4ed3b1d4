use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r0 = 0
        exit;
    };
}
