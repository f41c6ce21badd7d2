//! What a push and a pop of each ring cost in shared operations and cache lines, pinned. The memory here lies as it
//! does in a segment: lines are lines.
#![allow(missing_docs)]

use std::sync::Arc;

use sapwood_core::mem::{Atom, Mem, RaceCell};
use sapwood_core::owner::Owner;
use sapwood_core::ring::{PopError, latest, mpmc, spsc, stream};
use sapwood_core::testing::{Count, Counts, Mpmc};

type Word = <Count as Mem>::U64;
type Cell<T> = <Count as Mem>::Cell<T>;

/// A line of the ring of one to one, for values of 8 bytes.
#[repr(C, align(64))]
struct Line {
    count: Word,
    values: [Cell<u64>; 7],
}
const _: () = assert!(size_of::<Line>() == 64);

#[derive(Clone)]
struct Lines(Arc<(spsc::Ends<Count>, Vec<Line>, spsc::Shape)>);

impl Lines {
    fn new(capacity: usize) -> Self {
        let shape = spsc::Shape::of::<u64>(capacity).expect("a capacity");
        assert_eq!((shape.line_bytes, shape.value_at::<u64>(1, 2)), (64, 64 + 8 + 16));
        let line = |_| Line { count: Word::new(0), values: std::array::from_fn(|_| Cell::new(0)) };
        Lines(Arc::new((spsc::Ends::new(0), (0..shape.lines).map(line).collect(), shape)))
    }

    fn line(&self, line: u64) -> &Line {
        &self.0.1[line as usize & (self.0.2.lines - 1)]
    }
}

// SAFETY: one element for each line and place, for every clone the same; lines are masked.
unsafe impl spsc::Region<Count, u64> for Lines {
    fn ends(&self) -> &spsc::Ends<Count> {
        &self.0.0
    }
    fn count(&self, line: u64) -> &Word {
        &self.line(line).count
    }
    fn cell(&self, line: u64, i: usize) -> &Cell<u64> {
        &self.line(line).values[i]
    }
    fn shape(&self) -> &spsc::Shape {
        &self.0.2
    }
}

/// Bytes whose copies count as one access each, as in a segment.
#[derive(Clone)]
struct Bytes(Arc<(stream::Ends<Count>, Vec<Cell<u8>>)>);

// SAFETY: one cell for each byte, for every clone the same; positions are masked.
unsafe impl stream::Region<Count> for Bytes {
    fn ends(&self) -> &stream::Ends<Count> {
        &self.0.0
    }
    fn capacity(&self) -> usize {
        self.0.1.len()
    }
    unsafe fn put(&self, _at: u64, bytes: &[u8]) {
        Count::touch(bytes.len());
    }
    unsafe fn get(&self, _at: u64, into: &mut [u8]) {
        Count::touch(into.len());
    }
}

/// Four stripes of a line each, and the number on its own.
#[repr(C, align(64))]
struct Stripe([Word; 8]);

#[derive(Clone)]
struct Stripes(Arc<(Stripe, [Stripe; latest::CELLS])>);

impl Stripes {
    fn new() -> Self {
        let stripe = || Stripe(std::array::from_fn(|_| Word::new(0)));
        Stripes(Arc::new((stripe(), std::array::from_fn(|_| stripe()))))
    }
}

// SAFETY: one word for each cell and place, for every clone the same.
unsafe impl latest::Region<Count, [u64; 8]> for Stripes {
    fn newest(&self) -> &Word {
        &self.0.0.0[0]
    }
    fn word(&self, cell: usize, i: usize) -> &Word {
        &self.0.1[cell].0[i]
    }
}

const NOTHING: Counts = Counts { loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0 };

/// A push: whether the consumer has closed; the value; its line's count. A pop: the count; the value; the free word.
#[test]
fn one_to_one() {
    let ring = Lines::new(64);
    // SAFETY: the only producer and the only consumer.
    let (mut from, mut to) = unsafe { (spsc::Producer::attach(ring.clone()), spsc::Consumer::attach(ring)) };
    // The first of a line and the first after room was looked for cost a look more, nothing else.
    for i in 0..200 {
        let push = Count::of(|| from.try_push(i).expect("room"));
        let pop = Count::of(|| assert_eq!(to.try_pop(), Ok(i)));
        assert!(push.loads <= 2 && push.lines <= 3, "{push:?}");
        assert_eq!(
            Counts { loads: 1, lines: 2, ..push },
            Counts { loads: 1, stores: 1, cells: 1, lines: 2, ..NOTHING }
        );
        assert_eq!(pop, Counts { loads: 1, stores: 1, cells: 1, lines: 2, ..NOTHING });
    }
    let looks: u32 = (0..640)
        .map(|i| {
            let push = Count::of(|| from.try_push(i).expect("room"));
            assert_eq!(to.try_pop(), Ok(i));
            push.loads - 1
        })
        .sum();
    assert!(looks <= 10, "the free word was looked at {looks} times for 10 turns of the ring");
}

