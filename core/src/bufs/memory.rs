//! The memory of an arena: headers, and who lends them.
//!
//! # Safety
//! An unsafe trait is declared here, because the handles trust what a region lends; nothing unsafe is done.
#![allow(unsafe_code)]

use core::fmt;

use super::{Note, Shape, TICKETS, Word};
use crate::board::Buffer;
use crate::mem::{Atom, Mem, Ordering, Real};
use crate::owner::Owner;

/// Words in which the holder says what the bytes are.
pub(super) const SAID: usize = 2;

/// The words of a block: its word, what is said of its bytes, and a note for each ticket.
#[repr(C, align(64))]
pub struct Header<M: Mem> {
    pub(super) word: M::U64,
    pub(super) said: [M::U64; SAID],
    zero: [u64; 5],
    pub(super) notes: [M::U64; TICKETS as usize],
}

impl<M: Mem> Header<M> {
    /// A free block's, in `generation` (0 in a new arena; tests start near the wrap).
    pub fn new(generation: u16) -> Self {
        let free = |_| M::U64::new(Note::new(0, Owner::NOBODY).0);
        let word = M::U64::new(Word::new(generation, 0, 0).0);
        Header { word, said: core::array::from_fn(free), zero: [0; 5], notes: core::array::from_fn(free) }
    }

    /// Its word, as it is now.
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Its notes, as they are now.
    pub fn notes(&self) -> [Note; TICKETS as usize] {
        core::array::from_fn(|i| Note(self.notes[i].load(Ordering::Acquire)))
    }
}

impl<M: Mem> fmt::Debug for Header<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("word", &self.word()).finish_non_exhaustive()
    }
}

/// Lends the memory of an arena.
///
/// # Safety
/// Every clone lends the same headers and blocks for as long as it lives; different numbers below the shape's `blocks`
/// are different blocks, whose bytes, as many as the shape says, from an address that is a multiple of 64, are nothing
/// else; `shape`, from private memory, stays the same. Other numbers are never asked for.
pub unsafe trait Region<M: Mem>: Clone {
    /// The words of a block.
    fn header(&self, block: u32) -> &Header<M>;
    /// The bytes of a block.
    fn bytes(&self, block: u32) -> Buffer<'_, M>;
    /// How many blocks, and how large.
    fn shape(&self) -> Shape;
}

static_assertions::const_assert_eq!(size_of::<Header<Real>>(), 192);
static_assertions::const_assert_eq!(core::mem::offset_of!(Header<Real>, notes), 64);
