//! What waiting costs on this machine, measured once a process.

use std::sync::{Arc, OnceLock};

use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::wait::Prices;

/// Wake-ups that are measured; the median counts: the cheapest may be one on the ringer's own CPU.
const ROUNDS: usize = 5;
/// How long the sleeper is given to fall asleep, in nanoseconds; if it did not, the round measures too little and the
/// bounds below hold.
const NAP: u64 = 50_000;
/// What a wake-up is taken to cost at least and at most, in nanoseconds. What is measured is the way from the ring
/// to the sleeper; falling asleep, and looking before it whether the awaited lives, cost some 20 µs more.
const WAKE: std::ops::RangeInclusive<u64> = 20_000..=60_000;

struct Pair {
    bell: Doorbell<Real>,
    round: <Real as Mem>::U32,
    woken: <Real as Mem>::U64,
}

/// The prices of spinning, yielding and waking here (some 0.5 ms at the first call).
pub fn prices() -> Prices {
    static PRICES: OnceLock<Prices> = OnceLock::new();
    *PRICES.get_or_init(|| {
        let wake = wake_price().unwrap_or(*WAKE.end());
        Prices::measure::<Real>(wake.clamp(*WAKE.start(), *WAKE.end()))
    })
}

/// Nanoseconds from a ring to the sleeper's first instruction, as measured now; `None` where no thread can be started.
pub fn wake_price() -> Option<u64> {
    let pair = Arc::new(Pair { bell: Doorbell::new(0), round: Atom::new(0), woken: Atom::new(0) });
    let theirs = pair.clone();
    let sleeper = std::thread::Builder::new().name("sapwood-prices".into()).spawn(move || {
        for round in 1..=ROUNDS as u32 {
            // Ends when the other thread has counted on, which it does after a nap whatever happens.
            while theirs.round.load(Ordering::Acquire) < round {
                let announced = theirs.bell.announce();
                if theirs.round.load(Ordering::Acquire) < round {
                    theirs.bell.sleep(announced, 1_000_000);
                }
            }
            theirs.woken.store(Real::now(), Ordering::Release);
        }
    });
    let sleeper = sleeper.ok()?;
    let mut took = [0; ROUNDS];
    for (round, took) in (1..).zip(&mut took) {
        let start = Real::now();
        while Real::now() - start < NAP {
            Real::yield_now();
        }
        let rung = Real::now();
        pair.round.store(round, Ordering::Release);
        pair.bell.ring();
        // The sleeper answers at the end of its slice at the latest.
        while pair.woken.load(Ordering::Acquire) < rung {
            Real::yield_now();
        }
        *took = pair.woken.load(Ordering::Acquire) - rung;
    }
    sleeper.join().ok()?;
    took.sort_unstable();
    Some(took[ROUNDS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_within_reason_and_measured_once() {
        let p = prices();
        assert!(WAKE.contains(&p.wake) && p.spin > 0 && p.give_way > 0, "{p:?}");
        assert_eq!(prices(), p);
    }
}
