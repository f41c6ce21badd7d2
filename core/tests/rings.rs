//! The rings against plain models, by random scripts on one thread; and under stress on two CPUs.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::ring::{PopError, PushError, latest, mpmc, spsc, stream};
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::{Latest, Mpmc, Spsc, Stream};

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push,
    PushMany(usize),
    Pop,
    PopMany(usize),
    /// A new handle in place of the one that sends, or receives.
    Sender,
    Receiver,
    CloseSender,
    CloseReceiver,
}
use Op::*;

fn scripts() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => Just(Push),
        4 => (0usize..20).prop_map(PushMany),
        8 => Just(Pop),
        4 => (0usize..20).prop_map(PopMany),
        1 => Just(Sender),
        1 => Just(Receiver),
    ];
    let close = prop_oneof![Just(None), Just(Some(CloseSender)), Just(Some(CloseReceiver))];
    (prop::collection::vec(op, 0..120), close, 0usize..60).prop_map(|(mut ops, close, late)| {
        ops.splice(ops.len() - late.min(ops.len())..ops.len() - late.min(ops.len()), close);
        ops
    })
}

fn capacities() -> impl Strategy<Value = usize> {
    (0u32..6).prop_map(|shift| 1 << shift)
}

/// Near 0, near the wraps of a word and of a line's number, and anywhere.
fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..3, u64::MAX - 20..=u64::MAX, (1u64 << 61) - 4..(1 << 61) + 1, any::<u64>()]
}

/// What is in the ring, and who has closed.
#[derive(Default)]
struct Model {
    row: VecDeque<u64>,
    next: u64,
    sender_closed: bool,
    receiver_closed: bool,
}

impl Model {
    fn nothing(&self) -> PopError {
        if self.sender_closed { PopError::Drained } else { PopError::Empty }
    }
}

fn one_to_one<T: Shareable + PartialEq + std::fmt::Debug>(
    capacity: usize,
    line: u64,
    ops: &[Op],
    number: fn(u64) -> T,
) {
    let ring = Spsc::<Real, T>::new(capacity, line & (u64::MAX >> 3), number(0)).expect("a capacity");
    // SAFETY: one thread; a new end replaces the old one.
    let sender = || unsafe { spsc::Producer::<Real, T, _>::attach(ring.clone()) };
    // SAFETY: as above.
    let receiver = || unsafe { spsc::Consumer::<Real, T, _>::attach(ring.clone()) };
    let (mut from, mut to, mut model) = (sender(), receiver(), Model::default());
    for op in ops {
        let room = capacity - model.row.len();
        match *op {
            Push if !model.sender_closed => {
                let value = number(model.next);
                let want = match (model.receiver_closed, room) {
                    (true, _) => Err(PushError::Closed(value)),
                    (_, 0) => Err(PushError::Full(value)),
                    _ => Ok(()),
                };
                assert_eq!(from.try_push(value), want);
                if want.is_ok() {
                    model.row.push_back(model.next);
                    model.next += 1;
                }
            }
            PushMany(n) if !model.sender_closed => {
                let values: Vec<T> = (0..n as u64).map(|i| number(model.next + i)).collect();
                let fit = n.min(room);
                let want = if model.receiver_closed { Err(PushError::Closed(())) } else { Ok(fit) };
                assert_eq!(from.push_slice(&values), want);
                let taken = want.unwrap_or(0) as u64;
                model.row.extend(model.next..model.next + taken);
                model.next += taken;
            }
            Pop => {
                let want = model.row.pop_front().map(number).ok_or_else(|| model.nothing());
                assert_eq!(to.try_pop(), want);
            }
            PopMany(n) => {
                let mut into = vec![number(0); n];
                let there: Vec<T> = model.row.drain(..n.min(model.row.len())).map(number).collect();
                let want = if there.is_empty() && n > 0 { Err(model.nothing()) } else { Ok(there.len()) };
                assert_eq!(to.pop_slice(&mut into), want);
                assert_eq!(into[..there.len()], there);
            }
            Sender => from = sender(),
            Receiver => to = receiver(),
            CloseSender => {
                from.close();
                model.sender_closed = true;
            }
            CloseReceiver => {
                to.close();
                model.receiver_closed = true;
            }
            Push | PushMany(_) => (), // nobody sends after his own end
        }
        assert_eq!((from.len(), to.has_next()), (model.row.len(), !model.row.is_empty()));
        assert_eq!((from.has_closed(), from.is_closed()), (model.sender_closed, model.receiver_closed));
        assert_eq!((to.is_closed(), to.has_closed()), (model.sender_closed, model.receiver_closed));
    }
}

