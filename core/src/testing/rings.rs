//! The rings' memory on the heap, for any memory family.
//!
//! # Safety
//! Implements the rings' unsafe traits over vectors that live as long as the last clone and never move. Bytes of a pipe
//! are cells of their own, so that a family sees each access to them.
#![allow(unsafe_code)]

use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use crate::mem::{Atom, Mem, RaceCell};
use crate::ring::{CapacityError, latest, local, mpmc, spsc, stream};
use crate::shareable::Shareable;

macro_rules! shared {
    ($name:ident, $inner:ident, [$($p:ident : $b:path),*]) => {
        impl<$($p: $b),*> Clone for $name<$($p),*> {
            fn clone(&self) -> Self {
                $name(self.0.clone())
            }
        }
        impl<$($p: $b),*> fmt::Debug for $name<$($p),*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
        // SAFETY: the words are atomics, and the cells are guarded by the protocol that the tests check.
        unsafe impl<$($p: $b),*> Send for $inner<$($p),*> {}
        // SAFETY: as above.
        unsafe impl<$($p: $b),*> Sync for $inner<$($p),*> {}
    };
}

struct SpscMemory<M: Mem, T: Shareable> {
    ends: spsc::Ends<M>,
    counts: Vec<M::U64>,
    cells: Vec<M::Cell<T>>,
    shape: spsc::Shape,
}

/// A ring for one producer and one consumer. Clones share it.
pub struct Spsc<M: Mem, T: Shareable>(Arc<SpscMemory<M, T>>);
shared!(Spsc, SpscMemory, [M: Mem, T: Shareable]);

impl<M: Mem, T: Shareable> Spsc<M, T> {
    /// An empty ring whose first line is `line` (modulo 2^61).
    ///
    /// # Errors
    /// As [`spsc::Shape::of`].
    pub fn new(capacity: usize, line: u64, value: T) -> Result<Self, CapacityError> {
        let shape = spsc::Shape::of::<T>(capacity)?;
        Ok(Spsc(Arc::new(SpscMemory {
            ends: spsc::Ends::new(line),
            counts: (0..shape.lines).map(|_| M::U64::new(0)).collect(),
            cells: (0..shape.lines * shape.per_line).map(|_| M::Cell::new(value)).collect(),
            shape,
        })))
    }
}

// SAFETY: one vector element for each line and place, for every clone the same; lines are masked.
unsafe impl<M: Mem, T: Shareable> spsc::Region<M, T> for Spsc<M, T> {
    fn ends(&self) -> &spsc::Ends<M> {
        &self.0.ends
    }
    fn count(&self, line: u64) -> &M::U64 {
        &self.0.counts[line as usize & (self.0.shape.lines - 1)]
    }
    fn cell(&self, line: u64, i: usize) -> &M::Cell<T> {
        assert!(i < self.0.shape.per_line, "a place of the line");
        &self.0.cells[(line as usize & (self.0.shape.lines - 1)) * self.0.shape.per_line + i]
    }
    fn shape(&self) -> &spsc::Shape {
        &self.0.shape
    }
}

struct MpmcMemory<M: Mem, T: Shareable> {
    hints: mpmc::Hints<M>,
    slots: Vec<mpmc::Slot<M, T>>,
    shift: u32,
}

/// A ring for many producers and many consumers. Clones share it.
pub struct Mpmc<M: Mem, T: Shareable>(Arc<MpmcMemory<M, T>>);
shared!(Mpmc, MpmcMemory, [M: Mem, T: Shareable]);

impl<M: Mem, T: Shareable> Mpmc<M, T> {
    /// An empty ring whose first position is `start`.
    ///
    /// # Errors
    /// As [`mpmc::shift_of`].
    pub fn new(capacity: usize, start: u64, value: T) -> Result<Self, CapacityError> {
        let shift = mpmc::shift_of::<T>(capacity)?;
        let slots = (0..1 << shift).map(|i| mpmc::Slot::new(i, shift, start, value)).collect();
        Ok(Mpmc(Arc::new(MpmcMemory { hints: mpmc::Hints::new(start), slots, shift })))
    }
}

// SAFETY: one vector element for each slot, for every clone the same; numbers are masked.
unsafe impl<M: Mem, T: Shareable> mpmc::Region<M, T> for Mpmc<M, T> {
    fn hints(&self) -> &mpmc::Hints<M> {
        &self.0.hints
    }
    fn slot(&self, i: u64) -> &mpmc::Slot<M, T> {
        &self.0.slots[(i & ((1 << self.0.shift) - 1)) as usize]
    }
    fn shift(&self) -> u32 {
        self.0.shift
    }
}

/// The memory of a queue between threads.
pub struct Local<M: Mem, T: Copy> {
    ends: local::Ends<M>,
    words: Vec<M::U64>,
    cells: Vec<M::Cell<T>>,
    shift: u32,
}

