//! Jobs: submitted, taken by a worker, answered, collected. See [`sapwood_core::claim`] for the protocol.
//!
//! A job whose submit returned is collected once, as an answer or as failed; twice only if the one that collected it
//! died before its call returned. A worker that dies leaves the job to another one, until as many have died of it as
//! the table allows: a dead worker may have acted, so a job may be *worked on* several times. What the dead held is put
//! right where it lies, so nothing passes through the memory of who finds it, and it may die at that too.
//!
//! Who finds nothing to take or to collect looks now and then (once in 5 ms at most) whether those who hold jobs live.
//!
//! # Safety
//! The protocol asks what `mpmc` asks of names: a name is a seat and its epoch, a seat has one holder, and a newcomer
//! recovers every older name of its seat before it does anything else. In a block, each handle that `threads` makes has
//! a name of its own.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::claim::{self, Attempts, Peers, Recovered, SubmitError, TakeError};
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::wait::Closely;

use super::member::{self, Member, Recover, Watch, is_dead};
use super::region::Places;
use super::{Figures, Peer, PopError, PushError, Shareable};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::segment::{Segment, Spec};

pub use super::mpmc::PARTICIPANTS;
pub use sapwood_core::claim::{Census, Collected, Outcome, Taken, Ticket};

/// Why a job was not finished or declined. What was given is handed back: the job, and the answer if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError<T> {
    /// This worker does not hold it.
    #[error("{0}")]
    NotHeld(claim::NotHeld<T>),
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's jobs")]
    Forked(T),
}

impl<T> FinishError<T> {
    /// What was not done.
    pub fn into_inner(self) -> T {
        match self {
            FinishError::NotHeld(e) => e.into_inner(),
            FinishError::Forked(value) => value,
        }
    }
}

/// What this handle came upon that the dead had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Jobs that were never submitted, because their submitter died over it.
    pub unsubmitted: u64,
    /// Jobs whose worker died, and which another one can take.
    pub redelivered: u64,
    /// Jobs of which as many workers died as the table allows.
    pub failed: u64,
    /// Answers whose collector died over it, and which another one can collect.
    pub uncollected: u64,
}

impl Stats {
    fn add(&mut self, found: Recovered) {
        self.unsubmitted += u64::from(found.unsubmitted);
        self.redelivered += u64::from(found.redelivered);
        self.failed += u64::from(found.failed);
        self.uncollected += u64::from(found.uncollected);
    }
}

/// The segment that a table of `capacity` jobs for `participants` handles needs, where `attempts` workers may die of a
/// job: for those who make, inherit or receive it by themselves.
///
/// # Errors
/// [`Error::Capacity`], unless it is a power of two that a table of such jobs can have; [`Error::Participants`],
/// [`Error::Attempts`].
pub fn spec<Q: Shareable, A: Shareable>(
    capacity: usize,
    participants: usize,
    attempts: u32,
) -> Result<Spec, Error> {
    if !(1..=PARTICIPANTS).contains(&participants) {
        return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
    }
    let bytes = Places::<Q, A>::bytes(capacity)?;
    let figures = Figures::of_jobs::<Q, A>(capacity, Attempts::of(attempts)?);
    Ok(member::spec(kind::JOBS, figures, participants, bytes))
}

/// The handles of a table of `capacity` jobs, one for each of `participants` threads.
///
/// ```
/// use sapwood_shm::ring::jobs::{self, Outcome};
///
/// let mut handles = jobs::threads::<u32, u64>(16, 2, 3)?;
/// let (mut worker, mut owner) = (handles.pop().unwrap(), handles.pop().unwrap());
/// let ticket = owner.submit(7)?;
/// let taken = worker.take()?;
/// let answer = u64::from(taken.job) * 6;
/// worker.finish(taken, answer)?;
/// let collected = owner.collect().expect("it is over");
/// assert_eq!((collected.ticket, collected.outcome), (ticket, Outcome::Answer(42)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As for [`spec`], and [`Error::NoSpace`].
pub fn threads<Q: Shareable, A: Shareable>(
    capacity: usize,
    participants: usize,
    attempts: u32,
) -> Result<Vec<Jobs<Q, A>>, Error> {
    let body = spec::<Q, A>(capacity, participants, attempts)?.body;
    let attempts = Attempts::of(attempts)?;
    let places = Places::new(Memory::block("jobs", body)?, capacity)?;
    let handle =
        |seat| Jobs::on(places.clone(), Owner::new(seat, 1), attempts, Member::thread(), Stats::default());
    Ok((0..participants as u32).map(handle).collect())
}

/// The table that begins `front` bytes into a memory.
fn places<Q: Shareable, A: Shareable>(
    memory: &Memory,
    front: usize,
    capacity: usize,
) -> Result<Places<Q, A>, Error> {
    let bytes = Places::<Q, A>::bytes(capacity)? as usize;
    Ok(Places::new(memory.part(front, bytes), capacity)?)
}

