//! Many producers, many consumers, inside one process: bounded, in order, for values of any type.
//!
//! Threads share it, and a thread does not die alone: nothing here names an owner, and nothing is recovered. What that
//! is worth beside [`mpmc`](super::mpmc) stands in `docs/ARCHITECTURE.md`.
//!
//! # Three kinds of words
//!
//! Positions are numbered without end (modulo 2^62); position p lies in slot p mod n, and n is a power of two.
//!
//! ```text
//!  63                              2   1   0
//! +---------------------------------+---+---+
//! |            position             | 0 | C |   tail: where the next push goes; C: closed
//! +---------------------------------+---+---+
//! |            position             |   0   |   head: where the next pop comes from
//! +---------------------------------+-------+
//! |            position             | state |   a slot: 0 free for that position, 1 full, 2 void
//! +---------------------------------+-------+
//! ```
//!
//! | word | from       | to           | who                            | how      | ordering | meaning                |
//! |------|------------|--------------|--------------------------------|----------|----------|------------------------|
//! | tail | (p, open)  | (p+k, open)  | a push that saw p .. p+k free  | CAS      | Relaxed  | p .. p+k are its own   |
//! | tail | (p, open)  | (p, closed)  | who closes                     | fetch_or | Release  | nobody claims any more |
//! | head | h          | h+k          | a pop that saw h .. h+k full   | CAS      | Relaxed  | h .. h+k are its own   |
//! | slot | free(p)    | full(p)      | the push that owns p           | store    | Release  | p can be popped        |
//! | slot | free(p)    | void(p)      | the same, if it has no value   | store    | Release  | p is stepped over      |
//! | slot | full(p)    | free(p+n)    | the pop that owns p            | store    | Release  | p+n can be pushed      |
//! | slot | void(p)    | free(p+n)    | the same                       | store    | Release  | the same               |
//!
//! There is no other transition. Free(p) has the bits of an open tail at p, and full(p) those of the head at p and one,
//! so each side makes one comparison. State and position are apart, so that a ring of one place works: there full(p)
//! must not be free(p+1).
//!
//! # Why a claim is exclusive
//!
//! Tail and head only grow, and each number is left by one successful CAS: whoever makes it owns the position. A push
//! that saw free(p) and then moved the tail from p saw the truth: free(p) ends only by the store of p's owner, which it
//! is. The same for a pop and full(h). A word that repeats would need 2^62 positions between a load and a CAS.
//!
//! # Orderings
//!
//! - LocalPublish (Release) with LocalPopLoad (Acquire): a value is read after it was written.
//! - LocalFree (Release) with LocalPushLoad (Acquire): a place is written after it was read. A run of several places
//!   looks at each one's word, because their last readers may be different threads.
//! - LocalClose (Release) with LocalCloseLoad (Acquire): whoever is told "closed" or "drained" comes after what the
//!   closer did before. Only another close follows it in the tail's order, so the load that finds the bit reads it.
//! - The claims are Relaxed: no value is reached through them, and that only one succeeds is coherence.
//!
//! # The answers are exact
//!
//! *Empty*: the slot at h was not full, and then the tail was at h. The head can't be before h or behind the tail, so
//! at the moment of that load nothing was in the ring. *Full*: the slot at p was not free, and then the head was a lap
//! before p. The tail can't be before p, nor more than a lap ahead of the head, so at that moment n were in the ring.
//! Who was told of a push or a pop by other means finds tail, head and slot at least as far as it left them. Where a
//! slot is claimed and not yet given back the answer is neither but [`Busy`](PopError::Busy), after some looks: its
//! owner runs, or waits for the processor.
//!
//! # Closing
//!
//! The closed bit is in the word that claims are made on. A claim before it in the tail's order is a push that
//! succeeded: it will be published, and the tail that the closer leaves counts it. After it the CAS fails, because no
//! push expects that bit. So once `close` has returned no push succeeds; and a pop that finds the tail closed at its
//! own head says "drained", which is true for good: tail and head never move again. A pop that finds the closed tail
//! further on has something to wait for.
//!
//! # Standing back
//!
//! Two threads that claim in turn move the tail's line and the slots' lines to and fro, for 50 to 280 ns each way. A
//! call that loses a claim therefore leaves these lines alone for some 3 µs: the other one makes a hundred operations
//! meanwhile, and the loser finds room to do the same. Where nobody is in the way this costs nothing.
//!
//! A call that finds a place that somebody is in the middle of stands back too, but only for as long as it has paid
//! to: in a stream the next places are done as well when it looks again, and it goes on in a burst; in a ping-pong
//! nothing comes behind, and 2 µs would be four times the message's way. `back`, beside tail and beside head, is what
//! was learnt: at once when it paid, unlearnt turn by turn. It is a hint, and only calls that are held up touch it.
//!
//! # Panics
//!
//! Values come from iterators and go to collections of the caller's, which may panic, or yield fewer than they said. A
//! run that was claimed is never left behind: on a push whatever has no value becomes void, on a pop the rest is
//! dropped and its places are given back. A value's own `drop` runs under the same guards.
//!
//! # Safety
//! A place is written by the owner of its position between free and full, and read by the owner of its position between
//! full and free(p+n), by nobody else; each access says so. The region promises that places are different and live.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;
use core::mem::needs_drop;

