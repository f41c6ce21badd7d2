//! The table between threads, for any values: the same protocol, over numbers of cells in which the values lie.
//!
//! The owner alone gives numbers out: it puts the job into a free cell, submits the cell's number, and has the cell
//! back when it has collected. So there are as many cells as places, and a number is one job's.
//!
//! | who may touch cell i                         | from                                     | to                                    |
//! |----------------------------------------------|------------------------------------------|---------------------------------------|
//! | the owner                                    | the beginning, or its collect of i       | its submit of i                       |
//! | the worker that has taken i                  | its take                                 | its finish, decline or give up of i   |
//!
//! Each end of a right is a Release of the slot's word and each beginning the Acquire that it pairs with (see
//! [`sapwood_core::claim`]): for values in the cells it is as for values in the slot.
//!
//! Threads don't die alone: a worker that unwinds drops its job, which gives it up. A job that is leaked
//! (`mem::forget`) is never over.
//!
//! # Safety
//! The cells are touched as the table says. Memory of a block is this process's own, so no number comes from a
//! stranger. A name is taken as long as its desk lives.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::{Arc, Mutex, PoisonError};

use sapwood_core::claim::{
    self, Attempts, Census, Collected, Outcome, Peers, SubmitError, TakeError, Ticket,
};
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::wait::Closely;

use super::front::{FRONT, Front};
use super::table::{Back, Desk, Lost, NoJob, Refused, Table, Token, Worker};
use crate::error::Error;
use crate::memory::Memory;
use crate::ring::Peer;
use crate::ring::jobs::PARTICIPANTS;
use crate::ring::region::Places;
use crate::seat::Maker;
use crate::segment::Segment;

type Numbers = Places<u32, u32>;
type Jobs = claim::Jobs<Real, u32, u32, Numbers>;

/// On lines of its own: the owner and the workers of other jobs write theirs meanwhile.
#[repr(align(64))]
struct Cell<Q, A> {
    job: UnsafeCell<Option<Q>>,
    answer: UnsafeCell<Option<A>>,
}

/// What all handles of a queue share.
struct Common<Q, A> {
    cells: Box<[Cell<Q, A>]>,
    places: Numbers,
    front: Front,
    attempts: Attempts,
    maker: Maker,
    names: Mutex<Names>,
}

// SAFETY: values are moved in by one thread and out by another, and touched by one at a time (see the top); the rest is
// Sync by itself.
unsafe impl<Q: Send, A: Send> Sync for Common<Q, A> {}
// SAFETY: as above.
unsafe impl<Q: Send, A: Send> Send for Common<Q, A> {}

/// Which names workers have.
#[derive(Debug)]
struct Names {
    free: Vec<u32>,
    /// The lowest that nobody has had.
    next: u32,
    live: usize,
}

/// Threads live.
struct Immortal;

impl Peers for Immortal {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }
}

fn cells<Q, A>(count: usize) -> Result<Box<[Cell<Q, A>]>, Error> {
    let mut cells = Vec::new();
    cells.try_reserve_exact(count).map_err(|_| Error::NoSpace {
        what: "the values of a workqueue",
        need: (count * size_of::<Cell<Q, A>>()) as u64,
        have: crate::limits::memory_left(),
    })?;
    cells.extend((0..count).map(|_| Cell { job: UnsafeCell::new(None), answer: UnsafeCell::new(None) }));
    Ok(cells.into_boxed_slice())
}

impl<Q, A> Common<Q, A> {
    fn new(capacity: usize, attempts: u32) -> Result<Self, Error> {
        let attempts = Attempts::of(attempts)?;
        let bytes = Numbers::bytes(capacity)?;
        let memory = Memory::block("a workqueue", FRONT as u64 + bytes)?;
        let places = Numbers::new(memory.part(FRONT, bytes as usize), capacity)?;
        let names = Mutex::new(Names { free: Vec::new(), next: 1, live: 0 });
        let front = Front::new(&memory);
        Ok(Common { cells: cells(capacity)?, places, front, attempts, maker: Maker::this(), names })
    }

