//! The queue between threads: nothing is lost, doubled or torn, the answers are exact, and closed is closed.
//!
//! Whoever takes part is a thread of its own, and the main one only joins: where it took part itself, loom looked at a
//! single execution of the model of a batch, and at a hundred so.

use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};
use sapwood_core::mem::Ordering::{Acquire, Release};
use sapwood_core::ring::local;
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::Local;

use super::{Bound, Model};
use crate::explore;
use crate::family::Loom;
use crate::guarded::Guarded;

type Queue = Arc<local::Queue<Loom, u64, Local<Loom, u64>>>;

/// A queue whose positions are about to wrap.
fn queue(capacity: usize) -> Queue {
    Arc::new(Local::queue(capacity, u64::MAX, 0).expect("a capacity that a queue can have"))
}

fn spawn<V: 'static>(queue: &Queue, body: impl FnOnce(Queue) -> V + 'static) -> JoinHandle<V> {
    let queue = queue.clone();
    thread::spawn(move || body(queue))
}

/// Pops so often; what came.
fn pops(queue: &Queue, tries: usize) -> JoinHandle<Vec<u64>> {
    spawn(queue, move |q| (0..tries).filter_map(|_| q.try_pop().ok()).collect())
}

/// Pops all that is there in one call; what came.
fn pops_a_batch(queue: &Queue) -> JoinHandle<Vec<u64>> {
    spawn(queue, |q| {
        let mut got = Vec::new();
        let n = q.pop_batch(&mut got, 3).unwrap_or(0);
        assert_eq!(got.len(), n);
        got
    })
}

/// Empties the queue after everyone else is done; then the whole capacity must be there.
fn drain(q: &Queue) -> Vec<u64> {
    let mut got = Vec::new();
    while let Ok(v) = q.try_pop() {
        got.push(v);
    }
    assert_eq!(q.try_pop(), Err(PopError::Empty), "wedged");
    let capacity = q.capacity() as u64;
    (0..capacity).for_each(|i| q.try_push(90 + i).expect("wedged"));
    assert_eq!((q.len(), q.try_push(9)), (q.capacity(), Err(PushError::Full(9))));
    (0..capacity).for_each(|i| assert_eq!(q.try_pop(), Ok(90 + i)));
    got
}

/// Two producers and a consumer.
fn two_producers(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(capacity);
        let producers = [1, 2].map(|v| spawn(&q, move |q| q.try_push(v).is_ok()));
        let consumer = pops(&q, 2);
        let sent = producers.into_iter().zip([1, 2]);
        let sent: Vec<u64> = sent.filter_map(|(t, v)| t.join().expect("it returned").then_some(v)).collect();
        let mut got = consumer.join().expect("it returned");
        got.extend(drain(&q));
        got.sort_unstable();
        assert_eq!(got, sent);
    })
}

/// A producer and two consumers; each consumer sees its messages in order.
fn two_consumers(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(capacity);
        let producer = spawn(&q, |q| [1, 2].map(|v| q.try_push(v).is_ok()));
        let (consumer, other) = (pops(&q, 2), pops(&q, 1));
        let sent = producer.join().expect("it returned").into_iter().zip([1, 2]);
        let sent: Vec<u64> = sent.filter_map(|(ok, v)| ok.then_some(v)).collect();
        let mut got = consumer.join().expect("it returned");
        let other = other.join().expect("it returned");
        got.extend(drain(&q));
        assert!(got.is_sorted());
        got.extend(other);
        got.sort_unstable();
        assert_eq!(got, sent);
    })
}

/// Two producers and two consumers.
fn two_and_two(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(capacity);
        let producers = [1, 2].map(|v| spawn(&q, move |q| q.try_push(v).is_ok()));
        let consumers = [pops(&q, 1), pops(&q, 1)];
        let sent = producers.into_iter().zip([1, 2]);
        let sent: Vec<u64> = sent.filter_map(|(t, v)| t.join().expect("it returned").then_some(v)).collect();
        let mut got: Vec<u64> = consumers.into_iter().flat_map(|t| t.join().expect("it returned")).collect();
        got.extend(drain(&q));
        got.sort_unstable();
        assert_eq!(got, sent);
    })
}

