//! Instructions in the kernel's notation, that of print_bpf_insn in kernel/bpf/disasm.c.

use std::fmt;

use crate::insn::{PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL, PSEUDO_MAP_FD, PSEUDO_MAP_VALUE};
use crate::{Class, Helper, Insn, Mode, Opcode};

/// What a listing may say in place of numbers.
pub trait Names {
    /// The map at this slot.
    fn map(&self, slot: usize) -> Option<&str> {
        let _ = slot;
        None
    }

    /// The function that the instruction at this slot calls, or whose address it loads. Of a helper, a name here goes before its
    /// number's, which loaded programs do not have any more.
    fn function(&self, slot: usize) -> Option<&str> {
        let _ = slot;
        None
    }
}

/// No names: as the verifier prints a program.
impl Names for () {}

/// An instruction of a listing.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    /// The number of its first slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    second: Option<Insn>,
    names: &'a dyn Names,
}

impl fmt::Debug for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.slot)
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.insn {
            insn if insn.is_map() => self.names.map(self.slot),
            insn if insn.refers_to_function() => self.names.function(self.slot),
            insn if insn.code == Opcode::CALL && matches!(insn.src(), 0 | PSEUDO_KFUNC_CALL) => {
                self.names.function(self.slot)
            }
            _ => None,
        };
        match (name, self.insn) {
            (Some(name), insn) if insn.src() == PSEUDO_MAP_FD && insn.is_map() => {
                write!(f, "(18) r{} = map[{name}]", insn.dst())
            }
            (Some(name), insn) if insn.is_map() => {
                let offset = self.second.map_or(0, |second| second.imm);
                write!(f, "(18) r{} = map[{name}][0]+{offset}", insn.dst())
            }
            (Some(name), insn) if insn.is_func_address() => write!(f, "(18) r{} = func[{name}]", insn.dst()),
            (Some(name), insn) if insn.is_local_call() => write!(f, "(85) call pc{:+}#{name}", insn.imm),
            (Some(name), insn) => write!(f, "(85) call {name}#{}", insn.imm),
            (None, insn) => print(f, insn, self.second),
        }
    }
}

/// The instruction of a program that begins at this slot.
pub fn listed<'a>(insns: &[Insn], slot: usize, names: &'a dyn Names) -> Option<Listed<'a>> {
    let insn = *insns.get(slot)?;
    let second = if insn.is_wide() { insns.get(slot + 1).copied() } else { None };
    Some(Listed { slot, insn, second, names })
}

/// The instructions of a program; one of two slots is one item.
pub fn list<'a>(insns: &'a [Insn], names: &'a dyn Names) -> impl Iterator<Item = Listed<'a>> {
    let mut slot = 0;
    std::iter::from_fn(move || {
        let listed = listed(insns, slot, names)?;
        slot += 1 + usize::from(listed.second.is_some());
        Some(listed)
    })
}

fn size(code: Opcode) -> &'static str {
    match code.0 & 0x18 {
        0x00 => "u32",
        0x08 => "u16",
        0x10 => "u8",
        _ => "u64",
    }
}

fn signed_size(code: Opcode) -> &'static str {
    match code.0 & 0x18 {
        0x00 => "s32",
        0x08 => "s16",
        0x10 => "s8",
        _ => "s64",
    }
}

/// Whether the kernel's list has the operation, and how it writes it.
fn alu(op: u8, signed: bool) -> &'static str {
    match (op, signed) {
        (0x00, _) => "+=",
        (0x10, _) => "-=",
        (0x20, _) => "*=",
        (0x30, false) => "/=",
        (0x30, true) => "s/=",
        (0x40, _) => "|=",
        (0x50, _) => "&=",
        (0x60, _) => "<<=",
        (0x70, _) => ">>=",
        (0x80, _) => "neg",
        (0x90, false) => "%=",
        (0x90, true) => "s%=",
        (0xa0, _) => "^=",
        (0xb0, _) => "=",
        (0xc0, _) => "s>>=",
        _ => "endian",
    }
}

