//! Frames: bytes that are made where they are read. A frame is lent, filled, sent and received without a copy; whoever
//! dies on the way, no frame is lost and none has two holders. See [`sapwood_core::blocks`] for the protocol.
//!
//! A frame whose send returned is received by one participant, unless that one dies before its receive returns: then
//! it is an *orphan*, which one of the others receives. A frame that was received and not given back by one that died
//! is free again, once somebody finds no other or takes the dead one's seat.
//!
//! Who finds an orphan holds its frame and keeps the message in private memory until a receive returns it or it is sent
//! again. If that one dies meanwhile, or drops its handle when the ring is closed, the frame is free again and the
//! message is gone: a message is lost only so. Where frames are delivered again (by choice of a channel's maker) it is
//! not: the block says what it holds until it is given back, so whoever finds it with the dead, or left behind, has the
//! message.
//!
//! # Safety
//! The protocol asks what `mpmc` asks of names, that one ring carries one arena's messages (both lie in one memory),
//! and that a newcomer recovers its seat before anything else, with one handle for all its predecessors: `enter` does.
//! The bytes of a block are its holder's alone: a loan and a message have the block, and hand it over when they are
//! sent or dropped. Bytes are always initialised.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sapwood_core::blocks::{self, Block, Blocks, DescriptorError, Immortal, Raw, Shape};
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc::Handle;

use super::member::{self, Member, Recover};
use super::mpmc::Ground;
use super::region::{Arena, Slots};
use super::{Figures, Peer, PopError, PushError};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

mod others;

pub use others::Stats;

use others::Others;

/// The most participants: each has a bit in a frame's word.
pub const PARTICIPANTS: usize = blocks::SEATS as usize;

type Inner = Blocks<Real, Arena, Slots<Raw>>;

/// Why no frame was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoanError {
    /// All frames are held by the living, or on their way.
    #[error("no frame is free: all {frames} of {bytes} bytes are held or on their way")]
    Exhausted {
        /// How many there are.
        frames: u32,
        /// How many bytes each has.
        bytes: usize,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a ring")]
    Forked,
}

/// Why no frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing is there, or not yet.
    #[error(transparent)]
    Ring(#[from] PopError),
    /// A message names a frame that it can't have: a bad peer has sent it. It is gone.
    #[error("{0}")]
    Bad(DescriptorError),
}

/// The segment that `frames` frames of `bytes` bytes for `participants` handles need: for those who make, inherit or
/// receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless the number of frames is a power of two that a ring can have; [`Error::Frames`];
/// [`Error::Participants`].
pub fn spec(frames: usize, bytes: usize, participants: usize) -> Result<Spec, Error> {
    Plan::bare(frames, bytes).spec(participants)
}

/// Frames by themselves.
const BARE: Ground = Ground { kind: kind::FRAMES, front: 0 };

/// What all participants say alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) ground: Ground,
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    /// A frame whose reader died before it had given it back is delivered again.
    pub(crate) redelivers: bool,
}

impl Plan {
    fn bare(frames: usize, bytes: usize) -> Plan {
        Plan { ground: BARE, frames, bytes, redelivers: false }
    }

    pub(crate) fn spec(self, participants: usize) -> Result<Spec, Error> {
        if !(1..=PARTICIPANTS).contains(&participants) {
            return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
        }
        let Plan { ground, frames, redelivers, .. } = self;
        let (shape, ring) = self.shape()?;
        let size = shape.bytes() as u64;
        let figures = Figures { size, align: 64, redelivers, ..Figures::of::<u8>(frames) };
        let body = (ground.front + ring) as u64 + Arena::bytes(shape);
        Ok(member::spec(ground.kind, figures, participants, body))
    }

    /// The shape of the arena, and where it begins behind the ring.
    fn shape(self) -> Result<(Shape, usize), Error> {
        let ring = Slots::<Raw>::bytes(self.frames)?;
        // Frames are whole cache lines.
        let most = Figures::MOST_BYTES & !63;
        if self.bytes > most {
            return Err(blocks::ShapeError::TooLarge { asked: self.bytes, most }.into());
        }
        let shape = Shape::of(self.frames, self.bytes)?;
        Ok((if self.redelivers { shape.redelivering()? } else { shape }, ring as usize))
    }
}

