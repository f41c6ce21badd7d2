//! The queue between threads: what it does to values of any type, on the memory that ships.
#![allow(missing_docs)]
#![allow(clippy::disallowed_types)] // the counters are the tests' own

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sapwood_shm::Error;
use sapwood_shm::ring::local::Queue;
use sapwood_shm::ring::{CapacityError, PopError, PushError};

/// Counts how many of its kind live, and panics in `drop` where it is told to.
#[derive(Debug)]
struct Counted {
    number: usize,
    live: Arc<AtomicUsize>,
    panics: bool,
}

impl Counted {
    fn new(number: usize, live: &Arc<AtomicUsize>) -> Counted {
        Counted::angry(number, false, live)
    }

    /// One that may not want to go.
    fn angry(number: usize, panics: bool, live: &Arc<AtomicUsize>) -> Counted {
        live.fetch_add(1, Ordering::Relaxed);
        Counted { number, live: live.clone(), panics }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        assert!(!self.panics, "value {} does not want to go", self.number);
    }
}

fn live() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(0))
}

#[test]
fn capacities_are_powers_of_two_and_have_bounds() {
    for (asked, real) in [(1, 1), (2, 2), (3, 4), (1000, 1024)] {
        assert_eq!(Queue::<u8>::new(asked).expect("memory").capacity(), real);
    }
    let none = Queue::<u8>::new(0).expect_err("no place");
    assert!(matches!(none, Error::Capacity(CapacityError::Zero)), "{none}");
    let asked = usize::MAX / 2;
    let much = Queue::<u8>::new(asked).expect_err("too large");
    assert!(
        matches!(much, Error::Capacity(CapacityError::TooLarge { asked: a, .. }) if a == asked),
        "{much}"
    );
    let need = Queue::<[u64; 4096]>::new(1 << 25).expect_err("a TiB");
    assert!(matches!(need, Error::NoSpace { need, have, .. } if need > have), "{need}");
}

/// Numbers of a fixed sequence, so that a failure comes back.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Whatever one thread does, in whatever order, is what a bounded deque would do.
#[test]
fn behaves_as_a_deque() {
    for seed in 0..200 {
        let (mut dice, mut next) = (Dice(seed), 0u64);
        let queue = Queue::new(1 + dice.roll(9) as usize).expect("memory");
        let (mut model, most) = (VecDeque::new(), queue.capacity());
        for _ in 0..400 {
            let n = dice.roll(most as u64 + 3);
            match dice.roll(4) {
                0 => {
                    let said = queue.try_push(next.to_string());
                    if model.len() < most {
                        assert_eq!(said, Ok(()));
                        model.push_back(next.to_string());
                    } else {
                        assert_eq!(said, Err(PushError::Full(next.to_string())));
                    }
                    next += 1;
                }
                1 => assert_eq!(queue.try_pop(), model.pop_front().ok_or(PopError::Empty)),
                2 => {
                    let mut values = (next..next + n).map(|i| i.to_string()).collect::<Vec<_>>().into_iter();
                    let fit = (most - model.len()).min(n as usize);
                    let full = fit == 0 && n > 0;
                    assert_eq!(
                        queue.push_batch(&mut values),
                        if full { Err(PushError::Full(())) } else { Ok(fit) }
                    );
                    model.extend((next..next + fit as u64).map(|i| i.to_string()));
                    assert_eq!(values.len(), n as usize - fit, "the rest stays");
                    next += n;
                }
                _ => {
                    let mut got = VecDeque::new();
                    let said = queue.pop_batch(&mut got, n as usize);
                    let some = model.len().min(n as usize);
                    assert_eq!(said, if some == 0 && n > 0 { Err(PopError::Empty) } else { Ok(some) });
                    assert!(got.into_iter().eq(model.drain(..some)));
                }
            }
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
        }
        queue.close();
        assert_eq!(queue.push_batch(&mut Vec::new().into_iter()), Err(PushError::Closed(())));
        model.into_iter().for_each(|v| assert_eq!(queue.try_pop(), Ok(v)));
        assert_eq!(queue.try_pop(), Err(PopError::Drained));
    }
}

