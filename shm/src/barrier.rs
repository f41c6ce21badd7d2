//! A barrier between threads and between processes: all pass, or none does and all are told why. See
//! [`sapwood_core::muster`] for the protocol.
//!
//! # Safety
//! Lends atomic words, in which any bytes are a value. Addresses are found once, by `Memory::at`, which checks that
//! they lie inside; seats are checked against a number from private memory; the memory is mapped as long as the handle
//! lives.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::barrier::Arrivals;
use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::{Deadline, Timer};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::muster::{Muster, Region, Standing, Why};

use crate::error::Error;
use crate::layout::{OWNERS, kind};
use crate::memory::Memory;
use crate::ring::member::{self, Member};
use crate::ring::{Figures, Life, Peer};
use crate::segment::{Segment, Spec};
use crate::wait::{Bell, Patience, Stop};

/// How long [`Barrier::wait`] waits, unless its handle was told otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
/// The most participants of a barrier.
pub const PARTICIPANTS: usize = OWNERS;

type U32 = <Real as Mem>::U32;
type U64 = <Real as Mem>::U64;

/// All have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// True for one of the participants, the one that saw the last arrival; for none if that one died over it.
    pub leader: bool,
    /// How often the barrier has been passed, this time too.
    pub generation: u64,
}

/// Why a barrier was not passed. It never will be: it is broken for all its participants, who are told the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A participant died before it had arrived.
    #[error("the barrier is broken: {peer} died before it came to it for the {generation}. time")]
    PeerDied {
        /// Who.
        peer: Peer,
        /// Which passage is missing.
        generation: u64,
    },
    /// A participant gave its handle up before it had arrived.
    #[error("the barrier is broken: {peer} left before it came to it for the {generation}. time")]
    PeerLeft {
        /// Who.
        peer: Peer,
        /// Which passage is missing.
        generation: u64,
    },
    /// The time was up.
    #[error(
        "the barrier is broken: after {waited:?}, {} had not come to it for the {generation}. time",
        names(missing)
    )]
    Timeout {
        /// Who had not arrived. A process number of 0: nobody has sat there yet.
        missing: Vec<Peer>,
        /// How long this call has waited.
        waited: Duration,
        /// Which passage is missing.
        generation: u64,
    },
    /// The time of another one was up.
    #[error(
        "the barrier is broken: another participant did not wait any longer for {} to come to it for the {generation}. \
         time",
        name(missing)
    )]
    Broken {
        /// The first of those that had not arrived. A process number of 0: nobody has sat there yet.
        missing: Peer,
        /// Which passage is missing.
        generation: u64,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not take part in its parent's barrier")]
    Forked,
}

fn name(peer: &Peer) -> String {
    if peer.pid == 0 { format!("seat {}, where nobody sits,", peer.seat) } else { peer.to_string() }
}

fn names(peers: &[Peer]) -> String {
    peers.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A participant's words; only it writes them.
#[repr(C, align(128))]
struct Line {
    arrival: U64,
    left: U32,
    /// Whether somebody sits here, where no segment says so.
    taken: U32,
}

/// Where the lines begin: behind the verdict and the bell, 128 bytes each.
const LINES: usize = 256;

/// Where everything of a barrier lies.
struct Place {
    verdict: NonNull<U64>,
    bell: NonNull<Bell>,
    lines: NonNull<Line>,
    seats: usize,
    memory: Memory,
}

// SAFETY: addresses of atomic words, and what keeps them mapped.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn new(memory: Memory, seats: usize) -> Place {
        let (verdict, bell, lines) = (memory.at(0, 1), memory.at(128, 1), memory.at(LINES, seats));
        Place { verdict, bell, lines, seats, memory }
    }

    fn line(&self, seat: usize) -> &Line {
        assert!(seat < self.seats, "seat {seat} of {}", self.seats);
        // SAFETY: one of our lines, which are atomic words inside the memory.
        unsafe { self.lines.add(seat).as_ref() }
    }
}

impl Arrivals<Real> for Place {
    fn arrival(&self, rank: usize) -> &U64 {
        &self.line(rank).arrival
    }
}

impl Region<Real> for Place {
    fn seats(&self) -> usize {
        self.seats
    }

    fn verdict(&self) -> &U64 {
        // SAFETY: inside the memory, which lives as long as we do; an atomic word.
        unsafe { self.verdict.as_ref() }
    }

    fn left(&self, seat: usize) -> &U32 {
        &self.line(seat).left
    }

    fn bell(&self) -> &Doorbell<Real> {
        // SAFETY: as above.
        unsafe { &self.bell.as_ref().bell }
    }
}

/// The segment that a barrier of `participants` needs: for those who make, inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Participants`].
pub fn spec(participants: usize) -> Result<Spec, Error> {
    if !(1..=PARTICIPANTS).contains(&participants) {
        return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
    }
    let bytes = (LINES + participants * size_of::<Line>()) as u64;
    Ok(member::spec(kind::BARRIER, Figures::of::<u64>(1), participants, bytes))
}

