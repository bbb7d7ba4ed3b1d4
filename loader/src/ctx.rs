//! The context that a program is given, by the words that code uses for its members.

use bpfkit_asm::Error as AsmError;

use crate::Error;
use crate::prog::{Attach, ProgSpec};
use crate::target::Target;

/// A machine's architecture, as far as `struct pt_regs` depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arch {
    /// arch/x86/include/asm/ptrace.h
    X86_64,
    /// arch/arm64/include/uapi/asm/ptrace.h
    Aarch64,
    /// arch/riscv/include/asm/ptrace.h
    Riscv64,
}

impl Arch {
    /// The machine that this runs on.
    ///
    /// # Errors
    /// When its registers are not known here.
    pub fn running() -> Result<Self, Error> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            "riscv64" => Ok(Self::Riscv64),
            other => Err(AsmError::Form { what: format!("table of the registers of {other}"), source: None }.into()),
        }
    }

    /// Where `struct pt_regs` has the argument of this number, from 1 to 6, of a system call at its entry: bytes from its start.
    pub fn syscall_argument(self, number: u32) -> Option<u32> {
        match (self, number) {
            // r10: the instruction `syscall` keeps the address to return to in rcx.
            (Self::X86_64, 4) => Some(56),
            // orig_a0: the result is in a0 already.
            (Self::Riscv64, 1) => Some(280),
            (_, 1..=6) => self.register(&format!("arg{number}")),
            _ => None,
        }
    }

    /// Where `struct pt_regs` has a register: arguments of a C function, its result, stack pointer, instruction pointer.
    fn register(self, word: &str) -> Option<u32> {
        let words: [&str; 9] = ["arg1", "arg2", "arg3", "arg4", "arg5", "arg6", "ret", "sp", "ip"];
        let offsets: [u32; 9] = match self {
            Self::X86_64 => [112, 104, 96, 88, 72, 64, 80, 152, 128],
            Self::Aarch64 => [0, 8, 16, 24, 32, 40, 0, 248, 256],
            Self::Riscv64 => [80, 88, 96, 104, 112, 120, 80, 16, 0],
        };
        words.iter().position(|known| *known == word).map(|index| offsets[index])
    }
}

/// The offset of a member of a program's context, in bytes.
pub(crate) fn offset(spec: &ProgSpec, word: &str, target: &Target) -> Result<u32, Error> {
    let argument =
        |word: &str| word.strip_prefix("arg").and_then(|n| n.parse::<u32>().ok()).filter(|n| (1..=12).contains(n));
    let found = match &spec.attach {
        Attach::Kprobe { .. }
        | Attach::Kretprobe { .. }
        | Attach::Uprobe { .. }
        | Attach::Uretprobe { .. }
        | Attach::Usdt { .. } => target.arch().register(word),
        Attach::RawTracepoint { .. } => argument(word).map(|n| (n - 1) * 8),
        Attach::Fentry { func } | Attach::Fexit { func } => {
            let params = target.btf()?.func_proto(func)?.params().count();
            let params = u32::try_from(params).unwrap_or(u32::MAX);
            match word {
                "ret" if matches!(spec.attach, Attach::Fexit { .. }) => params.checked_mul(8),
                _ => argument(word).filter(|&n| n <= params).map(|n| (n - 1) * 8),
            }
        }
        Attach::Tracepoint { category, name } if category == "syscalls" => match (name.split_at_checked(9), word) {
            // struct syscall_trace_enter and syscall_trace_exit of kernel/trace/trace.h, the same for every call.
            (Some(("sys_enter", _)), word) => argument(word).filter(|&n| n <= 6).map(|n| 16 + (n - 1) * 8),
            (_, "ret") => Some(16),
            _ => None,
        },
        Attach::Tracepoint { category, name } => {
            target.tracepoint(category, name)?.field(word).map(|field| field.offset)
        }
        Attach::PerfEvent { .. } | Attach::None => None,
    };
    found.ok_or_else(|| Error::Unknown { what: "the context's", name: word.to_owned(), program: spec.name.clone() })
}
