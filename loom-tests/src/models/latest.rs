//! The newest value: a copy is whole, numbers never go back, and who was told of a value finds it.

use loom::thread;
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::ring::latest::Reader;
use sapwood_core::testing::Latest;

use super::{Bound, Model};
use crate::attached::publisher;
use crate::explore;
use crate::family::{Loom, until};
use std::sync::Arc;

type Value = [u64; 2];

/// Reads once: a whole value that belongs to its number.
fn read(memory: &Latest<Loom>, from: u64) -> u64 {
    let reader = Reader::<Loom, Value, _>::attach(memory.clone());
    // Overtaken: only a writer that goes on for ever does that.
    let (n, value) = reader.read().expect("a writer that comes to an end");
    assert_eq!(value, if n == from { [0; 2] } else { [n; 2] }, "value {n} is torn");
    n.wrapping_sub(from)
}

/// The writer publishes `n` values; `readers` read twice each.
fn whole(n: u64, readers: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let from = u64::MAX - 2;
        let memory = Latest::<Loom>::new::<Value>(from);
        let others: Vec<_> = (0..readers)
            .map(|_| memory.clone())
            .map(|m| thread::spawn(move || assert!(read(&m, from) <= read(&m, from), "back in time")))
            .collect();
        let mut writer = publisher::<Value>(&memory);
        for i in 1..=n {
            writer.publish(&[from.wrapping_add(i); 2]);
        }
        others.into_iter().for_each(|t| t.join().expect("whole values"));
        assert_eq!(read(&memory, from), n);
    })
}

/// Who was told of a value finds it or a newer one.
fn told(bound: Bound) -> u64 {
    explore(bound, move || {
        let (memory, word) = (Latest::<Loom>::new::<Value>(0), Arc::new(<Loom as Mem>::U64::new(0)));
        let writer = {
            let (memory, word) = (memory.clone(), word.clone());
            thread::spawn(move || {
                let mut writer = publisher::<Value>(&memory);
                for i in 1..=2 {
                    writer.publish(&[i; 2]);
                    word.store(i, Ordering::Release);
                }
            })
        };
        let told = word.load(Ordering::Acquire);
        assert!(read(&memory, 0) >= told);
        writer.join().expect("it published");
    })
}

/// The writer dies before its operation `k`; its successor publishes on.
///
/// The reader is the thread that is spawned: of a word that a thread has loaded and then stores, loom remembers that
/// load only, and would not look for the reader's before it.
fn writer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let from = u64::MAX - 1;
        let memory = Latest::<Loom>::new::<Value>(from);
        let reader = {
            let memory = memory.clone();
            thread::spawn(move || {
                let first = read(&memory, from);
                (first, read(&memory, from))
            })
        };
        until(k, || {
            let mut writer = publisher::<Value>(&memory);
            (1..=2).for_each(|i| writer.publish(&[from.wrapping_add(i); 2]));
        });
        let mut writer = publisher::<Value>(&memory);
        let n = writer.published().wrapping_add(1);
        writer.publish(&[n; 2]);
        let last = n.wrapping_sub(from);
        let (first, second) = reader.join().expect("whole values");
        assert!(first <= second && second <= last, "{first}, {second} of {last}");
        assert_eq!(read(&memory, from), last);
    })
}

/// All models of the newest value.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(4)];
    let mut models = vec![
        Model::new("latest: 5 values, one reader", 3, long, |b| whole(5, 1, b)),
        Model::new("latest: 4 values, two readers", 1, &[Some(1)], |b| whole(4, 2, b)),
        Model::new("latest: told of a value", 3, long, told),
    ];
    models.extend((0..=9).map(|k| {
        Model::new(format!("latest: the writer dies before operation {k}"), 3, long, move |b| {
            writer_dies(k, b)
        })
    }));
    models
}
