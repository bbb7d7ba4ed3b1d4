//! Fingerprints of types.

use std::num::NonZeroU128;

/// What two types have in common if and, for all that matters, only if they are the same: 128 bits, so that even the hundred
/// million types of a large kernel's units meet by chance less often than memory fails.
pub(super) type Print = NonZeroU128;

/// A fingerprint in the making: two sums that each number is mixed into in another way.
#[derive(Clone, Copy)]
pub(super) struct Digest(u64, u64);

impl Digest {
    /// Of what kind of thing; equal numbers of different kinds give different prints.
    pub(super) fn of(kind: u32) -> Self {
        let mut digest = Self(0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f);
        digest.add(kind);
        digest
    }

    pub(super) fn add(&mut self, word: u32) {
        self.mix(word.into());
    }

    pub(super) fn add_print(&mut self, print: Print) {
        let [a, b] = [print.get() >> 64, print.get() & u128::from(u64::MAX)];
        self.mix(u64::try_from(a).unwrap_or_default());
        self.mix(u64::try_from(b).unwrap_or_default());
    }

    /// Multiplying by an odd number carries every bit upwards, shifting brings it down again; both can be undone, so neither
    /// sum forgets anything of one number.
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 ^= self.0 >> 32;
        self.1 = self.1.rotate_left(23).wrapping_add(word).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.1 ^= self.1 >> 29;
    }

    pub(super) fn finish(mut self) -> Print {
        self.mix(0);
        NonZeroU128::new(u128::from(self.0) << 64 | u128::from(self.1)).unwrap_or(NonZeroU128::MIN)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn order_kind_and_every_bit_count() {
        let print = |kind, words: &[u32]| {
            let mut digest = Digest::of(kind);
            words.iter().for_each(|&word| digest.add(word));
            digest.finish()
        };
        let mut seen = HashSet::new();
        for kind in 0..20 {
            for bit in 0..32 {
                for words in [vec![1 << bit], vec![0, 1 << bit], vec![1 << bit, 0], vec![1 << bit, 7, 9]] {
                    assert!(seen.insert(print(kind, &words)), "{kind} {words:?}");
                }
            }
        }
        assert_eq!(print(3, &[1, 2]), print(3, &[1, 2]));
    }
}
