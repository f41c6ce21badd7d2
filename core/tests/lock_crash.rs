//! Owners of a lock and participants of a barrier are killed before each of their shared operations: survivors have the
//! lock, once, and are told; a passage has one verdict.
#![allow(missing_docs)]

use sapwood_core::lock::{Cause, Culprit, Held, Lock, Region, State, Word};
use sapwood_core::mem::{Atom, Bug, Ordering};
use sapwood_core::muster::{Muster, Standing, Why};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Count, Counts, Court, Crash, Latch};

type Memory = Latch<Crash>;
type Handle = Lock<Crash, Memory>;

/// More operations than anything here makes.
const MOST: u64 = 200;

fn owner(seat: u32) -> Owner {
    Owner::new(seat, 7)
}

fn pid(seat: u32) -> u32 {
    seat + 100
}

fn attach(latch: &Memory, seat: u32) -> Handle {
    Lock::attach(latch.clone(), owner(seat), pid(seat))
}

fn died(seat: u32) -> Culprit {
    Culprit { seat, pid: pid(seat), cause: Cause::Died }
}

fn change(latch: &Memory, value: u64) {
    latch.write(0, value);
    latch.write(1, value);
}

/// What victims do; each time somebody may be waiting.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Lock, change, unlock, lock again.
    Pairs,
    /// The same as one that waits.
    Waiting,
    /// Lock and panic.
    Panic,
    /// Lock, forget it, drop the handle.
    Forget,
}

fn victim(latch: &Memory, seat: u32, way: Way) {
    let lock = attach(latch, seat);
    for value in [1, 2] {
        let held = match way {
            Way::Waiting => lock.poll(),
            _ => lock.try_take(),
        };
        let held = held.expect("nobody else has it");
        latch.write(0, value);
        match way {
            Way::Panic => lock.free(held, State::Spoilt(Cause::Panicked)).expect("ours"),
            Way::Forget => assert!(lock.leave()),
            _ => {
                latch.write(1, value);
                lock.free(held, State::Whole).expect("ours");
            }
        }
    }
}

/// Takes the lock from whoever is dead.
fn get(lock: &Handle, dead: &[u32]) -> Held {
    match lock.poll() {
        Ok(held) => held,
        Err(owner) => {
            assert!(dead.contains(&owner.seat()), "{owner} lives and has the lock");
            lock.inherit(owner).expect("the dead have it for good")
        }
    }
}

/// Whoever has the lock now finds what it guards whole, or is told who is to blame.
fn check(latch: &Memory, held: &Held, may: &[u32]) -> bool {
    let whole = latch.read(0) == latch.read(1);
    match held.culprit() {
        None => assert!(whole, "torn, and nobody is named"),
        Some(culprit) => {
            assert!(may.contains(&culprit.seat) && culprit.pid == pid(culprit.seat), "{culprit:?}");
        }
    }
    held.culprit().is_some()
}

fn settle(latch: &Memory, seat: u32, dead: &[u32]) {
    let lock = attach(latch, seat);
    let held = get(&lock, dead);
    check(latch, &held, dead);
    change(latch, 9);
    lock.free(held, State::Whole).expect("ours");
    assert_eq!(lock.word(), Word::FREE, "free, clean, and nobody waits");
    let held = lock.try_take().expect("it is free");
    assert!(!check(latch, &held, &[]));
    lock.free(held, State::Same).expect("ours");
}

const WAYS: [Way; 4] = [Way::Pairs, Way::Waiting, Way::Panic, Way::Forget];

