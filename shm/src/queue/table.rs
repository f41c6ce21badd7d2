//! What owner and worker ask of the table that carries their jobs: one between threads, one between processes.

use std::fmt;
use std::sync::Arc;

use sapwood_core::claim::{Census, Collected, Taken, Ticket};
use sapwood_core::wait::Closely;

use super::front::Front;
use crate::error::Error;
use crate::ring::Peer;
use crate::segment::Segment;

/// Why a job was not submitted.
#[derive(Debug)]
pub(super) enum Refused<Q> {
    Full(Q),
    Forked(Q),
}

/// Why there is no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoJob {
    Empty,
    /// The owner is writing the next one, and may have stopped.
    Busy(Option<Peer>),
    Forked,
}

/// A job that was taken; between threads with the place of its value.
pub(super) type Token = Taken<u32>;

/// One participant's side of the table.
pub(super) trait Table<Q, A>: Send {
    fn front(&self) -> &Front;
    fn capacity(&self) -> usize;
    fn submit(&mut self, job: Q) -> Result<Ticket, Refused<Q>>;
    /// See [`take_looking`](sapwood_core::claim::Jobs::take_looking).
    fn take(&mut self, closely: Closely) -> Result<(Token, Q), NoJob>;
    /// An answer, how many workers had died of the job, and the job itself if it is still there: dropping it may panic.
    fn collect(&mut self) -> Option<(Collected<A>, u32, Option<Q>)>;
    /// By proof, and rings where something was found.
    fn recover_dead(&mut self);
    fn census(&self) -> Census;
    fn is_mine(&self) -> bool;
    /// Proof that the owner is dead. `at_once`, or asks the kernel only now and then.
    fn dead_owner(&mut self, at_once: bool) -> Option<Peer>;
    /// Workers that live now; `None` if none has ever come.
    fn workers(&self) -> Option<usize>;
    /// Proof that workers have come, and that there was a moment at which all of them were gone.
    fn all_gone(&self) -> bool;
    /// Another worker of the same queue.
    fn worker(&self) -> Result<Worker<Q, A>, Error>;
    fn segment(&self) -> Option<&Arc<Segment>>;
}

/// A worker's two sides.
pub(super) type Worker<Q, A> = (Box<dyn Table<Q, A>>, Arc<dyn Desk<Q, A>>);

/// How a job came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// The worker did not want it.
    Declined,
    /// The worker dropped it.
    GivenUp,
}

/// Why a job was not ended.
#[derive(Debug)]
pub(super) enum Lost {
    /// The table does not say that the worker holds it.
    NotHeld,
    Forked,
}

/// Where a worker's jobs end. It lives as long as one of them, and so long the worker's name is taken.
pub(super) trait Desk<Q, A>: Send + Sync {
    fn finish(&self, token: Token, answer: A) -> Result<(), (Lost, A)>;
    fn give_back(&self, token: Token, job: Q, how: Back) -> Result<(), Lost>;
}

impl<Q, A> fmt::Debug for dyn Table<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("census", &self.census()).finish()
    }
}

impl<Q, A> fmt::Debug for dyn Desk<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}
