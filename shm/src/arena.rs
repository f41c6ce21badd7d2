//! Resident tensors: memory that all ranks of a group have mapped, so that a collective works where they lie.
//!
//! Allocation is collective (`alloc`). Rank 0 chooses the place and backs it with memory ([`Arena::reserve`]), tells
//! the others ([`Offer`] in four words), all map it ([`Arena::map`]), and only if all could do all keep it
//! ([`Arena::tensor`]). A block holds one tensor of each rank, each on its own pages. It goes when no rank holds its
//! tensor any more: rank 0 sees that at the next allocation and tells the others to let go ([`Offer::retired`]).
//!
//! A bad peer may name any bytes: what it names is taken only where it lies in the peer's own part of a block, so
//! nobody can be made to write to another rank's tensor. A bad rank 0 may offer anything: an offer whose bytes this
//! rank has mapped already, or holds a tensor in, is refused.
//!
//! # Safety
//! Hands out the mapped bytes of a rank's own tensor as a slice. Other ranks write them only inside a collective to
//! which this rank has lent the tensor exclusively; where such a call has failed and a rank may be in it still, the
//! tensor is poisoned and hands out nothing. A forked child has the same bytes mapped, and a copy of the handle that
//! hands out nothing either.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sapwood_core::dtype::Element;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::error::Error;
use crate::hall::{BLOCKS, Hall};
use crate::seat::Maker;
use crate::segment::Mapping;

const PAGE: u64 = 4096;

/// A block of the arena: one tensor a rank.
#[derive(Debug)]
struct Block {
    /// Bytes from the start of the arena.
    offset: u64,
    /// Bytes from one rank's tensor to the next one's.
    stride: usize,
    backing: Arc<Backing>,
    /// Whether its tensor has been handed out.
    lent: bool,
}

/// A mapped block, shared with the tensor in it.
#[derive(Debug)]
struct Backing {
    mapping: Mapping,
    /// Not 0 once this rank's tensor may be written by others for no good reason. In private memory.
    poisoned: <Real as Mem>::U32,
}

impl Block {
    /// Whether the tensor in it has been handed out and is still there.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.backing) > 1
    }

    /// Whose part of the block `bytes` bytes lie in that begin `within` bytes from its start.
    fn part_of(&self, within: usize, bytes: usize) -> Option<usize> {
        let inside = within < self.backing.mapping.len() && bytes <= self.stride - within % self.stride;
        inside.then(|| within / self.stride)
    }
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
pub(crate) struct Blocks {
    hall: Arc<Hall>,
    blocks: Vec<Option<Block>>,
    /// Rank 0 only: what is reserved, by block.
    reserved: Vec<Option<(u64, u64)>>,
    /// Rank 0 only: a block that has been retired, of which no offer has told the others yet.
    untold: Option<usize>,
}

/// The resident tensors of a group, as one rank has them.
#[derive(Debug)]
pub struct Arena<'a>(pub(crate) &'a mut Blocks);

impl Blocks {
    pub(crate) fn new(hall: Arc<Hall>) -> Self {
        let none = || std::iter::repeat_with(|| None).take(BLOCKS);
        Blocks { hall, blocks: none().collect(), reserved: vec![None; BLOCKS], untold: None }
    }

    /// Bytes from one rank's tensor to the next one's in a block for `bytes` a rank, and those of the block.
    fn lengths(&self, bytes: usize) -> Result<(u64, u64), Error> {
        let stride = (bytes.max(1) as u64).checked_next_multiple_of(PAGE);
        let block = stride.and_then(|s| Some((s, s.checked_mul(self.hall.ranks() as u64)?)));
        block.ok_or(Error::TooLong { bytes: bytes as u64 })
    }

