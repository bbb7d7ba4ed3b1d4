//! An argument of a probe, from the text that the compiler left: a size, `@`, and an operand in the assembler's notation.

use super::register::Register;
use crate::Error;
use crate::ctx::Arch;

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// 1, 2, 4 or 8 bytes; negative where it is a signed number.
    pub size: i8,
    /// Where it is.
    pub place: Place,
}

/// Where an argument is when its probe is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is always this number.
    Const(i64),
    /// In a register, or a part of one.
    Reg(Register),
    /// In the program's memory, at the sum of these.
    Mem {
        /// A register. Where it is half of one, the address has 32 bits.
        base: Option<Register>,
        /// A register, multiplied.
        index: Option<Index>,
        /// A number.
        disp: i64,
    },
}

/// A register that counts elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// The register.
    pub register: Register,
    /// Whether half a register is a signed number.
    pub signed: bool,
    /// The size of an element in bytes, a power of two.
    pub scale: u8,
}

/// Why an argument cannot be used.
pub(super) fn unusable(text: &str, why: &str) -> Error {
    // It comes from a file, so that it is quoted as such.
    Error::Usdt { what: format!("cannot use the argument {text:?}"), why: why.to_owned() }
}

/// The texts of the arguments: they are separated by spaces, which some also have between brackets.
pub(super) fn split(arguments: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = arguments.split(move |c: char| {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c.is_ascii_whitespace()
    });
    parts.filter(|part| !part.is_empty())
}

/// What is wrong with an operand.
type Mistake = &'static str;

const UNKNOWN_REGISTER: Mistake = "it names a register that the kernel does not keep for probes";
const UNKNOWN: Mistake = "its notation is not known here";
const SYMBOL: Mistake = "it is at the address of a symbol, which only the linker knew";

impl Arg {
    /// Reads one argument, such as `-4@-20(%rbp)`.
    ///
    /// # Errors
    /// What is not known here, such as floating-point numbers and addresses of symbols, with the text.
    pub fn parse(text: &str, arch: Arch) -> Result<Self, Error> {
        Self::read(text, arch).map_err(|why| unusable(text, why))
    }

    fn read(text: &str, arch: Arch) -> Result<Self, Mistake> {
        let (size, operand) = text.split_once('@').ok_or("it does not begin with a size and `@`")?;
        if size.ends_with('f') {
            return Err("it is a floating-point number, which programs cannot compute with");
        }
        let size = size.parse().ok().filter(|size: &i8| matches!(size.unsigned_abs(), 1 | 2 | 4 | 8));
        let size = size.ok_or("its size is not 1, 2, 4 or 8 bytes")?;
        let place = match arch {
            Arch::X86_64 => x86(operand)?,
            Arch::Aarch64 => aarch64(operand)?,
            Arch::Riscv64 => riscv(operand)?,
        };
        Ok(Self { size, place })
    }
}

