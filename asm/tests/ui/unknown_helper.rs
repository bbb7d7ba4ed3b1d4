use bpfkit_asm::bpf;

fn main() {
    let _ = bpf! {
        call bpf_map_lokup_elem;
        exit;
    };
}
