//! The context that a program is given, by the words that code uses for its members.

use bpfkit_asm::Error as AsmError;
use bpfkit_btf::Type;

use crate::Error;
use crate::attach::Attach;
use crate::func::Place;
use crate::origin::Origin;
use crate::prog::ProgSpec;
use crate::target::Target;

/// A machine's architecture, as far as `struct pt_regs` depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// What the compiler and `uname -m` call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        }
    }

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
        WORDS.iter().position(|known| *known == word).map(|index| self.registers()[index])
    }

    /// The inverse of the words of the context at a kprobe or uprobe: `arg1` for the bytes from the start of `struct pt_regs` on
    /// where the first argument of a C function is. Some machines return the result where the first argument was; it is an
    /// argument then.
    pub fn word_at(self, offset: u32) -> Option<&'static str> {
        self.registers().iter().position(|known| *known == offset).map(|index| WORDS[index])
    }

    /// Where `struct pt_regs` has the words.
    fn registers(self) -> [u32; 9] {
        match self {
            Self::X86_64 => [112, 104, 96, 88, 72, 64, 80, 152, 128],
            Self::Aarch64 => [0, 8, 16, 24, 32, 40, 0, 248, 256],
            Self::Riscv64 => [80, 88, 96, 104, 112, 120, 80, 16, 0],
        }
    }
}

/// What code calls the registers of a probe.
const WORDS: [&str; 9] = ["arg1", "arg2", "arg3", "arg4", "arg5", "arg6", "ret", "sp", "ip"];

fn argument(word: &str) -> Option<u32> {
    word.strip_prefix("arg").and_then(|n| n.parse().ok()).filter(|n| (1..=12).contains(n))
}

/// How many arguments a prototype has.
fn arguments(proto: Type<'_>) -> u32 {
    u32::try_from(proto.params().count()).unwrap_or(u32::MAX)
}

/// A word of an array of u64: one of so many arguments, or the result, which is at an index of its own.
fn words(word: &str, params: u32, result: Option<u32>) -> Option<u32> {
    match word {
        "ret" => result?.checked_mul(8),
        _ => argument(word).filter(|&n| n <= params).map(|n| (n - 1) * 8),
    }
}

