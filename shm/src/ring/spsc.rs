//! One producer, one consumer: values in order. See [`sapwood_core::ring::spsc`] for the protocol.
//!
//! A value whose push returned is popped at least once, and at most once unless a consumer dies: what it had taken in
//! its last call is taken again by its successor. A push that died before it took effect was never sent.
//!
//! # Safety
//! The protocol asks for one producer and one consumer at a time, and that a former one has ended before: seat 0 is
//! held by who makes a producer, seat 1 by who makes a consumer, until the handle has gone; a seat has one holder, and
//! its next one comes after the kernel has seen the last one's end. The pair of a block is handed out once.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::{PopError as CorePop, PushError as CorePush, spsc};

use super::member::{self, Member, nothing};
use super::region::Lines;
use super::{Figures, Life, Peer, PopError, PushError, Shareable};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

const PRODUCER: usize = 0;
const CONSUMER: usize = 1;

/// The segment that a ring of `capacity` values of type `T` needs: for those who make, inherit or receive it by
/// themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a ring of such values can have.
pub fn spec<T: Shareable>(capacity: usize) -> Result<Spec, Error> {
    let bytes = Lines::<T>::bytes(capacity)?;
    Ok(member::spec(kind::SPSC, Figures::of::<T>(capacity), 2, bytes))
}

/// Both ends of a ring of `capacity` values, for two threads.
///
/// ```
/// use sapwood_shm::ring::{PopError, spsc};
///
/// let (mut tx, mut rx) = spsc::pair::<u64>(1024)?;
/// let sum = std::thread::spawn(move || {
///     let mut sum = 0;
///     loop {
///         match rx.try_pop() {
///             Ok(value) => sum += value,
///             Err(PopError::Drained) => return sum,
///             Err(_) => std::thread::yield_now(),
///         }
///     }
/// });
/// for value in 1..=100 {
///     tx.try_push(value)?;
/// }
/// drop(tx); // closes
/// assert_eq!(sum.join().unwrap(), 5050);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Capacity`], [`Error::NoSpace`].
pub fn pair<T: Shareable>(capacity: usize) -> Result<(Producer<T>, Consumer<T>), Error> {
    let memory = Memory::block("a ring", Lines::<T>::bytes(capacity)?)?;
    let lines = Lines::new(memory, capacity)?;
    Ok((Producer::on(lines.clone(), Member::thread()), Consumer::on(lines, Member::thread())))
}

/// The sending end of a ring. Dropping it closes the ring: what was sent can still be read.
///
/// ```
/// use sapwood_shm::ring::spsc::{Consumer, Producer};
///
/// // Two processes would do this, one each, in any order.
/// # let name = &format!("doc-spsc-{}", std::process::id());
/// let mut tx = Producer::<[u64; 2]>::open(name, 64)?;
/// let mut rx = Consumer::<[u64; 2]>::open(name, 64)?;
/// tx.try_push([1, 2])?;
/// assert_eq!(rx.try_pop(), Ok([1, 2]));
/// # rx.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Producer<T: Shareable> {
    ring: spsc::Producer<Real, T, Lines<T>>,
    member: Member,
    /// Whether dropping it closes the ring.
    closes: bool,
}

/// The receiving end of a ring. Dropping it closes the ring: the producer's next push fails.
///
/// ```
/// use sapwood_shm::ring::{PopError, spsc};
///
/// let (mut tx, mut rx) = spsc::pair::<u32>(8)?;
/// assert_eq!(tx.push_slice(&[1, 2, 3])?, 3);
/// let mut some = [0; 2];
/// assert_eq!(rx.pop_slice(&mut some)?, 2);
/// assert_eq!((some, rx.try_pop(), rx.try_pop()), ([1, 2], Ok(3), Err(PopError::Empty)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Consumer<T: Shareable> {
    ring: spsc::Consumer<Real, T, Lines<T>>,
    member: Member,
    /// Whether dropping it closes the ring.
    closes: bool,
}