/// One participant of a barrier, which is passed when all have come to it, again and again.
///
/// How many take part is fixed when it is made, and each takes one seat, once. A passage is decided once: all pass it,
/// or the barrier is broken for all and stays so. Those that go on make a new one.
///
/// | what happens                              | what the others' waits say                                       |
/// |-------------------------------------------|------------------------------------------------------------------|
/// | a participant dies before it arrives      | [`PeerDied`](BarrierError::PeerDied), with its name              |
/// | it drops its handle, by a panic perhaps   | [`PeerLeft`](BarrierError::PeerLeft), with its name              |
/// | it dies or leaves after it has arrived    | they pass; the next passage breaks                               |
/// | it is stopped, or slow                    | nothing, until somebody's time is up                             |
/// | somebody's time is up                     | [`Broken`](BarrierError::Broken): who was missing                 |
///
/// Whose time is up gets [`Timeout`](BarrierError::Timeout), which names all that were missing then.
///
/// Whatever was written before a participant arrived is visible to all behind the barrier.
///
/// Between threads:
///
/// ```
/// use sapwood_shm::barrier::Barrier;
///
/// let mut mine = Barrier::new(4)?;
/// let leaders = std::thread::scope(|s| {
///     let others: Vec<_> = (0..3)
///         .map(|_| mine.try_clone().expect("one seat of four"))
///         .map(|mut theirs| s.spawn(move || theirs.wait().expect("all come").leader))
///         .collect();
///     let arrived = mine.wait().expect("all come");
///     assert_eq!(arrived.generation, 1);
///     others.into_iter().map(|t| u32::from(t.join().unwrap())).sum::<u32>() + u32::from(arrived.leader)
/// });
/// assert_eq!(leaders, 1);
/// # Ok::<(), sapwood_shm::Error>(())
/// ```
/// Between processes:
///
/// ```
/// use sapwood_shm::barrier::{Barrier, BarrierError};
///
/// // Each in a process of its own.
/// # let name = &format!("doc-barrier-{}", std::process::id());
/// let mut one = Barrier::open(name, 2)?;
/// let mut other = Barrier::open(name, 2)?;
/// let thread = std::thread::spawn(move || other.wait().map(|_| ()));
/// one.wait()?;
/// thread.join().unwrap()?; // and is gone
/// assert!(matches!(one.wait(), Err(BarrierError::PeerLeft { peer, .. }) if peer.seat == 1));
/// # one.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Barrier {
    muster: Muster<Real, Place>,
    /// How often it was passed.
    passed: u64,
    deadline: Duration,
    patience: Patience,
    member: Member,
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("muster", &self.muster)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl Barrier {
    /// The first participant of a barrier for `participants` threads of this process; the others are
    /// [clones](Self::try_clone).
    ///
    /// # Errors
    /// [`Error::Participants`], [`Error::NoSpace`].
    pub fn new(participants: usize) -> Result<Self, Error> {
        let body = spec(participants)?.body;
        Self::among_threads(Place::new(Memory::block("a barrier", body)?, participants))
    }

    /// A participant of the barrier called `name`, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::OtherSize`], with both numbers, if it was made for others than `participants`; [`Error::NoSeat`] if all
    /// have come; [`Error::SeatDead`] if one has died or left; and what else a name can refuse.
    pub fn open(name: &str, participants: usize) -> Result<Self, Error> {
        let spec = spec(participants)?;
        Member::first(0..participants, |seat| Member::open_once(name, &spec, seat)).map(Self::seated)
    }

    /// The first participant of a new barrier without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// As for [`spec`], and [`Error::NoSpace`].
    pub fn create(participants: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec(participants)?)?)
    }

    /// A participant of the barrier in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>) -> Result<Self, Error> {
        let spec = spec(segment.spec().seats)?;
        Member::first(0..spec.seats, |seat| Member::sit_once(segment, &spec, seat)).map(Self::seated)
    }

    /// Another participant in this process: one of those that the barrier was made for.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn try_clone(&self) -> Result<Self, Error> {
        let place = self.muster.region();
        let other = match self.segment() {
            Some(segment) => Self::attach(segment),
            None => Self::among_threads(Place::new(place.memory.clone(), place.seats)),
        };
        Ok(other?.with_deadline(self.deadline))
    }

    /// [`wait`](Self::wait) waits as long as this at most.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn seated(member: Member) -> Self {
        let seats = member.segment().expect("a member of a segment").spec().seats;
        let (place, seat) = (Place::new(member.memory(), seats), member.owner().seat() as usize);
        Self::on(place, seat, member)
    }

    /// Takes a seat of a block, once.
    fn among_threads(place: Place) -> Result<Self, Error> {
        let free = |seat: &usize| place.line(*seat).taken.cas(0, 1, Ordering::Relaxed).is_ok();
        let seat = (0..place.seats).find(free).ok_or(Error::NoSeat { seats: place.seats })?;
        Ok(Self::on(place, seat, Member::thread()))
    }

    fn on(place: Place, seat: usize, member: Member) -> Self {
        let (muster, patience) = (Muster::attach(place, seat, 0), Patience::default());
        Barrier { muster, passed: 0, deadline: DEFAULT_DEADLINE, patience, member }
    }

    /// Arrives, and waits for all others as long as the handle's deadline says.
    ///
    /// # Errors
    /// [`BarrierError`]: the barrier is broken then, unless it is [`Forked`](BarrierError::Forked).
    pub fn wait(&mut self) -> Result<Arrived, BarrierError> {
        self.wait_timeout(self.deadline)
    }

    /// The same, but waits for at most `limit`. When it is over the barrier is broken for all.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Arrived, BarrierError> {
        if !self.member.is_mine() {
            return Err(BarrierError::Forked);
        }
        let generation = self.passed + 1;
        if let Standing::Broken { seat, why } = self.muster.coming() {
            return Err(self.broken(seat, why, generation));
        }
        self.muster.arrive();
        let standing = match self.muster.poll() {
            Standing::Open => self.sleep(Deadline::after(limit).start())?,
            other => other,
        };
        match standing {
            Standing::Broken { seat, why } => Err(self.broken(seat, why, generation)),
            Standing::Passed { leader } => {
                self.passed = generation;
                Ok(Arrived { leader, generation })
            }
            Standing::Open => unreachable!("a sleep ends with a verdict"),
        }
    }

    /// Waits for the verdict, or gives one.
    #[cold]
    fn sleep(&mut self, timer: Timer) -> Result<Standing, BarrierError> {
        let (muster, member) = (&self.muster, &self.member);
        let look = || muster.missing().find_map(|seat| gone(muster, member, seat)).map_or(Ok(()), Err);
        // Each turn but the last finds that one of the missing has arrived before it went; ends at the deadline.
        loop {
            let standing = Cell::new(Standing::Open);
            let ready = || {
                standing.set(muster.poll());
                standing.get() != Standing::Open
            };
            let until = Deadline::at(timer.until());
            match self.patience.wait(muster.region().bell(), until, ready, look) {
                Ok(()) => return Ok(standing.get()),
                Err(Stop::Told((seat, why))) => match muster.break_off(seat, why) {
                    Standing::Open => {}
                    other => return Ok(other),
                },
                Err(Stop::TimedOut { .. }) => return give_up(muster, member, timer),
            }
        }
    }

    fn broken(&self, seat: u32, why: Why, generation: u64) -> BarrierError {
        let peer = peer(&self.muster, &self.member, seat as usize);
        match why {
            Why::Died => BarrierError::PeerDied { peer, generation },
            Why::Left => BarrierError::PeerLeft { peer, generation },
            Why::Missing => BarrierError::Broken { missing: peer, generation },
        }
    }

    /// How many take part.
    pub fn participants(&self) -> usize {
        self.muster.region().seats
    }

    /// In which seat this participant sits; its number, between threads.
    pub fn seat(&self) -> usize {
        self.muster.me()
    }

    /// The segment that the barrier is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}

