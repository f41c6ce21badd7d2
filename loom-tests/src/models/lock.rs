//! The lock: one at a time has it, whoever dies hands it on, and no waiter stays asleep beside a free one. Loom calls
//! that a deadlock.
//!
//! Waiters wait through [`Waiter`], the code that ships. A sleep ends only when somebody rings, so whoever buries the
//! dead rings anyway, as a slice of sleep would end.

use loom::thread;
use sapwood_core::lock::{Cause, Held, Lock, Region, State};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Latch;
use sapwood_core::wait::{Prices, Stage, WaitPolicy, Waiter};

use super::{Bound, Model, look};
use crate::explore;
use crate::family::{Loom, until};

type Handle = Lock<Loom, Latch<Loom>>;

#[derive(Clone)]
struct World {
    latch: Latch<Loom>,
    /// A bit a seat; set behind everything that the dead did.
    dead: std::sync::Arc<<Loom as Mem>::U32>,
}

impl World {
    fn new() -> World {
        World { latch: Latch::new(4), dead: std::sync::Arc::new(Atom::new(0)) }
    }

    fn attach(&self, seat: u32) -> Handle {
        Lock::attach(self.latch.clone(), Owner::new(seat, 1), seat + 10)
    }

    fn bury(&self, seat: u32) {
        self.dead.fetch_or(1 << seat, Ordering::Release);
        self.latch.bell().ring_anyway();
    }

    fn is_dead(&self, owner: Owner) -> bool {
        owner != Owner::NOBODY && self.dead.load(Ordering::Acquire) & 1 << owner.seat() != 0
    }

    /// Waits for the lock, as `shm` does: polls, and looks before each sleep whether who has it lives.
    fn wait(&self, lock: &Handle) -> Held {
        let mut waiter = Waiter::new(WaitPolicy::Sleep, Prices { spin: 1, give_way: 1, wake: 1 }, true);
        for _ in 0..4 {
            let (mut held, owner) = (None, std::cell::Cell::new(Owner::NOBODY));
            let ready = || match lock.poll() {
                Ok(taken) => {
                    held = Some(taken);
                    true
                }
                Err(other) => {
                    owner.set(other);
                    false
                }
            };
            let idle = |stage| match stage {
                Stage::Asleep if self.is_dead(owner.get()) => Err(()),
                _ => Ok(u64::MAX),
            };
            if waiter.wait(self.latch.bell(), ready, || false, idle).is_ok() {
                return held.expect("it is ready when it is taken");
            }
            if let Some(held) = lock.inherit(owner.get()) {
                return held;
            }
        }
        panic!("as often as anybody died others inherited")
    }

    /// What is done with the lock; says what was there. Torn is allowed only with news.
    fn inside(&self, lock: &Handle, held: Held) -> u64 {
        let (one, two) = (self.latch.read(0), self.latch.read(1));
        assert!(one == two || held.culprit().is_some(), "{one} and {two}, and nobody is to blame");
        self.latch.write(0, one.max(two) + 1);
        self.latch.write(1, one.max(two) + 1);
        lock.free(held, State::Whole).expect("ours");
        one.max(two)
    }
}

/// `parties` threads and the main one have the lock `rounds` times each.
fn exclusion(parties: u32, rounds: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new();
        let all: Vec<_> = (1..=parties)
            .map(|seat| (seat, world.clone()))
            .map(|(seat, world)| {
                thread::spawn(move || {
                    let lock = world.attach(seat);
                    (0..rounds).for_each(|_| _ = world.inside(&lock, world.wait(&lock)));
                })
            })
            .collect();
        let lock = world.attach(0);
        (0..rounds).for_each(|_| _ = world.inside(&lock, world.wait(&lock)));
        all.into_iter().for_each(|t| t.join().expect("it has had the lock"));
        let held = lock.try_take().expect("it is free in the end");
        assert_eq!(world.inside(&lock, held), u64::from((parties + 1) * rounds), "a turn was lost");
    })
}

/// Somebody comes by while the owner gives back and one waits.
fn passer_by(bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new();
        let mine = world.attach(0);
        let held = mine.try_take().expect("free");
        let waiter = {
            let world = world.clone();
            thread::spawn(move || {
                let lock = world.attach(1);
                world.inside(&lock, world.wait(&lock))
            })
        };
        let passer = {
            let world = world.clone();
            thread::spawn(move || {
                let lock = world.attach(2);
                lock.try_take().map(|held| world.inside(&lock, held)).is_ok()
            })
        };
        world.inside(&mine, held);
        let came = passer.join().expect("it comes by");
        let found = waiter.join().expect("it has had the lock");
        assert!(found == 1 || came && found == 2);
    })
}

