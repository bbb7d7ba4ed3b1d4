use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = {"text"};
        call {5};
        exit;
    };
}
