//! The ring of one to one: values come whole and in order, places are reused safely, an end is found out for good.

use loom::thread;
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::Spsc;

use super::{Bound, Model};
use crate::attached::{consumer, producer};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::Guarded;
use std::sync::Arc;

/// A line has one of these, two, or seven.
type Wide = [u64; 7];
type Half = [u64; 3];

/// The last line before the wrap.
const LAST: u64 = u64::MAX >> 3;

/// Values that are known by a number.
trait Numbered: Shareable + PartialEq + std::fmt::Debug {
    fn number(n: u64) -> Self;
}

impl<const N: usize> Numbered for [u64; N]
where
    [u64; N]: Shareable,
{
    fn number(n: u64) -> Self {
        [n; N]
    }
}

impl Numbered for u64 {
    fn number(n: u64) -> Self {
        n
    }
}

fn ring<T: Numbered>(capacity: usize) -> Spsc<Loom, T> {
    Spsc::new(capacity, LAST, T::number(0)).expect("a capacity that a ring can have")
}

/// `n` values one by one, and the end.
fn pass<T: Numbered>(capacity: usize, n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let ring = ring::<T>(capacity);
        let sender = {
            let mut end = producer(&ring);
            thread::spawn(move || {
                for i in 1..=n {
                    while end.try_push(T::number(i)).is_err() {
                        thread::yield_now();
                    }
                }
                end.close();
            })
        };
        let (mut end, mut next) = (consumer(&ring), 1);
        loop {
            match end.try_pop() {
                Ok(value) => assert_eq!(value, T::number(next)),
                Err(PopError::Drained) => break,
                Err(_) => {
                    thread::yield_now();
                    continue;
                }
            }
            next += 1;
        }
        assert_eq!(next, n + 1, "drained, and a value was never received");
        sender.join().expect("all were sent");
    })
}

/// `n` values in batches.
fn batches<T: Numbered>(capacity: usize, n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let ring = ring::<T>(capacity);
        let sender = {
            let mut end = producer(&ring);
            thread::spawn(move || {
                let values: Vec<T> = (1..=n).map(T::number).collect();
                let mut sent = 0;
                while sent < values.len() {
                    match end.push_slice(&values[sent..]) {
                        Ok(0) | Err(_) => thread::yield_now(),
                        Ok(more) => sent += more,
                    }
                }
            })
        };
        let (mut end, mut got) = (consumer(&ring), Vec::new());
        let mut into = vec![T::number(0); n as usize];
        while got.len() < n as usize {
            match end.pop_slice(&mut into) {
                Ok(more) => got.extend_from_slice(&into[..more]),
                Err(_) => thread::yield_now(),
            }
        }
        assert!(got.iter().zip(1..).all(|(v, i)| *v == T::number(i)), "{got:?}");
        sender.join().expect("all were sent");
    })
}

/// The consumer takes what it finds and closes: the producer learns of it, and of what came before.
fn consumer_closes(bound: Bound) -> u64 {
    explore(bound, move || {
        let (ring, said) = (ring::<Wide>(1), Arc::new(Guarded::new(0)));
        let receiver = {
            let (mut end, said) = (consumer(&ring), said.clone());
            thread::spawn(move || {
                let _ = end.try_pop();
                said.set(1);
                end.close();
            })
        };
        let mut end = producer(&ring);
        let mut i = 0;
        loop {
            i += 1;
            match end.try_push(Wide::number(i)) {
                Err(PushError::Closed(value)) => break assert_eq!(value, Wide::number(i)),
                _ => thread::yield_now(),
            }
        }
        assert_eq!(said.get(), 1);
        receiver.join().expect("it closed");
    })
}

