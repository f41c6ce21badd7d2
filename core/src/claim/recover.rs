//! What the dead leave in a table, and how many jobs are in it.

use super::{Jobs, Peers, Region, State, Word};
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;

/// What a recovery came upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Jobs that the dead had not finished submitting: there are no such jobs.
    pub unsubmitted: u32,
    /// Jobs that the dead were working on, which wait for another worker.
    pub redelivered: u32,
    /// Jobs that the dead were working on as the last that might, which are collected as failed.
    pub failed: u32,
    /// Answers that the dead were collecting, which wait for another owner.
    pub uncollected: u32,
}

/// How many jobs are where, roughly: others may be in the middle of something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Being submitted.
    pub filling: u32,
    /// Waiting for a worker.
    pub waiting: u32,
    /// Being worked on.
    pub claimed: u32,
    /// Over, and not collected yet.
    pub over: u32,
    /// Being collected.
    pub collecting: u32,
}

impl Census {
    /// Jobs that have been submitted, or are being, and have not been collected.
    pub fn in_flight(&self) -> u32 {
        self.filling + self.waiting + self.claimed + self.over + self.collecting
    }
}

impl Recovered {
    fn count(&mut self, before: Word, after: Word) {
        match (before.state(), after.state()) {
            (State::Filling, _) => self.unsubmitted += 1,
            (State::Claimed, State::Failed) => self.failed += 1,
            (State::Claimed, _) => self.redelivered += 1,
            _ => self.uncollected += 1,
        }
    }
}

impl<M: Mem, Q: Shareable, A: Shareable, R: Region<M, Q, A>> Jobs<M, Q, A, R> {
    /// Clears everything that `dead` left in the table. Needed before its name may be used again; without it, jobs that
    /// `dead` was working on stay where they are. That it is dead has been promised to [`attach`](Self::attach).
    pub fn recover(&mut self, dead: Owner) -> Recovered {
        self.recover_where(|owner| owner == dead)
    }

    /// The same for everybody whom `peers` know to be dead: for whoever waits for long, because calls that find nothing
    /// do not ask who lives.
    pub fn recover_dead(&mut self, peers: &mut impl Peers) -> Recovered {
        let (me, mut last) = (self.me, None);
        self.recover_where(|owner| {
            // One who holds many jobs is asked for once.
            let dead = match last {
                Some((asked, dead)) if asked == owner => dead,
                _ => owner != me && owner != Owner::NOBODY && !peers.alive(owner),
            };
            last = Some((owner, dead));
            dead
        })
    }

    fn recover_where(&self, mut dead: impl FnMut(Owner) -> bool) -> Recovered {
        let mut recovered = Recovered::default();
        for place in 0..1u64 << self.shift {
            // Another try where another recovers as well, or a submitter steps over the place, at most once in a lap.
            for _ in 0..64 {
                // Relaxed: nothing is read, and what the dead did is known with their death.
                let w = Word(self.region.slot(place).word.load(Ordering::Relaxed));
                let redo = M::broken(Bug::ClaimRedoDone) && w.state() == State::Done;
                if !(w.is_held() || redo) || !dead(w.owner()) {
                    break;
                }
                if let Some(after) = self.bury(place, w) {
                    recovered.count(w, after);
                    break;
                }
            }
        }
        recovered
    }

    /// Ends what the dead owner in `w` was in the middle of; says what the word is now. Losing the race is fine: the
    /// caller looks again.
    #[cold]
    pub(super) fn bury(&self, place: u64, w: Word) -> Option<Word> {
        let (to, site) = match w.state() {
            // Pairs with ClaimSubmitLoad.
            State::Filling => (w.freed(), Site::ClaimUnsubmit),
            // Pairs with ClaimTakeLoad, and with ClaimCollect.
            State::Claimed if M::broken(Bug::ClaimDropJob) => (w.freed(), Site::ClaimRedeliver),
            State::Claimed if M::broken(Bug::ClaimUncounted) => {
                (w.held(w.owner(), State::Again), Site::ClaimRedeliver)
            }
            State::Claimed => (w.after_a_death(self.most.get()), Site::ClaimRedeliver),
            State::Collecting | State::CollectingFailed if M::broken(Bug::ClaimDropAnswer) => {
                (w.freed(), Site::ClaimUncollect)
            }
            // Pairs with ClaimCollect.
            State::Collecting | State::CollectingFailed => (w.uncollected(), Site::ClaimUncollect),
            State::Done if M::broken(Bug::ClaimRedoDone) => {
                (w.held(w.owner(), State::Again), Site::ClaimRedeliver)
            }
            _ => return None,
        };
        let cas = self.region.slot(place).word.cas(w.0, to.0, M::at(site, Ordering::Release));
        cas.is_ok().then_some(to)
    }

    /// How many jobs are where, by a look at every slot.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for place in 0..1u64 << self.shift {
            match Word(self.region.slot(place).word.load(Ordering::Relaxed)).state() {
                State::Free => (),
                State::Filling => census.filling += 1,
                State::Filled | State::Again => census.waiting += 1,
                State::Claimed => census.claimed += 1,
                State::Done | State::Failed => census.over += 1,
                State::Collecting | State::CollectingFailed => census.collecting += 1,
            }
        }
        census
    }

    /// Jobs that have been submitted and not been collected, by a look at every slot.
    pub fn in_flight(&self) -> usize {
        self.census().in_flight() as usize
    }
}