#[test]
fn what_is_left_is_dropped_with_the_last_handle() {
    let live = live();
    let queue = Queue::new(8).expect("memory");
    let other = queue.clone();
    for i in 0..11 {
        queue.try_push(Counted::new(i, &live)).expect("room");
        if i < 6 {
            assert_eq!(other.try_pop().expect("it is there").number, i);
        }
    }
    queue.close();
    drop(queue);
    assert_eq!(live.load(Ordering::Relaxed), 5);
    drop(other);
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn a_value_whose_drop_panics_takes_nothing_along() {
    let live = live();
    let queue = Queue::new(4).expect("memory");
    for i in 0..4 {
        queue.try_push(Counted::angry(i, i == 1, &live)).expect("room");
    }
    let thrown = catch_unwind(AssertUnwindSafe(move || drop(queue))).expect_err("it panics");
    assert!(thrown.downcast_ref::<String>().is_some_and(|s| s.contains("value 1")));
    assert_eq!(live.load(Ordering::Relaxed), 0, "the others went too");
}

/// A collection that has enough after `room` values, and panics.
struct Picky {
    room: usize,
    got: Vec<Counted>,
}

impl Extend<Counted> for Picky {
    fn extend<I: IntoIterator<Item = Counted>>(&mut self, values: I) {
        for value in values {
            assert!(self.got.len() < self.room, "no more");
            self.got.push(value);
        }
    }
}

#[test]
fn a_collection_that_panics_gets_what_it_took_and_the_places_come_back() {
    let live = live();
    let queue = Queue::new(4).expect("memory");
    for _ in 0..3 {
        (0..4).for_each(|i| queue.try_push(Counted::new(i, &live)).expect("room"));
        // The second value is in the collection's hands when it panics; those behind it are dropped by the queue.
        let mut picky = Picky { room: 1, got: Vec::new() };
        catch_unwind(AssertUnwindSafe(|| queue.pop_batch(&mut picky, 4))).expect_err("it panics");
        assert_eq!((picky.got.len(), live.load(Ordering::Relaxed), queue.len()), (1, 1, 0));
    }
}

/// A collection that takes two and leaves the rest.
#[derive(Default)]
struct Modest(Vec<Counted>);

impl Extend<Counted> for Modest {
    fn extend<I: IntoIterator<Item = Counted>>(&mut self, values: I) {
        self.0.extend(values.into_iter().take(2));
    }
}

#[test]
fn what_a_collection_leaves_is_dropped_also_where_a_drop_panics() {
    for panics in [false, true] {
        let live = live();
        let queue = Queue::new(4).expect("memory");
        for i in 0..4 {
            queue.try_push(Counted::angry(i, panics && i == 2, &live)).expect("room");
        }
        let mut modest = Modest::default();
        let result = catch_unwind(AssertUnwindSafe(|| queue.pop_batch(&mut modest, 4)));
        assert_eq!(result.is_err(), panics);
        assert_eq!((modest.0.len(), live.load(Ordering::Relaxed)), (2, 2));
        (0..4).for_each(|i| queue.try_push(Counted::new(i, &live)).expect("the places came back"));
    }
}

/// Says that it has `said` values, has `has`, and then panics or ends.
struct Liar {
    said: usize,
    has: usize,
    panics: bool,
    live: Arc<AtomicUsize>,
}

impl Iterator for Liar {
    type Item = Counted;
    fn next(&mut self) -> Option<Counted> {
        if self.has == 0 {
            assert!(!self.panics, "no more");
            return None;
        }
        self.has -= 1;
        Some(Counted::new(self.has, &self.live))
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.said, Some(self.said))
    }
}
impl ExactSizeIterator for Liar {}

#[test]
fn an_iterator_that_lies_or_panics_leaves_no_hole() {
    for (said, has, panics) in [(3, 1, false), (3, 0, false), (3, 2, true), (4, 0, true), (1, 3, false)] {
        let live = live();
        let queue = Queue::new(4).expect("memory");
        let mut liar = Liar { said, has, panics, live: live.clone() };
        let result = catch_unwind(AssertUnwindSafe(|| queue.push_batch(&mut liar)));
        let pushed = has.min(said);
        assert_eq!(result.ok(), (!panics).then_some(Ok(pushed)));
        assert_eq!(live.load(Ordering::Relaxed), pushed);
        (0..pushed).for_each(|_| drop(queue.try_pop().expect("it was pushed")));
        assert_eq!(queue.try_pop().err(), Some(PopError::Empty));
        (0..4).for_each(|i| queue.try_push(Counted::new(i, &live)).expect("all places came back"));
        assert!(queue.try_push(Counted::new(4, &live)).is_err());
        queue.close();
        (0..4).for_each(|i| assert_eq!(queue.try_pop().expect("it was pushed").number, i));
        assert_eq!(queue.try_pop().err(), Some(PopError::Drained));
    }
}

