//! A statement as a value: what the grammar finds, before it is emitted.
//!
//! `V` is a Rust expression in braces: tokens in the macro, nothing (`Infallible`) in text. Every variant is one form of
//! instruction and has one method of the builder `bpfkit_asm::Asm`. Where a statement may say `r` or `w`, `wide` is true for `r`.

use crate::{AluOp, AtomicOp, ByteOrder, Helper, JmpOp, Pseudo, Reg, Size};

/// A constant: what may stand for an immediate or within an offset.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<V> {
    /// A literal. The parser has checked that it fits where it stands.
    Int(i128),
    /// `sock.__sk_common.skc_dport`: the offset of a member, in bytes.
    Field(String),
    /// `sizeof(sock.__sk_common.skc_dport)`: the size of a member, in bytes.
    SizeOf(String),
    /// `ctx.arg1`: the offset of a member of the program's context, in bytes.
    Ctx(String),
    /// `{expr}`, or the path of a Rust constant such as `AF_INET` or `libc::AF_INET`.
    Rust(V),
}

/// The right-hand side of an operation or of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<V> {
    /// A register, as wide as the left-hand side.
    Reg(Reg),
    /// A constant of 32 bits that the machine sign-extends.
    Imm(Value<V>),
}

/// `+ term - term ...`: the sum of these is the offset; true stands for minus.
#[derive(Clone, Debug, PartialEq)]
pub struct Offset<V>(pub Vec<(bool, Value<V>)>);

/// `(r1 + offset)`, the memory that an instruction reads or writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Place<V> {
    /// The register that holds the address.
    pub base: Reg,
    /// What is added to it.
    pub offset: Offset<V>,
}

/// Where a jump goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Target<V> {
    /// A label of the same block.
    Label(String),
    /// `+3` or `-3`: instruction slots from the next instruction, as listings print it.
    Relative(i32),
    /// `{expr}`, a `bpfkit_asm::Label`.
    Rust(V),
}

/// Which map.
#[derive(Clone, Debug, PartialEq)]
pub enum Map<V> {
    /// `map[sockets]`, by its name.
    Name(String),
    /// `map[{expr}]`, a `bpfkit_asm::MapRef`.
    Rust(V),
}

/// What is compared before a jump.
#[derive(Clone, Debug, PartialEq)]
pub struct Cond<V> {
    /// The comparison.
    pub op: JmpOp,
    /// False compares the lower halves (JMP32, Linux 5.1).
    pub wide: bool,
    /// The left-hand side.
    pub left: Reg,
    /// The right-hand side.
    pub right: Operand<V>,
}

/// What is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Callee<V> {
    /// `call bpf_get_current_pid_tgid;`
    Helper(Helper),
    /// `call 14;` or `call {expr};` with an expression that is a `bpfkit_asm::Helper`.
    Rust(V),
    /// `call report;` or, whatever the name is, `call func bpf_report;`: another function of the same program.
    Function(String),
    /// `call pc+3;`: the function that begins so many slots after the next instruction.
    Relative(i32),
    /// `call kfunc bpf_task_release;`: a function of the kernel, by its name (Linux 5.13).
    Kfunc(String),
    /// `call kfunc 1234;`: the same by its number in the kernel's types.
    KfuncId(i32),
    /// `callx r1;`: the function that a register points to.
    Reg(Reg),
}

