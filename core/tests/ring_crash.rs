//! The rings of one writer, whose ends are killed before each of their shared operations: what a successor finds.
//!
//! A torn value would be read exactly where one is read that was not published, or that is free again; and values are
//! numbered, so that shows.
#![allow(missing_docs)]

use std::cell::Cell;

use sapwood_core::ring::{PopError, PushError, latest, spsc, stream};
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::{Crash, Latest, Spsc, Stream};

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

trait Numbered: Shareable + PartialEq + std::fmt::Debug {
    fn number(n: u64) -> Self;
}

impl Numbered for u64 {
    fn number(n: u64) -> Self {
        n
    }
}

impl<const N: usize> Numbered for [u64; N]
where
    [u64; N]: Shareable,
{
    fn number(n: u64) -> Self {
        [n; N]
    }
}

type Producer<T> = spsc::Producer<Crash, T, Spsc<Crash, T>>;
type Consumer<T> = spsc::Consumer<Crash, T, Spsc<Crash, T>>;

fn producer<T: Numbered>(ring: &Spsc<Crash, T>) -> Producer<T> {
    // SAFETY: one thread, in which a former producer is dead or done.
    unsafe { Producer::attach(ring.clone()) }
}

fn consumer<T: Numbered>(ring: &Spsc<Crash, T>) -> Consumer<T> {
    // SAFETY: as above.
    unsafe { Consumer::attach(ring.clone()) }
}

/// Sends values from `next` on, one by one or as a batch; counts what the calls said. `None`: closes.
fn send<T: Numbered>(end: &mut Producer<T>, calls: &[Option<usize>], next: &Cell<u64>) {
    for call in calls {
        match *call {
            Some(1) => next.set(next.get() + u64::from(end.try_push(T::number(next.get())).is_ok())),
            Some(n) => {
                let batch: Vec<T> = (0..n as u64).map(|i| T::number(next.get() + i)).collect();
                let sent = end.push_slice(&batch).expect("the consumer has not closed");
                next.set(next.get() + sent as u64);
            }
            None => end.close(),
        }
    }
}

/// Receives values, one by one or as a batch, and checks that they go on from `next`.
fn receive<T: Numbered>(end: &mut Consumer<T>, calls: &[Option<usize>], next: &Cell<u64>) {
    let mut into = [T::number(0); 16];
    for call in calls {
        match *call {
            Some(1) => {
                if let Ok(value) = end.try_pop() {
                    assert_eq!(value, T::number(next.get()));
                    next.set(next.get() + 1);
                }
            }
            Some(n) => {
                let got = end.pop_slice(&mut into[..n]).unwrap_or(0);
                assert!(into[..got].iter().zip(next.get()..).all(|(v, i)| *v == T::number(i)), "{into:?}");
                next.set(next.get() + got as u64);
            }
            None => end.close(),
        }
    }
}

/// A ring into which `sent` values went, of which `fill` have not been read.
fn before<T: Numbered>(capacity: usize, line: u64, read: u64, fill: u64) -> Spsc<Crash, T> {
    let ring = Spsc::new(capacity, line, T::number(u64::MAX)).expect("a capacity that a ring can have");
    let (sent, had) = (Cell::new(0), Cell::new(0));
    let (mut from, mut to) = (producer::<T>(&ring), consumer::<T>(&ring));
    for _ in 0..read {
        send(&mut from, &[Some(1)], &sent);
        receive(&mut to, &[Some(1)], &had);
    }
    (0..fill).for_each(|_| send(&mut from, &[Some(1)], &sent));
    assert_eq!((sent.get(), had.get()), (read + fill, read));
    ring
}

/// Successors of both ends: all that was sent and not given back comes once, in order; the whole capacity is there.
fn go_on<T: Numbered>(ring: &Spsc<Crash, T>, sent: &Cell<u64>, had: &Cell<u64>) {
    let (mut from, mut to) = (producer::<T>(ring), consumer::<T>(ring));
    let capacity = to.capacity();
    assert_eq!(from.len() as u64, sent.get() - had.get());
    receive(&mut to, &vec![Some(1); capacity + 1], had);
    assert_eq!(had.get(), sent.get(), "lost, or never sent");
    for _ in 0..2 {
        send(&mut from, &vec![Some(1); capacity + 1], sent);
        assert_eq!(sent.get() - had.get(), capacity as u64, "the capacity");
        receive(&mut to, &[Some(3); 8], had);
        assert_eq!(had.get(), sent.get());
    }
    assert_eq!(to.try_pop(), Err(PopError::Empty));
    from.close();
    assert_eq!(to.try_pop(), Err(PopError::Drained));
}