use crossbeam_utils::CachePadded;

use super::{CapacityError, PopError, PushError, check};
use crate::mem::{Atom, Bug, Mem, Ordering, Real, Site};
use crate::owner::Owner;

const CLOSED: u64 = 1;
const FULL: u64 = 1;
const VOID: u64 = 2;
/// From a position's word to the next one's.
const NEXT: u64 = 4;
const STATE_BITS: u32 = NEXT.trailing_zeros();

/// Turns of a spin loop for which a call stands back at most. See "Standing back" at the top.
const BACK: u32 = 127; // each takes some 13 ns on a Zen 4
/// How often it does so at a place that somebody is in the middle of, before the answer is Busy.
const LOOKS: u32 = 2;

/// Tail or head, on a line of its own.
#[repr(C)]
struct End<M: Mem> {
    word: M::U64,
    /// For how many turns it has paid to stand back here, at a place that somebody was in the middle of. A hint.
    back: M::U32,
}

/// The words beside the slots: one line is the producers', one the consumers'.
#[repr(C)]
pub struct Ends<M: Mem> {
    tail: CachePadded<End<M>>,
    head: CachePadded<End<M>>,
}

impl<M: Mem> Ends<M> {
    /// The words of an empty, open ring whose first position is `start` (modulo 2^62).
    pub fn new(start: u64) -> Self {
        let end = || CachePadded::new(End { word: M::U64::new(start << STATE_BITS), back: M::U32::new(0) });
        Ends { tail: end(), head: end() }
    }

    /// Tail and head, as they are now.
    #[cfg(any(test, feature = "testing"))]
    pub fn words(&self) -> (u64, u64) {
        (self.tail.word.load(Ordering::Relaxed), self.head.word.load(Ordering::Relaxed))
    }
}

impl<M: Mem> fmt::Debug for Ends<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, head) = (self.tail.word.load(Ordering::Relaxed), self.head.word.load(Ordering::Relaxed));
        let (at, from) = (tail >> STATE_BITS, head >> STATE_BITS);
        f.debug_struct("Ends")
            .field("tail", &at)
            .field("head", &from)
            .field("closed", &(tail & CLOSED))
            .finish()
    }
}

/// What the word of slot `i` holds in an empty ring of 2^`shift` slots whose first position is `start`.
pub const fn empty(i: u64, shift: u32, start: u64) -> u64 {
    let mask = (1u64 << shift) - 1;
    start.wrapping_add(i.wrapping_sub(start) & mask) << STATE_BITS
}

/// The logarithm of the least capacity, a power of two, that holds `asked` values, in slots of `bytes` each.
///
/// # Errors
/// [`CapacityError`], if it is none, or more than a ring of such values can have.
pub fn shift_of(asked: usize, bytes: usize) -> Result<u32, CapacityError> {
    let rounded = asked.checked_next_power_of_two().unwrap_or(asked);
    let real = check(if asked == 0 { 0 } else { rounded }, bytes);
    real.map(usize::trailing_zeros).map_err(|e| match e {
        CapacityError::TooLarge { most, .. } | CapacityError::NotAPowerOfTwo { next: most, .. } => {
            CapacityError::TooLarge { asked, most }
        }
        e => e,
    })
}