// SAFETY: the words are atomics, and the cells are guarded by the protocol that the tests check.
unsafe impl<M: Mem, T: Copy + Send> Send for Local<M, T> {}
// SAFETY: as above.
unsafe impl<M: Mem, T: Copy + Send> Sync for Local<M, T> {}

impl<M: Mem, T: Copy> fmt::Debug for Local<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("shift", &self.shift).finish_non_exhaustive()
    }
}

impl<M: Mem, T: Copy> Local<M, T> {
    /// An empty queue whose first position is `start` (modulo 2^62), and whose places hold `value`.
    ///
    /// # Errors
    /// As [`local::shift_of`].
    pub fn queue(capacity: usize, start: u64, value: T) -> Result<local::Queue<M, T, Self>, CapacityError> {
        let shift = local::shift_of(capacity, 8 + size_of::<T>())?;
        let memory = Local {
            ends: local::Ends::new(start),
            words: (0..1 << shift).map(|i| M::U64::new(local::empty(i, shift, start))).collect(),
            cells: (0..1 << shift).map(|_| M::Cell::new(value)).collect(),
            shift,
        };
        // SAFETY: an empty ring from `start` on, which nobody else has.
        Ok(unsafe { local::Queue::new(memory) })
    }
}

// SAFETY: one vector element for each slot's word and place; numbers are masked.
unsafe impl<M: Mem, T: Copy> local::Region<M, T> for Local<M, T> {
    fn ends(&self) -> &local::Ends<M> {
        &self.ends
    }
    fn word(&self, i: u64) -> &M::U64 {
        &self.words[(i & ((1 << self.shift) - 1)) as usize]
    }
    unsafe fn put(&self, i: u64, value: T) {
        // SAFETY: the caller promises that nobody else touches the place.
        self.cells[(i & ((1 << self.shift) - 1)) as usize].with_mut(|p| unsafe { p.write(value) });
    }
    unsafe fn take(&self, i: u64) -> T {
        // SAFETY: the caller promises that nobody writes the place.
        self.cells[(i & ((1 << self.shift) - 1)) as usize].with(|p| unsafe { p.read() })
    }
    fn shift(&self) -> u32 {
        self.shift
    }
}

struct LatestMemory<M: Mem> {
    newest: M::U64,
    words: Vec<M::U64>,
}

/// The newest value. Clones share it.
pub struct Latest<M: Mem>(Arc<LatestMemory<M>>);
shared!(Latest, LatestMemory, [M: Mem]);

impl<M: Mem> Latest<M> {
    /// Memory for values of type `T`: value `newest` is zeros.
    pub fn new<T: Shareable>(newest: u64) -> Self {
        let words = (0..latest::CELLS * latest::words::<T>()).map(|_| M::U64::new(0)).collect();
        Latest(Arc::new(LatestMemory { newest: M::U64::new(newest), words }))
    }
}

// SAFETY: one vector element for each word of each cell, for every clone the same.
unsafe impl<M: Mem, T: Shareable> latest::Region<M, T> for Latest<M> {
    fn newest(&self) -> &M::U64 {
        &self.0.newest
    }
    fn word(&self, cell: usize, i: usize) -> &M::U64 {
        assert!(i < latest::words::<T>(), "a word of the cell");
        &self.0.words[cell * latest::words::<T>() + i]
    }
}

struct StreamMemory<M: Mem> {
    ends: stream::Ends<M>,
    bytes: Vec<M::Cell<u8>>,
}

/// A pipe of bytes. Clones share it.
pub struct Stream<M: Mem>(Arc<StreamMemory<M>>);
shared!(Stream, StreamMemory, [M: Mem]);

impl<M: Mem> Stream<M> {
    /// An empty pipe whose first byte is `start`.
    ///
    /// # Errors
    /// As [`stream::capacity`].
    pub fn new(capacity: usize, start: u64) -> Result<Self, CapacityError> {
        let bytes = (0..stream::capacity(capacity)?).map(|_| M::Cell::new(0)).collect();
        Ok(Stream(Arc::new(StreamMemory { ends: stream::Ends::new(start), bytes })))
    }

    fn cell(&self, at: u64) -> &M::Cell<u8> {
        &self.0.bytes[at as usize & (self.0.bytes.len() - 1)]
    }
}

// SAFETY: one cell for each byte, for every clone the same; positions are masked.
unsafe impl<M: Mem> stream::Region<M> for Stream<M> {
    fn ends(&self) -> &stream::Ends<M> {
        &self.0.ends
    }
    fn capacity(&self) -> usize {
        self.0.bytes.len()
    }
    unsafe fn put(&self, at: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: the caller promises that nobody else touches these bytes.
            self.cell(at.wrapping_add(i as u64)).with_mut(|p| unsafe { p.write(*byte) });
        }
    }
    unsafe fn get(&self, at: u64, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            // SAFETY: the caller promises that nobody writes these bytes.
            *byte = self.cell(at.wrapping_add(i as u64)).with(|p| unsafe { p.read() });
        }
    }
}
