//! Fingerprints of states: 128 bits, in one pass. Two states of ten million share one by chance in 10^24 explorations.

use core::hash::{Hash, Hasher};

/// Two chains of folded multiplications.
#[derive(Clone, Copy)]
struct Digest {
    a: u64,
    b: u64,
}

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

fn fold(x: u64, by: u64) -> u64 {
    let product = u128::from(x) * u128::from(by);
    product as u64 ^ (product >> 64) as u64
}

impl Digest {
    fn add(&mut self, word: u64) {
        self.a = fold(self.a ^ word, A).wrapping_add(B);
        self.b = fold(self.b.rotate_left(29).wrapping_add(word), B) ^ self.a.rotate_left(17);
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_ne_bytes(word));
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.add(v.into());
    }
    fn write_u16(&mut self, v: u16) {
        self.add(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.add(v);
    }
    fn write_isize(&mut self, v: isize) {
        self.add(v as u64);
    }
    fn write_usize(&mut self, v: usize) {
        self.add(v as u64);
    }
    fn finish(&self) -> u64 {
        fold(self.a, B)
    }
}

/// The fingerprint of a state.
pub(super) fn of(state: &impl Hash) -> u128 {
    let mut digest = Digest { a: A, b: B };
    state.hash(&mut digest);
    u128::from(fold(digest.a, B)) << 64 | u128::from(fold(digest.b, A))
}

/// Takes the low half of a fingerprint as it is.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are fingerprints");
    }
    fn write_u128(&mut self, v: u128) {
        self.0 = v as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::of;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn near_states_differ() {
        let states =
            (0..1000u64).flat_map(|i| [(i, 0u8, Vec::new()), (0, 0, std::vec![i]), (0, 1, std::vec![i, 0])]);
        let digests: Vec<u128> = states.map(|s| of(&s)).collect();
        let halves =
            |shift: u32| digests.iter().map(move |d| (d >> shift) as u64).collect::<BTreeSet<_>>().len();
        assert_eq!((halves(0), halves(64)), (3000, 3000));
    }
}
