//! The ring of many to many: weak memory, deaths, recovery for others, exact answers, and closing.

use std::sync::{Arc, Mutex};

use loom::sync::atomic::AtomicBool;
use loom::thread;
use sapwood_core::mem::Ordering::{Acquire, Release};
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc::Peers;
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::Mpmc;
use sapwood_core::testing::explore::mpmc::scenarios::{STALE, Scenario, THREE, TWO};

use super::{Bound, Model};
use crate::attached::{Handle, handle};
use crate::explore;
use crate::family::{Loom, until};

/// Death as the kernel reports it: whatever the dead did happened before it is known to be dead.
#[derive(Clone)]
struct Eyes(Arc<(Vec<AtomicBool>, Mutex<Vec<u64>>)>);

impl Peers<u64> for Eyes {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.0.0[owner.seat() as usize].load(Acquire)
    }
    fn orphan(&mut self, _: u64, _: Owner, value: u64) {
        self.0.1.lock().expect("nobody panics under it").push(value);
    }
}

impl Eyes {
    fn new() -> Eyes {
        Eyes(Arc::new(((0..4).map(|_| AtomicBool::new(false)).collect(), Mutex::new(Vec::new()))))
    }

    fn died(&self, seat: usize) {
        self.0.0[seat].store(true, Release);
    }

    fn orphans(&self) -> Vec<u64> {
        self.0.1.lock().expect("nobody panics under it").clone()
    }
}

type Ring = Mpmc<Loom, u64>;

/// A ring whose positions are about to wrap, and eyes.
fn ring(capacity: usize) -> (Ring, Eyes) {
    (Mpmc::new(capacity, u64::MAX, 0).expect("a capacity that a ring can have"), Eyes::new())
}

/// Empties the ring after everyone else is done; then the whole capacity must be there.
fn drain(h: &mut Handle, eyes: &mut Eyes) -> Vec<u64> {
    let mut got = Vec::new();
    while let Ok((_, v)) = h.try_pop(eyes) {
        got.push(v);
    }
    assert_eq!(h.try_pop(eyes), Err(PopError::Empty), "wedged");
    for i in 0..h.capacity() as u64 {
        h.try_push(90 + i, eyes).expect("wedged");
    }
    assert_eq!(h.try_push(9, eyes), Err(PushError::Full(9)));
    for i in 0..h.capacity() as u64 {
        assert_eq!(h.try_pop(eyes).map(|m| m.1), Ok(90 + i));
    }
    got
}

fn spawn<V: 'static>(
    ring: &Ring,
    eyes: &Eyes,
    body: impl FnOnce(Ring, Eyes) -> V + 'static,
) -> thread::JoinHandle<V> {
    let (ring, eyes) = (ring.clone(), eyes.clone());
    thread::spawn(move || body(ring, eyes))
}

fn push(ring: &Ring, seat: u32, value: u64, mut eyes: Eyes) -> bool {
    handle(ring, seat).try_push(value, &mut eyes).is_ok()
}

/// Two producers and a consumer.
fn two_producers(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(capacity);
        let producers = [1, 2].map(|v| spawn(&ring, &eyes, move |r, e| push(&r, v as u32, v, e)));
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        let mut got: Vec<u64> = (0..2).filter_map(|_| h.try_pop(&mut eyes).ok()).map(|m| m.1).collect();
        let sent: Vec<u64> = producers
            .into_iter()
            .zip([1, 2])
            .filter_map(|(t, v)| t.join().expect("it returned").then_some(v))
            .collect();
        got.extend(drain(&mut h, &mut eyes));
        got.sort_unstable();
        assert_eq!(got, sent);
    })
}

/// A producer and two consumers; each consumer sees its messages in order.
fn two_consumers(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(capacity);
        let producer = spawn(&ring, &eyes, |r, mut e| {
            let mut h = handle(&r, 1);
            [1, 2].map(|v| h.try_push(v, &mut e).is_ok())
        });
        let consumer = spawn(&ring, &eyes, |r, mut e| handle(&r, 2).try_pop(&mut e).ok());
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        let mut got: Vec<u64> = (0..2).filter_map(|_| h.try_pop(&mut eyes).ok()).map(|m| m.1).collect();
        let sent = producer.join().expect("it returned").into_iter().zip([1, 2]);
        let sent: Vec<u64> = sent.filter_map(|(ok, v)| ok.then_some(v)).collect();
        let other = consumer.join().expect("it returned");
        got.extend(drain(&mut h, &mut eyes));
        assert!(got.is_sorted());
        got.extend(other.map(|m| m.1));
        got.sort_unstable();
        assert_eq!(got, sent);
    })
}

