//! The functions of a program: their prototypes, as BTF tells them, and what other programs make of those.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use bpfkit_asm::{Asm, Code, Mem, Reg, Size};
use bpfkit_btf::{Builder, Kind, TypeId};

use crate::Error;
use crate::attach::Attach;
use crate::kind::ProgType;
use crate::map::with_memlock;
use crate::prog::Prog;
use crate::sys::bpf::{self, ProgInput, ProgLoad};

/// A function of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Func {
    /// What `call` names.
    pub name: String,
    /// What it does.
    pub code: Code,
    /// What it takes and gives, for those who look at the program. Instructions do not depend on it.
    pub proto: Prototype,
    /// Who may call it, and how it is verified.
    pub linkage: Linkage,
}

/// How a function is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linkage {
    /// With each call, knowing what the caller passes.
    #[default]
    Static,
    /// Once, knowing no more than its prototype (Linux 5.6): it takes numbers and the program's context, and another program
    /// may replace it.
    Global,
}

/// A type of C, as far as functions of programs have them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CType {
    /// `int`
    Int,
    /// `unsigned int`
    U32,
    /// `unsigned long long`
    U64,
    /// A pointer to the context of the program.
    Context,
    /// A pointer to the structure of this name, of which nothing else is told.
    Struct(String),
}

/// What a function takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    params: Vec<(String, CType)>,
    ret: CType,
}

impl Prototype {
    /// A function that returns an int, and takes nothing yet.
    pub fn int() -> Self {
        Self { params: Vec::new(), ret: CType::Int }
    }

    /// Adds a parameter; there are at most 5, as they are passed in r1 to r5.
    #[must_use]
    pub fn param(mut self, name: &str, ty: CType) -> Self {
        self.params.push((name.to_owned(), ty));
        self
    }

    /// How many parameters it has.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.params.len()).unwrap_or(u32::MAX)
    }
}

/// The structure that a program of a type is given, by the name under which kernels of all versions know it. Before Linux 6.3
/// that of a kprobe goes by no other name than this, which is a typedef in C.
fn context(kind: ProgType) -> Option<&'static str> {
    match kind {
        ProgType::SOCKET_FILTER => Some("__sk_buff"),
        ProgType::KPROBE => Some("bpf_user_pt_regs_t"),
        ProgType::PERF_EVENT => Some("bpf_perf_event_data"),
        ProgType::RAW_TRACEPOINT => Some("bpf_raw_tracepoint_args"),
        _ => None,
    }
}

impl CType {
    fn add_to(&self, types: &mut Builder, kind: ProgType) -> TypeId {
        match self {
            Self::Int => types.int("int", 4, true),
            Self::U32 => types.int("unsigned int", 4, false),
            Self::U64 => types.int("unsigned long long", 8, false),
            // The kernel asks for a structure, and compares no more than its name.
            Self::Context => {
                let context = context(kind).map_or(TypeId(0), |name| types.strukt(name, 0, &[]));
                types.ptr(context)
            }
            Self::Struct(name) => {
                let unknown = types.fwd(name);
                types.ptr(unknown)
            }
        }
    }
}

impl Func {
    /// Adds it to the types of a program of this type.
    pub(crate) fn add_to(&self, types: &mut Builder, kind: ProgType, may_be_global: bool) -> TypeId {
        self.add_as(&type_name(&self.name), types, kind, may_be_global && self.linkage == Linkage::Global)
    }

    /// Adds it by another name.
    pub(crate) fn add_as(&self, name: &str, types: &mut Builder, kind: ProgType, is_global: bool) -> TypeId {
        let params: Vec<(&str, TypeId)> =
            self.proto.params.iter().map(|(name, ty)| (name.as_str(), ty.add_to(types, kind))).collect();
        let ret = self.proto.ret.add_to(types, kind);
        let proto = types.func_proto(&params, ret);
        if is_global { types.global_func(name, proto) } else { types.func(name, proto) }
    }
}

/// A function's name as BTF has it: an identifier of C.
pub(crate) fn type_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A function of a program, as a place for others: see [`crate::ProgSpec::function`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgFunc {
    /// The program's name.
    pub program: String,
    /// The program's type.
    pub kind: ProgType,
    /// The function's name.
    pub func: String,
    /// What it takes and gives.
    pub proto: Prototype,
}

/// What is passed in registers.
const MOST_PARAMS: u32 = 5;

impl ProgFunc {
    /// Which word of fexit's context holds the result: the one after the arguments. For a function whose prototype the kernel
    /// does not believe, that is the sixth.
    ///
    /// It believes numbers and, where it has a name, the context. Other pointers it does not, as those that programs have of
    /// kernel memory are numbers to the verifier. What a kernel does believe, [`Place::find`] finds out.
    pub(crate) fn result_index(&self) -> u32 {
        let is_believed = |ty: &CType| match ty {
            CType::Int | CType::U32 | CType::U64 => true,
            CType::Context => context(self.kind).is_some(),
            CType::Struct(_) => false,
        };
        let believed = self.proto.params.iter().all(|(_, ty)| is_believed(ty));
        if believed { self.proto.len() } else { MOST_PARAMS }
    }
}

impl fmt::Display for ProgFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of the program {}", self.func, self.program)
    }
}

