//! Groups of threads over a heap region.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses its part

use std::panic::Location;

use sapwood_core::board::Life;
use sapwood_core::mem::Mem;
use sapwood_core::member::{Member, Patience};
use sapwood_core::sizes::Sizes;
use sapwood_core::testing::Heap;
use sapwood_core::wait::{Prices, WaitPolicy};

pub const PATIENCE: Patience = Patience {
    policy: WaitPolicy::Adaptive,
    prices: Prices { spin: 10, give_way: 500, wake: 5_000 },
    crowded: true,
    deadline: 20_000_000_000,
};

pub type Rank<M> = Member<M, Heap<M>>;

#[track_caller]
pub fn here() -> &'static Location<'static> {
    Location::caller()
}

pub fn heap<M: Mem>(sizes: Sizes, ranks: usize, n: u64) -> Heap<M> {
    Heap::new(sizes, ranks, n, 1 << 20, |_| Life::Alive)
}

/// Rank `rank` of `ranks` over a heap.
pub fn member<M: Mem>(heap: &Heap<M>, rank: usize, ranks: usize, n: u64, patience: Patience) -> Rank<M> {
    assert!(rank < ranks);
    // SAFETY: every test makes each rank of its heap once, and heaps start where their members do.
    unsafe { Member::new(heap.clone(), rank, ranks, n, patience) }
}

/// Runs `f` as every rank of a group, and hands out what they return, by rank.
pub fn group<M: Mem, V: Send>(
    sizes: Sizes,
    ranks: usize,
    n: u64,
    f: impl Fn(&mut Rank<M>, &Heap<M>) -> V + Sync,
) -> Vec<V> {
    let heap = heap::<M>(sizes, ranks, n);
    over(&heap, ranks, n, f)
}

/// The same over a heap of the caller's.
pub fn over<M: Mem, V: Send>(
    heap: &Heap<M>,
    ranks: usize,
    n: u64,
    f: impl Fn(&mut Rank<M>, &Heap<M>) -> V + Sync,
) -> Vec<V> {
    std::thread::scope(|s| {
        let run = |r| {
            let f = &f;
            s.spawn(move || {
                let mut member = member(heap, r, ranks, n, PATIENCE);
                f(&mut member, heap)
            })
        };
        let threads: Vec<_> = (0..ranks).map(run).collect();
        threads.into_iter().map(|t| t.join().expect("a rank panicked")).collect()
    })
}

/// Runs `f` for so many seeds, a hundred times as many in the long form, and names the seed of a panic.
pub fn seeds(short: u64, mut f: impl FnMut(u64)) {
    struct Naming(u64);
    impl Drop for Naming {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("this was seed {}", self.0);
            }
        }
    }
    let all = if std::env::var_os("SAPWOOD_FULL").is_some() { 100 * short } else { short };
    for seed in 0..all {
        let naming = Naming(seed);
        f(seed);
        drop(naming);
    }
}