/// A producer dies before its operation `k`, a second producer comes to the same slot, a third party pops.
fn producer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(1);
        let victim = spawn(&ring, &eyes, move |r, e| {
            let sent = until(k, || push(&r, 1, 1, e.clone())) == Some(true);
            e.died(1);
            sent
        });
        let producer = spawn(&ring, &eyes, |r, e| push(&r, 2, 2, e));
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        let mut got: Vec<u64> = h.try_pop(&mut eyes).into_iter().map(|m| m.1).collect();
        let (one, two) = (victim.join().expect("killed"), producer.join().expect("it returned"));
        got.extend(drain(&mut h, &mut eyes));
        got.sort_unstable();
        assert!(!one || got.contains(&1), "a push that returned is lost");
        assert_eq!(two, got.contains(&2));
        assert!(got.iter().all(|v| [1, 2].contains(v)) && got.windows(2).all(|w| w[0] != w[1]), "{got:?}");
    })
}

/// A consumer dies before its operation `k` in a full ring, a producer comes round to its slot, a third recovers.
fn consumer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(1);
        let (mut h, mut mine) = (handle(&ring, 0), eyes.clone());
        h.try_push(1, &mut mine).expect("an empty ring");
        let victim = spawn(&ring, &eyes, move |r, mut e| {
            let got = until(k, || handle(&r, 1).try_pop(&mut e).ok()).flatten();
            e.died(1);
            got
        });
        let producer = spawn(&ring, &eyes, |r, e| push(&r, 2, 2, e));
        if !mine.alive(Owner::new(1, 1)) {
            h.recover(Owner::new(1, 1), &mut mine);
        }
        let mut got: Vec<u64> = h.try_pop(&mut mine).into_iter().map(|m| m.1).collect();
        let (one, two) = (victim.join().expect("killed"), producer.join().expect("it returned"));
        got.extend(drain(&mut h, &mut mine));
        got.extend(one.map(|m| m.1));
        let all = [got, eyes.orphans()].concat();
        let of = |x: u64| all.iter().filter(|v| **v == x).count();
        assert_eq!(of(1), 1, "k = {k}");
        assert_eq!(of(2), usize::from(two));
    })
}

/// "Empty" is exact: who was told of a push finds the ring not empty.
fn told_of_a_push(bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(2);
        let told = Arc::new(AtomicBool::new(false));
        let one = spawn(&ring, &eyes, |r, e| assert!(push(&r, 1, 1, e)));
        let two = {
            let told = told.clone();
            spawn(&ring, &eyes, move |r, e| {
                assert!(push(&r, 2, 2, e));
                told.store(true, Release);
            })
        };
        let mut h = handle(&ring, 0);
        if told.load(Acquire) {
            assert_ne!(h.try_pop(&mut eyes.clone()), Err(PopError::Empty), "empty, after a push");
        }
        one.join().expect("it pushed");
        two.join().expect("it pushed");
    })
}

/// "Full" is exact: who was told of the second pop knows that the oldest slot is being given back.
fn told_of_a_pop(bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(2);
        let (mut h, mut mine) = (handle(&ring, 0), eyes.clone());
        h.try_push(1, &mut mine).expect("an empty ring");
        h.try_push(2, &mut mine).expect("a place more");
        let told = Arc::new(AtomicBool::new(false));
        let one = spawn(&ring, &eyes, |r, mut e| handle(&r, 1).try_pop(&mut e).is_ok());
        let two = {
            let told = told.clone();
            spawn(&ring, &eyes, move |r, mut e| {
                if let Ok((0, 2)) = handle(&r, 2).try_pop(&mut e) {
                    told.store(true, Release);
                }
            })
        };
        if told.load(Acquire) {
            assert_ne!(h.try_push(3, &mut mine), Err(PushError::Full(3)), "full, after a pop");
        }
        assert!(one.join().expect("it returned"));
        two.join().expect("it returned");
    })
}

/// A producer died before its operation `k`; one party recovers while a producer that never asked comes to the slot.
fn skipped_for_another(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(1);
        let victim = spawn(&ring, &eyes, move |r, e| {
            until(k, || push(&r, 1, 1, e.clone()));
            e.died(1);
        });
        let producer = spawn(&ring, &eyes, |r, e| push(&r, 2, 2, e));
        victim.join().expect("killed");
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        h.recover(Owner::new(1, 1), &mut eyes);
        let sent = producer.join().expect("it returned");
        assert_eq!(sent, drain(&mut h, &mut eyes).contains(&2));
    })
}

/// A consumer died before its operation `k`; one party takes its orphan while a producer comes to the slot.
fn taken_for_another(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(1);
        // The message comes from a thread of its own: nobody is ordered after it by other means.
        let sender = spawn(&ring, &eyes, |r, e| _ = push(&r, 3, 1, e));
        let victim = spawn(&ring, &eyes, move |r, mut e| {
            until(k, || handle(&r, 1).try_pop(&mut e).is_ok());
            e.died(1);
        });
        let producer = spawn(&ring, &eyes, |r, e| push(&r, 2, 2, e));
        victim.join().expect("killed");
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        h.recover(Owner::new(1, 1), &mut eyes);
        sender.join().expect("it returned");
        producer.join().expect("it returned");
        drain(&mut h, &mut eyes);
    })
}

