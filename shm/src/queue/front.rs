//! The bells and the door of a queue, at the beginning of its memory. See [`sapwood_core::claim::Front`].
//!
//! # Safety
//! Forms references to the words: inside the memory, which lives as long as we do; atomics, for which any bytes are
//! valid.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::ptr::NonNull;

use sapwood_core::claim;
use sapwood_core::mem::Real;

use crate::memory::Memory;

type Words = claim::Front<Real>;

/// Where the table begins.
pub(super) const FRONT: usize = size_of::<Words>();

/// The words, for one handle.
#[derive(Debug, Clone)]
pub(super) struct Front {
    words: NonNull<Words>,
    _memory: Memory,
}

// SAFETY: the address of atomics, and what keeps them mapped.
unsafe impl Send for Front {}
// SAFETY: as above.
unsafe impl Sync for Front {}

impl Front {
    pub(super) fn new(memory: &Memory) -> Front {
        Front { words: memory.at(0, 1), _memory: memory.clone() }
    }
}

impl Deref for Front {
    type Target = Words;
    #[inline(always)]
    fn deref(&self) -> &Words {
        // SAFETY: see the top.
        unsafe { self.words.as_ref() }
    }
}
