//! Statements as text, in the one spelling that a disassembly has for each. The grammar reads it back as the same statement.

use std::fmt::{Display, Formatter, Result};

use crate::{
    AluOp, AtomicOp, ByteOrder, Callee, Cond, Helper, JmpOp, Map, Offset, Operand, Place, Pseudo, Reference, Reg, Size,
    Stmt, Target, Value, WReg,
};

/// A number as a person reads it: small ones and negative ones in decimal.
fn number(f: &mut Formatter<'_>, value: i128) -> Result {
    if value < 0x1000 { write!(f, "{value}") } else { write!(f, "{value:#x}") }
}

impl<V: Display> Display for Value<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Int(int) => number(f, *int),
            Self::Field(path) => f.write_str(path),
            Self::SizeOf(path) => write!(f, "sizeof({path})"),
            Self::Ctx(word) => write!(f, "ctx.{word}"),
            Self::Rust(rust) => rust.fmt(f),
        }
    }
}

impl<V: Display> Display for Offset<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.0.iter().try_for_each(|(minus, value)| write!(f, " {} {value}", if *minus { '-' } else { '+' }))
    }
}

impl<V: Display> Display for Place<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "({}{})", self.base, self.offset)
    }
}

impl<V: Display> Display for Target<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Label(name) => f.write_str(name),
            Self::Relative(slots) => write!(f, "{slots:+}"),
            Self::Rust(rust) => rust.fmt(f),
        }
    }
}

impl<V: Display> Display for Map<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Rust(rust) => rust.fmt(f),
        }
    }
}

impl<V: Display> Display for Callee<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Helper(helper) => match helper.name() {
                Some(name) => write!(f, "call {name}"),
                None => write!(f, "call {}", helper.0),
            },
            Self::Rust(rust) => write!(f, "call {rust}"),
            // Without the word these would be taken for something else.
            Self::Function(name) if is_plain(name) => write!(f, "call {name}"),
            Self::Function(name) => write!(f, "call func {name}"),
            Self::Relative(slots) => write!(f, "call pc{slots:+}"),
            Self::Kfunc(name) => write!(f, "call kfunc {name}"),
            Self::KfuncId(id) => write!(f, "call kfunc {id}"),
            Self::Reg(reg) => write!(f, "callx {reg}"),
        }
    }
}

/// Whether a name after `call` is no word of the language, no helper and nothing that could be one.
fn is_plain(name: &str) -> bool {
    !matches!(name, "func" | "kfunc" | "pc")
        && !name.starts_with("bpf_")
        && !name.contains('.')
        && Helper::from_name(name).is_none()
}

impl Display for Reference {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Map(name) => write!(f, "map[{name}]"),
            Self::MapValue(name, 0) => write!(f, "map[{name}][0]"),
            Self::MapValue(name, offset) => write!(f, "map[{name}][0] + {offset}"),
            Self::Func(name) => write!(f, "func[{name}]"),
            Self::Kfunc(name) => write!(f, "kfunc[{name}]"),
        }
    }
}

/// A register in the width of its instruction.
struct Wide(bool, Reg);

impl Display for Wide {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0 { self.1.fmt(f) } else { WReg::from(self.1).fmt(f) }
    }
}

/// A right-hand side in the width of its instruction.
struct Side<'a, V>(bool, &'a Operand<V>);

impl<V: Display> Display for Side<'_, V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.1 {
            Operand::Reg(reg) => Wide(self.0, *reg).fmt(f),
            Operand::Imm(value) => value.fmt(f),
        }
    }
}

/// The word for a size, `u` or `s` in front.
const fn bits(size: Size) -> u32 {
    size.bytes() * 8
}

