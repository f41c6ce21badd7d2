//! A link over shared memory: two streams, one each way, and a bell for each end, in one block or segment.
//!
//! ```text
//!    0  desk of end 0   128 B   bell (futex word) | cpu + 1
//!  128  desk of end 1   128 B   the same
//!  256  stream 0 -> 1           see `ring::region`
//!   ..  stream 1 -> 0
//! ```
//! Each word has one writer but for the bells, which are `sapwood_core::doorbell`s: an end sleeps at its own, and the
//! other one rings it after it has written or read. Zeroed memory is a fresh link.
//!
//! A seat is taken once: what a dead end had read or half written nobody can go on with, so a death ends the link. Its
//! peer reads what was written before and is then told. The proof of death is looked for before each slice of sleep,
//! and once in 5 ms by an end that keeps on trying without waiting.
//!
//! # Safety
//! Forms references to the desks: inside the memory, which lives as long as the pipe, and made of atomic words. The
//! streams ask for one writer and one reader: seat s writes stream s and reads the other, and has one holder; the pair
//! of a block is handed out once.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use sapwood_core::board::Life;
use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::PIPE_LEAST;
pub use sapwood_core::link::{
    Broken, CloseError, Deadline, Ended, ExchangeError, Framed, Incoming, Interest, Link, Part, Peer, Pipe,
    Ready, RecvError, SendError, Source, Stats, Target, TrySendError, Waited,
};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::ring::stream::{Reader, Region as _, Writer};
use sapwood_core::ring::{CapacityError, PushError};
use sapwood_core::wait::{Stage, WaitPolicy, Waiter};
use sapwood_core::wire::{Limits, Stream};

use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::ring::Figures;
use crate::ring::member::{self, Member};
use crate::ring::region::{self, APART};
use crate::segment::{Segment, Spec};
use crate::wait::waiter;

/// A link over shared memory.
pub type ShmLink = Framed<ShmPipe>;

/// What an end shows the other one, beside the streams.
#[repr(C, align(128))]
struct Desk {
    /// Where this end sleeps.
    bell: Doorbell<Real>,
    /// The processor that this end last waited on, plus 1.
    cpu: <Real as Mem>::U32,
}

/// Where the first stream begins.
const STREAMS: usize = 2 * size_of::<Desk>();

/// Bytes of one stream, rounded so that the next one begins on lines of its own.
fn stream_bytes(capacity: usize) -> Result<usize, CapacityError> {
    Ok((region::Pipe::bytes(capacity)? as usize).next_multiple_of(APART))
}

/// The segment that a link of `capacity` bytes each way needs: for those who make, inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a stream can have, and [`Error::LinkTooSmall`].
pub fn spec(capacity: usize) -> Result<Spec, Error> {
    let bytes = STREAMS + 2 * stream_bytes(capacity)?;
    if capacity < PIPE_LEAST {
        return Err(Error::LinkTooSmall { asked: capacity, least: PIPE_LEAST });
    }
    Ok(member::spec(kind::LINK, Figures::of::<u8>(capacity), 2, bytes as u64))
}

/// Both ends of a link of `capacity` bytes each way, of ranks 0 and 1, for two threads.
///
/// ```
/// use std::time::Duration;
/// use sapwood_shm::link::{self, Deadline, Link, Source};
///
/// let (mut a, mut b) = link::pair(4096)?;
/// let soon = Deadline::after(Duration::from_secs(5));
/// let there = std::thread::spawn(move || {
///     let mut into = [0; 5];
///     b.recv(&mut into, soon).map(|_| into)
/// });
/// a.send(7, Source::Bytes(b"hello"), soon)?;
/// assert_eq!(&there.join().unwrap()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Capacity`], [`Error::LinkTooSmall`], [`Error::NoSpace`].
pub fn pair(capacity: usize) -> Result<(ShmLink, ShmLink), Error> {
    let memory = Memory::block("a link", spec(capacity)?.body)?;
    let end = |me| ShmPipe::on(&memory, capacity, me, Member::thread()).map(|pipe| framed(pipe, me));
    Ok((end(0)?, end(1)?))
}

/// End `end` (0 or 1, which is its rank too) of the link called `name`, of `capacity` bytes each way, which is made if
/// there is none.
///
/// # Errors
/// [`Error::SeatTaken`] if that end is held; [`Error::SeatDead`] if its holder is dead, or has closed: the link is
/// over; [`Error::OtherRing`] if it has another capacity; [`Error::Capacity`], [`Error::LinkTooSmall`],
/// [`Error::NoSpace`], and what [`Segment::enter_named`] says.
pub fn open(name: &str, capacity: usize, end: usize) -> Result<ShmLink, Error> {
    ShmPipe::open(name, capacity, end).map(|pipe| framed(pipe, end))
}

