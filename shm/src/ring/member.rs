//! What every handle has beside its ring: the right to its end, and its view of the others.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::board::Life;
use sapwood_core::mem::{Mem, Real};
use sapwood_core::owner::Owner;

use super::{Figures, Peer};
use crate::error::Error;
use crate::memory::Memory;
use crate::seat::{Maker, Seat};
use crate::segment::{Segment, Spec};

/// How long a name may change hands before `open` gives up.
const DEADLINE: Duration = Duration::from_secs(5);

/// The right to one end of a ring.
#[derive(Debug)]
pub(crate) struct Member {
    maker: Maker,
    /// Between processes. The seat goes before the segment in which it is.
    place: Option<(Arc<Seat>, Arc<Segment>)>,
    watch: Watch,
}

impl Member {
    /// A thread's, of a ring in this process.
    pub(crate) fn thread() -> Member {
        Member { maker: Maker::this(), place: None, watch: Watch::default() }
    }

    fn seated(segment: &Arc<Segment>, seat: Seat) -> Member {
        Member {
            maker: Maker::this(),
            place: Some((Arc::new(seat), segment.clone())),
            watch: Watch::default(),
        }
    }

    /// Sits down in a seat of a segment that was handed on; `None`: in any. `recover` as for
    /// [`Segment::take_seat_again`].
    pub(crate) fn sit(
        segment: &Arc<Segment>,
        spec: &Spec,
        seat: Option<usize>,
        recover: Recover<'_>,
    ) -> Result<Member, Error> {
        check(segment.spec(), spec)?;
        let seat = match seat {
            Some(seat) => segment.take_seat_again(seat, recover),
            None => segment.take_any_seat(recover),
        };
        Ok(Self::seated(segment, seat?))
    }

    /// The same in the segment called `name`, which is made if there is none.
    pub(crate) fn open(
        name: &str,
        spec: &Spec,
        seat: Option<usize>,
        recover: Recover<'_>,
    ) -> Result<Member, Error> {
        let entered = Segment::enter_named_again(name, spec, seat, DEADLINE, recover);
        let (segment, seat) = entered.map_err(explain)?;
        Ok(Self::seated(&Arc::new(segment), seat))
    }

    /// The same in the segment called `name`, if it is the one with this number, else [`Error::Retired`].
    pub(crate) fn open_meant(
        name: &str,
        nonce: u64,
        spec: &Spec,
        recover: Recover<'_>,
    ) -> Result<Member, Error> {
        let entered = Segment::enter_meant(name, nonce, spec, DEADLINE, recover);
        let (segment, seat) = entered.map_err(explain)?;
        Ok(Self::seated(&Arc::new(segment), seat))
    }

    /// Sits down in a seat that nobody has sat in before, of a segment that was handed on.
    pub(crate) fn sit_once(segment: &Arc<Segment>, spec: &Spec, seat: usize) -> Result<Member, Error> {
        check(segment.spec(), spec)?;
        Ok(Self::seated(segment, segment.take_seat(seat)?))
    }

    /// The same in the segment called `name`, which is made if there is none.
    pub(crate) fn open_once(name: &str, spec: &Spec, seat: usize) -> Result<Member, Error> {
        let (segment, seat) = Segment::enter_named(name, spec, seat, DEADLINE).map_err(explain)?;
        Ok(Self::seated(&Arc::new(segment), seat))
    }

    /// Sits down in the first of some seats that can be had.
    pub(crate) fn first(
        mut seats: std::ops::Range<usize>,
        sit: impl Fn(usize) -> Result<Member, Error>,
    ) -> Result<Member, Error> {
        let taken = Error::NoSeat { seats: seats.len() };
        let sat = seats.find_map(|seat| match sit(seat) {
            Err(Error::SeatTaken { .. }) => None,
            other => Some(other),
        });
        sat.unwrap_or(Err(taken))
    }

    /// Gives the seat up.
    pub(crate) fn stand_up(&mut self) {
        self.place = None;
    }

    /// The memory of the ring. Of a thread's there is none: it comes with the pair.
    pub(crate) fn memory(&self) -> Memory {
        Memory::body(&self.place.as_ref().expect("a member of a segment").1)
    }

    /// The name that the holder of this seat leaves behind.
    pub(crate) fn owner(&self) -> Owner {
        self.place.as_ref().map_or(Owner::NOBODY, |(seat, _)| name(seat))
    }