/// The handles of `frames` frames of `bytes` bytes, one for each of `participants` threads.
///
/// ```
/// use sapwood_shm::ring::frames;
///
/// let mut handles = frames::threads(8, 1 << 20, 2)?;
/// let (mut reader, mut writer) = (handles.pop().unwrap(), handles.pop().unwrap());
/// let mut frame = writer.loan()?;
/// frame[..5].copy_from_slice(b"bytes");
/// frame.send(5).map_err(|e| e.map(drop))?;
/// assert_eq!(&reader.receive()?[..], b"bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As for [`spec`], and [`Error::NoSpace`].
pub fn threads(frames: usize, bytes: usize, participants: usize) -> Result<Vec<Frames>, Error> {
    let plan = Plan::bare(frames, bytes);
    let body = plan.spec(participants)?.body;
    let memory = Memory::block("frames", body)?;
    let handle = |seat| {
        let inner = inner(plan, &memory, Owner::new(seat, 1))?;
        Ok(Frames { inner, others: Others::new(0, None), member: Member::thread(), _memory: memory.clone() })
    };
    (0..participants as u32).map(handle).collect()
}

/// The handle of a name that nobody else has, and whose seat, if it had holders before, is recovered with it first.
fn inner(plan: Plan, memory: &Memory, me: Owner) -> Result<Inner, Error> {
    let ((shape, ring), ground) = (plan.shape()?, plan.ground);
    let slots = Slots::new(memory.part(ground.front, ring), plan.frames)?;
    let arena = Arena::new(memory.part(ground.front + ring, Arena::bytes(shape) as usize), shape);
    // SAFETY: see the top.
    let attached = unsafe { Blocks::attach(arena, Handle::attach(slots, me)) };
    attached.map_err(|e| Error::NoSuchSeat { seat: e.seat as usize, seats: PARTICIPANTS })
}

/// One participant's handle, which can lend, send and receive. Dropping it gives its seat up.
///
/// ```
/// use sapwood_shm::ring::frames::Frames;
///
/// // Each in a process of its own; up to 4 of them, with 16 frames of 1 MiB.
/// # let name = &format!("doc-frames-{}", std::process::id());
/// let mut writer = Frames::open(name, 16, 1 << 20, 4)?;
/// let mut reader = Frames::open(name, 16, 1 << 20, 4)?;
/// let mut frame = writer.loan()?;
/// frame.fill(7);
/// frame.send(1 << 20).map_err(|e| e.map(drop))?;
/// let received = reader.receive()?;
/// assert!(received.len() == 1 << 20 && received.iter().all(|byte| *byte == 7));
/// # drop(received);
/// # reader.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Frames {
    inner: Inner,
    others: Others,
    member: Member,
    _memory: Memory,
}

impl Frames {
    /// A participant of the frames called `name`, whose memory is made if there is none.
    ///
    /// # Errors
    /// As for [`mpmc::Ring::open`](super::mpmc::Ring::open), and [`Error::Frames`].
    pub fn open(name: &str, frames: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        Self::open_on(Plan::bare(frames, bytes), name, participants)
    }

    /// A participant of new frames without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// As for [`spec`], and [`Error::NoSpace`].
    pub fn create(frames: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        Self::create_on(Plan::bare(frames, bytes), participants)
    }

