//! A lock that outlives its owners: whoever dies with it, a survivor takes it from the dead, once, and is told.
//!
//! # One word is the whole truth
//!
//! {owner, waited, culprit}: [`Word`] has the picture. Zeroed memory is a lock that is free.
//!
//! | from               | to                       | who                              | how      | ordering | meaning                                  |
//! |--------------------|--------------------------|----------------------------------|----------|----------|------------------------------------------|
//! | free, any culprit  | owned by me, the same    | who wants it                     | CAS      | AcqRel   | taken; a culprit is news for the taker   |
//! | any                | the same, waited         | who is about to sleep for it     | or       | Relaxed  | whoever gives it back must ring          |
//! | owned by me        | free, the same culprit   | the owner                        | CAS      | Release  | given back                               |
//! | owned by me        | free, no culprit         | the owner, who has seen to it    | CAS      | Release  | what it guards is whole again            |
//! | owned by me        | free, culprit: me        | the owner, panicking             | CAS      | Release  | given back, and nobody answers for it    |
//! | owned by the dead  | owned by me, culprit: it | who waits, and has proof         | CAS      | AcqRel   | inherited                                |
//! | owned by the dead  | free, culprit: it        | a newcomer to the dead one's seat| CAS      | Release  | recovered                                |
//!
//! There is no other transition. *Waited* goes only when the lock becomes free, and then the bell rings behind it. So a
//! lock that nobody waits for costs a CAS to take and a CAS to give back, and no look at the bell.
//!
//! **No wake is lost.** A waiter announces its sleep at the bell, which fences, and looks once more: it leaves the word
//! *waited*, or has the lock. It sleeps only beside a word that was owned and waited when it looked. That word becomes
//! free through somebody who finds *waited* in it, and so rings after that. The bell's own argument
//! ([`crate::doorbell`]) does the rest: the announcement is seen by the ring, or what was published before the ring is
//! seen by the look. All sleepers are woken, and all but one say *waited* again: that is the price of a bell whose
//! announcement one ring clears, and it spares whoever takes the lock to hand the duty on.
//!
//! # Why the CAS is safe from ABA
//!
//! A word repeats, but what a CAS concludes from it is true whenever the word is: a free lock is free; my own name is
//! in it by my own doing; the name of the dead is in it for good until somebody takes it out, because an owner that is
//! dead never comes back ([`Owner`]). So a verdict "dead" stays true however long ago it was reached.
//!
//! # Orderings
//!
//! - LockFree (Release) with LockTake (Acquire): what the lock guards is read as its last owner left it.
//! - LockRecover (Release) with LockTake: so is what the dead left, which the newcomer knows by the proof of death; who
//!   inherits knows it by its own. Relaxed it would continue the release sequence of the dead one's *taking*, which is
//!   older than what the dead wrote.
//! - LockTake (Release) with LockLook (Acquire): who finds a name finds what its holder wrote on its desk before it
//!   took the lock: from which thread. And (Release of an inheritance, Acquire of a newcomer's look) the heir has read
//!   the dead one's process number before the newcomer writes its own there.
//!
//! # What a death leaves
//!
//! | who dies                                     | what is left                  | what the others do                                   |
//! |----------------------------------------------|-------------------------------|------------------------------------------------------|
//! | a waiter, anywhere                           | waited, and nobody waits      | the next owner rings once in vain                    |
//! | the owner, from its CAS to the one that frees| its name                      | who waits proves it and inherits; a newcomer frees it|
//! | the owner, after it has freed, before it rings| a free lock beside sleepers  | a slice of sleep ends (50 ms), whoever comes takes it; a newcomer to the seat rings anyway |
//! | an heir, anywhere before it frees            | its name                      | the same again: the culprit is then the heir         |
//! | an heir that had not looked at the news yet  | its name, and the old culprit | the same: nobody has answered for it                 |
//! | a newcomer, recovering, before its CAS       | the dead one's name           | who waits inherits; the next newcomer frees it       |
//! | a newcomer, recovering, before it rings      | a free lock beside sleepers   | as for the owner; the next newcomer rings anyway     |
//!
//! What the lock guards is as the dead left it, torn perhaps. That is said to everyone who takes it until one of them
//! says that it is whole again. A lock is not fair: who comes by when it is free has it.

mod word;

use core::fmt;
use core::marker::PhantomData;

pub use word::{Cause, Culprit, Word};

use crate::doorbell::Doorbell;
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;

/// What the holder of a seat says of itself, for messages and for itself. Zeroed memory is an empty one.
#[repr(C)]
pub struct Desk<M: Mem> {
    /// The thread that used the handle last: a number that no other living thread of its process has.
    thread: M::U64,
    /// Its process, as it sees itself.
    pid: M::U32,
    /// Whether somebody sits here, where no segment says so: for whoever keeps the seats.
    pub taken: M::U32,
}

