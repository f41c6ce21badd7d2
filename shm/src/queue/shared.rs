//! The table between processes: `ring::jobs` behind bells, in a segment. Seat 0 is the owner's.
//!
//! # Safety
//! The protocol asks that jobs are ended by who took them, under a name that nobody else has meanwhile: a token lives
//! in one job, beside the desk of the worker that took it, and the desk holds the worker's seat.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use sapwood_core::board::Life;
use sapwood_core::claim::{self, Attempts, Census, Collected, Door, Ticket};
use sapwood_core::mem::{Mem, Real};
use sapwood_core::wait::Closely;

use super::front::{FRONT, Front};
use super::table::{Back, Desk, Lost, NoJob, Refused, Table, Token, Worker};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::ring::jobs::{Jobs, Stats};
use crate::ring::member::{self, Member};
use crate::ring::region::Places;
use crate::ring::{Figures, Peer, PopError, PushError, Shareable};
use crate::seat::Seat;
use crate::segment::{Segment, Spec};

/// The owner's seat.
pub(super) const OWNER: usize = 0;

/// How a segment is come by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    Name(&'a str),
    Segment(&'a Arc<Segment>),
}

/// The segment of a queue.
pub(super) fn spec<Q: Shareable, A: Shareable>(
    capacity: usize,
    workers: usize,
    attempts: u32,
) -> Result<Spec, Error> {
    let most = crate::ring::jobs::PARTICIPANTS - 1;
    if !(1..=most).contains(&workers) {
        return Err(Error::Participants { asked: workers, most });
    }
    let bytes = FRONT as u64 + Places::<Q, A>::bytes(capacity)?;
    let figures = Figures::of_jobs::<Q, A>(capacity, Attempts::of(attempts)?);
    Ok(member::spec(kind::QUEUE, figures, workers + 1, bytes))
}

/// A participant's seat: when the last part of the handle that has it goes, the others are told.
struct Holding {
    seat: Option<Arc<Seat>>,
    segment: Arc<Segment>,
    front: Front,
}

impl Holding {
    fn is_mine(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.is_mine())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if self.is_mine() {
            self.seat = None;
            // The owner may wait for a worker that is gone.
            self.front.answers().ring_anyway();
            self.segment.forget();
        }
    }
}

/// One participant's side.
pub(super) struct Shared<Q: Shareable, A: Shareable> {
    jobs: Jobs<Q, A>,
    capacity: usize,
    attempts: u32,
    /// What of the dead the others have been told.
    told: Stats,
    // Goes last.
    holding: Arc<Holding>,
}

impl<Q: Shareable, A: Shareable> Shared<Q, A> {
    /// The owner's side.
    pub(super) fn owner(way: Way<'_>, spec: &Spec, capacity: usize, attempts: u32) -> Result<Self, Error> {
        let owner = Self::sit(way, spec, capacity, attempts, OWNER)?;
        match owner.holding.front.door() {
            Door::Left => Err(Error::EndClosed { end: "owner" }),
            _ => Ok(owner),
        }
    }

    /// A worker's side, in the first free seat from a random one on: whoever tries one seat after the other from the
    /// same one on tries as many as there are workers.
    pub(super) fn of_worker(
        way: Way<'_>,
        spec: &Spec,
        capacity: usize,
        attempts: u32,
    ) -> Result<Self, Error> {
        let workers = spec.seats - 1;
        let first = 1 + Real::now() as usize / 64 % workers;
        let from = |seats: Range<usize>| {
            let mut seats = seats;
            let sat = seats.find_map(|seat| match Self::sit(way, spec, capacity, attempts, seat) {
                Err(Error::SeatTaken { .. } | Error::SeatSpoilt { .. }) => None,
                other => Some(other),
            });
            sat.unwrap_or(Err(Error::NoSeat { seats: workers }))
        };
        match from(first..spec.seats) {
            Err(Error::NoSeat { .. }) => from(1..first),
            other => other,
        }
    }

    fn sit(way: Way<'_>, spec: &Spec, capacity: usize, attempts: u32, seat: usize) -> Result<Self, Error> {
        let mut jobs = Jobs::enter(FRONT, capacity, attempts, |recover| match way {
            Way::Name(name) => Member::open(name, spec, Some(seat), recover),
            Way::Segment(segment) => Member::sit(segment, spec, Some(seat), recover),
        })?;
        let segment = jobs.segment().expect("it is in one").clone();
        let front = Front::new(&Memory::body(&segment));
        let holding = Arc::new(Holding { seat: jobs.member().seat(), segment, front });
        let mut shared = Shared { jobs, capacity, attempts, told: Stats::default(), holding };
        shared.tell();
        Ok(shared)
    }

