//! One participant's handle: submit, take, finish or decline, collect.
//!
//! # Safety
//! A slot's cells are touched by whoever has its name in the word, in a state in which it holds the slot, and by nobody
//! else; each access says which transition gives it that right. Any bytes are a job and an answer, so a word that lies
//! makes values wrong, no more.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use super::trail::Trail;
use super::{Attempts, Desk, Filed, NotHeld, Peers, Region, State, SubmitError, TakeError, Word, desk};
use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;
use crate::wait::Closely;

/// The name of a job: the position at which it was submitted. Tickets grow, across the wrap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// A job that this worker holds. It is given to [`finish`](Jobs::finish) or [`decline`](Jobs::decline); one that is
/// dropped instead stays with the worker until it has left or died, and [`recover`](Jobs::recover) finds it.
#[derive(Debug)]
#[must_use = "a job that is neither finished nor declined waits for its worker's end"]
pub struct Taken<Q> {
    /// Its name.
    pub ticket: Ticket,
    /// What is to be done.
    pub job: Q,
    /// How many workers have died of it before.
    pub attempts: u32,
    pub(super) place: u64,
}

impl<Q> Taken<Q> {
    /// The same with something else for the job, and the job.
    pub fn with<U>(self, other: U) -> (Taken<U>, Q) {
        let Taken { ticket, job, attempts, place } = self;
        (Taken { ticket, job: other, attempts, place }, job)
    }
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome<A> {
    /// With an answer.
    Answer(A),
    /// This many workers died of it, the most that it may cost.
    Failed {
        /// How many.
        attempts: u32,
    },
}

/// A job that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collected<A> {
    /// Which.
    pub ticket: Ticket,
    /// How it ended.
    pub outcome: Outcome<A>,
}

/// One participant: owner, worker, or both.
pub struct Jobs<M: Mem, Q: Copy, A: Copy, R: Region<M, Q, A>> {
    pub(super) region: R,
    pub(super) me: Owner,
    pub(super) shift: u32,
    pub(super) most: Attempts,
    tail: u64,
    head: u64,
    /// Where this handle looks for answers.
    trail: Trail,
    /// A head at which every slot was seen Free.
    quiet: Option<u64>,
    /// How many workers had died of the job that was collected last.
    deaths: u32,
    _values: PhantomData<fn(Q) -> (A, M)>,
}

impl<M: Mem, Q: Copy, A: Copy, R: Region<M, Q, A>> fmt::Debug for Jobs<M, Q, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, head) = (self.tail, self.head);
        f.debug_struct("Jobs").field("me", &self.me).field("tail", &tail).field("head", &head).finish()
    }
}

const fn later(a: u64, b: u64) -> u64 {
    if (b.wrapping_sub(a) as i64) > 0 { b } else { a }
}

/// What a look for a job that has been taken before came to.
enum Search {
    Found(u64, Word),
    AllFree,
    Nothing,
}

impl<M: Mem, Q: Shareable, A: Shareable, R: Region<M, Q, A>> Jobs<M, Q, A, R> {
    /// Takes part in the table as `me`. A job is given up after `attempts`; all participants say the same, or
    /// whoever comes upon a death decides.
    ///
    /// # Safety
    /// No two handles that are used at the same time have one name, and a name whose holder died is used again only
    /// after [`recover`](Self::recover).
    ///
    /// Nobody who may still act is called dead, neither by [`recover`](Self::recover) nor by what a [`Peers`] answers
    /// to [`alive`](Peers::alive): whoever has that name acts no more, in any process, and its last accesses come
    /// before the answer. Else two write one answer, or one reads a job while another is written.
    pub unsafe fn attach(region: R, me: Owner, attempts: Attempts) -> Self {
        let hints = region.hints();
        let tail = hints.tail.load(M::at(Site::ClaimHintLoad, Ordering::Acquire));
        let head = hints.head.load(M::at(Site::ClaimHintLoad, Ordering::Acquire));
        let shift = region.shift();
        let trail = Trail::new(tail.wrapping_sub(1 << shift));
        Jobs {
            region,
            me,
            shift,
            most: attempts,
            tail,
            head,
            trail,
            quiet: None,
            deaths: 0,
            _values: PhantomData,
        }
    }

    /// Under which name.
    pub fn me(&self) -> Owner {
        self.me
    }

    /// The memory.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// How many jobs there can be at a time.
    pub fn capacity(&self) -> usize {
        1 << self.shift
    }

    /// Steps before a call gives up under contention, a walk over the table counted slot by slot; whatever a bad peer
    /// writes, a call ends here at the latest.
    #[inline(always)]
    fn patience(&self) -> u64 {
        (8 << self.shift) + 64
    }