    fn jobs(&self, name: u32) -> Jobs {
        // SAFETY: the owner's name is 0, and a worker's is given out once until its desk is gone.
        unsafe { claim::Jobs::attach(self.places.clone(), Owner::new(name, 1), self.attempts) }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` also in a forked child, where another thread may have held the lock.
    fn workers(&self) -> Option<usize> {
        if !self.maker.is_this() {
            return None;
        }
        let names = self.names();
        (names.next > 1).then_some(names.live)
    }

    fn take_name(&self) -> Result<u32, Error> {
        // Before the lock, which another thread may have held when this process was forked.
        if !self.maker.is_this() {
            return Err(Error::Forked { what: "end of a workqueue" });
        }
        let mut names = self.names();
        let name = match names.free.pop() {
            Some(name) => name,
            None if (names.next as usize) < PARTICIPANTS => {
                names.next += 1;
                names.next - 1
            }
            None => return Err(Error::NoSeat { seats: PARTICIPANTS - 1 }),
        };
        names.live += 1;
        Ok(name)
    }

    fn give_name_back(&self, name: u32) {
        let mut names = self.names();
        names.free.push(name);
        names.live -= 1;
    }

    /// # Safety
    /// The caller has the right to the cell.
    unsafe fn put_job(&self, cell: u32, job: Option<Q>) -> Option<Q> {
        // SAFETY: as the caller promises.
        unsafe { std::mem::replace(&mut *self.cells[cell as usize].job.get(), job) }
    }

    /// # Safety
    /// The caller has the right to the cell.
    unsafe fn put_answer(&self, cell: u32, answer: Option<A>) -> Option<A> {
        // SAFETY: as the caller promises.
        unsafe { std::mem::replace(&mut *self.cells[cell as usize].answer.get(), answer) }
    }
}

/// The owner's side.
pub(super) struct OfOwner<Q, A> {
    jobs: Jobs,
    common: Arc<Common<Q, A>>,
    /// Cells without a job.
    free: Vec<u32>,
    /// Which cell the job has that was submitted to a place.
    cell_of: Box<[u32]>,
}

impl<Q: Send + 'static, A: Send + 'static> OfOwner<Q, A> {
    pub(super) fn new(capacity: usize, attempts: u32) -> Result<Self, Error> {
        let common = Common::new(capacity, attempts)?;
        let free = (0..capacity as u32).rev().collect();
        let cell_of = vec![0; capacity].into_boxed_slice();
        Ok(OfOwner { jobs: common.jobs(0), common: Arc::new(common), free, cell_of })
    }
}

impl<Q: Send + 'static, A: Send + 'static> Table<Q, A> for OfOwner<Q, A> {
    fn front(&self) -> &Front {
        &self.common.front
    }

    fn capacity(&self) -> usize {
        self.cell_of.len()
    }

    fn submit(&mut self, job: Q) -> Result<Ticket, Refused<Q>> {
        if !self.is_mine() {
            return Err(Refused::Forked(job));
        }
        // As many cells as places: without a free one there is no place either.
        let Some(cell) = self.free.pop() else { return Err(Refused::Full(job)) };
        // SAFETY: a free cell is ours.
        drop(unsafe { self.common.put_job(cell, Some(job)) });
        match self.jobs.submit(cell, &mut Immortal) {
            Ok(ticket) => {
                let place = ticket.0 as usize & (self.cell_of.len() - 1);
                self.cell_of[place] = cell;
                Ok(ticket)
            }
            Err(SubmitError::Full(_) | SubmitError::Busy { .. } | _) => {
                self.free.push(cell);
                // SAFETY: it was not submitted, so it is ours still.
                let job = unsafe { self.common.put_job(cell, None) };
                Err(Refused::Full(job.expect("it was put there just now")))
            }
        }
    }

    fn take(&mut self, _: Closely) -> Result<(Token, Q), NoJob> {
        Err(NoJob::Empty)
    }

    fn collect(&mut self) -> Option<(Collected<A>, u32, Option<Q>)> {
        if !self.is_mine() {
            return None;
        }
        let Collected { ticket, outcome } = self.jobs.collect()?;
        let cell = self.cell_of[ticket.0 as usize & (self.cell_of.len() - 1)];
        // SAFETY: the job is over, and we have collected it.
        let (answer, job) = unsafe { (self.common.put_answer(cell, None), self.common.put_job(cell, None)) };
        self.free.push(cell);
        let outcome = match (outcome, answer) {
            (Outcome::Failed { attempts }, _) => Outcome::Failed { attempts },
            (Outcome::Answer(_), answer) => Outcome::Answer(answer.expect("who finished has put it there")),
        };
        Some((Collected { ticket, outcome }, self.jobs.last_deaths(), job))
    }

    fn recover_dead(&mut self) {}

    fn census(&self) -> Census {
        self.jobs.census()
    }

    fn is_mine(&self) -> bool {
        self.common.maker.is_this()
    }

    fn dead_owner(&mut self, _: bool) -> Option<Peer> {
        None
    }

    fn workers(&self) -> Option<usize> {
        self.common.workers()
    }

    fn all_gone(&self) -> bool {
        self.workers() == Some(0)
    }

    fn worker(&self) -> Result<Worker<Q, A>, Error> {
        OfWorker::make(&self.common)
    }

    fn segment(&self) -> Option<&Arc<Segment>> {
        None
    }
}

/// A worker's side.
struct OfWorker<Q: Send + 'static, A: Send + 'static> {
    jobs: Jobs,
    desk: Arc<LocalDesk<Q, A>>,
}

impl<Q: Send + 'static, A: Send + 'static> OfWorker<Q, A> {
    fn make(common: &Arc<Common<Q, A>>) -> Result<Worker<Q, A>, Error> {
        let name = common.take_name()?;
        let jobs = common.jobs(name);
        // SAFETY: tokens come from this handle alone and go to this desk alone, because both lie in one `Job`.
        let desk = unsafe { jobs.desk() };
        let desk = Arc::new(LocalDesk { desk, common: common.clone(), name });
        Ok((Box::new(OfWorker { jobs, desk: desk.clone() }), desk))
    }

    fn common(&self) -> &Common<Q, A> {
        &self.desk.common
    }
}

impl<Q: Send + 'static, A: Send + 'static> Table<Q, A> for OfWorker<Q, A> {
    fn front(&self) -> &Front {
        &self.common().front
    }

    fn capacity(&self) -> usize {
        self.common().cells.len()
    }

    fn submit(&mut self, job: Q) -> Result<Ticket, Refused<Q>> {
        Err(Refused::Full(job))
    }

    fn take(&mut self, closely: Closely) -> Result<(Token, Q), NoJob> {
        if !self.is_mine() {
            return Err(NoJob::Forked);
        }
        let taken = match self.jobs.take_looking(closely, &mut Immortal) {
            Ok(taken) => taken,
            Err(TakeError::Empty) => return Err(NoJob::Empty),
            Err(_) => return Err(NoJob::Busy(None)),
        };
        let cell = taken.job;
        // SAFETY: we have taken it.
        let job = unsafe { self.common().put_job(cell, None) };
        Ok((taken, job.expect("who submitted it or gave it back has put it there")))
    }

    fn collect(&mut self) -> Option<(Collected<A>, u32, Option<Q>)> {
        None
    }

    fn recover_dead(&mut self) {}

    fn census(&self) -> Census {
        self.jobs.census()
    }

    fn is_mine(&self) -> bool {
        self.common().maker.is_this()
    }

    fn dead_owner(&mut self, _: bool) -> Option<Peer> {
        None
    }

    fn workers(&self) -> Option<usize> {
        self.common().workers()
    }

    fn all_gone(&self) -> bool {
        self.workers() == Some(0)
    }

    fn worker(&self) -> Result<Worker<Q, A>, Error> {
        Self::make(&self.desk.common)
    }

    fn segment(&self) -> Option<&Arc<Segment>> {
        None
    }
}

struct LocalDesk<Q, A> {
    desk: claim::Desk<Real, u32, u32, Numbers>,
    common: Arc<Common<Q, A>>,
    name: u32,
}

impl<Q: Send, A: Send> Desk<Q, A> for LocalDesk<Q, A> {
    fn finish(&self, token: Token, answer: A) -> Result<(), (Lost, A)> {
        if !self.common.maker.is_this() {
            return Err((Lost::Forked, answer));
        }
        let cell = token.job;
        // SAFETY: we hold the job until the next line has ended it.
        let before = unsafe { self.common.put_answer(cell, Some(answer)) };
        let ended = self.desk.finish(token, cell);
        ended.expect("memory of this process says what we wrote");
        self.common.front.ring_after_job(false);
        drop(before);
        Ok(())
    }

    fn give_back(&self, token: Token, job: Q, how: Back) -> Result<(), Lost> {
        if !self.common.maker.is_this() {
            return Err(Lost::Forked);
        }
        // SAFETY: we hold the job until the next lines have given it back.
        let before = unsafe { self.common.put_job(token.job, Some(job)) };
        let back = match how {
            Back::Declined => self.desk.decline(token).map(drop),
            Back::GivenUp => self.desk.give_up(token).map(drop),
        };
        back.expect("memory of this process says what we wrote");
        self.common.front.ring_after_job(true);
        drop(before);
        Ok(())
    }
}

impl<Q, A> Drop for LocalDesk<Q, A> {
    fn drop(&mut self) {
        if self.common.maker.is_this() {
            self.common.give_name_back(self.name);
            // The owner may wait for a worker that is gone.
            self.common.front.answers().ring_anyway();
        }
    }
}
