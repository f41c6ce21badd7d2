//! What a push and a pop of the queue between threads cost in shared operations and cache lines, pinned. The memory
//! here lies as it does where it ships: a word beside its place.
#![allow(missing_docs)]

use sapwood_core::mem::{Atom, Mem, RaceCell};
use sapwood_core::ring::local::{Ends, Queue, Region, empty};
use sapwood_core::ring::{PopError, PushError};
use sapwood_core::testing::{Count, Counts};

type Word = <Count as Mem>::U64;

#[repr(C)]
struct Slot(Word, <Count as Mem>::Cell<u64>);

/// Four slots a line.
#[repr(C, align(64))]
struct Line([Slot; 4]);
const _: () = assert!(size_of::<Line>() == 64);

struct Memory(Ends<Count>, Vec<Line>);

const SHIFT: u32 = 4;

impl Memory {
    fn queue() -> Queue<Count, u64, Memory> {
        let slot = |i: u64| Slot(Word::new(empty(i, SHIFT, 0)), RaceCell::new(0));
        let line = |l: u64| Line(std::array::from_fn(|i| slot(4 * l + i as u64)));
        // SAFETY: an empty ring, which nobody else has.
        unsafe { Queue::new(Memory(Ends::new(0), (0..1 << SHIFT >> 2).map(line).collect())) }
    }

    fn slot(&self, i: u64) -> &Slot {
        let i = i as usize & ((1 << SHIFT) - 1);
        &self.1[i / 4].0[i % 4]
    }
}

// SAFETY: one element for each slot; numbers are masked.
unsafe impl Region<Count, u64> for Memory {
    fn ends(&self) -> &Ends<Count> {
        &self.0
    }
    fn word(&self, i: u64) -> &Word {
        &self.slot(i).0
    }
    unsafe fn put(&self, i: u64, value: u64) {
        // SAFETY: the caller's promise.
        self.slot(i).1.with_mut(|p| unsafe { p.write(value) });
    }
    unsafe fn take(&self, i: u64) -> u64 {
        // SAFETY: the caller's promise.
        self.slot(i).1.with(|p| unsafe { p.read() })
    }
    fn shift(&self) -> u32 {
        SHIFT
    }
}

const NOTHING: Counts = Counts { loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0 };

/// A push: the tail; the slot's word; the claim; the value; the word. A pop the same with the head.
#[test]
fn one_by_one() {
    let queue = Memory::queue();
    for i in 0..100 {
        let push = Count::of(|| assert_eq!(queue.try_push(i), Ok(())));
        let pop = Count::of(|| assert_eq!(queue.try_pop(), Ok(i)));
        assert_eq!(push, Counts { loads: 2, stores: 1, rmws: 1, cells: 1, lines: 2, ..NOTHING });
        assert_eq!(pop, push);
    }
    // Nothing there: head, slot, tail. No room: tail, slot, head. Closed: the tail again.
    let none = Count::of(|| assert_eq!(queue.try_pop(), Err(PopError::Empty)));
    assert_eq!(none, Counts { loads: 3, lines: 3, ..NOTHING });
    (0..16).for_each(|i| queue.try_push(i).expect("room"));
    let full = Count::of(|| assert_eq!(queue.try_push(0), Err(PushError::Full(0))));
    assert_eq!(full, Counts { loads: 3, lines: 3, ..NOTHING });
    queue.close();
    let closed = Count::of(|| assert_eq!(queue.try_push(0), Err(PushError::Closed(0))));
    assert_eq!(closed, Counts { loads: 3, lines: 2, ..NOTHING });
}

/// A batch has one claim; each place is looked at.
#[test]
fn a_batch() {
    let queue = Memory::queue();
    let mut got = Vec::with_capacity(8);
    for _ in 0..10 {
        let push = Count::of(|| assert_eq!(queue.push_batch(&mut [7; 8].into_iter()), Ok(8)));
        let pop = Count::of(|| assert_eq!(queue.pop_batch(&mut got, 8), Ok(8)));
        assert_eq!(push, Counts { loads: 9, stores: 8, rmws: 1, cells: 8, lines: 3, ..NOTHING });
        assert_eq!(pop, push);
    }
}