fn word<O: PartialEq>(list: &[(O, &'static str)], op: &O) -> &'static str {
    list.iter().find(|(known, _)| known == op).map_or("", |&(_, word)| word)
}

/// The name of an atomic operation that gives back what was there; or the operator of one that does not.
const fn atomic(op: AtomicOp) -> (&'static str, bool) {
    match op {
        AtomicOp::Add => ("+=", false),
        AtomicOp::Or => ("|=", false),
        AtomicOp::And => ("&=", false),
        AtomicOp::Xor => ("^=", false),
        AtomicOp::FetchAdd => ("fetch_add", true),
        AtomicOp::FetchOr => ("fetch_or", true),
        AtomicOp::FetchAnd => ("fetch_and", true),
        AtomicOp::FetchXor => ("fetch_xor", true),
        AtomicOp::Xchg => ("xchg", true),
        AtomicOp::Cmpxchg => ("cmpxchg", true),
    }
}

/// Without the semicolon, and a label with its colon.
impl<V: Display> Display for Stmt<V> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Label(name) => write!(f, "{name}:"),
            Self::Splice(rust) => rust.fmt(f),
            Self::Alu { op, wide, dst, src } => {
                write!(f, "{} {} {}", Wide(*wide, *dst), word(&AluOp::ALL, op), Side(*wide, src))
            }
            Self::Movsx { wide, dst, src, bits } => write!(f, "{} = (s{bits}){}", Wide(*wide, *dst), Wide(*wide, *src)),
            Self::AddrSpaceCast { dst, src, to, from } => write!(f, "{dst} = addr_space_cast({src}, {to}, {from})"),
            Self::Neg { wide, dst } => write!(f, "{0} = -{0}", Wide(*wide, *dst)),
            Self::Endian { order, dst, bits } => {
                let order = match order {
                    ByteOrder::Le => "le",
                    ByteOrder::Be => "be",
                    ByteOrder::Swap => "bswap",
                };
                write!(f, "{dst} = {order}{bits} {dst}")
            }
            Self::Load { size, signed, dst, from } => {
                write!(f, "{dst} = *({}{} *){from}", if *signed { 's' } else { 'u' }, bits(*size))
            }
            Self::Store { size, to, src } => write!(f, "*(u{} *){to} = {}", bits(*size), Side(true, src)),
            Self::Atomic { size, op, to, src } => {
                let (name, fetches) = atomic(*op);
                let (family, bits) = (if *size == Size::DW { "atomic64" } else { "atomic" }, bits(*size));
                match op {
                    _ if !fetches => write!(f, "lock *(u{bits} *){to} {name} {src}"),
                    AtomicOp::Cmpxchg => write!(f, "r0 = {family}_{name}((u{bits} *){to}, r0, {src})"),
                    _ => write!(f, "{src} = {family}_{name}((u{bits} *){to}, {src})"),
                }
            }
            Self::LoadAcquire { size, dst, from } => write!(f, "{dst} = load_acquire((u{} *){from})", bits(*size)),
            Self::StoreRelease { size, to, src } => write!(f, "store_release((u{} *){to}, {src})", bits(*size)),
            Self::LoadAbs { size, offset } => write!(f, "r0 = *(u{} *)skb[{offset}]", bits(*size)),
            Self::LoadInd { size, index, offset } => match offset {
                Value::Int(0) => write!(f, "r0 = *(u{} *)skb[{index}]", bits(*size)),
                _ => write!(f, "r0 = *(u{} *)skb[{index} + {offset}]", bits(*size)),
            },
            Self::LoadImm64 { dst, value } => write!(f, "{dst} = {value} ll"),
            Self::LoadMap { dst, map } => write!(f, "{dst} = map[{map}]"),
            Self::LoadMapValue { dst, map, offset: Value::Int(0) } => write!(f, "{dst} = map[{map}][0]"),
            Self::LoadMapValue { dst, map, offset } => write!(f, "{dst} = map[{map}][0] + {offset}"),
            Self::LoadFunc { dst, name } => write!(f, "{dst} = func[{name}]"),
            Self::LoadPseudo { dst, pseudo, lower, upper } => {
                match pseudo {
                    Pseudo::MapFd | Pseudo::MapValue => write!(f, "{dst} = map[fd:{lower}]")?,
                    Pseudo::MapIndex | Pseudo::MapIndexValue => write!(f, "{dst} = map[idx:{lower}]")?,
                    Pseudo::BtfId => write!(f, "{dst} = btf[id:{lower}]")?,
                    Pseudo::Func => write!(f, "{dst} = func[pc{lower:+}]")?,
                }
                match (pseudo.has_offset(), upper) {
                    (false, _) => Ok(()),
                    (true, 0) => f.write_str("[0]"),
                    (true, _) => write!(f, "[0] + {upper}"),
                }
            }
            Self::Jump { cond: None, to } => write!(f, "goto {to}"),
            Self::Jump { cond: Some(Cond { op, wide, left, right }), to } => {
                let (left, right) = (Wide(*wide, *left), Side(*wide, right));
                write!(f, "if {left} {} {right} goto {to}", word(&JmpOp::ALL, op))
            }
            Self::Gotol(to) => write!(f, "gotol {to}"),
            Self::MayGoto(to) => write!(f, "may_goto {to}"),
            Self::Call(callee) => callee.fmt(f),
            Self::Exit => f.write_str("exit"),
            Self::Raw { code, dst, src, off, imm } => write!(f, "insn({code:#04x}, {dst}, {src}, {off}, {imm})"),
        }
    }
}
