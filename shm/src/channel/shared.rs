//! The carrier between processes: a ring of many (see [`ring::mpmc`](crate::ring::mpmc)) with its bells in front, in
//! one segment.
//!
//! ```text
//!    0  bells       256 B    not empty | not full (see `sapwood_core::ring::bells`, which argues who rings what)
//!  256  the ring             see `ring::region`
//! ```
//! Zeroed memory is an empty, open channel at which nobody sleeps.
//!
//! | who dies                              | what is left                             | who repairs it                              |
//! |---------------------------------------|------------------------------------------|---------------------------------------------|
//! | a sender before it has published      | nothing, or its name in a place          | whoever is blocked there buries it: not sent |
//! | a sender after that, before it rings  | a message, and readers asleep            | they look after a slice, 50 ms at most      |
//! | a reader before its receive returns   | its name in a place: an orphan           | whoever is blocked there, its successor, whoever waits for a message, or who says "drained": it is received by one of them |
//! | a reader after giving the place back  | senders asleep                           | they look after a slice                     |
//! | who closes, before it rings           | a closed channel, and sleepers           | they look after a slice                     |
//! | a sleeper                             | an announcement at a bell                | the next ring                               |
//!
//! Before each slice of sleep the kernel is asked about whoever is in the way. Whoever has found somebody dead, and
//! whoever takes a dead one's seat, rings both bells unasked, because the dead may have owed that.

use std::sync::Arc;

use sapwood_core::mem::Real;
use sapwood_core::ring::bells::Bells;

use super::bells::{self, InSegment, Where};
use super::carry::{Carry, Far, Way};
use super::error::Gone;
use super::stats::Stats;
use crate::error::Error;
use crate::layout::kind;
use crate::ring::member::Member;
use crate::ring::mpmc::{Ground, Ring};
use crate::ring::{Life, Peer, PopError, PushError, Shareable};
use crate::segment::{Segment, Spec};

/// The ring of a channel, behind the bells.
const GROUND: Ground = Ground { kind: kind::CHANNEL, front: bells::BYTES };

/// What a channel needs of its segment.
pub(super) fn spec<T: Shareable>(capacity: usize, participants: usize) -> Result<Spec, Error> {
    GROUND.spec::<T>(capacity, participants)
}

/// One handle.
pub(super) struct Shared<T: Shareable> {
    ring: Ring<T>,
    bells: InSegment,
    name: Option<Box<str>>,
    /// What the departures add up to of which each way was told.
    told: [u64; 2],
    /// The deaths after which orphans were looked for last.
    looked: u64,
}

impl<T: Shareable> Shared<T> {
    pub(super) fn open(name: &str, capacity: usize, participants: usize) -> Result<Self, Error> {
        Ok(Self::on(Ring::open_on(GROUND, name, capacity, participants)?, Some(name.into())))
    }

    /// The one called `name` that has this number; [`Error::Retired`] if another one has the name, or none.
    pub(super) fn open_meant(
        name: &str,
        nonce: u64,
        capacity: usize,
        participants: usize,
    ) -> Result<Self, Error> {
        let ring = Ring::open_meant_on(GROUND, name, nonce, capacity, participants)?;
        Ok(Self::on(ring, Some(name.into())))
    }

    pub(super) fn create(capacity: usize, participants: usize) -> Result<Self, Error> {
        Ok(Self::on(Ring::create_on(GROUND, capacity, participants)?, None))
    }

    pub(super) fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        Ok(Self::on(Ring::attach_on(GROUND, segment, capacity)?, None))
    }

    fn on(ring: Ring<T>, name: Option<Box<str>>) -> Self {
        let bells = InSegment::new(ring.member().memory());
        let mut shared = Shared { ring, bells, name, told: [0; 2], looked: 0 };
        shared.hear();
        shared
    }

    /// Somebody was found dead, or has left the seat to us: it may have owed a ring.
    #[inline(always)]
    fn hear(&mut self) {
        if self.ring.take_news() {
            self.bells.recovered();
        }
    }

    /// Orphans that came out together with one that was asked for: they are for everybody.
    #[cold]
    fn pass_on(&mut self) {
        self.ring.put_back();
        self.bells.recovered();
    }
}

impl<T: Shareable> Carry<T> for Shared<T> {
    #[inline]
    fn push_quietly(&mut self, value: T) -> Result<(), PushError<T>> {
        let pushed = self.ring.try_push(value);
        self.hear();
        pushed
    }

    #[inline]
    fn pop_quietly(&mut self) -> Result<T, PopError> {
        let popped = self.ring.try_pop();
        if self.ring.orphans() > 0 {
            self.pass_on();
        }
        self.hear();
        popped
    }