impl<T: Shareable> Producer<T> {
    /// The producer of the ring called `name`, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::SeatTaken`] if the ring has a producer; [`Error::OtherRing`] if it is one of other values or of another
    /// capacity; [`Error::EndClosed`] if a former producer closed it; [`Error::Capacity`], [`Error::NoSpace`], and what
    /// [`Segment::enter_named`] says.
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::open(name, &spec::<T>(capacity)?, Some(PRODUCER), &mut nothing)?, capacity)
    }

    /// The producer of a new ring without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::NoSpace`].
    pub fn create(capacity: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec::<T>(capacity)?)?, capacity)
    }

    /// The producer of the ring in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::sit(segment, &spec::<T>(capacity)?, Some(PRODUCER), &mut nothing)?, capacity)
    }

    fn sat(member: Member, capacity: usize) -> Result<Self, Error> {
        let producer = Self::on(Lines::new(member.memory(), capacity)?, member);
        if producer.ring.has_closed() { Err(Error::EndClosed { end: "producer" }) } else { Ok(producer) }
    }

    /// On a block that has no producer yet, or in a segment whose seat 0 the member has.
    fn on(lines: Lines<T>, member: Member) -> Self {
        // SAFETY: as said at the top, we are the only producer as long as `member` is ours.
        Producer { ring: unsafe { spsc::Producer::attach(lines) }, member, closes: true }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`PushError`], with the value.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(value));
        }
        match self.ring.try_push(value) {
            Ok(()) => Ok(()),
            Err(CorePush::Closed(value)) => Err(PushError::Closed(value)),
            Err(e) => Err(self.full(e.into_inner())),
        }
    }

    /// Appends as many of `values` as there is room for, and says how many: 0 if the ring is full. A reader sees a
    /// prefix of them, growing.
    ///
    /// # Errors
    /// [`PushError`] without [`Full`](PushError::Full), with nothing pushed.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<usize, PushError<()>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(()));
        }
        match self.ring.push_slice(values) {
            Ok(0) if !values.is_empty() => match self.full(()) {
                PushError::Full(()) => Ok(0),
                e => Err(e),
            },
            Ok(n) => Ok(n),
            Err(_) => Err(PushError::Closed(())),
        }
    }

    #[inline]
    fn full<V>(&mut self, value: V) -> PushError<V> {
        match self.member.death(CONSUMER) {
            None => PushError::Full(value),
            // It may have closed before it ended.
            Some(_) if self.ring.is_closed() => PushError::Closed(value),
            Some(peer) => PushError::PeerDied { peer, value },
        }
    }

    /// Whether a push would find room now: for whoever waits.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.ring.has_room()
    }

    /// Values in the ring, at most: the consumer may have taken some.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether all that was sent has been taken.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Whether the consumer has closed: nobody will read.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether the consumer lives, by proof: some microseconds. A thread always does.
    pub fn peer(&self) -> (Life, Peer) {
        (self.member.life(CONSUMER), self.member.peer(CONSUMER))
    }

    /// Gives the end up without closing it, as a death would: for a successor, who goes on here. Until one comes the
    /// consumer finds this end dead.
    pub fn leave(mut self) {
        self.closes = false;
    }

    /// The segment that the ring is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

impl<T: Shareable> Consumer<T> {
    /// The consumer of the ring called `name`, which is made if there is none.
    ///
    /// # Errors
    /// As for [`Producer::open`].
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::open(name, &spec::<T>(capacity)?, Some(CONSUMER), &mut nothing)?, capacity)
    }

    /// The consumer of a new ring without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::NoSpace`].
    pub fn create(capacity: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec::<T>(capacity)?)?, capacity)
    }

    /// The consumer of the ring in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`Producer::open`].
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::sit(segment, &spec::<T>(capacity)?, Some(CONSUMER), &mut nothing)?, capacity)
    }

    fn sat(member: Member, capacity: usize) -> Result<Self, Error> {
        let consumer = Self::on(Lines::new(member.memory(), capacity)?, member);
        if consumer.ring.has_closed() { Err(Error::EndClosed { end: "consumer" }) } else { Ok(consumer) }
    }

    /// On a block that has no consumer yet, or in a segment whose seat 1 the member has.
    fn on(lines: Lines<T>, member: Member) -> Self {
        // SAFETY: as said at the top, we are the only consumer as long as `member` is ours.
        Consumer { ring: unsafe { spsc::Consumer::attach(lines) }, member, closes: true }
    }

    /// Takes the oldest value.
    ///
    /// # Errors
    /// [`PopError`].
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        match self.ring.try_pop() {
            Ok(value) => Ok(value),
            Err(CorePop::Drained) => Err(PopError::Drained),
            Err(_) => match self.member.death(PRODUCER) {
                None => Err(PopError::Empty),
                // What it sent before its death is visible now.
                Some(peer) => self.ring.try_pop().map_err(|e| last_word(e, peer)),
            },
        }
    }

    /// Takes as many values as are there, into the front of `into`, and says how many. Their places are given back at
    /// once, in the end.
    ///
    /// # Errors
    /// [`PopError`], if there is none.
    #[inline]
    pub fn pop_slice(&mut self, into: &mut [T]) -> Result<usize, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        match self.ring.pop_slice(into) {
            Ok(n) => Ok(n),
            Err(CorePop::Drained) => Err(PopError::Drained),
            Err(_) => match self.member.death(PRODUCER) {
                None => Err(PopError::Empty),
                Some(peer) => self.ring.pop_slice(into).map_err(|e| last_word(e, peer)),
            },
        }
    }

    /// Whether a value is there: for whoever waits.
    #[inline]
    pub fn has_next(&mut self) -> bool {
        self.ring.has_next()
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Whether the producer has closed. Values may still be there.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether the producer lives, by proof: some microseconds. A thread always does.
    pub fn peer(&self) -> (Life, Peer) {
        (self.member.life(PRODUCER), self.member.peer(PRODUCER))
    }

    /// Gives the end up without closing it, as a death would: for a successor, who goes on here. Until one comes the
    /// producer finds this end dead.
    pub fn leave(mut self) {
        self.closes = false;
    }

    /// The segment that the ring is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

/// Nothing was there even after the producer's death.
#[cold]
fn last_word(e: CorePop, peer: Peer) -> PopError {
    if e == CorePop::Drained { PopError::Drained } else { PopError::PeerDied { peer } }
}

impl<T: Shareable> Drop for Producer<T> {
    fn drop(&mut self) {
        if self.closes && self.member.is_mine() {
            self.ring.close();
        }
    }
}

impl<T: Shareable> Drop for Consumer<T> {
    fn drop(&mut self) {
        if self.closes && self.member.is_mine() {
            self.ring.close();
        }
    }
}