/// The same end of the link in a segment that was made with [`spec`], inherited or received.
///
/// # Errors
/// As for [`open`].
pub fn attach(segment: &Arc<Segment>, capacity: usize, end: usize) -> Result<ShmLink, Error> {
    ShmPipe::attach(segment, capacity, end).map(|pipe| framed(pipe, end))
}

fn framed(pipe: ShmPipe, me: usize) -> ShmLink {
    let stream = |rank: usize| Stream { rank: rank as u16, ..Stream::default() };
    Framed::new(pipe, stream(me), stream(1 - me), Limits::DEFAULT).expect("a capacity that carries frames")
}

/// One end of two streams, with what waiting needs: carries a [`Framed`] link of any ranks.
///
/// ```
/// use std::sync::Arc;
/// use sapwood_shm::Segment;
/// use sapwood_shm::link::{self, Pipe, ShmPipe};
///
/// // Each end in a process of its own.
/// let segment = Arc::new(Segment::create(&link::spec(1024)?)?);
/// let mut a = ShmPipe::attach(&segment, 1024, 0)?;
/// let mut b = ShmPipe::attach(&segment, 1024, 1)?;
/// a.write(&[b"by", b"tes"])?;
/// a.notify();
/// let mut into = [0; 8];
/// assert_eq!(b.read(&mut [&mut into])?, 5);
/// assert_eq!(&into[..5], b"bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShmPipe {
    tx: Writer<Real, region::Pipe>,
    rx: Reader<Real, region::Pipe>,
    me: usize,
    desks: NonNull<[Desk; 2]>,
    /// There is proof.
    dead: bool,
    shut: bool,
    waiter: Waiter,
    member: Member,
    _memory: Memory,
}

// SAFETY: the address of words that stay mapped as long as `_memory` lives; all else is Send.
unsafe impl Send for ShmPipe {}

impl ShmPipe {
    /// End `end` of the link called `name`, which is made if there is none.
    ///
    /// # Errors
    /// As for [`open`](fn@open).
    pub fn open(name: &str, capacity: usize, end: usize) -> Result<ShmPipe, Error> {
        let member = Member::open_once(name, &spec(capacity)?, end)?;
        Self::on(&member.memory(), capacity, end, member)
    }

    /// End `end` of the link in a segment that was made, inherited or received.
    ///
    /// # Errors
    /// As for [`open`](fn@open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize, end: usize) -> Result<ShmPipe, Error> {
        let member = Member::sit_once(segment, &spec(capacity)?, end)?;
        Self::on(&member.memory(), capacity, end, member)
    }

    /// On a block whose end `me` nobody has, or in a segment whose seat `me` the member has.
    fn on(memory: &Memory, capacity: usize, me: usize, member: Member) -> Result<ShmPipe, Error> {
        let bytes = stream_bytes(capacity)?;
        let stream = |from: usize| region::Pipe::new(memory.part(STREAMS + from * bytes, bytes), capacity);
        // SAFETY: as said at the top, we are the only writer of our stream and the only reader of the other one, as
        // long as `member` is ours.
        let (tx, rx) = unsafe { (Writer::attach(stream(me)?), Reader::attach(stream(1 - me)?)) };
        Ok(ShmPipe {
            tx,
            rx,
            me,
            desks: memory.at(0, 1),
            dead: false,
            shut: false,
            waiter: waiter(WaitPolicy::default()),
            member,
            _memory: memory.clone(),
        })
    }

    /// How it waits.
    pub fn waiting(mut self, policy: WaitPolicy) -> ShmPipe {
        self.waiter = waiter(policy);
        self
    }

    /// The segment that the link is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }

    /// Leaves as a killed process would: what was written stays, nothing is closed, and the peer finds the proof. For
    /// tests of links, in a segment.
    #[doc(hidden)]
    pub fn die(&mut self) {
        self.shut = true;
        self.member.stand_up();
    }

    fn desk(&self, end: usize) -> &Desk {
        // SAFETY: see the top.
        unsafe { &self.desks.as_ref()[end] }
    }

    fn mine(&self) -> Result<(), Broken> {
        match self.member.is_mine() {
            true => Ok(()),
            false => Err(Broken { what: "a forked child does not hold its parent's end" }),
        }
    }

    /// The peer has done nothing for us: is it dead?
    #[inline]
    fn suspect(&mut self) {
        if !self.dead && self.member.death(1 - self.me).is_some() {
            self.dead = true;
        }
    }
}

