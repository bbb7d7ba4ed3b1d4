//! What the kernel keeps to itself, and why.

use std::borrow::Cow;
use std::fmt;

use bpfkit_asm::Version;

use crate::privilege;

/// What the kernel shows, or why it does not.
pub type Shown<T> = Result<T, Hidden>;

/// Why something is not shown: the end of a sentence, such as `the program was loaded without types`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden(Cow<'static, str>);

impl Hidden {
    pub(super) const NO_TYPES: Self = Self(Cow::Borrowed("the program was loaded without types"));
    pub(super) const NO_LINES: Self = Self(Cow::Borrowed("the program was loaded without source lines"));
    pub(super) const MOVED_LINES: Self =
        Self(Cow::Borrowed("the kernel has moved them for constants that it hides (net.core.bpf_jit_harden)"));
    pub(super) const TYPES: Self = Self(Cow::Borrowed("it takes CAP_SYS_ADMIN to see types"));
    pub(super) const CODE: Self = Self(Cow::Borrowed("it takes CAP_BPF, or CAP_SYS_ADMIN before Linux 5.8"));
    pub(super) const INTERPRETED: Self = Self(Cow::Borrowed(
        "the kernel interprets the program; net.core.bpf_jit_enable=1 has it compile those that are loaded later",
    ));

    /// Kernels before this version do not tell.
    pub(super) fn since(version: Version) -> Self {
        Self(format!("the kernel does not tell before Linux {version}").into())
    }

    /// The kernel refused.
    pub(super) fn failed(error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self(Cow::Borrowed("it is gone")),
            Some(libc::EPERM) => Self(Cow::Borrowed("it takes CAP_SYS_ADMIN to see it")),
            _ => Self(error.to_string().into()),
        }
    }

    /// Addresses in the kernel, and what has them in it, are hidden from this process.
    pub(super) fn addresses() -> Self {
        Self(privilege::addresses().into())
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
