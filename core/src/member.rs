//! One rank's private side of a group: which operation it is at, how it waits, and how it ends.
//!
//! Operations on tensors (`collective`) are made of the few steps here: `begin`, `publish`, `everyone`, `step`,
//! `await_step`, `settle`. Whatever a wait can end with is a [`Fault`].
//!
//! A rank that gives up tells the others so first. If it had lent them a resident tensor in that operation, it then
//! waits, for a short while, until it is proven that none of them writes to it any more:
//!
//! | of another rank it is seen that                              | so it writes to the tensor no more because          |
//! |--------------------------------------------------------------|-----------------------------------------------------|
//! | *some* rank has ended or died without publishing the operation | nobody begins to write before all have published it |
//! | it has arrived at the rendezvous                             | it arrives after its last write                     |
//! | it has ended                                                 | it says so after its last write                     |
//! | it is dying or dead                                          | it executes nothing                                 |
//!
//! Each row is an Acquire load that pairs with a Release of that rank (BarrierLook with BarrierArrive, BoardLookEnd
//! with BoardEnd), or the region's proof of death. A rank of which none is seen is slow or stopped, and may write when
//! it goes on: then the tensor is *poisoned*, and the region refuses it from then on.
//!
//! # Safety
//! The unsafe here is to call the board with what it asks for: `begin` has caught up before anything is published, and
//! lines are read only after they were seen. That the place is our own is what the caller of `new` promises.
#![allow(unsafe_code)]

use core::ops::Range;
use core::panic::Location;

use crate::barrier::Barrier;
use crate::board::{Body, End, Failing, Leaving, Life, Place, Region, Words};
use crate::call::CallSite;
use crate::call::{Call, Fingerprint, Kind, With, count_word};
use crate::doorbell::Doorbell;
use crate::dtype::Dtype;
use crate::mem::{Atom, Bug, Mem, Ordering};
use crate::reduce::Unsupported;
use crate::sizes::INLINE;
use crate::sizes::WINDOWS;
use crate::wait::{Prices, Stage, WaitPolicy, WaitStats, Waiter};

/// Why an operation did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// `rank` is dead.
    Died {
        /// Who.
        rank: usize,
    },
    /// `rank` has left the group.
    Left {
        /// Who.
        rank: usize,
        /// Why.
        reason: Leaving,
    },
    /// `rank` gave up in the middle of an operation.
    Failed {
        /// Who.
        rank: usize,
        /// Why.
        reason: Failing,
    },
    /// `rank` made another call than this one. Nothing was touched, and the group goes on.
    Mismatch {
        /// The first rank, by number, whose call differs.
        rank: usize,
    },
    /// The deadline passed while this rank waited for `rank`.
    TimedOut {
        /// For whom.
        rank: usize,
        /// How long, in nanoseconds.
        nanos: u64,
    },
    /// A peer named a resident tensor that does not exist.
    BadToken {
        /// Who.
        rank: usize,
    },
    /// This dtype has no such operation.
    Unsupported(Unsupported),
    /// No rank has the number that was named as root.
    NoSuchRoot {
        /// What was asked for.
        root: usize,
        /// Ranks in the group.
        size: usize,
    },
}

impl Fault {
    /// Whether the group is over for this rank.
    fn is_final(self) -> bool {
        !matches!(self, Fault::Mismatch { .. } | Fault::Unsupported(_) | Fault::NoSuchRoot { .. })
    }
}

/// What a rank waits for in another.
#[derive(Clone, Copy)]
enum Awaited {
    Line(u64),
    Steps(u64, u64),
    Arrival,
}

/// A resident tensor that the other ranks may write to.
#[derive(Clone, Copy, Debug)]
struct Lent {
    start: usize,
    bytes: usize,
    /// Who has arrived here writes to it no more.
    generation: u64,
}

/// How long a rank that has given up waits for others to be done with its resident tensor. Those that are not stopped
/// have been rung, and are done with their slice, or learn of the end at the next wait.
const GRACE: u64 = 20_000_000;

