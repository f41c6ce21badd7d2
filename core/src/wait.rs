//! Waiting that knows its peer: spin while that can help, give the processor away while that can help, then sleep.
//!
//! | stage | when                                                       | ends                                       |
//! |-------|------------------------------------------------------------|--------------------------------------------|
//! | spin  | every rank has a CPU, and the awaited one runs on another  | after about the price of a wake-up         |
//! | yield | always, before the first sleep                             | after about the price of a wake-up         |
//! | sleep | after that                                                 | rung, or a slice of at most 50 ms is over  |
//!
//! A wake-up of another CPU costs as much as hundreds of cache line transfers on a virtual machine, so it pays to
//! spin for about as long as a wake-up takes: never more than twice the best choice in hindsight (Karlin et al.,
//! "Competitive randomized algorithms for nonuniform problems", SODA 1990, for the bound of the deterministic rule).
//! With more ranks than CPUs the awaited rank may need this very CPU, so nobody spins at all. The prices are measured
//! where the program runs ([`Prices`]); the spin budget halves when a wait ended in a sleep, and doubles when one ended
//! before it and nobody had wanted the CPU: a yield that takes several times its price has given it to somebody,
//! perhaps to the awaited, and the spinning only kept it from them.

use crate::doorbell::Doorbell;
use crate::mem::{Bug, Mem};

/// Longest uninterrupted sleep: how long a death can go unnoticed by a sleeper.
pub const SLICE_NANOS: u64 = 50_000_000;

/// How to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WaitPolicy {
    /// Spin, then yield, then sleep, each as long as it can help.
    #[default]
    Adaptive,
    /// Never give the CPU away. For machines with a CPU to burn for each rank.
    Spin,
    /// Sleep at once. For ranks that share their CPUs with work that matters more.
    Sleep,
}

/// What waiting costs on this machine, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prices {
    /// One turn of a spin loop.
    pub spin: u64,
    /// Giving the CPU away when nobody wants it.
    pub give_way: u64,
    /// From a ring to the sleeper's first instruction.
    pub wake: u64,
}

impl Prices {
    /// Measures the price of a spin turn and of a yield in this thread (some 20 µs); `wake` needs two threads and is
    /// the caller's to measure.
    pub fn measure<M: Mem>(wake: u64) -> Prices {
        let per_turn = |turns: u64, f: fn()| {
            let best = (0..3).map(|_| {
                let start = M::now();
                (0..turns).for_each(|_| f());
                M::now().saturating_sub(start)
            });
            (best.min().unwrap_or(0) / turns).max(1)
        };
        Prices { spin: per_turn(256, M::spin), give_way: per_turn(16, M::yield_now), wake }
    }
}

/// How often each stage was used, since the waiter was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WaitStats {
    /// Turns of spin loops.
    pub spins: u64,
    /// Times the CPU was given away.
    pub yields: u64,
    /// Times the waiter went to sleep.
    pub sleeps: u64,
}

/// How closely one looks for what one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closely {
    /// As quickly as can be: it may miss what is rare. For looks that others follow.
    Glance,
    /// It misses nothing.
    Thorough,
}

/// What a waiter is about to do, so that its owner can do what must come before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The quick stages have begun to take time: a bell that is owed must be rung now.
    Patient,
    /// About to sleep, or back from a slice: time to look for deaths and at the clock.
    Asleep,
}

/// One rank's way of waiting: private, keeps what it has learnt.
#[derive(Debug)]
pub struct Waiter {
    policy: WaitPolicy,
    spin_most: u32,
    spin_now: u32,
    yields: u32,
    /// Nanoseconds: a yield that takes longer has given the CPU to somebody.
    taken: u64,
    stats: WaitStats,
}

/// Turns before a waiter asks where its peer runs: less than a cache line's way between cores takes.
const FIRST_TURNS: u32 = 24;
const SPIN_LEAST: u32 = 64;
const SPIN_MOST: u64 = 20_000;
/// Prices of a yield that nobody wanted.
const TAKEN: u64 = 3;
const YIELDS: core::ops::RangeInclusive<u64> = 8..=50;
/// In `Spin` the clock and the dead are looked for once in so many turns.
const TURNS_BETWEEN_LOOKS: u32 = 1 << 16;

