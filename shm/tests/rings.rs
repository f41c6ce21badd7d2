//! Rings between threads and between processes: what passes, who may do what, what is refused.
//!
//! # Safety
//! Forks by hand, as a user's program might. The children use handles and end at once.
#![allow(unsafe_code)]

mod common;

use std::sync::Arc;

use common::rings::*;
use common::*;
use sapwood_shm::ring::jobs::{self, FinishError};
use sapwood_shm::ring::{CapacityError, Life, PopError, PushError, latest, mpmc, spsc, stream};
use sapwood_shm::{Error, Processes, Segment};

const N: u64 = 100_000;

#[test]
fn values_pass_between_processes_in_order() {
    let name = name("order");
    let running = rank(|| {
        let mut tx = spsc::Producer::<[u64; 2]>::open(&name, 64).map_err(text)?;
        (0..N).for_each(|i| push(&mut tx, [i, !i]));
        until("all was read", || tx.is_empty());
        Ok(())
    });
    let _forget = Forget::name(&name);
    let mut rx = spsc::Consumer::<[u64; 2]>::open(&name, 64).expect("seat 1 is free");
    (0..N).for_each(|i| assert_eq!(pop(&mut rx), [i, !i]));
    until("the producer closes", || rx.try_pop() != Err(PopError::Empty));
    assert_eq!(rx.try_pop(), Err(PopError::Drained));
    ended_well(running);
}

#[test]
fn slices_pass_between_processes_in_order() {
    let name = name("slices");
    let running = rank(|| {
        let mut tx = spsc::Producer::<u32>::open(&name, 256).map_err(text)?;
        let values: Vec<u32> = (0..N as u32).collect();
        let mut sent = 0;
        until("all was sent", || {
            let end = values.len().min(sent + 1 + sent % 300);
            sent += tx.push_slice(&values[sent..end]).expect("the consumer lives");
            sent == values.len()
        });
        until("all was read", || tx.is_empty());
        Ok(())
    });
    let _forget = Forget::name(&name);
    let mut rx = spsc::Consumer::<u32>::open(&name, 256).expect("seat 1 is free");
    let (mut some, mut next) = ([0; 300], 0);
    until("all was read", || {
        let most = 1 + next as usize % 299;
        match rx.pop_slice(&mut some[..most]) {
            Ok(n) => some[..n].iter().for_each(|v| {
                assert_eq!(*v, next);
                next += 1;
            }),
            Err(e) => assert_eq!(e, PopError::Empty),
        }
        next == N as u32
    });
    drop(rx);
    ended_well(running);
}

#[test]
fn bytes_pass_between_processes_in_order() {
    let name = name("bytes");
    let all = 20 << 20;
    let running = rank(|| {
        let mut tx = stream::Writer::open(&name, 1 << 16).map_err(text)?;
        let bytes: Vec<u8> = (0..100_000).map(byte).collect();
        let mut sent = 0;
        until("all was sent", || {
            // Two parts, of every length, that together go on where the last write ended.
            let at = sent % bytes.len();
            let (one, two) = bytes[at..].split_at((bytes.len() - at).min(sent % 997));
            let most = all - sent;
            let one = &one[..one.len().min(most)];
            match tx.write(&[one, &two[..two.len().min(most - one.len())]]) {
                Ok(n) => sent += n,
                Err(e) => assert_eq!(e, PushError::Full(())),
            }
            sent == all
        });
        Ok(())
    });
    let _forget = Forget::name(&name);
    let mut rx = stream::Reader::open(&name, 1 << 16).expect("seat 1 is free");
    let (mut some, mut got) = (vec![0; 90_001], 0);
    until("all was read", || {
        match rx.read(&mut some) {
            Ok(n) => {
                let right = some[..n].iter().enumerate().all(|(i, b)| *b == byte((got + i) % 100_000));
                assert!(right, "within {n} bytes at {got}");
                got += n;
            }
            Err(PopError::Drained) => return true,
            Err(e) => assert_eq!(e, PopError::Empty),
        }
        false
    });
    assert_eq!(got, all);
    ended_well(running);
}