fn pipe(capacity: usize, start: u64, ops: &[Op]) {
    let pipe = Stream::<Real>::new(capacity, start).expect("a capacity");
    // SAFETY: one thread; a new end replaces the old one.
    let sender = || unsafe { stream::Writer::<Real, _>::attach(pipe.clone()) };
    // SAFETY: as above.
    let receiver = || unsafe { stream::Reader::<Real, _>::attach(pipe.clone()) };
    let (mut from, mut to, mut model) = (sender(), receiver(), Model::default());
    for op in ops {
        let (op, room) = (if let Push = op { PushMany(1) } else { *op }, capacity - model.row.len());
        match op {
            PushMany(n) if !model.sender_closed => {
                let bytes: Vec<u8> = (0..n as u64).map(|i| (model.next + i) as u8).collect();
                let (a, b) = bytes.split_at(n / 3);
                let want = match (model.receiver_closed, room, n) {
                    (true, ..) => Err(PushError::Closed(())),
                    (_, 0, 1..) => Err(PushError::Full(())),
                    _ => Ok(n.min(room)),
                };
                assert_eq!(from.write(&[a, &[], b]), want);
                let taken = want.unwrap_or(0) as u64;
                model.row.extend(model.next..model.next + taken);
                model.next += taken;
            }
            Pop | PopMany(_) => {
                let n = if let PopMany(n) = op { n } else { 1 };
                let mut into = vec![0; n];
                let there: Vec<u8> = model.row.drain(..n.min(model.row.len())).map(|v| v as u8).collect();
                let want = if there.is_empty() && n > 0 { Err(model.nothing()) } else { Ok(there.len()) };
                assert_eq!(to.read(&mut into), want);
                assert_eq!(into[..there.len()], there);
            }
            Sender => from = sender(),
            Receiver => to = receiver(),
            CloseSender => {
                from.close();
                model.sender_closed = true;
            }
            CloseReceiver => {
                to.close();
                model.receiver_closed = true;
            }
            Push | PushMany(_) => (),
        }
        assert_eq!((from.look(), to.look()), (capacity - model.row.len(), model.row.len()));
        assert_eq!(from.is_empty(), model.row.is_empty());
    }
}

type Many = mpmc::Handle<Real, u64, Mpmc<Real, u64>>;

fn many(ring: &Mpmc<Real, u64>, seat: u32) -> Many {
    // SAFETY: every handle of these tests has a seat of its own, or replaces the one that had it.
    unsafe { Many::attach(ring.clone(), Owner::new(seat, 0)) }
}

/// Every call by another of three handles, so that their positions are stale.
fn many_to_many(capacity: usize, start: u64, ops: &[Op], who: &[u8]) {
    let ring = Mpmc::<Real, u64>::new(capacity, start, 0).expect("a capacity");
    let mut handles = [0, 1, 2].map(|seat| many(&ring, seat));
    let (mut model, mut closed, peers) = (Model::default(), false, &mut mpmc::Immortal);
    for (op, who) in ops.iter().zip(who) {
        let seat = usize::from(who % 3);
        let h = &mut handles[seat];
        let times = if let PushMany(n) | PopMany(n) = *op { n } else { 1 };
        for _ in 0..times {
            let value = model.next;
            match op {
                Push | PushMany(_) => {
                    let want = match (closed, capacity - model.row.len()) {
                        (true, _) => Err(PushError::Closed(value)),
                        (_, 0) => Err(PushError::Full(value)),
                        _ => Ok(start.wrapping_add(value)),
                    };
                    assert_eq!(h.try_push(value, peers), want);
                    if want.is_ok() {
                        model.row.push_back(value);
                        model.next += 1;
                    }
                }
                Pop | PopMany(_) => {
                    let none = if closed { PopError::Drained } else { PopError::Empty };
                    let want = model.row.pop_front().map(|v| (start.wrapping_add(v), v)).ok_or(none);
                    assert_eq!(h.try_pop(peers), want);
                }
                Sender | Receiver => *h = many(&ring, seat as u32),
                CloseSender | CloseReceiver => {
                    h.close();
                    closed = true;
                }
            }
            assert_eq!((h.len(), h.is_closed()), (model.row.len(), closed));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if full() { 20_000 } else { 1_000 }))]

    #[test]
    fn one_to_one_is_a_queue(capacity in capacities(), line in starts(), ops in scripts()) {
        one_to_one::<u64>(capacity, line, &ops, |n| n);
        one_to_one::<u8>(capacity, line, &ops, |n| n as u8);
        one_to_one::<[u64; 3]>(capacity, line, &ops, |n| [n; 3]);
        one_to_one::<[u64; 7]>(capacity, line, &ops, |n| [n; 7]);
        one_to_one::<[u64; 9]>(capacity, line, &ops, |n| [n; 9]);
    }

    #[test]
    fn a_pipe_is_a_queue_of_bytes(capacity in capacities(), start in starts(), ops in scripts()) {
        pipe(capacity, start, &ops);
    }

    #[test]
    fn many_to_many_is_a_queue(
        capacity in capacities(),
        start in starts(),
        ops in scripts(),
        who in prop::collection::vec(any::<u8>(), 121),
    ) {
        many_to_many(capacity, start, &ops, &who);
    }

    #[test]
    fn the_newest_value_is_the_last_one(start in starts(), publishes in prop::collection::vec(0u32..9, 0..40)) {
        type Value = [u8; 21];
        let memory = Latest::<Real>::new::<Value>(start);
        // SAFETY: one thread, and a writer replaces the one before.
        let writer = || unsafe { latest::Writer::<Real, Value, _>::attach(memory.clone()) };
        let reader = latest::Reader::<Real, Value, _>::attach(memory.clone());
        let (mut n, mut last) = (start, [0; 21]);
        for times in publishes {
            let mut w = writer();
            for _ in 0..times {
                n = n.wrapping_add(1);
                last = std::array::from_fn(|i| (n as u8).wrapping_mul(31).wrapping_add(i as u8));
                w.publish(&last);
            }
            prop_assert_eq!((w.published(), reader.published()), (n, n));
            prop_assert_eq!(reader.read(), Ok((n, last)));
        }
    }
}

