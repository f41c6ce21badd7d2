//! Channels of bytes that are made where they are read, and of serde's values.
//!
//! ```text
//!    0  bells       256 B    not empty | not full: as in front of a channel of values
//!  256  frames               a ring of descriptors, headers, bytes: see `ring::region`
//! ```
//! Who waits for a frame to fill sleeps at "not full", and is rung by whoever gives one back; who waits for one to read
//! sleeps at "not empty". What a death leaves and who repairs it stands in `sapwood_core::blocks` and
//! `sapwood_core::ring::bells`.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::Deadline;
use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;
use sapwood_core::wait::WaitPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bells::{self, Farewell, InSegment, Where};
use super::calls::{Over, Wait};
use super::carry::{Told, Way};
use super::error::Gone;
use super::ready::{Ready, bell};
use super::shared::{alone, deaths_since};
use super::waits::{News, told};
use super::{DEADLINE, FrameChannelBuilder, RecvError, SendError, State, Stats};
use crate::codec::{self, DecodeError};
use crate::error::Error;
use crate::layout::kind;
use crate::ring::frames::{self, Frames, Loan, LoanError, Message, PARTICIPANTS, Plan, ReceiveError};
use crate::ring::mpmc::Ground;
use crate::ring::{PopError, PushError};
use crate::segment::{Segment, Spec};
use crate::wait::Patience;

pub(super) const GROUND: Ground = Ground { kind: kind::FRAME_CHANNEL, front: bells::BYTES };

/// The segment that a channel of `frames` frames of `bytes` bytes for `participants` handles needs: for those who make,
/// inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless the number of frames is a power of two that a ring can have; [`Error::Frames`];
/// [`Error::Participants`].
pub fn frame_spec(frames: usize, bytes: usize, participants: usize) -> Result<Spec, Error> {
    FrameChannel::builder(frames, bytes).participants(participants).spec()
}

/// Why a value was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendValueError {
    /// No frame could be had, or it could not be sent.
    #[error(transparent)]
    Channel(#[from] SendError<()>),
    /// The value takes more bytes than a frame has.
    #[error("the value takes more than the {bytes} bytes of a frame")]
    TooLong {
        /// Bytes of a frame.
        bytes: usize,
    },
    /// The value can't be encoded.
    #[error("the value can't be encoded: {0}")]
    Encode(postcard::Error),
}

/// Why no value was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvValueError {
    /// No frame came.
    #[error(transparent)]
    Channel(#[from] RecvError),
    /// A frame came whose bytes are no such value: it is gone.
    #[error("what seat {sender} has sent is no such value: {source}")]
    Decode {
        /// Bytes of the message.
        len: usize,
        /// Who has sent it.
        sender: usize,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// A frame came with such a value and more: sender and receiver mean different types. It is gone.
    #[error("the value takes {used} of the {len} bytes that seat {sender} has sent: it is of another type")]
    Trailing {
        /// Bytes of the value.
        used: usize,
        /// Bytes of the message.
        len: usize,
        /// Who has sent it.
        sender: usize,
    },
}

/// A handle of a channel of frames, which can lend, send and receive.
///
/// A frame is lent, filled, sent and read without a copy: [`loan`](Self::loan), [`Frame::send`], [`recv`](Self::recv).
/// Values of serde's are encoded into a frame and decoded out of it: [`send_value`](Self::send_value),
/// [`recv_value`](Self::recv_value). Everything is in shared memory, between threads as between processes.
///
/// | who dies                               | what becomes of the frame             | counted as         |
/// |----------------------------------------|---------------------------------------|--------------------|
/// | who fills it, before it was sent       | it is free again                      |                    |
/// | who has sent it                        | it is received                        |                    |
/// | a receiver, before its receive returns | another one receives it, out of order | `redelivered`      |
/// | a receiver that has it                 | free again: it may have been acted on | `lost_with_reader` |
/// | the same, by choice of who makes it    | another one receives it, out of order | `redelivered`      |
///
/// The choice is [`FrameChannelBuilder::redelivering`].
///
/// ```
/// use sapwood_shm::channel::FrameChannel;
///
/// let mut a = FrameChannel::new(4, 1 << 20)?;
/// let mut b = a.try_clone()?;
/// let mut frame = a.loan()?;
/// frame[..5].copy_from_slice(b"bytes");
/// frame.send(5).map_err(|e| e.map(drop))?;
/// assert_eq!(&b.recv()?[..], b"bytes");
///
/// b.send_value(&("a value", vec![1, 2, 3]))?;
/// let value: (String, Vec<i32>) = a.recv_value()?;
/// assert_eq!(value, ("a value".to_owned(), vec![1, 2, 3]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FrameChannel {
    frames: Frames,
    bells: InSegment,
    told: [u64; 2],
    looked: u64,
    /// What a wait beside others has learnt.
    news: News,
    /// The bytes of the value that was received last; kept, so that the next one need not allocate.
    copy: Vec<u8>,
    patience: Patience,
    limit: Duration,
    /// After the frames, whose seat goes first.
    _farewell: Farewell,
}

