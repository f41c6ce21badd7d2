//! A fuzzer's bytes as decisions, and bytes for whoever has no fuzzer.

use arbitrary::Unstructured;

/// Bytes as decisions. They are taken from the front only, and zeros follow the last one: a seed can be written by
/// hand, and one byte changed by the fuzzer changes one decision.
#[derive(Debug)]
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Input(Unstructured::new(data))
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        debug_assert!(n > 0 && n <= 1 << 16, "a choice of {n}");
        if n <= 256 { usize::from(self.u8()) % n } else { usize::from(self.u16()) % n }
    }

    /// One of these.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// The next bytes: `n`, or what is left.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let n = n.min(self.0.len());
        self.0.bytes(n).unwrap_or(&[])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.u64() % n as u64) as usize
    }

    /// `n` bytes. Half of the calls prefer small numbers, as decisions do.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mask = if self.below(2) == 0 { 0xff } else { 0x0f };
        (0..n).map(|_| self.u64() as u8 & mask).collect()
    }
}

/// Calls `check` with `count` inputs, the same every time: random bytes, and seeds with a few bytes or bits changed,
/// left out, put in or taken from another seed. Ten times as many where the environment asks for the long form
/// (`SAPWOOD_FULL`).
pub fn cases(count: usize, seeds: &[Vec<u8>], check: impl Fn(&[u8])) {
    let count = if std::env::var_os("SAPWOOD_FULL").is_some() { 10 * count } else { count };
    let mut random = Random::new(0x5eed);
    for i in 0..count {
        let data = if i % 4 == 0 || seeds.is_empty() {
            let n = random.below(256);
            random.bytes(n)
        } else {
            mutant(seeds, &mut random)
        };
        check(&data);
    }
}

fn mutant(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.u64() as u8),
            2 => {
                let other = &seeds[random.below(seeds.len())];
                data.splice(at.., other.iter().skip(at).copied());
            }
            kind if at < data.len() => match kind {
                3 => data[at] ^= 1 << random.below(8),
                4 => data[at] = random.u64() as u8,
                _ => drop(data.remove(at)),
            },
            _ => {}
        }
    }
    data
}
