//! Values in one notation, that of newer kernels (`print_reg_state` in kernel/bpf/log.c), whichever kernel printed them.

use std::fmt;

use super::range::Range;
use super::value::{Value, What};

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.above)?;
        if self.precise {
            f.write_str("P")?;
        }
        match &self.what {
            What::Other(text) | What::Bytes(text) => return f.write_str(text),
            What::Scalar => match self.constant() {
                Some(number) => return write!(f, "{}", Signed(number.cast_signed())),
                None => f.write_str("scalar")?,
            },
            What::Stack { frame } => {
                f.write_str("fp")?;
                if let Some(frame) = frame {
                    write!(f, "[{frame}]")?;
                }
                match self.stack_offset() {
                    Some((_, offset)) => return write!(f, "{}", Signed(offset)),
                    None if self.range == Range::UNKNOWN && self.offset == 0 => return Ok(()),
                    None => {}
                }
            }
            What::Dynptr(kind) => write!(f, "dynptr_{kind}")?,
            What::Iterator(kind) => write!(f, "iter_{kind}")?,
            What::Pointer(_) | What::Btf(_) => {
                self.flags.iter().try_for_each(|flag| write!(f, "{flag}_"))?;
                match &self.what {
                    What::Btf(name) => write!(f, "ptr_{}{name}", if self.or_null { "or_null_" } else { "" })?,
                    What::Pointer(name) => write!(f, "{name}{}", if self.or_null { "_or_null" } else { "" })?,
                    _ => {}
                }
            }
        }
        write!(f, "({})", self.attributes().join(","))
    }
}

impl Value {
    /// What stands in the parentheses, in the kernel's order.
    fn attributes(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.id != 0 {
            let delta = if self.delta == 0 { String::new() } else { format!("{:+}", self.delta) };
            all.push(format!("id={}{delta}", self.id));
        }
        if self.ref_id != 0 {
            all.push(format!("ref_obj_id={}", self.ref_id));
        }
        if let Some(map) = &self.map {
            all.extend(map.name.iter().map(|name| format!("map={name}")));
            all.push(format!("ks={},vs={}", map.key_size, map.value_size));
        }
        let added = if self.is_scalar() { None } else { self.range.constant() };
        let offset = self.offset.wrapping_add(added.unwrap_or_default().cast_signed());
        if offset != 0 {
            all.push(format!("off={}", Signed(offset)));
        }
        if let Some(size) = self.size {
            let name = if matches!(self.what, What::Pointer("mem")) { "sz" } else { "r" };
            all.push(format!("{name}={}", Unsigned(size)));
        }
        if added.is_none() {
            self.range.describe(&mut all);
        }
        all.extend(self.more.iter().cloned());
        all
    }
}

impl Range {
    /// The limits that say something, equal ones together: `smin=smin32=0,smax=umax=255`.
    fn describe(&self, all: &mut Vec<String>) {
        // A number of 32 bits that is printed in hexadecimal is not extended by its sign, and so not equal to one of 64 bits that is.
        let signed32 = |number: i32| match i16::try_from(number) {
            Ok(small) => Limit::Signed(small.into()),
            Err(_) => Limit::Signed(number.cast_unsigned().into()),
        };
        let (signed, unsigned) = (Limit::Signed, Limit::Unsigned);
        let limits = [
            ("smin", signed(self.signed.0), self.signed.0 != i64::MIN),
            ("smax", signed(self.signed.1), self.signed.1 != i64::MAX),
            ("umin", unsigned(self.unsigned.0), self.unsigned.0 != 0),
            ("umax", unsigned(self.unsigned.1), self.unsigned.1 != u64::MAX),
            ("smin32", signed32(self.signed32.0), self.signed32.0 != i32::MIN),
            ("smax32", signed32(self.signed32.1), self.signed32.1 != i32::MAX),
            ("umin32", unsigned(self.unsigned32.0.into()), self.unsigned32.0 != 0),
            ("umax32", unsigned(self.unsigned32.1.into()), self.unsigned32.1 != u32::MAX),
        ];
        let mut said = [false; 8];
        for (first, (name, limit, tells)) in limits.iter().enumerate() {
            if !tells || said[first] {
                continue;
            }
            let mut names = String::from(*name);
            for same in (first + 2..limits.len()).step_by(2) {
                if limits[same].2 && limits[same].1.number() == limit.number() {
                    said[same] = true;
                    names.push('=');
                    names.push_str(limits[same].0);
                }
            }
            all.push(format!("{names}={limit}"));
        }
        if self.bits != Self::UNKNOWN.bits {
            all.push(format!("var_off=({:#x}; {:#x})", self.bits.0, self.bits.1));
        }
    }
}

/// A limit of a number.
#[derive(Clone, Copy)]
enum Limit {
    Signed(i64),
    Unsigned(u64),
}

impl Limit {
    /// The number: -1 is another one than 0xffffffffffffffff.
    fn number(self) -> i128 {
        match self {
            Self::Signed(number) => number.into(),
            Self::Unsigned(number) => number.into(),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(number) => Signed(*number).fmt(f),
            Self::Unsigned(number) => Unsigned(*number).fmt(f),
        }
    }
}

/// Small numbers are decimal, others hexadecimal (`verbose_snum`, `verbose_unum`).
struct Signed(i64);
struct Unsigned(u64);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i16::try_from(self.0) {
            Ok(small) => write!(f, "{small}"),
            Err(_) => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u16::try_from(self.0) {
            Ok(small) => write!(f, "{small}"),
            Err(_) => write!(f, "{:#x}", self.0),
        }
    }
}
