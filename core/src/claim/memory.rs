//! The memory of a table: slots, hints, and who lends them.
//!
//! # Safety
//! An unsafe trait is declared here, because the handles trust what a region lends; nothing unsafe is done.
#![allow(unsafe_code)]

use core::fmt;

use crossbeam_utils::CachePadded;

use super::{State, Word};
use crate::mem::{Atom, Mem, Ordering, RaceCell, Real};
use crate::owner::Owner;
use crate::ring::{CapacityError, check};
use crate::shareable::Shareable;

/// A job with its ticket, as it lies in a slot.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Filed<Q> {
    /// The position at which it was submitted.
    pub ticket: u64,
    /// What is to be done.
    pub job: Q,
}

/// A slot has cache lines of its own: its claims are read-modify-writes.
#[repr(C, align(64))]
pub struct Slot<M: Mem, Q: Copy, A: Copy> {
    pub(super) word: M::U64,
    pub(super) job: M::Cell<Filed<Q>>,
    pub(super) answer: M::Cell<A>,
}

impl<M: Mem, Q: Copy, A: Copy> Slot<M, Q, A> {
    /// Slot `i` of an empty table of 2^`shift` slots whose first position is `start`.
    pub fn new(i: u64, shift: u32, start: u64, job: Q, answer: A) -> Self {
        let mask = (1u64 << shift) - 1;
        let first = start.wrapping_add(i.wrapping_sub(start) & mask);
        let word = Word::new(first >> shift, 0, Owner::NOBODY, State::Free);
        let job = M::Cell::new(Filed { ticket: 0, job });
        Slot { word: M::U64::new(word.0), job, answer: M::Cell::new(answer) }
    }

    /// Its word, as it is now.
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }
}

impl<M: Mem, Q: Copy, A: Copy> fmt::Debug for Slot<M, Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.word()).finish()
    }
}

/// The words beside the slots, each on a line of its own.
#[repr(C)]
pub struct Hints<M: Mem> {
    pub(super) tail: CachePadded<M::U64>,
    pub(super) head: CachePadded<M::U64>,
}

impl<M: Mem> Hints<M> {
    /// The words of an empty table whose first position is `start`.
    pub fn new(start: u64) -> Self {
        Hints { tail: CachePadded::new(M::U64::new(start)), head: CachePadded::new(M::U64::new(start)) }
    }

    /// Overwrites both hints, with positions that are not ahead of the truth: as late stores of others would.
    #[cfg(any(test, feature = "testing"))]
    pub fn set(&self, tail: u64, head: u64) {
        self.tail.store(tail, Ordering::Release);
        self.head.store(head, Ordering::Release);
    }
}

impl<M: Mem> fmt::Debug for Hints<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, head) = (self.tail.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed));
        f.debug_struct("Hints").field("tail", &tail).field("head", &head).finish()
    }
}

/// The logarithm of a table's number of slots.
///
/// # Errors
/// [`CapacityError`], unless it is a power of two that a table of such jobs and answers can have.
pub fn shift_of<Q: Shareable, A: Shareable>(slots: usize) -> Result<u32, CapacityError> {
    Ok(check(slots, size_of::<Slot<Real, Q, A>>())?.trailing_zeros())
}

/// Lends the memory of a table.
///
/// # Safety
/// Every clone lends the same words and slots for as long as it lives; slots whose numbers differ modulo 2^`shift` are
/// different slots; any number is masked; `shift`, from private memory, stays the same.
pub unsafe trait Region<M: Mem, Q: Copy, A: Copy>: Clone {
    /// The words beside the slots.
    fn hints(&self) -> &Hints<M>;
    /// A slot.
    fn slot(&self, i: u64) -> &Slot<M, Q, A>;
    /// The logarithm of the number of slots.
    fn shift(&self) -> u32;
}

static_assertions::const_assert_eq!(size_of::<Hints<Real>>(), 256);
static_assertions::const_assert_eq!(size_of::<Slot<Real, [u64; 3], [u64; 3]>>(), 64);
static_assertions::const_assert_eq!(core::mem::offset_of!(Slot<Real, u64, u64>, job), 8);