/// A batch that was taken up to the end of a line leaves the free word at the beginning of the next one, and the tail
/// is still at that end.
#[test]
fn an_empty_ring_is_empty_at_the_end_of_a_line_too() {
    let ring = Spsc::<Real, [u64; 7]>::new(4, 0, [0; 7]).expect("a capacity");
    // SAFETY: the only producer and the only consumer.
    let (mut from, mut to) = unsafe { (spsc::Producer::attach(ring.clone()), spsc::Consumer::attach(ring)) };
    assert_eq!(from.push_slice(&[[1; 7], [2; 7]]), Ok(2));
    assert_eq!(to.pop_slice(&mut [[0; 7]; 3]), Ok(2));
    assert_eq!((from.len(), from.is_empty()), (0, true));
}

/// A panic in the closure of a push gives the position up, one in that of a pop gives the slot back.
#[test]
fn a_panic_leaves_no_name_behind() {
    let ring = Mpmc::<Real, u64>::new(1, u64::MAX, 0).expect("a capacity");
    let (mut h, peers) = (many(&ring, 0), &mut mpmc::Immortal);
    let panics = |h: &mut Many, push: bool| {
        let peers = &mut mpmc::Immortal;
        let body = std::panic::AssertUnwindSafe(|| {
            if push {
                let _ = h.try_push_with(|_| std::panic::resume_unwind(Box::new(())), peers);
            } else {
                let _ = h.try_pop_with(|_, _| std::panic::resume_unwind(Box::new(())), peers);
            }
        });
        assert!(std::panic::catch_unwind(body).is_err());
    };
    panics(&mut h, true);
    assert_eq!(h.try_pop(peers), Err(PopError::Empty));
    assert_eq!(h.try_push(5, peers), Ok(0));
    panics(&mut h, false);
    assert_eq!(h.try_pop(peers), Err(PopError::Empty));
    assert_eq!(h.try_push(6, peers), Ok(1));
    assert_eq!(many(&ring, 1).try_pop(peers), Ok((1, 6)));
}

