//! Many producers, many consumers: bounded, in order, and recoverable after the SIGKILL of any participant between any
//! two shared operations.
//!
//! # The slot's word is the whole truth
//!
//! Position p (u64, wrapping) lies in slot p mod n, in lap p / n. A slot is a cache line with its word and its value:
//!
//! ```text
//!  0        8                              64
//! +--------+-------------------------------+       63          22 21         2 1     0
//! |  word  |             value             |      +--------------+------------+-------+
//! +--------+-------------------------------+      |     lap      |   owner    | state |   word
//!                                                 +--------------+------------+-------+
//! ```
//!
//! | from             | to               | who                          | how   | ordering | meaning                    |
//! |------------------|------------------|------------------------------|-------|----------|----------------------------|
//! | Free(l)          | Writing(l, me)   | a producer at position (l,i) | CAS   | Relaxed  | the push takes its place   |
//! | Writing(l, me)   | Full(l)          | the same producer            | store | Release  | the push takes effect      |
//! | Full(l)          | Reading(l, me)   | a consumer at position (l,i) | CAS   | Relaxed  | the pop takes effect       |
//! | Reading(l, me)   | Free(l+1)        | the same consumer            | store | Release  | the slot is given back     |
//! | Writing(l, me)   | Free(l+1)        | the same one, if it panics   | store | Release  | given up: it was not sent  |
//! | Writing(l, dead) | Free(l+1)        | anyone                       | CAS   | Release  | skipped: it was never sent |
//! | Reading(l, dead) | Reading(l, me)   | anyone                       | CAS   | Relaxed  | taken over: an orphan      |
//! | Free(l)          | Writing(l, seal) | a consumer at position (l,i) | CAS   | Relaxed  | closed, and drained        |
//!
//! There is no other transition: Free(l+1) *is* "position (l,i) is over", however it ended. Whoever dies leaves its
//! name in the slot; a death in Free or Full leaves nothing behind. A recoverer that dies leaves its own name and is
//! recovered in its turn. Zeroed memory is an empty, open ring whose first position is 0.
//!
//! # Positions are private, the shared hints are plain stores
//!
//! A handle has its own idea of where producers (`tail`) and consumers (`head`) are. Two invariants:
//!
//! - P: every position before any handle's `tail`, and before the tail hint, has been claimed by a producer.
//! - C: every position before any handle's `head`, and before the head hint, is over or has a reader.
//!
//! A producer claims at its `tail` only, so by P claims are made in the order of positions; a consumer claims at its
//! `head` only, so by C messages are taken in that same order: FIFO. P and C speak of facts that never become false
//! again, so a hint that is *behind* is always safe, and it is never ahead. Therefore whoever has just claimed advances
//! it with a plain store; it may go back when an old store lands late, it may be left behind by a death, and nobody has
//! to help it: a handle takes the later of its own position and the hint, and from a word that is ahead of it it
//! computes how far it may jump, so that a position any number of laps behind catches up in at most 2n steps.
//!
//! # Why the CAS is safe from ABA
//!
//! Within a lap a slot visits Free, Writing, Full, Reading in that order and never goes back, and the lap grows when it
//! is freed: a word repeats only within Reading (taken over again and again), where the owner differs: a seat's epoch
//! grows whenever the seat is taken, and a dead owner never comes back, so `Reading(l, o)` occurs once for each l and
//! o. So a CAS succeeds only on the very word that was loaded, and a verdict "o is dead" reached between the load and
//! the CAS stays true. The lap wraps after 2^42 laps, the epoch after 2^10 owners of one seat: a participant that was
//! stopped between load and CAS would have to resume exactly then (39 days of 20 ns operations in a ring of 64 slots).
//! Positions wrap with the laps in rings of up to 2^22 slots; a larger one ends after 2^64 messages.
//!
//! # Orderings
//!
//! Every CAS compares with a word that an Acquire load has just returned, and a success proves that it is still the
//! word, so the CAS needs no Acquire; as a read-modify-write it continues the release sequence that it is part of.
//!
//! - MpmcPublish (Release) with MpmcPopLoad (Acquire): the value is read after it was written; also through a dead
//!   reader's claim and any number of take-overs.
//! - MpmcRelease and MpmcTakeOverFree (Release) with MpmcPushLoad (Acquire): a slot is overwritten after it was read.
//! - MpmcSkip (Release) with MpmcPushLoad: the next writer comes after whatever the dead one wrote; the dead one's
//!   writes come before MpmcSkip because of the proof of death (a kernel object released at its death, then looked at).
//! - MpmcHintStore (Release) with MpmcHintLoad (Acquire): no value depends on it. It makes "empty" and "full" exact in
//!   the happens-before sense: who was told of a push by other means finds it.
//!
//! # Closing
//!
//! `close` sets a flag, which producers look at before they claim (one load of a line that is hardly ever written). A
//! producer that looked just before may still push: such a push is beside the close, and must not be lost. So a
//! consumer that finds a closed ring empty *seals* the next position, by the CAS that a producer would claim it with.
//! One of the two succeeds. Claims are made in order, so behind the seal nobody will ever claim, and "drained" is true
//! for good; if the CAS fails, there is something to wait for. No fence and no second look is needed on the producers'
//! way, and the flag itself is Relaxed: the seal decides, not the order in which flag and slots are seen. Who was told
//! of a close by other means finds the flag, as he would any store that happened before. As long as a live reader of
//! the lap before holds the very slot, it can't be sealed, and the answer is Busy.
//!
//! # What is delivered
//!
//! One CAS takes a message out of Full, ever. A push that returned is never lost: its message is popped, or, if the
//! reader died holding it, handed as an *orphan* to exactly one survivor (to a further one only if that one dies before
//! it has given the slot back). The survivor decides: dropping it makes delivery at most once, processing it at least
//! once, since the dead reader may or may not have acted on it. A push that died before it published was never sent.
//!
//! # Progress
//!
//! Nothing waits for a clock and nothing waits for the dead. A live participant that is stopped in Writing blocks
//! consumers at its position, one in Reading blocks producers a lap later (that is what order and boundedness mean);
//! the caller is told whom it waits for ([`PopError::Busy`]).
//!
//! # Safety
//! A slot's cell is touched by whoever has its name in the word, and by nobody else; each access says which transition
//! gives it that right. Any bytes are a value, so a word that lies makes values wrong, no more.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::{CapacityError, PopError, PushError, check};
use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Real, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;