    /// The seat, which is held as long as somebody has a clone: for what outlives this handle.
    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        self.place.as_ref().map(|(seat, _)| seat.clone())
    }

    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        self.place.as_ref().map(|(_, segment)| segment)
    }

    /// Whether this process has the end, and is not a forked child of the one that has.
    #[inline(always)]
    pub(crate) fn is_mine(&self) -> bool {
        self.maker.is_this()
    }

    /// Whether the holder of another seat lives. A thread does not die alone.
    pub(crate) fn life(&self, seat: usize) -> Life {
        self.segment().map_or(Life::Alive, |segment| segment.life(seat))
    }

    pub(crate) fn peer(&self, seat: usize) -> Peer {
        let pid = self.segment().map_or_else(std::process::id, |segment| segment.seat_pid(seat));
        Peer { seat, pid }
    }

    /// The call is blocked by whoever sits there: is it dead? Asks the kernel now and then only, but again and again
    /// about one that was.
    #[inline]
    pub(crate) fn death(&mut self, seat: usize) -> Option<Peer> {
        if self.place.is_some() && self.watch.is_due() { self.look(seat) } else { None }
    }

    #[cold]
    fn look(&mut self, seat: usize) -> Option<Peer> {
        let dead = matches!(self.life(seat), Life::Dead | Life::Dying);
        self.watch.dead = dead;
        dead.then(|| self.peer(seat))
    }
}

/// Proof that the owner of a word is dead. Words first; the kernel, which takes microseconds, only if `asks` says so.
pub(crate) fn is_dead(segment: &Segment, owner: Owner, asks: impl FnOnce() -> bool) -> bool {
    let (seat, epoch) = (owner.seat() as usize, owner.epoch());
    segment.owner_known_dead(seat, epoch) || asks() && !segment.owner_alive(seat, epoch)
}

/// When to ask the kernel. The answer costs some microseconds, and most calls that find nothing are part of a loop that
/// will find something soon. No clock decides who is dead: it decides when to ask.
///
/// Each kind of call has a watch of its own: in a loop that tries several in turn, one and the same would always be the
/// one that is due.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    calls: u32,
    /// Nanoseconds.
    asked: u64,
    dead: bool,
}

/// Blocked calls after which the clock is read.
const CALLS: u32 = 64;
/// Nanoseconds between two questions.
const PAUSE: u64 = 5_000_000;

impl Watch {
    #[inline]
    pub(crate) fn is_due(&mut self) -> bool {
        self.calls = self.calls.wrapping_add(1);
        self.dead || self.calls.is_multiple_of(CALLS) && self.has_paused()
    }

    #[cold]
    fn has_paused(&mut self) -> bool {
        let now = Real::now();
        let due = now.wrapping_sub(self.asked) >= PAUSE;
        if due {
            self.asked = now;
        }
        due
    }
}

/// The name that the holder of a seat leaves behind.
pub(crate) fn name(seat: &Seat) -> Owner {
    Owner::new(seat.number() as u32, seat.epoch())
}

/// What a newcomer to a seat does about the epochs before its own.
pub(crate) type Recover<'a> = &'a mut dyn FnMut(&Segment, &Seat, u32) -> Result<(), Error>;

/// Nothing has to be recovered: a successor finds its place in the ring by itself.
pub(crate) fn nothing(_: &Segment, _: &Seat, _: u32) -> Result<(), Error> {
    Ok(())
}

/// What a ring needs of its segment.
pub(crate) fn spec(kind: u32, figures: Figures, seats: usize, body: u64) -> Spec {
    Spec { kind, fingerprint: figures.fingerprint(), seats, body, reserve: 0 }
}

/// A new anonymous segment.
pub(crate) fn create(spec: &Spec) -> Result<Arc<Segment>, Error> {
    Segment::create(spec).map(Arc::new)
}

/// Whether a segment that was made for `have` holds what is wanted.
fn check(have: &Spec, want: &Spec) -> Result<(), Error> {
    if have.kind != want.kind {
        return Err(Error::OtherKind { found: have.kind, expected: want.kind });
    }
    if have.seats != want.seats {
        return Err(Error::OtherSize { found: have.seats as u32, expected: want.seats as u32 });
    }
    if have.fingerprint != want.fingerprint {
        return Err(explain(Error::OtherLayout { found: have.fingerprint, expected: want.fingerprint }));
    }
    let lengths = |s: &Spec| (s.prefix(), s.length());
    if lengths(have) != lengths(want) {
        return Err(Error::OtherLengths { found: lengths(have), expected: lengths(want) });
    }
    Ok(())
}

/// A ring's fingerprint says what it holds.
fn explain(error: Error) -> Error {
    match error {
        Error::OtherLayout { found, expected } => Error::OtherRing {
            found: Box::new(Figures::from_fingerprint(found)),
            expected: Box::new(Figures::from_fingerprint(expected)),
        },
        other => other,
    }
}