fn byte(i: usize) -> u8 {
    (i.wrapping_mul(167) >> 3) as u8
}

/// What each of three processes sends; every value is a number that nobody else sends.
const EACH: usize = 20_000;

/// Sends its own values, if it has some, and receives until the ring is drained. Whatever comes is noted, and comes in
/// its sender's order.
fn exchange(
    ring: &mut mpmc::Ring<u64>,
    tally: &Tally,
    own: std::ops::Range<usize>,
    mut idle: impl FnMut(&mut mpmc::Ring<u64>),
) {
    let (mut own, mut last) = (own.peekable(), [None; 3]);
    until("the ring is drained", || {
        if let Some(value) = own.peek() {
            match ring.try_push(*value as u64) {
                Ok(()) => drop(own.next()),
                Err(e) => assert!(matches!(e, PushError::Full(_) | PushError::Busy { .. }), "{e}"),
            }
        } else {
            idle(ring);
        }
        match ring.try_pop() {
            Ok(value) => {
                assert!(!tally.note(value as usize), "{value} came twice");
                let before = last[value as usize / EACH].replace(value);
                assert!(before < Some(value), "{value} came after {before:?}");
            }
            Err(PopError::Drained) => return true,
            Err(e) => assert!(matches!(e, PopError::Empty | PopError::Busy { .. }), "{e}"),
        }
        false
    });
}

#[test]
fn many_to_many_loses_and_doubles_nothing() {
    let (name, tally_name) = (name("many"), name("many-tally"));
    let open = || mpmc::Ring::<u64>::open(&name, 32, 4).map_err(text);
    let running = Processes::new(3).start(|rank| {
        let (mut ring, tally, rank) = (open()?, Tally::open(&tally_name, 3 * EACH), rank.rank());
        until("all are there", || ring.others() == 3);
        exchange(&mut ring, &tally, rank * EACH..(rank + 1) * EACH, |_| tally.set_flag(rank, 1));
        Ok::<_, String>(())
    });
    let running = running.expect("they start");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let (mut ring, tally) = (open().expect("a seat is free"), Tally::open(&tally_name, 3 * EACH));
    until("all are there", || ring.others() == 3);
    exchange(&mut ring, &tally, 0..0, |ring| {
        if (0..3).all(|rank| tally.flag(rank) == 1) {
            ring.close();
        }
    });
    let report = running.wait(PATIENCE).expect("they end");
    assert!(report.success(), "{report}");
    assert!((0..3 * EACH).all(|value| tally.came(value)));
    assert_eq!(ring.stats(), mpmc::Stats::default());
    assert_eq!(ring.try_push(1), Err(PushError::Closed(1)));
}

#[test]
fn the_newest_value_is_whole() {
    let name = name("latest");
    let running = rank(|| {
        let mut writer = latest::Writer::<[u64; 9]>::open(&name).map_err(text)?;
        until("the reader is there", || writer.segment().is_some_and(|s| s.life(1) == Life::Alive));
        for i in 1..=N {
            assert_eq!(writer.publish(&[i; 9]), Ok(i));
        }
        Ok(())
    });
    let _forget = Forget::name(&name);
    let reader = latest::Reader::<[u64; 9]>::open(&name).expect("a seat is free");
    let mut seen = 0;
    until("the last value", || {
        match reader.read() {
            Ok((n, value)) => {
                assert!(n >= seen && value == [n; 9], "value {n} after {seen} is {value:?}");
                seen = n;
            }
            Err(e) => {
                assert!(matches!(e, latest::ReadError::Nothing | latest::ReadError::Overtaken { .. }), "{e}")
            }
        }
        seen == N
    });
    ended_well(running);
    assert_eq!(reader.read(), Ok((N, [N; 9])), "it outlives its writer");
    assert_eq!(reader.peer().0, Life::Dead);
}

