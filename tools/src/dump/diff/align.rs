//! Which rows of two programs belong together.

use crate::dump::listing::Row;

/// A pair of rows that belong together, or a row that only one side has, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// A row of each side.
    Both(usize, usize),
    /// A row of the first side only.
    First(usize),
    /// A row of the second side only.
    Second(usize),
}

/// The most that are compared each with each: two programs of some 4,000 instructions that have nothing in common at either end.
const MOST: usize = 1 << 24;

/// How well two rows go together; 0 is not at all. The same place in the source counts most, as what is there may differ.
fn score(one: &Row, two: &Row) -> u32 {
    let is_same_text = one.text == two.text;
    match (&one.source, &two.source) {
        (Some(first), Some(second)) => {
            let is_same = (&first.file, first.line, first.column) == (&second.file, second.line, second.column);
            if is_same { 4 + u32::from(is_same_text) + u32::from(one.labels == two.labels) } else { 0 }
        }
        (None, None) => {
            let is_same_code =
                one.insn.code == two.insn.code && (one.insn.dst(), one.insn.src()) == (two.insn.dst(), two.insn.src());
            if is_same_text { 4 } else { u32::from(is_same_code) }
        }
        _ => 0,
    }
}

/// Aligns two programs so that as much as possible goes together, in order.
pub fn align(one: &[Row], two: &[Row]) -> Vec<Pair> {
    let is_full = |(one, two): &(&Row, &Row)| one.text == two.text && score(one, two) >= 4;
    let start = one.iter().zip(two).take_while(is_full).count();
    let (first, second) = (&one[start..], &two[start..]);
    let end = first.iter().rev().zip(second.iter().rev()).take_while(is_full).count();
    let (first, second) = (&first[..first.len() - end], &second[..second.len() - end]);
    let mut pairs: Vec<Pair> = (0..start).map(|index| Pair::Both(index, index)).collect();
    pairs.extend(middle(first, second).into_iter().map(|pair| match pair {
        Pair::Both(one, two) => Pair::Both(start + one, start + two),
        Pair::First(one) => Pair::First(start + one),
        Pair::Second(two) => Pair::Second(start + two),
    }));
    let (one_end, two_end) = (one.len() - end, two.len() - end);
    pairs.extend((0..end).map(|index| Pair::Both(one_end + index, two_end + index)));
    pairs
}

/// The longest common subsequence, in which better pairs count more.
fn middle(first: &[Row], second: &[Row]) -> Vec<Pair> {
    let (height, width) = (first.len(), second.len() + 1);
    if height.saturating_mul(width) > MOST {
        let removed = (0..first.len()).map(Pair::First);
        return removed.chain((0..second.len()).map(Pair::Second)).collect();
    }
    // What can be had from a pair of rows on, by their numbers.
    let mut best = vec![0_u32; (height + 1) * width];
    for one in (0..height).rev() {
        for two in (0..second.len()).rev() {
            let skipped = best[(one + 1) * width + two].max(best[one * width + two + 1]);
            let score = score(&first[one], &second[two]);
            let paired = if score == 0 { 0 } else { score + best[(one + 1) * width + two + 1] };
            best[one * width + two] = skipped.max(paired);
        }
    }
    let mut pairs = Vec::new();
    let (mut one, mut two) = (0, 0);
    while one < height && two < second.len() {
        let score = score(&first[one], &second[two]);
        let here = best[one * width + two];
        if score > 0 && here == score + best[(one + 1) * width + two + 1] {
            pairs.push(Pair::Both(one, two));
            (one, two) = (one + 1, two + 1);
        } else if here == best[(one + 1) * width + two] {
            pairs.push(Pair::First(one));
            one += 1;
        } else {
            pairs.push(Pair::Second(two));
            two += 1;
        }
    }
    pairs.extend((one..height).map(Pair::First));
    pairs.extend((two..second.len()).map(Pair::Second));
    pairs
}