/// A batch beside a push and a batch of pops. What a batch has pushed lies together.
fn batches(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(capacity);
        let batch = spawn(&q, |q| q.push_batch(&mut [1, 2].into_iter()).unwrap_or(0));
        let single = spawn(&q, |q| q.try_push(7).is_ok());
        let consumer = pops_a_batch(&q);
        let batch = batch.join().expect("it returned");
        let mut got = consumer.join().expect("it returned");
        let single = single.join().expect("it returned");
        got.extend(drain(&q));
        if let (2, Some(at)) = (batch, got.iter().position(|v| *v == 1)) {
            assert_eq!(got[at + 1], 2, "something in the middle of a batch");
        }
        got.sort_unstable();
        let sent = [1, 2].into_iter().take(batch).chain(single.then_some(7));
        assert_eq!(got, sent.collect::<Vec<u64>>());
    })
}

/// A batch of two is there at once: a consumer that gets one value gets the other too.
fn a_batch_at_once(bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(2);
        let batch = spawn(&q, |q| q.push_batch(&mut [1, 2].into_iter()));
        let got = pops_a_batch(&q).join().expect("it returned");
        assert!(got.is_empty() || got == [1, 2], "{got:?} of a batch");
        assert_eq!(batch.join().expect("it returned"), Ok(2));
    })
}

/// Says that it has two values and has one.
struct Short(bool);

impl Iterator for Short {
    type Item = u64;
    fn next(&mut self) -> Option<u64> {
        std::mem::take(&mut self.0).then_some(1)
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (2, Some(2))
    }
}
impl ExactSizeIterator for Short {}

/// A batch that has less than it said, beside a push and a pop: its empty place is stepped over.
fn a_short_batch(bound: Bound) -> u64 {
    explore(bound, move || {
        let q = queue(2);
        let batch = spawn(&q, |q| q.push_batch(&mut Short(true)).unwrap_or(0));
        let single = spawn(&q, |q| q.try_push(7).is_ok());
        let consumer = pops(&q, 2);
        let (batch, single) = (batch.join().expect("it returned"), single.join().expect("it returned"));
        let mut got = consumer.join().expect("it returned");
        got.extend(drain(&q));
        got.sort_unstable();
        assert_eq!(got, [1].into_iter().take(batch).chain(single.then_some(7)).collect::<Vec<u64>>());
    })
}

/// "Empty" is exact: who was told of a push finds the queue not empty.
fn told_of_a_push(bound: Bound) -> u64 {
    explore(bound, move || {
        let (q, told) = (queue(2), Arc::new(AtomicBool::new(false)));
        let one = spawn(&q, |q| q.try_push(1).expect("room"));
        let also = told.clone();
        let two = spawn(&q, move |q| {
            q.try_push(2).expect("room");
            also.store(true, Release);
        });
        let who = spawn(&q, move |q| {
            if told.load(Acquire) {
                assert_ne!(q.try_pop(), Err(PopError::Empty), "empty, after a push");
            }
        });
        who.join().expect("it looked");
        one.join().expect("it pushed");
        two.join().expect("it pushed");
    })
}

/// "Full" is exact: who was told of the second pop knows that there is room, or that it is being made.
fn told_of_a_pop(bound: Bound) -> u64 {
    explore(bound, move || {
        let (q, told) = (queue(2), Arc::new(AtomicBool::new(false)));
        assert_eq!(q.push_batch(&mut [1, 2].into_iter()), Ok(2));
        let one = spawn(&q, |q| q.try_pop().is_ok());
        let also = told.clone();
        let two = spawn(&q, move |q| {
            if q.try_pop() == Ok(2) {
                also.store(true, Release);
            }
        });
        let who = spawn(&q, move |q| {
            if told.load(Acquire) {
                assert_ne!(q.try_push(3), Err(PushError::Full(3)), "full, after a pop");
            }
        });
        who.join().expect("it looked");
        assert!(one.join().expect("it returned"));
        two.join().expect("it returned");
    })
}

