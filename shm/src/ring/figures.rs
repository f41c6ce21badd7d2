//! What a ring was made for, in the 64 bits of its segment's fingerprint: whoever opens it with other figures is told
//! both sides' figures, from the header alone.
//!
//! ```text
//!    63    62     59 58           56 55                    41 40      35 34     32 31              0
//! +-------+---------+---------------+------------------------+----------+---------+------------------+
//! | again | version | log2 of align | bytes of an answer + 1 | log2 of  | log2 of | bytes of a value |
//! |       |         | of an answer  | (0: there is none)     | capacity |  align  |                  |
//! +-------+---------+---------------+------------------------+----------+---------+------------------+
//! ```
//! Where there is an answer, the four highest bits of the bytes of a value say how many workers may die of a job.
//! *Again*: frames of dead readers are delivered again.
//!
//! A figure that its bits can't hold has no fingerprint: types are refused while they are compiled, lengths by the
//! ring's `spec`. So two rings whose memory lies differently never have one fingerprint.

use std::fmt;

use sapwood_core::claim::Attempts;

/// Raised with every change of what lies in a ring's memory; below 16.
const VERSION: u8 = 3;

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
    /// Alignment of an answer; 1 where there is none.
    pub answer_align: u64,
    /// How many workers may die of a job; 0 where values are none.
    pub attempts: u32,
    /// Whether frames that a dead reader had received are delivered again.
    pub redelivers: bool,
    /// Version of the layout.
    pub version: u8,
}

/// Where a figure lies in the word: its first bit, and how many.
type Bits = (u32, u32);
const SIZE: Bits = (0, 32);
/// Of a job.
const JOB: Bits = (0, 28);
const ATTEMPTS: Bits = (28, 4);
const ALIGN: Bits = (32, 3);
const CAPACITY: Bits = (35, 6);
const ANSWER: Bits = (41, 15);
const ANSWER_ALIGN: Bits = (56, 3);
const VERSIONS: Bits = (59, 4);
const AGAIN: Bits = (63, 1);

const fn most((_, bits): Bits) -> u64 {
    (1 << bits) - 1
}

const fn put(figure: u64, at: Bits) -> u64 {
    assert!(figure <= most(at), "a figure spills into its neighbour");
    figure << at.0
}

const fn get(word: u64, at: Bits) -> u64 {
    word >> at.0 & most(at)
}

impl Figures {
    /// The most bytes that a value can have.
    pub(crate) const MOST_BYTES: usize = most(SIZE) as usize;

    /// A ring of `capacity` values of type `T`, a power of two as checked before.
    pub(crate) const fn of<T>(capacity: usize) -> Figures {
        const { assert!(size_of::<T>() <= Self::MOST_BYTES, "values of less than 4 GiB") };
        const { assert!(align_of::<T>() <= 1 << most(ALIGN), "values that are aligned to 128 bytes at most") };
        Figures {
            capacity: capacity as u64,
            size: size_of::<T>() as u64,
            align: align_of::<T>() as u64,
            answer: None,
            answer_align: 1,
            attempts: 0,
            redelivers: false,
            version: VERSION,
        }
    }

    /// A table of `capacity` jobs of type `Q` with answers of type `A`.
    pub(crate) const fn of_jobs<Q, A>(capacity: usize, attempts: Attempts) -> Figures {
        const { assert!((size_of::<Q>() as u64) <= most(JOB), "jobs of less than 256 MiB") };
        const { assert!((size_of::<A>() as u64) < most(ANSWER), "answers of less than 32 KiB") };
        const {
            assert!(
                align_of::<A>() <= 1 << most(ANSWER_ALIGN),
                "answers that are aligned to 128 bytes at most"
            )
        };
        let (answer, align) = (Some(size_of::<A>() as u64), align_of::<A>() as u64);
        Figures { answer, answer_align: align, attempts: attempts.get(), ..Figures::of::<Q>(capacity) }
    }

    pub(crate) const fn fingerprint(&self) -> u64 {
        let (answer, size) = match self.answer {
            Some(bytes) => (bytes + 1, put(self.size, JOB) | put(self.attempts as u64, ATTEMPTS)),
            None => (0, put(self.size, SIZE)),
        };
        put(self.redelivers as u64, AGAIN)
            | put(self.version as u64, VERSIONS)
            | put(self.answer_align.trailing_zeros() as u64, ANSWER_ALIGN)
            | put(answer, ANSWER)
            | put(self.capacity.trailing_zeros() as u64, CAPACITY)
            | put(self.align.trailing_zeros() as u64, ALIGN)
            | size
    }

