//! Why a call of a queue did not do what it is for.

use std::fmt;
use std::time::Duration;

use super::Ticket;
use crate::ring::Peer;

/// Why a job was not submitted. It is handed back, and need not be printable.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError<Q> {
    /// All places hold jobs that are not over.
    #[error("all places of the workqueue hold jobs that are not over")]
    Full(Q),
    /// All places held jobs that were not over until the deadline.
    #[error(
        "all places of the workqueue held jobs that were not over for {waited:?}; {workers} workers live"
    )]
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// Workers that live.
        workers: usize,
        /// What was not submitted.
        job: Q,
    },
    /// All places hold jobs that are not over, and every worker that has come is gone. Others may still come.
    #[error("the workqueue is full, {in_flight} jobs are in flight, and all its workers are gone")]
    NoWorkers {
        /// Jobs that were submitted and are not over.
        in_flight: usize,
        /// What was not submitted.
        job: Q,
    },
    /// The owner has closed the queue.
    #[error("the workqueue is closed")]
    Closed(Q),
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a workqueue")]
    Forked(Q),
}

impl<Q> SubmitError<Q> {
    /// What was not submitted.
    pub fn into_inner(self) -> Q {
        match self {
            SubmitError::Full(job) | SubmitError::Closed(job) | SubmitError::Forked(job) => job,
            SubmitError::TimedOut { job, .. } | SubmitError::NoWorkers { job, .. } => job,
        }
    }
}

impl<Q> fmt::Debug for SubmitError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Full(_) => f.write_str("Full(..)"),
            SubmitError::Closed(_) => f.write_str("Closed(..)"),
            SubmitError::Forked(_) => f.write_str("Forked(..)"),
            SubmitError::TimedOut { waited, workers, .. } => {
                let mut out = f.debug_struct("TimedOut");
                out.field("waited", waited).field("workers", workers).finish_non_exhaustive()
            }
            SubmitError::NoWorkers { in_flight, .. } => {
                f.debug_struct("NoWorkers").field("in_flight", in_flight).finish_non_exhaustive()
            }
        }
    }
}

/// Why no answer was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// No job is over.
    #[error("none of the {in_flight} jobs in flight is over")]
    Empty {
        /// Jobs that were submitted and are not over.
        in_flight: usize,
    },
    /// No job is in flight, so no answer can come.
    #[error("no job is in flight, so no answer can come")]
    Idle,
    /// No job was over until the deadline.
    #[error("none of the {in_flight} jobs in flight was over after {waited:?}; {workers} workers live")]
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// Jobs that were submitted and are not over.
        in_flight: usize,
        /// Workers that live.
        workers: usize,
    },
    /// Every worker that has come is gone. Others may still come, and find the jobs.
    #[error("{in_flight} jobs are in flight, and all workers are gone")]
    NoWorkers {
        /// Jobs that were submitted and are not over.
        in_flight: usize,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a workqueue")]
    Forked,
}

/// Why no job was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// No job waits.
    #[error("no job waits")]
    Empty,
    /// No job waits and none will come: the owner has closed the queue or dropped its end, and no worker holds a job
    /// that could come back.
    #[error("the workqueue is closed and no job waits")]
    Closed,
    /// No job came until the deadline.
    #[error("no job came for {waited:?}{}", held(.holder))]
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// Who had begun to submit the next job, and has stopped in the middle of it.
        holder: Option<Peer>,
    },
    /// No job waits, and the owner is dead. A successor may still come.
    #[error("no job waits, and the owner of the workqueue, {peer}, is dead")]
    OwnerDied {
        /// Who.
        peer: Peer,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a workqueue")]
    Forked,
}

fn held(holder: &Option<Peer>) -> String {
    holder.map_or_else(String::new, |peer| format!("; {peer} has stopped in the middle of submitting one"))
}

/// Why a job was not answered. The answer is handed back, and need not be printable.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError<A> {
    /// The queue does not say that this worker holds the job: something has overwritten its memory.
    #[error("the workqueue does not say that this worker holds job {}", .ticket.0)]
    NotHeld {
        /// Which job.
        ticket: Ticket,
        /// What was not sent.
        answer: A,
    },
    /// This process is a forked child of the one that has taken the job.
    #[error("a forked child does not hold its parent's jobs")]
    Forked(A),
}

impl<A> fmt::Debug for FinishError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FinishError::NotHeld { ticket, .. } => {
                f.debug_struct("NotHeld").field("ticket", ticket).finish_non_exhaustive()
            }
            FinishError::Forked(_) => f.write_str("Forked(..)"),
        }
    }
}

impl<A> FinishError<A> {
    /// What was not sent.
    pub fn into_inner(self) -> A {
        match self {
            FinishError::NotHeld { answer, .. } | FinishError::Forked(answer) => answer,
        }
    }
}