/// Why a wait of the [`Waiter`] ended before anything was there.
enum Stop {
    Dead,
    TimedOut,
}

impl Pipe for ShmPipe {
    fn outgoing(&self) -> usize {
        self.tx.region().capacity()
    }

    fn incoming(&self) -> usize {
        self.rx.region().capacity()
    }

    #[inline]
    fn room(&mut self, wanted: usize) -> usize {
        if self.shut {
            return 0;
        }
        let known = self.tx.room();
        if known >= wanted {
            return known;
        }
        let room = self.tx.look();
        if room < wanted {
            self.suspect();
        }
        room
    }

    #[inline]
    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Broken> {
        self.mine()?;
        if self.shut {
            return Ok(());
        }
        match self.tx.write(parts) {
            Ok(n) if n == parts.iter().map(|p| p.len()).sum::<usize>() => Ok(()),
            // Nobody will read it, and `peer` says so.
            Err(PushError::Closed(())) => Ok(()),
            _ => Err(Broken { what: "more was written than there was room for" }),
        }
    }

    #[inline]
    fn read(&mut self, parts: &mut [&mut [u8]]) -> Result<usize, Broken> {
        self.mine()?;
        let mut all = 0;
        for part in parts.iter_mut().filter(|_| !self.shut) {
            // Empty, or the writer has closed and nothing is left, which `peer` says.
            let n = self.rx.read(part).unwrap_or(0);
            all += n;
            if n < part.len() {
                break;
            }
        }
        if all == 0 {
            self.suspect();
        }
        Ok(all)
    }

    #[inline]
    fn notify(&mut self) {
        if self.member.is_mine() {
            self.desk(1 - self.me).bell.ring();
        }
    }

    #[inline]
    fn peer(&self) -> Peer {
        // An end that has closed and then died has closed.
        if self.rx.is_closed() || self.tx.is_closed() {
            Peer::Gone
        } else if self.dead {
            Peer::Dead
        } else {
            Peer::Open
        }
    }

    fn pid(&self) -> Option<u32> {
        Some(self.member.peer(1 - self.me).pid).filter(|pid| *pid != 0)
    }

    fn wait(&mut self, interest: Interest, until: u64) -> Result<Waited, Broken> {
        self.mine()?;
        let desks = self.desks;
        // SAFETY: see the top. Not by `desk`, which would borrow the streams too.
        let (mine, theirs) = unsafe { (&desks.as_ref()[self.me], &desks.as_ref()[1 - self.me]) };
        let (member, tx, rx, dead) = (&self.member, &mut self.tx, &mut self.rx, self.dead);
        let peer = 1 - self.me;
        let ready = || {
            dead || interest.read && rx.look() > 0
                || interest.write > 0 && tx.look() >= interest.write
                || rx.is_closed()
                || tx.is_closed()
        };
        let elsewhere = || theirs.cpu.load(Ordering::Relaxed) != Real::cpu() + 1;
        let idle = |stage| {
            match stage {
                Stage::Patient => mine.cpu.store(Real::cpu() + 1, Ordering::Relaxed),
                Stage::Asleep if Real::now() >= until => return Err(Stop::TimedOut),
                Stage::Asleep if matches!(member.life(peer), Life::Dead | Life::Dying) => {
                    return Err(Stop::Dead);
                }
                Stage::Asleep => {}
            }
            Ok(until.saturating_sub(Real::now()))
        };
        match self.waiter.wait(&mine.bell, ready, elsewhere, idle) {
            Ok(()) => Ok(Waited::Look),
            Err(Stop::TimedOut) => Ok(Waited::TimedOut),
            Err(Stop::Dead) => {
                self.dead = true;
                Ok(Waited::Look)
            }
        }
    }

    fn shut(&mut self) {
        if self.shut || !self.member.is_mine() {
            return;
        }
        self.shut = true;
        self.tx.close();
        self.rx.close();
        self.desk(1 - self.me).bell.ring();
    }
}

impl Drop for ShmPipe {
    fn drop(&mut self) {
        self.shut();
    }
}

static_assertions::const_assert_eq!(size_of::<Desk>(), 128);
static_assertions::const_assert_eq!(std::mem::offset_of!(Desk, cpu), 4);
static_assertions::const_assert_eq!(STREAMS, 256);
