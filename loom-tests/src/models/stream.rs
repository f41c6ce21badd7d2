//! The pipe of bytes: bytes come in order, room is reused safely, an end is found out for good.

use loom::thread;
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::Stream;

use super::{Bound, Model};
use crate::attached::{reader, writer};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::Guarded;
use std::sync::Arc;

fn pipe(capacity: usize) -> Stream<Loom> {
    Stream::new(capacity, u64::MAX - 1).expect("a capacity that a pipe can have")
}

/// Reads until the end; what came.
fn drain(pipe: &Stream<Loom>, at_a_time: usize) -> Vec<u8> {
    let (mut end, mut got, mut into) = (reader(pipe), Vec::new(), vec![0; at_a_time]);
    loop {
        match end.read(&mut into) {
            Ok(n) => got.extend_from_slice(&into[..n]),
            Err(PopError::Drained) => return got,
            Err(_) => thread::yield_now(),
        }
    }
}

/// `n` bytes, `at_a_time` of them in two parts, and the end.
fn pass(capacity: usize, n: u8, at_a_time: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let pipe = pipe(capacity);
        let sender = {
            let mut end = writer(&pipe);
            thread::spawn(move || {
                let bytes: Vec<u8> = (1..=n).collect();
                let mut sent = 0;
                while sent < bytes.len() {
                    let now = &bytes[sent..bytes.len().min(sent + at_a_time)];
                    let (first, second) = now.split_at(now.len() / 2);
                    match end.write(&[first, second]) {
                        Ok(more) => sent += more,
                        Err(_) => thread::yield_now(),
                    }
                }
                end.close();
            })
        };
        assert_eq!(drain(&pipe, 2), (1..=n).collect::<Vec<u8>>());
        sender.join().expect("all were sent");
    })
}

/// The reader closes: the writer learns of it, and of what came before.
fn reader_closes(bound: Bound) -> u64 {
    explore(bound, move || {
        let (pipe, said) = (pipe(2), Arc::new(Guarded::new(0)));
        let receiver = {
            let (mut end, said) = (reader(&pipe), said.clone());
            thread::spawn(move || {
                let _ = end.read(&mut [0]);
                said.set(1);
                end.close();
            })
        };
        let mut end = writer(&pipe);
        while !matches!(end.write(&[&[7]]), Err(PushError::Closed(()))) {
            thread::yield_now();
        }
        assert_eq!(said.get(), 1);
        receiver.join().expect("it closed");
    })
}

/// The writer dies before its operation `k`; its successor goes on behind what was published.
fn writer_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let pipe = pipe(2);
        let senders = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                until(k, || {
                    let mut end = writer(&pipe);
                    for byte in [1, 2] {
                        let _ = end.write(&[&[byte]]);
                    }
                });
                let mut end = writer(&pipe);
                let more = end.write(&[&[9]]).is_ok();
                end.close();
                more
            })
        };
        let mut got = drain(&pipe, 1);
        let more = senders.join().expect("killed, not panicked");
        assert_eq!(got.pop_if(|b| *b == 9).is_some(), more);
        assert!([&[][..], &[1], &[1, 2]].contains(&&got[..]), "{got:?}");
    })
}

/// The reader dies before its operation `k`; its successor reads at most what it had not given back.
fn reader_dies(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let pipe = pipe(2);
        let receivers = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                let mut had = 0;
                until(k, || {
                    let mut end = reader(&pipe);
                    let mut into = [0];
                    while had < 2 {
                        match end.read(&mut into) {
                            Ok(_) => had = into[0],
                            Err(_) => thread::yield_now(),
                        }
                    }
                });
                (had, drain(&pipe, 1))
            })
        };
        let mut end = writer(&pipe);
        for byte in 1..=3 {
            while end.write(&[&[byte]]).is_err() {
                thread::yield_now();
            }
        }
        end.close();
        let (had, got) = receivers.join().expect("killed, not panicked");
        let first = got[0];
        assert!(first <= had + 2 && got == (first..=3).collect::<Vec<u8>>(), "{had}, then {got:?}");
        assert!(first == had + 1 || first == had + 2 && k > 0, "had {had}, then {got:?}");
    })
}

/// All models of the pipe.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(3)];
    let mut models = vec![
        Model::new("stream: capacity 1, 3 bytes one by one", 3, &[Some(4)], |b| pass(1, 3, 1, b)),
        Model::new("stream: capacity 2, 5 bytes, 3 at a time", 2, long, |b| pass(2, 5, 3, b)),
        Model::new("stream: capacity 4, 6 bytes, 4 at a time", 2, long, |b| pass(4, 6, 4, b)),
        Model::new("stream: the reader closes", 3, &[Some(4)], reader_closes),
    ];
    for k in 0..=8 {
        models.push(Model::new(format!("stream: the writer dies before operation {k}"), 2, long, move |b| {
            writer_dies(k, b)
        }));
        models.push(Model::new(format!("stream: the reader dies before operation {k}"), 2, long, move |b| {
            reader_dies(k, b)
        }));
    }
    models
}
