//! Types that the kernel takes, and what it takes of a program beside its instructions.

use std::os::fd::AsFd;
use std::path::Path;

use bpfkit_btf::Builder;

use super::{may_load, plain};
use crate::feature::Feature;
use crate::kind::ProgType;
use crate::map::with_memlock;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::SYSFS_BTF;

/// That the running kernel was built without types of its own (CONFIG_DEBUG_INFO_BTF). Before Linux 5.4 it has them out of sight, and
/// nothing goes by them.
pub(crate) fn has_none() -> bool {
    // Where sysfs is not mounted nothing is told.
    Path::new("/sys/kernel").exists() && !Path::new(SYSFS_BTF).exists()
}

pub(super) fn feature(feature: Feature) -> Option<bool> {
    if feature == Feature::KernelBtf {
        return Some(Path::new(SYSFS_BTF).exists());
    }
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let proto = types.func_proto(&[], int);
    match feature {
        Feature::ProgBtf => drop(types.func("probe", proto)),
        Feature::GlobalFunc => drop(types.global_func("probe", proto)),
        Feature::BtfFloat => drop(types.float("float", 4)),
        Feature::BtfDeclTag => {
            let of = types.strukt("probe", 0, &[]);
            types.decl_tag("tag", of);
        }
        Feature::BtfTypeTag => {
            let of = types.type_tag("tag", int);
            types.ptr(of);
        }
        Feature::BtfEnum64 => drop(types.enum64("probe", &[("FIRST", 0)])),
        Feature::FuncInfo | Feature::LineInfo => return infos(feature == Feature::LineInfo),
        _ => return None,
    }
    judge(&types.finish())
}

fn judge(types: &[u8]) -> Option<bool> {
    match with_memlock(|| bpf::btf_load(types)) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
        Err(_) => Some(false),
    }
}

/// A program with its function, and perhaps a source line for it.
fn infos(with_line: bool) -> Option<bool> {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let proto = types.func_proto(&[], int);
    let func = types.func("probe", proto);
    let line = [0, types.string("probe.rs"), types.string("r0 = 0;"), 1 << 10 | 1];
    let func_info = [0, func.0].map(u32::to_ne_bytes).concat();
    let line_info = if with_line { line.map(u32::to_ne_bytes).concat() } else { Vec::new() };
    let Ok(types) = with_memlock(|| bpf::btf_load(&types.finish())) else { return may_load() };
    let insns: Vec<u8> = plain()?.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad { prog_type: ProgType::TRACEPOINT.0, ..Default::default() };
    let input = ProgInput {
        insns: &insns,
        license: b"GPL\0",
        func_info: &func_info,
        line_info: &line_info,
        btf: Some(types.as_fd()),
        ..Default::default()
    };
    if with_memlock(|| bpf::prog_load(attributes, input, &mut [])).is_ok() { Some(true) } else { may_load() }
}
