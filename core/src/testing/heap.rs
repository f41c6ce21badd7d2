//! A group's memory on the heap, for any memory family.
//!
//! # Safety
//! Stands in for a mapped segment: lends raw pointers into blocks that live as long as the last clone.
#![allow(unsafe_code)]

use core::alloc::Layout as Block;
use core::fmt;
use std::alloc::{alloc_zeroed, dealloc};
use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Arc;
use std::vec::Vec;

use crate::board::{Buffer, Life, Place, Region};
use crate::layout::Layout;
use crate::mem::{Atom, Mem, Ordering, RaceCell, Real};
use crate::sizes::Area;
use crate::sizes::Sizes;

/// Bytes that start on a page.
pub(super) struct Pages(*mut u8, Block);

impl Pages {
    pub(super) fn start(&self) -> *mut u8 {
        self.0
    }

    pub(super) fn new(bytes: usize) -> Self {
        let block = Block::from_size_align(bytes.max(64), 4096).expect("a size that fits");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(block) };
        assert!(!start.is_null(), "out of memory");
        Pages(start, block)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this block.
        unsafe { dealloc(self.0, self.1) }
    }
}

type Oracle = Box<dyn Fn(usize) -> Life + Send + Sync>;

struct Inner<M: Mem> {
    layout: Layout,
    places: Vec<Place<M>>,
    guards: HashMap<usize, M::Cell<()>>,
    bytes: Pages,
    arena: Pages,
    /// Bytes of the arena that each rank has for its tensors.
    part: usize,
    poisoned: Vec<Real32>,
    life: Oracle,
}

/// Beside the family: not in the group's memory.
type Real32 = <Real as Mem>::U32;

/// A region on the heap. Clones share it.
pub struct Heap<M: Mem>(Arc<Inner<M>>);

impl<M: Mem> Clone for Heap<M> {
    fn clone(&self) -> Self {
        Heap(self.0.clone())
    }
}

impl<M: Mem> fmt::Debug for Heap<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Heap").field(&self.0.layout).finish()
    }
}

// SAFETY: the bytes are guarded by the board's words, which is what the tests check; all else is immutable.
unsafe impl<M: Mem> Send for Heap<M> {}
// SAFETY: as above.
unsafe impl<M: Mem> Sync for Heap<M> {}

impl<M: Mem> Heap<M> {
    /// Memory for `ranks` ranks whose last operation was `n`, with `arena` bytes for resident tensors, in equal parts.
    /// `life` says who lives.
    pub fn new(
        sizes: Sizes,
        ranks: usize,
        n: u64,
        arena: usize,
        life: impl Fn(usize) -> Life + Send + Sync + 'static,
    ) -> Self {
        let layout = Layout::new::<Real>(sizes, ranks);
        let mut areas = Vec::from([Area::Slot(0), Area::Slot(1), Area::Result]);
        areas.extend((0..sizes.block_chunks).map(Area::Block));
        for (w, s) in sizes.windows.iter().enumerate().filter(|_| ranks == 2) {
            areas.extend((0..s.count).map(|i| Area::Window(w, i)));
        }
        let guards = (0..ranks).flat_map(|r| areas.iter().map(move |a| layout.area(r, *a)));
        Heap(Arc::new(Inner {
            layout,
            places: (0..ranks).map(|_| Place::new(n)).collect(),
            guards: guards.map(|at| (at, M::Cell::new(()))).collect(),
            bytes: Pages::new(layout.len),
            arena: Pages::new(arena),
            part: arena / ranks / 64 * 64,
            poisoned: (0..ranks).map(|_| Atom::new(0)).collect(),
            life: Box::new(life),
        }))
    }

    /// The first `len` elements of the arena's part of `rank`.
    ///
    /// # Safety
    /// Nobody else holds them, except ranks within a collective that all of them make.
    #[allow(clippy::mut_from_ref)] // it is an arena
    pub unsafe fn tensor<T>(&self, rank: usize, len: usize) -> &mut [T] {
        assert!(rank < self.0.places.len() && len * size_of::<T>() <= self.0.part && align_of::<T>() <= 64);
        // SAFETY: inside the arena and aligned, as just checked; exclusive, as the caller promises.
        unsafe { core::slice::from_raw_parts_mut(self.0.arena.0.add(rank * self.0.part).cast(), len) }
    }

    /// Whether a call that failed has left a tensor of `rank` to others who may write to it still.
    pub fn is_poisoned(&self, rank: usize) -> bool {
        self.0.poisoned[rank].load(Ordering::Relaxed) != 0
    }

    /// Whose part of the arena these bytes lie in.
    fn part_of(&self, at: usize, bytes: usize) -> Option<usize> {
        let rank = at.checked_div(self.0.part)?;
        (rank < self.0.places.len() && bytes <= self.0.part - at % self.0.part).then_some(rank)
    }
}

// SAFETY: places and buffers are the same for every clone; the layout keeps buffers apart; `resident` keeps to the
// rank's part of the arena; the oracle is the test's to keep honest.
unsafe impl<M: Mem> Region<M> for Heap<M> {
    fn place(&self, rank: usize) -> &Place<M> {
        &self.0.places[rank]
    }

    fn buffer(&self, rank: usize, area: Area) -> Buffer<'_, M> {
        let area = if let Area::Slot(n) = area { Area::Slot(n & 1) } else { area };
        let at = self.0.layout.area(rank, area);
        Buffer { start: self.0.bytes.0.wrapping_add(at), guard: &self.0.guards[&at] }
    }

    fn sizes(&self) -> &Sizes {
        self.0.layout.sizes()
    }

    fn life(&self, rank: usize) -> Life {
        (self.0.life)(rank)
    }

    fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        let at = start.addr().checked_sub(self.0.arena.0.addr())?;
        self.part_of(at, bytes).map(|_| at as u64)
    }

    fn resident(&self, rank: usize, token: u64, bytes: usize) -> Option<*mut u8> {
        let at = usize::try_from(token).ok()?;
        (self.part_of(at, bytes)? == rank).then(|| self.0.arena.0.wrapping_add(at))
    }

    fn poison(&self, start: usize, bytes: usize) {
        if let Some(rank) = self.part_of(start.wrapping_sub(self.0.arena.0.addr()), bytes) {
            self.0.poisoned[rank].store(1, Ordering::Relaxed);
        }
    }
}
