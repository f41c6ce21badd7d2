//! A pool's memory: a header of 192 bytes for each buffer, then the buffers' bytes. All of it begins as zeros, which is
//! a pool whose buffers are all free.
//!
//! # Safety
//! Implements the protocol's unsafe trait. Addresses are found once, by [`Memory::at`], which checks that all headers
//! and bytes lie inside; numbers are below the shape's `blocks`, from private memory. The memory is mapped as long as
//! the region lives, and words are atomics, for which any bytes are valid.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use sapwood_core::board::Buffer;
use sapwood_core::bufs::{Header, Region, Shape};
use sapwood_core::mem::{Mem, RaceCell, Real};

use crate::memory::Memory;

/// Headers, then bytes.
pub(crate) struct Depot {
    headers: NonNull<Header<Real>>,
    bytes: NonNull<u8>,
    shape: Shape,
    guard: <Real as Mem>::Cell<()>,
    _memory: Memory,
}

// SAFETY: addresses and what keeps them mapped; the protocol guards each access.
unsafe impl Send for Depot {}
// SAFETY: as above.
unsafe impl Sync for Depot {}

impl Clone for Depot {
    fn clone(&self) -> Self {
        Depot { guard: RaceCell::new(()), _memory: self._memory.clone(), ..*self }
    }
}

impl std::fmt::Debug for Depot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Depot of {:?} at {:?}", self.shape, self.headers)
    }
}

/// As bytes lie: on cache lines.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

impl Depot {
    /// Bytes that it needs.
    pub(crate) fn bytes(shape: Shape) -> u64 {
        let header = size_of::<Header<Real>>() as u64;
        u64::from(shape.blocks()) * (header + shape.bytes() as u64)
    }

    pub(crate) fn new(memory: Memory, shape: Shape) -> Self {
        let count = shape.blocks() as usize;
        let (front, lines) = (count * size_of::<Header<Real>>(), count * (shape.bytes() / size_of::<Line>()));
        let bytes = memory.at::<Line>(front, lines).cast();
        Depot { headers: memory.at(0, count), bytes, shape, guard: RaceCell::new(()), _memory: memory }
    }

    /// The first byte of a buffer, which has as many as the shape says, on a multiple of 64.
    #[inline(always)]
    pub(crate) fn start(&self, block: u32) -> NonNull<u8> {
        assert!(block < self.shape.blocks(), "buffer {block} of {}", self.shape.blocks());
        // SAFETY: inside the memory that `new` has found room for.
        unsafe { self.bytes.add(block as usize * self.shape.bytes()) }
    }
}

// SAFETY: every clone has the same addresses; `new` has found room for the headers and the bytes of every block, which
// begin on cache lines, and no other number is asked for.
unsafe impl Region<Real> for Depot {
    #[inline(always)]
    fn header(&self, block: u32) -> &Header<Real> {
        debug_assert!(block < self.shape.blocks());
        // SAFETY: one of our headers; atomic words, and bytes that nobody reads.
        unsafe { self.headers.add(block as usize).as_ref() }
    }

    #[inline(always)]
    fn bytes(&self, block: u32) -> Buffer<'_, Real> {
        Buffer { start: self.start(block).as_ptr(), guard: &self.guard }
    }

    #[inline(always)]
    fn shape(&self) -> Shape {
        self.shape
    }
}