    /// A participant of the frames in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, frames: usize, bytes: usize) -> Result<Self, Error> {
        Self::attach_on(Plan::bare(frames, bytes), segment)
    }

    pub(crate) fn open_on(plan: Plan, name: &str, participants: usize) -> Result<Self, Error> {
        let spec = plan.spec(participants)?;
        Self::enter(plan, participants, |recover| Member::open(name, &spec, None, recover))
    }

    pub(crate) fn create_on(plan: Plan, participants: usize) -> Result<Self, Error> {
        Self::attach_on(plan, &member::create(&plan.spec(participants)?)?)
    }

    pub(crate) fn attach_on(plan: Plan, segment: &Arc<Segment>) -> Result<Self, Error> {
        let seats = segment.spec().seats;
        let spec = plan.spec(seats)?;
        Self::enter(plan, seats, |recover| Member::sit(segment, &spec, None, recover))
    }

    fn enter(
        plan: Plan,
        seats: usize,
        sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>,
    ) -> Result<Self, Error> {
        let again = plan.redelivers.then_some(plan.frames);
        let (mut others, mut handle) = (Others::new(seats, again), None);
        let member = sit(&mut |segment, me, dead| {
            let (seat, name) = (me.number(), member::name(me));
            others.me = seat;
            // SAFETY: the segment stays mapped to the end of this call. The handle outlives it, and may be used by the
            // next call and in the end: all calls are about one segment, because whoever has been called once is not
            // led to another one (see `Sit` in `named.rs`; `sit` of a segment that was handed on has only that one),
            // and that one is the member's, who keeps it mapped. If there is no member the handle is dropped, which
            // touches no memory.
            let memory = unsafe { Memory::lent(segment) };
            let new = || inner(plan, &memory, name);
            let handle: &mut Inner = match &mut handle {
                Some(handle) => handle,
                none => none.insert(new()?),
            };
            let recovered = handle.recover(Owner::new(seat as u32, dead), &mut others);
            others.recovered(recovered);
            Ok(())
        })?;
        others.segment = member.segment().cloned();
        others.me = member.owner().seat() as usize;
        let memory = member.memory();
        let inner = handle.map_or_else(|| inner(plan, &memory, member.owner()), Ok)?;
        let mut frames = Frames { inner, others, member, _memory: memory };
        // A participant that only sends would keep from the others what its predecessor was receiving.
        frames.send_orphans();
        Ok(frames)
    }

    /// Lends a frame. What its bytes hold is not said.
    ///
    /// # Errors
    /// [`LoanError`].
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_>, LoanError> {
        let block = self.lend()?;
        Ok(self.lent(block))
    }

    /// A block for [`lent`](Self::lent).
    #[inline]
    pub(crate) fn lend(&mut self) -> Result<Block, LoanError> {
        if !self.member.is_mine() {
            return Err(LoanError::Forked);
        }
        if !self.others.orphans.is_empty() {
            self.send_orphans();
        }
        let lent = match self.inner.loan() {
            Ok(block) => Ok(block),
            Err(_) => {
                self.free_the_dead();
                self.inner.loan()
            }
        };
        lent.map_err(|e| LoanError::Exhausted { frames: e.blocks, bytes: e.bytes })
    }

    /// A block that was lent by this handle.
    #[inline]
    pub(crate) fn lent(&mut self, block: Block) -> Loan<'_> {
        Loan { block: Some(block), frames: self }
    }

    /// Receives the oldest frame.
    ///
    /// # Errors
    /// [`ReceiveError`].
    #[inline]
    pub fn receive(&mut self) -> Result<Message<'_>, ReceiveError> {
        let message = self.take()?;
        Ok(self.received(message))
    }

    /// A message for [`received`](Self::received).
    #[inline]
    pub(crate) fn take(&mut self) -> Result<blocks::Message, ReceiveError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked.into());
        }
        match self.orphan() {
            Some(orphan) => Ok(orphan),
            None => self.receive_new(),
        }
    }

    /// A message that was received by this handle.
    #[inline]
    pub(crate) fn received(&mut self, message: blocks::Message) -> Message<'_> {
        let blocks::Message { block, len, sender } = message;
        Message { block: Some(block), len, sender: sender as usize, frames: self }
    }

    fn orphan(&mut self) -> Option<blocks::Message> {
        let orphan = self.others.orphans.pop();
        self.others.stats.redelivered += u64::from(orphan.is_some());
        orphan
    }

    /// Whether a receive would find a message; else what it would say. `at_once`: asks the kernel about whoever is in
    /// the way.
    pub(crate) fn has_message(&mut self, at_once: bool) -> Result<(), PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        self.others.at_once = at_once;
        let said = self.inner.has_message(&mut self.others);
        self.others.at_once = false;
        if at_once && said == Err(blocks::ReceiveError::Drained) {
            self.rescue();
        }
        match said {
            _ if !self.others.orphans.is_empty() => Ok(()),
            Ok(()) => Ok(()),
            Err(blocks::ReceiveError::Busy { owner }) => Err(PopError::Busy { holder: self.holder(owner) }),
            Err(blocks::ReceiveError::Drained) => Err(self.drained()),
            Err(_) => Err(PopError::Empty),
        }
    }

    /// Whether a frame is free. `at_once`: asks the kernel about all who hold one.
    pub(crate) fn has_free(&mut self, at_once: bool) -> bool {
        if at_once && self.member.is_mine() && !self.inner.has_free() {
            self.others.at_once = true;
            self.free_the_dead();
            self.others.at_once = false;
        }
        self.inner.has_free()
    }

    /// Orphans that this handle has and nobody else can find.
    pub(crate) fn orphans(&self) -> usize {
        self.others.orphans.len()
    }

    /// Whether somebody was found dead, or left a seat to this handle, since this was last asked.
    #[inline]
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.others.news)
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// In which seat this participant sits.
    pub fn seat(&self) -> usize {
        self.inner.me().seat() as usize
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        blocks::Region::shape(self.inner.region()).blocks() as usize
    }

    /// Frames on their way, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        self.inner.ring().len() + self.others.orphans.len()
    }

    /// Whether no frame is on its way, roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more may be sent.
    pub fn is_closed(&self) -> bool {
        self.inner.ring().is_closed()
    }

    /// What the dead had.
    pub fn stats(&self) -> Stats {
        self.others.stats
    }

    #[inline]
    fn receive_new(&mut self) -> Result<blocks::Message, ReceiveError> {
        let error = match self.inner.receive(&mut self.others) {
            Ok(message) => return Ok(message),
            Err(blocks::ReceiveError::Empty) if !self.redelivers() => return Err(PopError::Empty.into()),
            Err(e) => e,
        };
        if error == blocks::ReceiveError::Empty {
            self.rescue_if_due();
        }
        if error == blocks::ReceiveError::Drained {
            // The last word: nobody who was receiving may be dead.
            self.others.at_once = true;
            let last = self.inner.receive(&mut self.others);
            self.others.at_once = false;
            if let Ok(message) = last {
                return Ok(message);
            }
            self.rescue();
        }
        if let Some(orphan) = self.orphan() {
            return Ok(orphan);
        }
        Err(match error {
            blocks::ReceiveError::Bad(e) => ReceiveError::Bad(e),
            blocks::ReceiveError::Busy { owner } => PopError::Busy { holder: self.holder(owner) }.into(),
            blocks::ReceiveError::Drained => self.drained().into(),
            _ => PopError::Empty.into(),
        })
    }

    fn holder(&self, owner: Owner) -> Option<Peer> {
        self.peer(owner.seat() as usize)
    }

    /// Who sits in a seat that a word has named.
    fn peer(&self, seat: usize) -> Option<Peer> {
        let seats = self.others.segment.as_ref().map_or(PARTICIPANTS, |segment| segment.spec().seats);
        (seat < seats).then(|| self.member.peer(seat))
    }

    fn send(&mut self, mut block: Block, len: usize) -> Result<(), PushError<Block>> {
        // Each turn but the last buries somebody else.
        for _ in 0..=self.others.orphans.capacity() {
            match self.inner.send(block, len, &mut Immortal) {
                Ok(_) => return Ok(()),
                Err(blocks::SendError::Closed(block)) => return Err(PushError::Closed(block)),
                Err(blocks::SendError::Busy { owner, block: back }) => {
                    block = back;
                    if owner == Owner::NOBODY || !self.others.blocks_a_send(owner) {
                        return Err(PushError::Busy { holder: self.holder(owner), value: block });
                    }
                    let recovered = self.inner.recover(owner, &mut self.others);
                    self.others.recovered(recovered);
                    self.send_orphans();
                }
                Err(e) => return Err(PushError::Full(e.into_inner())),
            }
        }
        Err(PushError::Busy { holder: None, value: block })
    }

    /// Whether a frame whose reader died before it had given it back is delivered again.
    #[inline]
    pub(crate) fn redelivers(&self) -> bool {
        blocks::Region::shape(self.inner.region()).redelivers()
    }

    /// Bytes of a frame.
    pub fn bytes(&self) -> usize {
        blocks::Region::shape(self.inner.region()).bytes()
    }

    /// Says that nothing more may be sent; once all has been received, receives say [`Drained`](PopError::Drained). In
    /// a forked child it does nothing.
    pub fn close(&self) {
        if self.member.is_mine() {
            self.inner.ring().close();
        }
    }

    /// The segment that the frames are in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }

    fn give_back(&mut self, block: Option<Block>) {
        if let Some(block) = block.filter(|_| self.member.is_mine()) {
            self.inner.give_back(block);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.member.is_mine() {
            self.send_orphans();
            // Those that are to be delivered again stay in our name: left is as good as dead.
            while let Some(orphan) = self.others.orphans.pop().filter(|_| !self.redelivers()) {
                self.inner.give_back(orphan.block);
            }
        }
    }
}