/// What a slot is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing: the next producer may claim it.
    Free = 0,
    /// A producer is writing.
    Writing = 1,
    /// A message waits.
    Full = 2,
    /// A consumer is reading.
    Reading = 3,
}

/// Bits of a lap.
pub const LAP_BITS: u32 = 64 - LAP_SHIFT;
const LAP_SHIFT: u32 = STATE_BITS + Owner::BITS;
const STATE_BITS: u32 = 2;

/// A slot's word; see the top.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

impl Word {
    /// Packs a word.
    pub const fn new(lap: u64, state: State, owner: Owner) -> Word {
        Word(lap << LAP_SHIFT | (owner.bits() as u64) << STATE_BITS | state as u64)
    }

    /// In which lap.
    pub const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// In which state.
    pub const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Free,
            1 => State::Writing,
            2 => State::Full,
            _ => State::Reading,
        }
    }

    /// Who is in the middle of it.
    pub const fn owner(self) -> Owner {
        Owner::from_bits((self.0 >> STATE_BITS) as u32)
    }

    const fn is_seal(self) -> bool {
        matches!(self.state(), State::Writing) && self.owner().bits() == Owner::SEAL.bits()
    }

    /// How many laps this word is ahead of `lap`, across the wrap.
    const fn ahead_of(self, lap: u64) -> i64 {
        (self.lap().wrapping_sub(lap) << LAP_SHIFT) as i64 >> LAP_SHIFT
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(lap {:#x}, {})", self.state(), self.lap(), self.owner())
    }
}

/// A slot has a cache line of its own: the claim is a read-modify-write on it, and a neighbour's would be felt.
#[repr(C, align(64))]
pub struct Slot<M: Mem, T: Copy> {
    word: M::U64,
    cell: M::Cell<T>,
}

impl<M: Mem, T: Copy> Slot<M, T> {
    /// Slot `i` of an empty ring of 2^`shift` slots whose first position is `start`.
    pub fn new(i: u64, shift: u32, start: u64, value: T) -> Self {
        let mask = (1u64 << shift) - 1;
        let first = start.wrapping_add(i.wrapping_sub(start) & mask);
        let word = Word::new(first >> shift, State::Free, Owner::NOBODY);
        Slot { word: M::U64::new(word.0), cell: M::Cell::new(value) }
    }

    /// Its word, as it is now.
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }
}