#[test]
fn each_end_has_one_holder() {
    let tx = spsc::Producer::<u8>::create(8).expect("memory");
    let segment = tx.segment().expect("it is in one").clone();
    let me = std::process::id();
    let said = spsc::Producer::<u8>::attach(&segment, 8).expect_err("there is one");
    assert!(matches!(said, Error::SeatTaken { seat: 0, pid } if pid == me), "{said}");
    let rx = spsc::Consumer::<u8>::attach(&segment, 8).expect("seat 1 is free");
    let said = spsc::Consumer::<u8>::attach(&segment, 8).expect_err("there is one");
    assert!(matches!(said, Error::SeatTaken { seat: 1, pid } if pid == me), "{said}");
    assert_eq!((tx.peer().0, rx.peer().1.pid), (Life::Alive, me));

    let a = mpmc::Ring::<u8>::create(8, 2).expect("memory");
    let b = mpmc::Ring::<u8>::attach(a.segment().expect("it is in one"), 8).expect("one of two is free");
    assert_eq!((a.seat(), b.seat(), a.others()), (0, 1, 1));
    let said = mpmc::Ring::<u8>::attach(a.segment().expect("it is in one"), 8).expect_err("both are taken");
    assert!(matches!(said, Error::NoSeat { seats: 2 }), "{said}");

    let writer = latest::Writer::<u8>::create().expect("memory");
    let segment = writer.segment().expect("it is in one");
    let readers: Vec<_> = (0..latest::READERS).map(|_| latest::Reader::<u8>::attach(segment)).collect();
    assert!(readers.iter().all(Result::is_ok));
    let said = latest::Reader::<u8>::attach(segment).expect_err("no seat is left");
    assert!(matches!(said, Error::NoSeat { seats: latest::READERS }), "{said}");
    let said = latest::Writer::<u8>::attach(segment).expect_err("there is one");
    assert!(matches!(said, Error::SeatTaken { seat: 0, .. }), "{said}");
}

#[test]
fn capacities_that_no_ring_has_are_named() {
    fn said<T: std::fmt::Debug>(made: Result<T, Error>) -> CapacityError {
        match made.expect_err("no ring has that capacity") {
            Error::Capacity(e) => e,
            other => panic!("{other}"),
        }
    }
    fn each(capacity: usize) -> Vec<CapacityError> {
        let name = name("capacity");
        vec![
            said(spsc::pair::<u64>(capacity)),
            said(spsc::Producer::<u64>::create(capacity)),
            said(spsc::Consumer::<u64>::open(&name, capacity)),
            said(mpmc::threads::<u64>(capacity, 2)),
            said(mpmc::Ring::<u64>::create(capacity, 2)),
            said(mpmc::Ring::<u64>::open(&name, capacity, 2)),
            said(stream::pair(capacity)),
            said(stream::Writer::create(capacity)),
            said(stream::Reader::open(&name, capacity)),
        ]
    }
    assert_eq!(each(0), [CapacityError::Zero; 9]);
    assert_eq!(each(48), [CapacityError::NotAPowerOfTwo { asked: 48, next: 64 }; 9]);
    for e in each(usize::MAX) {
        assert!(matches!(e, CapacityError::TooLarge { asked: usize::MAX, most } if most <= 1 << 30), "{e}");
    }
    for asked in [0, mpmc::PARTICIPANTS + 1] {
        let said = mpmc::threads::<u64>(8, asked).expect_err("no ring has so many participants");
        assert!(matches!(said, Error::Participants { asked: a, most: 1022 } if a == asked), "{said}");
    }
}

#[test]
fn a_ring_that_no_memory_is_there_for_is_refused_with_figures() {
    for said in [
        spsc::pair::<[u64; 64]>(1 << 30).expect_err("half a terabyte"),
        spsc::Producer::<[u64; 64]>::create(1 << 30).expect_err("half a terabyte"),
        mpmc::Ring::<[u64; 64]>::open(&name("space"), 1 << 30, 2).expect_err("half a terabyte"),
    ] {
        assert!(matches!(said, Error::NoSpace { need, have, .. } if need > 1 << 39 && have < need), "{said}");
    }
    assert!(!std::fs::exists(file_of("/dev/shm".as_ref(), &name("space"))).expect("it can be looked for"));
}