    #[inline(always)]
    fn look(&self, place: u64, site: Site) -> Word {
        Word(self.region.slot(place).word.load(M::at(site, Ordering::Acquire)))
    }

    #[inline(always)]
    fn ahead(&self, w: Word, position: u64) -> i64 {
        w.ahead_of(Word::lap(position, self.shift))
    }

    #[inline(always)]
    fn is_alive(&self, owner: Owner, peers: &mut impl Peers) -> bool {
        if M::broken(Bug::ClaimAssumeDead) {
            return false;
        }
        M::broken(Bug::ClaimAssumeAlive) || peers.alive(owner)
    }

    /// Submits a job.
    ///
    /// # Errors
    /// [`SubmitError`], with the job.
    #[inline]
    pub fn submit(&mut self, job: Q, peers: &mut impl Peers) -> Result<Ticket, SubmitError<Q>> {
        // Places before this position may be stepped over: there is a free one behind them.
        let mut free = self.tail;
        let mut left = self.patience();
        while let Some(turns) = left.checked_sub(1) {
            left = turns;
            let t = self.tail;
            let w = self.look(t, Site::ClaimSubmitLoad);
            let d = self.ahead(w, t);
            let long = Self::may_be_stepped_over(w.state());
            if d > 0 {
                self.catch_up(t, d);
            } else if d < 0 {
                // By P this word lies, or the handle has slept for more than half of all laps.
                self.tail = later(t, self.tail_hint());
            } else if w.state() == State::Free {
                if self.claim_to_fill(t, w) {
                    self.fill(t, w, job);
                    return Ok(Ticket(t));
                }
            } else if long && later(t, free) != t {
                self.step_over(t, w);
            } else {
                match self.find_room(t, w, &mut left, peers) {
                    Ok(at) => free = at,
                    Err(None) => return Err(SubmitError::Full(job)),
                    Err(Some(owner)) => return Err(SubmitError::Busy { owner, job }),
                }
            }
        }
        Err(SubmitError::Busy { owner: Owner::NOBODY, job })
    }

    #[inline(always)]
    fn claimed_to_fill(w: Word, owner: Owner) -> Word {
        let same_turn = M::broken(Bug::ClaimSameTurn);
        if same_turn { w.held(owner, State::Filling) } else { w.claimed_to_fill(owner) }
    }

    #[inline(always)]
    fn claim_to_fill(&mut self, t: u64, w: Word) -> bool {
        let tail = &self.region.hints().tail;
        if M::broken(Bug::ClaimHintFirst) {
            tail.store(t.wrapping_add(1), Ordering::Release);
        }
        let mine = Self::claimed_to_fill(w, self.me);
        let claimed = self.region.slot(t).word.cas(w.0, mine.0, Ordering::Relaxed).is_ok();
        if claimed {
            self.past(t);
        }
        claimed
    }

    /// Position `t`, at our tail, is past by our own doing.
    #[inline(always)]
    fn past(&mut self, t: u64) {
        self.tail = t.wrapping_add(1);
        // Pairs with ClaimHintLoad.
        self.region.hints().tail.store(self.tail, M::at(Site::ClaimHintStore, Ordering::Release));
    }

    #[inline(always)]
    fn fill(&self, t: u64, w: Word, job: Q) {
        let slot = self.region.slot(t);
        let filled = Self::claimed_to_fill(w, Owner::NOBODY).held(Owner::NOBODY, State::Filled).0;
        if M::broken(Bug::ClaimSubmitFirst) {
            slot.word.store(filled, Ordering::Release);
        }
        // SAFETY: Filling(me) is ours alone, and ClaimSubmitLoad came after whoever freed the slot.
        slot.job.with_mut(|p| unsafe { p.write(Filed { ticket: t, job }) });
        if !M::broken(Bug::ClaimSubmitFirst) {
            // Pairs with ClaimTakeLoad.
            slot.word.store(filled, M::at(Site::ClaimSubmit, Ordering::Release));
        }
    }

    /// Others have been at `t`: the tail goes as far as its word, `d` turns ahead, or the hint shows.
    #[inline(always)]
    fn catch_up(&mut self, t: u64, d: i64) {
        let laps = if M::broken(Bug::ClaimJumpTooFar) { d } else { d - 1 };
        let shown = t.wrapping_add(laps.cast_unsigned() << self.shift).wrapping_add(1);
        self.tail = later(shown, self.tail_hint());
    }

    fn tail_hint(&self) -> u64 {
        self.region.hints().tail.load(M::at(Site::ClaimHintLoad, Ordering::Acquire))
    }

