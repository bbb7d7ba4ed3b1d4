//! The helpers' prototypes beside those that a kernel was built with.

use std::collections::BTreeMap;

use bpfkit_asm::Helper;
use bpfkit_btf::{Btf, Kind, Param, Type};

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
        let ty = btf.ty(param.ty).and_then(Type::resolved);
        ty.is_ok_and(|ty| ty.kind() == Kind::PTR)
    };
    // All are looked for, so one walk over the types takes less than a search for each.
    let typedefs = btf.types().filter(|ty| ty.kind() == Kind::TYPEDEF);
    let protos: BTreeMap<String, Type<'_>> = typedefs
        .filter_map(|typedef| {
            let name = typedef.name().strip_prefix("btf_").filter(|name| name.starts_with("bpf_"))?.to_owned();
            let proto = btf.ty(typedef.resolved().ok()?.target()?).ok()?;
            (proto.kind() == Kind::FUNC_PROTO).then_some((name, proto))
        })
        .collect();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (helper, name, _) in Helper::ALL {
        let Some(proto) = protos.get(*name) else { continue };
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
