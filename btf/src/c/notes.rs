//! Remarks on a layout, in pahole's manner: where a member is, how large it is, and what lies between.

use std::io::Write;

use super::layout::Slot;
use super::print::Place;
use crate::types::Type;

/// The column that remarks begin in.
const COLUMN: usize = 56;
/// The bits of a cache line.
const LINE: u64 = 64 * 8;

/// What has been remarked on so far.
#[derive(Default)]
pub(super) struct Notes {
    line: u64,
    holes: u64,
    hole_bits: u64,
}

impl Notes {
    /// Tells of a hole in front of a member, and of a cache line that has begun.
    pub(super) fn before(&mut self, out: &mut Vec<u8>, place: Place, end: u64, start: u64) {
        if start > end {
            self.hole(out, place, start - end);
        }
        let start = place.base + start;
        if start / LINE > self.line {
            self.line = start / LINE;
            let bytes = self.line * (LINE / 8);
            let ago = match start % LINE / 8 {
                0 => String::new(),
                ago => format!("was {ago} bytes ago "),
            };
            let tabs = "\t".repeat(place.indent);
            let _ = writeln!(out, "{tabs}/* --- cacheline {} boundary ({bytes} bytes) {ago}--- */", self.line);
        }
    }

    /// Tells what is free after the last member.
    pub(super) fn after(&mut self, out: &mut Vec<u8>, place: Place, end: u64, size: u64) {
        // Of a union, all members end before it does.
        if size > end && place.indent > 1 {
            self.hole(out, place, size - end);
        }
    }

    fn hole(&mut self, out: &mut Vec<u8>, place: Place, bits: u64) {
        if place.indent == 1 {
            self.holes += 1;
            self.hole_bits += bits;
        }
        let _ = writeln!(out, "{}/* XXX {} hole */", "\t".repeat(place.indent), amount(bits));
    }

    /// Tells where the member is whose line has begun at `start`, and how large it is.
    pub(super) fn member(&self, out: &mut Vec<u8>, start: usize, base: u64, slot: &Slot) {
        let line = out[start..].rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let width: usize = line.iter().map(|&byte| if byte == b'\t' { 8 } else { 1 }).sum();
        out.resize(out.len() + COLUMN.saturating_sub(width).max(1), b' ');
        let begin = base + slot.start;
        let _ = match slot.width {
            // As pahole has it: the unit, the first bit in it, and the size of the unit.
            Some(_) => write!(
                out,
                "/* {:5}:{:2} {:3} */",
                begin / slot.size * (slot.size / 8),
                begin % slot.size,
                slot.size / 8
            ),
            None => write!(out, "/* {:5} {:6} */", begin / 8, slot.size / 8),
        };
    }

    /// What pahole says at the end.
    pub(super) fn sums(&self, out: &mut Vec<u8>, ty: &Type<'_>, slots: &[Slot]) {
        let size = u64::from(ty.size);
        let _ = writeln!(out, "\n\t/* size: {size}, cachelines: {}, members: {} */", size.div_ceil(64), slots.len());
        let end = slots.iter().map(Slot::end).max().unwrap_or(0);
        let padding = (size * 8).saturating_sub(end);
        if self.holes > 0 {
            let sum: u64 = slots.iter().map(|slot| slot.width.unwrap_or(slot.size)).sum();
            let (sum, holes) = (amount(sum), amount(self.hole_bits));
            let _ = writeln!(out, "\t/* sum members: {sum}, holes: {}, sum holes: {holes} */", self.holes);
        }
        if padding > 0 {
            let _ = writeln!(out, "\t/* padding: {} */", amount(padding));
        }
        if !size.is_multiple_of(64) {
            let _ = writeln!(out, "\t/* last cacheline: {} bytes */", size % 64);
        }
    }
}

fn amount(bits: u64) -> String {
    match (bits / 8, bits % 8) {
        (0, 1) => "1 bit".to_owned(),
        (0, bits) => format!("{bits} bits"),
        (1, 0) => "1 byte".to_owned(),
        (bytes, 0) => format!("{bytes} bytes"),
        (bytes, bits) => format!("{bytes} bytes and {bits} bits"),
    }
}