    /// Not over a job that waits for its first taking, and not over who may end it by a store.
    #[inline(always)]
    fn may_be_stepped_over(state: State) -> bool {
        match state {
            State::Claimed | State::Again | State::Done | State::Failed => true,
            State::Filled => M::broken(Bug::ClaimStepOverFilled),
            State::Filling => M::broken(Bug::ClaimStepOverFilling),
            State::Free | State::Collecting | State::CollectingFailed => false,
        }
    }

    /// A job takes long, and there is a free place behind it.
    #[cold]
    fn step_over(&mut self, t: u64, w: Word) {
        if self.region.slot(t).word.cas(w.0, w.stepped_over().0, Ordering::Relaxed).is_ok() {
            self.past(t);
        }
    }

    /// The place at `t` is taken: whether a free one comes behind places that may be stepped over, and where. `t`
    /// itself: look again. The error: none, or only behind a living owner.
    #[cold]
    fn find_room(
        &self,
        t: u64,
        mut w: Word,
        left: &mut u64,
        peers: &mut impl Peers,
    ) -> Result<u64, Option<Owner>> {
        for k in 0..1u64 << self.shift {
            *left = left.saturating_sub(1);
            let at = t.wrapping_add(k);
            if k > 0 {
                w = self.look(at, Site::ClaimSubmitLoad);
            }
            if self.ahead(w, at) != 0 {
                return Ok(t); // others have been further on
            }
            match w.state() {
                State::Free => return Ok(at),
                state if Self::may_be_stepped_over(state) => (),
                State::Filling | State::Collecting | State::CollectingFailed => {
                    if self.is_alive(w.owner(), peers) {
                        return Err(Some(w.owner()));
                    }
                    self.bury(at, w);
                    return Ok(t);
                }
                _ => return Err(None), // a job waits
            }
        }
        Err(None)
    }

    /// Takes a job: the oldest that nobody has taken yet, or one that was taken before and has come back.
    ///
    /// # Errors
    /// [`TakeError`].
    #[inline]
    pub fn take(&mut self, peers: &mut impl Peers) -> Result<Taken<Q>, TakeError> {
        self.take_looking(Closely::Thorough, peers)
    }

    /// The same with a look so close. A glance costs a few lines, whatever the capacity: it finds each job that waits
    /// for its first taking, but one that has come back only where it comes by, and it asks for nobody's life.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    #[inline]
    pub fn take_looking(&mut self, closely: Closely, peers: &mut impl Peers) -> Result<Taken<Q>, TakeError> {
        let mut left = self.patience();
        while let Some(turns) = left.checked_sub(1) {
            left = turns;
            let h = self.head;
            let w = self.look(h, Site::ClaimTakeLoad);
            let d = self.ahead(w, h);
            if d > 1 {
                let laps = if M::broken(Bug::ClaimTakeJumpTooFar) { d - 1 } else { d - 2 };
                let shown = h.wrapping_add(laps.cast_unsigned() << self.shift).wrapping_add(1);
                self.head = later(shown, self.head_hint());
            } else if d < 1 {
                if let Some(taken) = self.nothing_new(h, closely)? {
                    return Ok(taken);
                }
            } else {
                match w.state() {
                    State::Filled | State::Again => {
                        if self.claim_to_work(h, w) {
                            self.passed(h);
                            return Ok(self.read_job(h, w));
                        }
                    }
                    State::Filling if closely == Closely::Glance => {
                        return Err(TakeError::Busy { owner: w.owner() });
                    }
                    State::Filling => {
                        left = left.saturating_sub(1 << self.shift);
                        if let Some(taken) = self.being_filled(h, w, peers)? {
                            return Ok(taken);
                        }
                    }
                    // Taken, over, or stepped over.
                    _ => self.head = h.wrapping_add(1),
                }
            }
        }
        Err(TakeError::Busy { owner: Owner::NOBODY })
    }

    fn head_hint(&self) -> u64 {
        self.region.hints().head.load(M::at(Site::ClaimHintLoad, Ordering::Acquire))
    }

    #[inline(always)]
    fn claim_to_work(&self, place: u64, w: Word) -> bool {
        let mine = w.held(self.me, State::Claimed);
        self.region.slot(place).word.cas(w.0, mine.0, Ordering::Relaxed).is_ok()
    }

    /// No job waits at `h`, our head, for its first taking any more, by our own doing.
    #[inline(always)]
    fn passed(&mut self, h: u64) {
        self.head = h.wrapping_add(1);
        // Pairs with ClaimHintLoad.
        self.region.hints().head.store(self.head, M::at(Site::ClaimHintStore, Ordering::Release));
    }

