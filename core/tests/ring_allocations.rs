//! No push, pop, batch, look or close of any ring allocates.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::ring::{latest, mpmc, spsc, stream};
use sapwood_core::testing::{Latest, Mpmc, Spsc, Stream};

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

/// Allocations that `body` makes in this thread.
fn allocations(mut body: impl FnMut()) -> u64 {
    let before = ALLOCATIONS.get();
    body();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn one_to_one() {
    let ring = Spsc::<Real, u64>::new(64, 0, 0).expect("a capacity");
    let made = allocations(|| {
        // SAFETY: the only producer and the only consumer.
        let (mut from, mut to) =
            unsafe { (spsc::Producer::attach(ring.clone()), spsc::Consumer::attach(ring.clone())) };
        let mut into = [0; 50];
        for i in 0..1000 {
            from.try_push(i).expect("room");
            assert_eq!(from.push_slice(&[1; 50]), Ok(50));
            assert_eq!(to.try_pop(), Ok(i));
            assert_eq!(to.pop_slice(&mut into), Ok(50));
            assert!(to.try_pop().is_err() && from.is_empty());
        }
        while from.try_push(1).is_ok() {}
        from.close();
        to.close();
        assert!(from.try_push(1).is_err());
    });
    assert_eq!(made, 0);
}

#[test]
fn a_pipe() {
    let pipe = Stream::<Real>::new(1 << 16, 0).expect("a capacity");
    let mut into = vec![0; 50_000];
    let made = allocations(|| {
        // SAFETY: the only writer and the only reader.
        let (mut from, mut to) = unsafe {
            (stream::Writer::<Real, _>::attach(pipe.clone()), stream::Reader::<Real, _>::attach(pipe.clone()))
        };
        for _ in 0..20 {
            assert_eq!(from.write(&[&[1; 10], &[2; 40_000]]), Ok(40_010));
            assert_eq!(to.read(&mut into), Ok(40_010));
            assert!(to.read(&mut into).is_err());
        }
        while from.write(&[&[1; 1000]]).is_ok() {}
        from.close();
        to.close();
    });
    assert_eq!(made, 0);
}

#[test]
fn many_to_many() {
    let ring = Mpmc::<Real, u64>::new(64, 0, 0).expect("a capacity");
    let made = allocations(|| {
        // SAFETY: two names.
        let [mut from, mut to] =
            [0, 1].map(|seat| unsafe { mpmc::Handle::attach(ring.clone(), Owner::new(seat, 0)) });
        let peers = &mut mpmc::Immortal;
        for i in 0..1000 {
            assert_eq!(from.try_push(i, peers), Ok(2 * i));
            assert_eq!(from.try_push_with(|at| at, peers), Ok(2 * i + 1));
            assert_eq!(to.try_pop(peers), Ok((2 * i, i)));
            assert_eq!(to.try_pop_with(|_, value| value, peers), Ok(2 * i + 1));
            assert!(to.try_pop(peers).is_err());
        }
        while from.try_push(1, peers).is_ok() {}
        to.recover(Owner::new(0, 0), peers);
        from.close();
        while to.try_pop(peers).is_ok() {}
        assert!(from.try_push(1, peers).is_err());
    });
    assert_eq!(made, 0);
}

#[test]
fn the_newest_value() {
    type Value = [u64; 33];
    let memory = Latest::<Real>::new::<Value>(0);
    let made = allocations(|| {
        // SAFETY: the only writer.
        let mut writer = unsafe { latest::Writer::<Real, Value, _>::attach(memory.clone()) };
        let reader = latest::Reader::<Real, Value, _>::attach(memory.clone());
        for i in 1..1000 {
            writer.publish(&[i; 33]);
            assert_eq!(reader.read(), Ok((i, [i; 33])));
        }
    });
    assert_eq!(made, 0);
}