/// What a consumer found in `tries` looks, and whether it was told that nothing will come.
fn receive(q: &Queue, tries: usize) -> (Vec<u64>, bool) {
    let mut got = Vec::new();
    for _ in 0..tries {
        match q.try_pop() {
            Ok(v) => got.push(v),
            Err(PopError::Drained) => return (got, true),
            Err(_) => (),
        }
    }
    (got, false)
}

/// Two producers, one of which looks after the close returned, and a closer, who is the consumer: a push that
/// succeeded is received before "drained", none succeeds after the close, and nothing comes after "drained".
fn close_against_push(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let (q, closed) = (queue(capacity), Arc::new(AtomicBool::new(false)));
        let one = spawn(&q, |q| q.try_push(1).is_ok());
        let seen = closed.clone();
        let two = spawn(&q, move |q| {
            let late = seen.load(Acquire);
            (late, q.try_push(2))
        });
        let closer = spawn(&q, move |q| {
            let (mut got, drained) = receive(&q, 1);
            assert!(!drained, "it is open");
            q.close();
            closed.store(true, Release);
            let (more, drained) = receive(&q, 2);
            got.extend(more);
            (got, drained)
        });
        let (mut got, drained) = closer.join().expect("it closed");
        let one = one.join().expect("it returned");
        let (late, two) = two.join().expect("it returned");
        assert!(!late || two == Err(PushError::Closed(2)), "a push after the close: {two:?}");
        let (rest, end) = receive(&q, 3);
        assert!(end, "closed and empty, and not drained");
        assert!(rest.is_empty() || !drained, "{rest:?} came after the end");
        got.extend(rest);
        got.sort_unstable();
        let sent = one.then_some(1).into_iter().chain(two.is_ok().then_some(2));
        assert_eq!(got, sent.collect::<Vec<u64>>(), "what was sent is what was received");
    })
}

/// Who is told of the end comes after what the closer did before.
fn the_end_is_told(bound: Bound) -> u64 {
    explore(bound, move || {
        let (q, word) = (queue(1), Arc::new(Guarded::new(0)));
        let what = word.clone();
        let closer = spawn(&q, move |q| {
            what.set(5);
            q.close();
        });
        let what = word.clone();
        let consumer = spawn(&q, move |q| {
            if q.try_pop() == Err(PopError::Drained) {
                assert_eq!(what.get(), 5);
            }
        });
        let producer = spawn(&q, move |q| {
            if q.try_push(1) == Err(PushError::Closed(1)) {
                assert_eq!(word.get(), 5);
            }
        });
        producer.join().expect("it returned");
        closer.join().expect("it closed");
        consumer.join().expect("it returned");
    })
}

/// All models of the queue between threads.
pub fn all() -> Vec<Model> {
    let (long, wide): (&[Bound], &[Bound]) = (&[Some(3)], &[Some(2)]);
    // The small ones first: mutants are shown to each until one fails.
    vec![
        Model::new("local: a batch at once", 2, long, a_batch_at_once),
        Model::new("local: told of a push", 2, long, told_of_a_push),
        Model::new("local: told of a pop", 2, long, told_of_a_pop),
        Model::new("local: the end is told", 2, long, the_end_is_told),
        Model::new("local: a short batch", 2, long, a_short_batch),
        Model::new("local: batches, capacity 2", 2, long, |b| batches(2, b)),
        Model::new("local: batches, capacity 4", 2, long, |b| batches(4, b)),
        Model::new("local: close against push, capacity 1", 2, long, |b| close_against_push(1, b)),
        Model::new("local: close against push, capacity 2", 2, long, |b| close_against_push(2, b)),
        Model::new("local: two producers, capacity 1", 2, long, |b| two_producers(1, b)),
        Model::new("local: two producers, capacity 2", 2, long, |b| two_producers(2, b)),
        Model::new("local: two consumers, capacity 1", 2, long, |b| two_consumers(1, b)),
        Model::new("local: two consumers, capacity 2", 1, wide, |b| two_consumers(2, b)),
        Model::new("local: two and two, capacity 1", 1, wide, |b| two_and_two(1, b)),
        Model::new("local: two and two, capacity 2", 1, wide, |b| two_and_two(2, b)),
    ]
}