/// The offset of a member of a program's context, in bytes.
pub(crate) fn offset(spec: &ProgSpec, word: &str, target: &Target, place: Option<&Place>) -> Result<u32, Error> {
    let found = match &spec.attach {
        Attach::Kprobe { .. }
        | Attach::Kretprobe { .. }
        | Attach::Uprobe { .. }
        | Attach::Uretprobe { .. }
        | Attach::UprobeMulti { .. }
        | Attach::Usdt { .. } => target.arch().register(word),
        Attach::RawTracepoint { .. } => argument(word).map(|n| (n - 1) * 8),
        // The arguments, a word each, and after them the result; of fmod_ret and LSM what another program has decided.
        Attach::Fentry { func } => words(word, arguments(target.func_proto(func)?), None),
        Attach::Fexit { func } | Attach::FmodRet { func } => {
            let params = arguments(target.func_proto(func)?);
            words(word, params, Some(params))
        }
        Attach::Lsm { hook } => {
            let params = arguments(target.func_proto(&format!("bpf_lsm_{hook}"))?);
            words(word, params, Some(params))
        }
        // The first parameter is the tracepoint's own, and no program sees it.
        Attach::TpBtf { name } => {
            words(word, arguments(target.typedef_proto(&format!("btf_trace_{name}"))?).saturating_sub(1), None)
        }
        Attach::FentryProg(func) => words(word, func.proto.len(), None),
        Attach::FexitProg(func) => {
            words(word, func.proto.len(), Some(place.map_or_else(|| func.result_index(), |place| place.result)))
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
        Attach::PerfEvent { .. } | Attach::Freplace(_) | Attach::None | Attach::Trial { .. } => None,
    };
    found.ok_or_else(|| Error::Unknown { what: "the context's", name: word.to_owned(), program: spec.name.clone() })
}

/// Where the offsets of a context's members come from, and what they are members of.
pub(crate) fn origin(spec: &ProgSpec, target: &Target) -> (Origin, String) {
    let attach = &spec.attach;
    match attach {
        Attach::Kprobe { .. }
        | Attach::Kretprobe { .. }
        | Attach::Uprobe { .. }
        | Attach::Uretprobe { .. }
        | Attach::UprobeMulti { .. }
        | Attach::Usdt { .. } => (Origin::Registers(target.arch()), String::new()),
        Attach::Tracepoint { category, name } => {
            let format = (category != "syscalls").then(|| target.tracepoint(category, name).ok()).flatten();
            (format.map_or(Origin::Fixed, |format| format.origin()), format!("{name}."))
        }
        Attach::RawTracepoint { name } => (Origin::Fixed, format!("{name}.")),
        _ => match attach.kernel_type() {
            Some((_, name)) => (Origin::Types, format!("{name}.")),
            None => (Origin::Fixed, format!("{}.", spec.name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit_asm::{Version, bpf};
    use bpfkit_btf::{Btf, Builder, TypeId};

    /// A kernel whose functions have two arguments, and whose tracepoint has two and its own.
    fn kernel() -> Target {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        let void = types.ptr(TypeId(0));
        let proto = types.func_proto(&[("file", void), ("flags", int)], int);
        for name in ["tcp_close", "security_file_open", "bpf_lsm_file_open"] {
            types.func(name, proto);
        }
        let proto = types.func_proto(&[("__data", void), ("sk", void), ("state", int)], TypeId(0));
        let pointer = types.ptr(proto);
        types.typedef("btf_trace_set_state", pointer);
        types.typedef("btf_trace_of_another_kind", int);
        Target::offline(Some(Btf::parse(types.finish()).unwrap()), Version::new(6, 12))
    }

    fn at(attach: Attach, word: &str) -> Result<u32, String> {
        let code = bpf! {
            r0 = 0;
            exit;
        };
        let spec = ProgSpec::new("words", attach, code).unwrap();
        offset(&spec, word, &kernel(), None).map_err(|error| crate::error::chain(&error))
    }

    #[test]
    fn arguments_are_words_of_their_own_and_the_result_comes_after_them() {
        let func = || "tcp_close".to_owned();
        for (attach, has_result) in [
            (Attach::Fentry { func: func() }, false),
            (Attach::Fexit { func: func() }, true),
            (Attach::FmodRet { func: "security_file_open".to_owned() }, true),
            (Attach::Lsm { hook: "file_open".to_owned() }, true),
            (Attach::TpBtf { name: "set_state".to_owned() }, false),
        ] {
            assert_eq!((at(attach.clone(), "arg1"), at(attach.clone(), "arg2")), (Ok(0), Ok(8)), "{attach}");
            for word in ["arg0", "arg3", "arg", "argx", "sp"] {
                assert!(at(attach.clone(), word).unwrap_err().contains(word), "{attach} {word}");
            }
            assert_eq!(at(attach.clone(), "ret").ok(), has_result.then_some(16), "{attach}");
        }
    }

    #[test]
    fn a_register_is_known_by_its_place() {
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Riscv64] {
            for word in ["arg1", "arg6", "sp", "ip"] {
                assert_eq!(arch.register(word).and_then(|offset| arch.word_at(offset)), Some(word), "{}", arch.name());
            }
            assert_eq!(arch.word_at(1000), None);
        }
        assert_eq!(Arch::X86_64.word_at(80), Some("ret"));
    }

    #[test]
    fn a_place_without_a_prototype_is_named() {
        for (attach, name) in [
            (Attach::Lsm { hook: "no_hook".to_owned() }, "bpf_lsm_no_hook"),
            (Attach::TpBtf { name: "none".to_owned() }, "btf_trace_none"),
            (Attach::TpBtf { name: "of_another_kind".to_owned() }, "btf_trace_of_another_kind"),
            (Attach::FmodRet { func: "none".to_owned() }, "none"),
        ] {
            assert!(at(attach.clone(), "arg1").unwrap_err().contains(name), "{attach}");
        }
    }
}