#[test]
fn another_ring_than_was_asked_for_is_refused_with_both_figures() {
    let name = name("other");
    let _forget = Forget::name(&name);
    let _tx = spsc::Producer::<u64>::open(&name, 64).expect("nobody has the name");
    for (said, figures) in [
        (
            spsc::Consumer::<u64>::open(&name, 128).expect_err("another capacity"),
            "128 values of 8 bytes, aligned to 8",
        ),
        (
            spsc::Consumer::<u32>::open(&name, 64).expect_err("another size"),
            "64 values of 4 bytes, aligned to 4",
        ),
        (
            spsc::Consumer::<[u32; 2]>::open(&name, 64).expect_err("another alignment"),
            "64 values of 8 bytes, aligned to 4",
        ),
    ] {
        assert!(
            matches!(said, Error::OtherRing { ref found, .. } if found.capacity == 64 && found.size == 8),
            "{said}"
        );
        assert!(
            said.to_string().contains("64 values of 8 bytes, aligned to 8")
                && said.to_string().contains(figures),
            "{said}"
        );
    }
    let said = mpmc::Ring::<u64>::open(&name, 64, 2).expect_err("another kind");
    assert!(matches!(said, Error::OtherKind { .. }), "{said}");
    assert!(said.to_string().contains("one producer and one consumer, not a ring of many"), "{said}");
    spsc::Consumer::<u64>::open(&name, 64).expect("the right one is let in");

    let ring = mpmc::Ring::<u64>::create(64, 3).expect("memory");
    let segment = ring.segment().expect("it is in one");
    let said = mpmc::Ring::<u64>::attach(segment, 32).expect_err("another capacity");
    assert!(matches!(said, Error::OtherRing { ref expected, .. } if expected.capacity == 32), "{said}");
    let said = spsc::Consumer::<u64>::attach(segment, 64).expect_err("another kind");
    assert!(matches!(said, Error::OtherKind { .. }), "{said}");
    // One that says what is wanted and is too short for it.
    let spec = sapwood_shm::Spec { body: 4096, ..spsc::spec::<u64>(4096).expect("a capacity") };
    let short = Arc::new(Segment::create(&spec).expect("memory"));
    let said = spsc::Producer::<u64>::attach(&short, 4096).expect_err("too short");
    assert!(matches!(said, Error::OtherLengths { .. }), "{said}");
}

#[test]
fn another_number_of_participants_is_refused() {
    let name = name("participants");
    let _forget = Forget::name(&name);
    let _ring = mpmc::Ring::<u64>::open(&name, 64, 3).expect("nobody has the name");
    let said = mpmc::Ring::<u64>::open(&name, 64, 4).expect_err("it has three");
    assert!(matches!(said, Error::OtherSize { found: 3, expected: 4 }), "{said}");
}

#[test]
fn a_dropped_end_closes_the_ring_for_good() {
    let mut tx = spsc::Producer::<u8>::create(2).expect("memory");
    let segment = tx.segment().expect("it is in one").clone();
    let mut rx = spsc::Consumer::<u8>::attach(&segment, 2).expect("seat 1 is free");
    tx.try_push(1).expect("there is room");
    drop(tx);
    let said = spsc::Producer::<u8>::attach(&segment, 2).expect_err("closed is closed");
    assert!(matches!(said, Error::EndClosed { end: "producer" }), "{said}");
    assert_eq!((rx.try_pop(), rx.try_pop()), (Ok(1), Err(PopError::Drained)));
    assert!(rx.is_closed());
    drop(rx);

    let (mut tx, rx) = stream::pair(2).expect("memory");
    tx.write(&[b"ab"]).expect("there is room");
    drop(rx);
    assert_eq!(tx.write(&[b"c"]), Err(PushError::Closed(())));
    let (mut tx, rx) = spsc::pair::<u8>(2).expect("memory");
    drop(rx);
    assert_eq!(
        (tx.try_push(1), tx.push_slice(&[1])),
        (Err(PushError::Closed(1)), Err(PushError::Closed(())))
    );
}