impl FrameChannel {
    /// A new channel without a name: for threads, or for processes that its [`segment`](Self::segment) is handed to.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn new(frames: usize, bytes: usize) -> Result<Self, Error> {
        Self::create(frames, bytes, PARTICIPANTS)
    }

    /// A handle of the channel called `name`, of `frames` frames of `bytes` bytes for up to `participants` handles,
    /// which is made if there is none.
    ///
    /// # Errors
    /// As for [`Channel::open`](super::Channel::open), and [`Error::Frames`].
    pub fn open(name: &str, frames: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        Self::builder(frames, bytes).participants(participants).open(name)
    }

    /// A handle of a new channel without a name, in a [`segment`](Self::segment) to be inherited or sent.
    ///
    /// # Errors
    /// As for [`frame_spec`], and [`Error::NoSpace`].
    pub fn create(frames: usize, bytes: usize, participants: usize) -> Result<Self, Error> {
        Self::builder(frames, bytes).participants(participants).create()
    }

    /// A handle of the channel in a segment that was made with [`frame_spec`], inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, frames: usize, bytes: usize) -> Result<Self, Error> {
        Self::builder(frames, bytes).attach(segment)
    }

    /// How a channel of `frames` frames of `bytes` bytes is made where more is to be chosen.
    pub fn builder(frames: usize, bytes: usize) -> FrameChannelBuilder {
        FrameChannelBuilder::new(frames, bytes)
    }

    pub(super) fn open_as(plan: Plan, name: &str, participants: usize) -> Result<Self, Error> {
        Ok(Self::on(Frames::open_on(plan, name, participants)?))
    }

    pub(super) fn create_as(plan: Plan, participants: usize) -> Result<Self, Error> {
        Ok(Self::on(Frames::create_on(plan, participants)?))
    }

    pub(super) fn attach_as(plan: Plan, segment: &Arc<Segment>) -> Result<Self, Error> {
        Ok(Self::on(Frames::attach_on(plan, segment)?))
    }

    fn on(frames: Frames) -> Self {
        let bells = InSegment::new(frames.member().memory());
        let farewell = Farewell::new(Where::Processes(bells.clone()));
        let (patience, told, looked) = (Patience::default(), [0; 2], 0);
        let mut channel = FrameChannel {
            frames,
            bells,
            told,
            looked,
            news: [None; 2],
            copy: Vec::new(),
            patience,
            limit: DEADLINE,
            _farewell: farewell,
        };
        channel.hear();
        channel
    }

    /// Another handle of the same channel in this process, in another seat.
    ///
    /// # Errors
    /// [`Error::NoSeat`], and what else [`attach`](Self::attach) says.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let (frames, bytes, redelivers) = (self.capacity(), self.bytes(), self.frames.redelivers());
        let twin = Self::attach_as(Plan { ground: GROUND, frames, bytes, redelivers }, self.segment())?;
        Ok(twin.with_deadline(self.limit).with_waiting(self.patience.policy()))
    }

    /// How long this handle's calls wait (default: [`DEADLINE`]).
    pub fn with_deadline(self, limit: Duration) -> Self {
        FrameChannel { limit, ..self }
    }

    /// How this handle waits.
    pub fn with_waiting(self, policy: WaitPolicy) -> Self {
        FrameChannel { patience: Patience::new(policy), ..self }
    }

    /// Lends a frame to fill, and waits for one until the handle's deadline. What its bytes hold is not said.
    ///
    /// # Errors
    /// [`SendError`] without [`Full`](SendError::Full).
    #[inline]
    pub fn loan(&mut self) -> Result<Frame<'_>, SendError<()>> {
        self.loan_timeout(self.limit)
    }

    /// Lends a frame, and waits for one as long as `limit`.
    ///
    /// # Errors
    /// As for [`loan`](Self::loan).
    #[inline]
    pub fn loan_timeout(&mut self, limit: Duration) -> Result<Frame<'_>, SendError<()>> {
        self.loan_until(limit, Some(&mut Wait::until(Deadline::after(limit))))
    }

    /// Lends a frame if one is free.
    ///
    /// # Errors
    /// [`SendError`] without [`TimedOut`](SendError::TimedOut); [`Alone`](SendError::Alone) only where a wait beside
    /// others has learnt it.
    #[inline]
    pub fn try_loan(&mut self) -> Result<Frame<'_>, SendError<()>> {
        self.loan_until(Duration::ZERO, None)
    }

    #[inline]
    fn loan_until(
        &mut self,
        limit: Duration,
        mut wait: Option<&mut Wait>,
    ) -> Result<Frame<'_>, SendError<()>> {
        let capacity = self.frames.frames();
        let mut over = None;
        // Ends at the deadline at the latest.
        let block = loop {
            if self.frames.is_closed() {
                return Err(SendError::Closed { value: () });
            }
            let lent = self.frames.lend();
            self.hear();
            if over.is_none() {
                // Told once, or out of date.
                over = self.news[Way::Send as usize].take().map(Over::Alone);
            }
            match (lent, over.take(), &mut wait) {
                (Ok(block), ..) => break block,
                (Err(LoanError::Forked), ..) => return Err(SendError::Forked { value: () }),
                (Err(_), None, Some(wait)) => over = self.wait(Way::Send, wait).err(),
                (Err(_), None, None) => return Err(SendError::Full { capacity, value: () }),
                (Err(_), Some(Over::TimedOut { waited }), _) => {
                    return Err(SendError::TimedOut { capacity, waited, value: () });
                }
                (Err(_), Some(Over::Alone(Gone { gone, peer })), _) => {
                    return Err(SendError::Alone { gone, peer, value: () });
                }
            }
        };
        let (bells, patience) = (&*self.bells, &mut self.patience);
        Ok(Frame { loan: Some(self.frames.lent(block)), bells, patience, limit })
    }

    /// Receives the oldest frame, and waits for one until the handle's deadline.
    ///
    /// # Errors
    /// [`RecvError`] without [`Empty`](RecvError::Empty).
    #[inline]
    pub fn recv(&mut self) -> Result<Received<'_>, RecvError> {
        self.recv_timeout(self.limit)
    }

    /// Receives the oldest frame, and waits for one as long as `limit`.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    #[inline]
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Received<'_>, RecvError> {
        self.recv_until(Some(&mut Wait::until(Deadline::after(limit))))
    }

    /// Receives the oldest frame if one is there.
    ///
    /// # Errors
    /// [`RecvError`] without [`TimedOut`](RecvError::TimedOut); [`Alone`](RecvError::Alone) only where a wait beside
    /// others has learnt it.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Received<'_>, RecvError> {
        self.recv_until(None)
    }

    #[inline]
    fn recv_until(&mut self, mut wait: Option<&mut Wait>) -> Result<Received<'_>, RecvError> {
        let mut over = None;
        // Ends at the deadline at the latest.
        let message = loop {
            let taken = self.frames.take();
            if self.frames.orphans() > 0 {
                self.pass_on();
            }
            self.hear();
            let said = match taken {
                Ok(message) => {
                    self.news[Way::Recv as usize] = None; // out of date
                    break message;
                }
                Err(ReceiveError::Bad(e)) => {
                    self.bells.popped(|| self.frames.is_closed());
                    return Err(RecvError::Bad(e));
                }
                Err(ReceiveError::Ring(said)) => said,
            };
            let not_yet = matches!(said, PopError::Empty | PopError::Busy { .. });
            // Told once: no wait here would learn it again.
            if over.is_none() && not_yet {
                over = self.news[Way::Recv as usize].take().map(Over::Alone);
            }
            match (over.take(), &mut wait) {
                (None, Some(wait)) if not_yet => over = self.wait(Way::Recv, wait).err(),
                (Some(Over::Alone(Gone { gone, peer })), _) if not_yet => {
                    return Err(RecvError::Alone { gone, peer });
                }
                (Some(Over::TimedOut { waited }), _) if not_yet => {
                    return Err(match said {
                        PopError::Busy { holder } => RecvError::Busy { holder, waited },
                        _ => RecvError::TimedOut { waited },
                    });
                }
                _ => return Err(RecvError::of(said)),
            }
        };
        // The place in the ring is given back already, the frame when the guard goes.
        self.bells.popped(|| self.frames.is_closed());
        Ok(Received { message: self.frames.received(message), bells: &self.bells })
    }

    /// Sends a value of serde's, in a frame; waits as [`loan`](Self::loan).
    ///
    /// # Errors
    /// [`SendValueError`].
    pub fn send_value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), SendValueError> {
        let bytes = self.frames.bytes();
        let mut frame = self.loan()?;
        let len = match postcard::to_slice(value, &mut frame) {
            Ok(used) => used.len(),
            Err(postcard::Error::SerializeBufferFull) => return Err(SendValueError::TooLong { bytes }),
            Err(e) => return Err(SendValueError::Encode(e)),
        };
        frame.send(len).map_err(|e| SendValueError::Channel(e.map(drop)))
    }

    /// Receives a value of serde's; waits as [`recv`](Self::recv). Its bytes are copied out of the frame first, and the
    /// frame is given back: what a bad peer still writes there is not decoded. A frame is the limit of what can come: a
    /// message claims no memory beyond that copy, which the handle keeps for the next one, and what its own bytes hold.
    /// Values nested more than 128 deep are refused, as are more than a million without bytes.
    ///
    /// # Errors
    /// [`RecvValueError`].
    pub fn recv_value<T: DeserializeOwned>(&mut self) -> Result<T, RecvValueError> {
        let mut copy = std::mem::take(&mut self.copy);
        copy.clear();
        let received = self.recv().map(|message| {
            copy.extend_from_slice(&message);
            message.sender()
        });
        self.copy = copy;
        let (sender, len) = (received?, self.copy.len());
        codec::decode(&self.copy).map_err(|source| match source {
            DecodeError::Trailing { left, .. } => RecvValueError::Trailing { used: len - left, len, sender },
            source => RecvValueError::Decode { len, sender, source },
        })
    }

    /// One direction, to be waited for, and how this handle waits.
    pub(crate) fn side(&mut self, way: Way) -> (impl Ready<'_>, &mut Patience) {
        let FrameChannel { frames, bells, told, looked, patience, .. } = self;
        (FrameSide { frames, bells, told: &mut told[way as usize], looked, way }, patience)
    }

    fn wait(&mut self, way: Way, wait: &mut Wait) -> Result<(), Over> {
        let (side, patience) = self.side(way);
        wait.on(side, patience)
    }

    pub(super) fn bells(&self) -> Where {
        Where::Processes(self.bells.clone())
    }

    pub(super) fn bell(&self, way: Way) -> &Doorbell<Real> {
        bell(&self.bells, way)
    }

    /// Whether a call would not wait, as far as memory says.
    pub(super) fn is_ready(&mut self, way: Way) -> bool {
        self.news[way as usize].is_some() || self.side(way).0.is_ready()
    }

    /// The same with proof. What it learns the next try says.
    pub(super) fn look(&mut self, way: Way) -> bool {
        let said = self.side(way).0.look();
        told(said, &mut self.news[way as usize])
    }

    /// Somebody was found dead, or has left the seat to us: it may have owed a ring.
    #[inline(always)]
    fn hear(&mut self) {
        if self.frames.take_news() {
            self.bells.recovered();
        }
    }

    /// Orphans that came out together with one that was asked for: they are for everybody.
    #[cold]
    fn pass_on(&mut self) {
        self.frames.send_orphans();
        self.bells.recovered();
    }

    /// Says that nothing more will be sent. Once all has been received, receives say
    /// [`Drained`](RecvError::Drained). In a forked child it does nothing.
    pub fn close(&mut self) {
        if self.frames.member().is_mine() {
            // Nothing can be sent again later.
            if self.frames.orphans() > 0 {
                self.pass_on();
            }
            self.frames.close();
            self.bells.closed();
        }
    }

    /// Whether the channel was closed. Frames may still be on their way.
    pub fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    /// How far the channel's life has gone.
    pub fn state(&mut self) -> State {
        match self.frames.is_closed() {
            false => State::Open,
            true if self.frames.has_message(true) == Err(PopError::Drained) => State::Drained,
            true => State::Closed,
        }
    }

    /// Frames on their way, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is on its way, roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many frames there are.
    pub fn capacity(&self) -> usize {
        self.frames.frames()
    }

    /// Bytes of a frame.
    pub fn bytes(&self) -> usize {
        self.frames.bytes()
    }

    /// What this handle has seen.
    pub fn stats(&self) -> Stats {
        let frames::Stats { redelivered, lost_with_reader } = self.frames.stats();
        Stats { redelivered, lost_with_reader, waits: self.patience.stats(), ..Stats::default() }
    }

    /// In which seat this handle sits.
    pub fn seat(&self) -> usize {
        self.frames.seat()
    }

    /// The segment that the channel is in.
    pub fn segment(&self) -> &Arc<Segment> {
        self.frames.segment().expect("a channel of frames is in one")
    }
}