#[test]
fn values_without_bytes_long_ones_and_ones_that_are_not_sync() {
    let units = Queue::new(2).expect("memory");
    assert_eq!(
        (units.try_push(()), units.try_push(()), units.try_push(())),
        (Ok(()), Ok(()), Err(PushError::Full(())))
    );
    assert_eq!((units.try_pop(), units.try_pop(), units.try_pop()), (Ok(()), Ok(()), Err(PopError::Empty)));
    let long = Queue::new(2).expect("memory");
    long.try_push([7u64; 1000]).expect("room");
    assert_eq!(long.try_pop(), Ok([7; 1000]));
    // A Cell may go to another thread, but not be shared with it.
    let cells = Queue::new(1).expect("memory");
    let end = cells.clone();
    cells.try_push(Box::new(Cell::new(5))).expect("room");
    let got =
        thread::spawn(move || end.try_pop().expect("it is there").replace(6)).join().expect("it popped");
    assert_eq!(got, 5);
}

/// Two and two, with batches and single values: each consumer sees each producer's values in order, all come, once.
#[test]
fn two_and_two_threads_pass_everything_in_order() {
    const EACH: usize = 3_000;
    for capacity in [1, 8, 64] {
        let queue = Queue::new(capacity).expect("memory");
        let live = live();
        let produce = |who: usize| {
            let mut sent = 0;
            while sent < EACH {
                let batch = if sent % 7 == 0 { 5.min(EACH - sent) } else { 1 };
                let mut values: Vec<_> =
                    (sent..sent + batch).map(|i| (who, Counted::new(i, &live))).collect();
                sent += batch;
                let mut rest = values.drain(..);
                while rest.len() > 0 {
                    if queue.push_batch(&mut rest).is_err() {
                        thread::yield_now();
                    }
                }
            }
        };
        let consume = || {
            let (mut last, mut count) = ([None; 2], 0);
            loop {
                let mut got = Vec::new();
                match if count % 3 == 0 {
                    queue.pop_batch(&mut got, 4)
                } else {
                    queue.try_pop().map(|v| got.push(v)).map(|()| 1)
                } {
                    Ok(n) => assert_eq!(n, got.len()),
                    Err(PopError::Drained) => return count,
                    Err(_) => thread::yield_now(),
                }
                for (who, value) in got {
                    assert!(last[who] < Some(value.number), "out of order, or twice");
                    last[who] = Some(value.number);
                    count += 1;
                }
            }
        };
        let taken = thread::scope(|scope| {
            let consumers = [scope.spawn(consume), scope.spawn(consume)];
            let producers = [0, 1].map(|who| scope.spawn(move || produce(who)));
            producers.into_iter().for_each(|t| t.join().expect("it sent"));
            queue.close();
            consumers.map(|t| t.join().expect("it received")).iter().sum::<usize>()
        });
        assert_eq!((taken, live.load(Ordering::Relaxed)), (2 * EACH, 0));
    }
}

/// After `close` has returned, in whatever thread, no push succeeds; what succeeded before is popped before the end.
#[test]
fn closed_is_closed_for_every_thread() {
    for round in 0..40u64 {
        let queue = Queue::new(1 << (round % 4)).expect("memory");
        let sent = AtomicUsize::new(0);
        let got = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        match queue.try_push(round) {
                            Ok(()) => _ = sent.fetch_add(1, Ordering::Relaxed),
                            Err(PushError::Closed(_)) => break,
                            Err(_) => thread::yield_now(),
                        }
                    }
                });
            }
            let mut got = 0;
            while got < 50 {
                match queue.try_pop() {
                    Ok(_) => got += 1,
                    Err(_) => thread::yield_now(),
                }
            }
            queue.close();
            assert_eq!(queue.try_push(round), Err(PushError::Closed(round)));
            loop {
                match queue.try_pop() {
                    Ok(_) => got += 1,
                    Err(PopError::Drained) => break got,
                    Err(_) => thread::yield_now(),
                }
            }
        });
        assert_eq!(got, sent.load(Ordering::Relaxed));
    }
}
