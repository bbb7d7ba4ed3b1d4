//! The helpers' prototypes beside those of this machine's kernel; `cargo vm` compares them with all others.

use std::path::Path;

use bpfkit_btf::Btf;
use bpfkit_tests::prototypes::compare;

#[test]
fn helpers_have_the_parameters_that_the_kernel_has() {
    let Ok(btf) = Btf::from_file(Path::new("/sys/kernel/btf/vmlinux")) else {
        eprintln!("skipped: this kernel does not show its types; cargo vm compares with those of others");
        return;
    };
    let (compared, wrong) = compare(&btf);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 100, "only {compared} could be compared");
}