/// Where the running kernel has a function of a loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The function's number in the types of its program.
    pub btf_id: u32,
    /// Which word of fexit's context holds the result.
    pub result: u32,
}

impl Place {
    /// Looks for a function in the types that its program was loaded with.
    pub(crate) fn find(func: &ProgFunc, attach: &Attach, onto: &Prog) -> Result<Self, Error> {
        let refused =
            |why: &str| Error::Attach { what: attach.to_string(), tried: vec![("types".to_owned(), why.to_owned())] };
        let types = onto.types()?.map_err(|hidden| refused(&hidden.to_string()))?;
        let name = type_name(&func.func);
        let found = types.find(&name, &[Kind::FUNC]).ok_or_else(|| refused("the program has no such function"))?;
        if matches!(attach, Attach::Freplace(_)) && !found.is_global_func() {
            return Err(refused("the function is static, and only global ones can be replaced (Linux 5.6)"));
        }
        let params = u32::try_from(types.func_proto(&name)?.params().count()).unwrap_or(u32::MAX);
        let is_asked = matches!(attach, Attach::FexitProg(_)) && params < MOST_PARAMS;
        let result = if is_asked && has_sixth_word(onto.as_fd(), found.id.0) { MOST_PARAMS } else { params };
        Ok(Self { btf_id: found.id.0, result })
    }
}

/// Whether fexit's context has a sixth word, as it has for a function whose prototype the kernel does not believe, whatever
/// that is: it may have passed something else to it than the prototype says (`func_info_aux.unreliable` in kernel/bpf/btf.c,
/// whose rules have changed with every few versions). So the kernel is asked.
fn has_sixth_word(prog: BorrowedFd<'_>, btf_id: u32) -> bool {
    let mut asm = Asm::new();
    asm.load(Size::DW, Reg::R0, Mem::at(Reg::R1).plus(40)).mov(Reg::R0, 0).exit();
    let Ok(code) = asm.finish() else { return false };
    let insns: Vec<u8> = code.insns().iter().flat_map(|insn| insn.to_ne_bytes()).collect();
    let attributes = ProgLoad {
        prog_type: ProgType::TRACING.0,
        expected_attach_type: 25,
        attach_btf_id: btf_id,
        ..ProgLoad::default()
    };
    let input = ProgInput { insns: &insns, license: b"GPL\0", attach_prog: Some(prog), ..ProgInput::default() };
    with_memlock(|| bpf::prog_load(attributes, input, &mut [])).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfkit_btf::Btf;

    fn shared(linkage: Linkage) -> Func {
        let mut asm = Asm::new();
        asm.mov(Reg::R0, 0).exit();
        let proto = Prototype::int().param("ctx", CType::Context).param("sk", CType::Struct("sock".to_owned()));
        Func { name: "new-connection".to_owned(), code: asm.finish().unwrap(), proto, linkage }
    }

    #[test]
    fn a_prototype_reads_as_it_was_written() {
        for (may_be_global, linkage, is_global) in
            [(true, Linkage::Global, true), (false, Linkage::Global, false), (true, Linkage::Static, false)]
        {
            let mut types = Builder::new();
            let id = shared(linkage).add_to(&mut types, ProgType::KPROBE, may_be_global);
            let btf = Btf::parse(types.finish()).unwrap();
            let func = btf.ty(id).unwrap();
            assert_eq!((func.name().as_ref(), func.is_global_func()), ("new_connection", is_global));
            let params: Vec<String> = btf
                .func_proto("new_connection")
                .unwrap()
                .params()
                .map(|param| {
                    let to = btf.ty(btf.ty(param.ty).unwrap().target().unwrap()).unwrap();
                    format!("{} {} *{}", to.kind().name(), to.name(), param.name)
                })
                .collect();
            assert_eq!(params, ["struct bpf_user_pt_regs_t *ctx", "forward sock *sk"]);
        }
    }

    #[test]
    fn the_result_comes_after_the_arguments_or_sixth() {
        let of = |kind, params: &[CType]| {
            let proto = params.iter().fold(Prototype::int(), |proto, ty| proto.param("x", ty.clone()));
            ProgFunc { program: "p".to_owned(), kind, func: "f".to_owned(), proto }.result_index()
        };
        assert_eq!(of(ProgType::KPROBE, &[CType::U64, CType::Int]), 2);
        assert_eq!(of(ProgType::KPROBE, &[CType::Context]), 1);
        assert_eq!(of(ProgType::TRACEPOINT, &[CType::Context]), 5);
        assert_eq!(of(ProgType::KPROBE, &[CType::U64, CType::Struct("sock".to_owned())]), 5);
        assert_eq!(of(ProgType::KPROBE, &[]), 0);
    }
}
