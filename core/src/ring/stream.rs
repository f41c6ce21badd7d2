//! A pipe of bytes: one writer, one reader, in shared memory.
//!
//! Byte b of the endless stream lies at b modulo the capacity. Positions count bytes and wrap at 2^64; both sides keep
//! their own position and what they have last seen of the other's in private memory.
//!
//! | word         | written by | how     | read by | how     | meaning                                     |
//! |--------------|------------|---------|---------|---------|---------------------------------------------|
//! | written      | writer     | Release | reader  | Acquire | the bytes before it are there               |
//! | read         | reader     | Release | writer  | Acquire | the bytes before it have been copied out    |
//! | writer's end | writer     | Release | reader  | Acquire | nothing follows                             |
//! | reader's end | reader     | Release | writer  | Acquire | nobody will read                            |
//!
//! StreamPublish pairs with StreamLook, StreamFree with StreamLookFree, StreamEnd with StreamLookEnd. Long copies are
//! published piece by piece, so that the other side's copying overlaps with ours.
//!
//! | who dies                          | what is left                 | what a successor does                   |
//! |-----------------------------------|------------------------------|-----------------------------------------|
//! | writer, before it publishes       | bytes that nobody will see   | overwrites them                         |
//! | writer, after it                  | bytes that were sent         | goes on behind them                     |
//! | reader, before it gives room back | bytes that it may have used  | reads them again                        |
//!
//! What a cut in the middle of a message means is for those to say who speak over the pipe.
//!
//! Bad words: more bytes than there can be count as none, more room than there is as none.
//!
//! # Safety
//! Bytes are written between `read` and `written` and read between `written` and `read`, by one thread each: that there
//! is one writer and one reader is what the caller of `attach` promises.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::{CapacityError, PopError, PushError, check};
use crate::mem::{Atom, Bug, Mem, Ordering, Real, Site};

/// Bytes after which a long copy is published: enough to make the price of a line's way small, little enough that both
/// sides work at the same time.
const PIECE: usize = 32 << 10;

/// The capacity in bytes, checked.
///
/// # Errors
/// [`CapacityError`], unless it is a power of two that a ring can have.
pub fn capacity(bytes: usize) -> Result<usize, CapacityError> {
    check(bytes, 1)
}

/// The words beside the bytes. Zeroed memory is an empty, open pipe.
#[repr(C)]
pub struct Ends<M: Mem> {
    written: CachePadded<M::U64>,
    read: CachePadded<M::U64>,
    /// Whether the writer and the reader have closed. Hardly ever written.
    closed: CachePadded<[M::U32; 2]>,
}

const WRITER: usize = 0;
const READER: usize = 1;

impl<M: Mem> Ends<M> {
    /// The words of an empty pipe whose first byte is `start`.
    pub fn new(start: u64) -> Self {
        let word = || CachePadded::new(M::U64::new(start));
        let closed = CachePadded::new([M::U32::new(0), M::U32::new(0)]);
        Ends { written: word(), read: word(), closed }
    }
}

impl<M: Mem> fmt::Debug for Ends<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, read) = (self.written.load(Ordering::Relaxed), self.read.load(Ordering::Relaxed));
        let closed = [0, 1].map(|end| self.closed[end].load(Ordering::Relaxed) != 0);
        f.debug_struct("Ends")
            .field("written", &written)
            .field("read", &read)
            .field("closed", &closed)
            .finish()
    }
}

/// Lends the memory of a pipe.
///
/// # Safety
/// Every clone lends the same words and bytes for as long as it lives; a position is taken modulo the capacity, which
/// comes from private memory; `put` and `get` touch just the bytes that they are asked for.
pub unsafe trait Region<M: Mem>: Clone {
    /// The words beside the bytes.
    fn ends(&self) -> &Ends<M>;
    /// Bytes that fit: a power of two.
    fn capacity(&self) -> usize;
    /// Writes bytes from position `at` on; `bytes` is no longer than the capacity.
    ///
    /// # Safety
    /// Nobody else touches these bytes meanwhile.
    unsafe fn put(&self, at: u64, bytes: &[u8]);
    /// Reads bytes from position `at` on; `into` is no longer than the capacity.
    ///
    /// # Safety
    /// Nobody writes these bytes meanwhile.
    unsafe fn get(&self, at: u64, into: &mut [u8]);
}

