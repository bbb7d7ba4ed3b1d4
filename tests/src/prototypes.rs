//! The helpers' prototypes beside those that a kernel was built with.

use bpfkit_asm::Helper;
use bpfkit_btf::{Btf, Kind, Param};

/// Helpers to which the verifier itself passes one more argument, which no program sees.
const HIDDEN: [&str; 5] = [
    "bpf_sk_storage_get",
    "bpf_inode_storage_get",
    "bpf_task_storage_get",
    "bpf_cgrp_storage_get",
    "bpf_timer_set_callback",
];

/// Compares the parameters of all helpers with the types of a kernel, where it has a typedef `btf_NAME` of the function, as
/// `BPF_CALL_n` of include/linux/filter.h makes them: how many there are, and which are pointers. How many helpers could be
/// compared, and what differs.
pub fn compare(btf: &Btf) -> (usize, Vec<String>) {
    let is_pointer = |param: &Param<'_>| {
        let ty = btf.ty(param.ty).and_then(bpfkit_btf::Type::resolved);
        ty.is_ok_and(|ty| ty.kind() == Kind::PTR)
    };
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (helper, name, _) in Helper::ALL {
        let Ok(proto) = btf.typedef_proto(&format!("btf_{name}")) else { continue };
        let Some(doc) = helper.doc() else { continue };
        compared += 1;
        let own: Vec<bool> = proto.params().map(|param| is_pointer(&param)).collect();
        let ours: Vec<bool> = doc.params().map(|param| param.contains('*')).collect();
        // `...` are up to three numbers.
        let ours = ours.strip_suffix(&[false]).filter(|_| doc.prototype.ends_with("...)")).unwrap_or(&ours);
        let more = own.strip_prefix(ours).map(<[bool]>::len);
        let most = if doc.prototype.ends_with("...)") { 3 } else { usize::from(HIDDEN.contains(name)) };
        if more.is_none_or(|more| more > most) {
            wrong.push(format!("{}, and the kernel has {}", doc.prototype, btf.spell(proto.id)));
        }
    }
    (compared, wrong)
}