/// Repeats until there is something; a minute without is too long.
fn wait<V>(mut look: impl FnMut() -> Option<V>) -> V {
    let began = Instant::now();
    loop {
        for _ in 0..50 {
            if let Some(v) = look() {
                return v;
            }
            std::hint::spin_loop();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing came for a minute");
        std::thread::yield_now();
    }
}

fn messages() -> u64 {
    if full() { 20_000_000 } else { 200_000 }
}

#[test]
fn stress_one_to_one() {
    for capacity in [1, 4, 1024] {
        let ring = Spsc::<Real, u64>::new(capacity, (u64::MAX >> 3) - 3, 0).expect("a capacity");
        // SAFETY: the only producer and the only consumer.
        let (mut from, mut to) =
            unsafe { (spsc::Producer::attach(ring.clone()), spsc::Consumer::attach(ring)) };
        let n = messages();
        std::thread::scope(|s| {
            s.spawn(move || {
                let mut next = 0;
                while next < n {
                    if next % 3 == 0 {
                        let batch: Vec<u64> = (next..n.min(next + 11)).collect();
                        next += wait(|| from.push_slice(&batch).ok().filter(|sent| *sent > 0)) as u64;
                    } else {
                        wait(|| from.try_push(next).ok());
                        next += 1;
                    }
                }
                from.close();
            });
            let (mut next, mut into) = (0, [0; 13]);
            loop {
                let found = if next % 2 == 0 {
                    to.pop_slice(&mut into)
                } else {
                    to.try_pop().map(|v| {
                        into[0] = v;
                        1
                    })
                };
                match found {
                    Ok(got) => {
                        assert!(
                            into[..got].iter().copied().eq(next..next + got as u64),
                            "{into:?} after {next}"
                        );
                        next += got as u64;
                    }
                    Err(PopError::Drained) => break,
                    Err(_) => wait(|| (to.has_next() || to.is_closed()).then_some(())),
                }
            }
            assert_eq!(next, n);
        });
    }
}

#[test]
fn stress_a_pipe() {
    let pipe = Stream::<Real>::new(1 << 17, u64::MAX - 5000).expect("a capacity");
    // SAFETY: the only writer and the only reader.
    let (mut from, mut to) =
        unsafe { (stream::Writer::<Real, _>::attach(pipe.clone()), stream::Reader::<Real, _>::attach(pipe)) };
    let n = messages() as usize * 20;
    let byte = |i: usize| (i % 251) as u8;
    std::thread::scope(|s| {
        s.spawn(move || {
            let bytes: Vec<u8> = (0..251 * 400).map(byte).collect();
            let mut sent = 0;
            while sent < n {
                let len = (n - sent).min(1 + sent * 7 % 90_000);
                let part = &bytes[sent % 251..][..len];
                sent += wait(|| from.write(&[&part[..len / 2], &part[len / 2..]]).ok());
            }
            from.close();
        });
        let (mut got, mut into) = (0, vec![0; 70_000]);
        loop {
            let len = 1 + got * 11 % into.len();
            match to.read(&mut into[..len.min(70_000)]) {
                Ok(more) => {
                    assert!(
                        into[..more].iter().zip(got..).all(|(b, i)| *b == byte(i)),
                        "wrong bytes from {got} on"
                    );
                    got += more;
                }
                Err(PopError::Drained) => break,
                Err(_) => wait(|| (to.look() > 0 || to.is_closed()).then_some(())),
            }
        }
        assert_eq!(got, n);
    });
}

/// Two producers and two consumers: nothing is lost or doubled, and what one producer sent a consumer sees in order.
#[test]
fn stress_many_to_many() {
    for capacity in [1, 2, 64] {
        let ring = Mpmc::<Real, u64>::new(capacity, u64::MAX - 500, 0).expect("a capacity");
        let n = messages() / 2;
        let sums: Vec<(u64, u64)> = std::thread::scope(|s| {
            let producers = [1, 2].map(|p| {
                let mut h = many(&ring, p as u32);
                s.spawn(move || {
                    for i in 0..n {
                        wait(|| h.try_push(p << 32 | i, &mut mpmc::Immortal).ok());
                    }
                })
            });
            let consumers = [3, 4].map(|c| {
                let mut h = many(&ring, c);
                s.spawn(move || {
                    let (mut last, mut count, mut sum) = ([None; 3], 0, 0);
                    loop {
                        match wait(|| {
                            Some(h.try_pop(&mut mpmc::Immortal)).filter(|r| *r != Err(PopError::Empty))
                        }) {
                            Ok((_, v)) => {
                                let (p, i) = ((v >> 32) as usize, v & u64::from(u32::MAX));
                                assert!(last[p].replace(i).is_none_or(|l| l < i), "{i} of {p} out of order");
                                (count, sum) = (count + 1, sum + i);
                            }
                            Err(PopError::Drained) => return (count, sum),
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                })
            });
            producers.into_iter().for_each(|p| p.join().expect("all were sent"));
            many(&ring, 5).close();
            consumers.into_iter().map(|c| c.join().expect("in order")).collect()
        });
        let all = sums.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!(all, (2 * n, n * (n - 1)), "capacity {capacity}");
    }
}

#[test]
fn stress_the_newest_value() {
    type Value = [u64; 33];
    let memory = Latest::<Real>::new::<Value>(u64::MAX - 1000);
    // SAFETY: the only writer.
    let mut writer = unsafe { latest::Writer::<Real, Value, _>::attach(memory.clone()) };
    let reader = latest::Reader::<Real, Value, _>::attach(memory);
    let (from, n) = (writer.published(), messages());
    std::thread::scope(|s| {
        s.spawn(move || (1..=n).for_each(|i| writer.publish(&[i; 33])));
        let mut last = 0;
        while last < n {
            // Overtaken is an answer; the writer comes to an end.
            last = wait(|| {
                let (number, value) = reader.read().ok()?;
                let i = number.wrapping_sub(from);
                assert_eq!(value, [i; 33]);
                assert!(i >= last, "back in time");
                Some(i)
            });
        }
    });
}