/// The producer dies before its operation `k`; its successor goes on, and the consumer sees one row of values.
fn producer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let ring = ring::<Half>(2);
        let senders = {
            let ring = ring.clone();
            thread::spawn(move || {
                let sent = std::cell::Cell::new(0);
                until(k, || {
                    let mut end = producer(&ring);
                    for i in 1..=2 {
                        if end.try_push(Half::number(i)).is_ok() {
                            sent.set(i);
                        }
                    }
                });
                // The death is later than all that the dead did.
                let mut end = producer(&ring);
                let more = end.try_push(Half::number(9)).is_ok();
                end.close();
                (sent.get(), more)
            })
        };
        let (mut end, mut got) = (consumer(&ring), Vec::new());
        loop {
            match end.try_pop() {
                Ok(value) => got.push(value),
                Err(PopError::Drained) => break,
                Err(_) => thread::yield_now(),
            }
        }
        let (sent, more) = senders.join().expect("killed, not panicked");
        let last = got.pop_if(|v| *v == Half::number(9)).is_some();
        assert!(got.iter().zip(1..).all(|(v, i)| *v == Half::number(i)), "{got:?}");
        assert!(got.len() as u64 >= sent && last == more, "{got:?} of {sent}, and the successor's: {more}");
    })
}

/// The consumer dies before its operation `k`; its successor reads at most the last value again.
fn consumer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let ring = ring::<Wide>(1);
        let receivers = {
            let ring = ring.clone();
            thread::spawn(move || {
                let got = std::cell::Cell::new(0);
                until(k, || {
                    let mut end = consumer(&ring);
                    for _ in 0..2 {
                        if let Ok(value) = end.try_pop() {
                            got.set(value[0]);
                        }
                    }
                });
                let (mut end, mut next) = (consumer(&ring), 0);
                loop {
                    match end.try_pop() {
                        Ok(value) if next == 0 => {
                            assert!(value[0] == got.get() + 1 || value[0] == got.get() || k < 8, "{value:?}");
                            next = value[0] + 1;
                        }
                        Ok(value) => {
                            assert_eq!(value, Wide::number(next));
                            next += 1;
                        }
                        Err(PopError::Drained) => break,
                        Err(_) => thread::yield_now(),
                    }
                }
                assert!(next == 0 || next == 4, "the last value never came");
                assert!(next == 4 || got.get() == 3 || k >= 4, "lost");
            })
        };
        let mut end = producer(&ring);
        for i in 1..=3 {
            while end.try_push(Wide::number(i)).is_err() {
                thread::yield_now();
            }
        }
        end.close();
        receivers.join().expect("killed, not panicked");
    })
}

/// All models of the ring of one to one.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(4)];
    let mut models = vec![
        Model::new("spsc: one to a line, capacity 1, 3 values and the end", 3, long, |b| {
            pass::<Wide>(1, 3, b)
        }),
        Model::new("spsc: one to a line, capacity 2, 4 values and the end", 2, &[Some(3)], |b| {
            pass::<Wide>(2, 4, b)
        }),
        Model::new("spsc: two to a line, capacity 2, 5 values and the end", 2, &[Some(3)], |b| {
            pass::<Half>(2, 5, b)
        }),
        Model::new("spsc: seven to a line, capacity 1, 9 values and the end", 2, &[Some(3)], |b| {
            pass::<u64>(1, 9, b)
        }),
        Model::new("spsc: batches, two to a line, capacity 4, 6 values", 2, &[Some(3)], |b| {
            batches::<Half>(4, 6, b)
        }),
        Model::new("spsc: batches, one to a line, capacity 2, 4 values", 2, &[Some(3)], |b| {
            batches::<Wide>(2, 4, b)
        }),
        Model::new("spsc: the consumer closes", 3, long, consumer_closes),
    ];
    for k in 0..=11 {
        models.push(Model::new(format!("spsc: the producer dies before operation {k}"), 2, long, move |b| {
            producer_dies(k, b)
        }));
    }
    for k in 0..=8 {
        models.push(Model::new(
            format!("spsc: the consumer dies before operation {k}"),
            2,
            &[Some(3)],
            move |b| consumer_dies(k, b),
        ));
    }
    models
}