impl<M: Mem> Default for Desk<M> {
    fn default() -> Self {
        Desk { thread: M::U64::new(0), pid: M::U32::new(0), taken: M::U32::new(0) }
    }
}

impl<M: Mem> fmt::Debug for Desk<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (thread, pid) = (self.thread.load(Ordering::Relaxed), self.pid.load(Ordering::Relaxed));
        f.debug_struct("Desk").field("thread", &thread).field("pid", &pid).finish()
    }
}

/// Lends the words of a lock.
pub trait Region<M: Mem> {
    /// The lock's word.
    fn word(&self) -> &M::U64;
    /// Where those sleep that wait for it.
    fn bell(&self) -> &Doorbell<M>;
    /// The desk of a seat; `None` for a seat that there is not.
    fn desk(&self, seat: u32) -> Option<&Desk<M>>;
}

/// The right to what the lock guards: to be given [`back`](Lock::free).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lock that is not given back stays taken until its holder ends"]
pub struct Held {
    /// The word as we have written it.
    word: Word,
}

impl Held {
    /// Who left what the lock guards in a state that nobody has answered for since.
    pub fn culprit(&self) -> Option<Culprit> {
        self.word.culprit()
    }
}

/// In what state what the lock guards is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it was taken: who took it from a culprit has not answered for it.
    Same,
    /// Whole.
    Whole,
    /// Spoilt, by us.
    Spoilt(Cause),
}

/// The word does not say that we have the lock: we were taken for dead, or a bad peer has overwritten it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHeld {
    /// What it says instead.
    pub found: Word,
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lock is not held by this handle: its word says {:?}", self.found)
    }
}

impl core::error::Error for NotHeld {}

/// How often a call looks anew because others were faster.
const TURNS: usize = 8;

/// One participant's handle.
pub struct Lock<M: Mem, R: Region<M>> {
    region: R,
    me: Owner,
    pid: u32,
    _family: PhantomData<fn() -> M>,
}

impl<M: Mem, R: Region<M>> fmt::Debug for Lock<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("me", &self.me).field("word", &self.word()).finish_non_exhaustive()
    }
}

impl<M: Mem, R: Region<M>> Lock<M, R> {
    /// The handle of `me`, in process `pid`. A name has one handle; whoever had its seat before is
    /// [recovered](Self::recover) first.
    pub fn attach(region: R, me: Owner, pid: u32) -> Self {
        if let Some(desk) = region.desk(me.seat()) {
            desk.pid.store(pid, Ordering::Relaxed);
        }
        Lock { region, me, pid, _family: PhantomData }
    }

    /// Whose handle this is.
    pub fn me(&self) -> Owner {
        self.me
    }

    /// The words.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// What the word says now.
    pub fn word(&self) -> Word {
        // Pairs with `take`: who finds a name finds its desk.
        Word(self.region.word().load(M::at(Site::LockLook, Ordering::Acquire)))
    }

    /// Says that calls are made from `thread`, a number that no other living thread of this process has, from now on.
    pub fn note(&self, thread: u64) {
        if let Some(desk) = self.region.desk(self.me.seat()) {
            desk.thread.store(thread, Ordering::Relaxed);
        }
    }

    /// Whether the lock is held by a handle that `thread` of this process used last.
    pub fn is_held_by_thread(&self, thread: u64) -> bool {
        let owner = self.word().owner();
        self.region.desk(owner.seat()).is_some_and(|desk| {
            desk.pid.load(Ordering::Relaxed) == self.pid && desk.thread.load(Ordering::Relaxed) == thread
        })
    }