/// Lends the memory of a ring.
///
/// # Safety
/// Lends the same words and places for as long as it lives; slots whose numbers differ modulo 2^`shift` have different
/// words and places; any number is masked; `shift` stays the same.
pub unsafe trait Region<M: Mem, T> {
    /// The words beside the slots.
    fn ends(&self) -> &Ends<M>;
    /// The word of a slot.
    fn word(&self, i: u64) -> &M::U64;
    /// Writes the place of a slot.
    ///
    /// # Safety
    /// Nobody else touches the place meanwhile. What it held is not dropped.
    unsafe fn put(&self, i: u64, value: T);
    /// Moves the value out of the place of a slot.
    ///
    /// # Safety
    /// A value was put there and not taken since, and nobody else touches the place meanwhile.
    unsafe fn take(&self, i: u64) -> T;
    /// The logarithm of the number of slots.
    fn shift(&self) -> u32;
}

/// A ring. Threads share it by reference.
pub struct Queue<M: Mem, T, R: Region<M, T>> {
    region: R,
    _values: PhantomData<(fn() -> M, T)>,
}

// SAFETY: values are moved in and out by whichever thread calls, one thread each, so they must be Send; nobody has a
// reference to a value that lies in the ring, so they need not be Sync. The words are atomics.
unsafe impl<M: Mem, T: Send, R: Region<M, T> + Send> Send for Queue<M, T, R> {}
// SAFETY: as above.
unsafe impl<M: Mem, T: Send, R: Region<M, T> + Sync> Sync for Queue<M, T, R> {}

impl<M: Mem, T, R: Region<M, T>> fmt::Debug for Queue<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("ends", self.region.ends()).field("capacity", &self.capacity()).finish()
    }
}

impl<M: Mem, T, R: Region<M, T>> Queue<M, T, R> {
    /// The ring in a region.
    ///
    /// # Safety
    /// The region is that of an empty ring, as [`Ends::new`] and [`empty`] say for one `start`, and nobody else uses
    /// it.
    pub unsafe fn new(region: R) -> Self {
        Queue { region, _values: PhantomData }
    }

    /// The region.
    #[cfg(any(test, feature = "testing"))]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// From a position's word to that of the same slot a lap later.
    #[inline(always)]
    fn lap(&self) -> u64 {
        NEXT << self.region.shift()
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> &M::U64 {
        self.region.word(position >> STATE_BITS)
    }

    /// Leaves the lines to whoever was faster, for a while, and looks where the end is then.
    #[cold]
    fn lost(&self, end: &End<M>) -> u64 {
        M::pause(2 * BACK);
        end.word.load(Ordering::Relaxed)
    }

    /// Somebody is in the middle of the place at `end`: stands back for as long as it has paid to. It has if afterwards
    /// the place behind it, whose word is `next` then, is done too. (Slots are looked at, because the other side's end
    /// would be taken from it.)
    #[cold]
    fn held_up(&self, end: &End<M>, next: u64) -> u64 {
        let back = end.back.load(Ordering::Relaxed);
        M::pause(back.max(1));
        let more = self.slot(next).load(Ordering::Relaxed) == next;
        let now = if more { BACK } else { back.saturating_sub(1) };
        if now != back {
            end.back.store(now, Ordering::Relaxed);
        }
        end.word.load(Ordering::Relaxed)
    }

    /// Steps before a call gives up because others were faster, again and again.
    #[inline(always)]
    fn patience(&self) -> u64 {
        (4 << self.region.shift()) + 64
    }

    /// Claims the next position, or as many as are free up to `most`; says where they begin, and how many.
    #[inline(always)]
    fn claim_free(&self, most: u64) -> Result<(u64, u64), PushError<()>> {
        let mut tail = self.region.ends().tail.word.load(Ordering::Relaxed);
        let mut looks = 0;
        for _ in 0..self.patience() {
            let word = self.slot(tail).load(M::at(Site::LocalPushLoad, Ordering::Acquire));
            if word == tail {
                let mut k = 1;
                while k < most && self.is_free(tail.wrapping_add(k * NEXT)) {
                    k += 1;
                }
                if M::broken(Bug::LocalOneTooMany) && most > 1 {
                    k += 1;
                }
                match self.region.ends().tail.word.cas(tail, tail.wrapping_add(k * NEXT), Ordering::Relaxed) {
                    Ok(_) => return Ok((tail, k)),
                    Err(found) if M::broken(Bug::LocalClaimOverClose) && found == tail | CLOSED => {
                        let next = found.wrapping_add(k * NEXT);
                        if self.region.ends().tail.word.cas(found, next, Ordering::Relaxed).is_ok() {
                            return Ok((tail, k));
                        }
                    }
                    Err(_) => tail = self.lost(&self.region.ends().tail),
                }
            } else {
                tail = self.no_room(tail, word, &mut looks)?;
            }
        }
        Err(PushError::Busy { owner: Owner::NOBODY, value: () })
    }

    #[inline(always)]
    fn is_free(&self, position: u64) -> bool {
        self.slot(position).load(M::at(Site::LocalPushLoad, Ordering::Acquire)) == position
    }

    /// The slot at `tail` held `word`, which is not free: where to look next, or why there is no room.
    #[cold]
    fn no_room(&self, tail: u64, word: u64, looks: &mut u32) -> Result<u64, PushError<()>> {
        let ends = self.region.ends();
        if tail & CLOSED != 0 {
            // The tail has not changed since, and won't: this orders us after who closed.
            ends.tail.word.load(M::at(Site::LocalCloseLoad, Ordering::Acquire));
            return Err(PushError::Closed(()));
        }
        // A slot that is a lap behind is full or held; one that is ahead shows that the tail is old.
        if (word.wrapping_sub(tail) as i64) < 0 {
            let head = ends.head.word.load(Ordering::Relaxed);
            if tail.wrapping_sub(head) == self.lap() || M::broken(Bug::LocalFullUncompared) {
                return Err(PushError::Full(()));
            }
            *looks += 1;
            if *looks > LOOKS {
                return Err(PushError::Busy { owner: Owner::NOBODY, value: () });
            }
            return Ok(self.held_up(&ends.tail, tail.wrapping_add(NEXT)));
        }
        Ok(ends.tail.word.load(Ordering::Relaxed))
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`PushError`], with the value. Busy: who takes from the next place is not done.
    #[inline]
    pub fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        let (at, _) = match self.claim_free(1) {
            Ok(claimed) => claimed,
            Err(e) => return Err(e.map(|()| value)),
        };
        if M::broken(Bug::LocalPublishFirst) {
            self.slot(at).store(at | FULL, Ordering::Release);
        }
        // SAFETY: the position is ours, and LocalPushLoad came after its last reader's LocalFree.
        unsafe { self.region.put(at >> STATE_BITS, value) };
        if !M::broken(Bug::LocalPublishFirst) {
            // Pairs with LocalPopLoad.
            self.slot(at).store(at | FULL, M::at(Site::LocalPublish, Ordering::Release));
        }
        Ok(())
    }

