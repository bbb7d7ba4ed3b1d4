//! Process numbers as they are where this program runs: in a container they are not those that the kernel's programs see.

use bpfkit_asm::{Asm, Reg, bpf};
use bpfkit_loader::{Feature, PidNamespace, Target};

use crate::report;

/// The pid namespace that numbers are asked of, where it is not the initial one and the kernel has a way to ask.
pub fn namespace(target: &Target) -> Option<PidNamespace> {
    target.pid_namespace().filter(|_| target.has(Feature::NsPid))
}

/// Replaces what `bpf_get_current_pid_tgid` returned, at r10 + `at`, by the numbers that the task has where this runs; zeros
/// for a task that has none there. r6 to r9 survive. In the initial namespace it takes no instruction.
pub fn here(target: &Target, at: i32) -> Asm {
    here_in(target, Reg::R10, at)
}

/// The same at `base` + `at`.
pub fn here_in(target: &Target, base: Reg, at: i32) -> Asm {
    // `struct bpf_pidns_info` has the thread first, so that on little-endian machines it is the same number.
    namespace(target).map_or_else(Asm::new, |PidNamespace { dev, ino }| {
        let mut code = Asm::new();
        code.mov(Reg::R3, base);
        code.splice(bpf! {
            r1 = {dev} ll;
            r2 = {ino} ll;
            r3 += {at};
            r4 = 8;
            call bpf_get_ns_current_pid_tgid;
        });
        code
    })
}

/// Says that numbers are others than those that the user sees, where they are.
pub fn warn(target: &Target) {
    if target.pid_namespace().is_some() && namespace(target).is_none() {
        report::say(format_args!(
            "processes have the numbers of the initial pid namespace: {} came with Linux {}",
            Feature::NsPid,
            Feature::NsPid.since()
        ));
    }
}