/// Both ends are killed, the producer before operation `i`, the consumer before operation `j`, in either order, at all
/// points. Says how many.
fn kill<T: Numbered>(
    make: impl Fn() -> (Spsc<Crash, T>, u64, u64),
    sends: &[Option<usize>],
    takes: &[Option<usize>],
) -> u64 {
    let mut points = 0;
    for producer_first in [true, false] {
        let mut i = 0;
        loop {
            let mut j = 0;
            let all_sent = loop {
                let (ring, sent, had) = make();
                let (sent, had) = (Cell::new(sent), Cell::new(had));
                let send = || Crash::until(i, || send(&mut producer::<T>(&ring), sends, &sent)).is_some();
                let take = || Crash::until(j, || receive(&mut consumer::<T>(&ring), takes, &had)).is_some();
                let before = sent.get();
                let (s, t) = if producer_first {
                    (send(), take())
                } else {
                    let t = take();
                    (send(), t)
                };
                // A batch that was cut off left a clean prefix: whole lines of it are sent.
                let more = producer::<T>(&ring).len() as u64 + had.get() - sent.get();
                assert!(
                    more == 0 || !s && sends.iter().any(|c| c.is_some_and(|n| n as u64 > more)),
                    "{more} more"
                );
                assert!(sent.get() >= before);
                sent.set(sent.get() + more);
                go_on(&ring, &sent, &had);
                points += 1;
                j += 1;
                if t {
                    break s;
                }
            };
            i += 1;
            if all_sent {
                break;
            }
        }
    }
    points
}

const SENDS: &[&[Option<usize>]] =
    &[&[Some(1)], &[Some(1), Some(1), Some(1)], &[Some(5)], &[Some(1), Some(9), Some(1)]];
const TAKES: &[&[Option<usize>]] =
    &[&[Some(1)], &[Some(1), Some(1), Some(1)], &[Some(5)], &[Some(1), Some(9), Some(1)]];

fn all<T: Numbered>(what: &str) {
    let last = u64::MAX >> 3;
    let mut points = 0;
    for capacity in [1, 2, 4, 8] {
        for line in [0, last, last - 1] {
            // Heads at every place of a line.
            for read in 0..if full() { 16 } else { 8 } {
                for fill in 0..=capacity as u64 {
                    let make = || (before::<T>(capacity, line, read, fill), read + fill, read);
                    let few = if full() { 0 } else { (read + fill) as usize % 3 };
                    for (i, (sends, takes)) in
                        SENDS.iter().flat_map(|s| TAKES.iter().map(move |t| (s, t))).enumerate()
                    {
                        if full() || i % 3 == few {
                            points += kill(make, sends, takes);
                        }
                    }
                }
            }
        }
    }
    println!("spsc, {what}: killed at {points} pairs of points");
}

#[test]
fn ends_of_a_ring_with_seven_values_to_a_line() {
    all::<u64>("seven to a line");
}

#[test]
fn ends_of_a_ring_with_two_values_to_a_line() {
    all::<[u64; 3]>("two to a line");
}

#[test]
fn ends_of_a_ring_with_one_value_to_a_line() {
    all::<[u64; 7]>("one to a line");
}

/// Closing in all orders, with a death before any operation of it: closed or not, and nothing lost.
#[test]
fn closing_ends() {
    let mut points = 0;
    for fill in 0..=2 {
        for k in 0..16 {
            for (closes, then) in [(true, false), (false, true), (true, true)] {
                let ring = before::<u64>(2, u64::MAX >> 3, 6, fill);
                let closed = closes && Crash::until(k, || producer::<u64>(&ring).close()).is_some();
                let refused = then && Crash::until(k, || consumer::<u64>(&ring).close()).is_some();
                let (mut from, mut to) = (producer::<u64>(&ring), consumer::<u64>(&ring));
                assert_eq!(from.try_push(99) == Err(PushError::Closed(99)), refused);
                let sent = if !refused && fill < 2 { fill + 1 } else { fill };
                for i in 0..sent {
                    assert_eq!(to.try_pop(), Ok(if i == fill { 99 } else { 6 + i }));
                }
                assert_eq!(to.try_pop(), Err(if closed { PopError::Drained } else { PopError::Empty }));
                points += 1;
            }
        }
    }
    println!("spsc, closing: killed at {points} points");
}

type Writer = stream::Writer<Crash, Stream<Crash>>;
type Reader = stream::Reader<Crash, Stream<Crash>>;

fn ends(pipe: &Stream<Crash>) -> (Writer, Reader) {
    // SAFETY: one thread, in which former ends are dead or done.
    unsafe { (Writer::attach(pipe.clone()), Reader::attach(pipe.clone())) }
}

/// Writes bytes that count on from `next`, in calls of two parts.
fn write(end: &mut Writer, calls: &[usize], next: &Cell<u64>) {
    for n in calls {
        let bytes: Vec<u8> = (0..*n as u64).map(|i| (next.get() + i) as u8).collect();
        let (a, b) = bytes.split_at(n / 2);
        next.set(next.get() + end.write(&[a, b]).unwrap_or(0) as u64);
    }
}