    #[inline(always)]
    fn read_job(&self, place: u64, w: Word) -> Taken<Q> {
        // SAFETY: Claimed(me) keeps submitters out, and ClaimTakeLoad came after the job was written: also one that was
        // taken before, because everything since ClaimSubmit was a read-modify-write. Any bytes are a Q.
        let filed = self.region.slot(place).job.with(|p| unsafe { p.read() });
        let place = place & ((1 << self.shift) - 1);
        Taken { ticket: Ticket(filed.ticket), job: filed.job, attempts: w.attempts(), place }
    }

    /// Nobody has come to `h`: have others taken what was before, or has a job come back, or is this the end? `None`:
    /// look again.
    #[inline]
    fn nothing_new(&mut self, h: u64, closely: Closely) -> Result<Option<Taken<Q>>, TakeError> {
        let hint = self.head_hint();
        if later(h, hint) != h {
            self.head = hint;
            return Ok(None);
        }
        if self.quiet == Some(h) || closely == Closely::Glance {
            return Err(TakeError::Empty);
        }
        match self.search(h) {
            Search::Found(place, w) => return Ok(Some(self.read_job(place, w))),
            Search::AllFree => self.quiet = Some(h),
            Search::Nothing if M::broken(Bug::ClaimAlwaysQuiet) => self.quiet = Some(h),
            Search::Nothing => self.quiet = None,
        }
        Err(TakeError::Empty)
    }

    /// The next job is being filled. Whoever does it may have stopped, which holds up new jobs only.
    #[cold]
    fn being_filled(
        &mut self,
        h: u64,
        w: Word,
        peers: &mut impl Peers,
    ) -> Result<Option<Taken<Q>>, TakeError> {
        if let Search::Found(place, w) = self.search(h) {
            return Ok(Some(self.read_job(place, w)));
        }
        if self.is_alive(w.owner(), peers) {
            return Err(TakeError::Busy { owner: w.owner() });
        }
        self.bury(h, w);
        Ok(None)
    }

    /// Looks at every slot for a job that has come back, the oldest place first, and claims it.
    #[inline]
    fn search(&self, h: u64) -> Search {
        if M::broken(Bug::ClaimNoSearch) {
            return Search::Nothing;
        }
        let mut all_free = true;
        for k in 0..1u64 << self.shift {
            let place = h.wrapping_add(k);
            let mut w = self.look(place, Site::ClaimTakeLoad);
            all_free &= w.state() == State::Free;
            // A claim fails where a submitter steps over the place, at most once in a lap.
            for _ in 0..4 {
                let any = M::broken(Bug::ClaimSearchTakesNew) && w.state() == State::Filled;
                if w.state() != State::Again && !any {
                    break;
                }
                if self.claim_to_work(place, w) {
                    return Search::Found(place, w);
                }
                w = self.look(place, Site::ClaimTakeLoad);
            }
        }
        if all_free { Search::AllFree } else { Search::Nothing }
    }

    /// Answers a job.
    ///
    /// # Errors
    /// [`NotHeld`], with the job and the answer; then nothing was written.
    #[inline]
    pub fn finish(&mut self, taken: Taken<Q>, answer: A) -> Result<(), NotHeld<(Taken<Q>, A)>> {
        desk::finish(&self.region, self.me, taken, answer)
    }

    /// Gives a job back for another worker, or this one, to take. It counts as no attempt.
    ///
    /// # Errors
    /// [`NotHeld`], with the job; then nothing was changed.
    pub fn decline(&mut self, taken: Taken<Q>) -> Result<(), NotHeld<Taken<Q>>> {
        desk::decline(&self.region, self.me, taken)
    }

    /// Where jobs that this handle takes can be ended apart from it.
    ///
    /// # Safety
    /// As long as the desk lives, both are given only what this handle has taken, and nobody else gets the name.
    pub unsafe fn desk(&self) -> Desk<M, Q, A, R> {
        Desk::new(self.region.clone(), self.me, self.most)
    }

    /// Takes the answer of the oldest job that is over, or the news that it has failed. `None`: no job is over.
    #[inline]
    pub fn collect(&mut self) -> Option<Collected<A>> {
        self.collect_with(|collected| collected)
    }