    /// Appends the first of `values`, as many as there is room for (at most as many as its `len` says), and says how
    /// many. They lie one behind the other, and consumers see all of them or none. The rest stays in the iterator.
    ///
    /// # Errors
    /// [`PushError`], with nothing pushed and nothing taken from the iterator.
    pub fn push_batch<I>(&self, values: &mut I) -> Result<usize, PushError<()>>
    where
        I: ExactSizeIterator<Item = T> + ?Sized,
    {
        let most = values.len().min(self.capacity()) as u64;
        if most == 0 {
            return if self.is_closed() { Err(PushError::Closed(())) } else { Ok(0) };
        }
        let (at, k) = self.claim_free(most)?;
        let mut fill = Fill { queue: self, at, k, written: 0 };
        while fill.written < k {
            let Some(value) = values.next() else { break };
            let place = at.wrapping_add(fill.written * NEXT) >> STATE_BITS;
            // SAFETY: as in `try_push`, for each of our positions.
            unsafe { self.region.put(place, value) };
            fill.written += 1;
        }
        Ok(fill.written as usize)
    }

    /// Takes the oldest value.
    ///
    /// # Errors
    /// [`PopError`]. Busy: who pushes the next value is not done.
    #[inline]
    pub fn try_pop(&self) -> Result<T, PopError> {
        let (at, _) = self.claim_full(1)?;
        let free = if M::broken(Bug::LocalSameLap) { at } else { at.wrapping_add(self.lap()) };
        if M::broken(Bug::LocalFreeFirst) {
            self.slot(at).store(free, Ordering::Release);
        }
        // SAFETY: the position is ours, LocalPopLoad came after its writer's LocalPublish, and full means a value.
        let value = unsafe { self.region.take(at >> STATE_BITS) };
        if !M::broken(Bug::LocalFreeFirst) {
            // Pairs with LocalPushLoad.
            self.slot(at).store(free, M::at(Site::LocalFree, Ordering::Release));
        }
        Ok(value)
    }

