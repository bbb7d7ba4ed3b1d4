//! Lines of the verifier's log.

use std::ops::Range;

/// More than any program has.
const MOST_SLOTS: usize = 1 << 24;

/// `12: rest`, or `12:`
pub(super) fn numbered(line: &str) -> Option<(usize, &str)> {
    let (slot, rest) = line.split_once(':')?;
    if !slot.starts_with(|c: char| c.is_ascii_digit()) || !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    Some((slot.parse().ok().filter(|&slot| slot < MOST_SLOTS)?, rest.trim()))
}

/// `12: (07) r1 += 1`
pub(super) fn instruction(line: &str) -> Option<(usize, &str)> {
    numbered(line).filter(|(_, rest)| {
        let code = rest.strip_prefix('(').and_then(|rest| rest.get(..3)).and_then(|rest| rest.strip_suffix(')'));
        code.is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// A conditional jump, and what was printed right behind it, as happens where the rest of the log was dropped (Linux 6.1 to 7.3).
pub(super) fn unglue(insn: &str) -> (&str, Option<&str>) {
    let Some((_, distance)) = jump(insn) else { return (insn, None) };
    let end = distance.find(' ').map(|end| insn.len() - distance.len() + end);
    end.map_or((insn, None), |end| (&insn[..end], Some(insn[end..].trim_start())))
}

/// Where a conditional jump leads: `(55) if r0 != 0x5 goto pc-2`.
pub(super) fn target(slot: usize, insn: &str) -> Option<usize> {
    let (_, distance) = jump(insn)?;
    (slot + 1).checked_add_signed(distance.parse().ok()?)
}

/// The registers that an instruction writes, as it is printed: `(07) r1 += 1`, `(bc) w4 = w3`, `(85) call bpf_ktime_get_ns#5`.
pub(super) fn written(insn: &str) -> Option<Range<u8>> {
    let text = insn.get(5..)?;
    if text.starts_with("call ") || text.contains("skb[") {
        return Some(0..6);
    }
    let (number, _) = text.strip_prefix(['r', 'w'])?.split_once(' ')?;
    let number = number.parse().ok().filter(|&number| number < 10)?;
    Some(number..number + 1)
}

/// A conditional jump: its condition, and its distance with what stands behind it.
fn jump(insn: &str) -> Option<(&str, &str)> {
    let (condition, distance) = insn.split_once("goto pc")?;
    let is_conditional = condition.get(5..).is_some_and(|text| text.starts_with("if ") || text == "may_");
    is_conditional.then_some((condition, distance))
}
