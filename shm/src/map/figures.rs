//! What a map was made for, in the 64 bits of its segment's fingerprint: whoever opens it with other figures is told
//! both sides' figures, from the header alone.
//!
//! ```text
//!  63     60 59            33 32                    21 20                0
//! +---------+----------------+------------------------+-------------------+
//! | version | capacity (27)  | bytes of a key (12)    | of a value (21)   |
//! +---------+----------------+------------------------+-------------------+
//! ```

use std::fmt;

/// Raised with every change of what lies in a map's memory.
const VERSION: u8 = 1;
const VERSIONS: u32 = 60;
const CAPACITY: u32 = 33;
const KEY: u32 = 21;
const MOST: u64 = (1 << (VERSIONS - CAPACITY)) - 1;

/// What a map was made for. The alignment of keys and values does not matter, because they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Pairs that fit.
    pub capacity: u64,
    /// Bytes of a key.
    pub key: u64,
    /// Bytes of a value.
    pub value: u64,
    /// Version of the layout.
    pub version: u8,
}

/// The longest key of a map between processes, in bytes.
pub const MOST_KEY: usize = (1 << (CAPACITY - KEY)) - 1;

impl Figures {
    /// A map of `capacity` pairs, as checked before.
    pub(crate) const fn of<K, V>(capacity: usize) -> Figures {
        const { assert!(size_of::<K>() <= MOST_KEY, "keys of less than 4 KiB") };
        const { assert!(size_of::<V>() <= sapwood_core::map::MOST_BYTES, "values of 1 MiB at most") };
        let (key, value) = (size_of::<K>() as u64, size_of::<V>() as u64);
        Figures { capacity: capacity as u64, key, value, version: VERSION }
    }

    pub(crate) const fn fingerprint(&self) -> u64 {
        (self.version as u64) << VERSIONS | self.capacity << CAPACITY | self.key << KEY | self.value
    }

    /// From the header of a segment that may say anything.
    pub(crate) const fn from_fingerprint(bits: u64) -> Figures {
        Figures {
            capacity: bits >> CAPACITY & MOST,
            key: bits >> KEY & MOST_KEY as u64,
            value: bits & ((1 << KEY) - 1),
            version: (bits >> VERSIONS) as u8,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { capacity, key, value, version } = self;
        write!(f, "{capacity} pairs with keys of {key} bytes and values of {value}")?;
        if *version == VERSION { Ok(()) } else { write!(f, ", in layout version {version}") }
    }
}

static_assertions::const_assert!(sapwood_core::map::MOST as u64 <= MOST);
static_assertions::const_assert!(sapwood_core::map::MOST_BYTES < 1 << KEY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_gives_the_figures_back() {
        let all = [
            Figures::of::<u64, ()>(1),
            Figures::of::<[u8; MOST_KEY], [u8; sapwood_core::map::MOST_BYTES]>(sapwood_core::map::MOST),
        ];
        for figures in all {
            assert_eq!(Figures::from_fingerprint(figures.fingerprint()), figures);
        }
        let said = Figures::of::<u64, [u8; 3]>(100).to_string();
        assert_eq!(said, "100 pairs with keys of 8 bytes and values of 3");
        let wild = Figures::from_fingerprint(u64::MAX);
        assert!(wild.to_string().ends_with("in layout version 15"), "{wild}");
    }
}
