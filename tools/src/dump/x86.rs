//! Instructions of x86-64 in the notation of Intel's manuals, destination first, as BPF's own has it: what a JIT compiler emits.
//! Numbers are decimal as BPF's are, but for constants of 64 bits.

use std::fmt::Write;

use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X86 {
    /// Where it begins, in bytes from the start of what was decoded.
    pub start: usize,
    /// Its bytes.
    pub len: usize,
    insn: Instruction,
}

/// Takes code apart that lies at an address.
pub fn decode(code: &[u8], address: u64) -> Vec<X86> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut insns = Vec::new();
    while decoder.can_decode() {
        let start = decoder.position();
        let insn = decoder.decode();
        insns.push(X86 { start, len: decoder.position() - start, insn });
    }
    insns
}

impl X86 {
    /// The address that it jumps to, calls or loads.
    pub fn target(&self) -> Option<u64> {
        (0..self.insn.op_count()).find_map(|n| match self.insn.op_kind(n) {
            OpKind::NearBranch64 => Some(self.insn.near_branch64()),
            OpKind::Immediate64 => Some(self.insn.immediate64()),
            _ => None,
        })
    }

    /// The instruction with `target` in place of the address that it jumps to, calls or loads.
    pub fn text(&self, target: Option<&str>) -> String {
        let Some(name) = mnemonic(self.insn.mnemonic()) else { return "(no name here)".to_owned() };
        let mut text = String::new();
        for (is_set, prefix) in [
            (self.insn.has_lock_prefix(), "lock "),
            (self.insn.has_repne_prefix() && is_string(name), "repne "),
            (self.insn.has_rep_prefix() && is_string(name), "rep "),
        ] {
            text.push_str(if is_set { prefix } else { "" });
        }
        // Constants of 64 bits have a form of `mov` to themselves.
        let is_movabs = name == "mov" && self.insn.op_count() == 2 && self.insn.op_kind(1) == OpKind::Immediate64;
        text.push_str(if is_movabs { "movabs" } else { name });
        // What a no-op names it does not use.
        let operands = if name == "nop" { 0 } else { self.insn.op_count() };
        for n in 0..operands {
            text.push_str(if n == 0 { " " } else { ", " });
            self.operand(n, target, &mut text);
        }
        text
    }

    fn operand(&self, n: u32, target: Option<&str>, text: &mut String) {
        let insn = &self.insn;
        let _ = match insn.op_kind(n) {
            OpKind::Register => write!(text, "{}", register(insn.op_register(n))),
            OpKind::NearBranch64 => match target {
                Some(name) => write!(text, "{name}"),
                None => write!(text, "{:#x}", insn.near_branch64()),
            },
            OpKind::Memory => return self.memory(text),
            OpKind::Immediate64 => match target {
                Some(name) => write!(text, "{:#x} <{name}>", insn.immediate64()),
                None => write!(text, "{:#x}", insn.immediate64()),
            },
            OpKind::Immediate8 => write!(text, "{}", insn.immediate8()),
            OpKind::Immediate16 => write!(text, "{}", insn.immediate16()),
            OpKind::Immediate32 => write!(text, "{}", insn.immediate32().cast_signed()),
            OpKind::Immediate8to16 => write!(text, "{}", insn.immediate8to16()),
            OpKind::Immediate8to32 => write!(text, "{}", insn.immediate8to32()),
            OpKind::Immediate8to64 => write!(text, "{}", insn.immediate8to64()),
            OpKind::Immediate32to64 => write!(text, "{}", insn.immediate32to64()),
            // The operands of string instructions, of which no compiler of BPF emits any.
            _ => write!(text, "?"),
        };
    }

    /// `dword ptr gs:[rax + 8*rcx - 16]`
    fn memory(&self, text: &mut String) {
        let insn = &self.insn;
        let size = match insn.memory_size() {
            // The address itself is what counts.
            _ if insn.mnemonic() == Mnemonic::Lea => "",
            MemorySize::UInt8 | MemorySize::Int8 => "byte ptr ",
            MemorySize::UInt16 | MemorySize::Int16 => "word ptr ",
            MemorySize::UInt32 | MemorySize::Int32 => "dword ptr ",
            MemorySize::UInt64 | MemorySize::Int64 | MemorySize::QwordOffset => "qword ptr ",
            MemorySize::UInt128 => "xmmword ptr ",
            _ => "",
        };
        text.push_str(size);
        if insn.segment_prefix() != Register::None {
            let _ = write!(text, "{}:", register(insn.segment_prefix()));
        }
        let (base, index) = (insn.memory_base(), insn.memory_index());
        let mut parts = Vec::new();
        if base == Register::RIP {
            // The displacement that was decoded is the address already.
            let _ = write!(text, "[rip + {:#x}]", insn.memory_displacement64());
            return;
        }
        if base != Register::None {
            parts.push(register(base));
        }
        match (index, insn.memory_index_scale()) {
            (Register::None, _) => {}
            (index, 1) => parts.push(register(index)),
            (index, scale) => parts.push(format!("{scale}*{}", register(index))),
        }
        let displacement = insn.memory_displacement64().cast_signed();
        match (parts.is_empty(), displacement) {
            (false, 0) => {}
            (true, _) => parts.push(format!("{displacement:#x}")),
            (false, 1..) => parts.push(format!("+ {displacement}")),
            (false, _) => parts.push(format!("- {}", displacement.unsigned_abs())),
        }
        let joined = parts.join(" + ").replace("+ + ", "+ ").replace("+ - ", "- ");
        let _ = write!(text, "[{joined}]");
    }
}