/// What one kind of call knows of the others.
#[derive(Debug, Default)]
struct Others {
    segment: Option<Arc<Segment>>,
    watch: Watch,
    at_once: bool,
}

impl Peers for Others {
    fn alive(&mut self, owner: Owner) -> bool {
        let asks = || self.at_once || self.watch.is_due();
        !self.segment.as_ref().is_some_and(|s| is_dead(s, owner, asks))
    }
}

/// One participant's handle: owner, worker, or both. Dropping it gives its seat up; jobs that it has taken and not
/// finished are as a dead worker's.
///
/// ```
/// use sapwood_shm::ring::jobs::Jobs;
///
/// // Each in a process of its own; up to 4 of them. A job may cost 3 workers.
/// # let name = &format!("doc-jobs-{}", std::process::id());
/// let mut owner = Jobs::<[u64; 2], u64>::open(name, 64, 4, 3)?;
/// let mut worker = Jobs::<[u64; 2], u64>::open(name, 64, 4, 3)?;
/// owner.submit([2, 3])?;
/// let taken = worker.take()?;
/// drop(worker); // leaves without an answer
/// let mut other = Jobs::<[u64; 2], u64>::open(name, 64, 4, 3)?;
/// assert_eq!(other.take()?.attempts, 1);
/// # owner.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Jobs<Q: Shareable, A: Shareable> {
    table: claim::Jobs<Real, Q, A, Places<Q, A>>,
    submits: Others,
    takes: Others,
    stats: Stats,
    /// When to look for the dead, having found nothing to take.
    idle: Watch,
    /// The same, to collect.
    uncollected: Watch,
    member: Member,
}

/// Between threads nobody would ever find the handle dead, so what it holds goes back at once. In a segment its seat
/// says that it is gone.
impl<Q: Shareable, A: Shareable> Drop for Jobs<Q, A> {
    fn drop(&mut self) {
        if self.member.segment().is_none() && self.member.is_mine() {
            let me = self.table.me();
            self.table.recover(me);
        }
    }
}

impl<Q: Shareable, A: Shareable> Jobs<Q, A> {
    /// A participant of the table called `name`, which is made if there is none. A job is given up after `attempts`
    /// deaths, 1 to 15; all participants say the same.
    ///
    /// # Errors
    /// As for [`mpmc::Ring::open`](super::mpmc::Ring::open), which also where others say another number; and
    /// [`Error::Attempts`].
    pub fn open(name: &str, capacity: usize, participants: usize, attempts: u32) -> Result<Self, Error> {
        let spec = spec::<Q, A>(capacity, participants, attempts)?;
        Self::enter(0, capacity, attempts, |recover| Member::open(name, &spec, None, recover))
    }

    /// A participant of a new table without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// As for [`spec`], and [`Error::NoSpace`].
    pub fn create(capacity: usize, participants: usize, attempts: u32) -> Result<Self, Error> {
        let spec = spec::<Q, A>(capacity, participants, attempts)?;
        Self::attach(&member::create(&spec)?, capacity, attempts)
    }