/// How a member waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Spin, yield or sleep.
    pub policy: WaitPolicy,
    /// What waiting costs here.
    pub prices: Prices,
    /// Whether the ranks outnumber their CPUs.
    pub crowded: bool,
    /// Nanoseconds after which a wait gives up.
    pub deadline: u64,
}

/// One rank of a group.
#[derive(Debug)]
pub struct Member<M: Mem, R: Region<M>> {
    pub(crate) region: R,
    pub(crate) me: usize,
    pub(crate) size: usize,
    /// The last operation that this rank has published.
    pub(crate) n: u64,
    /// The last operation that every rank is known to have published: n or n − 1.
    seen: u64,
    mine: Fingerprint,
    barrier: Barrier<M>,
    waiter: Waiter,
    deadline: u64,
    /// Something was published and the bells have not been looked at since.
    owed: bool,
    cpu: u32,
    sites: [(usize, u32, u64); 2],
    /// Chunks that have gone through each exchange window.
    pub(crate) turns: [u64; WINDOWS],
    /// The operation has begun to write into the caller's tensors.
    pub(crate) touched: bool,
    /// Waiting for what others still have to publish of the last operation, before the next one.
    catching_up: bool,
    /// The operation whose mismatch the caller has been told of.
    told: Option<u64>,
    /// What this operation has lent to the others.
    lent: Option<Lent>,
    broken: Option<Fault>,
}

impl<M: Mem, R: Region<M>> Member<M, R> {
    /// Rank `me` of `size` in a region whose places start at operation `n`.
    ///
    /// # Safety
    /// `me` is below `size`, the region has places and buffers for `size` ranks, and all of their places hold operation
    /// `n`. No other member is, was, or will be rank `me` of this group.
    pub unsafe fn new(region: R, me: usize, size: usize, n: u64, patience: Patience) -> Self {
        let waiter = Waiter::new(patience.policy, patience.prices, patience.crowded);
        Member {
            region,
            me,
            size,
            n,
            seen: n,
            mine: Fingerprint { what: 0, count: 0 },
            barrier: Barrier::new(n),
            waiter,
            deadline: patience.deadline,
            owed: false,
            cpu: 0,
            sites: [(0, 0, 0); 2],
            turns: [0; WINDOWS],
            touched: false,
            catching_up: false,
            told: None,
            lent: None,
            broken: None,
        }
    }

    /// This rank's number.
    pub fn rank(&self) -> usize {
        self.me
    }

    /// Ranks in the group.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The group's memory.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// The group's memory, for what is not on the board.
    ///
    /// # Safety
    /// It stays this group's memory for this rank: the caller puts no other region in its place.
    pub unsafe fn region_mut(&mut self) -> &mut R {
        &mut self.region
    }

    /// How often each stage of waiting was used.
    pub fn wait_stats(&self) -> WaitStats {
        self.waiter.stats()
    }

    /// Operations that this rank has taken part in.
    pub fn operations(&self) -> u64 {
        self.n
    }

    /// Changes the way of waiting.
    pub fn set_patience(&mut self, patience: Patience) {
        let before = self.waiter.stats();
        self.waiter = Waiter::new(patience.policy, patience.prices, patience.crowded).after(before);
        self.deadline = patience.deadline;
    }

    /// Whether the operation that failed had begun to write into the caller's tensors.
    pub fn touched(&self) -> bool {
        self.touched
    }