/// Whether a prefix repeats it. To others the same byte means something else, such as `endbr64`.
fn is_string(mnemonic: &str) -> bool {
    mnemonic.starts_with("movs") && mnemonic.len() == 5 && mnemonic != "movsx" || mnemonic.starts_with("stos")
}

/// The general registers are four rows of the list, of 8 to 64 bits; and there are six segments.
fn register(register: Register) -> String {
    const LOW: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    const BYTES: [&str; 12] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh", "spl", "bpl", "sil", "dil"];
    const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
    let number = register as usize;
    let row = |first: Register| number.checked_sub(first as usize);
    let of = |n: usize, wide: &str, narrow: &str| match LOW.get(n) {
        Some(name) => format!("{wide}{name}"),
        None => format!("r{n}{narrow}"),
    };
    let rows = [(Register::AX, "", "w"), (Register::EAX, "e", "d"), (Register::RAX, "r", "")];
    for (first, wide, narrow) in rows {
        if let Some(n) = row(first).filter(|&n| n < 16) {
            return of(n, wide, narrow);
        }
    }
    match (row(Register::AL), row(Register::ES), row(Register::XMM0)) {
        (Some(n @ 0..12), ..) => BYTES[n].to_owned(),
        (Some(n @ 12..20), ..) => format!("r{}b", n - 4),
        (_, Some(n @ 0..6), _) => SEGMENTS[n].to_owned(),
        (.., Some(n @ 0..32)) => format!("xmm{n}"),
        _ if register == Register::RIP => "rip".to_owned(),
        _ => "?".to_owned(),
    }
}

macro_rules! mnemonics {
    ($($variant:ident $name:literal)*) => {
        /// The name of an instruction, if it is one that integers, jumps and system code are made of.
        fn mnemonic(mnemonic: Mnemonic) -> Option<&'static str> {
            Some(match mnemonic {
                $(Mnemonic::$variant => $name,)*
                _ => return None,
            })
        }
    };
}

mnemonics! {
    INVALID "(bad)"
    Adc "adc" Add "add" And "and" Bsf "bsf" Bsr "bsr" Bswap "bswap" Bt "bt" Btc "btc" Btr "btr" Bts "bts" Call "call" Cbw "cbw"
    Cdq "cdq" Cdqe "cdqe" Clac "clac" Cld "cld" Cli "cli" Cmova "cmova" Cmovae "cmovae" Cmovb "cmovb" Cmovbe "cmovbe"
    Cmove "cmove" Cmovg "cmovg" Cmovge "cmovge" Cmovl "cmovl" Cmovle "cmovle" Cmovne "cmovne" Cmovno "cmovno" Cmovnp "cmovnp"
    Cmovns "cmovns" Cmovo "cmovo" Cmovp "cmovp" Cmovs "cmovs" Cmp "cmp" Cmpxchg "cmpxchg" Cmpxchg16b "cmpxchg16b" Cpuid "cpuid"
    Cqo "cqo" Cwd "cwd" Cwde "cwde" Dec "dec" Div "div" Endbr64 "endbr64" Hlt "hlt" Idiv "idiv" Imul "imul" Inc "inc"
    Int "int" Int3 "int3" Ja "ja" Jae "jae" Jb "jb" Jbe "jbe" Je "je" Jg "jg" Jge "jge" Jl "jl" Jle "jle" Jmp "jmp" Jne "jne"
    Jno "jno" Jnp "jnp" Jns "jns" Jo "jo" Jp "jp" Js "js" Lea "lea" Leave "leave" Lfence "lfence" Lzcnt "lzcnt" Mfence "mfence"
    Mov "mov" Movsb "movsb" Movsq "movsq" Movsx "movsx" Movsxd "movsxd" Movzx "movzx" Mul "mul" Neg "neg" Nop "nop" Not "not"
    Or "or" Pause "pause" Pop "pop" Popcnt "popcnt" Prefetcht0 "prefetcht0" Push "push" Pushfq "pushfq" Popfq "popfq" Rdtsc "rdtsc"
    Rdtscp "rdtscp" Ret "ret" Rol "rol" Ror "ror" Sar "sar" Sarx "sarx" Sbb "sbb" Seta "seta" Setae "setae" Setb "setb"
    Setbe "setbe" Sete "sete" Setg "setg" Setge "setge" Setl "setl" Setle "setle" Setne "setne" Setno "setno" Setnp "setnp"
    Setns "setns" Seto "seto" Setp "setp" Sets "sets" Sfence "sfence" Shl "shl" Shld "shld" Shlx "shlx" Shr "shr" Shrd "shrd"
    Shrx "shrx" Stac "stac" Sti "sti" Stosb "stosb" Stosq "stosq" Sub "sub" Syscall "syscall" Test "test" Tzcnt "tzcnt" Ud2 "ud2"
    Xadd "xadd" Xchg "xchg" Xor "xor"
}
