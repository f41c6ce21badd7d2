//! What becomes of a job that a worker has taken: apart from the handle that took it, so that a worker may hold several
//! jobs and take more meanwhile.
//!
//! # Safety
//! The answer's cell is written by the worker whose name stands in the slot's word, in Claimed. There is one [`Taken`]
//! for each claim of a name, and who makes a desk promises that no other's comes to it; so each claim is ended once,
//! whichever thread does it.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use super::word::{ANSWERED, DECLINED};
use super::{Attempts, NotHeld, Region, State, Taken, Ticket, Word};
use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;

/// Where a worker's jobs are answered, declined or given up. Made by [`Jobs::desk`](super::Jobs::desk).
pub struct Desk<M: Mem, Q: Copy, A: Copy, R: Region<M, Q, A>> {
    region: R,
    me: Owner,
    most: Attempts,
    _values: PhantomData<fn(Q) -> (A, M)>,
}

impl<M: Mem, Q: Copy, A: Copy, R: Region<M, Q, A>> fmt::Debug for Desk<M, Q, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("me", &self.me).finish()
    }
}

/// Tries to give a job up: a submitter steps over a place at most once in a lap.
const TRIES: u32 = 1 << 10;

impl<M: Mem, Q: Shareable, A: Shareable, R: Region<M, Q, A>> Desk<M, Q, A, R> {
    pub(super) fn new(region: R, me: Owner, most: Attempts) -> Self {
        Desk { region, me, most, _values: PhantomData }
    }

    /// Answers a job.
    ///
    /// # Errors
    /// [`NotHeld`], with the job and the answer; then nothing was written.
    #[inline]
    pub fn finish<U>(&self, taken: Taken<U>, answer: A) -> Result<(), NotHeld<(Taken<U>, A)>> {
        finish(&self.region, self.me, taken, answer)
    }

    /// Gives a job back for another worker, or this one, to take. It counts as no attempt.
    ///
    /// # Errors
    /// [`NotHeld`], with the job; then nothing was changed.
    pub fn decline<U>(&self, taken: Taken<U>) -> Result<(), NotHeld<Taken<U>>> {
        decline(&self.region, self.me, taken)
    }

    /// Gives a job back as a dead worker's is: it counts as an attempt. Says whether it was the last one, and the job
    /// has failed.
    ///
    /// # Errors
    /// [`NotHeld`], with the job; then nothing was changed.
    pub fn give_up<U>(&self, taken: Taken<U>) -> Result<bool, NotHeld<Taken<U>>> {
        let word = &self.region.slot(taken.place).word;
        let mut said = holds(&self.region, self.me, &taken);
        for _ in 0..TRIES {
            let Ok(held) = said else { break };
            let after = held.after_a_death(self.most.get());
            if M::broken(Bug::ClaimGiveUpByStore) {
                word.store(after.0, Ordering::Release);
                return Ok(after.state() == State::Failed);
            }
            // Pairs with ClaimTakeLoad and ClaimCollect, as if another had found us dead.
            if word.cas(held.0, after.0, M::at(Site::ClaimRedeliver, Ordering::Release)).is_ok() {
                return Ok(after.state() == State::Failed);
            }
            said = holds(&self.region, self.me, &taken);
        }
        let (found, instead) = said.map_or_else(|other| other, |held| (held, None));
        Err(NotHeld { ticket: taken.ticket, found, instead, value: taken })
    }
}

/// The word, if this worker holds the job; else what the slot says instead.
#[inline(always)]
fn holds<M: Mem, Q: Copy, A: Copy, U>(
    region: &impl Region<M, Q, A>,
    me: Owner,
    taken: &Taken<U>,
) -> Result<Word, (Word, Option<Ticket>)> {
    let slot = region.slot(taken.place);
    let w = Word(slot.word.load(Ordering::Relaxed));
    if w.state() != State::Claimed || w.owner() != me {
        return Err((w, None));
    }
    // The name alone does not tell a job from an earlier one that the same worker had in the same place.
    // SAFETY: the word says Claimed(me), which keeps submitters out, and only we write it: so it is our own claim, and
    // ClaimTakeLoad came before it, after the job was written. Any bytes are a ticket.
    let ticket = Ticket(slot.job.with(|p| unsafe { (*p).ticket }));
    if ticket == taken.ticket { Ok(w) } else { Err((w, Some(ticket))) }
}

#[inline(always)]
pub(super) fn finish<M: Mem, Q: Shareable, A: Shareable, U>(
    region: &impl Region<M, Q, A>,
    me: Owner,
    taken: Taken<U>,
    answer: A,
) -> Result<(), NotHeld<(Taken<U>, A)>> {
    let held = match holds(region, me, &taken) {
        Ok(held) => held,
        Err((found, instead)) => {
            return Err(NotHeld { ticket: taken.ticket, found, instead, value: (taken, answer) });
        }
    };
    let slot = region.slot(taken.place);
    if M::broken(Bug::ClaimFinishFirst) {
        slot.word.fetch_or(ANSWERED, Ordering::Release);
    }
    // SAFETY: the word says Claimed(me): ours alone, also if `taken` came from elsewhere. ClaimTakeLoad came after the
    // dead workers before us, and the slot's last answer was read before the job was written.
    slot.answer.with_mut(|p| unsafe { p.write(answer) });
    if M::broken(Bug::ClaimFinishByStore) {
        slot.word.store(held.held(me, State::Done).0, Ordering::Release);
    } else if !M::broken(Bug::ClaimFinishFirst) {
        // Pairs with ClaimCollect. Not a store: a submitter may be stepping over the job.
        slot.word.fetch_or(ANSWERED, M::at(Site::ClaimFinish, Ordering::Release));
    }
    Ok(())
}

pub(super) fn decline<M: Mem, Q: Copy, A: Copy, U>(
    region: &impl Region<M, Q, A>,
    me: Owner,
    taken: Taken<U>,
) -> Result<(), NotHeld<Taken<U>>> {
    if let Err((found, instead)) = holds(region, me, &taken) {
        return Err(NotHeld { ticket: taken.ticket, found, instead, value: taken });
    }
    // Pairs with ClaimCollect and, through it, with ClaimSubmitLoad.
    let slot = region.slot(taken.place);
    slot.word.fetch_or(DECLINED, M::at(Site::ClaimDecline, Ordering::Release));
    Ok(())
}