fn jump(op: u8) -> Option<&'static str> {
    Some(match op {
        0x10 => "==",
        0x20 => ">",
        0x30 => ">=",
        0x40 => "&",
        0x50 => "!=",
        0x60 => "s>",
        0x70 => "s>=",
        0xa0 => "<",
        0xb0 => "<=",
        0xc0 => "s<",
        0xd0 => "s<=",
        _ => return None,
    })
}

/// Prints one instruction. What has no meaning is printed as the kernel does, as a bug with its number.
pub(crate) fn print(f: &mut fmt::Formatter<'_>, insn: Insn, second: Option<Insn>) -> fmt::Result {
    write!(f, "({:02x}) ", insn.code.0)?;
    match insn.code.class() {
        Class::Alu | Class::Alu64 => print_alu(f, insn),
        Class::Jmp | Class::Jmp32 => print_jump(f, insn),
        Class::Ld | Class::Ldx => print_load(f, insn, second),
        Class::St | Class::Stx => print_store(f, insn),
    }
}

fn print_alu(f: &mut fmt::Formatter<'_>, insn: Insn) -> fmt::Result {
    let Insn { code, off, imm, .. } = insn;
    let (dst, src) = (insn.dst(), insn.src());
    let wide = code.class() == Class::Alu64;
    let r = if wide { 'r' } else { 'w' };
    match code.op() {
        0xd0 if wide => write!(f, "r{dst} = bswap{imm} r{dst}"),
        0xd0 => write!(f, "r{dst} = {}{imm} r{dst}", if code.is_register() { "be" } else { "le" }),
        0x80 => write!(f, "{r}{dst} = -{r}{dst}"),
        op => {
            let operation = alu(op, off == 1 && matches!(op, 0x30 | 0x90));
            if !code.is_register() {
                return write!(f, "{r}{dst} {operation} {imm}");
            }
            match (op, off) {
                // What the verifier makes of a per-CPU address, and of an arena's.
                (0xb0, -1) if wide => return write!(f, "r{dst} = &(void __percpu *)(r{src})"),
                (0xb0, 1) if wide => {
                    let (to, from) = (imm.cast_unsigned() >> 16, imm.cast_unsigned() & 0xffff);
                    return write!(f, "r{dst} = addr_space_cast(r{src}, {to}, {from})");
                }
                _ => {}
            }
            let extend = match (op, off) {
                (0xb0, 8) => "(s8)",
                (0xb0, 16) => "(s16)",
                (0xb0, 32) => "(s32)",
                _ => "",
            };
            write!(f, "{r}{dst} {operation} {extend}{r}{src}")
        }
    }
}

fn print_jump(f: &mut fmt::Formatter<'_>, insn: Insn) -> fmt::Result {
    let Insn { code, off, imm, .. } = insn;
    let (dst, src) = (insn.dst(), insn.src());
    let r = if code.class() == Class::Jmp { 'r' } else { 'w' };
    match code {
        Opcode::CALLX => write!(f, "callx r{dst}"),
        Opcode::CALL if src == PSEUDO_CALL => write!(f, "call pc{imm:+}"),
        Opcode::CALL if src == PSEUDO_KFUNC_CALL => write!(f, "call kernel-function#{imm}"),
        Opcode::CALL => write!(f, "call {}", Helper(imm.cast_unsigned())),
        Opcode::JA => write!(f, "goto pc{off:+}"),
        Opcode::JA32 => write!(f, "gotol pc{imm:+}"),
        Opcode::JCOND => write!(f, "may_goto pc{off:+}"),
        Opcode::EXIT => write!(f, "exit"),
        _ => match jump(code.op()) {
            Some(op) if code.is_register() => write!(f, "if {r}{dst} {op} {r}{src} goto pc{off:+}"),
            Some(op) => write!(f, "if {r}{dst} {op} 0x{imm:x} goto pc{off:+}"),
            None => write!(f, "BUG_jmp_{:02x}", code.0),
        },
    }
}