    /// The sides of a worker.
    pub(super) fn worker(self) -> Worker<Q, A> {
        // SAFETY: tokens come from this handle alone and go to this desk alone (see the top); the desk has the seat.
        let desk = unsafe { self.jobs.desk() };
        let desk = SharedDesk { desk, holding: self.holding.clone() };
        (Box::new(self), Arc::new(desk))
    }

    /// Wakes everybody if this handle has come upon something that the dead had left.
    #[inline]
    fn tell(&mut self) {
        if self.jobs.stats() != self.told {
            self.told = self.jobs.stats();
            self.holding.front.ring_all();
        }
    }
}

impl<Q: Shareable, A: Shareable> Table<Q, A> for Shared<Q, A> {
    fn front(&self) -> &Front {
        &self.holding.front
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn submit(&mut self, job: Q) -> Result<Ticket, Refused<Q>> {
        match self.jobs.submit(job) {
            Ok(ticket) => Ok(ticket),
            Err(PushError::Forked(job)) => Err(Refused::Forked(job)),
            // Nobody but us fills or collects: a place that is held seems so because a bad peer says it.
            Err(e) => Err(Refused::Full(e.into_inner())),
        }
    }

    #[inline]
    fn take(&mut self, closely: Closely) -> Result<(Token, Q), NoJob> {
        let taken = match closely {
            Closely::Glance => self.jobs.glance(),
            Closely::Thorough => self.jobs.take(),
        };
        self.tell();
        match taken {
            Ok(taken) => Ok(taken.with(0)),
            Err(PopError::Busy { holder }) => Err(NoJob::Busy(holder)),
            Err(PopError::Forked) => Err(NoJob::Forked),
            Err(_) => Err(NoJob::Empty),
        }
    }

    #[inline]
    fn collect(&mut self) -> Option<(Collected<A>, u32, Option<Q>)> {
        let collected = self.jobs.collect();
        self.tell();
        collected.map(|collected| (collected, self.jobs.last_deaths(), None))
    }

    fn recover_dead(&mut self) {
        self.jobs.recover_dead();
        self.tell();
    }

    fn census(&self) -> Census {
        self.jobs.census()
    }

    fn is_mine(&self) -> bool {
        self.holding.is_mine()
    }

    fn dead_owner(&mut self, at_once: bool) -> Option<Peer> {
        let member = self.jobs.member();
        if at_once {
            matches!(member.life(OWNER), Life::Dead | Life::Dying).then(|| member.peer(OWNER))
        } else {
            member.death(OWNER)
        }
    }

    fn workers(&self) -> Option<usize> {
        let segment = &self.holding.segment;
        let lives = (1..segment.spec().seats).map(|seat| segment.life(seat));
        let (mut came, mut live) = (false, 0);
        for life in lives {
            came |= life != Life::Absent;
            // What a dying one holds is not given to others yet.
            live += usize::from(matches!(life, Life::Alive | Life::Dying));
        }
        came.then_some(live)
    }

    /// A seat that was empty when it was looked at may be taken by somebody whom the last one brought before it went:
    /// only if no epoch has changed was there a moment without anybody. See `alone` of channels.
    fn all_gone(&self) -> bool {
        let segment = &self.holding.segment;
        let epochs =
            || (1..segment.spec().seats).fold(0_u64, |sum, seat| sum + u64::from(segment.seat_epoch(seat)));
        let before = epochs();
        self.workers() == Some(0) && epochs() == before
    }

    fn worker(&self) -> Result<Worker<Q, A>, Error> {
        let segment = &self.holding.segment;
        let way = Way::Segment(segment);
        Ok(Self::of_worker(way, segment.spec(), self.capacity, self.attempts)?.worker())
    }

    fn segment(&self) -> Option<&Arc<Segment>> {
        Some(&self.holding.segment)
    }
}

struct SharedDesk<Q: Shareable, A: Shareable> {
    desk: claim::Desk<Real, Q, A, Places<Q, A>>,
    // Goes last.
    holding: Arc<Holding>,
}

impl<Q: Shareable, A: Shareable> Desk<Q, A> for SharedDesk<Q, A> {
    #[inline]
    fn finish(&self, token: Token, answer: A) -> Result<(), (Lost, A)> {
        if !self.holding.is_mine() {
            return Err((Lost::Forked, answer));
        }
        self.desk.finish(token, answer).map_err(|_| (Lost::NotHeld, answer))?;
        self.holding.front.ring_after_job(false);
        Ok(())
    }

    fn give_back(&self, token: Token, _: Q, how: Back) -> Result<(), Lost> {
        if !self.holding.is_mine() {
            return Err(Lost::Forked);
        }
        let back = match how {
            Back::Declined => self.desk.decline(token).map(drop),
            Back::GivenUp => self.desk.give_up(token).map(drop),
        };
        back.map_err(|_| Lost::NotHeld)?;
        self.holding.front.ring_after_job(true);
        Ok(())
    }
}
