//! The owner's end: submits jobs, receives answers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::claim::Door;
use sapwood_core::link::Deadline;
use sapwood_core::wait::{WaitPolicy, WaitStats};

use super::error::{RecvError, SubmitError};
use super::front::Front;
use super::table::{Refused, Table};
use super::{Answer, DEFAULT_DEADLINE, Outcome, Ticket, WorkQueue, Worker};
use crate::error::Error;
use crate::ring::Shareable;
use crate::segment::Segment;
use crate::wait::{Patience, Stop};

/// What has become of jobs, as far as the owner has received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Jobs that were submitted.
    pub submitted: u64,
    /// Jobs that came back with an answer.
    pub answered: u64,
    /// How often a job had to be given to another worker, because the one that held it died or dropped it.
    pub redelivered: u64,
    /// Jobs that were given up, because as many workers died of them as may.
    pub failed: u64,
}

/// The one end of a queue that submits jobs and receives answers. See [the module](super).
///
/// Dropping it closes the queue for good: workers are handed what waits, then they are told.
pub struct Owner<Q, A> {
    desk: Desk<Q, A>,
    front: Front,
    patience: Patience,
    deadline: Duration,
}

impl<Q, A> fmt::Debug for Owner<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Owner");
        out.field("in_flight", &self.desk.in_flight).field("backlog", &self.desk.backlog.len()).finish()
    }
}

/// The part that waiting looks at.
struct Desk<Q, A> {
    table: Box<dyn Table<Q, A>>,
    /// Answers that were collected to make room.
    backlog: VecDeque<Answer<A>>,
    /// Jobs that were submitted and not collected.
    in_flight: usize,
    stats: Stats,
}

impl<Q, A> Desk<Q, A> {
    /// Submits. Where there is no place, jobs that are over make one: their answers wait here.
    fn submit(&mut self, job: Q) -> Result<Ticket, SubmitError<Q>> {
        if self.table.front().door() != Door::Open {
            return Err(SubmitError::Closed(job));
        }
        let mut job = job;
        for _ in 0..=self.table.capacity() {
            match self.table.submit(job) {
                Ok(ticket) => {
                    self.in_flight += 1;
                    self.stats.submitted += 1;
                    self.table.front().ring_after_submit();
                    return Ok(ticket);
                }
                Err(Refused::Forked(job)) => return Err(SubmitError::Forked(job)),
                Err(Refused::Full(refused)) => job = refused,
            }
            match self.collect() {
                Some(answer) => self.backlog.push_back(answer),
                None => break,
            }
        }
        Err(SubmitError::Full(job))
    }

    /// As many answers as jobs: whatever a bad worker writes, no more come. So draining ends.
    fn collect(&mut self) -> Option<Answer<A>> {
        let left = self.in_flight.checked_sub(1)?;
        let (answer, deaths, job) = self.table.collect()?;
        self.in_flight = left;
        match answer.outcome {
            Outcome::Answer(_) => self.stats.answered += 1,
            Outcome::Failed { .. } => self.stats.failed += 1,
        }
        let again = deaths - u32::from(matches!(answer.outcome, Outcome::Failed { .. })).min(deaths);
        self.stats.redelivered += u64::from(again);
        let Some(job) = job else { return Some(answer) };
        // The drop is the caller's code, and may panic: meanwhile the answer waits where the next call finds it.
        self.backlog.push_back(answer);
        drop(job);
        self.backlog.pop_back()
    }

    fn recv(&mut self) -> Result<Answer<A>, RecvError> {
        if !self.table.is_mine() {
            return Err(RecvError::Forked);
        }
        if let Some(answer) = self.backlog.pop_front() {
            return Ok(answer);
        }
        match self.collect() {
            Some(answer) => Ok(answer),
            None if self.in_flight == 0 => Err(RecvError::Idle),
            None => Err(RecvError::Empty { in_flight: self.in_flight }),
        }
    }

    /// Before a sleep: the jobs of the dead go to others, and there are others. `Err`: all who came are gone.
    fn look(&mut self) -> Result<(), ()> {
        // First: behind the proof that all are gone, all of theirs is recovered.
        let gone = self.table.all_gone();
        self.table.recover_dead();
        if gone { Err(()) } else { Ok(()) }
    }

    fn workers(&self) -> usize {
        self.table.workers().unwrap_or(0)
    }
}

impl<Q, A> Owner<Q, A> {
    pub(super) fn on(table: Box<dyn Table<Q, A>>) -> Owner<Q, A> {
        let (front, in_flight) = (table.front().clone(), table.census().in_flight() as usize);
        let desk = Desk { table, backlog: VecDeque::new(), in_flight, stats: Stats::default() };
        Owner { desk, front, patience: Patience::default(), deadline: DEFAULT_DEADLINE }
    }