fn print_load(f: &mut fmt::Formatter<'_>, insn: Insn, second: Option<Insn>) -> fmt::Result {
    let Insn { code, off, imm, .. } = insn;
    let (dst, src) = (insn.dst(), insn.src());
    match (code.class(), code.mode()) {
        (Class::Ldx, Some(Mode::Mem)) => write!(f, "r{dst} = *({} *)(r{src} {off:+})", size(code)),
        (Class::Ldx, Some(Mode::Memsx)) => write!(f, "r{dst} = *({} *)(r{src} {off:+})", signed_size(code)),
        (Class::Ldx, _) => write!(f, "BUG_ldx_{:02x}", code.0),
        (_, Some(Mode::Abs)) => write!(f, "r0 = *({} *)skb[{imm}]", size(code)),
        (_, Some(Mode::Ind)) => write!(f, "r0 = *({} *)skb[r{src} + {imm}]", size(code)),
        _ if code == Opcode::LD_IMM64 => match src {
            PSEUDO_MAP_FD | PSEUDO_MAP_VALUE | PSEUDO_FUNC => write!(f, "r{dst} = 0x{imm:x}"),
            _ => {
                let upper = second.map_or(0, |second| second.imm.cast_unsigned());
                write!(f, "r{dst} = 0x{:x}", (u64::from(upper) << 32) | u64::from(imm.cast_unsigned()))
            }
        },
        _ => write!(f, "BUG_ld_{:02x}", code.0),
    }
}

/// The bits of an atomic operation's constant.
const FETCH: i32 = 0x01;

fn print_store(f: &mut fmt::Formatter<'_>, insn: Insn) -> fmt::Result {
    let Insn { code, off, imm, .. } = insn;
    let (dst, src) = (insn.dst(), insn.src());
    let size_name = size(code);
    match (code.class(), code.mode()) {
        (Class::St, Some(Mode::Mem)) => write!(f, "*({size_name} *)(r{dst} {off:+}) = {imm}"),
        (Class::St, Some(Mode::Atomic)) => write!(f, "nospec"),
        (Class::St, _) => write!(f, "BUG_st_{:02x}", code.0),
        (_, Some(Mode::Mem)) => write!(f, "*({size_name} *)(r{dst} {off:+}) = r{src}"),
        (_, Some(Mode::Atomic)) => {
            let bits = if size_name == "u64" { "64" } else { "" };
            let fetch = |name| (name, format!("({size_name} *)(r{dst} {off:+})"));
            let (name, place) = match imm {
                0x00 | 0x40 | 0x50 | 0xa0 => {
                    let op = alu(u8::try_from(imm).unwrap_or_default(), false);
                    return write!(f, "lock *({size_name} *)(r{dst} {off:+}) {op} r{src}");
                }
                0x100 => return write!(f, "r{dst} = load_acquire(({size_name} *)(r{src} {off:+}))"),
                0x110 => return write!(f, "store_release(({size_name} *)(r{dst} {off:+}), r{src})"),
                0xf1 => return write!(f, "r0 = atomic{bits}_cmpxchg(({size_name} *)(r{dst} {off:+}), r0, r{src})"),
                _ if imm == FETCH => fetch("fetch_add"),
                _ if imm == 0x40 | FETCH => fetch("fetch_or"),
                _ if imm == 0x50 | FETCH => fetch("fetch_and"),
                _ if imm == 0xa0 | FETCH => fetch("fetch_xor"),
                0xe1 => fetch("xchg"),
                _ => return write!(f, "BUG_{:02x}", code.0),
            };
            write!(f, "r{src} = atomic{bits}_{name}({place}, r{src})")
        }
        _ => write!(f, "BUG_{:02x}", code.0),
    }
}
