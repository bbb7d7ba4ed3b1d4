use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 =+ 2;
        r1 ** 2;
        exit;
    };
}