/// The writing end.
pub struct Writer<M: Mem, R: Region<M>> {
    region: R,
    written: u64,
    /// As last seen.
    read: u64,
    _family: PhantomData<fn() -> M>,
}

/// The reading end.
pub struct Reader<M: Mem, R: Region<M>> {
    region: R,
    read: u64,
    /// As last seen.
    written: u64,
    _family: PhantomData<fn() -> M>,
}

impl<M: Mem, R: Region<M>> fmt::Debug for Writer<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("written", &self.written).field("ends", self.region.ends()).finish()
    }
}

impl<M: Mem, R: Region<M>> fmt::Debug for Reader<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("read", &self.read).field("ends", self.region.ends()).finish()
    }
}

impl<M: Mem, R: Region<M>> Writer<M, R> {
    /// The writing end of a pipe that is new, or whose last writer is gone.
    ///
    /// # Safety
    /// Nobody else writes, and everything that a former writer did happened before.
    pub unsafe fn attach(region: R) -> Self {
        let written = region.ends().written.load(Ordering::Relaxed);
        let read = region.ends().read.load(M::at(Site::StreamLookFree, Ordering::Acquire));
        Writer { region, written, read, _family: PhantomData }
    }

    /// Bytes that can be written now.
    #[inline]
    pub fn room(&mut self) -> usize {
        let room = self.room_known();
        if room > 0 { room } else { self.look() }
    }

    fn room_known(&self) -> usize {
        // A word that makes no sense gives no room.
        (self.region.capacity() as u64).saturating_sub(self.written.wrapping_sub(self.read)) as usize
    }

    /// Bytes that can be written, looked at anew.
    #[inline]
    pub fn look(&mut self) -> usize {
        // Pairs with StreamFree.
        self.read = self.region.ends().read.load(M::at(Site::StreamLookFree, Ordering::Acquire));
        self.room_known()
    }

    /// Writes as much of `parts`, one after the other, as there is room for; says how many bytes.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room at all, [`PushError::Closed`] if nobody will read.
    #[inline]
    pub fn write(&mut self, parts: &[&[u8]]) -> Result<usize, PushError<()>> {
        if self.is_closed() {
            return Err(PushError::Closed(()));
        }
        let all = parts.iter().map(|p| p.len()).sum::<usize>();
        let mut room = self.room_known();
        if room < all {
            room = self.look();
        }
        if room == 0 && all > 0 {
            return Err(PushError::Full(()));
        }
        let (mut at, mut left) = (self.written, room.min(all));
        for part in parts {
            let mut part = &part[..part.len().min(left)];
            left -= part.len();
            while !part.is_empty() {
                let unpublished = at.wrapping_sub(self.written) as usize;
                let (now, later) = part.split_at(part.len().min(PIECE - unpublished));
                let next = at.wrapping_add(now.len() as u64);
                if M::broken(Bug::StreamPublishFirst) {
                    self.publish(next);
                }
                // SAFETY: these bytes are room: the reader has passed them a lap ago, seen with Acquire, and does not
                // look at them before `written` says so. We are the only writer.
                unsafe { self.region.put(at, now) };
                at = next;
                if unpublished + now.len() == PIECE {
                    self.publish(at);
                }
                part = later;
            }
        }
        let done = room.min(all);
        if at != self.written {
            self.publish(at);
        }
        Ok(done)
    }

    #[inline(always)]
    fn publish(&mut self, to: u64) {
        // Pairs with StreamLook.
        self.region.ends().written.store(to, M::at(Site::StreamPublish, Ordering::Release));
        self.written = to;
    }