fn read(end: &mut Reader, calls: &[usize], next: &Cell<u64>) {
    for n in calls {
        let mut into = vec![0; *n];
        let got = end.read(&mut into).unwrap_or(0);
        assert!(into[..got].iter().zip(next.get()..).all(|(b, i)| *b == i as u8), "{into:?}");
        next.set(next.get() + got as u64);
    }
}

#[test]
fn ends_of_a_pipe() {
    let scripts: &[&[usize]] = &[&[1], &[1, 2, 1], &[5], &[3, 9]];
    let mut points = 0;
    for (capacity, start) in
        [1, 2, 4, 8].into_iter().flat_map(|c| [0, u64::MAX, u64::MAX - 2].map(|s| (c, s)))
    {
        for (fill, (writes, reads)) in (0..=capacity).flat_map(|f| {
            scripts.iter().flat_map(|w| scripts.iter().map(move |r| (w, r))).map(move |s| (f, s))
        }) {
            for (i, j) in (0..16).flat_map(|i| (0..16).map(move |j| (i, j))) {
                let pipe = Stream::<Crash>::new(capacity, start).expect("a capacity that a pipe can have");
                let (sent, had) = (Cell::new(0), Cell::new(0));
                write(&mut ends(&pipe).0, &[fill], &sent);
                // A call's last operation is the one that counts, so what calls returned is what is there.
                let _ = Crash::until(i, || write(&mut ends(&pipe).0, writes, &sent));
                let _ = Crash::until(j, || read(&mut ends(&pipe).1, reads, &had));
                let (mut writer, mut reader) = ends(&pipe);
                assert_eq!(reader.look() as u64, sent.get() - had.get());
                read(&mut reader, &[capacity], &had);
                assert_eq!(had, sent);
                assert_eq!(writer.look(), capacity);
                write(&mut writer, &[capacity + 1], &sent);
                writer.close();
                read(&mut reader, &[capacity + 1], &had);
                assert_eq!((had.get(), reader.read(&mut [0])), (sent.get(), Err(PopError::Drained)));
                points += 1;
            }
        }
    }
    println!("stream: killed at {points} pairs of points");
}

/// A long copy is published piece by piece: a death leaves whole pieces.
#[test]
fn a_long_write_and_a_long_read_end_at_pieces() {
    const PIECE: u64 = 32 << 10;
    let capacity = 4 * PIECE;
    for piece in 0..3 {
        for k in [0, 1, PIECE / 2, PIECE, PIECE + 1].map(|k| piece * (PIECE + 1) + k + 3) {
            let pipe = Stream::<Crash>::new(capacity as usize, u64::MAX - 5).expect("a capacity");
            let (sent, had) = (Cell::new(0), Cell::new(0));
            let _ = Crash::until(k, || write(&mut ends(&pipe).0, &[capacity as usize], &sent));
            let there = ends(&pipe).1.look() as u64;
            assert_eq!((there % PIECE, sent.get()), (0, 0));
            assert!(there.abs_diff(k) <= PIECE + 8, "{there} bytes after {k} operations");
            let _ = Crash::until(k / 2, || read(&mut ends(&pipe).1, &[there as usize], &had));
            let left = ends(&pipe).1.look() as u64;
            assert!(left.is_multiple_of(PIECE) && left <= there);
            had.set(there - left);
            read(&mut ends(&pipe).1, &[there as usize], &had);
            assert_eq!(had.get(), there);
        }
    }
}

#[test]
fn the_writer_of_the_newest_value() {
    type Value = [u64; 3];
    let mut points = 0;
    for from in [0, u64::MAX, u64::MAX - 2] {
        for first in 0..5 {
            for k in 0..40 {
                let memory = Latest::<Crash>::new::<Value>(from);
                // SAFETY: one thread, in which a former writer is dead or done.
                let writer = || unsafe { latest::Writer::<Crash, Value, _>::attach(memory.clone()) };
                let reader = latest::Reader::<Crash, Value, _>::attach(memory.clone());
                let said = Cell::new(from);
                let publish = |w: &mut latest::Writer<Crash, Value, Latest<Crash>>| {
                    w.publish(&[said.get().wrapping_add(1); 3]);
                    said.set(said.get().wrapping_add(1));
                };
                (0..first).for_each(|_| publish(&mut writer()));
                let whole = || {
                    let n = said.get();
                    assert_eq!(reader.read(), Ok((n, if n == from { [0; 3] } else { [n; 3] })));
                };
                let _ = Crash::until(k, || (0..5).for_each(|_| publish(&mut writer())));
                whole();
                for _ in 0..5 {
                    publish(&mut writer());
                    whole();
                }
                points += 1;
            }
        }
    }
    println!("latest: killed at {points} points");
}