    #[inline(always)]
    fn bells(&self) -> &Bells<Real> {
        &self.bells
    }

    fn place_of_bells(&self) -> Where {
        Where::Processes(self.bells.clone())
    }

    fn is_ready(&mut self, way: Way, at_once: bool) -> bool {
        let ready = match way {
            Way::Send => {
                let room = self.ring.has_room(at_once);
                !matches!(room, Err(PushError::Full(()) | PushError::Busy { .. }))
            }
            Way::Recv => {
                let not_yet = |value| matches!(value, Err(PopError::Empty | PopError::Busy { .. }));
                let mut wait = not_yet(self.ring.has_value(at_once));
                if wait && at_once && deaths_since(self.ring.member(), self.ring.seat(), &mut self.looked) {
                    self.ring.unearth();
                    wait = not_yet(self.ring.has_value(true));
                }
                !wait
            }
        };
        self.hear();
        ready
    }

    fn alone(&mut self, way: Way) -> Option<(Gone, u64)> {
        let told = self.told[way as usize];
        alone(self.ring.member(), self.ring.seat()).filter(|(_, departures)| *departures != told)
    }

    fn tell(&mut self, way: Way, departures: u64) {
        self.told[way as usize] = departures;
    }

    fn close(&self) {
        if self.ring.member().is_mine() {
            self.ring.close();
            self.bells.closed();
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    fn is_drained(&mut self) -> bool {
        let drained = self.ring.is_closed() && self.ring.has_value(true) == Err(PopError::Drained);
        self.hear();
        drained
    }

    fn len(&self) -> usize {
        self.ring.len() + self.ring.orphans()
    }

    fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    fn stats(&self) -> Stats {
        let of = self.ring.stats();
        Stats { redelivered: of.redelivered, skipped: of.skipped, lost: of.lost, ..Stats::default() }
    }
}

impl<T: Shareable> Far<T> for Shared<T> {
    fn segment(&self) -> &Arc<Segment> {
        self.ring.segment().expect("a channel between processes is in one")
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn seat(&self) -> usize {
        self.ring.seat()
    }

    fn again(&self) -> Result<Box<dyn Far<T>>, Error> {
        let mut twin = Self::attach(self.segment(), self.ring.capacity())?;
        twin.name.clone_from(&self.name);
        Ok(Box::new(twin))
    }
}

/// Whether somebody has died or left since this was asked last with `looked`. Then there may be a message that the dead
/// one was receiving, in a place that no sender comes round to.
pub(super) fn deaths_since(member: &Member, me: usize, looked: &mut u64) -> bool {
    let Some(segment) = member.segment() else { return false };
    let taken = (0..segment.spec().seats).map(|seat| (seat, segment.seat_epoch(seat)));
    let dead =
        taken.filter(|(seat, epoch)| *seat != me && *epoch != 0 && !segment.owner_alive(*seat, *epoch));
    // FNV-1a (Fowler, Noll, Vo): which seats are dead under which epochs, in a word.
    let deaths = dead.flat_map(|(seat, epoch)| [seat as u64, u64::from(epoch)]);
    let deaths = deaths.fold(0xcbf2_9ce4_8422_2325, |h, n| (h ^ n).wrapping_mul(0x0100_0000_01b3));
    std::mem::replace(looked, deaths) != deaths
}

/// Whether somebody else has sat in the segment of `member`, who sits in seat `me`, and all of them are gone now. With
/// what their epochs add up to, which grows with every departure.
///
/// One look at each seat would not be proof: a seat that was empty when it was looked at may be taken by somebody whom
/// the last one brought before it went. So the epochs are looked at again behind it: if none has changed, there was a
/// moment at which nobody else was there.
pub(super) fn alone(member: &Member, me: usize) -> Option<(Gone, u64)> {
    let segment = member.segment()?;
    let others = || (0..segment.spec().seats).filter(|seat| *seat != me);
    let epochs = || others().fold(0_u64, |sum, seat| sum + u64::from(segment.seat_epoch(seat)));
    let before = epochs();
    let (mut gone, mut last) = (0, None::<Peer>);
    for seat in others() {
        match segment.life(seat) {
            Life::Absent => {}
            Life::Dead => {
                gone += 1;
                last = Some(member.peer(seat));
            }
            // What a dying one was receiving can't be unearthed yet.
            Life::Alive | Life::Dying => return None,
        }
    }
    (gone > 0 && epochs() == before).then_some((Gone { gone, peer: last }, before))
}
