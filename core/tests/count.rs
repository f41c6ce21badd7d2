//! What an operation costs in shared operations and cache lines, pinned: false sharing or a fence too many fails here,
//! on any machine and under any load.
//!
//! The measured rank comes last: the others have published and spin, so it never waits, and every count is exact.
#![allow(missing_docs)]

mod common;

use common::{PATIENCE, Rank, heap, here, member};
use sapwood_core::board::Region;
use sapwood_core::mem::Mem;
use sapwood_core::member::Patience;
use sapwood_core::reduce::Op;
use sapwood_core::sizes::Sizes;
use sapwood_core::testing::{Count, Counts};
use sapwood_core::wait::WaitPolicy;

/// What `call` costs rank 0 of `ranks`, from its third time on.
fn cost(ranks: usize, call: impl Fn(&mut Rank<Count>) + Sync) -> Counts {
    let heap = heap::<Count>(Sizes::DEFAULT, ranks, 0);
    let patience = Patience { policy: WaitPolicy::Spin, ..PATIENCE };
    let member = |r| member(&heap, r, ranks, 0, patience);
    std::thread::scope(|s| {
        let call = &call;
        for r in 1..ranks {
            let mut m = member(r);
            s.spawn(move || (0..3).for_each(|_| call(&mut m)));
        }
        let mut m = member(0);
        let mut counts = Counts::default();
        for n in 1..=3 {
            // Bounded by the others' deadline: they end with a panic that the scope hands on.
            while !(1..ranks).all(|q| heap.place(q).published(n)) {
                Count::yield_now();
            }
            counts = Count::of(|| call(&mut m));
        }
        counts
    })
}

/// Own line: steps and sequence stored, body written. For each other rank its line: sequence loaded, fingerprint
/// and payload read. Then one fence, and for each other rank a look at its bell. Lines: one's own, and of
/// each other rank its line of this parity and its desk.
fn small(ranks: u32) -> Counts {
    let others = ranks - 1;
    Counts {
        loads: 2 * others,
        stores: 2,
        rmws: 0,
        fences: 1,
        cells: 1 + 2 * others,
        calls: 0,
        lines: 1 + 2 * others,
    }
}

#[test]
fn a_barrier() {
    for ranks in [2, 4] {
        let counts = cost(ranks, |m| m.barrier(here()).expect("all agree"));
        assert_eq!(counts, small(ranks as u32), "{ranks} ranks");
    }
}

/// As a barrier; with more than two ranks the kernel asks for each payload's address once for each of the two elements.
#[test]
fn eight_bytes() {
    for (ranks, cells) in [(2, 3), (4, 10)] {
        let counts = cost(ranks, |m| {
            let mut t = [1.0f32, 2.0];
            assert_eq!(m.all_reduce(&mut [&mut t], Op::Sum, here()), Ok(m.size()));
        });
        assert_eq!(counts, Counts { cells, ..small(ranks as u32) }, "{ranks} ranks");
    }
}

/// The root of a short broadcast touches its own line and the others' bells, and catches up with the one before: a
/// sequence and a fingerprint a rank, of the other parity.
#[test]
fn a_broadcast_at_its_root() {
    let counts = cost(3, |m| m.broadcast(&mut [&mut [7u32][..]], 0, here()).expect("all agree"));
    assert_eq!((counts.stores, counts.rmws, counts.fences, counts.calls), (2, 0, 1, 0));
    assert_eq!((counts.loads, counts.lines), (2 * 2, 1 + 2 * 2));
}
