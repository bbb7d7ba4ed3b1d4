//! What the verifier knows of a number: its limits, signed and unsigned, of 64 and of 32 bits, and which bits are known.

use super::value::number;

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least and the most that it is, signed.
    pub signed: (i64, i64),
    /// The same, unsigned.
    pub unsigned: (u64, u64),
    /// The least and the most of its lower 32 bits, signed.
    pub signed32: (i32, i32),
    /// The same, unsigned.
    pub unsigned32: (u32, u32),
    /// The bits that are known to be set, and those that are not known (`struct tnum`).
    pub bits: (u64, u64),
}

impl Range {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        signed: (i64::MIN, i64::MAX),
        unsigned: (0, u64::MAX),
        signed32: (i32::MIN, i32::MAX),
        unsigned32: (0, u32::MAX),
        bits: (0, u64::MAX),
    };

    /// One number.
    pub fn exactly(value: u64) -> Self {
        let [a, b, c, d, ..] = value.to_le_bytes();
        let low = u32::from_le_bytes([a, b, c, d]);
        Self {
            signed: (value.cast_signed(), value.cast_signed()),
            unsigned: (value, value),
            signed32: (low.cast_signed(), low.cast_signed()),
            unsigned32: (low, low),
            bits: (value, 0),
        }
    }

    /// The number, if there is but one.
    pub fn constant(&self) -> Option<u64> {
        let (least, most) = self.unsigned;
        (self.bits.1 == 0).then_some(self.bits.0).or((least == most).then_some(least))
    }

    /// The limits that hold for both readings of the number, if it is known not to be negative.
    pub fn natural(&self) -> Option<(u64, u64)> {
        let least = self.unsigned.0.max(u64::try_from(self.signed.0).unwrap_or_default());
        let most = match u64::try_from(self.signed.1) {
            Ok(most) if self.signed.0 >= 0 => self.unsigned.1.min(most),
            _ => self.unsigned.1,
        };
        (most <= i64::MAX.cast_unsigned()).then_some((least, most))
    }

    /// The power of two that it is a multiple of, 1 for none.
    pub fn multiple_of(&self) -> u64 {
        let low = (self.bits.0 | self.bits.1).trailing_zeros();
        1_u64.checked_shl(low).unwrap_or(1)
    }

    /// Takes in `umax=255`, `smin=smin32=0`, `umax_value=255` or `var_off=(0x0; 0xff)`.
    pub(super) fn limit(&mut self, text: &str) -> Option<()> {
        let (names, value) = text.rsplit_once('=')?;
        if names == "var_off" {
            self.bits = bits(value)?;
            return Some(());
        }
        let value = number(value, false)?;
        let mut limited = *self;
        names.split('=').try_for_each(|name| limited.set(name, value))?;
        *self = limited;
        Some(())
    }

    /// `name` is the kernel's, of any version: `umax`, `umax_value`, `u32_max_value`.
    fn set(&mut self, name: &str, value: u64) -> Option<()> {
        // Hexadecimal numbers of 32 bits are not extended by their sign, decimal ones are.
        let low = || i32::try_from(value.cast_signed()).ok().map(i32::cast_unsigned).or(u32::try_from(value).ok());
        match name.strip_suffix("_value").unwrap_or(name) {
            "smin" => self.signed.0 = value.cast_signed(),
            "smax" => self.signed.1 = value.cast_signed(),
            "umin" => self.unsigned.0 = value,
            "umax" => self.unsigned.1 = value,
            "smin32" | "s32_min" => self.signed32.0 = low()?.cast_signed(),
            "smax32" | "s32_max" => self.signed32.1 = low()?.cast_signed(),
            "umin32" | "u32_min" => self.unsigned32.0 = low()?,
            "umax32" | "u32_max" => self.unsigned32.1 = low()?,
            _ => return None,
        }
        Some(())
    }
}

/// `(0x0; 0xff)`, or a number if all are known.
fn bits(text: &str) -> Option<(u64, u64)> {
    let Some(inner) = text.strip_prefix('(') else { return Some((number(text, false)?, 0)) };
    let (value, mask) = inner.strip_suffix(')')?.split_once("; ")?;
    Some((number(value, false)?, number(mask, false)?))
}
