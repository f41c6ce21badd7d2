//! The memory of jobs, of blocks and of buffers on the heap, for any memory family.
//!
//! # Safety
//! Implements the protocols' unsafe traits over vectors and pages that live as long as the last clone and never move.
#![allow(unsafe_code)]

use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use super::heap::Pages;
use crate::blocks::{self, Header, Shape, ShapeError};
use crate::board::Buffer;
use crate::bufs;
use crate::claim;
use crate::mem::{Mem, RaceCell};
use crate::ring::CapacityError;
use crate::shareable::Shareable;

struct JobsMemory<M: Mem, Q: Shareable, A: Shareable> {
    hints: claim::Hints<M>,
    slots: Vec<claim::Slot<M, Q, A>>,
    shift: u32,
}

/// A table of jobs. Clones share it.
pub struct Table<M: Mem, Q: Shareable, A: Shareable>(Arc<JobsMemory<M, Q, A>>);

impl<M: Mem, Q: Shareable, A: Shareable> Clone for Table<M, Q, A> {
    fn clone(&self) -> Self {
        Table(self.0.clone())
    }
}

impl<M: Mem, Q: Shareable, A: Shareable> fmt::Debug for Table<M, Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.0.hints).field(&self.0.slots).finish()
    }
}

// SAFETY: the words are atomics, and the cells are guarded by the protocol that the tests check.
unsafe impl<M: Mem, Q: Shareable, A: Shareable> Send for JobsMemory<M, Q, A> {}
// SAFETY: as above.
unsafe impl<M: Mem, Q: Shareable, A: Shareable> Sync for JobsMemory<M, Q, A> {}

impl<M: Mem, Q: Shareable, A: Shareable> Table<M, Q, A> {
    /// An empty table whose first position is `start`.
    ///
    /// # Errors
    /// As [`claim::shift_of`].
    pub fn new(slots: usize, start: u64, job: Q, answer: A) -> Result<Self, CapacityError> {
        let shift = claim::shift_of::<Q, A>(slots)?;
        let slots = (0..1 << shift).map(|i| claim::Slot::new(i, shift, start, job, answer)).collect();
        Ok(Table(Arc::new(JobsMemory { hints: claim::Hints::new(start), slots, shift })))
    }
}

// SAFETY: one vector element for each slot, for every clone the same; numbers are masked.
unsafe impl<M: Mem, Q: Shareable, A: Shareable> claim::Region<M, Q, A> for Table<M, Q, A> {
    fn hints(&self) -> &claim::Hints<M> {
        &self.0.hints
    }
    fn slot(&self, i: u64) -> &claim::Slot<M, Q, A> {
        &self.0.slots[(i & ((1 << self.0.shift) - 1)) as usize]
    }
    fn shift(&self) -> u32 {
        self.0.shift
    }
}

struct BlocksMemory<M: Mem> {
    headers: Vec<Header<M>>,
    guards: Vec<M::Cell<()>>,
    bytes: Pages,
    shape: Shape,
}

/// The blocks of an arena. Clones share it.
pub struct Yard<M: Mem>(Arc<BlocksMemory<M>>);

impl<M: Mem> Clone for Yard<M> {
    fn clone(&self) -> Self {
        Yard(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Yard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Yard").field(&self.0.headers).finish()
    }
}

// SAFETY: the words are atomics, and the bytes are guarded by the protocol that the tests check.
unsafe impl<M: Mem> Send for BlocksMemory<M> {}
// SAFETY: as above.
unsafe impl<M: Mem> Sync for BlocksMemory<M> {}

impl<M: Mem> Yard<M> {
    /// Free blocks, `bytes` zeros each, in `generation`.
    ///
    /// # Errors
    /// As [`Shape::of`].
    pub fn new(blocks: usize, bytes: usize, generation: u16) -> Result<Self, ShapeError> {
        Ok(Self::of(Shape::of(blocks, bytes)?, generation))
    }

    /// The same in a shape.
    pub fn of(shape: Shape, generation: u16) -> Self {
        let blocks = shape.blocks() as usize;
        Yard(Arc::new(BlocksMemory {
            headers: (0..blocks).map(|_| Header::new(generation)).collect(),
            guards: (0..blocks).map(|_| M::Cell::new(())).collect(),
            bytes: Pages::new(blocks * shape.bytes()),
            shape,
        }))
    }
}

// SAFETY: one vector element and one stretch of the pages, which begin on a page, for each block, for every clone the
// same.
unsafe impl<M: Mem> blocks::Region<M> for Yard<M> {
    fn header(&self, block: u32) -> &Header<M> {
        &self.0.headers[block as usize]
    }
    fn bytes(&self, block: u32) -> Buffer<'_, M> {
        let start = self.0.bytes.start().wrapping_add(block as usize * self.0.shape.bytes());
        Buffer { start, guard: &self.0.guards[block as usize] }
    }
    fn shape(&self) -> Shape {
        self.0.shape
    }
}

struct BufsMemory<M: Mem> {
    headers: Vec<bufs::Header<M>>,
    guards: Vec<M::Cell<()>>,
    bytes: Pages,
    shape: Shape,
}

/// The blocks of an arena whose blocks are shared. Clones share it.
pub struct Depot<M: Mem>(Arc<BufsMemory<M>>);

impl<M: Mem> Clone for Depot<M> {
    fn clone(&self) -> Self {
        Depot(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Depot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Depot").field(&self.0.headers).finish()
    }
}

// SAFETY: the words are atomics, and the bytes are guarded by the protocol that the tests check.
unsafe impl<M: Mem> Send for BufsMemory<M> {}
// SAFETY: as above.
unsafe impl<M: Mem> Sync for BufsMemory<M> {}

impl<M: Mem> Depot<M> {
    /// Free blocks, `bytes` zeros each, in `generation`.
    ///
    /// # Errors
    /// As [`Shape::of`].
    pub fn new(blocks: usize, bytes: usize, generation: u16) -> Result<Self, ShapeError> {
        let shape = Shape::of(blocks, bytes)?;
        Ok(Depot(Arc::new(BufsMemory {
            headers: (0..blocks).map(|_| bufs::Header::new(generation)).collect(),
            guards: (0..blocks).map(|_| M::Cell::new(())).collect(),
            bytes: Pages::new(blocks * shape.bytes()),
            shape,
        })))
    }
}

// SAFETY: as for the yard.
unsafe impl<M: Mem> bufs::Region<M> for Depot<M> {
    fn header(&self, block: u32) -> &bufs::Header<M> {
        &self.0.headers[block as usize]
    }
    fn bytes(&self, block: u32) -> Buffer<'_, M> {
        let start = self.0.bytes.start().wrapping_add(block as usize * self.0.shape.bytes());
        Buffer { start, guard: &self.0.guards[block as usize] }
    }
    fn shape(&self) -> Shape {
        self.0.shape
    }
}
