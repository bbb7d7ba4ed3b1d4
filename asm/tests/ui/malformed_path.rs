use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        r1 = *(u32 *)(r2 + sock.);
        r1 += sock.a[x];
        exit;
    };
}