#[test]
fn what_is_full_says_so_and_gives_the_value_back() {
    let (mut tx, mut rx) = spsc::pair::<u64>(2).expect("memory");
    assert_eq!((tx.has_room(), rx.has_next()), (true, false));
    assert_eq!((tx.try_push(1), tx.try_push(2), tx.try_push(3)), (Ok(()), Ok(()), Err(PushError::Full(3))));
    assert_eq!((tx.has_room(), rx.has_next(), tx.len(), tx.push_slice(&[4])), (false, true, 2, Ok(0)));
    assert_eq!((rx.try_pop(), rx.try_pop(), rx.try_pop()), (Ok(1), Ok(2), Err(PopError::Empty)));
    assert_eq!((tx.is_empty(), tx.capacity(), rx.capacity()), (true, 2, 2));

    let mut ring = mpmc::threads::<u64>(1, 1).expect("memory").remove(0);
    assert_eq!((ring.try_push(1), ring.try_push(2)), (Ok(()), Err(PushError::Full(2))));
    assert_eq!((ring.len(), ring.try_pop(), ring.try_pop()), (1, Ok(1), Err(PopError::Empty)));

    let (mut tx, mut rx) = stream::pair(4).expect("memory");
    assert_eq!((tx.write(&[b"abc", b"def"]), tx.room(), rx.available()), (Ok(4), 0, 4));
    assert_eq!(tx.write(&[b"x"]), Err(PushError::Full(())));
    let mut into = [0; 3];
    assert_eq!((rx.read(&mut into), &into, tx.room()), (Ok(3), b"abc", 3));
}

/// Of every kind of value that lies differently: none, small, several lines, aligned to a line.
#[test]
fn values_of_every_shape_come_as_they_went() {
    fn round<T: sapwood_shm::ring::Shareable + PartialEq + std::fmt::Debug>(make: impl Fn(u8) -> T) {
        let (mut tx, mut rx) = spsc::pair::<T>(4).expect("memory");
        let mut many = mpmc::threads::<T>(4, 1).expect("memory").remove(0);
        let (mut writer, reader) = latest::pair::<T>().expect("memory");
        for i in 0..50 {
            tx.try_push(make(i)).map_err(text).expect("there is room");
            many.try_push(make(i)).map_err(text).expect("there is room");
            writer.publish(&make(i)).expect("we are no child");
            assert_eq!((rx.try_pop(), many.try_pop()), (Ok(make(i)), Ok(make(i))));
            assert_eq!(reader.read(), Ok((u64::from(i) + 1, make(i))));
        }
    }
    round(|_| ());
    round(|i| i);
    round(|i| [i; 3]);
    round(|i| u128::from(i) << 100);
    round(|i| [u64::from(i); 7]);
    round(|i| [i; 64]);
    round(|i| [u16::from(i); 333]);
    round(Line::of);
}

/// A value that wants a cache line.
#[derive(Debug, Clone, Copy, PartialEq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

impl Line {
    fn of(i: u8) -> Line {
        let line = Line([u64::from(i); 8]);
        assert_eq!((&raw const line).addr() % 64, 0);
        line
    }
}