impl Waiter {
    /// A waiter for a group that has a CPU for each of its ranks (`crowded` false) or has not (true).
    pub fn new(policy: WaitPolicy, prices: Prices, crowded: bool) -> Self {
        let turns = (prices.wake / prices.spin.max(1)).clamp(SPIN_LEAST.into(), SPIN_MOST) as u32;
        let spin_most = if crowded && policy != WaitPolicy::Spin { 0 } else { turns };
        let yields = (prices.wake / prices.give_way.max(1)).clamp(*YIELDS.start(), *YIELDS.end()) as u32;
        let taken = TAKEN * prices.give_way;
        Waiter { policy, spin_most, spin_now: spin_most, yields, taken, stats: WaitStats::default() }
    }

    /// The same waiter, that goes on counting from `stats`.
    pub fn after(mut self, stats: WaitStats) -> Self {
        self.stats = stats;
        self
    }

    /// How often each stage was used.
    pub fn stats(&self) -> WaitStats {
        self.stats
    }

    /// Waits until `ready`. `elsewhere` says whether the awaited peer runs on another CPU than we do; `idle` is told
    /// before the costly stages and may end the wait with an error; else it says in how many nanoseconds it wants to be
    /// asked again, which cuts a sleep short.
    #[inline]
    pub fn wait<M: Mem, E>(
        &mut self,
        bell: &Doorbell<M>,
        mut ready: impl FnMut() -> bool,
        elsewhere: impl FnOnce() -> bool,
        idle: impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<(), E> {
        self.wait_looking(bell, |_| ready(), elsewhere, idle)
    }

    /// The same for one to whom a thorough look costs much: until the first sleep it is asked for glances, but for one
    /// look before the costly stages, because what only that one finds may lie there already. Whoever sleeps, or has
    /// slept, looks thoroughly, and so does one who never sleeps.
    #[inline]
    pub fn wait_looking<M: Mem, E>(
        &mut self,
        bell: &Doorbell<M>,
        mut ready: impl FnMut(Closely) -> bool,
        elsewhere: impl FnOnce() -> bool,
        mut idle: impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<(), E> {
        let never_sleeps = self.policy == WaitPolicy::Spin;
        let mut looks = 0u32;
        // Counted from the first look of `hurry`; the last one of the first turns comes next to them.
        let thorough = if self.spin_now > 0 { FIRST_TURNS + 1 } else { 1 };
        let mut quick = || {
            looks = looks.saturating_add(1);
            ready(if never_sleeps || looks == thorough { Closely::Thorough } else { Closely::Glance })
        };
        if self.hurry::<M, E>(&mut quick, elsewhere, &mut idle)? {
            return Ok(());
        }
        let then = if M::broken(Bug::BellGlanceAsleep) { Closely::Glance } else { Closely::Thorough };
        self.sleep(bell, &mut || ready(then), &mut idle)
    }

    /// The stages of [`wait`](Self::wait) before the first sleep. Says whether it is `ready`; if not, it is time to
    /// sleep: for whoever sleeps at several bells.
    #[inline]
    pub fn hurry<M: Mem, E>(
        &mut self,
        ready: &mut impl FnMut() -> bool,
        elsewhere: impl FnOnce() -> bool,
        idle: &mut impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<bool, E> {
        if ready() {
            return Ok(true);
        }
        if self.spin_now > 0 && self.policy != WaitPolicy::Sleep {
            if self.spin::<M>(FIRST_TURNS, ready) {
                return Ok(true);
            }
            if self.policy == WaitPolicy::Spin {
                return self.spin_on::<M, E>(ready, idle).map(|()| true);
            }
            // Before the long spin: the awaited may be asleep and waiting for a ring of ours.
            idle(Stage::Patient)?;
            if elsewhere() && self.spin::<M>(self.spin_now, ready) {
                return Ok(true);
            }
        }
        self.give_way::<M, E>(ready, idle)
    }

    /// One more sleep is about to begin.
    pub fn count_sleep(&mut self) {
        self.stats.sleeps += 1;
    }

    #[inline(always)]
    fn spin<M: Mem>(&mut self, turns: u32, ready: &mut impl FnMut() -> bool) -> bool {
        for turn in 1..=turns {
            M::spin();
            if ready() {
                self.stats.spins += u64::from(turn);
                return true;
            }
        }
        self.stats.spins += u64::from(turns);
        false
    }

    #[inline(never)]
    fn spin_on<M: Mem, E>(
        &mut self,
        ready: &mut impl FnMut() -> bool,
        idle: &mut impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<(), E> {
        idle(Stage::Patient)?;
        // Ends when ready or when `idle` says so, which it does at the deadline at the latest.
        loop {
            if self.spin::<M>(TURNS_BETWEEN_LOOKS, ready) {
                return Ok(());
            }
            idle(Stage::Asleep)?;
        }
    }

    #[inline(never)]
    fn give_way<M: Mem, E>(
        &mut self,
        ready: &mut impl FnMut() -> bool,
        idle: &mut impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<bool, E> {
        idle(Stage::Patient)?;
        if self.policy != WaitPolicy::Sleep {
            let start = M::now();
            for turn in 1..=self.yields {
                M::yield_now();
                self.stats.yields += 1;
                if ready() {
                    let wanted = M::now().saturating_sub(start) > self.taken.saturating_mul(turn.into());
                    self.spin_now = match self.spin_now {
                        now if wanted => (now / 2).max(now.min(1)),
                        now => (now * 2).min(self.spin_most),
                    };
                    return Ok(true);
                }
            }
            self.spin_now = (self.spin_now / 2).max(SPIN_LEAST.min(self.spin_now));
        }
        Ok(false)
    }

    #[inline(never)]
    fn sleep<M: Mem, E>(
        &mut self,
        bell: &Doorbell<M>,
        ready: &mut impl FnMut() -> bool,
        idle: &mut impl FnMut(Stage) -> Result<u64, E>,
    ) -> Result<(), E> {
        // Ends when ready or when `idle` says so, which it does at the deadline at the latest.
        loop {
            let announced = bell.announce();
            if !M::broken(Bug::BellNoSecondLook) && ready() {
                return Ok(());
            }
            let left = idle(Stage::Asleep)?;
            self.count_sleep();
            bell.sleep(announced, left.min(SLICE_NANOS));
            if ready() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Mem, Ordering, Real, Woke};
    use core::cell::Cell;

    std::thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
    std::thread_local!(static YIELD: Cell<u64> = const { Cell::new(500) });

    /// Real words, and a clock that only yields move on.
    struct Slow;

    impl Mem for Slow {
        type U32 = <Real as Mem>::U32;
        type U64 = <Real as Mem>::U64;
        type Cell<T: Copy> = <Real as Mem>::Cell<T>;
        fn fence(o: Ordering) {
            Real::fence(o);
        }
        fn spin() {}
        fn yield_now() {
            NOW.set(NOW.get() + YIELD.get());
        }
        fn cpu() -> u32 {
            0
        }
        fn now() -> u64 {
            NOW.get()
        }
        fn wait(_: &Self::U32, _: u32, _: u64) -> Woke {
            Woke::Look
        }
        fn wake(_: &Self::U32) -> u32 {
            0
        }
    }

    fn waiter(policy: WaitPolicy, crowded: bool) -> Waiter {
        Waiter::new(policy, Prices { spin: 10, give_way: 500, wake: 40_000 }, crowded)
    }

    /// Counts looks until `ready` at look `at`; fails the wait at the third sleep.
    fn run(w: &mut Waiter, at: u64, elsewhere: bool) -> Result<(), u32> {
        let (mut looks, mut slept) = (0, 0);
        let bell = Doorbell::<Slow>::new(0);
        let ready = || {
            looks += 1;
            looks > at
        };
        w.wait(
            &bell,
            ready,
            || elsewhere,
            |s| {
                slept += u32::from(s == Stage::Asleep);
                bell.ring_anyway(); // so that no test really sleeps
                if slept == 3 { Err(slept) } else { Ok(u64::MAX) }
            },
        )
    }

    #[test]
    fn a_crowded_group_never_spins() {
        let mut w = waiter(WaitPolicy::Adaptive, true);
        assert_eq!(run(&mut w, u64::MAX, true), Err(3));
        assert_eq!(w.stats(), WaitStats { spins: 0, yields: 50, sleeps: 2 });
    }

    #[test]
    fn what_is_ready_costs_nothing() {
        let mut w = waiter(WaitPolicy::Adaptive, false);
        assert_eq!(run(&mut w, 0, true), Ok(()));
        assert_eq!(w.stats(), WaitStats::default());
    }

    #[test]
    fn nobody_spins_for_a_peer_on_its_own_cpu() {
        let mut w = waiter(WaitPolicy::Adaptive, false);
        assert_eq!(run(&mut w, u64::MAX, false), Err(3));
        assert_eq!(w.stats().spins, u64::from(FIRST_TURNS));
    }

    #[test]
    fn the_budget_shrinks_when_spinning_did_not_help_and_recovers() {
        let mut w = waiter(WaitPolicy::Adaptive, false);
        let most = w.spin_most;
        assert_eq!(u64::from(most), 4_000);
        for _ in 0..20 {
            assert_eq!(run(&mut w, u64::MAX, true), Err(3));
        }
        assert_eq!(w.spin_now, SPIN_LEAST);
        for _ in 0..20 {
            let at = u64::from(FIRST_TURNS + w.spin_now) + 3;
            assert_eq!(run(&mut w, at, true), Ok(()));
        }
        assert_eq!(w.spin_now, most);
    }

    #[test]
    fn the_budget_shrinks_when_somebody_wanted_the_cpu() {
        let mut w = waiter(WaitPolicy::Adaptive, false);
        let in_a_yield = |w: &Waiter| u64::from(FIRST_TURNS + w.spin_now) + 3;
        YIELD.set(2_000);
        for _ in 0..20 {
            let at = in_a_yield(&w);
            assert_eq!(run(&mut w, at, true), Ok(()));
        }
        assert_eq!(w.spin_now, 1);
        assert_eq!(run(&mut w, u64::MAX, true), Err(3));
        assert_eq!(w.spin_now, 1, "a sleep does not make it longer");
        YIELD.set(500);
        for _ in 0..20 {
            let at = in_a_yield(&w);
            assert_eq!(run(&mut w, at, true), Ok(()));
        }
        assert_eq!(w.spin_now, w.spin_most);
    }

    #[test]
    fn nobody_sleeps_on_a_glance_and_who_never_sleeps_takes_none() {
        let bell = Doorbell::<Slow>::new(0);
        let looks = |policy, most: u32| {
            let (mut glances, mut thorough, mut left) = (0, 0, most);
            let ready = |closely| {
                match closely {
                    Closely::Glance => glances += 1,
                    Closely::Thorough => thorough += 1,
                }
                false
            };
            let idle = |stage| {
                left -= u32::from(stage == Stage::Asleep);
                if left == 0 { Err(()) } else { Ok(u64::MAX) }
            };
            let waited = waiter(policy, false).wait_looking(&bell, ready, || true, idle);
            assert_eq!(waited, Err(()));
            (glances, thorough)
        };
        // One before the costly stages, one behind each announcement, one behind each sleep.
        let (glances, thorough) = looks(WaitPolicy::Adaptive, 3);
        assert!(glances > 50 && thorough == 6, "{glances} glances, {thorough} thorough looks");
        assert_eq!(looks(WaitPolicy::Sleep, 1), (1, 1));
        let (glances, thorough) = looks(WaitPolicy::Spin, 2);
        assert!(glances == 0 && thorough > TURNS_BETWEEN_LOOKS);
    }

    #[test]
    fn sleep_sleeps_at_once_and_spin_never_does() {
        let mut w = waiter(WaitPolicy::Sleep, false);
        assert_eq!(run(&mut w, u64::MAX, true), Err(3));
        assert_eq!(w.stats(), WaitStats { spins: 0, yields: 0, sleeps: 2 });
        let mut w = waiter(WaitPolicy::Spin, true);
        assert_eq!(run(&mut w, u64::MAX, true), Err(3));
        assert_eq!((w.stats().yields, w.stats().sleeps), (0, 0));
    }

    #[test]
    fn a_sleep_is_no_longer_than_its_owner_says() {
        let mut w = waiter(WaitPolicy::Sleep, false);
        let bell = Doorbell::<Real>::new(0);
        let (start, mut asked) = (Real::now(), 0);
        let idle = |_| {
            asked += 1;
            if asked == 100 { Err(()) } else { Ok(1_000) }
        };
        assert_eq!(w.wait(&bell, || false, || true, idle), Err(()));
        // Nobody rings: with whole slices it would be five seconds.
        assert!(Real::now() - start < 2_000_000_000);
    }

    #[test]
    fn prices_are_positive() {
        let p = Prices::measure::<Real>(1);
        assert!(p.spin > 0 && p.give_way > 0, "{p:?}");
    }
}