    /// Takes the oldest values, at most `most`, into a collection, and says how many. They were pushed one behind the
    /// other.
    ///
    /// # Errors
    /// [`PopError`], with nothing popped.
    pub fn pop_batch(&self, into: &mut impl Extend<T>, most: usize) -> Result<usize, PopError> {
        if most == 0 {
            return Ok(0);
        }
        let (at, k) = self.claim_full(most.min(self.capacity()) as u64)?;
        let mut run = Run { queue: self, at, k, taken: 0 };
        // By reference, so that a collection can't keep the run: its places would never come back.
        into.extend(&mut run);
        Ok(k as usize)
    }

    /// Claims the oldest full position, or as many as are full up to `most`.
    #[inline(always)]
    fn claim_full(&self, most: u64) -> Result<(u64, u64), PopError> {
        let mut head = self.region.ends().head.word.load(Ordering::Relaxed);
        let mut looks = 0;
        for _ in 0..self.patience() {
            let word = self.slot(head).load(M::at(Site::LocalPopLoad, Ordering::Acquire));
            if word == head | FULL {
                let mut k = 1;
                while k < most && self.is_full(head.wrapping_add(k * NEXT)) {
                    k += 1;
                }
                match self.region.ends().head.word.cas(head, head.wrapping_add(k * NEXT), Ordering::Relaxed) {
                    Ok(_) => return Ok((head, k)),
                    Err(_) => head = self.lost(&self.region.ends().head),
                }
            } else {
                head = self.nothing_there(head, word, &mut looks)?;
            }
        }
        Err(PopError::Busy { owner: Owner::NOBODY })
    }

    #[inline(always)]
    fn is_full(&self, position: u64) -> bool {
        self.slot(position).load(M::at(Site::LocalPopLoad, Ordering::Acquire)) == position | FULL
    }

    /// The slot at `head` held `word`, which is not full: where to look next, or why there is nothing.
    #[inline]
    fn nothing_there(&self, head: u64, word: u64, looks: &mut u32) -> Result<u64, PopError> {
        let ends = self.region.ends();
        if word == head | VOID {
            // Whoever moves the head past it gives it back.
            return Ok(match ends.head.word.cas(head, head.wrapping_add(NEXT), Ordering::Relaxed) {
                Ok(_) => {
                    let free = head.wrapping_add(self.lap());
                    self.slot(head).store(free, M::at(Site::LocalFree, Ordering::Release));
                    head.wrapping_add(NEXT)
                }
                Err(found) => found,
            });
        }
        if (word.wrapping_sub(head) as i64) <= 0 {
            let tail = ends.tail.word.load(M::at(Site::LocalCloseLoad, Ordering::Acquire));
            if tail == head || M::broken(Bug::LocalEmptyUncompared) && tail & CLOSED == 0 {
                return Err(PopError::Empty);
            }
            if tail == head | CLOSED || M::broken(Bug::LocalDrainedEarly) && tail & CLOSED != 0 {
                return Err(PopError::Drained);
            }
            *looks += 1;
            if *looks > LOOKS {
                return Err(PopError::Busy { owner: Owner::NOBODY });
            }
            return Ok(self.held_up(&ends.head, head.wrapping_add(NEXT) | FULL));
        }
        Ok(ends.head.word.load(Ordering::Relaxed))
    }

    /// Whether a push would find room now; somebody else may be faster.
    ///
    /// # Errors
    /// What a push would say.
    pub fn has_room(&self) -> Result<(), PushError<()>> {
        let mut tail = self.region.ends().tail.word.load(Ordering::Relaxed);
        let mut looks = 0;
        for _ in 0..self.patience() {
            let word = self.slot(tail).load(M::at(Site::LocalPushLoad, Ordering::Acquire));
            if word == tail {
                return Ok(());
            }
            tail = self.no_room(tail, word, &mut looks)?;
        }
        Err(PushError::Busy { owner: Owner::NOBODY, value: () })
    }

    /// Whether a pop would find a value now; somebody else may be faster.
    ///
    /// # Errors
    /// What a pop would say.
    pub fn has_value(&self) -> Result<(), PopError> {
        let mut head = self.region.ends().head.word.load(Ordering::Relaxed);
        let mut looks = 0;
        for _ in 0..self.patience() {
            let word = self.slot(head).load(M::at(Site::LocalPopLoad, Ordering::Acquire));
            if word == head | FULL {
                return Ok(());
            }
            head = self.nothing_there(head, word, &mut looks)?;
        }
        Err(PopError::Busy { owner: Owner::NOBODY })
    }