    /// How long a call without a time of its own waits; [`DEFAULT_DEADLINE`] unless this says otherwise.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How it waits.
    pub fn waiting(mut self, policy: WaitPolicy) -> Self {
        self.patience = Patience::new(policy);
        self
    }

    /// How often each stage of waiting was used.
    pub fn wait_stats(&self) -> WaitStats {
        self.patience.stats()
    }

    /// Submits a job; waits for a place if there is none. Answers that have come are put aside meanwhile, so that a
    /// queue of any capacity carries any number of jobs.
    ///
    /// # Errors
    /// [`SubmitError`] without [`Full`](SubmitError::Full), with the job.
    pub fn submit(&mut self, job: Q) -> Result<Ticket, SubmitError<Q>> {
        self.submit_timeout(job, self.deadline)
    }

    /// The same, waiting for at most `limit`.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn submit_timeout(&mut self, job: Q, limit: Duration) -> Result<Ticket, SubmitError<Q>> {
        let job = match self.desk.submit(job) {
            Err(SubmitError::Full(job)) => job,
            other => return other,
        };
        let (desk, mut last) = (RefCell::new(&mut self.desk), Err(SubmitError::Full(job)));
        let again = |last: &mut Result<Ticket, SubmitError<Q>>| {
            if let Err(SubmitError::Full(_)) = last
                && let Err(SubmitError::Full(job)) = std::mem::replace(last, Ok(Ticket(0)))
            {
                *last = desk.borrow_mut().submit(job);
            }
            !matches!(last, Err(SubmitError::Full(_)))
        };
        let ready = || again(&mut last);
        let look = || desk.borrow_mut().look();
        let waited = self.patience.wait(self.front.answers(), Deadline::after(limit), ready, look);
        if waited.is_err() {
            // What came just before the proof, or the deadline.
            again(&mut last);
        }
        let job = match last {
            Err(SubmitError::Full(job)) => job,
            other => return other,
        };
        let desk = desk.into_inner();
        match waited {
            Err(Stop::Told(())) => Err(SubmitError::NoWorkers { in_flight: desk.in_flight, job }),
            Err(Stop::TimedOut { waited }) => {
                Err(SubmitError::TimedOut { waited, workers: desk.workers(), job })
            }
            Ok(()) => Err(SubmitError::Full(job)),
        }
    }

    /// Submits a job if there is a place.
    ///
    /// # Errors
    /// [`SubmitError::Full`], [`SubmitError::Closed`], [`SubmitError::Forked`], with the job.
    #[inline]
    pub fn try_submit(&mut self, job: Q) -> Result<Ticket, SubmitError<Q>> {
        self.desk.submit(job)
    }

    /// Receives an answer: of the oldest job that is over, or the news that it has failed. Waits for one.
    ///
    /// # Errors
    /// [`RecvError`] without [`Empty`](RecvError::Empty).
    pub fn recv(&mut self) -> Result<Answer<A>, RecvError> {
        self.recv_timeout(self.deadline)
    }

    /// The same, waiting for at most `limit`.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<Answer<A>, RecvError> {
        self.recv_by(Deadline::after(limit))
    }

    fn recv_by(&mut self, deadline: Deadline) -> Result<Answer<A>, RecvError> {
        let empty = match self.desk.recv() {
            Err(empty @ RecvError::Empty { .. }) => empty,
            other => return other,
        };
        let (desk, mut last) = (RefCell::new(&mut self.desk), Err(empty));
        let ready = || {
            last = desk.borrow_mut().recv();
            !matches!(last, Err(RecvError::Empty { .. }))
        };
        let look = || desk.borrow_mut().look();
        let waited = self.patience.wait(self.front.answers(), deadline, ready, look);
        let desk = desk.into_inner();
        let Err(stop) = waited else { return last };
        // What came just before the proof, or the deadline.
        match (desk.recv(), stop) {
            (Err(RecvError::Empty { in_flight }), Stop::Told(())) => Err(RecvError::NoWorkers { in_flight }),
            (Err(RecvError::Empty { in_flight }), Stop::TimedOut { waited }) => {
                Err(RecvError::TimedOut { waited, in_flight, workers: desk.workers() })
            }
            (other, _) => other,
        }
    }

    /// Receives an answer if one is there.
    ///
    /// # Errors
    /// [`RecvError::Empty`], [`RecvError::Idle`], [`RecvError::Forked`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Answer<A>, RecvError> {
        self.desk.recv()
    }

    /// Waits until no job is in flight, and returns all answers: also of jobs that workers hold, or have held and died
    /// of, meanwhile.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv). What had come until then is not lost, also where a job that has failed panics in
    /// its drop: it is what the next calls receive.
    pub fn drain(&mut self) -> Result<Vec<Answer<A>>, RecvError> {
        self.drain_timeout(self.deadline)
    }

    /// The same, waiting for at most `limit` in all.
    ///
    /// # Errors
    /// As for [`drain`](Self::drain).
    pub fn drain_timeout(&mut self, limit: Duration) -> Result<Vec<Answer<A>>, RecvError> {
        let deadline = Deadline::at(Deadline::after(limit).start().until());
        let mut answers = Vec::with_capacity(self.pending());
        loop {
            // It drops jobs that have failed, which may panic.
            let said = catch_unwind(AssertUnwindSafe(|| self.recv_by(deadline)));
            match said {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(RecvError::Idle)) => return Ok(answers),
                _ => {
                    // What had come goes before what has come since.
                    answers.extend(self.desk.backlog.drain(..));
                    self.desk.backlog = answers.into();
                    return said.unwrap_or_else(|why| resume_unwind(why)).map(|_| Vec::new());
                }
            }
        }
    }

    /// Jobs that were submitted and whose answers were not received.
    pub fn pending(&self) -> usize {
        self.desk.in_flight + self.desk.backlog.len()
    }

    /// Says that no more jobs come. Workers are handed what waits, then told; answers can still be received.
    pub fn close(&mut self) {
        if self.desk.table.is_mine() {
            self.front.close(false);
        }
    }

    /// Another worker of this queue, for a thread of this process.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if there are as many as can be, [`Error::Forked`] between threads in a forked child, and what
    /// taking a seat says.
    pub fn worker(&self) -> Result<Worker<Q, A>, Error> {
        self.desk.table.worker().map(Worker::on)
    }

    /// Workers that live now: between processes by proof, some microseconds for each.
    pub fn workers(&self) -> usize {
        self.desk.workers()
    }

    /// How many jobs can be in the queue at a time, waiting, being worked on, or over.
    pub fn capacity(&self) -> usize {
        self.desk.table.capacity()
    }

    /// What has become of the jobs.
    pub fn stats(&self) -> Stats {
        self.desk.stats
    }

    /// The segment that the queue is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.desk.table.segment()
    }
}

