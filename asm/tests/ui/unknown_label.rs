use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        if r0 == 0 goto outt;
    out:
        exit;
    };
}