/// A frame that is being filled. Dropping it gives it back.
#[derive(Debug)]
pub struct Loan<'a> {
    block: Option<Block>,
    frames: &'a mut Frames,
}

impl<'a> Loan<'a> {
    /// Sends the first `len` bytes, without a copy.
    ///
    /// # Panics
    /// If the frame has fewer.
    ///
    /// # Errors
    /// [`PushError`] without [`PeerDied`](PushError::PeerDied), with the frame.
    #[inline]
    pub fn send(self, len: usize) -> Result<(), PushError<Loan<'a>>> {
        self.send_asking(len, false)
    }

    /// The same. `at_once`: asks the kernel about whoever is in the way.
    #[inline]
    pub(crate) fn send_asking(mut self, len: usize, at_once: bool) -> Result<(), PushError<Loan<'a>>> {
        if !self.frames.member.is_mine() {
            return Err(PushError::Forked(self));
        }
        assert!(len <= self.len(), "{len} bytes of a frame of {}", self.len());
        let Some(block) = self.block.take() else { return Ok(()) };
        self.frames.others.at_once = at_once;
        let sent = self.frames.send(block, len);
        self.frames.others.at_once = false;
        match sent {
            Ok(()) => Ok(()),
            Err(e) => Err(e.map(|block| {
                self.block = Some(block);
                self
            })),
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        let Some(block) = self.block.as_ref().filter(|_| self.frames.member.is_mine()) else { return &[] };
        // SAFETY: a forked child gets none; else the block is ours until it is sent, and so are its bytes, which are
        // initialised.
        unsafe { std::slice::from_raw_parts(self.frames.inner.bytes(block).read(), self.frames.bytes()) }
    }
}