/// One direction of a handle.
struct FrameSide<'a> {
    frames: &'a mut Frames,
    bells: &'a Bells<Real>,
    told: &'a mut u64,
    looked: &'a mut u64,
    way: Way,
}

impl FrameSide<'_> {
    fn ready(&mut self, at_once: bool) -> bool {
        let ready = match self.way {
            // A forked child is told so by the try.
            Way::Send => {
                let said = self.frames.is_closed() || !self.frames.member().is_mine();
                said || self.frames.has_free(at_once)
            }
            Way::Recv => {
                let not_yet = |said| matches!(said, Err(PopError::Empty | PopError::Busy { .. }));
                let mut wait = not_yet(self.frames.has_message(at_once));
                if wait && at_once && deaths_since(self.frames.member(), self.frames.seat(), self.looked) {
                    self.frames.unearth();
                    wait = not_yet(self.frames.has_message(true));
                }
                !wait
            }
        };
        if self.frames.take_news() {
            self.bells.recovered();
        }
        ready
    }
}

impl<'b> Ready<'b> for FrameSide<'b> {
    fn bell(&self) -> &'b Doorbell<Real> {
        bell(self.bells, self.way)
    }

    fn is_ready(&mut self) -> bool {
        self.ready(false)
    }

    fn look(&mut self) -> Result<(), Told> {
        if self.ready(true) {
            return Err(Told::Again);
        }
        let (gone, departures) = match alone(self.frames.member(), self.frames.seat()) {
            Some((gone, departures)) if *self.told != departures => (gone, departures),
            _ => return Ok(()),
        };
        // Whatever the last of them did came before its end.
        if self.ready(true) {
            return Err(Told::Again);
        }
        *self.told = departures;
        Err(Told::Alone(gone))
    }
}

