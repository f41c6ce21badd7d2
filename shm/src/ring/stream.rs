//! A pipe of bytes: one writer, one reader. See [`sapwood_core::ring::stream`] for the protocol.
//!
//! Bytes whose write returned are read at least once, and at most once unless a reader dies: what it had read in its
//! last call may be read again by its successor. Of a write that died a prefix may have been sent.
//!
//! # Safety
//! As for `spsc`: seat 0 is the writer's and seat 1 the reader's, each held by one handle at a time.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::stream::Region as _;
use sapwood_core::ring::{PopError as CorePop, PushError as CorePush, stream};

use super::member::{self, Member, nothing};
use super::region::Pipe;
use super::{Figures, Life, Peer, PopError, PushError};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

const WRITER: usize = 0;
const READER: usize = 1;

/// The segment that a stream of `capacity` bytes needs: for those who make, inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a stream can have.
pub fn spec(capacity: usize) -> Result<Spec, Error> {
    let bytes = Pipe::bytes(capacity)?;
    Ok(member::spec(kind::STREAM, Figures::of::<u8>(capacity), 2, bytes))
}

/// Both ends of a stream of `capacity` bytes, for two threads.
///
/// ```
/// use sapwood_shm::ring::{PopError, PushError, stream};
///
/// let (mut tx, mut rx) = stream::pair(16)?;
/// assert_eq!(tx.write(&[b"head ", b"and tail, and more"])?, 16); // as much as there is room for
/// assert_eq!(tx.write(&[b"more"]), Err(PushError::Full(())));
/// let mut some = [0; 9];
/// assert_eq!(rx.read(&mut some)?, 9);
/// assert_eq!(&some, b"head and ");
/// drop(tx); // closes
/// assert_eq!(rx.read(&mut some)?, 7);
/// assert_eq!(rx.read(&mut some), Err(PopError::Drained));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Capacity`], [`Error::NoSpace`].
pub fn pair(capacity: usize) -> Result<(Writer, Reader), Error> {
    let pipe = Pipe::new(Memory::block("a stream", Pipe::bytes(capacity)?)?, capacity)?;
    Ok((Writer::on(pipe.clone(), Member::thread()), Reader::on(pipe, Member::thread())))
}

/// The writing end of a stream. Dropping it closes the stream: what was written can still be read.
///
/// ```
/// use sapwood_shm::ring::stream::{Reader, Writer};
///
/// // Two processes would do this, one each; the segment travels over a socket or is inherited.
/// let mut tx = Writer::create(4096)?;
/// let mut rx = Reader::attach(tx.segment().unwrap(), 4096)?;
/// tx.write(&[b"bytes"])?;
/// let mut five = [0; 5];
/// rx.read(&mut five)?;
/// assert_eq!(&five, b"bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    ring: stream::Writer<Real, Pipe>,
    member: Member,
    /// Whether dropping it closes the ring.
    closes: bool,
}

/// The reading end of a stream. Dropping it closes the stream: the writer's next write fails.
///
/// ```
/// let (tx, rx) = sapwood_shm::ring::stream::pair(64)?;
/// drop(rx);
/// assert!(tx.is_closed());
/// # Ok::<(), sapwood_shm::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    ring: stream::Reader<Real, Pipe>,
    member: Member,
    /// Whether dropping it closes the ring.
    closes: bool,
}