    /// Whether the reader has closed: nobody will read.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.region.ends().closed[READER].load(M::at(Site::StreamLookEnd, Ordering::Acquire)) != 0
    }

    /// Says that nothing follows. What was written can still be read.
    pub fn close(&mut self) {
        // Pairs with StreamLookEnd of the reader.
        self.region.ends().closed[WRITER].store(1, M::at(Site::StreamEnd, Ordering::Release));
    }

    /// Whether this end has closed, or a former writer.
    pub fn has_closed(&self) -> bool {
        self.region.ends().closed[WRITER].load(Ordering::Relaxed) != 0
    }

    /// Whether all that was written has been read.
    pub fn is_empty(&mut self) -> bool {
        self.look() == self.region.capacity()
    }

    /// The memory.
    pub fn region(&self) -> &R {
        &self.region
    }
}

impl<M: Mem, R: Region<M>> Reader<M, R> {
    /// The reading end of a pipe that is new, or whose last reader is gone.
    ///
    /// # Safety
    /// Nobody else reads, and everything that a former reader did happened before.
    pub unsafe fn attach(region: R) -> Self {
        let read = region.ends().read.load(Ordering::Relaxed);
        let written = region.ends().written.load(M::at(Site::StreamLook, Ordering::Acquire));
        Reader { region, read, written, _family: PhantomData }
    }

    fn available_known(&self) -> usize {
        let bytes = self.written.wrapping_sub(self.read);
        // A word that makes no sense says nothing.
        if bytes > self.region.capacity() as u64 { 0 } else { bytes as usize }
    }

    /// Bytes that can be read now.
    #[inline]
    pub fn available(&mut self) -> usize {
        let known = self.available_known();
        if known > 0 { known } else { self.look() }
    }

    /// Bytes that can be read, looked at anew.
    #[inline]
    pub fn look(&mut self) -> usize {
        // Pairs with StreamPublish.
        self.written = self.region.ends().written.load(M::at(Site::StreamLook, Ordering::Acquire));
        self.available_known()
    }

    /// Reads as many bytes as are there, into the front of `into`, and says how many.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is none, [`PopError::Drained`] if none will come.
    #[inline]
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, PopError> {
        let mut have = self.available_known();
        if have < into.len() {
            have = self.look();
            if have == 0 && !into.is_empty() {
                have = self.look_again()?;
            }
        }
        let all = have.min(into.len());
        for piece in into[..all].chunks_mut(PIECE) {
            // SAFETY: the bytes are there, seen with Acquire, and the writer does not touch them before `read` has
            // passed them. We are the only reader.
            unsafe { self.region.get(self.read, piece) };
            self.read = self.read.wrapping_add(piece.len() as u64);
            // Pairs with StreamLookFree.
            self.region.ends().read.store(self.read, M::at(Site::StreamFree, Ordering::Release));
        }
        Ok(all)
    }

    /// Nothing was there: is that for good?
    #[cold]
    fn look_again(&mut self) -> Result<usize, PopError> {
        if !self.is_closed() {
            return Err(PopError::Empty);
        }
        // Whatever was written before the end is visible now.
        let have = if M::broken(Bug::StreamNoSecondLook) { 0 } else { self.look() };
        if have > 0 { Ok(have) } else { Err(PopError::Drained) }
    }

    /// Whether the writer has closed. Bytes may still be there.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.region.ends().closed[WRITER].load(M::at(Site::StreamLookEnd, Ordering::Acquire)) != 0
    }

    /// Whether this end has closed, or a former reader.
    pub fn has_closed(&self) -> bool {
        self.region.ends().closed[READER].load(Ordering::Relaxed) != 0
    }

    /// Says that nobody will read any more: the writer's next write fails.
    pub fn close(&mut self) {
        // Pairs with StreamLookEnd of the writer.
        self.region.ends().closed[READER].store(1, M::at(Site::StreamEnd, Ordering::Release));
    }

    /// The memory.
    pub fn region(&self) -> &R {
        &self.region
    }
}

static_assertions::const_assert_eq!(size_of::<Ends<Real>>(), 384);
