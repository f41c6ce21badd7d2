//! A ring of many with its bells: whoever sleeps for a message, for room, or for the end, is woken by whatever brings
//! it. Loom calls it a deadlock if somebody sleeps on beside it.

use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::thread;
use sapwood_core::mem::Ordering::{Acquire, Release};
use sapwood_core::owner::Owner;
use sapwood_core::ring::bells::Bells;
use sapwood_core::ring::mpmc::Peers;
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::Mpmc;
use sapwood_core::wait::{Prices, WaitPolicy, Waiter};

use super::{Bound, Model};
use crate::attached::handle;
use crate::explore;
use crate::family::{Loom, until};

/// Death as the kernel reports it, of seat 1.
#[derive(Clone)]
struct Eyes(Arc<AtomicBool>);

impl Peers<u64> for Eyes {
    fn alive(&mut self, owner: Owner) -> bool {
        owner.seat() != 1 || !self.0.load(Acquire)
    }
    fn orphan(&mut self, _: u64, _: Owner, value: u64) {
        panic!("nobody dies reading {value}");
    }
}

/// What the parties of a channel share.
#[derive(Clone)]
struct Room {
    ring: Mpmc<Loom, u64>,
    bells: Arc<Bells<Loom>>,
    eyes: Eyes,
}

impl Room {
    /// Positions and epochs that are about to wrap.
    fn new(capacity: usize) -> Room {
        let ring = Mpmc::new(capacity, u64::MAX, 0).expect("a capacity that a ring can have");
        let bells = Arc::new(Bells::new(u32::MAX >> 1));
        Room { ring, bells, eyes: Eyes(Arc::new(AtomicBool::new(false))) }
    }

    fn spawn<V: 'static>(&self, body: impl FnOnce(Room) -> V + 'static) -> thread::JoinHandle<V> {
        let room = self.clone();
        thread::spawn(move || body(room))
    }

    fn waiter() -> Waiter {
        Waiter::new(WaitPolicy::Sleep, Prices { spin: 1, give_way: 1, wake: 1 }, true)
    }

    /// Sleeps until there is room; `false`: closed.
    fn send(&self, seat: u32, value: u64) -> bool {
        let (mut h, mut eyes, mut said) = (handle(&self.ring, seat), self.eyes.clone(), None);
        let ready = || {
            said = match h.try_push(value, &mut eyes) {
                Ok(_) => Some(true),
                Err(PushError::Closed(_)) => Some(false),
                Err(_) => None,
            };
            said.is_some()
        };
        let waited: Result<(), ()> =
            Self::waiter().wait(self.bells.not_full(), ready, || false, |_| Ok(u64::MAX));
        assert_eq!(waited, Ok(()));
        let sent = said.expect("it is ready");
        if sent {
            self.bells.pushed();
        }
        sent
    }

    /// Sleeps until there is a message; `None`: drained.
    fn recv(&self, seat: u32) -> Option<u64> {
        let (mut h, mut eyes, mut said) = (handle(&self.ring, seat), self.eyes.clone(), None);
        let ready = || {
            said = match h.try_pop(&mut eyes) {
                Ok((_, value)) => Some(Some(value)),
                Err(PopError::Drained) => Some(None),
                Err(_) => None,
            };
            said.is_some()
        };
        let waited: Result<(), ()> =
            Self::waiter().wait(self.bells.not_empty(), ready, || false, |_| Ok(u64::MAX));
        assert_eq!(waited, Ok(()));
        let got = said.expect("it is ready");
        if got.is_some() {
            self.bells.popped(|| h.is_closed());
        }
        got
    }

    fn close(&self, seat: u32) {
        handle(&self.ring, seat).close();
        self.bells.closed();
    }
}

/// A reader sleeps for a message, its sender for room: two messages through one place.
fn one_place(bound: Bound) -> u64 {
    explore(bound, || {
        let room = Room::new(1);
        let sender = room.spawn(|r| [1, 2].map(|v| r.send(1, v)));
        assert_eq!([room.recv(0), room.recv(0)], [Some(1), Some(2)]);
        assert_eq!(sender.join().expect("it sent"), [true; 2]);
    })
}

/// Two readers sleep; each gets the message or, later, the end.
fn two_readers(bound: Bound) -> u64 {
    explore(bound, || {
        let room = Room::new(2);
        let readers = [2, 3].map(|seat| room.spawn(move |r| r.recv(seat)));
        assert!(room.send(0, 7));
        room.close(0);
        let mut got = readers.map(|r| r.join().expect("it woke"));
        got.sort_unstable();
        assert_eq!(got, [None, Some(7)]);
    })
}

/// A sender sleeps for room that never comes.
fn close_for_a_sender(bound: Bound) -> u64 {
    explore(bound, || {
        let room = Room::new(1);
        assert!(room.send(0, 1));
        let sender = room.spawn(|r| r.send(1, 2));
        room.close(0);
        assert!(!sender.join().expect("it woke"));
    })
}

/// A reader sleeps for a message that never comes.
fn close_for_a_reader(bound: Bound) -> u64 {
    explore(bound, || {
        let room = Room::new(1);
        let reader = room.spawn(|r| r.recv(1));
        room.close(0);
        assert_eq!(reader.join().expect("it woke"), None);
    })
}

/// A reader sleeps for the end, which another one, who takes the last message, holds up.
fn the_last_place(bound: Bound) -> u64 {
    explore(bound, || {
        let room = Room::new(1);
        assert!(room.send(0, 1));
        room.close(0);
        let readers = [1, 2].map(|seat| room.spawn(move |r| r.recv(seat)));
        let mut got = readers.map(|r| r.join().expect("it woke"));
        got.sort_unstable();
        assert_eq!(got, [None, Some(1)]);
    })
}

/// A sender dies before its operation `k`, and a reader sleeps: whoever learns of the death rings unasked, and sends
/// without a ring of its own.
fn dead_sender(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let room = Room::new(2);
        let reader = room.spawn(|r| r.recv(2));
        let victim = room.spawn(move |r| {
            let (mut h, mut eyes) = (handle(&r.ring, 1), r.eyes.clone());
            until(k, || {
                h.try_push(1, &mut eyes).expect("room");
                r.bells.pushed();
            });
            r.eyes.0.store(true, Release);
        });
        victim.join().expect("killed");
        let (mut h, mut eyes) = (handle(&room.ring, 0), room.eyes.clone());
        h.recover(Owner::new(1, 1), &mut eyes);
        h.try_push(2, &mut eyes).expect("room");
        room.bells.recovered();
        assert!(reader.join().expect("it woke").is_some());
    })
}

/// All models of the bells.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(3)];
    let mut models = vec![
        Model::new("bells: two messages through one place", 2, long, one_place),
        Model::new("bells: two readers, one message, and the end", 1, &[Some(2)], two_readers),
        Model::new("bells: a close, and a sender that sleeps for room", 2, long, close_for_a_sender),
        Model::new("bells: a close, and a reader that sleeps for a message", 2, long, close_for_a_reader),
        Model::new("bells: the end, behind the last message of a closed ring", 2, long, the_last_place),
    ];
    models.extend((0..=8).map(|k| {
        Model::new(format!("bells: a sender dies before operation {k}"), 2, long, move |b| dead_sender(k, b))
    }));
    models
}