impl<Q: Shareable, A: Shareable> Owner<Q, A> {
    /// The owner of the queue called `name`, with [`WorkQueue`]'s other settings. Whoever comes first makes it; the
    /// owner that follows a dead one finds its jobs.
    ///
    /// # Errors
    /// See [`WorkQueue::owner`].
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        WorkQueue::new(capacity).owner(name)
    }

    /// The owner of a new queue without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// See [`WorkQueue::create`].
    pub fn create(capacity: usize) -> Result<Self, Error> {
        WorkQueue::new(capacity).create()
    }
}

impl<Q, A> Drop for Owner<Q, A> {
    fn drop(&mut self) {
        if self.desk.table.is_mine() {
            self.front.close(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::front::FRONT;
    use super::super::table::{self, NoJob, Token};
    use super::*;
    use crate::memory::Memory;
    use crate::ring::Peer;
    use sapwood_core::claim::{Census, Collected};
    use sapwood_core::wait::Closely;

    /// What a bad worker makes of a table: there is always one more answer.
    struct Liar(Front, u64);

    impl Table<u8, u8> for Liar {
        fn front(&self) -> &Front {
            &self.0
        }
        fn capacity(&self) -> usize {
            4
        }
        fn submit(&mut self, job: u8) -> Result<Ticket, Refused<u8>> {
            self.1 += 1;
            if self.1 > 2 { Err(Refused::Full(job)) } else { Ok(Ticket(self.1)) }
        }
        fn take(&mut self, _: Closely) -> Result<(Token, u8), NoJob> {
            Err(NoJob::Empty)
        }
        fn collect(&mut self) -> Option<(Collected<u8>, u32, Option<u8>)> {
            Some((Answer { ticket: Ticket(9), outcome: Outcome::Answer(9) }, 0, None))
        }
        fn recover_dead(&mut self) {}
        fn census(&self) -> Census {
            Census::default()
        }
        fn is_mine(&self) -> bool {
            true
        }
        fn dead_owner(&mut self, _: bool) -> Option<Peer> {
            None
        }
        fn workers(&self) -> Option<usize> {
            Some(1)
        }
        fn all_gone(&self) -> bool {
            false
        }
        fn worker(&self) -> Result<table::Worker<u8, u8>, Error> {
            Err(Error::NoSeat { seats: 1 })
        }
        fn segment(&self) -> Option<&Arc<Segment>> {
            None
        }
    }

    #[test]
    fn no_more_answers_come_than_jobs_were_submitted_whatever_a_bad_worker_writes() {
        let memory = Memory::block("a workqueue", FRONT as u64).expect("there is memory");
        let mut owner = Owner::on(Box::new(Liar(Front::new(&memory), 0)));
        for job in 0..2 {
            owner.submit(job).expect("there is room");
        }
        assert_eq!(
            owner.try_submit(2),
            Err(SubmitError::Full(2)),
            "the answers that there can be make no room"
        );
        assert_eq!(owner.drain().expect("it ends").len(), 2);
        assert_eq!((owner.try_recv(), owner.pending()), (Err(RecvError::Idle), 0));
    }
}