/// What an instruction of an object file refers to: `r1 = 0 ll @ map[counts];`. Its bytes stay as they were written until the
/// program is linked, which puts in what the name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `map[counts]`
    Map(String),
    /// `map[.rodata][0] + 16`: the address of a byte of a map's only value.
    MapValue(String, u32),
    /// `func[report]`: a function of the program, to be called or as an address.
    Func(String),
    /// `kfunc[bpf_task_release]`: a function of the kernel, to be called.
    Kfunc(String),
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt<V> {
    /// `out:`
    Label(String),
    /// `{expr};`: the instructions of another `Asm`.
    Splice(V),
    /// `r1 += r2;` `w1 = 5;` `r1 s/= 2;`
    Alu {
        /// The operation, `Mov` among them.
        op: AluOp,
        /// 64 bits, or 32.
        wide: bool,
        /// Left-hand side.
        dst: Reg,
        /// Right-hand side.
        src: Operand<V>,
    },
    /// `r1 = (s8)r2;` `w1 = (s16)w2;` (ISA v4, Linux 6.6)
    Movsx {
        /// 64 bits, or 32.
        wide: bool,
        /// Left-hand side.
        dst: Reg,
        /// Right-hand side.
        src: Reg,
        /// Which part of `src` is extended: 8, 16, or 32 where `wide`.
        bits: u8,
    },
    /// `r1 = addr_space_cast(r2, 0, 1);` (Linux 6.9)
    AddrSpaceCast {
        /// Left-hand side.
        dst: Reg,
        /// Right-hand side.
        src: Reg,
        /// The address space that it is to be in.
        to: u16,
        /// The address space that it is in.
        from: u16,
    },
    /// `r1 = -r1;`
    Neg {
        /// 64 bits, or 32.
        wide: bool,
        /// The register.
        dst: Reg,
    },
    /// `r1 = be16 r1;` `r1 = bswap64 r1;`
    Endian {
        /// The order it is to have.
        order: ByteOrder,
        /// The register.
        dst: Reg,
        /// 16, 32 or 64.
        bits: u8,
    },
    /// `r1 = *(u32 *)(r2 + 4);` and, sign-extending, `r1 = *(s32 *)(r2 + 4);` (ISA v4, Linux 6.6; not for `DW`)
    Load {
        /// How much.
        size: Size,
        /// Sign-extended.
        signed: bool,
        /// Left-hand side.
        dst: Reg,
        /// Where from.
        from: Place<V>,
    },
    /// `*(u32 *)(r10 - 4) = w1;` or `= r1`, `= 5`
    Store {
        /// How much.
        size: Size,
        /// Where to.
        to: Place<V>,
        /// A register or a constant.
        src: Operand<V>,
    },
    /// `lock *(u64 *)(r1 + 0) += r2;` `r2 = atomic64_fetch_add((u64 *)(r1 + 0), r2);` and so on
    Atomic {
        /// `W` or `DW`.
        size: Size,
        /// The operation.
        op: AtomicOp,
        /// Where.
        to: Place<V>,
        /// The operand.
        src: Reg,
    },
    /// `r1 = load_acquire((u64 *)(r2 + 0));` (Linux 6.15)
    LoadAcquire {
        /// How much.
        size: Size,
        /// Left-hand side.
        dst: Reg,
        /// Where from.
        from: Place<V>,
    },
    /// `store_release((u64 *)(r1 + 0), r2);` (Linux 6.15)
    StoreRelease {
        /// How much.
        size: Size,
        /// Where to.
        to: Place<V>,
        /// What.
        src: Reg,
    },
    /// `r0 = *(u16 *)skb[12];`: BPF_LD | BPF_ABS; not for `DW`
    LoadAbs {
        /// How much.
        size: Size,
        /// Offset in the packet.
        offset: Value<V>,
    },
    /// `r0 = *(u16 *)skb[r7 + 12];`: BPF_LD | BPF_IND; not for `DW`
    LoadInd {
        /// How much.
        size: Size,
        /// The register that is added.
        index: Reg,
        /// Offset in the packet.
        offset: Value<V>,
    },
    /// `r1 = 0xffffffff ll;`
    LoadImm64 {
        /// Left-hand side.
        dst: Reg,
        /// Any 64 bits, signed or unsigned.
        value: Value<V>,
    },
    /// `r1 = map[sockets];`
    LoadMap {
        /// Left-hand side.
        dst: Reg,
        /// The map.
        map: Map<V>,
    },
    /// `r1 = map[state][0] + 16;`: the address of a value of an array map (Linux 5.2)
    LoadMapValue {
        /// Left-hand side.
        dst: Reg,
        /// The map.
        map: Map<V>,
        /// Offset in the value.
        offset: Value<V>,
    },
    /// `r1 = func[callback];`: the address of another function of the same program (Linux 5.13)
    LoadFunc {
        /// Left-hand side.
        dst: Reg,
        /// Its name.
        name: String,
    },
    /// `r1 = map[fd:5];` `r1 = map[idx:0][0] + 16;` `r1 = func[pc+3];` `r1 = btf[id:7];`: what another constant stands for than
    /// itself, by its number
    LoadPseudo {
        /// Left-hand side.
        dst: Reg,
        /// What the number is one of.
        pseudo: Pseudo,
        /// The number.
        lower: i32,
        /// For values of maps the offset in the value, else 0.
        upper: u32,
    },
    /// `if r0 == 0 goto out;` and, without a condition, `goto out;`
    Jump {
        /// When.
        cond: Option<Cond<V>>,
        /// Where to.
        to: Target<V>,
    },
    /// `gotol out;` with a distance of 32 bits (ISA v4, Linux 6.6)
    Gotol(Target<V>),
    /// `may_goto out;` (Linux 6.9)
    MayGoto(Target<V>),
    /// `call bpf_map_lookup_elem;`
    Call(Callee<V>),
    /// `exit;`
    Exit,
    /// `insn(0x07, 1, 0, 0, -1);`: a slot by its fields, whatever they are
    Raw {
        /// The opcode.
        code: u8,
        /// The destination's number, 0 to 15.
        dst: u8,
        /// The source's number, 0 to 15.
        src: u8,
        /// The offset.
        off: i16,
        /// The constant.
        imm: i32,
    },
}