    /// From the header of a segment that may say anything.
    pub(crate) const fn from_fingerprint(bits: u64) -> Figures {
        let answer = get(bits, ANSWER).checked_sub(1);
        let (size, attempts) = match answer {
            Some(_) => (get(bits, JOB), get(bits, ATTEMPTS) as u32),
            None => (get(bits, SIZE), 0),
        };
        Figures {
            capacity: 1 << get(bits, CAPACITY),
            size,
            align: 1 << get(bits, ALIGN),
            answer,
            attempts,
            answer_align: 1 << get(bits, ANSWER_ALIGN),
            redelivers: get(bits, AGAIN) == 1,
            version: get(bits, VERSIONS) as u8,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { capacity, size, align, answer, answer_align, attempts, redelivers, version } = self;
        write!(f, "{capacity} values of {size} bytes, aligned to {align}")?;
        if let Some(bytes) = answer {
            write!(f, ", with answers of {bytes} bytes, aligned to {answer_align}, and {attempts} attempts")?;
        }
        if *redelivers {
            f.write_str(", delivered again if a reader dies")?;
        }
        if *version == VERSION { Ok(()) } else { write!(f, ", in layout version {version}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fingerprint_gives_the_figures_back() {
        #[repr(align(64))]
        #[derive(Debug)]
        struct Wide(#[allow(dead_code)] [u8; 128]);
        let few = |attempts| Attempts::of(attempts).expect("few");
        let jobs = [Figures::of_jobs::<u64, ()>(8, few(1)), Figures::of_jobs::<u8, [u8; 32_000]>(8, few(15))];
        let values = [Figures::of::<u64>(1), Figures::of::<()>(1 << 30), Figures::of::<Wide>(1 << 20)];
        for figures in values.into_iter().chain(jobs) {
            assert_eq!(Figures::from_fingerprint(figures.fingerprint()), figures);
        }
        assert_ne!(Figures::of::<u64>(8).fingerprint(), Figures::of::<[u32; 2]>(8).fingerprint());
        assert_eq!(Figures::of::<u64>(8).to_string(), "8 values of 8 bytes, aligned to 8");
        let wild = Figures::from_fingerprint(u64::MAX);
        assert!(wild.to_string().ends_with("in layout version 15"), "{wild}");
    }

    #[test]
    fn jobs_and_answers_have_alignments_of_their_own() {
        // A job of 16 bytes begins behind its ticket, on its alignment: the two tables lie differently.
        let few = Attempts::of(3).expect("few");
        let one = Figures::of_jobs::<u128, [u64; 2]>(8, few);
        let other = Figures::of_jobs::<[u64; 2], u128>(8, few);
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert!(one.to_string().ends_with("with answers of 16 bytes, aligned to 8, and 3 attempts"), "{one}");
    }

    fn any_figures() -> impl Strategy<Value = Figures> {
        let sizes = |bits| prop_oneof![Just(most(bits)), 0..=most(bits)];
        let values = sizes(SIZE).prop_map(|size| (size, None, 0));
        let jobs = (sizes(JOB), (0..most(ANSWER)).prop_map(Some), 0..=most(ATTEMPTS) as u32);
        let logs = (0..=most(CAPACITY), 0..=most(ALIGN), 0..=most(ANSWER_ALIGN), 0..=most(VERSIONS));
        (prop_oneof![values, jobs], logs, any::<bool>()).prop_map(|(what, logs, redelivers)| {
            let (capacity, align, answer_align, version) = logs;
            Figures {
                capacity: 1 << capacity,
                size: what.0,
                align: 1 << align,
                answer: what.1,
                answer_align: 1 << answer_align,
                attempts: what.2,
                redelivers,
                version: version as u8,
            }
        })
    }

    proptest! {
        /// Whatever a fingerprint gives back whole, nothing else has.
        #[test]
        fn no_two_figures_have_one_fingerprint(figures in any_figures(), word: u64) {
            prop_assert_eq!(Figures::from_fingerprint(figures.fingerprint()), figures);
            prop_assert_eq!(Figures::from_fingerprint(word).fingerprint(), word);
        }
    }

    #[test]
    fn what_spills_has_no_fingerprint() {
        let long = Figures { size: most(SIZE) + 1, ..Figures::of::<u8>(1) };
        let wide = Figures { align: 256, ..Figures::of::<u8>(1) };
        let job = Figures::of_jobs::<u8, ()>(1, Attempts::of(15).expect("few"));
        let [large, many] = [Figures { size: most(JOB) + 1, ..job }, Figures { attempts: 16, ..job }];
        for spilling in [long, wide, large, many] {
            assert!(std::panic::catch_unwind(|| spilling.fingerprint()).is_err(), "{spilling}");
        }
    }
}
