//! The newest value: one writer, any number of readers, who write nothing and take nothing away. See
//! [`sapwood_core::ring::latest`] for the protocol.
//!
//! A reader finds the value whose publishing last took effect, whole, also after the writer's death; a successor of the
//! writer goes on behind it.
//!
//! # Safety
//! The protocol asks for one writer at a time: seat 0 is held by who makes a writer, until the handle has gone, or the
//! pair of a block is handed out once. Readers need no right; their seats keep the name from being taken over.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::latest;

use super::member::{self, Member, nothing};
use super::region::Cells;
use super::{Figures, Life, Peer, PushError, Shareable};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

const WRITER: usize = 0;
/// Handles that can read at a time; clones of a reader count once.
pub const READERS: usize = 63;

/// Why a reader has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No value was published yet.
    #[error("no value was published yet")]
    Nothing,
    /// The writer published values faster than they could be copied.
    #[error("the writer overtook the reader {turns} times: the values change faster than they can be copied")]
    Overtaken {
        /// How often.
        turns: usize,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's reader")]
    Forked,
}

/// The segment that a newest value of type `T` needs: for those who make, inherit or receive it by themselves.
pub fn spec<T: Shareable>() -> Spec {
    member::spec(kind::LATEST, Figures::of::<T>(1), 1 + READERS, Cells::<T>::bytes())
}

/// The writer and a reader, which can be cloned, for threads.
///
/// ```
/// use sapwood_shm::ring::latest::{self, ReadError};
///
/// let (mut writer, reader) = latest::pair::<[f64; 3]>()?;
/// assert_eq!(reader.read(), Err(ReadError::Nothing));
/// writer.publish(&[1.0, 2.0, 3.0])?;
/// writer.publish(&[4.0, 5.0, 6.0])?;
/// let other = reader.clone();
/// let seen = std::thread::spawn(move || other.read()).join().unwrap()?;
/// assert_eq!(seen, (2, [4.0, 5.0, 6.0])); // the second value, and its number
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::NoSpace`].
pub fn pair<T: Shareable>() -> Result<(Writer<T>, Reader<T>), Error> {
    let cells = Cells::new(Memory::block("a newest value", Cells::<T>::bytes())?);
    Ok((Writer::on(cells.clone(), Member::thread()), Reader::on(cells, Member::thread())))
}

/// Publishes values.
///
/// ```
/// use sapwood_shm::ring::latest::{Reader, Writer};
///
/// // Each in a process of its own.
/// # let name = &format!("doc-latest-{}", std::process::id());
/// let mut writer = Writer::<u64>::open(name)?;
/// let reader = Reader::<u64>::open(name)?;
/// writer.publish(&7)?;
/// assert_eq!(reader.read()?, (1, 7));
/// # reader.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer<T: Shareable> {
    ring: latest::Writer<Real, T, Cells<T>>,
    member: Member,
}

/// Reads the newest value. Clones share a seat.
///
/// ```
/// let (mut writer, reader) = sapwood_shm::ring::latest::pair::<u8>()?;
/// writer.publish(&1)?;
/// let seen = reader.published();
/// writer.publish(&2)?;
/// assert!(reader.published() > seen); // worth a look
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reader<T: Shareable> {
    ring: latest::Reader<Real, T, Cells<T>>,
    member: Arc<Member>,
}

impl<T: Shareable> Writer<T> {
    /// The writer of the value called `name`, whose memory is made if there is none.
    ///
    /// # Errors
    /// [`Error::SeatTaken`] if it has a writer; [`Error::OtherRing`] if it is one of another type; [`Error::NoSpace`],
    /// and what [`Segment::enter_named`] says.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Self::sat(Member::open(name, &spec::<T>(), Some(WRITER), &mut nothing)?))
    }

    /// The writer of a new value without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub fn create() -> Result<Self, Error> {
        Self::attach(&member::create(&spec::<T>())?)
    }

    /// The writer of the value in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>) -> Result<Self, Error> {
        Ok(Self::sat(Member::sit(segment, &spec::<T>(), Some(WRITER), &mut nothing)?))
    }

    fn sat(member: Member) -> Self {
        Self::on(Cells::new(member.memory()), member)
    }

    /// On a block that has no writer yet, or in a segment whose seat 0 the member has.
    fn on(cells: Cells<T>, member: Member) -> Self {
        // SAFETY: as said at the top, we are the only writer as long as `member` is ours.
        Writer { ring: unsafe { latest::Writer::attach(cells) }, member }
    }

    /// Makes `value` the newest one, and says which number it has: they count from 1. Never waits.
    ///
    /// # Errors
    /// [`PushError::Forked`].
    #[inline]
    pub fn publish(&mut self, value: &T) -> Result<u64, PushError<()>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(()));
        }
        self.ring.publish(value);
        Ok(self.ring.published())
    }

    /// The number of the newest value; 0 if there is none.
    pub fn published(&self) -> u64 {
        self.ring.published()
    }

    /// The segment that the value is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

impl<T: Shareable> Reader<T> {
    /// A reader of the value called `name`, whose memory is made if there is none.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if it has [`READERS`] readers already, and as for [`Writer::open`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let sit = |seat| Member::open(name, &spec::<T>(), Some(seat), &mut nothing);
        Ok(Self::sat(Member::first(WRITER + 1..1 + READERS, sit)?))
    }

    /// A reader of the value in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>) -> Result<Self, Error> {
        let sit = |seat| Member::sit(segment, &spec::<T>(), Some(seat), &mut nothing);
        Ok(Self::sat(Member::first(WRITER + 1..1 + READERS, sit)?))
    }

    fn sat(member: Member) -> Self {
        Self::on(Cells::new(member.memory()), member)
    }

    fn on(cells: Cells<T>, member: Member) -> Self {
        Reader { ring: latest::Reader::attach(cells), member: Arc::new(member) }
    }

    /// The newest value and its number.
    ///
    /// # Errors
    /// [`ReadError`].
    #[inline]
    pub fn read(&self) -> Result<(u64, T), ReadError> {
        if !self.member.is_mine() {
            return Err(ReadError::Forked);
        }
        match self.ring.read() {
            Ok((0, _)) => Err(ReadError::Nothing),
            Ok(found) => Ok(found),
            Err(latest::ReadError::Overtaken { turns }) => Err(ReadError::Overtaken { turns }),
            Err(_) => Err(ReadError::Overtaken { turns: 0 }),
        }
    }

    /// The number of the newest value; 0 as long as none was published. For whoever waits for another one.
    #[inline]
    pub fn published(&self) -> u64 {
        self.ring.published()
    }

    /// Whether the writer lives, by proof: some microseconds. A thread always does.
    pub fn peer(&self) -> (Life, Peer) {
        (self.member.life(WRITER), self.member.peer(WRITER))
    }

    /// The segment that the value is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}
