//! A work item's life: submitted, taken by a worker, answered, collected; whoever dies on the way, the job is answered
//! once or collected as failed.
//!
//! # The slot's word is the whole truth
//!
//! A table has n slots. Position p (u64, wrapping) lies in slot i = p mod n, in lap l = p / n; the position at which a
//! job was submitted is its ticket. Job and answer lie in the slot:
//!
//! ```text
//!  0        8        16
//! +--------+--------+----------+----------+      63       28 27      24 23          4 3      0
//! |  word  | ticket |   job    |  answer  |     +-----------+----------+-------------+--------+
//! +--------+--------+----------+----------+     |   turn    | attempts |    owner    | state  |   word
//!                                               +-----------+----------+-------------+--------+
//! ```
//! *Turn* t says: the positions of this slot in laps before t are *past*: nobody will submit there any more.
//! *Attempts*: how many workers have died of the job in the slot. *Owner* is who holds the slot; in a state that
//! nobody holds it is who held it last, or nobody.
//!
//! | from                              | to                  | who                           | how   | ordering | meaning                                  |
//! |-----------------------------------|---------------------|-------------------------------|-------|----------|------------------------------------------|
//! | Free(t)                           | Filling(t+1, me)    | a submitter at position (t,i) | CAS   | Relaxed  | it has its ticket                        |
//! | Filling(me)                       | Filled              | the same submitter            | store | Release  | submitted                                |
//! | Filled or Again                   | Claimed(me)         | a worker                      | CAS   | Relaxed  | taken                                    |
//! | Claimed(me)                       | Done                | the same worker               | or    | Release  | the answer's one commit                  |
//! | Claimed(me)                       | Again               | the same worker               | or    | Release  | declined: it counts as no attempt         |
//! | Claimed(me), a attempts           | Again or Failed, a+1 | the same worker               | CAS   | Release  | given up: it counts as if it had died     |
//! | Done or Failed                    | Collecting(me)      | an owner                      | CAS   | Acquire  | the answer is being read                 |
//! | Collecting(me)                    | Free                | the same owner                | store | Release  | the slot is given back                   |
//! | Claimed, Again, Done, Failed: (t) | the same, (t+1)     | a submitter at position (t,i) | CAS   | Relaxed  | stepped over: the job takes longer than a lap |
//! | Filling(dead)                     | Free                | anyone                        | CAS   | Release  | it was never submitted                   |
//! | Claimed(dead), a attempts         | Again, a+1          | anyone                        | CAS   | Release  | redelivered                              |
//! | Claimed(dead), the last attempt   | Failed, a+1         | anyone                        | CAS   | Release  | given up                                 |
//! | Collecting(dead)                  | Done or Failed      | anyone                        | CAS   | Release  | handed to a survivor                     |
//!
//! There is no other transition. Turn and attempts stay as they are where the table does not say otherwise. The bits of
//! the states are such that Done and Again are Claimed with one bit more: a worker ends its claim by setting that bit,
//! which neither waits nor fails if a submitter steps over the job meanwhile. Zeroed memory is an empty table whose
//! first position is 0.
//!
//! # Order
//!
//! A handle has its own idea of where submitters (`tail`) and workers (`head`) are; the shared hints are plain stores
//! by whoever has just claimed. Two invariants:
//!
//! - P: every position before any handle's `tail`, and before the tail hint, is past.
//! - C: every position before any handle's `head`, and before the head hint, is past, and no job waits there for its
//!   first taking.
//!
//! A submitter claims or steps over the position at its `tail` only, and only with the turn of that very lap, so by P
//! positions become past in their order: tickets grow in the order in which submissions take place. A worker takes a
//! job in Filled at its `head` only, so by C jobs are taken *for the first time* in the order of their tickets. Both
//! speak of facts that never become false again, so a hint that is behind is safe, and it is never ahead.
//!
//! A submitter never steps over Filled (the table is full) or over Filling (it waits, or buries the dead). So a turn
//! of t in slot i proves more than its own lap: every position up to (t-1, i) is past, and the laps before hold, up to
//! (t-2, i), no job that waits for its first taking. That is how far a stale `tail` and a stale `head` may jump.
//!
//! A job in Again has been taken before and stands outside this order: a worker takes it where it comes by, and where
//! it finds nothing else, or the next job is being filled, it looks at every slot for one. So a redelivered job is
//! always found, and under load it waits a lap at most. A worker that has once found every slot Free, and `head` not
//! past, need not look again before somebody comes to `head`: nothing can be in flight.
//!
//! A worker that waits need not look at every slot in each turn of a loop: until its first sleep it takes *glances*
//! ([`take_looking`](Jobs::take_looking)), which find new jobs only. Nobody sleeps on a glance, gives up on one, or is
//! told "over" by one: once before the costly stages, behind its announcement, at its deadline and at a door that is
//! not open a worker looks at every slot, and behind its announcement alone the pairing of the
//! [`doorbell`](crate::doorbell) is needed. A worker that is never idle for so long finds what has come back where it
//! comes by.
//!
//! A job that takes long holds up nobody: submitters step over it, and answers are collected as they come, in the order
//! of the last positions of their slots that are past: the oldest first, where nothing was stepped over. What is lost
//! is one place; and when it is free again, `submit` may still say Full, because older jobs wait in the places before.
//!
//! A collector keeps in mind the places that were not free when it came by (`trail`), up to 16, and looks at these
//! and at what comes after them. It may: a place at which a position is past and free has no further life before the
//! next lap, and by P no position of that lap is past before the oldest place in mind was stepped over, at which it
//! starts anew from there.
//!
//! # Why the CAS is safe from ABA
//!
//! A slot is claimed once in a turn, and each claim raises the turn: what a slot goes through between two claims
//! never comes again. Within that life the word can repeat in two ways only. *Claimed(o), Again*: o declines and
//! takes the job again; it is the same job, and a verdict "o is dead" that was reached since the word was loaded still
//! holds, because a dead owner never comes back. *Done*: a worker answers, collects its own answer and dies over it;
//! again the same answer. So a CAS that succeeds means what it would have meant at once. It may have missed that
//! another held the slot in between: how that one's reads come before the next write is said below. The turn wraps
//! after 2^36 turns: whoever was stopped between load and CAS would have to resume exactly then (7 days of 150 ns lives
//! in a table of 64).
//!
//! # Orderings
//!
//! - ClaimSubmit (Release) with ClaimTakeLoad (Acquire): the job is read after it was written; also through any
//!   number of claims, all of them read-modify-writes.
//! - ClaimFinish (Release) with ClaimCollect (Acquire, of the CAS itself, see ClaimUncollect): so the answer.
//! - ClaimFree (Release) with ClaimSubmitLoad (Acquire): a job and an answer are overwritten after they were read. The
//!   worker's own read of the job comes before through ClaimFinish.
//! - ClaimDecline (Release): the decliner's read of the job comes before the end of the job's life, because everything
//!   between its store and that of the answer's collector is a read-modify-write, which continues its release sequence.
//! - ClaimRedeliver (Release) with ClaimTakeLoad: the next worker's answer comes after the half of one that a dead one
//!   has written; its writes come before ClaimRedeliver because of the proof of death.
//! - ClaimUnsubmit (Release) with ClaimSubmitLoad: so the next job.
//! - ClaimUncollect (Release) with ClaimCollect: the dead collector's reads come before ClaimFree, which is a store and
//!   ends the release sequence. Done may have come again since it was loaded, so it is the CAS that acquires.
//! - ClaimHintStore (Release) with ClaimHintLoad (Acquire): no value depends on it. It makes "empty" exact in the
//!   happens-before sense: who was told of a submission by other means finds it.
//!
//! The other claims compare with a word that an Acquire load has just returned, and are Relaxed; so are those that step
//! over a job, which touch nothing else.
//!
//! # What a death leaves
//!
//! | who dies                                      | what is left             | what the others do                                          |
//! |-----------------------------------------------|--------------------------|-------------------------------------------------------------|
//! | a submitter, after its claim                  | Filling(dead), any bytes | whoever is blocked by it, or recovers: Free, never submitted |
//! | a submitter, after Filled                     | a job                    | it is taken as any other; a survivor collects the answer    |
//! | a submitter, between two steps over           | a slot stepped over      | its position is past; nothing is lost                        |
//! | anyone, before its hint is stored             | a hint that is behind    | nothing                                                     |
//! | a worker, anywhere between taking and Done    | Claimed(dead), half an answer | who recovers: Again or Failed                           |
//! | a worker, after Done                          | an answer                | it is collected: the job is not done again                  |
//! | an owner, between Collecting and Free         | Collecting(dead)         | whoever is blocked by it, or recovers: Done, for another    |
//! | an owner, after Free                          | nothing                  | it had its answer                                           |
//! | who recovers, anywhere                        | nothing of its own       | each step is one CAS; another one does the rest             |
//!
//! So a job that was submitted is collected once, as an answer or as failed: twice only if the collector that had it
//! first died before it gave the slot back. A job may be *worked on* up to [`MOST_ATTEMPTS`] times: a dead worker may
//! have acted.
//!
//! # Progress
//!
//! Nothing waits for a clock and nothing waits for the dead. A live submitter that is stopped in Filling blocks first
//! takings, and a lap later submissions; a live owner that is stopped in Collecting blocks submissions that come round
//! to its slot; a live worker that is stopped blocks its own job. Who lives is asked where a call is blocked by a name,
//! and in [`recover_dead`](Jobs::recover_dead), which whoever waits for long calls now and then: an empty table with
//! claimed jobs is the normal state, and no reason to ask.