/// Values that wait cost no look: a line's count is loaded once for all of them.
#[test]
fn a_burst_and_batches_of_one_to_one() {
    let ring = Lines::new(64);
    // SAFETY: as above.
    let (mut from, mut to) = unsafe { (spsc::Producer::attach(ring.clone()), spsc::Consumer::attach(ring)) };
    let push = Count::of(|| (0..14).for_each(|i| from.try_push(i).expect("room")));
    let pop = Count::of(|| (0..14).for_each(|i| assert_eq!(to.try_pop(), Ok(i))));
    assert_eq!(push, Counts { loads: 14, stores: 14, cells: 14, lines: 3, ..NOTHING });
    assert_eq!(pop, Counts { loads: 2, stores: 14, cells: 14, lines: 3, ..NOTHING });
    let values: Vec<u64> = (0..14).collect();
    let push = Count::of(|| assert_eq!(from.push_slice(&values), Ok(14)));
    let mut into = [0; 14];
    let pop = Count::of(|| assert_eq!(to.pop_slice(&mut into), Ok(14)));
    assert_eq!(push, Counts { loads: 1, stores: 2, cells: 14, lines: 3, ..NOTHING });
    assert_eq!(pop, Counts { loads: 2, stores: 1, cells: 14, lines: 3, ..NOTHING });
    assert_eq!(
        Count::of(|| assert_eq!(to.try_pop(), Err(PopError::Empty))),
        Counts { loads: 2, lines: 2, ..NOTHING }
    );
}

/// A write: whether the reader has closed; the bytes; `written`. A read: `written`, the bytes, `read`.
#[test]
fn a_pipe() {
    let bytes = (0..4096).map(|_| Cell::new(0)).collect();
    let pipe = Bytes(Arc::new((stream::Ends::new(0), bytes)));
    // SAFETY: the only writer and the only reader.
    let (mut from, mut to) = unsafe {
        (stream::Writer::<Count, _>::attach(pipe.clone()), stream::Reader::<Count, _>::attach(pipe))
    };
    for _ in 0..10 {
        let write = Count::of(|| assert_eq!(from.write(&[&[1; 40], &[2; 8]]), Ok(48)));
        let read = Count::of(|| assert_eq!(to.read(&mut [0; 48]), Ok(48)));
        assert_eq!(write, Counts { loads: 1, stores: 1, cells: 2, lines: 2, ..NOTHING });
        assert_eq!(read, Counts { loads: 1, stores: 1, cells: 1, lines: 2, ..NOTHING });
    }
}

/// A push: the flag; the slot's word; the claim; the hint; the value; the word. A pop the same without the flag.
#[test]
fn many_to_many() {
    let ring = Mpmc::<Count, u64>::new(64, 0, 0).expect("a capacity");
    // SAFETY: two names.
    let [mut from, mut to] =
        [0, 1].map(|seat| unsafe { mpmc::Handle::attach(ring.clone(), Owner::new(seat, 0)) });
    let peers = &mut mpmc::Immortal;
    for i in 0..200 {
        let push = Count::of(|| assert_eq!(from.try_push(i, peers), Ok(i)));
        let pop = Count::of(|| assert_eq!(to.try_pop(peers), Ok((i, i))));
        assert_eq!(push, Counts { loads: 2, stores: 2, rmws: 1, cells: 1, lines: 3, ..NOTHING });
        assert_eq!(pop, Counts { loads: 1, stores: 2, rmws: 1, cells: 1, lines: 2, ..NOTHING });
    }
    // Nothing there: the slot, the flag, the hint.
    let none = Count::of(|| assert_eq!(to.try_pop(peers), Err(PopError::Empty)));
    assert_eq!(none, Counts { loads: 3, lines: 3, ..NOTHING });
}

/// A line of a value and the number, for both sides; the reader looks at the number twice.
#[test]
fn the_newest_value() {
    let memory = Stripes::new();
    // SAFETY: the only writer.
    let mut writer = unsafe { latest::Writer::<Count, [u64; 8], _>::attach(memory.clone()) };
    let reader = latest::Reader::<Count, [u64; 8], _>::attach(memory);
    for n in 1..=9 {
        let publish = Count::of(|| writer.publish(&[n; 8]));
        let read = Count::of(|| assert_eq!(reader.read(), Ok((n, [n; 8]))));
        assert_eq!(publish, Counts { stores: 9, fences: 1, lines: 2, ..NOTHING });
        assert_eq!(read, Counts { loads: 10, fences: 1, lines: 2, ..NOTHING });
    }
}