impl DerefMut for Loan<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let mine = self.frames.member.is_mine();
        let Some(block) = self.block.as_ref().filter(|_| mine) else { return &mut [] };
        // SAFETY: as for `deref`, and we are borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.frames.inner.bytes(block).write(), self.frames.bytes()) }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let block = self.block.take();
        self.frames.give_back(block);
    }
}

/// A frame that was received. Dropping it gives it back.
#[derive(Debug)]
pub struct Message<'a> {
    block: Option<Block>,
    len: usize,
    sender: usize,
    frames: &'a mut Frames,
}

impl Message<'_> {
    /// The seat that sent it, or that put it back into the ring after the death of who was receiving it.
    pub fn sender(&self) -> usize {
        self.sender
    }

    /// Gives the frame back.
    pub(crate) fn end(&mut self) {
        let block = self.block.take();
        self.frames.give_back(block);
    }

    /// Whether somebody may wait for the end of this message: the last word is not said before it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.frames.redelivers() && self.frames.is_closed()
    }
}

impl Deref for Message<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        let Some(block) = self.block.as_ref().filter(|_| self.frames.member.is_mine()) else { return &[] };
        // SAFETY: a forked child gets none; else the block is ours until we give it back, and so are its bytes, `len`
        // at least; they are initialised.
        unsafe { std::slice::from_raw_parts(self.frames.inner.bytes(block).read(), self.len) }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
