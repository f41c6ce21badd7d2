//! A worker's end: takes jobs, answers them.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::claim::Look;
use sapwood_core::link::Deadline;
use sapwood_core::wait::{Closely, WaitPolicy, WaitStats};

use super::error::{FinishError, TakeError};
use super::front::Front;
use super::table::{self, Back, Lost, NoJob, Table, Token};
use super::{DEFAULT_DEADLINE, Ticket, WorkQueue};
use crate::error::Error;
use crate::ring::{Peer, Shareable};
use crate::segment::Segment;
use crate::wait::{Patience, Stop};

/// One of the ends of a queue that take jobs and answer them. See [the module](super).
///
/// `for job in worker` ends when no more jobs come.
pub struct Worker<Q, A> {
    bench: Bench<Q, A>,
    front: Front,
    patience: Patience,
    deadline: Duration,
}

impl<Q, A> fmt::Debug for Worker<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("table", &self.bench.table).finish()
    }
}

/// The part that waiting looks at.
struct Bench<Q, A> {
    table: Box<dyn Table<Q, A>>,
    desk: Arc<dyn table::Desk<Q, A>>,
}

/// Why nothing was taken, for now.
enum Nothing {
    Wait(Option<Peer>),
    Final(TakeError),
}

impl<Q, A> Bench<Q, A> {
    #[inline]
    fn take(&mut self, closely: Closely, front: &Front) -> Result<Job<Q, A>, Nothing> {
        let Bench { table, desk } = self;
        let mut table: &mut dyn Table<Q, A> = &mut **table;
        let looked = front.look(
            closely,
            &mut table,
            |table, closely| table.take(closely),
            |table| {
                let census = table.census();
                census.filling + census.waiting + census.claimed > 0
            },
        );
        match looked {
            Look::Got((token, job)) => {
                let (ticket, attempts) = (token.ticket, token.attempts);
                Ok(Job { held: Some((token, job)), ticket, attempts, desk: desk.clone() })
            }
            _ if !table.is_mine() => Err(Nothing::Final(TakeError::Forked)),
            Look::Over => Err(Nothing::Final(TakeError::Closed)),
            Look::Nothing(NoJob::Busy(holder)) => Err(Nothing::Wait(holder)),
            Look::Nothing(_) => Err(Nothing::Wait(None)),
        }
    }

    /// Before a sleep: the jobs of the dead go to others, and the owner lives.
    fn look(&mut self) -> Result<(), Peer> {
        self.table.recover_dead();
        self.table.dead_owner(true).map_or(Ok(()), Err)
    }
}

impl<Q, A> Worker<Q, A> {
    pub(super) fn on((table, desk): table::Worker<Q, A>) -> Worker<Q, A> {
        let front = table.front().clone();
        let bench = Bench { table, desk };
        Worker { bench, front, patience: Patience::default(), deadline: DEFAULT_DEADLINE }
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

    /// Takes a job: the oldest that nobody has taken yet, or one that has come back. Waits for one.
    ///
    /// # Errors
    /// [`TakeError`] without [`Empty`](TakeError::Empty).
    pub fn take(&mut self) -> Result<Job<Q, A>, TakeError> {
        self.take_timeout(self.deadline)
    }

    /// The same, waiting for at most `limit`.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub fn take_timeout(&mut self, limit: Duration) -> Result<Job<Q, A>, TakeError> {
        let mut last = self.bench.take(Closely::Glance, &self.front);
        if !matches!(last, Err(Nothing::Wait(_))) {
            return last.map_err(|e| e.after(Duration::ZERO));
        }
        let bench = RefCell::new(&mut self.bench);
        let ready = |closely| {
            last = bench.borrow_mut().take(closely, &self.front);
            !matches!(last, Err(Nothing::Wait(_)))
        };
        let look = || bench.borrow_mut().look();
        let waited = self.patience.wait_looking(self.front.work(), Deadline::after(limit), ready, look);
        let Err(stop) = waited else { return last.map_err(|e| e.after(Duration::ZERO)) };
        // What came just before the proof, or the deadline.
        match (bench.into_inner().take(Closely::Thorough, &self.front), stop) {
            (Err(Nothing::Wait(_)), Stop::Told(peer)) => Err(TakeError::OwnerDied { peer }),
            (Err(e), Stop::TimedOut { waited }) => Err(e.after(waited)),
            (other, _) => other.map_err(|e| e.after(Duration::ZERO)),
        }
    }

    /// Takes a job if one waits.
    ///
    /// # Errors
    /// [`TakeError::Empty`], [`TakeError::Closed`], [`TakeError::OwnerDied`] (looked for once in 5 ms at most),
    /// [`TakeError::Forked`].
    #[inline]
    pub fn try_take(&mut self) -> Result<Job<Q, A>, TakeError> {
        match self.bench.take(Closely::Thorough, &self.front) {
            Ok(job) => Ok(job),
            Err(Nothing::Final(e)) => Err(e),
            Err(Nothing::Wait(_)) => self.is_anybody_there(),
        }
    }

    #[cold]
    fn is_anybody_there(&mut self) -> Result<Job<Q, A>, TakeError> {
        let Some(peer) = self.bench.table.dead_owner(false) else { return Err(TakeError::Empty) };
        match self.bench.take(Closely::Thorough, &self.front) {
            Ok(job) => Ok(job),
            Err(Nothing::Final(e)) => Err(e),
            Err(Nothing::Wait(_)) => Err(TakeError::OwnerDied { peer }),
        }
    }

