//! The helper functions.

/// A helper function of the kernel by its number, `enum bpf_func_id` in include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Helper(pub u32);