/// Whether the participant in `seat` will never arrive, and why.
fn gone(muster: &Muster<Real, Place>, member: &Member, seat: usize) -> Option<(usize, Why)> {
    if muster.has_left(seat) {
        return Some((seat, Why::Left));
    }
    // A seat that is given up looks like a death; but then its holder has said so first. In one that is dying no thread
    // of ours runs any more.
    let dead = matches!(member.life(seat), Life::Dead | Life::Dying);
    dead.then(|| (seat, if muster.has_left(seat) { Why::Left } else { Why::Died }))
}

/// The time is up: breaks the barrier, unless somebody has decided meanwhile.
#[cold]
fn give_up(muster: &Muster<Real, Place>, member: &Member, timer: Timer) -> Result<Standing, BarrierError> {
    let (waited, generation) = (timer.waited(), muster.generation());
    let missing: Vec<usize> = muster.missing().collect();
    // The time may be up before the first look: the dead are not missing, they are dead. Whoever has arrived since is
    // stepped over.
    let gone = missing.iter().find_map(|seat| gone(muster, member, *seat));
    for (seat, why) in gone.into_iter().chain(missing.iter().map(|seat| (*seat, Why::Missing))) {
        match muster.break_off(seat, why) {
            Standing::Open => {}
            Standing::Broken { why: Why::Missing, .. } => break,
            other => return Ok(other),
        }
    }
    match muster.poll() {
        Standing::Broken { why: Why::Missing, .. } | Standing::Open => {
            let missing = missing.into_iter().map(|seat| peer(muster, member, seat)).collect();
            Err(BarrierError::Timeout { missing, waited, generation })
        }
        other => Ok(other),
    }
}

/// Whoever sits in a seat. A bad peer can make us name one that there is not.
fn peer(muster: &Muster<Real, Place>, member: &Member, seat: usize) -> Peer {
    if seat < muster.region().seats { member.peer(seat) } else { Peer { seat, pid: 0 } }
}

/// Leaves.
impl Drop for Barrier {
    fn drop(&mut self) {
        if self.member.is_mine() {
            self.muster.leave();
        }
    }
}
