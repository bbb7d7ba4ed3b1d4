//! Finding what the tools need among a kernel's types.

use bpfkit::roots::ROOTS;
use bpfkit_btf::Btf;

/// The members that the tools ask for; not the functions and records, which are found by their names alone.
pub fn members() -> impl Iterator<Item = &'static str> {
    ROOTS.iter().copied().filter(|root| root.contains('.'))
}

/// Finds all of them; how many this kernel has.
pub fn find(btf: &Btf) -> usize {
    members().filter(|path| btf.field(path).is_ok()).count()
}