    /// Ranks that have not published the operation that this rank is in.
    pub fn behind(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.size).filter(|q| !self.place(*q).published(self.n))
    }

    /// This rank's last call, and what `rank` called in the same operation: for the message of a mismatch, right after
    /// it was reported.
    pub fn calls(&self, rank: usize) -> Option<(Call, Call)> {
        let call = |q: usize| {
            // SAFETY: seen here, and we have not published n + 1.
            self.place(q).published(self.n).then(|| unsafe {
                let place = self.place(q);
                Call::new(place.fingerprint(self.n), place.site(self.n))
            })
        };
        Some((call(self.me)?, call(rank)?))
    }

    #[inline(always)]
    pub(crate) fn place(&self, rank: usize) -> &Place<M> {
        self.region.place(rank)
    }

    /// The operation that is about to be published.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.n.wrapping_add(1)
    }

    /// First step of every operation: nobody reads what the next publication overwrites.
    #[inline]
    pub(crate) fn begin(&mut self) -> Result<(), Fault> {
        self.touched = false;
        self.lent = None;
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        if self.seen == self.n || M::broken(Bug::BoardNoCatchUp) {
            return Ok(());
        }
        let told = self.told == Some(self.n);
        // Whoever gives up here gives up in the operation that has not begun: the last one is over for it.
        self.catching_up = true;
        let result = self.everyone();
        self.catching_up = result.is_err_and(|f| f.is_final());
        match result {
            Err(Fault::Mismatch { .. }) if told => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Publishes this rank's part in the next operation. The buffers that `steps` stands for are filled.
    #[inline]
    pub(crate) fn publish(&mut self, call: Fingerprint, payload: [u64; INLINE / 8], steps: u64, site: &Spot) {
        let n = self.next();
        let key = (core::ptr::from_ref(site.at).addr(), site.tensors, site.total);
        let noted = self.sites[(n & 1) as usize] == key;
        let place = self.region.place(self.me);
        // SAFETY: the place is our own, and `begin` has seen everybody's n − 1.
        unsafe {
            if !noted {
                place.note_site(n, CallSite::new(site.at, site.tensors, site.total));
            }
            place.publish(n, steps, &Body { what: call.what, count: call.count, payload });
        }
        self.sites[(n & 1) as usize] = key;
        self.n = n;
        self.mine = call;
        self.owed = true;
    }

    /// Waits for everybody's part in this operation and compares the calls. Says how many ranks contribute.
    #[inline]
    pub(crate) fn everyone(&mut self) -> Result<usize, Fault> {
        let (n, mut contributors, mut odd) = (self.n, 1, None);
        for q in 0..self.size {
            if q == self.me {
                continue;
            }
            self.wait_for(Awaited::Line(n), q, q..self.size)?;
            // SAFETY: seen by the wait; we have not published n + 1.
            let theirs = unsafe { self.place(q).fingerprint(n) };
            if !theirs.agrees(&self.mine) && odd.is_none() {
                odd = Some(q);
            }
            contributors += usize::from(theirs.contributes());
        }
        self.seen = n;
        match odd {
            None => Ok(contributors),
            Some(rank) => Err(self.mismatch(rank)),
        }
    }

    /// Waits for one rank's part only (the root's) and compares the calls.
    pub(crate) fn only(&mut self, q: usize) -> Result<(), Fault> {
        let n = self.n;
        self.wait_for(Awaited::Line(n), q, q..q + 1)?;
        // SAFETY: seen by the wait; we have not published n + 1.
        let theirs = unsafe { self.place(q).fingerprint(n) };
        if theirs.agrees(&self.mine) { Ok(()) } else { Err(self.mismatch(q)) }
    }

    /// All ranks of the operation learn of the mismatch before any of them has read a buffer, so the windows can start
    /// afresh on all of them.
    #[cold]
    fn mismatch(&mut self, rank: usize) -> Fault {
        self.turns = [0; WINDOWS];
        self.take_back();
        self.told = Some(self.n);
        Fault::Mismatch { rank }
    }

    /// Publishes a further step of this operation: the buffers that it stands for are filled, or read.
    #[inline]
    pub(crate) fn step(&mut self, steps: u64) {
        // SAFETY: the place is our own, and operation n the one that we are in.
        unsafe { self.place(self.me).step(self.n, steps) };
        self.owed = true;
    }

    /// Lends these bytes of a resident tensor to the others, with the token that is about to be published. From then on
    /// whoever finds all ranks resident writes to them, even if we fail meanwhile.
    pub(crate) fn lend(&mut self, start: usize, bytes: usize) {
        self.touched = true;
        self.lent = Some(Lent { start, bytes, generation: self.barrier.coming() });
    }

    /// Nobody has written, or will write, to what was lent.
    pub(crate) fn take_back(&mut self) {
        self.touched = false;
        self.lent = None;
    }

    /// Waits until `q`, whose line was seen, has come to `steps`.
    #[inline]
    pub(crate) fn await_step(&mut self, q: usize, steps: u64) -> Result<(), Fault> {
        self.wait_for(Awaited::Steps(self.n, steps), q, q..q + 1)
    }

    /// Waits until everybody has come to the end of what this operation does in other ranks' memory.
    pub(crate) fn rendezvous(&mut self) -> Result<(), Fault> {
        self.barrier.arrive(&Words(&self.region), self.me);
        self.owed = true;
        let me = self.me;
        for q in (0..self.size).filter(|q| *q != me) {
            self.wait_for(Awaited::Arrival, q, q..self.size)?;
        }
        self.lent = None;
        Ok(())
    }

    /// Waits until every rank of the group has taken its place: once, before the first operation.
    pub fn join(&mut self) -> Result<(), Fault> {
        let result = self.rendezvous();
        self.settle(result)
    }

    /// Ranks whose place nobody has taken yet.
    pub fn absent(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.size).filter(|q| self.region.life(*q) == Life::Absent)
    }

    /// Last step of every operation, however it ended.
    #[inline]
    pub(crate) fn settle<V>(&mut self, result: Result<V, Fault>) -> Result<V, Fault> {
        ring_owed(&self.region, self.me, self.size, &mut self.owed);
        if let Err(fault) = result
            && fault.is_final()
            && self.broken.is_none()
        {
            self.give_up(fault);
        }
        result
    }

    #[inline]
    fn wait_for(&mut self, what: Awaited, q: usize, among: Range<usize>) -> Result<(), Fault> {
        let Self { region, waiter, owed, cpu, barrier, me, size, n, deadline, .. } = self;
        let (me, size, n, region, barrier) = (*me, *size, *n, &*region, &*barrier);
        let has = |q: usize| match what {
            Awaited::Line(n) => region.place(q).published(n),
            Awaited::Steps(n, steps) => region.place(q).stepped(n, steps),
            Awaited::Arrival => barrier.arrived(&Words(region), q),
        };
        let cpu = core::cell::Cell::from_mut(cpu);
        let mut began = None;
        waiter.wait(
            &region.place(me).desk().bell,
            || has(q),
            || {
                cpu.set(note_cpu(region, me, cpu.get()));
                region.place(q).desk().cpu.load(Ordering::Relaxed) != cpu.get()
            },
            |stage| {
                ring_owed(region, me, size, owed);
                if stage == Stage::Patient {
                    cpu.set(note_cpu(region, me, cpu.get()));
                    return Ok(u64::MAX);
                }
                for r in (0..size).filter(|r| *r != me) {
                    let place = region.place(r);
                    if place.failed_in(n) {
                        return Err(fault(region, size, r, place.ended()));
                    }
                    if among.contains(&r) {
                        gone(region, size, r, has)?;
                    }
                }
                let now = M::now();
                let waited = now.saturating_sub(*began.get_or_insert(now));
                let timed_out = Fault::TimedOut { rank: q, nanos: waited };
                deadline.checked_sub(waited).filter(|left| *left > 0).ok_or(timed_out)
            },
        )
    }

    /// This rank takes part no more: says why, and wakes everyone who may wait for it.
    #[cold]
    fn give_up(&mut self, fault: Fault) {
        let failing = match fault {
            Fault::Died { rank } => Failing::BecauseDead(rank as u32),
            Fault::TimedOut { rank, .. } => Failing::TimedOut(rank as u32),
            Fault::Left { rank, .. } | Fault::Failed { rank, .. } | Fault::BadToken { rank } => {
                Failing::BecauseGone(rank as u32)
            }
            _ => Failing::BecauseGone(self.me as u32),
        };
        self.finish(End::Failed(failing));
        self.broken = Some(fault);
    }

    /// The rank has given up, and said so. Was a resident tensor lent, and may others write to it still?
    #[cold]
    fn withdraw(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let (region, n, me) = (&self.region, self.n, self.me);
        let others = || (0..self.size).filter(|q| *q != me);
        let gone = |q: usize| {
            region.place(q).ended().is_some() || matches!(region.life(q), Life::Dying | Life::Dead)
        };
        // The look at the sequence comes after the verdict: final, see the board.
        if others().any(|q| gone(q) && !region.place(q).published(n)) {
            self.touched = false;
            return;
        }
        let done = |q: usize| Barrier::reached(&Words(region), q, lent.generation) || gone(q);
        let began = M::now();
        while !others().all(done) {
            if M::now().saturating_sub(began) >= GRACE {
                return region.poison(lent.start, lent.bytes);
            }
            M::yield_now();
        }
    }

    #[cold]
    fn finish(&mut self, end: End) {
        let last = if self.catching_up { self.next() } else { self.n };
        // SAFETY: the place is our own; `broken` keeps us from doing anything more.
        unsafe { self.place(self.me).end(end, last) };
        // Also for the dead, who may have owed a ring: see the doorbell.
        (0..self.size).filter(|q| *q != self.me).for_each(|q| self.place(q).desk().bell.ring_anyway());
        self.owed = false;
        self.withdraw();
    }

    /// The caller's closure is unwinding.
    #[cold]
    pub(crate) fn closure_panicked(&mut self) {
        if self.broken.is_none() {
            self.finish(End::Failed(Failing::ClosurePanicked));
            self.broken = Some(Fault::Failed { rank: self.me, reason: Failing::ClosurePanicked });
        }
    }

    /// Leaves the group. The others' next operation fails with the news; operations that this rank has taken part in
    /// complete.
    pub fn leave(&mut self, reason: Leaving) {
        if self.broken.is_none() {
            self.finish(End::Left(reason));
            self.broken = Some(Fault::Left { rank: self.me, reason });
        }
    }

    /// Everybody tells everybody 32 bytes, together with a call that all must make: an all-gather through the flag
    /// lines. `each` gets every rank's words, in rank order, after all calls were found to agree. Without words it is
    /// a barrier. Cost: one line written, `size − 1` read.
    pub fn exchange(
        &mut self,
        kind: Kind,
        element: Option<(Dtype, usize)>,
        words: [u64; INLINE / 8],
        at: &'static Location<'static>,
        mut each: impl FnMut(usize, [u64; INLINE / 8]),
    ) -> Result<usize, Fault> {
        let (dtype, total) = element.map_or((None, 0), |(d, n)| (Some(d), n));
        let call = Fingerprint::new(kind, With::Nothing, dtype, 0, count_word([total].into_iter()));
        let site = Spot { at, tensors: 1, total: total as u64 };
        let result = self.begin().and_then(|()| {
            self.publish(call, words, 0, &site);
            let contributors = self.everyone()?;
            for q in 0..self.size {
                // Volatile: a bad peer may change the words even now, and `each` must see one answer.
                // SAFETY: `everyone` has seen all lines, and we have not published n + 1.
                let theirs = || unsafe { self.place(q).payload(self.n).read_volatile() };
                // Not our own line: whoever read it may have taken it along.
                each(q, if q == self.me { words } else { theirs() });
            }
            Ok(contributors)
        });
        self.settle(result)
    }

    /// Waits until every rank has called it.
    pub fn barrier(&mut self, at: &'static Location<'static>) -> Result<(), Fault> {
        self.exchange(Kind::Barrier, None, [0; INLINE / 8], at, |_, _| ()).map(|_| ())
    }
}

