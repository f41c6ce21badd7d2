//! Workqueues: an owner submits jobs and receives answers, workers take the jobs and answer them.
//!
//! | handle       | between threads        | between processes                                             |
//! |--------------|------------------------|---------------------------------------------------------------|
//! | [`Owner`]    | [`work_queue`]         | [`Owner::open`] by name, [`Owner::create`] without            |
//! | [`Worker`]   | [`work_queue`], [`Owner::worker`], [`Worker::try_clone`] | [`Worker::open`], [`Worker::attach`] |
//!
//! Between threads jobs and answers are any values that are `Send`; between processes they are [`Shareable`]. The types
//! say who may do what: only the owner submits, receives and drains, and there is one of it.
//!
//! - Each job goes to one worker, in the order of submission, and has one answer.
//! - **A job whose worker dies, or drops it, is done again** by another one: counted in [`Stats::redelivered`], and at
//!   most `attempts` times (3, unless [`WorkQueue::attempts`] says otherwise); then the owner gets [`Outcome::Failed`].
//!   A dead worker may have acted, so a job may be *worked on* several times.
//! - A queue of any capacity carries any number of jobs both ways: an owner that submits into a full queue puts answers
//!   aside.
//! - A worker that is stopped is never declared dead: its job waits for it, and for nobody else.
//! - What needs no waiting makes no system call and, between processes, allocates nothing.
//!
//! ```
//! use sapwood_shm::queue::{Outcome, work_queue};
//!
//! let (mut owner, worker) = work_queue::<String, usize>(16)?;
//! let counting = std::thread::spawn(move || {
//!     for job in worker {
//!         let length = job.len();
//!         job.finish(length).expect("it is ours");
//!     }
//! });
//! for word in ["root", "trunk", "branch"] {
//!     owner.submit(word.to_owned())?;
//! }
//! let answers: Vec<_> = owner.drain()?.into_iter().map(|answer| answer.outcome).collect();
//! assert_eq!(answers, [Outcome::Answer(4), Outcome::Answer(5), Outcome::Answer(6)]);
//! drop(owner); // the worker is told
//! counting.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What an end leaves
//!
//! | who dies, or leaves                        | what is left                | what the others see                                          |
//! |--------------------------------------------|-----------------------------|--------------------------------------------------------------|
//! | the owner, before a submit has taken effect | nothing                     | as below                                                     |
//! | the owner, after                           | its jobs                    | workers do what waits, then [`TakeError::OwnerDied`]; a successor receives the answers |
//! | the owner, while it receives               | the answer, or it had it    | the successor receives it                                    |
//! | the owner, with answers that it has put aside | nothing                  | they are gone, as if they had been received                  |
//! | the owner, by drop                         | its jobs                    | workers do what waits, then [`TakeError::Closed`]            |
//! | a worker, before it has a job, or after its answer | nothing             | nothing                                                      |
//! | a worker, between                          | a job in its name           | whoever waits finds the proof: another worker gets it, or it has failed |
//! | the last worker                            | the jobs                    | an owner that waits: [`RecvError::NoWorkers`]; whoever comes next finds them |
//! | anyone, between a change and its ring      | a sleeper                   | it looks by itself, once in 50 ms                            |
//!
//! The state table and the recovery table of a job stand in [`sapwood_core::claim`], those of bells in
//! [`sapwood_core::doorbell`].
//!
//! # Waiting
//! Every call that waits has a deadline: its own (`_timeout`), or the handle's. Before each sleep it looks, by proof,
//! whether those who hold jobs live, and whether there is anybody to wait for.

mod error;
mod front;
mod local;
mod owner;
mod shared;
mod table;
mod worker;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::ring::Shareable;
use crate::segment::{Segment, Spec};
use shared::{Shared, Way};

pub use error::{FinishError, RecvError, SubmitError, TakeError};
pub use owner::{Owner, Stats};
pub use sapwood_core::claim::{Collected as Answer, Outcome, Ticket};
pub use sapwood_core::wait::{WaitPolicy, WaitStats};
pub use worker::{Job, Jobs, Worker};

/// How long calls wait that say no time, unless their handle says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
/// How many workers may die of a job, unless the queue says otherwise.
pub const ATTEMPTS: u32 = 3;
/// How many workers of other processes a queue has seats for, unless it says otherwise.
pub const WORKERS: usize = 255;

/// Both ends of a queue between threads.
pub type Ends<Q, A> = (Owner<Q, A>, Worker<Q, A>);

/// Both ends of a queue for the threads of this process, which holds at least `capacity` jobs at a time (the next power
/// of two).
///
/// ```compile_fail
/// // Workers do not submit, and do not drain: only the owner can.
/// let (_, mut worker) = sapwood_shm::queue::work_queue::<u32, u32>(4).unwrap();
/// worker.drain();
/// ```
///
/// Whatever a job refers to must be able to change threads:
///
/// ```compile_fail
/// sapwood_shm::queue::work_queue::<std::rc::Rc<u32>, ()>(4).unwrap();
/// ```
///
/// # Errors
/// [`Error::Capacity`], [`Error::NoSpace`].
pub fn work_queue<Q, A>(capacity: usize) -> Result<Ends<Q, A>, Error>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    WorkQueue::new(capacity).threads()
}

