use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
    out:
        r0 = 0;
    out:
        exit;
    };
}