    /// Another worker of the same queue, for a thread of this process.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if there are as many as can be, [`Error::Forked`] between threads in a forked child, and what
    /// taking a seat says.
    pub fn try_clone(&self) -> Result<Worker<Q, A>, Error> {
        let other = self.bench.table.worker().map(Worker::on)?;
        Ok(other.with_deadline(self.deadline))
    }

    /// How many jobs can be in the queue at a time, waiting, being worked on, or over.
    pub fn capacity(&self) -> usize {
        self.bench.table.capacity()
    }

    /// The segment that the queue is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.bench.table.segment()
    }
}

impl Nothing {
    fn after(self, waited: Duration) -> TakeError {
        match self {
            Nothing::Wait(holder) => TakeError::TimedOut { waited, holder },
            Nothing::Final(e) => e,
        }
    }
}

impl<Q: Shareable, A: Shareable> Worker<Q, A> {
    /// A worker of the queue called `name`, with [`WorkQueue`]'s other settings. Whoever comes first makes it.
    ///
    /// # Errors
    /// See [`WorkQueue::worker`].
    pub fn open(name: &str, capacity: usize) -> Result<Self, Error> {
        WorkQueue::new(capacity).worker(name)
    }

    /// A worker of the queue in a segment that was inherited or received.
    ///
    /// # Errors
    /// See [`WorkQueue::attach`].
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        WorkQueue::new(capacity).attach(segment)
    }
}

/// Takes jobs as long as there are any, however long they take to come; [`Worker::take`] says afterwards why there are
/// none.
impl<Q, A> Iterator for &mut Worker<Q, A> {
    type Item = Job<Q, A>;
    fn next(&mut self) -> Option<Job<Q, A>> {
        self.take_timeout(Duration::MAX).ok()
    }
}

impl<Q, A> IntoIterator for Worker<Q, A> {
    type Item = Job<Q, A>;
    type IntoIter = Jobs<Q, A>;
    fn into_iter(self) -> Jobs<Q, A> {
        Jobs(self)
    }
}

/// The jobs of a worker, as long as there are any.
#[derive(Debug)]
pub struct Jobs<Q, A>(Worker<Q, A>);

impl<Q, A> Iterator for Jobs<Q, A> {
    type Item = Job<Q, A>;
    fn next(&mut self) -> Option<Job<Q, A>> {
        (&mut self.0).next()
    }
}

/// A job that this worker holds; it reads like the job itself. [`finish`](Job::finish) it: one that is dropped instead,
/// also by a panic, is given to another worker, and counts as if this one had died of it.
///
/// It may outlive its worker, and go to another thread.
#[must_use = "a job that is dropped is given to another worker"]
pub struct Job<Q, A> {
    /// `None` once it is ended.
    held: Option<(Token, Q)>,
    ticket: Ticket,
    attempts: u32,
    desk: Arc<dyn table::Desk<Q, A>>,
}

impl<Q: fmt::Debug, A> fmt::Debug for Job<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Job");
        out.field("ticket", &self.ticket.0).field("attempts", &self.attempts).field("job", &**self).finish()
    }
}

const HELD: &str = "only what ends a job takes it out";

impl<Q, A> Deref for Job<Q, A> {
    type Target = Q;
    #[inline]
    fn deref(&self) -> &Q {
        &self.held.as_ref().expect(HELD).1
    }
}

/// Between threads a job that is given back goes to the next worker as it is then; between processes, as it was
/// submitted.
impl<Q, A> DerefMut for Job<Q, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Q {
        &mut self.held.as_mut().expect(HELD).1
    }
}

impl<Q, A> Job<Q, A> {
    /// The name under which its owner receives the answer.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// How many workers have died of it before, or dropped it.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Answers it.
    ///
    /// # Errors
    /// [`FinishError`], with the answer.
    #[inline]
    pub fn finish(mut self, answer: A) -> Result<(), FinishError<A>> {
        let (token, job) = self.held.take().expect(HELD);
        let finished = self.desk.finish(token, answer).map_err(|(lost, answer)| match lost {
            Lost::NotHeld => FinishError::NotHeld { ticket: self.ticket, answer },
            Lost::Forked => FinishError::Forked(answer),
        });
        drop(job);
        finished
    }

    /// Gives it back for another worker, or this one, to take. It counts as no attempt.
    ///
    /// # Errors
    /// [`FinishError`]; then nothing was changed.
    pub fn decline(mut self) -> Result<(), FinishError<()>> {
        let (token, job) = self.held.take().expect(HELD);
        self.desk.give_back(token, job, Back::Declined).map_err(|lost| match lost {
            Lost::NotHeld => FinishError::NotHeld { ticket: self.ticket, answer: () },
            Lost::Forked => FinishError::Forked(()),
        })
    }
}

impl<Q, A> Drop for Job<Q, A> {
    fn drop(&mut self) {
        if let Some((token, job)) = self.held.take() {
            // Fails in a forked child, which holds nothing, and where the memory was overwritten.
            let _ = self.desk.give_back(token, job, Back::GivenUp);
        }
    }
}