impl Writer {
    /// The writer of the stream called `name`, which is made if there is none.
    ///
    /// # Errors
    /// As for [`spsc::Producer::open`](super::spsc::Producer::open).
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::open(name, &spec(capacity)?, Some(WRITER), &mut nothing)?, capacity)
    }

    /// The writer of a new stream without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::NoSpace`].
    pub fn create(capacity: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec(capacity)?)?, capacity)
    }

    /// The writer of the stream in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::sit(segment, &spec(capacity)?, Some(WRITER), &mut nothing)?, capacity)
    }

    fn sat(member: Member, capacity: usize) -> Result<Self, Error> {
        let writer = Self::on(Pipe::new(member.memory(), capacity)?, member);
        if writer.ring.has_closed() { Err(Error::EndClosed { end: "writer" }) } else { Ok(writer) }
    }

    /// On a block that has no writer yet, or in a segment whose seat 0 the member has.
    fn on(pipe: Pipe, member: Member) -> Self {
        // SAFETY: as said at the top, we are the only writer as long as `member` is ours.
        Writer { ring: unsafe { stream::Writer::attach(pipe) }, member, closes: true }
    }

    /// Writes as much of `parts`, one after the other, as there is room for, and says how many bytes.
    ///
    /// # Errors
    /// [`PushError`], if nothing was written.
    #[inline]
    pub fn write(&mut self, parts: &[&[u8]]) -> Result<usize, PushError<()>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(()));
        }
        match self.ring.write(parts) {
            Ok(bytes) => Ok(bytes),
            Err(CorePush::Closed(())) => Err(PushError::Closed(())),
            Err(_) => match self.member.death(READER) {
                None => Err(PushError::Full(())),
                // It may have closed before it ended.
                Some(_) if self.ring.is_closed() => Err(PushError::Closed(())),
                Some(peer) => Err(PushError::PeerDied { peer, value: () }),
            },
        }
    }

    /// Bytes that could be written now: for whoever waits.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.ring.look()
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.ring.region().capacity()
    }

    /// Whether the reader has closed: nobody will read.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether the reader lives, by proof: some microseconds. A thread always does.
    pub fn peer(&self) -> (Life, Peer) {
        (self.member.life(READER), self.member.peer(READER))
    }

    /// Gives the end up without closing it, as a death would: for a successor, who goes on here. Until one comes the
    /// reader finds this end dead.
    pub fn leave(mut self) {
        self.closes = false;
    }

    /// The segment that the stream is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

impl Reader {
    /// The reader of the stream called `name`, which is made if there is none.
    ///
    /// # Errors
    /// As for [`Writer::open`].
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::open(name, &spec(capacity)?, Some(READER), &mut nothing)?, capacity)
    }

    /// The reader of a new stream without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::NoSpace`].
    pub fn create(capacity: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec(capacity)?)?, capacity)
    }

    /// The reader of the stream in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`Writer::open`].
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Self::sat(Member::sit(segment, &spec(capacity)?, Some(READER), &mut nothing)?, capacity)
    }

    fn sat(member: Member, capacity: usize) -> Result<Self, Error> {
        let reader = Self::on(Pipe::new(member.memory(), capacity)?, member);
        if reader.ring.has_closed() { Err(Error::EndClosed { end: "reader" }) } else { Ok(reader) }
    }

    /// On a block that has no reader yet, or in a segment whose seat 1 the member has.
    fn on(pipe: Pipe, member: Member) -> Self {
        // SAFETY: as said at the top, we are the only reader as long as `member` is ours.
        Reader { ring: unsafe { stream::Reader::attach(pipe) }, member, closes: true }
    }

    /// Reads as many bytes as are there, into the front of `into`, and says how many.
    ///
    /// # Errors
    /// [`PopError`], if there is none.
    #[inline]
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        match self.ring.read(into) {
            Ok(bytes) => Ok(bytes),
            Err(CorePop::Drained) => Err(PopError::Drained),
            Err(_) => match self.member.death(WRITER) {
                None => Err(PopError::Empty),
                // What it wrote before its death is visible now.
                Some(peer) => self.ring.read(into).map_err(|e| match e {
                    CorePop::Drained => PopError::Drained,
                    _ => PopError::PeerDied { peer },
                }),
            },
        }
    }

    /// Bytes that could be read now: for whoever waits.
    #[inline]
    pub fn available(&mut self) -> usize {
        self.ring.look()
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.ring.region().capacity()
    }

    /// Whether the writer has closed. Bytes may still be there.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Whether the writer lives, by proof: some microseconds. A thread always does.
    pub fn peer(&self) -> (Life, Peer) {
        (self.member.life(WRITER), self.member.peer(WRITER))
    }

    /// Gives the end up without closing it, as a death would: for a successor, who goes on here. Until one comes the
    /// writer finds this end dead.
    pub fn leave(mut self) {
        self.closes = false;
    }

    /// The segment that the stream is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.closes && self.member.is_mine() {
            self.ring.close();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.closes && self.member.is_mine() {
            self.ring.close();
        }
    }
}