    fn reserve(&mut self, bytes: usize) -> Result<Offer, Error> {
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

    fn map(&mut self, offer: Offer, bytes: usize) -> Result<(), Error> {
        let held = |block: &Option<Block>| block.as_ref().is_some_and(Block::is_held);
        if let Some(retired) = offer.retired {
            // Rank 0 says that nobody holds it. Of ourselves we know better.
            match self.blocks.get_mut(retired) {
                Some(block) if !held(block) => *block = None,
                _ => return Err(Error::BadOffer { block: retired }),
            }
        }
        let (stride, len) = self.lengths(bytes)?;
        let bad = Error::BadOffer { block: offer.block };
        let at = self.start().checked_add(offer.offset).filter(|at| at.is_multiple_of(PAGE));
        // No two blocks share bytes: what `tensor` hands out must be its holder's alone.
        let end = offer.offset.saturating_add(len);
        let overlaps = |b: &Block| b.offset < end && offer.offset < b.offset + b.backing.mapping.len() as u64;
        if self.blocks.iter().flatten().any(overlaps) {
            return Err(bad);
        }
        let (Some(slot), Some(at)) = (self.blocks.get_mut(offer.block), at) else { return Err(bad) };
        if held(slot) {
            return Err(bad);
        }
        let backing = Backing { mapping: self.hall.segment().map(at, len)?, poisoned: Atom::new(0) };
        let (offset, stride) = (offer.offset, stride as usize);
        *slot = Some(Block { offset, stride, backing: Arc::new(backing), lent: false });
        self.hall.hold(offer.block, true);
        Ok(())
    }

    fn tensor<T: Element>(&mut self, block: usize, len: usize) -> Tensor<T> {
        let lengths = len.checked_mul(size_of::<T>()).and_then(|bytes| self.lengths(bytes).ok());
        let (stride, whole) = lengths.expect("a length that can be");
        let mapped = self.blocks[block].as_mut().expect("the block is mapped");
        assert_eq!(mapped.backing.mapping.len() as u64, whole, "a block of another size");
        assert!(!std::mem::replace(&mut mapped.lent, true), "a tensor has one handle");
        let backing = mapped.backing.clone();
        // SAFETY: rank < ranks, so the tensor lies inside the mapping.
        let start = unsafe { backing.mapping.ptr().add(self.hall.rank() * stride as usize) }.cast();
        let hold = Hold { hall: self.hall.clone(), block, backing: Some(backing), maker: Maker::this() };
        Tensor { start, len, hold, _owns: PhantomData }
    }

    fn abandon(&mut self, block: usize) {
        if let Some(mapped) = self.blocks.get_mut(block)
            && mapped.as_ref().is_none_or(|b| !b.lent)
        {
            *mapped = None;
            self.hall.hold(block, false);
        }
    }

    /// The block of this rank's tensor in which these bytes lie, and where in the block.
    #[inline]
    fn own(&self, start: usize, bytes: usize) -> Option<(&Block, usize)> {
        self.blocks.iter().flatten().find_map(|b| {
            let within = start.checked_sub(b.backing.mapping.ptr().addr())?;
            (b.part_of(within, bytes)? == self.hall.rank()).then_some((b, within))
        })
    }

    /// Where in the arena these bytes lie, if in a tensor of this rank.
    #[inline]
    pub(crate) fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        self.own(start.addr(), bytes).map(|(b, within)| b.offset + within as u64)
    }

    /// Where bytes of a tensor of `rank` are mapped here. `token` may be any number.
    #[inline]
    pub(crate) fn resident(&self, rank: usize, token: u64, bytes: usize) -> Option<*mut u8> {
        self.blocks.iter().flatten().find_map(|b| {
            let within = usize::try_from(token.checked_sub(b.offset)?).ok()?;
            (b.part_of(within, bytes)? == rank).then(|| b.backing.mapping.ptr().wrapping_add(within))
        })
    }

    /// This rank's tensor in which these bytes lie may be written by others from now on.
    pub(crate) fn poison(&self, start: usize, bytes: usize) {
        if let Some((block, _)) = self.own(start, bytes) {
            // Whoever uses the tensor next is the caller, who has lent it exclusively, or comes after him.
            block.backing.poisoned.store(1, Ordering::Relaxed);
        }
    }
}