/// The owner dies before its operation `k`; of two that wait, both have the lock, one after the other.
fn owner_dies(k: usize, heirs: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new();
        let victim = {
            let world = world.clone();
            thread::spawn(move || {
                let done = until(k, || {
                    let lock = world.attach(3);
                    if let Ok(held) = lock.try_take() {
                        world.inside(&lock, held);
                    }
                });
                world.bury(3);
                done.is_some()
            })
        };
        let other = (heirs > 1).then(|| {
            let world = world.clone();
            thread::spawn(move || {
                let lock = world.attach(1);
                world.inside(&lock, world.wait(&lock))
            })
        });
        let lock = world.attach(0);
        world.inside(&lock, world.wait(&lock));
        if let Some(other) = other {
            other.join().expect("it has had the lock");
        }
        victim.join().expect("it dies");
    })
}

/// The owner has died with the lock. A newcomer to its seat recovers it and goes; a third, who knows nothing of all
/// that, takes it.
fn newcomer(bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new();
        let victim = {
            let world = world.clone();
            thread::spawn(move || {
                let lock = world.attach(1);
                let _never_given_back = lock.try_take().expect("free");
                world.latch.write(0, 7);
                world.bury(1);
            })
        };
        let newcomer = {
            let world = world.clone();
            thread::spawn(move || {
                let dead = Owner::new(1, 1);
                if look(2, || world.is_dead(dead)) {
                    assert!(Handle::recover(&world.latch, dead), "it had the lock");
                }
            })
        };
        let lock = world.attach(0);
        if look(2, || lock.word().owner() == Owner::NOBODY && lock.word().culprit().is_some()) {
            let held = lock.try_take().expect("free");
            let culprit = held.culprit().expect("somebody died");
            assert_eq!((culprit.seat, culprit.pid, culprit.cause), (1, 11, Cause::Died));
            assert_eq!(world.latch.read(0), 7, "what the dead has written");
            lock.free(held, State::Whole).expect("ours");
        }
        victim.join().expect("it dies");
        newcomer.join().expect("it recovers");
    })
}

/// A handle goes from one thread to another, which takes the lock by it; the first one, with a handle of its own, is
/// not told that it has the lock itself.
fn moved(bound: Bound) -> u64 {
    explore(bound, move || {
        let world = World::new();
        let (first, second) = (world.attach(0), Lock::attach(world.latch.clone(), Owner::new(1, 1), 10));
        first.note(100);
        let held = first.try_take().expect("free");
        assert!(second.is_held_by_thread(100), "the first one has it");
        world.inside(&first, held);
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                first.note(200);
                let held = world.wait(&first);
                world.inside(&first, held);
            })
        };
        second.note(100);
        match second.try_take() {
            Ok(held) => _ = world.inside(&second, held),
            Err(_) => assert!(!second.is_held_by_thread(100), "another thread has it"),
        }
        other.join().expect("it has had the lock");
    })
}

/// All models of the lock.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(4)];
    let mut models = vec![
        Model::new("two have the lock", 5, &[Some(7), None], |b| exclusion(1, 1, b)),
        Model::new("two have the lock, twice each", 4, &[Some(5)], |b| exclusion(1, 2, b)),
        Model::new("three have the lock", 2, &[Some(3)], |b| exclusion(2, 1, b)),
        Model::new("one waits, one comes by", 3, &[Some(4)], passer_by),
        Model::new("a newcomer gives back what the dead had", 3, long, newcomer),
        Model::new("a handle goes to another thread", 4, &[Some(6)], moved),
    ];
    for k in 2..9 {
        let name = format!("the owner dies before its operation {k}, one waits");
        models.push(Model::new(name, 4, &[Some(6)], move |b| owner_dies(k, 1, b)));
    }
    for k in [2, 5, 7] {
        let name = format!("the owner dies before its operation {k}, two wait");
        models.push(Model::new(name, 2, &[Some(3)], move |b| owner_dies(k, 2, b)));
    }
    models
}