/// A frame that is being filled. Dropping it gives it back.
pub struct Frame<'a> {
    loan: Option<Loan<'a>>,
    bells: &'a Bells<Real>,
    patience: &'a mut Patience,
    limit: Duration,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> Frame<'a> {
    /// Sends the first `len` bytes, without a copy. There is room for every frame; it waits only where a reader has
    /// stopped in the middle of a receive, as long as the call that has lent the frame would have waited.
    ///
    /// # Panics
    /// If the frame has fewer.
    ///
    /// # Errors
    /// [`SendError::Closed`], [`SendError::Busy`], [`SendError::TimedOut`], [`SendError::Forked`], with the frame.
    #[inline]
    pub fn send(mut self, len: usize) -> Result<(), SendError<Frame<'a>>> {
        let said = match self.attempt(len, false) {
            Ok(()) => return Ok(()),
            Err(said) => said,
        };
        match said {
            PushError::Full(()) | PushError::Busy { .. } => self.send_later(len),
            said => Err(SendError::of(said, 0).map(|()| self)),
        }
    }

    /// One try. Until it succeeds the loan stays here. `at_once`: asks the kernel about whoever is in the way.
    fn attempt(&mut self, len: usize, at_once: bool) -> Result<(), PushError<()>> {
        let Some(loan) = self.loan.take() else { return Ok(()) };
        let Err(e) = loan.send_asking(len, at_once) else {
            self.bells.pushed();
            return Ok(());
        };
        Err(e.map(|loan| self.loan = Some(loan)))
    }

    #[cold]
    fn send_later(mut self, len: usize) -> Result<(), SendError<Frame<'a>>> {
        let timer = Deadline::after(self.limit).start();
        let mut patience = std::mem::take(self.patience);
        // The borrow is the channel's, not this frame's.
        let (bell, until) = (self.bells.not_full(), Deadline::at(timer.until()));
        let not_yet = |said: &Result<(), PushError<()>>| {
            matches!(said, Err(PushError::Full(()) | PushError::Busy { .. }))
        };
        let tries = RefCell::new((&mut self, Err(PushError::Full(()))));
        let settled = |at_once| {
            let (frame, said) = &mut *tries.borrow_mut();
            if not_yet(said) {
                *said = frame.attempt(len, at_once);
            }
            !not_yet(said)
        };
        // Each try buries whoever is dead: that of a look before a sleep has proof of it.
        let look = || if settled(true) { Err(()) } else { Ok(()) };
        let _ = patience.wait(bell, until, || settled(false), look);
        settled(true);
        let (_, said) = tries.into_inner();
        *self.patience = patience;
        let waited = timer.waited();
        match said {
            Ok(()) => Ok(()),
            Err(PushError::Busy { holder, .. }) => Err(SendError::Busy { holder, waited, value: self }),
            Err(PushError::Full(())) => Err(SendError::TimedOut { capacity: 0, waited, value: self }),
            Err(said) => Err(SendError::of(said, 0).map(|()| self)),
        }
    }
}

impl Deref for Frame<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.loan.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Frame<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.loan.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            drop(loan);
            self.bells.popped(|| false);
        }
    }
}

/// A frame that was received: its bytes, until it is dropped and thereby given back.
#[derive(Debug)]
pub struct Received<'a> {
    message: Message<'a>,
    bells: &'a Bells<Real>,
}

impl Drop for Received<'_> {
    /// Wakes those who wait for a frame, or for the end of this one.
    fn drop(&mut self) {
        self.message.end();
        self.bells.popped(|| self.message.is_awaited());
    }
}

impl Received<'_> {
    /// The seat that sent it, or that put it back into the ring after the death of who was receiving it.
    pub fn sender(&self) -> usize {
        self.message.sender()
    }
}

impl Deref for Received<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.message
    }
}
