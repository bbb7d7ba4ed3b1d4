//! Types of programs, and the helpers that each may call.

use bpfkit_asm::{Asm, Helper, Insn, Reg};
use bpfkit_btf::Kind;

use super::{Said, insns, judge, may_load, plain};
use crate::feature::Feature;
use crate::kind::ProgType;
use crate::map::with_memlock;
use crate::sys::bpf::{self, ProgInput, ProgLoad};
use crate::target::Target;

/// The numbers of `enum bpf_attach_type` that some types want with the smallest program.
const CGROUP_INET4_CONNECT: u32 = 10;
const CGROUP_SETSOCKOPT: u32 = 22;
const TRACE_FENTRY: u32 = 24;
const LSM_MAC: u32 = 27;
const TRACE_ITER: u32 = 28;
const SK_LOOKUP: u32 = 36;
const NETFILTER: u32 = 45;
/// BPF_F_SLEEPABLE
pub(super) const SLEEPABLE: u32 = 1 << 4;

/// A function that every kernel with a network has.
pub(super) const FUNC: &str = "tcp_close";

/// The hook of security modules at which Linux 5.10, the first that has any, lets programs sleep.
pub(super) const SLEEPABLE_HOOK: &str = "bpf_lsm_bprm_committed_creds";

/// What a program of one type needs beside its instructions.
#[derive(Debug, Default)]
pub(crate) struct Shape(ProgLoad);

/// Why there is no smallest program of a type.
pub(crate) enum Shapeless {
    /// The kernel has no place for programs of this type.
    NoPlace,
    /// It cannot be told whether it has.
    Unknown(String),
}

impl Shape {
    /// What the smallest program of a type needs.
    pub(crate) fn of(kind: ProgType, target: &Target) -> Result<Self, Shapeless> {
        let mut attributes = ProgLoad {
            prog_type: kind.0,
            kern_version: crate::kernel::version_code().unwrap_or_default(),
            ..Default::default()
        };
        if matches!(kind, ProgType::TRACING | ProgType::LSM | ProgType::STRUCT_OPS) && super::types::has_none() {
            return Err(Shapeless::NoPlace);
        }
        let types = || target.numbered_btf(Feature::Fentry).map_err(|error| Shapeless::Unknown(error.to_string()));
        match kind {
            ProgType::CGROUP_SOCK_ADDR => attributes.expected_attach_type = CGROUP_INET4_CONNECT,
            ProgType::CGROUP_SOCKOPT => attributes.expected_attach_type = CGROUP_SETSOCKOPT,
            ProgType::SK_LOOKUP => attributes.expected_attach_type = SK_LOOKUP,
            ProgType::NETFILTER => attributes.expected_attach_type = NETFILTER,
            ProgType::SYSCALL => attributes.prog_flags = SLEEPABLE,
            ProgType::TRACING => {
                let unknown = || Shapeless::Unknown(format!("the kernel's types have no {FUNC}"));
                attributes.attach_btf_id = types()?.find(FUNC, &[Kind::FUNC]).ok_or_else(unknown)?.id.0;
                attributes.expected_attach_type = TRACE_FENTRY;
            }
            ProgType::LSM => {
                let hook = types()?.find("bpf_lsm_file_open", &[Kind::FUNC]).ok_or(Shapeless::NoPlace)?;
                attributes.attach_btf_id = hook.id.0;
                attributes.expected_attach_type = LSM_MAC;
            }
            ProgType::STRUCT_OPS => {
                let table = types()?.find("tcp_congestion_ops", &[Kind::STRUCT]).ok_or(Shapeless::NoPlace)?;
                let index = table.members().position(|member| member.name == "ssthresh").ok_or(Shapeless::NoPlace)?;
                attributes.attach_btf_id = table.id.0;
                attributes.expected_attach_type = u32::try_from(index).map_err(|_| Shapeless::NoPlace)?;
            }
            ProgType::EXT => {
                let why = "it may call what the program may whose function it replaces";
                return Err(Shapeless::Unknown(why.to_owned()));
            }
            _ => {}
        }
        Ok(Self(attributes))
    }

    /// The same for programs of this type that may call more: those that read the kernel's lists may print, those that may
    /// sleep may copy what is not in memory.
    pub(crate) fn more(kind: ProgType, target: &Target) -> Option<Self> {
        let (place, expected_attach_type, prog_flags) = match kind {
            ProgType::TRACING => ("bpf_iter_task", TRACE_ITER, 0),
            ProgType::LSM => (SLEEPABLE_HOOK, LSM_MAC, SLEEPABLE),
            _ => return None,
        };
        let attach_btf_id = target.numbered_btf(Feature::Fentry).ok()?.find(place, &[Kind::FUNC])?.id.0;
        Some(Self(ProgLoad {
            prog_type: kind.0,
            attach_btf_id,
            expected_attach_type,
            prog_flags,
            ..Default::default()
        }))
    }

    fn load(&self, insns: &[Insn], log: &mut [u8]) -> std::io::Result<()> {
        let insns: Vec<u8> = insns.iter().flat_map(|insn| insn.to_ne_bytes()).collect();
        let attributes = ProgLoad { log_level: u32::from(!log.is_empty()), ..self.0 };
        let input = ProgInput { insns: &insns, license: b"GPL\0", ..Default::default() };
        with_memlock(|| bpf::prog_load(attributes, input, log)).map(drop)
    }

    /// Whether the kernel takes the smallest program.
    pub(crate) fn is_taken(&self) -> Option<bool> {
        if self.load(&plain()?, &mut []).is_ok() { Some(true) } else { may_load() }
    }

    /// Whether its programs may call a helper; nothing where the verifier did not get as far as the call.
    pub(crate) fn may_call(&self, helper: Helper) -> Option<bool> {
        self.ask(helper).map(|said| said == Said::Callable)
    }

    /// What the kernel says of a helper in its programs; nothing where the verifier did not get as far as the call.
    pub(crate) fn ask(&self, helper: Helper) -> Option<Said> {
        let mut asm = Asm::new();
        asm.call(helper).mov(Reg::R0, 0).exit();
        let mut log = [0; 4096];
        let result = self.load(&insns(asm)?, &mut log);
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        judge(result.is_ok(), &String::from_utf8_lossy(&log[..end]))
    }
}