/// A call's place in the program and its size.
pub(crate) struct Spot {
    pub(crate) at: &'static Location<'static>,
    pub(crate) tensors: u32,
    pub(crate) total: u64,
}

#[inline]
fn ring_owed<M: Mem>(region: &impl Region<M>, me: usize, size: usize, owed: &mut bool) {
    if *owed {
        *owed = false;
        Doorbell::<M>::fence();
        (0..size).filter(|q| *q != me).for_each(|q| region.place(q).desk().bell.ring_fenced());
    }
}

/// Tells the others where we run; the word is written only when it changes.
fn note_cpu<M: Mem>(region: &impl Region<M>, me: usize, before: u32) -> u32 {
    let cpu = M::cpu().wrapping_add(1);
    if cpu != before {
        region.place(me).desk().cpu.store(cpu, Ordering::Relaxed);
    }
    cpu
}

/// Fails if `q` will never bring what `has` looks for. The look after the verdict is the final one: see the board.
#[cold]
fn gone<M: Mem>(
    region: &impl Region<M>,
    size: usize,
    q: usize,
    has: impl Fn(usize) -> bool,
) -> Result<(), Fault> {
    let place = region.place(q);
    let end = match (place.ended(), region.life(q)) {
        (None, Life::Absent | Life::Alive) => return Ok(()),
        // It may have said why before it died, after we looked.
        (None, Life::Dying | Life::Dead) => place.ended(),
        (end, _) => end,
    };
    let fault = fault(region, size, q, end);
    if !M::broken(Bug::BoardNoSecondLook) && has(q) { Ok(()) } else { Err(fault) }
}

