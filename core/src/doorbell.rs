//! Sleeping and waking: an eventcount over one futex word.
//!
//! ```text
//!  31                              1   0
//! +---------------------------------+---+
//! |              epoch              | A |   A: somebody has announced a sleep
//! +---------------------------------+---+
//! ```
//!
//! | from     | to         | who                      | how                                                   |
//! |----------|------------|--------------------------|-------------------------------------------------------|
//! | (e, 0)   | (e, 1)     | a sleeper announces      | fetch_or, fence(SeqCst), then looks again             |
//! | (e, 1)   | (e, 1)     | another one announces    | the same; nothing changes                             |
//! | (e, 1)   | (e + 1, 0) | who rings                | fence(SeqCst), load, CAS; then FUTEX_WAKE of *all*    |
//! | (e, 0)   | (e, 0)     | who rings, nobody sleeps | fence(SeqCst), relaxed load: no system call           |
//! | any      | (e + 1, 0) | who recovers from a death| the same without asking, because the dead may owe it  |
//!
//! **No wake is lost.** A waker publishes, fences, loads the word; a sleeper announces, fences, looks for what was
//! published. One of the two fences comes first in the single order of SeqCst fences. If the waker's does, the
//! sleeper's second look finds what was published. If the sleeper's does, the waker sees the announcement and changes
//! the word *before* it wakes: a sleeper that is not yet in the kernel fails the comparison there, one that is gets
//! woken. A waker whose CAS fails was overtaken by another ring of the same announcement, whose wake covers it; whoever
//! has announced anew since then fenced after this waker did, and looks again.
//!
//! **Wake all.** Whoever clears the announcement owes a wake to everyone behind it; waking one would strand the rest.
//!
//! | who dies                                 | what is left        | who repairs it                                        |
//! |------------------------------------------|---------------------|-------------------------------------------------------|
//! | a sleeper, anywhere                      | A is set            | the next ring: one system call too many, once         |
//! | a waker after publishing, before the CAS | a sleeper asleep    | whoever learns of the death rings anyway; slices end  |
//! | a waker after the CAS, before the wake   | a sleeper asleep    | the same                                              |

use core::fmt;

use crate::mem::{Atom, Bug, Mem, Ordering, Site, Woke};

const ASLEEP: u32 = 1;
const EPOCH: u32 = 2;

/// The word that sleepers of one kind wait on. Lives in shared memory.
#[repr(transparent)]
pub struct Doorbell<M: Mem> {
    word: M::U32,
}

/// Proof that a sleep was announced; says which word the kernel must still find.
#[derive(Clone, Copy, Debug)]
#[must_use = "an announcement that is not slept on makes the next ring pay a system call"]
pub struct Announced(u32);

impl<M: Mem> fmt::Debug for Doorbell<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Doorbell").field(&self.word.load(Ordering::Relaxed)).finish()
    }
}

impl<M: Mem> Doorbell<M> {
    /// A bell that nobody waits on. `epoch` is where the count starts (tests start it near its wrap).
    pub fn new(epoch: u32) -> Self {
        Doorbell { word: M::U32::new(epoch << 1) }
    }

    /// First half of going to sleep. After it the caller looks once more for what it waits for, and calls
    /// [`sleep`](Self::sleep) only if that look found nothing.
    #[inline]
    pub fn announce(&self) -> Announced {
        let word = self.word.fetch_or(ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        M::fence(M::at(Site::BellSleeperFence, Ordering::SeqCst));
        Announced(word | ASLEEP)
    }

    /// Second half: sleeps until somebody rings, or for `nanos`.
    pub fn sleep(&self, announced: Announced, nanos: u64) -> Woke {
        M::wait(&self.word, announced.0, nanos)
    }

    /// Whether somebody has rung since: the second half would not sleep.
    pub fn rung_since(&self, announced: Announced) -> bool {
        self.word.load(Ordering::Relaxed) != announced.0
    }

    /// The second half at several bells, at each of which the first half was made: sleeps until somebody rings one of
    /// them, or for `nanos`; of the first [`WAIT_MOST`](crate::mem::WAIT_MOST). No wake is lost, because the kernel
    /// compares every word before it sleeps.
    pub fn sleep_any<'a>(bells: impl Iterator<Item = (&'a Self, Announced)>, nanos: u64) -> Woke {
        M::wait_any(&mut bells.map(|(bell, announced)| (&bell.word, announced.0)), nanos)
    }

    /// Wakes whoever sleeps here. The caller has published what they wait for.
    #[inline]
    pub fn ring(&self) {
        Self::fence();
        self.ring_fenced();
    }

    /// The fence of [`ring`](Self::ring) alone, for a caller who rings several bells behind one fence.
    #[inline(always)]
    pub fn fence() {
        // Pairs with the fence in `announce`.
        M::fence(M::at(Site::BellWakerFence, Ordering::SeqCst));
    }

    /// [`ring`](Self::ring) behind a [`fence`](Self::fence) that the caller has made since it published.
    #[inline(always)]
    pub fn ring_fenced(&self) {
        let word = self.word.load(Ordering::Relaxed);
        if word & ASLEEP != 0 {
            self.wake(word);
        }
    }

    #[cold]
    fn wake(&self, word: u32) {
        let next = if M::broken(Bug::BellKeepsEpoch) { word & !ASLEEP } else { next(word) };
        if self.word.cas(word, next, Ordering::Relaxed).is_ok() {
            M::wake(&self.word);
        }
    }

    /// Rings without asking whether somebody sleeps: for whoever fails or recovers, because the dead may have cleared
    /// the announcement and not yet woken.
    #[cold]
    pub fn ring_anyway(&self) {
        Self::fence();
        // Only rings and announcements change the word, and a ring that overtakes us wakes in our place: after a few
        // lost races somebody else's wake has come after our publication.
        for _ in 0..8 {
            let word = self.word.load(Ordering::Relaxed);
            if self.word.cas(word, next(word), Ordering::Relaxed).is_ok() {
                break;
            }
        }
        M::wake(&self.word);
    }
}

fn next(word: u32) -> u32 {
    (word & !ASLEEP).wrapping_add(EPOCH)
}

static_assertions::const_assert_eq!(size_of::<Doorbell<crate::mem::Real>>(), 4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Real;

    #[test]
    fn whoever_sleeps_at_many_bells_is_woken_by_each() {
        let bells: [Doorbell<Real>; 3] = core::array::from_fn(|_| Doorbell::new(0));
        let long = 20_000_000_000;
        for rung in 0..3 {
            let announced = bells.each_ref().map(Doorbell::announce);
            bells[rung].ring();
            let start = Real::now();
            // The words differ already: it must not sleep at all, let alone for 20 seconds.
            let woke = Doorbell::sleep_any(bells.iter().zip(announced), long);
            assert_eq!(woke, Woke::Look, "bell {rung}");
            assert!(Real::now() - start < long / 2, "bell {rung}");
        }
        let announced = bells.each_ref().map(Doorbell::announce);
        assert_eq!(Doorbell::sleep_any(bells.iter().zip(announced), 1000), Woke::TimedOut);
        assert_eq!(Doorbell::<Real>::sleep_any(core::iter::empty(), 1000), Woke::Look);
    }
}
