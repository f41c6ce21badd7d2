//! Where a channel's two bells are: on the heap of this process, or in front of the ring in a segment.
//!
//! # Safety
//! Forms references to the bells in a segment: two atomic words, for which any bytes are valid, inside its body, which
//! is mapped as long as the keeper beside the address lives.
#![allow(unsafe_code)]

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;

use crate::memory::Memory;
use crate::seat::Maker;

/// Bytes that they take, whole lines.
pub(super) const BYTES: usize = size_of::<Bells<Real>>();

/// A channel's bells, and what keeps them.
#[derive(Debug, Clone)]
pub(super) enum Where {
    Threads(Arc<Bells<Real>>),
    Processes(InSegment),
}

/// Bells at the beginning of a segment's body.
#[derive(Debug, Clone)]
pub(super) struct InSegment {
    at: NonNull<Bells<Real>>,
    _memory: Memory,
}

// SAFETY: an address of atomic words, and what keeps them mapped.
unsafe impl Send for InSegment {}
// SAFETY: the words are atomics; whoever has a reference to them may do what they allow, from any thread.
unsafe impl Sync for InSegment {}

impl InSegment {
    /// # Panics
    /// If the memory is too short for them.
    pub(super) fn new(memory: Memory) -> InSegment {
        InSegment { at: memory.at(0, 1), _memory: memory }
    }
}

impl Deref for InSegment {
    type Target = Bells<Real>;
    #[inline(always)]
    fn deref(&self) -> &Bells<Real> {
        // SAFETY: see the top: `new` has found them inside the memory, on their alignment.
        unsafe { self.at.as_ref() }
    }
}

impl Deref for Where {
    type Target = Bells<Real>;
    fn deref(&self) -> &Bells<Real> {
        match self {
            Where::Threads(bells) => bells,
            Where::Processes(bells) => bells,
        }
    }
}

/// The bells of a handle, which rings them when it goes, after the handle's seat: whoever sleeps there looks whether he
/// is alone now.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) bells: Where,
    maker: Maker,
}

impl Farewell {
    pub(super) fn new(bells: Where) -> Farewell {
        Farewell { bells, maker: Maker::this() }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if self.maker.is_this() {
            self.bells.closed();
        }
    }
}
