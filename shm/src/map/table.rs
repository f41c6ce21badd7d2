//! The memory of a map, in a block of this process or in the body of a segment:
//!
//! ```text
//!  0        128       256      384            512
//! +--------+---------+--------+--------------+----------------------------------------------+
//! |  bell  | commit  | count  | threads (4)  | entries, each of so many words as the shape says |
//! +--------+---------+--------+--------------+----------------------------------------------+
//! ```
//! `threads` says which names are taken among the threads of one process; between processes seats do. All of it begins
//! as zeros, which is an empty map: nothing has to be initialised by anybody who could die doing it.
//!
//! # Safety
//! Forms references to words at addresses that [`Memory::at`] has checked once: all of them lie inside the memory, on
//! their alignment, and stay mapped as long as the table lives. Every number is brought below the bounds, which are
//! private, before it is added to an address. All are atomic words, for which any bytes are valid.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::NonNull;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::map::{Region, Shape};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::error::Error;
use crate::memory::Memory;
use crate::wait::Bell;

type U64 = <Real as Mem>::U64;

const COMMIT: usize = 128;
const COUNT: usize = 256;
const THREADS_AT: usize = 384;
const FRONT: usize = 512;
/// Handles that the threads of one process can have.
pub const THREADS: usize = 64 * WORDS;
const WORDS: usize = 4;

/// The words of a map.
pub(super) struct Table {
    words: NonNull<U64>,
    commit: NonNull<U64>,
    count: NonNull<U64>,
    shape: Shape,
    memory: Memory,
}

// SAFETY: addresses of atomic words, and what keeps them mapped.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Clone for Table {
    fn clone(&self) -> Self {
        Table { memory: self.memory.clone(), ..*self }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table of {:?} at {:?}", self.shape, self.words)
    }
}

impl Table {
    /// Bytes that it needs.
    pub(super) fn bytes(shape: Shape) -> u64 {
        FRONT as u64 + shape.entries() as u64 * shape.pair_bytes() as u64
    }

    pub(super) fn new(memory: Memory, shape: Shape) -> Table {
        let words = memory.at(FRONT, shape.entries() * shape.words());
        // Checked here, used below.
        let _: (NonNull<Bell>, NonNull<U64>) = (memory.at(0, 1), memory.at(THREADS_AT, WORDS));
        Table { words, commit: memory.at(COMMIT, 1), count: memory.at(COUNT, 1), shape, memory }
    }

    /// Where those wait who find a home held.
    pub(super) fn bell(&self) -> &Doorbell<Real> {
        // SAFETY: inside the memory, as `new` has checked; an atomic word.
        unsafe { &self.memory.at::<Bell>(0, 1).as_ref().bell }
    }

    fn threads(&self, i: usize) -> &U64 {
        // SAFETY: inside the memory, as `new` has checked; an atomic word.
        unsafe { self.memory.at::<U64>(THREADS_AT, WORDS).add(i % WORDS).as_ref() }
    }

    /// A name among the threads of this process.
    pub(super) fn take_thread(&self) -> Result<u32, Error> {
        for seat in 0..THREADS {
            let bit = 1 << (seat % 64);
            // Who had the name before gave it back when he was done: pairs with the store in `give_thread`.
            if self.threads(seat / 64).fetch_or(bit, Ordering::Acquire) & bit == 0 {
                return Ok(seat as u32);
            }
        }
        Err(Error::NoSeat { seats: THREADS })
    }

    pub(super) fn give_thread(&self, seat: u32) {
        let word = self.threads(seat as usize / 64);
        // Another try only if another thread came or went meanwhile; so often that nobody is unlucky each time.
        for _ in 0..1 << 20 {
            let now = word.load(Ordering::Relaxed);
            if word.cas(now, now & !(1 << (seat % 64)), Ordering::Release).is_ok() {
                break;
            }
        }
    }
}

impl Region<Real> for Table {
    #[inline(always)]
    fn commit(&self) -> &U64 {
        // SAFETY: inside the memory, which lives as long as we do; an atomic word.
        unsafe { self.commit.as_ref() }
    }

    #[inline(always)]
    fn count(&self) -> &U64 {
        // SAFETY: as above.
        unsafe { self.count.as_ref() }
    }

    #[inline(always)]
    fn word(&self, entry: usize, i: usize) -> &U64 {
        let words = self.shape.words();
        let (entry, i) = (entry & (self.shape.entries() - 1), if i < words { i } else { 0 });
        // SAFETY: the entry is below their number, which is a power of two, and the word below theirs, so it is one of
        // those that `new` has found room for; an atomic word.
        unsafe { self.words.add(entry * words + i).as_ref() }
    }
}

static_assertions::const_assert!(size_of::<Bell>() <= COMMIT);
static_assertions::const_assert!(THREADS_AT + WORDS * 8 <= FRONT);
