use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        got out;
        exitt;
    out:
        exit;
    };
}