/// What a queue is made for. Participants of one queue say the same of it.
///
/// ```
/// use sapwood_shm::queue::{Outcome, Owner, WorkQueue, Worker};
///
/// // Each in a process of its own.
/// # let name = &format!("doc-queue-{}", std::process::id());
/// let mut owner: Owner<[u64; 2], u64> = WorkQueue::new(64).attempts(2).owner(name)?;
/// let mut worker: Worker<[u64; 2], u64> = WorkQueue::new(64).attempts(2).worker(name)?;
/// let ticket = owner.submit([6, 7])?;
/// drop(worker.take()?); // given up once
/// let job = worker.take()?;
/// assert_eq!(job.attempts(), 1);
/// let product = job[0] * job[1];
/// job.finish(product)?;
/// let answer = owner.recv()?;
/// assert_eq!((answer.ticket, answer.outcome), (ticket, Outcome::Answer(42)));
/// assert_eq!(owner.stats().redelivered, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WorkQueue<Q, A> {
    capacity: usize,
    attempts: u32,
    workers: usize,
    _values: PhantomData<fn(Q) -> A>,
}

impl<Q, A> WorkQueue<Q, A> {
    /// At least `capacity` jobs at a time: the next power of two.
    pub fn new(capacity: usize) -> Self {
        let capacity = match capacity {
            0 => 0, // which no table has
            some => some.checked_next_power_of_two().unwrap_or(some),
        };
        WorkQueue { capacity, attempts: ATTEMPTS, workers: WORKERS, _values: PhantomData }
    }

    /// A job is given up when `most` workers have died of it, 1 to 15.
    pub fn attempts(mut self, most: u32) -> Self {
        self.attempts = most;
        self
    }

    /// Seats for `most` workers between processes, 1 to 1021.
    pub fn workers(mut self, most: usize) -> Self {
        self.workers = most;
        self
    }

    /// Both ends between threads.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Attempts`], [`Error::NoSpace`].
    pub fn threads(self) -> Result<Ends<Q, A>, Error>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let owner = Owner::on(Box::new(local::OfOwner::new(self.capacity, self.attempts)?));
        let worker = owner.worker()?;
        Ok((owner, worker))
    }
}

impl<Q: Shareable, A: Shareable> WorkQueue<Q, A> {
    /// The segment that it needs: for those who make, inherit or receive it by themselves.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Participants`], [`Error::Attempts`].
    pub fn spec(&self) -> Result<Spec, Error> {
        shared::spec::<Q, A>(self.capacity, self.workers, self.attempts)
    }

    fn as_owner(&self, way: Way<'_>) -> Result<Owner<Q, A>, Error> {
        let shared = Shared::owner(way, &self.spec()?, self.capacity, self.attempts)?;
        Ok(Owner::on(Box::new(shared)))
    }

    fn as_worker(&self, way: Way<'_>) -> Result<Worker<Q, A>, Error> {
        let shared = Shared::of_worker(way, &self.spec()?, self.capacity, self.attempts)?;
        Ok(Worker::on(shared.worker()))
    }

    /// The owner of the queue called `name`, which is made if there is none. One that follows a dead owner finds its
    /// jobs, and receives their answers.
    ///
    /// # Errors
    /// [`Error::SeatTaken`] if it has an owner that lives; [`Error::EndClosed`] if its owner has left it for good;
    /// [`Error::OtherRing`] if it is one of other values, of another capacity or of other attempts,
    /// [`Error::OtherSize`] if it was made for another number of workers, [`Error::OtherKind`]; [`Error::Capacity`],
    /// [`Error::Participants`], [`Error::Attempts`], [`Error::NoSpace`], and what [`Segment::enter_named`] says.
    pub fn owner(&self, name: &str) -> Result<Owner<Q, A>, Error> {
        self.as_owner(Way::Name(name))
    }

    /// A worker of the queue called `name`, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if there are as many as it was made for, else as for [`owner`](Self::owner).
    pub fn worker(&self, name: &str) -> Result<Worker<Q, A>, Error> {
        self.as_worker(Way::Name(name))
    }

    /// The owner of a new queue without a name, in a [`segment`](Owner::segment) to be handed on.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Participants`], [`Error::Attempts`], [`Error::NoSpace`].
    pub fn create(&self) -> Result<Owner<Q, A>, Error> {
        let segment = crate::ring::member::create(&self.spec()?)?;
        self.attach_owner(&segment)
    }

    /// The owner of the queue in a segment that was made, inherited or received.
    ///
    /// # Errors
    /// As for [`owner`](Self::owner).
    pub fn attach_owner(&self, segment: &Arc<Segment>) -> Result<Owner<Q, A>, Error> {
        self.as_owner(Way::Segment(segment))
    }

    /// A worker of the queue in a segment that was made, inherited or received.
    ///
    /// # Errors
    /// As for [`worker`](Self::worker).
    pub fn attach(&self, segment: &Arc<Segment>) -> Result<Worker<Q, A>, Error> {
        self.as_worker(Way::Segment(segment))
    }
}

static_assertions::assert_impl_all!(Owner<String, String>: Send);
static_assertions::assert_impl_all!(Worker<String, String>: Send);
static_assertions::assert_impl_all!(Job<String, String>: Send);