/// Says how many deaths left the lock taken.
fn one_death() -> u64 {
    let mut inherited = 0;
    for way in WAYS {
        for waited in [false, true] {
            for newcomer in [false, true] {
                for k in 0..MOST {
                    let latch = Memory::new(4);
                    if waited {
                        latch.word().fetch_or(1, Ordering::Relaxed);
                    }
                    let over = Crash::until(k, || victim(&latch, 1, way)).is_some();
                    let had = Word(latch.word().load(Ordering::Relaxed)).owner() == owner(1);
                    assert!(!(over && had), "{way:?} ends without the lock");
                    inherited += u64::from(had);
                    if newcomer {
                        assert_eq!(Handle::recover(&latch, owner(1)), had, "{way:?} {k}");
                        let word = Word(latch.word().load(Ordering::Relaxed));
                        assert!(!had || word == Word::new(Owner::NOBODY, false, Some(died(1))), "{word:?}");
                    }
                    settle(&latch, if newcomer { 1 } else { 2 }, &[1]);
                    if over {
                        assert!(k > 6, "{way:?} makes {k} operations only");
                        break;
                    }
                    assert!(k + 1 < MOST, "{way:?} does not end");
                }
            }
        }
    }
    inherited
}

/// The second victim is killed while it inherits from the first, or recovers it.
fn two_deaths() -> u64 {
    let mut pairs = 0;
    for way in WAYS {
        for newcomer in [false, true] {
            for (k, k2) in (0..40).flat_map(|k| (0..40).map(move |k2| (k, k2))) {
                let latch = Memory::new(4);
                Crash::until(k, || victim(&latch, 1, way));
                Crash::until(k2, || {
                    if newcomer {
                        Handle::recover(&latch, owner(1));
                    }
                    let lock = attach(&latch, 2);
                    let held = get(&lock, &[1]);
                    check(&latch, &held, &[1]);
                    latch.write(0, 5);
                    let state = if held.culprit().is_some() { State::Same } else { State::Whole };
                    latch.write(1, 5);
                    lock.free(held, state).expect("ours");
                });
                if newcomer {
                    Handle::recover(&latch, owner(1));
                }
                settle(&latch, 3, &[1, 2]);
                pairs += 1;
            }
        }
    }
    pairs
}

#[test]
fn mtx_4_whoever_dies_with_the_lock_a_survivor_has_it_and_knows() {
    let (one, two) = (one_death(), two_deaths());
    println!("{one} deaths with the lock, {two} pairs of deaths");
    assert!(one > 50, "{one} deaths with the lock are too few to show anything");
}

#[test]
fn the_blame_stays_until_somebody_answers_for_it() {
    let latch = Memory::new(3);
    let (a, b) = (attach(&latch, 0), attach(&latch, 1));
    let held = a.try_take().expect("free");
    assert_eq!(b.try_take(), Err(owner(0)));
    assert_eq!(b.inherit(owner(2)), None, "seat 2 has not got it");
    let heir = b.inherit(owner(0)).expect("proof is the caller's");
    assert_eq!(heir.culprit(), Some(died(0)));
    // The one that was taken for dead has nothing to give back.
    let said = a.free(held, State::Whole).expect_err("not ours any more");
    assert_eq!(said.found.owner(), owner(1));
    assert!(said.to_string().contains("seat 1, epoch 7"), "{said}");
    b.free(heir, State::Same).expect("ours");
    for state in [State::Same, State::Spoilt(Cause::Panicked), State::Whole] {
        let held = a.try_take().expect("free");
        assert!(held.culprit().is_some(), "before {state:?}");
        a.free(held, state).expect("ours");
    }
    assert_eq!(a.try_take().expect("free").culprit(), None);
}

#[test]
fn mistakes_with_the_lock_are_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = [Bug::LockForgetsDeath, Bug::LockNoRecovery];
    let noticed =
        bugs.map(|bug| (bug, std::panic::catch_unwind(|| Crash::with_bug(bug, one_death)).is_err()));
    let _ = std::panic::take_hook();
    println!("{noticed:?}");
    assert!(noticed.iter().all(|(_, noticed)| *noticed), "a mistake that nobody notices");
}

/// The rule of shm: what is behind a proof of death, or a leave, is final.
fn conclude(muster: &Muster<Crash, Court<Crash>>, dead: &[usize]) -> Standing {
    for _ in 0..4 {
        let standing = muster.poll();
        if standing != Standing::Open {
            return standing;
        }
        let gone = muster.missing().find(|s| dead.contains(s)).expect("only the dead are missing");
        let why = if muster.has_left(gone) { Why::Left } else { Why::Died };
        muster.break_off(gone, why);
    }
    panic!("no verdict")
}