#[test]
fn a_forked_child_holds_no_end() {
    let mut tx = spsc::Producer::<u8>::create(4).expect("memory");
    let mut rx = spsc::Consumer::<u8>::attach(tx.segment().expect("in one"), 4).expect("seat 1 is free");
    let mut bytes = stream::Writer::create(4).expect("memory");
    let mut back = stream::Reader::attach(bytes.segment().expect("in one"), 4).expect("seat 1 is free");
    let mut many = mpmc::Ring::<u8>::create(4, 2).expect("memory");
    let mut writer = latest::Writer::<u8>::create().expect("memory");
    let reader = latest::Reader::<u8>::attach(writer.segment().expect("in one")).expect("a seat is free");
    let (mut here, mut there) = spsc::pair::<u8>(4).expect("memory");
    let mut table = jobs::Jobs::<u8, u8>::create(4, 2, 3).expect("memory");
    table.submit(1).expect("there is room");
    let mut taken = Some(table.take().expect("there is a job"));
    tx.try_push(1).expect("there is room");
    many.try_push(1).expect("there is room");
    bytes.write(&[b"a"]).expect("there is room");
    writer.publish(&1).expect("we are no child");
    in_a_fork(|| {
        assert_eq!(
            (tx.try_push(9), tx.push_slice(&[9])),
            (Err(PushError::Forked(9)), Err(PushError::Forked(())))
        );
        assert_eq!((rx.try_pop(), rx.pop_slice(&mut [0])), (Err(PopError::Forked), Err(PopError::Forked)));
        assert_eq!((many.try_push(9), many.try_pop()), (Err(PushError::Forked(9)), Err(PopError::Forked)));
        assert_eq!(
            (bytes.write(&[b"x"]), back.read(&mut [0])),
            (Err(PushError::Forked(())), Err(PopError::Forked))
        );
        assert_eq!(
            (writer.publish(&9), reader.read()),
            (Err(PushError::Forked(())), Err(latest::ReadError::Forked))
        );
        assert_eq!((here.try_push(9), there.try_pop()), (Err(PushError::Forked(9)), Err(PopError::Forked)));
        let said = table.finish(taken.take().expect("it was taken"), 9).map_err(FinishError::into_inner);
        let (job, answer) = said.expect_err("it is the parent's");
        assert!(matches!((job.job, answer, table.decline(job)), (1, 9, Err(FinishError::Forked(_)))));
        many.close();
        // SAFETY: the parent's copies of the handles live in the parent's memory; these are dropped here once.
        unsafe {
            drop(std::ptr::read(&tx));
            drop(std::ptr::read(&rx));
            drop(std::ptr::read(&bytes));
            drop(std::ptr::read(&back));
            drop(std::ptr::read(&many));
            drop(std::ptr::read(&writer));
        }
        true
    });
    // Nothing that the child did is to be seen.
    assert_eq!((tx.peer().0, rx.peer().0), (Life::Alive, Life::Alive));
    assert_eq!((tx.try_push(2), rx.try_pop(), rx.try_pop()), (Ok(()), Ok(1), Ok(2)));
    assert_eq!((many.try_push(2), many.try_pop(), many.try_pop()), (Ok(()), Ok(1), Ok(2)));
    let mut two = [0; 2];
    assert_eq!((bytes.write(&[b"b"]), back.read(&mut two), &two), (Ok(1), Ok(2), b"ab"));
    assert_eq!(reader.read(), Ok((1, 1)));
    table.finish(taken.take().expect("the child had a copy"), 3).expect("the job is still ours");
}

/// What the holder of a seat in its first epoch is in the middle of, in a slot of a ring of many in its first lap.
fn holds(segment: &Segment, slot: usize, seat: u64, state: u64) {
    // The ring's hints take 384 bytes, a slot 64; a word is {lap: 42, seat + 1: 10, epoch: 10, state: 2}.
    let word = segment.body_ptr().wrapping_add(384 + 64 * slot).cast::<u64>();
    // SAFETY: inside the body, on its alignment, and nobody else is at it now.
    unsafe { word.write(((seat + 1) << 10 | 1) << 2 | state) };
}

#[test]
fn a_push_finds_the_dead_though_a_pop_that_waits_for_the_living_is_tried_after_each() {
    const WRITING: u64 = 1;
    const READING: u64 = 3;
    let mut ring = mpmc::Ring::<u64>::create(2, 3).expect("memory");
    let segment = ring.segment().expect("in one").clone();
    let attach = || mpmc::Ring::<u64>::attach(&segment, 2).expect("a seat is free");
    let (reader, writer) = (attach(), attach());
    assert_eq!((reader.seat(), writer.seat()), (1, 2));
    (0..2).for_each(|i| ring.try_push(i).expect("there is room"));
    holds(&segment, 0, 1, READING);
    holds(&segment, 1, 2, WRITING);
    drop(reader);
    let mut found = false;
    // Each of the two asks after its first 64 tries, whatever the clock says.
    for _ in 0..100 {
        let said =
            ring.try_push(2).expect_err("what the dead one was reading comes first, and the writer is next");
        found = ring.stats().redelivered == 1;
        if found {
            break;
        }
        assert!(matches!(said, PushError::Busy { holder: Some(p), .. } if p.seat == 1), "{said}");
        assert!(matches!(ring.try_pop(), Err(PopError::Busy { holder: Some(p) }) if p.seat == 2));
    }
    assert!(found, "the push has never asked");
    drop(writer);
}
