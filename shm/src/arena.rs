//! Resident tensors: memory that all ranks of a group have mapped, so that a collective works where they lie.
//!
//! Allocation is collective. Rank 0 chooses the place and backs it with memory ([`Arena::reserve`]), tells the others
//! ([`Offer`] in four words), all map it ([`Arena::map`]), and only if all could do all keep it ([`Arena::tensor`]).
//! A block holds one tensor of each rank, each on its own pages. It goes when no rank holds its tensor any more: rank 0
//! sees that at the next allocation and tells the others to let go ([`Offer::retired`]).
//!
//! # Safety
//! Hands out the mapped bytes of a rank's own tensor as a slice. Other ranks write them only inside a collective to
//! which this rank has lent the tensor exclusively.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sapwood_core::dtype::Element;

use crate::error::Error;
use crate::hall::{BLOCKS, Hall};
use crate::segment::Mapping;

const PAGE: u64 = 4096;

/// A block of the arena: one tensor a rank.
#[derive(Debug)]
struct Block {
    /// Bytes from the start of the arena.
    offset: u64,
    mapping: Arc<Mapping>,
    /// Whether its tensor has been handed out.
    lent: bool,
}

/// What rank 0 says of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Number of the block.
    pub block: usize,
    /// Bytes from the start of the arena.
    pub offset: u64,
    /// A block that nobody holds any more, to be unmapped first.
    pub retired: Option<usize>,
}

impl Offer {
    /// As it travels in a flag line; never all zeros, which stand for a refusal.
    pub fn to_words(self) -> [u64; 4] {
        [self.block as u64 + 1, self.offset, self.retired.map_or(0, |b| b as u64 + 1), 0]
    }

    /// What rank 0 has said; `None` if it had to refuse.
    pub fn from_words(words: [u64; 4]) -> Option<Offer> {
        let number = |w: u64| usize::try_from(w).ok()?.checked_sub(1);
        Some(Offer { block: number(words[0])?, offset: words[1], retired: number(words[2]) })
    }
}

/// One rank's view of the arena.
#[derive(Debug)]
pub struct Arena {
    hall: Arc<Hall>,
    blocks: Vec<Option<Block>>,
    /// Rank 0 only: what is reserved, by block.
    reserved: Vec<Option<(u64, u64)>>,
    /// Rank 0 only: a block that has been retired, of which no offer has told the others yet.
    untold: Option<usize>,
}

impl Arena {
    pub(crate) fn new(hall: Arc<Hall>) -> Self {
        let none = || std::iter::repeat_with(|| None).take(BLOCKS);
        Arena { hall, blocks: none().collect(), reserved: vec![None; BLOCKS], untold: None }
    }

    /// Bytes from one rank's tensor to the next one's in a block for `bytes` a rank, and those of the block.
    fn lengths(&self, bytes: usize) -> Result<(u64, u64), Error> {
        let stride = (bytes.max(1) as u64).checked_next_multiple_of(PAGE);
        let block = stride.and_then(|s| Some((s, s.checked_mul(self.hall.ranks() as u64)?)));
        block.ok_or(Error::TooLong { bytes: bytes as u64 })
    }

    /// Rank 0: finds room for a tensor of `bytes` bytes a rank and backs it with memory.
    ///
    /// # Errors
    /// No memory, no room in the arena, or all blocks in use.
    pub fn reserve(&mut self, bytes: usize) -> Result<Offer, Error> {
        if self.untold.is_none() {
            let retired = (0..BLOCKS).find(|b| self.reserved[*b].is_some() && !self.hall.held(*b));
            if let Some((offset, len)) = retired.and_then(|b| self.reserved[b].take()) {
                self.untold = retired;
                self.hall.segment().release(self.start() + offset, len)?;
            }
        }
        let retired = self.untold;
        let (_, len) = self.lengths(bytes)?;
        // The retired one's number last; all unmap it before they map anything under it.
        let block = (0..BLOCKS).find(|b| self.reserved[*b].is_none() && retired != Some(*b));
        let block = block.or(retired).ok_or(Error::TooManyTensors { limit: BLOCKS })?;
        let offset = self.gap(len).ok_or(Error::TooLong { bytes: bytes as u64 })?;
        self.hall.segment().back(self.start() + offset, len)?;
        self.reserved[block] = Some((offset, len));
        self.untold = None;
        Ok(Offer { block, offset, retired })
    }

    /// The lowest gap of `len` bytes between reserved blocks.
    fn gap(&self, len: u64) -> Option<u64> {
        let mut taken: Vec<_> = self.reserved.iter().flatten().copied().collect();
        taken.sort_unstable();
        let mut at = 0;
        for (offset, size) in taken {
            if offset - at >= len {
                return Some(at);
            }
            at = offset + size;
        }
        (self.hall.segment().reserve_len() - at >= len).then_some(at)
    }

    fn start(&self) -> u64 {
        self.hall.segment().reserve_offset()
    }

