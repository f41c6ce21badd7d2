//! What lies before the table of a queue: two bells, and whether the owner will submit more.
//!
//! ```text
//!    0  work      128 B   workers sleep here; who submits a job, gives one back or closes rings
//!  128  answers   128 B   the owner sleeps here; who ends a job or leaves rings
//!  256  closed    128 B   0 open | 1 closed: what waits is still handed out | 2 the owner has left
//!  384  table             see `ring::region`
//! ```
//! Only the owner writes `closed`, and it only grows. The store (Release) pairs with the load of a worker (Acquire)
//! that comes *before* its look at the table: who has seen "closed" and then finds nothing has found nothing for good,
//! except what other workers hold and may give back.
//!
//! # Safety
//! Forms references to the words: inside the memory, which lives as long as we do; atomics, for which any bytes are
//! valid.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};

use crate::memory::Memory;
use crate::wait::Bell;

#[repr(C)]
struct Words {
    work: Bell,
    answers: Bell,
    closed: Closed,
}

#[repr(C, align(128))]
struct Closed(<Real as Mem>::U32);

/// Where the table begins.
pub(super) const FRONT: usize = size_of::<Words>();

const CLOSED: u32 = 1;
const LEFT: u32 = 2;

/// Whether jobs will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Closed,
    /// For good; also whatever a bad peer writes.
    Left,
}

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

    fn words(&self) -> &Words {
        // SAFETY: see the top.
        unsafe { self.words.as_ref() }
    }

    /// Where workers sleep.
    #[inline(always)]
    pub(super) fn work(&self) -> &Doorbell<Real> {
        &self.words().work.bell
    }

    /// Where the owner sleeps.
    #[inline(always)]
    pub(super) fn answers(&self) -> &Doorbell<Real> {
        &self.words().answers.bell
    }

    #[inline(always)]
    pub(super) fn door(&self) -> Door {
        match self.words().closed.0.load(Ordering::Acquire) {
            0 => Door::Open,
            CLOSED => Door::Closed,
            _ => Door::Left,
        }
    }

    /// No more jobs. The caller is the owner.
    pub(super) fn close(&self, left: bool) {
        if self.door() != Door::Left {
            self.words().closed.0.store(if left { LEFT } else { CLOSED }, Ordering::Release);
        }
        self.work().ring_anyway();
    }

    /// A job is over, or was given back: `back`.
    #[inline]
    pub(super) fn ring_after_job(&self, back: bool) {
        Doorbell::<Real>::fence();
        self.answers().ring_fenced();
        // Behind a closed door workers wait for the last jobs to end.
        if back || self.door() != Door::Open {
            self.work().ring_fenced();
        }
    }

    /// After a recovery: the dead may have owed a wake to anybody.
    #[cold]
    pub(super) fn ring_all(&self) {
        self.work().ring_anyway();
        self.answers().ring_anyway();
    }
}

static_assertions::const_assert_eq!(FRONT, 384);
static_assertions::const_assert_eq!(std::mem::offset_of!(Words, answers), 128);
static_assertions::const_assert_eq!(std::mem::offset_of!(Words, closed), 256);