    /// Ends the ring: after this no push succeeds. What was pushed can still be popped; then pops say
    /// [`Drained`](PopError::Drained).
    pub fn close(&self) {
        // Pairs with LocalCloseLoad.
        self.region.ends().tail.word.fetch_or(CLOSED, M::at(Site::LocalClose, Ordering::Release));
    }

    /// Whether the ring was closed. Values may still be in it.
    pub fn is_closed(&self) -> bool {
        self.region.ends().tail.word.load(M::at(Site::LocalCloseLoad, Ordering::Acquire)) & CLOSED != 0
    }

    /// Values in the ring, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        let ends = self.region.ends();
        let (head, tail) = (ends.head.word.load(Ordering::Relaxed), ends.tail.word.load(Ordering::Relaxed));
        let between = tail.wrapping_sub(head) as i64 >> STATE_BITS;
        between.clamp(0, self.capacity() as i64) as usize
    }

    /// Whether nothing is in the ring, roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        1 << self.region.shift()
    }
}

/// A run of positions that a push has claimed. When dropped it publishes what was written, and makes the rest void.
struct Fill<'a, M: Mem, T, R: Region<M, T>> {
    queue: &'a Queue<M, T, R>,
    at: u64,
    k: u64,
    written: u64,
}

impl<M: Mem, T, R: Region<M, T>> Drop for Fill<'_, M, T, R> {
    fn drop(&mut self) {
        // From the last to the first: who sees one full finds those behind it full too.
        for i in (0..self.k).rev() {
            let i = if M::broken(Bug::LocalPublishForward) { self.k - 1 - i } else { i };
            let at = self.at.wrapping_add(i * NEXT);
            let state = if i < self.written || M::broken(Bug::LocalNoVoid) { FULL } else { VOID };
            // Pairs with LocalPopLoad.
            self.queue.slot(at).store(at | state, M::at(Site::LocalPublish, Ordering::Release));
        }
    }
}

/// A run of positions that a pop has claimed. When dropped it drops what was not taken, and gives the places back.
struct Run<'a, M: Mem, T, R: Region<M, T>> {
    queue: &'a Queue<M, T, R>,
    at: u64,
    k: u64,
    taken: u64,
}

impl<M: Mem, T, R: Region<M, T>> Iterator for Run<'_, M, T, R> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        if self.taken == self.k {
            return None;
        }
        let place = self.at.wrapping_add(self.taken * NEXT) >> STATE_BITS;
        self.taken += 1;
        // SAFETY: as in `try_pop`, for each of our positions; `taken` says that the value is no longer there.
        Some(unsafe { self.queue.region.take(place) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.k - self.taken) as usize;
        (left, Some(left))
    }
}

impl<M: Mem, T, R: Region<M, T>> Drop for Run<'_, M, T, R> {
    fn drop(&mut self) {
        struct Free<'a, 'b, M: Mem, T, R: Region<M, T>>(&'a mut Run<'b, M, T, R>);
        impl<M: Mem, T, R: Region<M, T>> Drop for Free<'_, '_, M, T, R> {
            fn drop(&mut self) {
                // After a value whose drop panicked there may be more.
                self.0.for_each(drop);
                let Run { queue, at, k, .. } = *self.0;
                // From the last to the first: who finds one free finds those behind it free too.
                for i in (0..k).rev() {
                    let at = at.wrapping_add(i * NEXT);
                    // Pairs with LocalPushLoad.
                    queue
                        .slot(at)
                        .store(at.wrapping_add(queue.lap()), M::at(Site::LocalFree, Ordering::Release));
                }
            }
        }
        Free(self).0.for_each(drop);
    }
}

impl<M: Mem, T, R: Region<M, T>> Drop for Queue<M, T, R> {
    fn drop(&mut self) {
        struct Rest<'a, M: Mem, T, R: Region<M, T>>(&'a Queue<M, T, R>);
        impl<M: Mem, T, R: Region<M, T>> Rest<'_, M, T, R> {
            fn drain(&self) {
                while let Ok(value) = self.0.try_pop() {
                    drop(value);
                }
            }
        }
        impl<M: Mem, T, R: Region<M, T>> Drop for Rest<'_, M, T, R> {
            fn drop(&mut self) {
                self.drain();
            }
        }
        if needs_drop::<T>() {
            // If a value's drop panics, unwinding drops the rest of them.
            Rest(self).drain();
        }
    }
}

static_assertions::const_assert_eq!(size_of::<Ends<Real>>(), 256);
