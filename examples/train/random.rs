//! A small generator of pseudo-random numbers, so that every rank draws the same ones from the same seed on every
//! machine, whatever crate versions are in use.

/// SplitMix64: a Weyl sequence, each value scrambled by two multiplications.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `-1.0..1.0`. 24 bits, so every step on the way is exact in f32.
    pub(crate) fn signed_unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// Uniform in `0..bound` (to within 2⁻³² for the small bounds used here).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Fisher–Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_every_item_once_and_repeats_itself() {
        let mut once: Vec<u32> = (0..1000).collect();
        let mut again = once.clone();
        Random::new(7).shuffle(&mut once);
        Random::new(7).shuffle(&mut again);
        assert_eq!(once, again);
        assert_ne!(once, (0..1000).collect::<Vec<_>>());
        once.sort_unstable();
        assert_eq!(once, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn signed_units_stay_in_range_and_use_both_halves() {
        let mut random = Random::new(1);
        let drawn: Vec<f32> = (0..10_000).map(|_| random.signed_unit()).collect();
        assert!(drawn.iter().all(|x| (-1.0..1.0).contains(x)));
        let mean = drawn.iter().sum::<f32>() / drawn.len() as f32;
        assert!(mean.abs() < 0.05, "mean {mean}");
    }
}
