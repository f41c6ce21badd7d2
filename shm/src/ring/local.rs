//! Many producers, many consumers, inside one process: values of any type, in order. See [`sapwood_core::ring::local`]
//! for the protocol.
//!
//! # Safety
//! Implements the ring's region over slots that one box owns: a place is written through its `UnsafeCell` by whoever
//! the protocol says owns it, and indices are masked with the box's own length.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

use sapwood_core::mem::{Atom, Mem, Real};
use sapwood_core::ring::local::{self, Ends};
use sapwood_core::ring::{PopError as CorePop, PushError as CorePush};

use super::{PopError, PushError};
use crate::error::Error;
use crate::limits::memory_left;

/// Memory that is had without asking how much there is.
const SMALL: usize = 1 << 20;

type U64 = <Real as Mem>::U64;

#[repr(C)]
struct Slot<T> {
    word: U64,
    place: UnsafeCell<MaybeUninit<T>>,
}

struct Slots<T> {
    ends: Ends<Real>,
    slots: Box<[Slot<T>]>,
    shift: u32,
}

// SAFETY: an empty place may go to another thread; one with a value if the value may.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: places are touched through the protocol only, which moves values between threads and lends no reference.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    fn new(capacity: usize) -> Result<Self, Error> {
        let shift = local::shift_of(capacity, size_of::<Slot<T>>())?;
        let (count, what) = (1usize << shift, "a queue between threads");
        let need = count.saturating_mul(size_of::<Slot<T>>());
        // The kernel promises more than it has; slots are written at once.
        if need > SMALL && need as u64 > memory_left() {
            return Err(Error::NoSpace { what, need: need as u64, have: memory_left() });
        }
        let mut slots = Vec::new();
        if slots.try_reserve_exact(count).is_err() {
            return Err(Error::NoSpace { what, need: need as u64, have: memory_left() });
        }
        slots.extend((0..count as u64).map(|i| Slot {
            word: U64::new(local::empty(i, shift, 0)),
            place: UnsafeCell::new(MaybeUninit::uninit()),
        }));
        Ok(Slots { ends: Ends::new(0), slots: slots.into_boxed_slice(), shift })
    }

    #[inline(always)]
    fn slot(&self, i: u64) -> &Slot<T> {
        // SAFETY: masked with the length, which is 2^shift.
        unsafe { self.slots.get_unchecked(i as usize & ((1 << self.shift) - 1)) }
    }
}

// SAFETY: one element of the box for each slot, which never moves; numbers are masked.
unsafe impl<T> local::Region<Real, T> for Slots<T> {
    #[inline(always)]
    fn ends(&self) -> &Ends<Real> {
        &self.ends
    }
    #[inline(always)]
    fn word(&self, i: u64) -> &U64 {
        &self.slot(i).word
    }
    #[inline(always)]
    unsafe fn put(&self, i: u64, value: T) {
        // SAFETY: the caller promises that nobody else touches the place.
        unsafe { (*self.slot(i).place.get()).write(value) };
    }
    #[inline(always)]
    unsafe fn take(&self, i: u64) -> T {
        // SAFETY: the caller promises that there is a value, that nobody else touches it, and that it is taken once.
        unsafe { (*self.slot(i).place.get()).assume_init_read() }
    }
    #[inline(always)]
    fn shift(&self) -> u32 {
        self.shift
    }
}

/// A bounded queue between the threads of one process, for values of any type that may go to another thread: a
/// `String`, a `Box`, a value that is `Send` and not `Sync`. Clones are the same queue, and any of them may push and
/// pop.
///
/// Values come out in the order in which they went in; what one thread pushed, every thread sees in that order. A push
/// that succeeded is popped once, by one thread, or dropped with the queue. Nothing here blocks, allocates or makes a
/// system call.
///
/// | what ends                       | what is left                                                                  |
/// |---------------------------------|-------------------------------------------------------------------------------|
/// | the last handle                 | nothing: values in the queue are dropped                                      |
/// | a thread, between calls         | nothing                                                                       |
/// | a thread, by a panic in a call  | only an iterator's or a collection's: what a batch has pushed stays pushed,   |
/// |                                 | what it has claimed and not taken is dropped                                  |
/// | the process                     | nothing: its threads and its memory end together                              |
///
/// A forked child has a copy of the queue, which no other process sees. If another thread was in the middle of a call
/// when it was forked, the copy answers `Busy` at that place for good.
///
/// ```
/// use sapwood_shm::ring::PopError;
/// use sapwood_shm::ring::local::Queue;
///
/// let queue = Queue::new(64)?;
/// let sender = queue.clone();
/// let thread = std::thread::spawn(move || {
///     let mut words = ["three", "words", "more"].map(String::from).into_iter();
///     let sent = sender.push_batch(&mut words);
///     sender.close();
///     sent
/// });
/// assert_eq!(thread.join().expect("it returned"), Ok(3));
/// let mut got = Vec::new();
/// while queue.pop_batch(&mut got, 16).is_ok() {}
/// assert_eq!((got.join(" "), queue.try_pop()), ("three words more".to_owned(), Err(PopError::Drained)));
/// # Ok::<(), sapwood_shm::Error>(())
/// ```
/// What may not go to another thread can't be queued:
///
/// ```compile_fail
/// sapwood_shm::ring::local::Queue::new(1).map(|queue| queue.try_push(std::rc::Rc::new(1)));
/// ```
pub struct Queue<T: Send>(Arc<local::Queue<Real, T, Slots<T>>>);