#[test]
fn mtx_4_a_passage_has_one_verdict_whoever_dies() {
    let (mut passed, mut died, mut left) = (0, 0, 0);
    for start in [0, u64::from(u32::MAX), u64::MAX] {
        for leaves in [false, true] {
            for first in [false, true] {
                for k in 0..MOST {
                    let court = Court::<Crash>::new(3, start);
                    let mut others: Vec<_> = [0, 2].map(|s| Muster::attach(court.clone(), s, start)).into();
                    if first {
                        others.iter_mut().for_each(Muster::arrive);
                    }
                    let over = Crash::until(k, || {
                        let mut muster = Muster::<Crash, _>::attach(court.clone(), 1, start);
                        muster.arrive();
                        muster.poll();
                        if leaves {
                            muster.leave();
                        }
                    });
                    if !first {
                        others.iter_mut().for_each(Muster::arrive);
                    }
                    let said = [0, 1].map(|i| conclude(&others[i], &[1]));
                    match said {
                        [Standing::Passed { .. }, Standing::Passed { .. }] => passed += 1,
                        [Standing::Broken { seat: 1, why: a }, Standing::Broken { seat: 1, why: b }] => {
                            assert_eq!(a, b);
                            assert!(k == 0 && a == Why::Died, "it had arrived, k {k}");
                        }
                        other => panic!("{other:?}, k {k}"),
                    }
                    // The next one breaks for both alike.
                    if let Standing::Passed { .. } = said[0] {
                        others.iter_mut().for_each(Muster::arrive);
                        let said = [1, 0].map(|i| conclude(&others[i], &[1]));
                        assert_eq!(said[0], said[1]);
                        let Standing::Broken { seat: 1, why } = said[0] else { panic!("{said:?}, k {k}") };
                        left += u32::from(why == Why::Left);
                        died += u32::from(why == Why::Died);
                    }
                    if over.is_some() {
                        break;
                    }
                    assert!(k + 1 < MOST, "it does not end");
                }
            }
        }
    }
    println!("{passed} passed; then {died} died, {left} left");
    assert!(passed > 20 && died > 20 && left > 5);
}

/// What was promised of the way that nobody contends for: two read-modify-writes, and nothing else that is dear.
#[test]
fn what_nobody_contends_for_costs_two_read_modify_writes() {
    let latch = Latch::<Count>::new(2);
    let lock = Lock::<Count, _>::attach(latch.clone(), Owner::new(0, 1), 1);
    let pair = Count::of(|| {
        let held = lock.try_take().expect("free");
        lock.free(held, State::Same).expect("ours");
    });
    assert_eq!(pair, Counts { rmws: 2, lines: 1, ..Counts::default() });
    // Somebody waits: a look at the word more, and the bell behind a fence.
    let waiter = Lock::<Count, _>::attach(latch, Owner::new(1, 1), 1);
    let held = lock.try_take().expect("free");
    let look = Count::of(|| assert!(waiter.poll().is_err()));
    assert_eq!((look.loads, look.rmws, look.calls), (1, 1, 0));
    let again = Count::of(|| assert!(waiter.poll().is_err()));
    assert_eq!((again.loads, again.rmws), (1, 0), "who waits does not take the line from the owner");
    let free = Count::of(|| lock.free(held, State::Same).expect("ours"));
    assert_eq!((free.rmws, free.fences, free.calls), (2, 1, 0));

    let court = Court::<Count>::new(2, 0);
    let mut both = [0, 1].map(|s| Muster::<Count, _>::attach(court.clone(), s, 0));
    both[0].arrive();
    assert_eq!(both[0].poll(), Standing::Open);
    let last = Count::of(|| {
        both[1].arrive();
        assert_eq!(both[1].poll(), Standing::Passed { leader: true });
    });
    assert_eq!((last.stores, last.rmws, last.fences, last.calls), (1, 1, 1, 0));
    let look = Count::of(|| assert_eq!(both[0].poll(), Standing::Passed { leader: false }));
    assert_eq!(look, Counts { loads: 1, lines: 1, ..Counts::default() });
}