/// What the end of `q` means for whoever needs it. Who gave up because of another passes on that other's name.
fn fault<M: Mem>(region: &impl Region<M>, size: usize, q: usize, end: Option<End>) -> Fault {
    match end {
        None => Fault::Died { rank: q },
        Some(End::Left(reason)) => Fault::Left { rank: q, reason },
        Some(End::Failed(Failing::BecauseDead(dead))) if (dead as usize) < size => {
            Fault::Died { rank: dead as usize }
        }
        Some(End::Failed(Failing::BecauseGone(first))) if (first as usize) < size => {
            let rank = first as usize;
            match region.place(rank).ended() {
                Some(End::Left(reason)) => Fault::Left { rank, reason },
                Some(End::Failed(reason)) => Fault::Failed { rank, reason },
                None => Fault::Failed { rank: q, reason: Failing::BecauseGone(first) },
            }
        }
        Some(End::Failed(reason)) => Fault::Failed { rank: q, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Life;
    use crate::mem::Real;
    use crate::sizes::Sizes;
    use crate::testing::Heap;

    /// Who has arrived at the rendezvous has written for the last time, though it is alive and in the call.
    #[test]
    fn a_rank_that_has_arrived_is_done_with_what_was_lent() {
        for arrived in [false, true] {
            let heap = Heap::<Real>::new(Sizes::TINY, 2, u64::MAX, 8192, |_| Life::Alive);
            let prices = Prices { spin: 1, give_way: 1, wake: 1 };
            let patience = Patience { policy: WaitPolicy::Sleep, prices, crowded: true, deadline: 0 };
            // SAFETY: the only member, in a new heap.
            let mut m = unsafe { Member::new(heap.clone(), 0, 2, u64::MAX, patience) };
            // SAFETY: nobody else is here.
            let start = unsafe { heap.tensor::<u8>(0, 256) }.as_ptr().addr();
            m.lend(start, 256);
            heap.place(1).arrival().store(if arrived { 0 } else { u64::MAX }, Ordering::Relaxed);
            m.give_up(Fault::TimedOut { rank: 1, nanos: 0 });
            assert_eq!(heap.is_poisoned(0), !arrived);
            assert!(m.touched());
        }
    }
}
