//! What jobs and blocks cost: shared operations and cache lines, pinned, and no allocation.
#![allow(missing_docs)]
#![allow(clippy::disallowed_types)] // the counter of allocations is this test's own

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sapwood_core::blocks::{Blocks, Immortal, Raw, Shape};
use sapwood_core::claim::{Attempts, Jobs, Peers};
use sapwood_core::mem::Mem;
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc;
use sapwood_core::testing::{Count, Counts, Mpmc, Table, Yard};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as asked.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct All;

impl Peers for All {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }
}

type Worker<M> = Jobs<M, u64, u64, Table<M, u64, u64>>;
type Holder<M> = Blocks<M, Yard<M>, Mpmc<M, Raw>>;

fn jobs<M: Mem>(slots: usize) -> [Worker<M>; 2] {
    let table = Table::new(slots, 0, 0, 0).expect("a power of two");
    let attempts = Attempts::of(3).expect("a number");
    // SAFETY: two names, one handle each.
    [0, 1].map(|seat| unsafe { Jobs::attach(table.clone(), Owner::new(seat, 1), attempts) })
}

fn blocks<M: Mem>() -> [Holder<M>; 2] {
    blocks_of(Shape::of(8, 4096).expect("a shape"))
}

fn blocks_of<M: Mem>(shape: Shape) -> [Holder<M>; 2] {
    let yard = Yard::of(shape, 0);
    let ring = Mpmc::new(8, 0, [0; 2]).expect("a power of two");
    // SAFETY: two names, one handle each.
    [0, 1].map(|seat| unsafe {
        let ring = mpmc::Handle::attach(ring.clone(), Owner::new(seat, 1));
        Blocks::attach(yard.clone(), ring).expect("a seat")
    })
}

const NONE: Counts = Counts { loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0 };

/// One read-modify-write for each change of hands. Lines: the slot, and the hint of who claims in order.
#[test]
fn a_job() {
    let [mut owner, mut worker] = jobs::<Count>(64);
    for job in 0..200u64 {
        let submit = Count::of(|| _ = owner.submit(job, &mut All).expect("room"));
        assert_eq!(submit, Counts { loads: 1, stores: 2, rmws: 1, cells: 1, lines: 2, ..NONE });
        let mut taken = None;
        let take = Count::of(|| taken = worker.take(&mut All).ok());
        assert_eq!(take, Counts { loads: 1, stores: 1, rmws: 1, cells: 1, lines: 2, ..NONE });
        let finish = Count::of(|| worker.finish(taken.expect("a job"), job).expect("ours"));
        assert_eq!(finish, Counts { loads: 1, rmws: 1, cells: 2, lines: 1, ..NONE });
        let collect = Count::of(|| _ = owner.collect().expect("an answer"));
        // A new handle first looks at the places of the lap before.
        if job > 0 {
            assert_eq!(collect, Counts { loads: 1, stores: 1, rmws: 1, cells: 2, lines: 1, ..NONE });
        }
    }
}

/// An idle table costs a worker two looks, however large it is, and an owner one.
#[test]
fn nothing_to_do() {
    let [mut owner, mut worker] = jobs::<Count>(1024);
    owner.submit(1, &mut All).expect("room");
    let taken = worker.take(&mut All).expect("a job");
    worker.finish(taken, 1).expect("ours");
    assert!(owner.collect().is_some());
    for _ in 0..2 {
        assert!(worker.take(&mut All).is_err() && owner.collect().is_none());
    }
    let take = Count::of(|| assert!(worker.take(&mut All).is_err()));
    assert_eq!(take, Counts { loads: 2, lines: 2, ..NONE });
    let collect = Count::of(|| assert!(owner.collect().is_none()));
    assert_eq!(collect, Counts { loads: 1, lines: 1, ..NONE });
}

/// Where messages are delivered again, a loan and a send store once more, to a line that they have; a receive does not.
#[test]
fn a_block_that_comes_again() {
    let shape = Shape::of(8, 4096).and_then(Shape::redelivering).expect("a shape");
    let [mut a, mut b] = blocks_of::<Count>(shape);
    for _ in 0..100 {
        let mut lent = None;
        let loan = Count::of(|| lent = a.loan().ok());
        assert_eq!((loan.rmws, loan.stores, loan.loads, loan.lines), (1, 2, 1, 1), "the next block was free");
        let send = Count::of(|| _ = a.send(lent.expect("a block"), 4096, &mut Immortal).expect("room"));
        assert_eq!(send, Counts { loads: 2, stores: 4, rmws: 1, cells: 1, lines: 4, ..NONE });
        let mut got = None;
        let receive = Count::of(|| got = b.receive(&mut Immortal).ok());
        assert_eq!(receive, Counts { loads: 1, stores: 2, rmws: 2, cells: 1, lines: 3, ..NONE });
        let give_back = Count::of(|| b.give_back(got.expect("a message").block));
        assert_eq!(give_back, Counts { stores: 1, lines: 1, ..NONE });
    }
}

/// Lines: the block's header; and for the message the slot, the hint, and, for who sends, the word that says closed.
#[test]
fn a_block() {
    let [mut a, mut b] = blocks::<Count>();
    for _ in 0..100 {
        let mut lent = None;
        let loan = Count::of(|| lent = a.loan().ok());
        assert_eq!((loan.rmws, loan.stores, loan.cells, loan.calls), (1, 1, 0, 0));
        assert!(loan.loads == 1 && loan.lines == 1, "the next block was free: {loan:?}");
        let send = Count::of(|| _ = a.send(lent.expect("a block"), 4096, &mut Immortal).expect("room"));
        assert_eq!(send, Counts { loads: 2, stores: 3, rmws: 1, cells: 1, lines: 4, ..NONE });
        let mut got = None;
        let receive = Count::of(|| got = b.receive(&mut Immortal).ok());
        assert_eq!(receive, Counts { loads: 1, stores: 2, rmws: 2, cells: 1, lines: 3, ..NONE });
        let give_back = Count::of(|| b.give_back(got.expect("a message").block));
        assert_eq!(give_back, Counts { stores: 1, lines: 1, ..NONE });
    }
}

#[test]
fn nothing_allocates() {
    let [mut owner, mut worker] = jobs::<sapwood_core::mem::Real>(8);
    let [mut a, mut b] = blocks::<sapwood_core::mem::Real>();
    let before = ALLOCATIONS.get();
    for i in 0..1000 {
        owner.submit(i, &mut All).expect("room");
        let taken = worker.take(&mut All).expect("a job");
        worker.decline(taken).expect("ours");
        let taken = owner.take(&mut All).expect("a job");
        owner.finish(taken, i).expect("ours");
        assert!(worker.take(&mut All).is_err() && worker.collect().is_some() && owner.collect().is_none());
        worker.recover(Owner::new(5, 1));

        let block = a.loan().expect("a free block");
        a.send(block, 8, &mut Immortal).expect("room");
        let message = b.receive(&mut Immortal).expect("a message");
        b.give_back(message.block);
        assert!(b.receive(&mut Immortal).is_err());
        b.recover(Owner::new(5, 1), &mut Immortal).expect("another's seat");
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1, "allocations are not counted");
}