    /// Maps what rank 0 has offered, for `bytes` bytes a rank.
    ///
    /// # Errors
    /// The kernel refuses, or the offer makes no sense.
    pub fn map(&mut self, offer: Offer, bytes: usize) -> Result<(), Error> {
        if let Some(retired) = offer.retired {
            *self.blocks.get_mut(retired).ok_or(Error::BadOffer { block: retired })? = None;
        }
        let (_, len) = self.lengths(bytes)?;
        let bad = Error::BadOffer { block: offer.block };
        let at = self.start().checked_add(offer.offset).filter(|at| at.is_multiple_of(PAGE));
        // No two blocks share bytes: what `tensor` hands out must be its holder's alone.
        let end = offer.offset.saturating_add(len);
        let overlaps = |b: &Block| b.offset < end && offer.offset < b.offset + b.mapping.len() as u64;
        if self.blocks.iter().flatten().any(overlaps) {
            return Err(bad);
        }
        let (Some(slot), Some(at)) = (self.blocks.get_mut(offer.block), at) else { return Err(bad) };
        let mapping = self.hall.segment().map(at, len)?;
        *slot = Some(Block { offset: offer.offset, mapping: Arc::new(mapping), lent: false });
        self.hall.hold(offer.block, true);
        Ok(())
    }

    /// This rank's tensor of a block that all ranks have mapped.
    ///
    /// # Panics
    /// If the block was not mapped here for tensors of `len` elements, or its tensor was handed out before.
    pub fn tensor<T: Element>(&mut self, block: usize, len: usize) -> Tensor<T> {
        let lengths = len.checked_mul(size_of::<T>()).and_then(|bytes| self.lengths(bytes).ok());
        let (stride, whole) = lengths.expect("a length that can be");
        let mapped = self.blocks[block].as_mut().expect("the block is mapped");
        assert_eq!(mapped.mapping.len() as u64, whole, "a block of another size");
        assert!(!std::mem::replace(&mut mapped.lent, true), "a tensor has one handle");
        let mapping = mapped.mapping.clone();
        // SAFETY: rank < ranks, so the tensor lies inside the mapping.
        let start = unsafe { mapping.ptr().add(self.hall.rank() * stride as usize) }.cast();
        let hold = Hold { hall: self.hall.clone(), block, _mapping: mapping };
        Tensor { start, len, _hold: hold, _owns: PhantomData }
    }

    /// Lets go of a block that not all ranks could map. Nothing happens if its tensor was handed out.
    pub fn abandon(&mut self, block: usize) {
        if let Some(mapped) = self.blocks.get_mut(block)
            && mapped.as_ref().is_none_or(|b| !b.lent)
        {
            *mapped = None;
            self.hall.hold(block, false);
        }
    }

    /// Where in the arena these bytes lie, if in a mapped block.
    #[inline]
    pub(crate) fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        self.blocks.iter().flatten().find_map(|b| {
            let within = start.addr().checked_sub(b.mapping.ptr().addr())?;
            (within < b.mapping.len() && bytes <= b.mapping.len() - within).then(|| b.offset + within as u64)
        })
    }

    /// Where bytes of the arena are mapped here. `token` may be any number.
    #[inline]
    pub(crate) fn resident(&self, token: u64, bytes: usize) -> Option<*mut u8> {
        self.blocks.iter().flatten().find_map(|b| {
            let within = usize::try_from(token.checked_sub(b.offset)?).ok()?;
            let inside = within < b.mapping.len() && bytes <= b.mapping.len() - within;
            inside.then(|| b.mapping.ptr().wrapping_add(within))
        })
    }
}

/// Keeps a tensor's memory mapped, and says when its rank is done with it.
#[derive(Debug)]
struct Hold {
    hall: Arc<Hall>,
    block: usize,
    _mapping: Arc<Mapping>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.hall.hold(self.block, false);
    }
}

/// A rank's tensor in shared memory: collectives on it need no copy in and no copy out.
///
/// It derefs to a slice of its elements, which start as zeros, and may outlive its group. Other ranks write it during
/// collectives only. After a collective on it has failed for good (any error but a mismatch) ranks that are still in
/// that call may go on writing it for a while: its elements are unspecified from then on, and it should be dropped.
#[derive(Debug)]
pub struct Tensor<T> {
    start: *mut T,
    len: usize,
    _hold: Hold,
    _owns: PhantomData<T>,
}

// SAFETY: a tensor is the only handle of its bytes in this process, like a Box<[T]>.
unsafe impl<T: Send> Send for Tensor<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Tensor<T> {}

impl<T: Element> Deref for Tensor<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements lie in the mapping, which `_hold` keeps, on a page of their own; every bit pattern is
        // an element. Nobody else writes them while they are borrowed: other ranks do so only within a collective
        // that has borrowed them exclusively here.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Element> DerefMut for Tensor<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and exclusive because we are.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}