impl<M: Mem, T: Copy> fmt::Debug for Slot<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.word()).finish()
    }
}

/// The words beside the slots, each on a line of its own.
#[repr(C)]
pub struct Hints<M: Mem> {
    tail: CachePadded<M::U64>,
    head: CachePadded<M::U64>,
    /// Not 0 once the ring is closed. Hardly ever written.
    closed: CachePadded<M::U32>,
}

impl<M: Mem> Hints<M> {
    /// The words of an empty, open ring whose first position is `start`.
    pub fn new(start: u64) -> Self {
        let word = || CachePadded::new(M::U64::new(start));
        Hints { tail: word(), head: word(), closed: CachePadded::new(M::U32::new(0)) }
    }

    /// Overwrites both hints, with positions that are not ahead of the truth: as late stores of others would.
    #[cfg(any(test, feature = "testing"))]
    pub fn set(&self, tail: u64, head: u64) {
        self.tail.store(tail, Ordering::Release);
        self.head.store(head, Ordering::Release);
    }

    /// Whether the ring was closed.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) != 0
    }
}

impl<M: Mem> fmt::Debug for Hints<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, head) = (self.tail.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed));
        let closed = self.closed.load(Ordering::Relaxed) != 0;
        f.debug_struct("Hints").field("tail", &tail).field("head", &head).field("closed", &closed).finish()
    }
}

/// The logarithm of a capacity.
///
/// # Errors
/// [`CapacityError`], unless it is a power of two that a ring of such values can have.
pub fn shift_of<T: Shareable>(capacity: usize) -> Result<u32, CapacityError> {
    Ok(check(capacity, size_of::<Slot<Real, T>>())?.trailing_zeros())
}

/// Lends the memory of a ring.
///
/// # Safety
/// Every clone lends the same words and slots for as long as it lives; slots whose numbers differ modulo 2^`shift` are
/// different slots; any number is masked; `shift`, from private memory, stays the same.
pub unsafe trait Region<M: Mem, T: Copy>: Clone {
    /// The words beside the slots.
    fn hints(&self) -> &Hints<M>;
    /// A slot.
    fn slot(&self, i: u64) -> &Slot<M, T>;
    /// The logarithm of the number of slots.
    fn shift(&self) -> u32;
}

/// What a participant knows of the others, and does with what the dead leave.
pub trait Peers<T> {
    /// False only for an owner that is proven to be dead, as was promised to [`attach`](Handle::attach). Asked only
    /// where a call is blocked.
    fn alive(&mut self, owner: Owner) -> bool;

    /// A message whose reader died holding it. Called before its slot is given back. `at` is its position modulo
    /// 2^(42 + the logarithm of the capacity).
    fn orphan(&mut self, at: u64, reader: Owner, message: T);

    /// A position (as for [`orphan`](Self::orphan)) whose writer died before it published: it was never sent.
    fn skipped(&mut self, _at: u64, _writer: Owner) {}
}