mod desk;
mod front;
mod jobs;
mod memory;
mod recover;
mod trail;
mod word;

use core::fmt;

pub use desk::Desk;
pub use front::{Door, Front, Look};
pub use jobs::{Collected, Jobs, Outcome, Taken, Ticket};
pub use memory::{Filed, Hints, Region, Slot, shift_of};
pub use recover::{Census, Recovered};
pub use word::{MOST_ATTEMPTS, State, TURN_BITS, Word};

use crate::owner::Owner;

/// What a participant knows of the others.
pub trait Peers {
    /// False only for an owner that is proven to be dead, as was promised to [`attach`](Jobs::attach). Asked only
    /// where a call is blocked.
    fn alive(&mut self, owner: Owner) -> bool;
}

/// How many workers may die of a job before it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempts(u32);

impl Attempts {
    /// `most` workers, 1 to [`MOST_ATTEMPTS`].
    ///
    /// # Errors
    /// [`AttemptsError`], for any other number.
    pub const fn of(most: u32) -> Result<Attempts, AttemptsError> {
        if most == 0 || most > MOST_ATTEMPTS {
            Err(AttemptsError { asked: most })
        } else {
            Ok(Attempts(most))
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A table can't count so many attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptsError {
    /// What was asked for.
    pub asked: u32,
}

impl fmt::Display for AttemptsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a job can have 1 to {MOST_ATTEMPTS} attempts, not {}", self.asked)
    }
}

