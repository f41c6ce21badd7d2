//! A barrier of single-writer words: it cannot be left half counted.
//!
//! Each participant owns one word on a line of its own: the generation that it has arrived at. To pass, it raises its
//! own word and then sees everyone else's reach the same generation. There is no shared count, so a participant that
//! dies leaves either its old generation (the others never pass, and learn why from its seat) or the new one (it has
//! arrived). Steps: one store and n − 1 line transfers; nothing is ever reset.
//!
//! | word of q, seen by one that waits at generation g | meaning                                            |
//! |---------------------------------------------------|----------------------------------------------------|
//! | g − 1                                             | not here yet                                       |
//! | g                                                 | here                                               |
//! | g + 1                                             | here, passed already, and waiting at the next one  |
//!
//! More than one ahead cannot be: q passes g + 1 only after we have arrived there. Generations wrap.
//!
//! A death before the store is a participant that never arrives; after it, one that did. A survivor that learns of the
//! death looks once more: the death is later than every store of the dead, so that look is final.

use core::marker::PhantomData;

use crate::mem::{Atom, Mem, Ordering, Site};

/// Lends the participants' words.
pub trait Arrivals<M: Mem> {
    /// The word of participant `rank`, alone on its cache line.
    fn arrival(&self, rank: usize) -> &M::U64;
}

/// One participant's private side.
#[derive(Debug)]
pub struct Barrier<M: Mem> {
    generation: u64,
    _family: PhantomData<M>,
}

impl<M: Mem> Barrier<M> {
    /// Starts at `generation`, which all words must hold (0 in fresh memory; tests start near the wrap).
    pub fn new(generation: u64) -> Self {
        Barrier { generation, _family: PhantomData }
    }

    /// Arrives at the next generation. All writes before it are visible to whoever sees the arrival.
    #[inline]
    pub fn arrive(&mut self, all: &impl Arrivals<M>, me: usize) {
        self.generation = self.generation.wrapping_add(1);
        // Pairs with the load in `arrived`.
        all.arrival(me).store(self.generation, M::at(Site::BarrierArrive, Ordering::Release));
    }

    /// Whether `rank` has arrived where we have.
    #[inline]
    pub fn arrived(&self, all: &impl Arrivals<M>, rank: usize) -> bool {
        Self::reached(all, rank, self.generation)
    }

    /// The generation at which this participant arrives next.
    pub(crate) fn coming(&self) -> u64 {
        self.generation.wrapping_add(1)
    }

    /// Whether `rank` has arrived at `generation`.
    #[inline]
    pub(crate) fn reached(all: &impl Arrivals<M>, rank: usize, generation: u64) -> bool {
        let there = all.arrival(rank).load(M::at(Site::BarrierLook, Ordering::Acquire));
        there.wrapping_sub(generation).cast_signed() >= 0
    }
}
