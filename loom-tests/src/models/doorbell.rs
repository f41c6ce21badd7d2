//! The doorbell: a sleeper never stays asleep beside what it waits for. Loom calls it a deadlock if one does.
//!
//! Sleepers wait through [`Waiter`], the code that ships. Messages are relaxed words: the bell alone must see to it
//! that they are found.

use std::sync::Arc;

use loom::thread;
use sapwood_core::doorbell::Doorbell;
use sapwood_core::mem::{Atom, Bug, Mem, Ordering};
use sapwood_core::wait::{Prices, WaitPolicy, Waiter};

use super::{Bound, Model};
use crate::explore;
use crate::family::{Loom, until};

type Word = <Loom as Mem>::U64;

struct Room {
    bell: Doorbell<Loom>,
    messages: [Word; 2],
}

impl Room {
    fn new(epoch: u32) -> Arc<Self> {
        Arc::new(Room { bell: Doorbell::new(epoch), messages: [Word::new(0), Word::new(0)] })
    }

    fn sleep_until(&self, ready: impl FnMut() -> bool) {
        let mut waiter = Waiter::new(WaitPolicy::Sleep, Prices { spin: 1, give_way: 1, wake: 1 }, true);
        let waited: Result<(), ()> = waiter.wait(&self.bell, ready, || false, |_| Ok(u64::MAX));
        assert_eq!(waited, Ok(()));
    }

    fn published(&self, i: usize, at_least: u64) -> bool {
        self.messages[i].load(Ordering::Relaxed) >= at_least
    }

    fn publish(&self, i: usize, v: u64) {
        self.messages[i].store(v, Ordering::Relaxed);
        self.bell.ring();
    }
}

/// One waker, two sleepers on one message.
pub fn two_sleepers(epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(epoch);
        let sleepers: Vec<_> = (0..2)
            .map(|_| room.clone())
            .map(|r| thread::spawn(move || r.sleep_until(|| r.published(0, 1))))
            .collect();
        room.publish(0, 1);
        sleepers.into_iter().for_each(|s| s.join().expect("the sleeper woke"));
    })
}

/// Two wakers with a message each; the sleeper needs both.
pub fn two_wakers(epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(epoch);
        let wakers: Vec<_> =
            (0..2).map(|i| (i, room.clone())).map(|(i, r)| thread::spawn(move || r.publish(i, 1))).collect();
        room.sleep_until(|| room.published(0, 1) && room.published(1, 1));
        wakers.into_iter().for_each(|w| w.join().expect("the waker returned"));
    })
}

/// One waker sends twice; the sleeper waits for each message in turn, so the second sleep is on the next epoch.
pub fn again(epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(epoch);
        let waker = {
            let r = room.clone();
            thread::spawn(move || (1..=2).for_each(|v| r.publish(0, v)))
        };
        (1..=2).for_each(|v| room.sleep_until(|| room.published(0, v)));
        waker.join().expect("the waker returned");
    })
}

/// A waker dies before its operation `k`; whoever learns of it rings anyway, and publishes what it had not.
pub fn dead_waker(k: usize, epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(epoch);
        let sleeper = {
            let r = room.clone();
            thread::spawn(move || r.sleep_until(|| r.published(0, 1)))
        };
        let victim = {
            let r = room.clone();
            thread::spawn(move || until(k, || r.publish(0, 1)).is_some())
        };
        // The death is later than all that the dead did.
        let finished = victim.join().expect("killed, not panicked");
        if !room.published(0, 1) {
            assert!(k == 0 && !finished, "a message was lost");
            room.messages[0].store(1, Ordering::Relaxed);
        }
        room.bell.ring_anyway();
        sleeper.join().expect("the sleeper woke");
    })
}

/// A waker rings while another recovers: the recoverer may lose its races, and its wake still covers everybody.
pub fn ring_beside_recovery(epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(epoch);
        let sleeper = {
            let r = room.clone();
            thread::spawn(move || r.sleep_until(|| r.published(0, 1) && r.published(1, 1)))
        };
        let recoverer = {
            let r = room.clone();
            thread::spawn(move || {
                r.messages[1].store(1, Ordering::Relaxed);
                r.bell.ring_anyway();
            })
        };
        room.publish(0, 1);
        recoverer.join().expect("the recoverer returned");
        sleeper.join().expect("the sleeper woke");
    })
}

/// Two bells, a waker at each; the sleeper waits at both for either message, and then for the other: as `select` does.
pub fn either(epoch: u32, bound: Bound) -> u64 {
    explore(bound, move || {
        let rooms = [Room::new(epoch), Room::new(epoch)];
        let wakers = rooms.clone().map(|r| thread::spawn(move || r.publish(0, 1)));
        for wanted in 1..=2 {
            let found = || rooms.iter().filter(|r| r.published(0, 1)).count() >= wanted;
            // Each turn but the last was woken by a bell, or found one that had been rung.
            while !found() {
                let announced = [rooms[0].bell.announce(), rooms[1].bell.announce()];
                if !Loom::broken(Bug::BellNoSecondLook) && found() {
                    break;
                }
                let bells = rooms.iter().map(|r| &r.bell).zip(announced);
                Doorbell::sleep_any(bells, u64::MAX);
            }
        }
        wakers.into_iter().for_each(|w| w.join().expect("the waker returned"));
    })
}

/// The last epoch before the wrap.
const LAST: u32 = u32::MAX >> 1;

/// All models of the doorbell.
pub fn all() -> Vec<Model> {
    let (long, longest): (&[Bound], &[Bound]) = (&[Some(4)], &[Some(4), None]);
    let mut models = vec![
        Model::new("two sleepers, one waker", 3, long, |b| two_sleepers(0, b)),
        Model::new("two sleepers, one waker, at the wrap", 3, longest, |b| two_sleepers(LAST, b)),
        Model::new("one sleeper, two wakers", 3, long, |b| two_wakers(0, b)),
        Model::new("one sleeper, two wakers, at the wrap", 3, long, |b| two_wakers(LAST - 1, b)),
        Model::new("two messages in turn, across the wrap", 3, longest, |b| again(LAST, b)),
        Model::new("one sleeper at two bells, across the wrap", 2, long, |b| either(LAST, b)),
        Model::new("a ring beside a recovery", 3, long, |b| ring_beside_recovery(LAST, b)),
    ];
    models.extend((0..=5).map(|k| {
        Model::new(format!("a waker dies before operation {k}"), 3, longest, move |b| dead_waker(k, LAST, b))
    }));
    models
}
