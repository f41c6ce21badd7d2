//! What a ring was made for, in the 64 bits of its segment's fingerprint: whoever opens it with other figures is told
//! both sides' figures, from the header alone.
//!
//! ```text
//!  63       56 55                      41 40              35 34            32 31                 0
//! +-----------+--------------------------+------------------+----------------+--------------------+
//! |  version  |  bytes of an answer + 1  | log2 of capacity | log2 of align  |  bytes of a value  |
//! +-----------+--------------------------+------------------+----------------+--------------------+
//! ```

use std::fmt;

/// Raised with every change of what lies in a ring's memory.
const VERSION: u8 = 1;

/// What a ring was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Values that fit; bytes, in a stream.
    pub capacity: u64,
    /// Bytes of a value.
    pub size: u64,
    /// Alignment of a value.
    pub align: u64,
    /// Bytes of an answer, where values are jobs.
    pub answer: Option<u64>,
    /// Version of the layout.
    pub version: u8,
}

const CAPACITY: u32 = 35;
const ALIGN: u32 = 32;
const ANSWER: u32 = 41;
const VERSIONS: u32 = 56;

impl Figures {
    /// A ring of `capacity` values of type `T`, a power of two as checked before.
    pub(crate) const fn of<T>(capacity: usize) -> Figures {
        const { assert!(size_of::<T>() as u64 <= u32::MAX as u64, "values of less than 4 GiB") };
        Figures {
            capacity: capacity as u64,
            size: size_of::<T>() as u64,
            align: align_of::<T>() as u64,
            answer: None,
            version: VERSION,
        }
    }

    /// A table of `capacity` jobs of type `Q` with answers of type `A`.
    pub(crate) const fn of_jobs<Q, A>(capacity: usize) -> Figures {
        const { assert!(size_of::<A>() < (1 << (VERSIONS - ANSWER)) - 1, "answers of less than 32 KiB") };
        // An answer's place follows from its alignment, for which the fingerprint has no bits: it is told by the job's.
        let align = if align_of::<A>() > align_of::<Q>() { align_of::<A>() } else { align_of::<Q>() };
        Figures { answer: Some(size_of::<A>() as u64), align: align as u64, ..Figures::of::<Q>(capacity) }
    }

    pub(crate) const fn fingerprint(&self) -> u64 {
        let answer = match self.answer {
            Some(bytes) => bytes + 1,
            None => 0,
        };
        (self.version as u64) << VERSIONS
            | answer << ANSWER
            | (self.capacity.trailing_zeros() as u64) << CAPACITY
            | (self.align.trailing_zeros() as u64) << ALIGN
            | self.size
    }

    /// From the header of a segment that may say anything.
    pub(crate) const fn from_fingerprint(bits: u64) -> Figures {
        Figures {
            capacity: 1 << (bits >> CAPACITY & 0x3f),
            size: bits & u32::MAX as u64,
            align: 1 << (bits >> ALIGN & 7),
            answer: (bits >> ANSWER & ((1 << (VERSIONS - ANSWER)) - 1)).checked_sub(1),
            version: (bits >> VERSIONS) as u8,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { capacity, size, align, answer, version } = self;
        write!(f, "{capacity} values of {size} bytes, aligned to {align}")?;
        if let Some(bytes) = answer {
            write!(f, ", with answers of {bytes} bytes")?;
        }
        if *version == VERSION { Ok(()) } else { write!(f, ", in layout version {version}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_gives_the_figures_back() {
        #[repr(align(64))]
        #[derive(Debug)]
        struct Wide(#[allow(dead_code)] [u8; 128]);
        let jobs = [Figures::of_jobs::<u64, ()>(8), Figures::of_jobs::<u8, [u8; 32_000]>(8)];
        let values = [Figures::of::<u64>(1), Figures::of::<()>(1 << 30), Figures::of::<Wide>(1 << 20)];
        for figures in values.into_iter().chain(jobs) {
            assert_eq!(Figures::from_fingerprint(figures.fingerprint()), figures);
        }
        assert_ne!(Figures::of::<u64>(8).fingerprint(), Figures::of::<[u32; 2]>(8).fingerprint());
        assert_eq!(Figures::of::<u64>(8).to_string(), "8 values of 8 bytes, aligned to 8");
        let wild = Figures::from_fingerprint(u64::MAX);
        assert!(wild.to_string().ends_with("in layout version 255"), "{wild}");
    }
}