/// What a consumer found in `tries` looks: messages, and whether it was told that nothing will come.
fn receive(h: &mut Handle, eyes: &mut Eyes, tries: usize) -> (Vec<u64>, bool) {
    let mut got = Vec::new();
    for _ in 0..tries {
        match h.try_pop(eyes) {
            Ok((_, v)) => got.push(v),
            Err(PopError::Drained) => return (got, true),
            Err(_) => (),
        }
    }
    (got, false)
}

/// One producer, one closer and two consumers: a push that returned is received or stays readable, after "drained"
/// nothing comes, and nobody pushes into a ring that is drained.
fn close_against_send(capacity: usize, own: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(capacity);
        let producer = spawn(&ring, &eyes, move |r, mut e| {
            let mut h = handle(&r, 1);
            let sent = h.try_push(1, &mut e).is_ok();
            if own {
                h.close();
                assert_eq!(h.try_push(2, &mut e), Err(PushError::Closed(2)));
            }
            sent
        });
        let closer = (!own).then(|| spawn(&ring, &eyes, |r, _| handle(&r, 3).close()));
        let consumer = spawn(&ring, &eyes, |r, mut e| receive(&mut handle(&r, 2), &mut e, 1));
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        let (mut got, drained) = receive(&mut h, &mut eyes, 2);
        let sent = producer.join().expect("it returned");
        if let Some(closer) = closer {
            closer.join().expect("it closed");
        }
        let (other, also) = consumer.join().expect("it returned");
        let (late, end) = receive(&mut handle(&ring, 0), &mut eyes, capacity + 1);
        assert!(end, "closed and empty, and not drained");
        assert!(late.is_empty() || !drained && !also, "{late:?} came after the end");
        got.extend(other);
        got.extend(late);
        assert_eq!(got, vec![1; usize::from(sent)], "what was sent is what was received");
        assert_eq!(h.try_push(3, &mut eyes), Err(PushError::Closed(3)));
    })
}

/// A producer dies before its operation `k` beside a close: the end comes all the same.
fn close_against_death(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, eyes) = ring(1);
        let victim = spawn(&ring, &eyes, move |r, e| {
            let sent = until(k, || push(&r, 1, 1, e.clone())) == Some(true);
            e.died(1);
            sent
        });
        let closer = spawn(&ring, &eyes, |r, _| handle(&r, 3).close());
        let (mut h, mut eyes) = (handle(&ring, 0), eyes);
        let (mut got, drained) = receive(&mut h, &mut eyes, 2);
        let sent = victim.join().expect("killed");
        closer.join().expect("it closed");
        let (late, end) = receive(&mut h, &mut eyes, 3);
        assert!(end && (late.is_empty() || !drained));
        got.extend(late);
        assert!(!sent || got == [1], "a push that returned is lost");
        assert!(got.len() <= 1);
    })
}

/// All models of the ring of many to many.
pub fn all() -> Vec<Model> {
    let (long, longer): (&[Bound], &[Bound]) = (&[Some(3)], &[Some(4), None]);
    let mut models = vec![
        Model::new("mpmc: two producers, capacity 1", 3, longer, |b| two_producers(1, b)),
        Model::new("mpmc: two producers, capacity 2", 3, longer, |b| two_producers(2, b)),
        Model::new("mpmc: two consumers, capacity 1", 3, longer, |b| two_consumers(1, b)),
        Model::new("mpmc: two consumers, capacity 2", 3, longer, |b| two_consumers(2, b)),
        Model::new("mpmc: told of a push", 3, longer, told_of_a_push),
        Model::new("mpmc: told of a pop", 3, longer, told_of_a_pop),
        Model::new("mpmc: close against send, capacity 1", 1, long, |b| close_against_send(1, false, b)),
        Model::new("mpmc: close against send, capacity 2", 1, long, |b| close_against_send(2, false, b)),
        Model::new("mpmc: send, then close, capacity 1", 3, longer, |b| close_against_send(1, true, b)),
    ];
    let mut each = |name: &str, ks: std::ops::RangeInclusive<usize>, bound, run: fn(usize, Bound) -> u64| {
        for k in ks {
            models.push(Model::new(format!("mpmc: {name} {k}"), bound, &[Some(3)], move |b| run(k, b)));
        }
    };
    each("a producer dies before operation", 0..=8, 2, producer_dies);
    each("skipped for another, at operation", 2..=8, 2, skipped_for_another);
    each("a consumer dies before operation", 2..=8, 2, consumer_dies);
    each("taken for another, at operation", 3..=7, 2, taken_for_another);
    each("close against a death at operation", 3..=7, 2, close_against_death);
    models
}

/// What the explorer of schedules has instead of weak memory: short scenarios, for the mutants.
pub fn explored() -> Vec<Model> {
    let scenarios =
        TWO.iter().chain(THREE).chain(STALE).flat_map(|s| s.shifts.iter().map(move |shift| (*s, *shift)));
    let model = |(scenario, shift): (Scenario, u32)| {
        let name = format!("explorer: {}, capacity {}", scenario.name, 1 << shift);
        Model::new(name, 0, &[], move |_| match scenario.explore(shift, u64::MAX) {
            Ok(report) => report.steps,
            Err(said) => panic!("{said}"),
        })
    };
    scenarios.map(model).collect()
}
