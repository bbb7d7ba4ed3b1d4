use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r11 = 1;
        r1 = r12;
        exit;
    };
}
