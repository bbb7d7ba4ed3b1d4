//! The function of the kernel that a system call enters, which is not called the same everywhere.

use bpfkit_asm::Version;

use crate::Error;
use crate::ctx::Arch;
use crate::target::Target;

/// The function of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallSymbol {
    /// Its name, such as `__x64_sys_write`.
    pub symbol: String,
    /// Whether its only argument is a pointer to the user's registers, so that the call's own arguments are one read away: at
    /// [`Arch::syscall_argument`].
    pub wrapped: bool,
}

/// What the name of a function that takes the user's registers begins with, and the kernel that brought such functions.
fn wrapper(arch: Arch) -> (&'static str, Version) {
    match arch {
        Arch::X86_64 => ("__x64_sys_", Version::new(4, 17)),
        Arch::Aarch64 => ("__arm64_sys_", Version::new(4, 19)),
        Arch::Riscv64 => ("__riscv_sys_", Version::new(6, 6)),
    }
}

impl Target {
    /// The function of a system call such as `write`, whether or not there is such a call: who attaches to it is told.
    ///
    /// The running kernel's list of functions tells. Where that is hidden, and for other kernels, the version decides.
    ///
    /// # Errors
    /// When the kernel's list of functions cannot be read.
    pub fn syscall(&self, name: &str) -> Result<SyscallSymbol, Error> {
        let (prefix, since) = wrapper(self.arch());
        // All calls are entered in one way.
        let listed = if self.is_running() { self.has_functions(prefix)? } else { None };
        let wrapped = listed.unwrap_or_else(|| self.version() >= since);
        Ok(SyscallSymbol { symbol: format!("{}{name}", if wrapped { prefix } else { "sys_" }), wrapped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_where_there_is_no_list() {
        let symbol = |version| Target::offline(None, version).syscall("write").unwrap();
        let new = SyscallSymbol { symbol: "__x64_sys_write".to_owned(), wrapped: true };
        assert_eq!(symbol(Version::new(4, 18)), new);
        assert_eq!(symbol(Version::new(7, 3)), new);
        assert_eq!(symbol(Version::new(4, 16)), SyscallSymbol { symbol: "sys_write".to_owned(), wrapped: false });
    }

    #[test]
    fn the_running_kernel_tells_how_it_calls_them() {
        let target = Target::running().unwrap();
        let found = target.syscall("write").unwrap();
        let version = target.version() >= wrapper(target.arch()).1;
        assert_eq!((found.symbol.ends_with("sys_write"), found.wrapped), (true, version));
    }

    /// How the kernel passes them: the fourth is not where a function's is, as `syscall` takes that register for itself.
    #[test]
    fn arguments_are_where_the_kernels_wrappers_read_them() {
        let all = |arch: Arch| [1, 2, 3, 4, 5, 6].map(|n| arch.syscall_argument(n).unwrap());
        assert_eq!(all(Arch::X86_64), [112, 104, 96, 56, 72, 64]);
        assert_eq!(all(Arch::Aarch64), [0, 8, 16, 24, 32, 40]);
        assert_eq!(all(Arch::Riscv64), [280, 88, 96, 104, 112, 120]);
        assert_eq!((Arch::X86_64.syscall_argument(0), Arch::X86_64.syscall_argument(7)), (None, None));
    }
}