    /// Calls `take` with the answer of the oldest job that is over before its slot is given back: if this process dies
    /// in `take`, the answer goes to another. If `take` panics, the answer is gone.
    #[inline]
    pub fn collect_with<V>(&mut self, take: impl FnOnce(Collected<A>) -> V) -> Option<V> {
        let mut left = self.patience();
        let mut k = 0;
        while let Some(p) = self.trail.held(k) {
            left = left.checked_sub(1)?;
            // Relaxed: the CAS looks again.
            let w = Word(self.region.slot(p).word.load(Ordering::Relaxed));
            match self.ahead(w, p) {
                1 => (),
                d if d < 1 => return None, // the word lies
                _ if M::broken(Bug::ClaimTrailStays) => (),
                d => {
                    self.follow(p, d);
                    break;
                }
            }
            match w.state() {
                State::Done | State::Failed => {
                    if self.claim_to_collect(p, w) {
                        self.trail.remove(k); // free in a moment
                        return Some(self.read_answer(p, w, take));
                    }
                }
                State::Free => self.trail.remove(k),
                _ => k += 1,
            }
        }
        let (p, w) = self.walk_to_answer(left)?;
        Some(self.read_answer(p, w, take))
    }

    /// Claims the first answer from where the trail ends.
    #[inline]
    fn walk_to_answer(&mut self, left: u64) -> Option<(u64, Word)> {
        // Whether all places before `p` are in the trail, or free.
        let (mut p, mut known) = (self.trail.seen(), true);
        for _ in 0..left {
            if p.wrapping_sub(self.trail.first()) >> self.shift != 0 {
                return None;
            }
            // Relaxed: the CAS looks again.
            let w = Word(self.region.slot(p).word.load(Ordering::Relaxed));
            let d = self.ahead(w, p);
            if d < 1 {
                return None; // nobody has come so far
            }
            if known && d > 1 {
                self.follow(p, d);
                p = self.trail.seen();
                continue;
            }
            match w.state() {
                State::Done | State::Failed if self.claim_to_collect(p, w) => {
                    if known {
                        self.trail.free(); // in a moment
                    }
                    return Some((p, w));
                }
                State::Done | State::Failed => continue,
                State::Free if known => self.trail.free(),
                State::Free => (),
                // There may be many of them, and this is no place to come by often.
                State::Filled | State::Filling => known = false,
                _ if known && M::broken(Bug::ClaimForgetPassed) => self.trail.free(),
                _ => known = known && self.trail.keep(),
            }
            p = p.wrapping_add(1);
        }
        None
    }

    /// By P, all positions up to the one `d` - 1 laps after `p` are past. So from behind the one a lap before that on,
    /// all n slots are looked at, what was in the trail too, and the oldest job comes first.
    #[cold]
    fn follow(&mut self, p: u64, d: i64) {
        self.trail = Trail::new(p.wrapping_add((d - 2).cast_unsigned() << self.shift).wrapping_add(1));
    }

    #[inline(always)]
    fn claim_to_collect(&mut self, p: u64, w: Word) -> bool {
        let mine = w.collected(self.me);
        // Pairs with ClaimFinish, ClaimRedeliver and ClaimUncollect: Done may have come again since it was loaded.
        let o = M::at(Site::ClaimCollect, Ordering::Acquire);
        let claimed = self.region.slot(p).word.cas(w.0, mine.0, o).is_ok();
        if claimed {
            self.deaths = w.attempts();
        }
        claimed
    }

    /// How many workers had died of the job that this handle collected last.
    pub fn last_deaths(&self) -> u32 {
        self.deaths
    }

    #[inline(always)]
    fn read_answer<V>(&self, place: u64, w: Word, take: impl FnOnce(Collected<A>) -> V) -> V {
        let slot = self.region.slot(place);
        let free = w.freed().0;
        if M::broken(Bug::ClaimFreeFirst) {
            slot.word.store(free, Ordering::Release);
        }
        // Pairs with ClaimSubmitLoad, also if `take` panics.
        let free = GiveBack::<M> { word: &slot.word, to: free };
        // SAFETY: Collecting(me) keeps everybody out, and ClaimCollect came after job and answer were written.
        let ticket = Ticket(slot.job.with(|p| unsafe { (*p).ticket }));
        let outcome = if w.state() == State::Failed {
            Outcome::Failed { attempts: w.attempts() }
        } else {
            // SAFETY: as above; in Done there is an answer, and any bytes are an A.
            Outcome::Answer(slot.answer.with(|p| unsafe { p.read() }))
        };
        let v = take(Collected { ticket, outcome });
        if M::broken(Bug::ClaimFreeFirst) {
            core::mem::forget(free);
        }
        v
    }
}

/// Gives a slot back when it is dropped, also by a panic.
struct GiveBack<'a, M: Mem> {
    word: &'a M::U64,
    to: u64,
}

impl<M: Mem> Drop for GiveBack<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        self.word.store(self.to, M::at(Site::ClaimFree, Ordering::Release));
    }
}