impl<T: Send> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<T: Send> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Send> Queue<T> {
    /// An empty queue for at least `capacity` values: the next power of two.
    ///
    /// # Errors
    /// [`Error::Capacity`] for none, or more than any queue of such values can have; [`Error::NoSpace`].
    pub fn new(capacity: usize) -> Result<Self, Error> {
        // SAFETY: the slots are new, empty from position 0 on, and go nowhere else.
        Ok(Queue(Arc::new(unsafe { local::Queue::new(Slots::new(capacity)?) })))
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`PushError::Full`]; [`PushError::Closed`]; [`PushError::Busy`] with no holder, when a thread that takes from
    /// the next place is not done. The value comes back.
    #[inline]
    pub fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        self.0.try_push(value).map_err(refused)
    }

    /// Appends the first of `values`, as many as there is room for, and says how many; the rest stays in the iterator.
    /// Consumers see all of them at once, one behind the other. No more are taken than the iterator's `len` says.
    ///
    /// # Errors
    /// As [`try_push`](Self::try_push), with nothing pushed and nothing taken from the iterator.
    pub fn push_batch<I>(&self, values: &mut I) -> Result<usize, PushError<()>>
    where
        I: ExactSizeIterator<Item = T> + ?Sized,
    {
        self.0.push_batch(values).map_err(refused)
    }

    /// Takes the oldest value.
    ///
    /// # Errors
    /// [`PopError::Empty`]; [`PopError::Drained`] when it is closed and nothing will come; [`PopError::Busy`] with no
    /// holder, when a thread that pushes the next value is not done.
    #[inline]
    pub fn try_pop(&self) -> Result<T, PopError> {
        self.0.try_pop().map_err(nothing)
    }

    /// Takes the oldest values, `most` at most, into a collection, and says how many.
    ///
    /// # Errors
    /// As [`try_pop`](Self::try_pop), with nothing popped.
    pub fn pop_batch(&self, into: &mut impl Extend<T>, most: usize) -> Result<usize, PopError> {
        self.0.pop_batch(into, most).map_err(nothing)
    }

    /// Whether a push would find room now; else what it would say.
    pub(crate) fn has_room(&self) -> Result<(), PushError<()>> {
        self.0.has_room().map_err(refused)
    }

    /// Whether a pop would find a value now; else what it would say.
    pub(crate) fn has_value(&self) -> Result<(), PopError> {
        self.0.has_value().map_err(nothing)
    }

    /// Ends the queue: once this has returned no push succeeds, in no thread. What was pushed can still be popped.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether the queue was closed. Values may still be in it.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Values in the queue, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in the queue, roughly.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

static_assertions::assert_impl_all!(Queue<std::cell::Cell<u8>>: Send, Sync);

fn refused<T>(e: CorePush<T>) -> PushError<T> {
    match e {
        CorePush::Full(value) => PushError::Full(value),
        CorePush::Closed(value) => PushError::Closed(value),
        e => PushError::Busy { holder: None, value: e.into_inner() },
    }
}

fn nothing(e: CorePop) -> PopError {
    match e {
        CorePop::Empty => PopError::Empty,
        CorePop::Drained => PopError::Drained,
        _ => PopError::Busy { holder: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_until_it_is_closed() {
        let queue = Queue::new(3).expect("memory");
        assert_eq!(queue.capacity(), 4);
        for lap in 0..3 {
            let words = ["a", "b", "c", "d"].map(|w| format!("{w}{lap}"));
            words.iter().for_each(|w| queue.try_push(w.clone()).expect("room"));
            assert_eq!(queue.try_push("e".to_owned()), Err(PushError::Full("e".to_owned())));
            words.iter().for_each(|w| assert_eq!(queue.try_pop().as_ref(), Ok(w)));
            assert_eq!(queue.try_pop(), Err(PopError::Empty));
        }
        assert_eq!(queue.push_batch(&mut ["x", "y"].map(str::to_owned).into_iter()), Ok(2));
        queue.close();
        assert_eq!(queue.try_push("z".to_owned()), Err(PushError::Closed("z".to_owned())));
        let mut got = Vec::new();
        assert_eq!(queue.pop_batch(&mut got, 9), Ok(2));
        assert_eq!((got.concat().as_str(), queue.try_pop()), ("xy", Err(PopError::Drained)));
    }
}