impl core::error::Error for AttemptsError {}

/// Why a job was not submitted. It is handed back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SubmitError<Q> {
    /// No place: jobs wait in all of them, are being worked on, or have not been collected.
    Full(Q),
    /// A participant that lives, but has stopped or been stopped in the middle of filling or collecting, holds the
    /// place that is next. [`Owner::NOBODY`]: others were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
        /// What was not submitted.
        job: Q,
    },
}

/// Why no job was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TakeError {
    /// No job waits.
    Empty,
    /// A submitter that lives, but has stopped or been stopped in the middle of filling, holds the place that is next.
    /// [`Owner::NOBODY`]: others were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
    },
}

/// The table does not say that this worker holds the job: it belongs to another table, the worker has lost it (it was
/// recovered as dead) and has taken another one in its place, or a bad peer has overwritten the word. What was given is
/// handed back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHeld<T> {
    /// Of which job.
    pub ticket: Ticket,
    /// What the slot's word says instead.
    pub found: Word,
    /// The job of that slot that this worker does hold, if it holds one.
    pub instead: Option<Ticket>,
    /// What was not done: the job, and the answer if there is one.
    pub value: T,
}

impl<T> NotHeld<T> {
    /// What was not done.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<Q> SubmitError<Q> {
    /// What was not submitted.
    pub fn into_inner(self) -> Q {
        match self {
            SubmitError::Full(job) | SubmitError::Busy { job, .. } => job,
        }
    }
}

impl<Q> fmt::Display for SubmitError<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Full(_) => f.write_str("the table of jobs is full"),
            SubmitError::Busy { owner, .. } => write!(f, "the next place for a job is held by {owner}"),
        }
    }
}

impl<Q: fmt::Debug> core::error::Error for SubmitError<Q> {}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TakeError::Empty => f.write_str("no job waits"),
            TakeError::Busy { owner } => write!(f, "the next job is held by {owner}"),
        }
    }
}

impl core::error::Error for TakeError {}

impl<T> fmt::Display for NotHeld<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} is not held by this worker: its slot says {:?}", self.ticket.0, self.found)?;
        self.instead.map_or(Ok(()), |other| write!(f, ", of job {}", other.0))
    }
}

impl<T: fmt::Debug> core::error::Error for NotHeld<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::CapacityError;
    use std::string::ToString;

    #[test]
    fn attempts_have_bounds() {
        assert_eq!(Attempts::of(1).map(Attempts::get), Ok(1));
        assert_eq!(Attempts::of(MOST_ATTEMPTS).map(Attempts::get), Ok(15));
        for asked in [0, MOST_ATTEMPTS + 1, u32::MAX] {
            let e = Attempts::of(asked).expect_err("no table can count so");
            assert_eq!(e.to_string(), std::format!("a job can have 1 to 15 attempts, not {asked}"));
        }
    }

    #[test]
    fn capacities() {
        assert_eq!(shift_of::<u64, u64>(1), Ok(0));
        assert_eq!(shift_of::<u64, u64>(64), Ok(6));
        assert_eq!(shift_of::<u64, u64>(0), Err(CapacityError::Zero));
        assert_eq!(shift_of::<u64, u64>(3), Err(CapacityError::NotAPowerOfTwo { asked: 3, next: 4 }));
        assert!(matches!(shift_of::<[u64; 1 << 20], u64>(1 << 30), Err(CapacityError::TooLarge { .. })));
    }
}