/// Threads of one process, which do not die alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Immortal;

impl<T> Peers<T> for Immortal {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }

    fn orphan(&mut self, _: u64, _: Owner, _: T) {}
}

/// One participant.
pub struct Handle<M: Mem, T: Copy, R: Region<M, T>> {
    region: R,
    me: Owner,
    shift: u32,
    tail: u64,
    head: u64,
    _values: PhantomData<fn(T) -> M>,
}

impl<M: Mem, T: Copy, R: Region<M, T>> fmt::Debug for Handle<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tail, head) = (self.tail, self.head);
        f.debug_struct("Handle").field("me", &self.me).field("tail", &tail).field("head", &head).finish()
    }
}

const fn later(a: u64, b: u64) -> u64 {
    if (b.wrapping_sub(a) as i64) > 0 { b } else { a }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> Handle<M, T, R> {
    /// Takes part in the ring as `me`.
    ///
    /// # Safety
    /// No two handles that are used at the same time have one name, and a name whose holder died is used again only
    /// after [`recover`](Self::recover).
    ///
    /// Nobody who may still act is called dead, neither by [`recover`](Self::recover) nor by what a [`Peers`] answers
    /// to [`alive`](Peers::alive): whoever has that name acts no more, in any process, and its last accesses come
    /// before the answer. Else two read or write one cell.
    pub unsafe fn attach(region: R, me: Owner) -> Self {
        let hints = region.hints();
        let tail = hints.tail.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
        let head = hints.head.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
        let shift = region.shift();
        Handle { region, me, shift, tail, head, _values: PhantomData }
    }

    /// What this handle knows: before which position all are claimed by producers, and before which all are taken.
    #[cfg(any(test, feature = "testing"))]
    pub fn positions(&self) -> (u64, u64) {
        (self.tail, self.head)
    }

    /// A handle that knows what one of this name knew.
    ///
    /// # Safety
    /// As for [`attach`](Self::attach); the other one is used no more, and these are its
    /// [`positions`](Self::positions).
    #[cfg(any(test, feature = "testing"))]
    pub unsafe fn resume(region: R, me: Owner, tail: u64, head: u64) -> Self {
        let shift = region.shift();
        Handle { region, me, shift, tail, head, _values: PhantomData }
    }

    /// Under which name.
    pub fn me(&self) -> Owner {
        self.me
    }

    /// The memory.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// How many messages fit.
    pub fn capacity(&self) -> usize {
        1 << self.shift
    }

    /// Messages in the ring, roughly: others may be in the middle of something.
    pub fn len(&self) -> usize {
        let hints = self.region.hints();
        let (head, tail) = (hints.head.load(Ordering::Relaxed), hints.tail.load(Ordering::Relaxed));
        let between = later(self.tail, tail).wrapping_sub(later(self.head, head));
        if between.cast_signed() < 0 { 0 } else { between.min(1 << self.shift) as usize }
    }

    /// Whether nothing is in the ring, roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says that nothing more may be sent. Pushes that are on their way beside it may still take effect.
    pub fn close(&self) {
        self.region.hints().closed.store(1, Ordering::Relaxed);
    }

    /// Whether the ring was closed. Messages may still be in it.
    #[inline(always)]
    pub fn is_closed(&self) -> bool {
        self.region.hints().closed.load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    fn lap(&self, position: u64) -> u64 {
        (position >> self.shift) & (u64::MAX >> LAP_SHIFT)
    }

    /// Steps before a call gives up under contention; whatever a bad peer writes, a call ends here at the latest.
    #[inline(always)]
    fn patience(&self) -> u64 {
        (4 << self.shift) + 64
    }

    /// The first position after `p` that no fact excludes for a producer, given `w` in p's slot, `d` laps ahead. The
    /// slot's last claim was in lap `d` (in `d - 1` if it is Free), and claims are made in order.
    #[inline(always)]
    fn past_producers(&self, p: u64, w: Word, d: u64) -> u64 {
        let claimed = if w.state() == State::Free { d - 1 } else { d };
        let claimed = if M::broken(Bug::MpmcJumpTooFar) { claimed + 1 } else { claimed };
        p.wrapping_add(claimed << self.shift).wrapping_add(1)
    }

    /// The same for a consumer: a claim in lap `d` needed everything one lap before it to be over.
    #[inline(always)]
    fn past_consumers(&self, p: u64, w: Word, d: u64) -> u64 {
        let claimed = if w.state() == State::Free { d - 1 } else { d };
        let over = if M::broken(Bug::MpmcPopJumpTooFar) { claimed } else { claimed.saturating_sub(1) };
        p.wrapping_add(over << self.shift).wrapping_add(1)
    }

    /// Appends a message and says at which position.
    ///
    /// # Errors
    /// [`PushError`], with the message.
    #[inline]
    pub fn try_push(&mut self, value: T, peers: &mut impl Peers<T>) -> Result<u64, PushError<T>> {
        self.try_push_with(|_| value, peers).map_err(|e| e.map(|()| value))
    }

    /// Appends what `make` makes of the position that was claimed for it. If `make` panics, the position is over.
    ///
    /// # Errors
    /// [`PushError`]; then `make` was not called.
    #[inline]
    pub fn try_push_with(
        &mut self,
        make: impl FnOnce(u64) -> T,
        peers: &mut impl Peers<T>,
    ) -> Result<u64, PushError<()>> {
        if self.is_closed() {
            return Err(PushError::Closed(()));
        }
        for _ in 0..self.patience() {
            if let Some((t, w)) = self.look_for_room(peers)?
                && self.claim_to_write(t, w)
            {
                self.write(t, make);
                return Ok(t);
            }
        }
        Err(PushError::Busy { owner: Owner::NOBODY, value: () })
    }

    /// Whether a push would find room now; somebody else may be faster. What belongs to the dead is buried on the way,
    /// as by a push.
    ///
    /// # Errors
    /// What a push would say.
    pub fn has_room(&mut self, peers: &mut impl Peers<T>) -> Result<(), PushError<()>> {
        if self.is_closed() {
            return Err(PushError::Closed(()));
        }
        for _ in 0..self.patience() {
            if self.look_for_room(peers)?.is_some() {
                return Ok(());
            }
        }
        Err(PushError::Busy { owner: Owner::NOBODY, value: () })
    }

    /// One look at the slot where we think producers are: free, with its word; `None`: they are further on.
    #[inline(always)]
    fn look_for_room(&mut self, peers: &mut impl Peers<T>) -> Result<Option<(u64, Word)>, PushError<()>> {
        let t = self.tail;
        let lap = self.lap(t);
        let w = Word(self.region.slot(t).word.load(M::at(Site::MpmcPushLoad, Ordering::Acquire)));
        let d = w.ahead_of(lap);
        if d == 0 && w.state() == State::Free {
            return Ok(Some((t, w)));
        } else if w.is_seal() && !M::broken(Bug::MpmcPassSeal) {
            return Err(PushError::Closed(()));
        } else if d >= 0 {
            let hint = self.region.hints().tail.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
            self.tail = later(self.past_producers(t, w, d.cast_unsigned()), hint);
        } else {
            self.producer_is_behind(t, w, d, peers)?;
        }
        Ok(None)
    }

    #[inline(always)]
    fn claim_to_write(&mut self, t: u64, w: Word) -> bool {
        let tail = &self.region.hints().tail;
        if M::broken(Bug::MpmcHintFirst) {
            tail.store(t.wrapping_add(1), Ordering::Release);
        }
        let mine = Word::new(w.lap(), State::Writing, self.me);
        let claimed = self.region.slot(t).word.cas(w.0, mine.0, Ordering::Relaxed).is_ok();
        if claimed {
            // Pairs with MpmcHintLoad.
            tail.store(t.wrapping_add(1), M::at(Site::MpmcHintStore, Ordering::Release));
            self.tail = t.wrapping_add(1);
        }
        claimed
    }

    #[inline(always)]
    fn write(&self, t: u64, make: impl FnOnce(u64) -> T) {
        let (slot, lap) = (self.region.slot(t), self.lap(t));
        let full = Word::new(lap, State::Full, Owner::NOBODY).0;
        // A panic in `make` must not leave a live owner's name in the slot.
        let over = GiveBack::<M> { word: &slot.word, to: self.freed(lap), at: Site::MpmcSkip };
        let value = make(t);
        core::mem::forget(over);
        if M::broken(Bug::MpmcPublishFirst) {
            slot.word.store(full, Ordering::Release);
        }
        // SAFETY: Writing(me) is ours alone, and MpmcPushLoad came after the last reader's release.
        slot.cell.with_mut(|p| unsafe { p.write(value) });
        if !M::broken(Bug::MpmcPublishFirst) {
            // Pairs with MpmcPopLoad.
            slot.word.store(full, M::at(Site::MpmcPublish, Ordering::Release));
        }
    }

    /// The position one lap before is not over: full, unless it belongs to the dead.
    #[cold]
    fn producer_is_behind(
        &mut self,
        t: u64,
        w: Word,
        d: i64,
        peers: &mut impl Peers<T>,
    ) -> Result<(), PushError<()>> {
        if d == -1 && matches!(w.state(), State::Writing | State::Reading) {
            if self.is_alive(w.owner(), peers) {
                return Err(PushError::Busy { owner: w.owner(), value: () });
            }
            self.bury(t.wrapping_sub(1 << self.shift), w, peers);
            return Ok(());
        }
        // Also the way back for a handle that slept for more than half of all laps.
        let hint = self.region.hints().tail.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
        if later(t, hint) == t {
            return Err(PushError::Full(()));
        }
        self.tail = hint;
        Ok(())
    }

    /// Takes the oldest message, and says from which position.
    ///
    /// # Errors
    /// [`PopError`].
    #[inline]
    pub fn try_pop(&mut self, peers: &mut impl Peers<T>) -> Result<(u64, T), PopError> {
        self.try_pop_with(|at, value| (at, value), peers)
    }

    /// Takes the oldest message and calls `take` with it before its slot is given back: if this process dies in `take`,
    /// the message becomes an orphan. If `take` panics, the message is gone.
    ///
    /// # Errors
    /// [`PopError`]; then `take` was not called.
    #[inline]
    pub fn try_pop_with<V>(
        &mut self,
        take: impl FnOnce(u64, T) -> V,
        peers: &mut impl Peers<T>,
    ) -> Result<V, PopError> {
        for _ in 0..self.patience() {
            if let Some((h, w)) = self.look_for_message(peers)?
                && self.claim_to_read(h, w)
            {
                return Ok(self.read(h, take));
            }
        }
        Err(PopError::Busy { owner: Owner::NOBODY })
    }

    /// Whether a pop would find a message now; somebody else may be faster. What belongs to the dead is buried on the
    /// way, and a closed ring sealed, as by a pop.
    ///
    /// # Errors
    /// What a pop would say.
    pub fn has_message(&mut self, peers: &mut impl Peers<T>) -> Result<(), PopError> {
        for _ in 0..self.patience() {
            if self.look_for_message(peers)?.is_some() {
                return Ok(());
            }
        }
        Err(PopError::Busy { owner: Owner::NOBODY })
    }

    /// One look at the slot where we think consumers are: full, with its word; `None`: they are further on.
    #[inline(always)]
    fn look_for_message(&mut self, peers: &mut impl Peers<T>) -> Result<Option<(u64, Word)>, PopError> {
        let h = self.head;
        let lap = self.lap(h);
        let w = Word(self.region.slot(h).word.load(M::at(Site::MpmcPopLoad, Ordering::Acquire)));
        let d = w.ahead_of(lap);
        match w.state() {
            State::Full if d == 0 => return Ok(Some((h, w))),
            State::Writing if d == 0 => self.writer_is_at_it(h, w, peers)?,
            s if d > 0 || d == 0 && s == State::Reading => {
                let hint = self.region.hints().head.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
                self.head = later(self.past_consumers(h, w, d.cast_unsigned()), hint);
            }
            // Free(lap), or still Reading(lap - 1): no producer has been here.
            _ => self.nothing_there(h, w, d, peers)?,
        }
        Ok(None)
    }

    #[inline(always)]
    fn claim_to_read(&mut self, h: u64, w: Word) -> bool {
        let mine = Word::new(w.lap(), State::Reading, self.me);
        let claimed = self.region.slot(h).word.cas(w.0, mine.0, Ordering::Relaxed).is_ok();
        if claimed {
            let head = &self.region.hints().head;
            // Pairs with MpmcHintLoad.
            head.store(h.wrapping_add(1), M::at(Site::MpmcHintStore, Ordering::Release));
            self.head = h.wrapping_add(1);
        }
        claimed
    }

    #[inline(always)]
    fn read<V>(&self, h: u64, take: impl FnOnce(u64, T) -> V) -> V {
        let slot = self.region.slot(h);
        // Pairs with MpmcPushLoad, also if `take` panics.
        let _free = GiveBack::<M> { word: &slot.word, to: self.freed(self.lap(h)), at: Site::MpmcRelease };
        // SAFETY: Reading(me) keeps writers out, and MpmcPopLoad came after the writer's publish. Any bytes are a T.
        take(h, slot.cell.with(|p| unsafe { p.read() }))
    }

    #[cold]
    fn writer_is_at_it(&mut self, h: u64, w: Word, peers: &mut impl Peers<T>) -> Result<(), PopError> {
        if w.is_seal() {
            if !M::broken(Bug::MpmcForgetReaders) {
                self.recover_readers(peers);
            }
            return Err(PopError::Drained);
        }
        if self.is_alive(w.owner(), peers) {
            if M::broken(Bug::MpmcStepOver) {
                self.head = h.wrapping_add(1);
                return Ok(());
            }
            return Err(PopError::Busy { owner: w.owner() });
        }
        self.bury(h, w, peers);
        Ok(())
    }

    /// No producer has claimed `h`: is there something further on, or is this the end?
    #[inline]
    fn nothing_there(&mut self, h: u64, w: Word, d: i64, peers: &mut impl Peers<T>) -> Result<(), PopError> {
        let closed = self.is_closed();
        let hint = self.region.hints().head.load(M::at(Site::MpmcHintLoad, Ordering::Acquire));
        if later(h, hint) != h {
            self.head = hint;
            return Ok(());
        }
        if closed { self.seal(h, w, d, peers) } else { Err(PopError::Empty) }
    }

    /// The ring is closed and `h` unclaimed when `w` was loaded: sees to it that nobody ever claims it.
    #[cold]
    fn seal(&mut self, h: u64, w: Word, d: i64, peers: &mut impl Peers<T>) -> Result<(), PopError> {
        if d == 0 && w.state() == State::Free {
            let seal = Word::new(w.lap(), State::Writing, Owner::SEAL);
            if M::broken(Bug::MpmcNoSeal) {
                return Err(PopError::Drained);
            }
            // Relaxed, as a claim; if it fails, a producer or another sealer was faster: look again.
            let _ = self.region.slot(h).word.cas(w.0, seal.0, Ordering::Relaxed);
            return Ok(());
        }
        // The slot is still being read, a lap behind.
        if d == -1 && w.state() == State::Reading && !self.is_alive(w.owner(), peers) {
            self.bury(h.wrapping_sub(1 << self.shift), w, peers);
            return Ok(());
        }
        Err(PopError::Busy { owner: w.owner() })
    }

    /// Takes over what the dead were reading, by a look at every slot: orphans that no producer may come round to.
    /// Done by itself before the last word is spoken; whoever waits for a message does it after a death.
    #[cold]
    pub fn recover_readers(&self, peers: &mut impl Peers<T>) {
        for i in 0..1u64 << self.shift {
            let w = Word(self.region.slot(i).word.load(M::at(Site::MpmcPopLoad, Ordering::Acquire)));
            if w.state() == State::Reading && w.owner() != self.me && !self.is_alive(w.owner(), peers) {
                self.bury(w.lap() << self.shift | i, w, peers);
            }
        }
    }

    /// Clears everything that `dead` left in the ring: its orphans come out now instead of a lap later. Needed before
    /// its name may be used again. That it is dead has been promised to [`attach`](Self::attach).
    pub fn recover(&mut self, dead: Owner, peers: &mut impl Peers<T>) {
        for i in 0..1u64 << self.shift {
            let w = Word(self.region.slot(i).word.load(M::at(Site::MpmcPopLoad, Ordering::Acquire)));
            let held = matches!(w.state(), State::Writing | State::Reading) && !w.is_seal();
            if held && w.owner() == dead {
                self.bury(w.lap() << self.shift | i, w, peers);
            }
        }
    }

    #[inline(always)]
    fn freed(&self, lap: u64) -> u64 {
        let next = if M::broken(Bug::MpmcSameLap) { lap } else { lap.wrapping_add(1) };
        Word::new(next, State::Free, Owner::NOBODY).0
    }

    #[inline(always)]
    fn is_alive(&self, owner: Owner, peers: &mut impl Peers<T>) -> bool {
        if M::broken(Bug::MpmcAssumeDead) {
            return false;
        }
        M::broken(Bug::MpmcAssumeAlive) || peers.alive(owner)
    }

    /// Ends position `at`, whose word `w` names a dead owner. Losing the race is fine: the caller looks again.
    #[cold]
    fn bury(&self, at: u64, w: Word, peers: &mut impl Peers<T>) {
        let slot = self.region.slot(at);
        let free = self.freed(w.lap());
        if w.state() == State::Writing {
            // Pairs with MpmcPushLoad.
            if slot.word.cas(w.0, free, M::at(Site::MpmcSkip, Ordering::Release)).is_ok() {
                peers.skipped(at, w.owner());
            }
            return;
        }
        let name = if M::broken(Bug::MpmcTakeOverUnderOldName) { w.owner() } else { self.me };
        let mine = Word::new(w.lap(), State::Reading, name);
        if M::broken(Bug::MpmcNoTakeOver) || slot.word.cas(w.0, mine.0, Ordering::Relaxed).is_ok() {
            if M::broken(Bug::MpmcFreeThenRead) {
                slot.word.store(free, Ordering::Release);
            }
            // SAFETY: as in `read`: the name is ours now, and the release sequence from MpmcPublish runs through the
            // dead reader's claim.
            let value = slot.cell.with(|p| unsafe { p.read() });
            let over = GiveBack::<M> { word: &slot.word, to: free, at: Site::MpmcTakeOverFree };
            peers.orphan(at, w.owner(), value);
            if M::broken(Bug::MpmcFreeThenRead) {
                core::mem::forget(over);
            }
        }
    }
}

/// Gives a slot back when it is dropped, also by a panic.
struct GiveBack<'a, M: Mem> {
    word: &'a M::U64,
    to: u64,
    at: Site,
}

impl<M: Mem> Drop for GiveBack<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        self.word.store(self.to, M::at(self.at, Ordering::Release));
    }
}

static_assertions::const_assert_eq!(size_of::<Hints<Real>>(), 384);
static_assertions::const_assert_eq!(size_of::<Slot<Real, [u64; 7]>>(), 64);
static_assertions::const_assert_eq!(core::mem::offset_of!(Slot<Real, [u64; 7]>, cell), 8);
static_assertions::const_assert_eq!(core::mem::offset_of!(Hints<Real>, closed), 256);