/// A number in decimal or, after `0x`, in hexadecimal; unsigned ones of 64 bits are the signed ones with the same bits.
fn int(text: &str) -> Option<i64> {
    let (minus, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => i128::from_str_radix(hex, 16).ok()?,
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let value = if minus { -value } else { value };
    i64::try_from(value).or_else(|_| u64::try_from(value).map(u64::cast_signed)).ok()
}

/// The number before a bracket, which is 0 where there is none.
fn displacement(text: &str) -> Result<i64, Mistake> {
    match int(text) {
        Some(number) => Ok(number),
        None if text.is_empty() => Ok(0),
        None if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => Err(UNKNOWN),
        None => Err(SYMBOL),
    }
}

/// `$5`, `%edi`, `-20(%rbp)`, `(%rax,%rdx,8)`
fn x86(operand: &str) -> Result<Place, Mistake> {
    let register = |text: &str| {
        let name = text.strip_prefix('%').ok_or(UNKNOWN)?;
        match name {
            "rip" | "eip" => Err("it is relative to the instruction, at the address of a symbol"),
            _ => Register::named(name, Arch::X86_64).ok_or(UNKNOWN_REGISTER),
        }
    };
    if let Some(number) = operand.strip_prefix('$') {
        return int(number).map(Place::Const).ok_or(SYMBOL);
    }
    let Some((disp, rest)) = operand.split_once('(') else {
        return match operand.strip_prefix('%') {
            Some(name) if name.contains(':') => Err("it is in a segment, whose address is not known"),
            Some(_) => register(operand).map(Place::Reg),
            None if operand.is_empty() => Err(UNKNOWN),
            None => Err(SYMBOL),
        };
    };
    if disp.starts_with('%') {
        return Err("it is in a segment, whose address is not known");
    }
    let mut parts = rest.strip_suffix(')').ok_or(UNKNOWN)?.split(',').map(str::trim);
    let base = parts.next().filter(|text| !text.is_empty()).map(register).transpose()?;
    let index = parts.next().filter(|text| !text.is_empty()).map(register).transpose()?;
    let scale = match parts.next() {
        Some("1") | None => 1,
        Some("2") => 2,
        Some("4") => 4,
        Some("8") => 8,
        Some(_) => return Err(UNKNOWN),
    };
    let is_address = |register: &Register| matches!(register.size, 4 | 8);
    let is_sound = [base, index.or(base)].iter().flatten().all(is_address) && parts.next().is_none();
    if !is_sound || base.or(index).is_none() {
        return Err(UNKNOWN);
    }
    let disp = displacement(disp)?;
    Ok(Place::Mem { base, index: index.map(|register| Index { register, signed: false, scale }), disp })
}

/// `5`, `w1`, `[sp, 12]`, `[x0, x1, lsl 3]`
fn aarch64(operand: &str) -> Result<Place, Mistake> {
    let number = |text: &str| int(text.strip_prefix('#').unwrap_or(text));
    let register = |name: &str| Register::named(name, Arch::Aarch64).ok_or(UNKNOWN_REGISTER);
    let Some(inner) = operand.strip_prefix('[') else {
        return match operand {
            "xzr" | "wzr" => Ok(Place::Const(0)),
            _ => number(operand).map(Place::Const).map_or_else(|| register(operand).map(Place::Reg), Ok),
        };
    };
    let mut parts = inner.strip_suffix(']').ok_or(UNKNOWN)?.split(',').map(str::trim);
    let base = register(parts.next().unwrap_or_default())?;
    if base.size != 8 {
        return Err(UNKNOWN);
    }
    let (index, disp) = match parts.next() {
        None => (None, 0),
        Some(text) if text.starts_with(':') => return Err(SYMBOL),
        Some(text) => match number(text) {
            Some(disp) => (None, disp),
            None => (Some(extended(register(text)?, parts.next())?), 0),
        },
    };
    match parts.next() {
        None => Ok(Place::Mem { base: Some(base), index, disp }),
        Some(_) => Err(UNKNOWN),
    }
}

/// An index of aarch64 with what may follow it: `lsl 3`, `sxtw`, `uxtw 2`.
fn extended(register: Register, extension: Option<&str>) -> Result<Index, Mistake> {
    let (word, shift) = match extension {
        Some(text) => text.split_once(' ').unwrap_or((text, "0")),
        None => ("lsl", "0"),
    };
    let shift = int(shift.strip_prefix('#').unwrap_or(shift)).and_then(|shift| u32::try_from(shift).ok());
    let scale = shift.filter(|&shift| shift <= 4).and_then(|shift| 1_u8.checked_shl(shift)).ok_or(UNKNOWN)?;
    let signed = match (word, register.size) {
        ("lsl", 8) | ("uxtw", 4) => false,
        ("sxtw", 4) => true,
        _ => return Err(UNKNOWN),
    };
    Ok(Index { register, signed, scale })
}

/// `5`, `a0`, `-20(s0)`
fn riscv(operand: &str) -> Result<Place, Mistake> {
    let register = |name: &str| Register::named(name, Arch::Riscv64).ok_or(UNKNOWN_REGISTER);
    let Some((disp, rest)) = operand.split_once('(') else {
        return match operand {
            "zero" | "x0" => Ok(Place::Const(0)),
            _ => int(operand).map(Place::Const).map_or_else(|| register(operand).map(Place::Reg), Ok),
        };
    };
    let base = register(rest.strip_suffix(')').ok_or(UNKNOWN)?)?;
    Ok(Place::Mem { base: Some(base), index: None, disp: displacement(disp)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reg(name: &str, arch: Arch) -> Register {
        Register::named(name, arch).unwrap()
    }

    fn mem(arch: Arch, base: &str, disp: i64) -> Place {
        Place::Mem { base: Some(reg(base, arch)), index: None, disp }
    }

    fn check(arch: Arch, known: &[(&str, i8, Place)], refused: &[(&str, &str)]) {
        for &(text, size, place) in known {
            assert_eq!(Arg::parse(text, arch).unwrap(), Arg { size, place }, "{text}");
        }
        for &(text, part) in refused {
            let error = Arg::parse(text, arch).map(|arg| format!("{arg:?}")).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains(part), "{error}, without {part}");
        }
        // Any beginning and any change of a known one is an argument, or a mistake that is told.
        for (text, ..) in known {
            for end in 0..text.len() {
                let _ = Arg::parse(&text[..end], arch);
            }
            for at in 0..text.len() {
                for other in
                    ["", "@", "(", ")", "[", "]", ",", "%", "$", "-", "9", "0x", " ", "é", "99999999999999999999"]
                {
                    let _ = Arg::parse(&[&text[..at], other, &text[at + 1..]].concat(), arch);
                }
            }
        }
    }

    #[test]
    fn arguments_of_x86_are_read() {
        let arch = Arch::X86_64;
        let r = |name| reg(name, arch);
        let index = |name, scale| Some(Index { register: r(name), signed: false, scale });
        let known = [
            ("-4@%edi", -4, Place::Reg(r("edi"))),
            ("1@%al", 1, Place::Reg(r("al"))),
            ("-1@%ah", -1, Place::Reg(Register { offset: 81, size: 1 })),
            ("2@%r9w", 2, Place::Reg(r("r9w"))),
            ("8@$5", 8, Place::Const(5)),
            ("-4@$-1", -4, Place::Const(-1)),
            ("8@$0xfffffffffffffffe", 8, Place::Const(-2)),
            ("4@-20(%rbp)", 4, mem(arch, "rbp", -20)),
            ("8@(%rax)", 8, mem(arch, "rax", 0)),
            ("8@(%rax,%rdx,8)", 8, Place::Mem { base: Some(r("rax")), index: index("rdx", 8), disp: 0 }),
            ("8@16(%rax,%rdx)", 8, Place::Mem { base: Some(r("rax")), index: index("rdx", 1), disp: 16 }),
            ("-2@-8(,%rcx,4)", -2, Place::Mem { base: None, index: index("rcx", 4), disp: -8 }),
            ("4@8(%esp)", 4, mem(arch, "esp", 8)),
        ];
        let refused = [
            ("-4@sym+8(%rip)", "relative to the instruction"),
            ("4@16(%rip)", "relative to the instruction"),
            ("4@sym(%rax)", "symbol"),
            ("8@$sym", "symbol"),
            ("8@sym", "symbol"),
            ("8f@%xmm0", "floating-point"),
            ("2f@(%rax)", "floating-point"),
            ("16@%xmm0", "size"),
            ("0@%rax", "size"),
            ("@%rax", "size"),
            ("%rax", "size"),
            ("8@%xmm0", "register"),
            ("8@%fs:16", "segment"),
            ("8@%fs:(%rax)", "segment"),
            ("8@(%rax,%rdx,3)", "notation"),
            ("8@(%rax,%rdx,8,1)", "notation"),
            ("8@()", "notation"),
            ("8@", "notation"),
            ("8@(%rax", "notation"),
            ("8@(%ax)", "notation"),
            ("8@(%rax,%dl)", "notation"),
            ("8@99999999999999999999(%rax)", "notation"),
            ("8@\u{1b}[2J", "symbol"),
        ];
        check(arch, &known, &refused);
    }

    #[test]
    fn arguments_of_aarch64_are_read() {
        let arch = Arch::Aarch64;
        let indexed = |name: &str, signed, scale| Place::Mem {
            base: Some(reg("x0", arch)),
            index: Some(Index { register: reg(name, arch), signed, scale }),
            disp: 0,
        };
        let known = [
            ("-4@[sp, 12]", -4, mem(arch, "sp", 12)),
            ("8@x0", 8, Place::Reg(reg("x0", arch))),
            ("4@w1", 4, Place::Reg(reg("w1", arch))),
            ("-4@5", -4, Place::Const(5)),
            ("-4@-5", -4, Place::Const(-5)),
            ("8@xzr", 8, Place::Const(0)),
            ("8@[x19]", 8, mem(arch, "x19", 0)),
            ("8@[x29, #-24]", 8, mem(arch, "x29", -24)),
            ("8@[x0, x1]", 8, indexed("x1", false, 1)),
            ("8@[x0, x1, lsl 3]", 8, indexed("x1", false, 8)),
            ("4@[x0, w1, sxtw 2]", 4, indexed("w1", true, 4)),
            ("1@[x0,w1,uxtw]", 1, indexed("w1", false, 1)),
        ];
        let refused = [
            ("8@[x0, :lo12:sym]", "symbol"),
            ("8@[x0], 8", "notation"),
            ("8@[x0, 8]!", "notation"),
            ("8@[w0]", "notation"),
            ("8@[x0, w1]", "notation"),
            ("8@[x0, x1, lsl 5]", "notation"),
            ("8@[x0, x1, lsl 3, 4]", "notation"),
            ("8@d0", "register"),
            ("8f@d0", "floating-point"),
            ("8@[]", "register"),
        ];
        check(arch, &known, &refused);
    }

    #[test]
    fn arguments_of_riscv_are_read() {
        let arch = Arch::Riscv64;
        let known = [
            ("8@a0", 8, Place::Reg(reg("a0", arch))),
            ("-4@-20(s0)", -4, mem(arch, "s0", -20)),
            ("8@(sp)", 8, mem(arch, "sp", 0)),
            ("1@7", 1, Place::Const(7)),
            ("8@zero", 8, Place::Const(0)),
        ];
        let refused =
            [("8@fa0", "register"), ("8@%lo(sym)(a0)", "register"), ("8@sym(a0)", "symbol"), ("8@8(a0", "notation")];
        check(arch, &known, &refused);
    }

    #[test]
    fn spaces_within_brackets_separate_nothing() {
        let parts: Vec<&str> = split("  -4@[sp, 12] 8@x0\t8@[x0, x1, lsl 3]").collect();
        assert_eq!(parts, ["-4@[sp, 12]", "8@x0", "8@[x0, x1, lsl 3]"]);
        assert_eq!(split("8@(%rax, %rdx, 8) 4@$1").count(), 2);
        assert_eq!(split("").count(), 0);
        assert_eq!(split(")) 8@%rax ]( x").count(), 3);
    }
}
