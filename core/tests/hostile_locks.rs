//! Locks and barriers against a peer that writes anything into their memory at any time: every number stays in range,
//! every call ends within its bound of shared operations, and what it says makes sense by itself.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::seeds;
use sapwood_core::lock::{Cause, Culprit, Held, Lock, NotHeld, Region, State};
use sapwood_core::mem::{Atom, Ordering};
use sapwood_core::muster::{Muster, Standing, Why};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Adversary, Court, Hostile, Latch};

type Answers = BTreeMap<&'static str, u64>;

/// Three calls of four are made against the adversary.
fn with<V>(bad: &mut Adversary, most: usize, call: impl FnOnce() -> V) -> V {
    if bad.below(4) == 0 { call() } else { bad.call(most as u64, call) }
}

fn check_all(of: &str, answers: &Answers, expected: &[&str]) {
    println!("{of}: {answers:?}");
    for answer in expected {
        assert!(answers.contains_key(answer), "{of}: never {answer}");
    }
}

/// Looks anew because others were faster: `TURNS` of `core::lock`.
const TURNS: usize = 8;
/// Fence, load, eight loads and CASes at most, wake.
const RING: usize = 19;
const SEATS: usize = 3;

fn in_range(held: &Held) {
    if let Some(Culprit { seat, pid, .. }) = held.culprit() {
        assert!(seat <= Owner::SEATS && pid < 1 << 22, "{held:?}");
    }
}

fn locks_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let latch = Latch::<Hostile>::new(SEATS);
    latch.word().store(if bad.below(2) == 0 { 0 } else { bad.bits() }, Ordering::Relaxed);
    let attach = |me: u32| {
        let lock = Lock::<Hostile, _>::attach(latch.clone(), Owner::new(me, 5), 40);
        lock.note(7);
        lock
    };
    let mut locks = [0, 1].map(|me| with(&mut bad, 2, || attach(me)));
    let mut held: [Option<Held>; 2] = [None, None];
    for _ in 0..16 {
        let me = bad.below(2);
        let lock = &locks[me];
        let mut note = |what| *answers.entry(what).or_default() += 1;
        match bad.below(9) {
            0 => locks[me] = with(&mut bad, 2, || attach(me as u32)),
            1 | 2 => match with(&mut bad, TURNS + 1, || lock.try_take()) {
                Ok(got) => {
                    in_range(&got);
                    note("taken");
                    held[me] = Some(got);
                }
                Err(owner) => note(if owner == Owner::NOBODY { "others were faster" } else { "held" }),
            },
            3 => match with(&mut bad, 3 * TURNS, || lock.poll()) {
                Ok(got) => {
                    in_range(&got);
                    note("polled");
                    held[me] = Some(got);
                }
                Err(_) => note("waited for"),
            },
            4 => {
                let dead = lock.word().owner();
                match with(&mut bad, 3 * TURNS, || lock.inherit(dead)) {
                    Some(got) => {
                        in_range(&got);
                        assert!(matches!(got.culprit(), Some(Culprit { cause: Cause::Died, .. })));
                        note("inherited");
                        held[me] = Some(got);
                    }
                    None => note("not inherited"),
                }
            }
            5 | 6 => {
                let Some(got) = held[me].take() else { continue };
                let states = [State::Same, State::Whole, State::Spoilt(Cause::Panicked)];
                let state = states[bad.below(3)];
                match with(&mut bad, TURNS + RING, || lock.free(got, state)) {
                    Ok(()) => note("freed"),
                    Err(NotHeld { .. }) => note("not held"),
                }
            }
            7 => {
                let dead = if bad.below(2) == 0 { Owner::new(2, 4) } else { lock.word().owner() };
                let had = with(&mut bad, 2 * TURNS + 1 + RING, || Lock::<Hostile, _>::recover(&latch, dead));
                note(if had { "recovered" } else { "nothing to recover" });
            }
            _ => {
                let said = with(&mut bad, 3, || lock.is_held_by_thread(7));
                note(if said { "by this thread" } else { "by another thread" });
                with(&mut bad, 1 + TURNS + RING, || lock.leave());
            }
        }
    }
}

fn musters_of(seed: u64, answers: &mut Answers) {
    let mut bad = Adversary::new(seed);
    let start = if bad.below(2) == 0 { 0 } else { bad.bits() };
    let court = Court::<Hostile>::new(SEATS, start);
    let mut musters = [0, 1, 2].map(|me| Muster::<Hostile, _>::attach(court.clone(), me, start));
    for _ in 0..16 {
        let muster = &mut musters[bad.below(SEATS)];
        // A look at the verdict, at each arrival, at the verdict again; and a decision.
        let poll = 3 + SEATS + RING;
        let standing = match bad.below(6) {
            0 | 1 => {
                with(&mut bad, 1, || muster.arrive());
                with(&mut bad, poll, || muster.poll())
            }
            2 => with(&mut bad, poll, || muster.poll()),
            3 => {
                let missing: Vec<_> = with(&mut bad, SEATS, || muster.missing().collect());
                assert!(missing.iter().all(|seat| *seat < SEATS));
                let Some(seat) = missing.first() else { continue };
                let why = [Why::Died, Why::Left, Why::Missing][bad.below(3)];
                with(&mut bad, 1 + poll, || muster.break_off(*seat, why))
            }
            4 => with(&mut bad, 1, || muster.coming()),
            _ => {
                with(&mut bad, 1, || _ = muster.has_left(1));
                with(&mut bad, 1 + RING, || muster.leave());
                continue;
            }
        };
        *answers
            .entry(match standing {
                Standing::Open => "open",
                Standing::Passed { leader: true } => "passed, leader",
                Standing::Passed { leader: false } => "passed",
                Standing::Broken { seat, .. } if (seat as usize) < SEATS => "broken",
                Standing::Broken { seat, .. } => {
                    assert!(seat < 1 << 16);
                    "broken by a seat that there is not"
                }
            })
            .or_default() += 1;
    }
}

#[test]
fn a_lock_keeps_its_bounds_beside_a_bad_peer() {
    let mut answers = Answers::new();
    seeds(4000, |seed| locks_of(seed, &mut answers));
    let expected =
        ["taken", "held", "polled", "waited for", "inherited", "not inherited", "freed", "not held"];
    let more = ["recovered", "nothing to recover", "by this thread", "by another thread"];
    check_all("locks", &answers, &[&expected[..], &more].concat());
}

#[test]
fn a_barrier_keeps_its_bounds_beside_a_bad_peer() {
    let mut answers = Answers::new();
    seeds(4000, |seed| musters_of(seed, &mut answers));
    let expected = ["open", "passed", "passed, leader", "broken", "broken by a seat that there is not"];
    check_all("barriers", &answers, &expected);
}