    /// The process number of whoever sits, or sat last, in a seat; 0 if nobody did.
    pub fn pid(&self, seat: u32) -> u32 {
        self.region.desk(seat).map_or(0, |desk| desk.pid.load(Ordering::Relaxed))
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// Who has it.
    #[inline]
    pub fn try_take(&self) -> Result<Held, Owner> {
        match self.take(Word::FREE) {
            Ok(held) => Ok(held),
            Err(found) => self.try_again(found),
        }
    }

    #[cold]
    fn try_again(&self, mut found: Word) -> Result<Held, Owner> {
        for _ in 0..TURNS {
            if found.owner() != Owner::NOBODY {
                break;
            }
            match self.take(found) {
                Ok(held) => return Ok(held),
                Err(other) => found = other,
            }
        }
        Err(found.owner())
    }

    /// The same for one that is about to sleep at the bell, or does so already: whoever has the lock learns of it.
    ///
    /// # Errors
    /// Who has it; nobody, if others were faster, again and again: then a sleep may last a slice although it is free.
    pub fn poll(&self) -> Result<Held, Owner> {
        for _ in 0..TURNS {
            let mut found = Word(self.region.word().load(Ordering::Relaxed));
            if found.owner() != Owner::NOBODY && !found.waited() && !M::broken(Bug::LockSilentWaiter) {
                found = Word(self.region.word().fetch_or(Word::WAITED, Ordering::Relaxed)).and_waited();
            }
            if found.owner() != Owner::NOBODY {
                return Err(found.owner());
            }
            if let Ok(held) = self.take(found) {
                return Ok(held);
            }
        }
        Err(Owner::NOBODY)
    }

    #[inline(always)]
    fn take(&self, free: Word) -> Result<Held, Word> {
        let waited = free.waited() && !M::broken(Bug::LockForgetsWaiters);
        let mine = Word::new(self.me, waited, free.culprit());
        // Pairs with `free` and `recover`, and with `word`.
        let order = M::at(Site::LockTake, Ordering::AcqRel);
        self.region.word().cas(free.0, mine.0, order).map(|_| Held { word: mine }).map_err(Word)
    }

    /// Takes the lock from `dead`, of whose death the caller has proof. `None`: it has not got it any more.
    #[cold]
    pub fn inherit(&self, dead: Owner) -> Option<Held> {
        for _ in 0..TURNS {
            let found = self.word();
            if found.owner() != dead || dead == Owner::NOBODY {
                return None;
            }
            let culprit =
                if M::broken(Bug::LockForgetsDeath) { found.culprit() } else { Some(self.culprit(dead)) };
            let mine = Word::new(self.me, found.waited(), culprit);
            if M::broken(Bug::LockInheritByStore) {
                self.region.word().store(mine.0, Ordering::Release);
                return Some(Held { word: mine });
            }
            let order = M::at(Site::LockTake, Ordering::AcqRel);
            if self.region.word().cas(found.0, mine.0, order).is_ok() {
                return Some(Held { word: mine });
            }
        }
        None
    }

    fn culprit(&self, dead: Owner) -> Culprit {
        // A broken word may name a seat that no word can: it is told as the first that no segment has.
        Culprit { seat: dead.seat().min(Owner::SEATS), pid: self.pid(dead.seat()), cause: Cause::Died }
    }

    /// Gives the lock back, and wakes whoever waits for it.
    ///
    /// # Errors
    /// [`NotHeld`]; then nothing was changed.
    #[inline]
    pub fn free(&self, held: Held, state: State) -> Result<(), NotHeld> {
        let culprit = match state {
            State::Same => held.culprit(),
            State::Whole => None,
            State::Spoilt(cause) => Some(Culprit { seat: self.me.seat(), pid: self.pid, cause }),
        };
        let (mut found, free) = (held.word, Word::new(Owner::NOBODY, false, culprit));
        if M::broken(Bug::LockFreeByStore) {
            self.region.word().store(free.0, M::at(Site::LockFree, Ordering::Release));
            return Ok(());
        }
        for _ in 0..TURNS {
            if found.waited() && M::broken(Bug::LockRingFirst) {
                self.region.bell().ring();
            }
            // Pairs with `take`.
            match self.region.word().cas(found.0, free.0, M::at(Site::LockFree, Ordering::Release)) {
                Ok(_) => {
                    if found.waited() && !M::broken(Bug::LockRingFirst) {
                        self.region.bell().ring();
                    }
                    return Ok(());
                }
                Err(other) if Word(other).owner() != self.me => return Err(NotHeld { found: Word(other) }),
                // Somebody waits; or a bad peer plays with the word.
                Err(other) => found = Word(other),
            }
        }
        Err(NotHeld { found })
    }

    /// Gives back what this handle still has although nobody holds the right to it any more, before its name goes. Says
    /// whether there was anything.
    pub fn leave(&self) -> bool {
        let word = self.word();
        word.owner() == self.me && self.free(Held { word }, State::Spoilt(Cause::Died)).is_ok()
    }

    /// What a newcomer to the seat of `dead` does before anything else. Says whether the dead had the lock.
    pub fn recover(region: &R, dead: Owner) -> bool {
        let pid = region.desk(dead.seat()).map_or(0, |desk| desk.pid.load(Ordering::Relaxed));
        let culprit = Culprit { seat: dead.seat(), pid, cause: Cause::Died };
        let mut had = false;
        for _ in 0..TURNS {
            // Pairs with an heir's taking: it has read the desk that we are about to write to.
            let found = Word(region.word().load(M::at(Site::LockLook, Ordering::Acquire)));
            if found.owner() != dead || M::broken(Bug::LockNoRecovery) {
                break;
            }
            let free = Word::new(Owner::NOBODY, false, Some(culprit));
            // Pairs with `take`.
            had = region.word().cas(found.0, free.0, M::at(Site::LockRecover, Ordering::Release)).is_ok();
        }
        // Also where it had given the lock back: it may have died before it rang.
        region.bell().ring_anyway();
        had
    }
}