impl Arena<'_> {
    /// Rank 0: finds room for a tensor of `bytes` bytes a rank and backs it with memory.
    ///
    /// # Errors
    /// No memory, no room in the arena, or all blocks in use.
    pub fn reserve(&mut self, bytes: usize) -> Result<Offer, Error> {
        self.0.reserve(bytes)
    }

    /// Maps what rank 0 has offered, for `bytes` bytes a rank.
    ///
    /// # Errors
    /// The kernel refuses, or the offer makes no sense: of a block or a retired block in which this rank still holds a
    /// tensor, for one.
    pub fn map(&mut self, offer: Offer, bytes: usize) -> Result<(), Error> {
        self.0.map(offer, bytes)
    }

    /// This rank's tensor of a block that all ranks have mapped.
    ///
    /// # Safety
    /// All ranks of the group have mapped the block by one and the same offer of rank 0, which had reserved it.
    ///
    /// # Panics
    /// If the block was not mapped here for tensors of `len` elements, or its tensor was handed out before.
    pub unsafe fn tensor<T: Element>(&mut self, block: usize, len: usize) -> Tensor<T> {
        self.0.tensor(block, len)
    }

    /// Lets go of a block that not all ranks could map. Nothing happens if its tensor was handed out.
    pub fn abandon(&mut self, block: usize) {
        self.0.abandon(block)
    }
}

/// Keeps a tensor's memory mapped, and says when its rank is done with it.
#[derive(Debug)]
struct Hold {
    hall: Arc<Hall>,
    block: usize,
    /// There until it is dropped.
    backing: Option<Arc<Backing>>,
    maker: Maker,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // First: who learns that we hold it no more may offer its bytes anew, and we refuse what we hold.
        self.backing = None;
        // A forked child has nothing to give up: its parent holds the tensor as before.
        if self.maker.is_this() {
            self.hall.hold(self.block, false);
        }
    }
}

/// A rank's tensor in shared memory: collectives on it need no copy in and no copy out.
///
/// It derefs to a slice of its elements, which start as zeros, and may outlive its group. Other ranks write it during
/// collectives only.
///
/// After a collective on it has failed for good (any error but a mismatch) its elements are unspecified, and nobody
/// writes them any more, except where a rank is stopped, or very slow, in the middle of that call: it may go on writing
/// whenever it goes on. Then the tensor is *poisoned*: to deref it is a panic, and all that can be done with it is to
/// drop it. A slice of it that was made before the call and is used after it escapes this; don't keep one.
///
/// A forked child of the process that allocated it has no part in it: to deref it there is a panic too, and to drop it
/// does nothing to the parent's.
#[derive(Debug)]
pub struct Tensor<T> {
    start: *mut T,
    len: usize,
    hold: Hold,
    _owns: PhantomData<T>,
}

impl<T> Tensor<T> {
    /// Whether a rank that has been stopped in the middle of a failed call may still write to it.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.hold.backing.as_ref().is_none_or(|b| b.poisoned.load(Ordering::Relaxed) != 0)
    }

    /// Panics where the bytes may change under a slice of them.
    #[inline(always)]
    fn refuse_if_shared(&self) {
        if !self.hold.maker.is_this() {
            forked();
        }
        if self.is_poisoned() {
            poisoned();
        }
    }
}

#[cold]
#[inline(never)]
fn forked() -> ! {
    panic!(
        "a forked child used a tensor of its parent, which goes on writing to it; copy what it needs before the fork"
    )
}

#[cold]
#[inline(never)]
fn poisoned() -> ! {
    panic!(
        "a poisoned tensor was used: a call on it failed, and a rank that is stopped in the middle of that call may \
         still write to it; drop it"
    )
}

// SAFETY: a tensor is the only handle of its bytes in this process, like a Box<[T]>.
unsafe impl<T: Send> Send for Tensor<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Tensor<T> {}

impl<T: Element> Deref for Tensor<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.refuse_if_shared();
        // SAFETY: `len` elements lie in the mapping, which `hold` keeps, on a page of their own; every bit pattern is
        // an element. Nobody else writes them while they are borrowed: other ranks do so only within a collective
        // that has borrowed them exclusively here, or while they are poisoned; and a forked child gets none.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Element> DerefMut for Tensor<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.refuse_if_shared();
        // SAFETY: as above, and exclusive because we are.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}