    /// A participant of the table in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize, attempts: u32) -> Result<Self, Error> {
        let spec = spec::<Q, A>(capacity, segment.spec().seats, attempts)?;
        Self::enter(0, capacity, attempts, |recover| Member::sit(segment, &spec, None, recover))
    }

    /// Takes a seat, and clears what its dead holders have left in the table, which begins `front` bytes into the body.
    pub(crate) fn enter(
        front: usize,
        capacity: usize,
        attempts: u32,
        sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>,
    ) -> Result<Self, Error> {
        let (attempts, mut stats) = (Attempts::of(attempts)?, Stats::default());
        let member = sit(&mut |segment, me, dead| {
            // SAFETY: the segment stays mapped to the end of this call, and so long the handle lives.
            let places = places::<Q, A>(&unsafe { Memory::lent(segment) }, front, capacity)?;
            // SAFETY: the seat is ours already, and so is the name; nobody has used it before.
            let mut table =
                unsafe { claim::Jobs::<Real, Q, A, _>::attach(places, member::name(me), attempts) };
            stats.add(table.recover(Owner::new(me.number() as u32, dead)));
            Ok(())
        })?;
        let places = places(&member.memory(), front, capacity)?;
        Ok(Self::on(places, member.owner(), attempts, member, stats))
    }

    fn on(places: Places<Q, A>, me: Owner, attempts: Attempts, member: Member, stats: Stats) -> Self {
        // SAFETY: as said at the top, nobody else has the name; in a segment, `enter` has recovered the seat.
        let table = unsafe { claim::Jobs::attach(places, me, attempts) };
        let others = || Others { segment: member.segment().cloned(), ..Others::default() };
        let (submits, takes, [idle, uncollected]) = (others(), others(), Default::default());
        Jobs { table, submits, takes, stats, idle, uncollected, member }
    }

    /// Submits a job, and says under which ticket it will be collected.
    ///
    /// # Errors
    /// [`PushError`] without [`Closed`](PushError::Closed) and [`PeerDied`](PushError::PeerDied), with the job.
    #[inline]
    pub fn submit(&mut self, job: Q) -> Result<Ticket, PushError<Q>> {
        if !self.member.is_mine() {
            return Err(PushError::Forked(job));
        }
        match self.table.submit(job, &mut self.submits) {
            Ok(ticket) => Ok(ticket),
            Err(SubmitError::Busy { owner, job }) => {
                Err(PushError::Busy { holder: self.holder(owner), value: job })
            }
            Err(e) => Err(PushError::Full(e.into_inner())),
        }
    }

    /// Takes a job: the oldest that nobody has taken yet, or one that has come back. It is for
    /// [`finish`](Self::finish) or [`decline`](Self::decline).
    ///
    /// # Errors
    /// [`PopError`] without [`Drained`](PopError::Drained) and [`PeerDied`](PopError::PeerDied).
    #[inline]
    pub fn take(&mut self) -> Result<Taken<Q>, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        match self.table.take(&mut self.takes) {
            Ok(taken) => Ok(taken),
            Err(TakeError::Busy { owner }) => Err(PopError::Busy { holder: self.holder(owner) }),
            Err(_) if self.idle.is_due() && self.recover_dead() => {
                self.table.take(&mut self.takes).map_err(|_| PopError::Empty)
            }
            Err(_) => Err(PopError::Empty),
        }
    }

    /// The same by a glance: it asks for nobody's life, and misses jobs that have come back. For looks that
    /// [`take`](Self::take) follows.
    #[inline]
    pub(crate) fn glance(&mut self) -> Result<Taken<Q>, PopError> {
        if !self.member.is_mine() {
            return Err(PopError::Forked);
        }
        let taken = self.table.take_looking(Closely::Glance, &mut self.takes);
        taken.map_err(|e| match e {
            TakeError::Busy { owner } => PopError::Busy { holder: self.holder(owner) },
            _ => PopError::Empty,
        })
    }

    /// Answers a job.
    ///
    /// # Errors
    /// [`FinishError`], with the job and the answer; then nothing was written.
    #[inline]
    pub fn finish(&mut self, taken: Taken<Q>, answer: A) -> Result<(), FinishError<(Taken<Q>, A)>> {
        if !self.member.is_mine() {
            return Err(FinishError::Forked((taken, answer)));
        }
        self.table.finish(taken, answer).map_err(FinishError::NotHeld)
    }

    /// Gives a job back for another worker, or this one, to take. It counts as no attempt.
    ///
    /// # Errors
    /// [`FinishError`], with the job; then nothing was changed.
    pub fn decline(&mut self, taken: Taken<Q>) -> Result<(), FinishError<Taken<Q>>> {
        if !self.member.is_mine() {
            return Err(FinishError::Forked(taken));
        }
        self.table.decline(taken).map_err(FinishError::NotHeld)
    }

    /// Takes the answer of the oldest job that is over, or the news that it has failed. `None`: no job is over, or this
    /// is a forked child.
    #[inline]
    pub fn collect(&mut self) -> Option<Collected<A>> {
        if !self.member.is_mine() {
            return None;
        }
        let collected = self.table.collect();
        if collected.is_none() && self.uncollected.is_due() && self.recover_dead() {
            return self.table.collect();
        }
        collected
    }

    /// Looks for jobs that the dead hold, by proof. Says whether there were any.
    #[cold]
    pub fn recover_dead(&mut self) -> bool {
        if !self.member.is_mine() {
            return false;
        }
        let segment = self.member.segment().cloned();
        let found = self.table.recover_dead(&mut Others { segment, at_once: true, ..Others::default() });
        self.stats.add(found);
        found != Recovered::default()
    }

    /// The right to this participant's seat, and its view of the others.
    pub(crate) fn member(&mut self) -> &mut Member {
        &mut self.member
    }

    /// How many workers had died of the job that was collected last.
    pub(crate) fn last_deaths(&self) -> u32 {
        self.table.last_deaths()
    }

    /// Where the jobs that this participant takes are ended.
    ///
    /// # Safety
    /// As long as the desk lives, both are given only what this handle has taken, and its seat is held.
    pub(crate) unsafe fn desk(&self) -> claim::Desk<Real, Q, A, Places<Q, A>> {
        // SAFETY: as the caller promises.
        unsafe { self.table.desk() }
    }

    fn holder(&self, owner: Owner) -> Option<Peer> {
        let seats = self.member.segment().map_or(PARTICIPANTS, |segment| segment.spec().seats);
        let seat = owner.seat() as usize;
        (seat < seats).then(|| self.member.peer(seat))
    }

    /// How many jobs are where, roughly, by a look at every place.
    pub fn census(&self) -> Census {
        self.table.census()
    }

    /// In which seat this participant sits; its number, between threads.
    pub fn seat(&self) -> usize {
        self.table.me().seat() as usize
    }

    /// What the dead had left, as far as this handle came upon it by a look of its own.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The segment that the table is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }
}
