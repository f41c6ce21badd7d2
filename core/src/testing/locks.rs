//! The memory of a lock and of a barrier on the heap, for any memory family, with something that they guard.
//!
//! # Safety
//! Reads and writes cells whose races the families notice: loom before it lends the address, the explorer of schedules
//! at the access; the others run one thread.
#![allow(unsafe_code)]

use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use crate::barrier::Arrivals;
use crate::doorbell::Doorbell;
use crate::lock::{self, Desk, Word};
use crate::mem::{Atom, Mem, Ordering, RaceCell};
use crate::muster;

struct LatchMemory<M: Mem> {
    word: M::U64,
    bell: Doorbell<M>,
    desks: Vec<Desk<M>>,
    halves: [M::Cell<u64>; 2],
}

// SAFETY: the words are atomics, and the cells are guarded by the protocol that the tests check.
unsafe impl<M: Mem> Send for LatchMemory<M> {}
// SAFETY: as above.
unsafe impl<M: Mem> Sync for LatchMemory<M> {}

/// A lock that guards two numbers, which are the same when they are whole. Clones share it.
pub struct Latch<M: Mem>(Arc<LatchMemory<M>>);

impl<M: Mem> Clone for Latch<M> {
    fn clone(&self) -> Self {
        Latch(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Latch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Word(self.0.word.load(Ordering::Relaxed));
        f.debug_tuple("Latch").field(&word).field(&self.0.desks).finish()
    }
}

impl<M: Mem> Latch<M> {
    /// A free lock for `seats` handles.
    pub fn new(seats: usize) -> Self {
        let desks = (0..seats).map(|_| Desk::default()).collect();
        let halves = [M::Cell::new(0), M::Cell::new(0)];
        Latch(Arc::new(LatchMemory {
            word: M::U64::new(0),
            bell: Doorbell::new(u32::MAX >> 1),
            desks,
            halves,
        }))
    }

    /// One of the numbers. For who has the lock.
    pub fn read(&self, half: usize) -> u64 {
        // SAFETY: see the top.
        self.0.halves[half].with(|p| unsafe { *p })
    }

    /// Writes one of the numbers. For who has the lock.
    pub fn write(&self, half: usize, value: u64) {
        // SAFETY: see the top.
        self.0.halves[half].with_mut(|p| unsafe { *p = value });
    }
}

impl<M: Mem> lock::Region<M> for Latch<M> {
    fn word(&self) -> &M::U64 {
        &self.0.word
    }
    fn bell(&self) -> &Doorbell<M> {
        &self.0.bell
    }
    fn desk(&self, seat: u32) -> Option<&Desk<M>> {
        self.0.desks.get(seat as usize)
    }
}

struct CourtMemory<M: Mem> {
    verdict: M::U64,
    bell: Doorbell<M>,
    seats: Vec<(M::U64, M::U32)>,
    /// By seat and parity of the generation: a cell is written again two generations later, when the barrier between
    /// has shown that everybody has read it.
    said: Vec<[M::Cell<u64>; 2]>,
}

// SAFETY: the words are atomics, and the cells are guarded by the protocol that the tests check.
unsafe impl<M: Mem> Send for CourtMemory<M> {}
// SAFETY: as above.
unsafe impl<M: Mem> Sync for CourtMemory<M> {}

/// A barrier, and what its participants say before they arrive. Clones share it.
pub struct Court<M: Mem>(Arc<CourtMemory<M>>);

impl<M: Mem> Clone for Court<M> {
    fn clone(&self) -> Self {
        Court(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Court<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrivals = self.0.seats.iter().map(|(a, _)| a.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let verdict = self.0.verdict.load(Ordering::Relaxed);
        f.debug_tuple("Court").field(&format_args!("{verdict:#x}")).field(&arrivals).finish()
    }
}

impl<M: Mem> Court<M> {
    /// A barrier of `seats` participants, who have all passed `generation`.
    pub fn new(seats: usize, generation: u64) -> Self {
        Court(Arc::new(CourtMemory {
            verdict: M::U64::new(generation << 32),
            bell: Doorbell::new(u32::MAX >> 1),
            seats: (0..seats).map(|_| (M::U64::new(generation), M::U32::new(0))).collect(),
            said: (0..seats).map(|_| [M::Cell::new(0), M::Cell::new(0)]).collect(),
        }))
    }

    /// What `seat` said before it arrived at `generation`. For who has passed it.
    pub fn said(&self, seat: usize, generation: u64) -> u64 {
        // SAFETY: see the top.
        self.0.said[seat][(generation & 1) as usize].with(|p| unsafe { *p })
    }

    /// Says something before the arrival at `generation`.
    pub fn say(&self, seat: usize, generation: u64, what: u64) {
        // SAFETY: see the top.
        self.0.said[seat][(generation & 1) as usize].with_mut(|p| unsafe { *p = what });
    }
}

impl<M: Mem> Arrivals<M> for Court<M> {
    fn arrival(&self, rank: usize) -> &M::U64 {
        &self.0.seats[rank].0
    }
}

impl<M: Mem> muster::Region<M> for Court<M> {
    fn seats(&self) -> usize {
        self.0.seats.len()
    }
    fn verdict(&self) -> &M::U64 {
        &self.0.verdict
    }
    fn left(&self, seat: usize) -> &M::U32 {
        &self.0.seats[seat].1
    }
    fn bell(&self) -> &Doorbell<M> {
        &self.0.bell
    }
}
