//! What a rank that fails leaves of the resident tensor that it had lent, and what a bad peer may name as its own.
//!
//! Rank 0 is a member; what the others do in its operation is played by hand on their places.
//!
//! # Safety
//! The hand that plays a rank is that rank's only one.
#![allow(missing_docs, unsafe_code)]
#![allow(clippy::disallowed_types)] // the oracle is the test's own

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{PATIENCE, Rank, here, member};
use sapwood_core::board::{Body, End, Failing, Leaving, Life, Region};
use sapwood_core::call::{Fingerprint, Kind, With, count_word};
use sapwood_core::dtype::Dtype;
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::sizes::Sizes;
use sapwood_core::testing::Heap;

const LEN: usize = 100;
const PART: usize = 4096;

/// A group of which rank 0 is a member, and its first operation is an all-reduce of resident tensors.
struct Play {
    heap: Heap<Real>,
    zero: Rank<Real>,
    /// A bit for each rank that is dead.
    dead: Arc<AtomicU64>,
    closure: bool,
}

impl Play {
    fn new(ranks: usize, closure: bool) -> Play {
        let dead = Arc::new(AtomicU64::new(0));
        let oracle = dead.clone();
        let life = move |q: usize| {
            if oracle.load(Ordering::Acquire) >> q & 1 == 1 { Life::Dead } else { Life::Alive }
        };
        let heap = Heap::new(Sizes::TINY, ranks, 0, PART * ranks, life);
        let zero = member(&heap, 0, ranks, 0, Patience { deadline: 1_000_000, ..PATIENCE });
        Play { heap, zero, dead, closure }
    }

    /// Rank `q` publishes the same call, with this token.
    fn publish(&self, q: usize, token: u64) {
        let with = if self.closure { With::Closure } else { With::Op(Op::Sum) };
        let count = count_word([LEN].into_iter());
        let call = Fingerprint::new(Kind::AllReduce, with, Some(Dtype::F32), 0, count);
        let body = Body { what: call.what, count: call.count, payload: [token, 0, 0, 0] };
        // SAFETY: the only hand of rank `q`, before anybody has read its line.
        unsafe { self.heap.place(q).publish(1, 0, &body) };
    }

    fn end(&self, q: usize, end: End, n: u64) {
        // SAFETY: the only hand of rank `q`, which does nothing after it.
        unsafe { self.heap.place(q).end(end, n) };
    }

    /// Rank 0's call. Says whether its tensor is as before.
    fn call(&mut self) -> (Result<usize, Fault>, bool) {
        // SAFETY: nobody else is here.
        let t = unsafe { self.heap.tensor::<f32>(0, LEN) };
        t.fill(1.0);
        let r = self.zero.all_reduce(&mut [&mut *t], Op::Sum, here());
        (r, t.iter().all(|v| *v == 1.0))
    }
}

fn token(rank: usize) -> u64 {
    (rank * PART) as u64
}

#[test]
fn what_a_bad_peer_names_is_refused_before_anything_is_touched() {
    let bytes = LEN as u64 * 4;
    let bad = [
        token(0),                           // the very tensor of rank 0
        token(0) + 64,                      // some of it
        token(0) + 1024,                    // another of its tensors
        token(1) - 64,                      // from rank 0's part into its own
        token(1) + PART as u64 - bytes + 4, // beyond its part
        token(2),                           // rank 2's
        token(1) + 2,                       // no place for an f32
        3 * PART as u64,                    // beyond the arena
        u64::MAX - 1,
        u64::MAX - bytes,
        1 << 63,
    ];
    for token_of_1 in bad {
        let mut play = Play::new(3, false);
        play.publish(1, token_of_1);
        play.publish(2, token(2));
        assert_eq!(play.call(), (Err(Fault::BadToken { rank: 1 }), true), "{token_of_1:#x}");
        assert_eq!(play.zero.barrier(here()), Err(Fault::BadToken { rank: 1 }), "the answer stays");
    }
    for good in [token(1), token(1) + 4, token(1) + PART as u64 - bytes] {
        let mut play = Play::new(3, false);
        play.publish(1, good);
        play.publish(2, token(2));
        // Found resident and reduced, and then nobody comes to the end.
        let (said, _) = play.call();
        assert!(matches!(said, Err(Fault::TimedOut { rank: 1, .. })), "{good:#x}: {said:?}");
        assert!(play.zero.touched());
    }
}

/// A group that is too large for it goes through blocks; all ranks decide alike.
#[test]
fn more_ranks_than_tokens_are_looked_up_for_are_no_residents() {
    let ranks = 257;
    let heap = Heap::<Real>::new(Sizes::TINY, ranks, 0, PART * ranks, |_| Life::Alive);
    let mut zero = member(&heap, 0, ranks, 0, Patience { deadline: 1_000_000, ..PATIENCE });
    // SAFETY: nobody else is here.
    let t = unsafe { heap.tensor::<f32>(0, LEN) };
    let r = zero.all_reduce(&mut [t], Op::Sum, here());
    assert!(matches!(r, Err(Fault::TimedOut { rank: 1, .. })), "{r:?}");
    assert!(!zero.touched() && !heap.is_poisoned(0), "nothing was lent");
}

#[derive(Clone, Copy, Debug)]
enum Other {
    /// It has not come, and may still.
    Away,
    /// It has left before the operation.
    Left,
    /// It died before the operation.
    Died,
    /// It has published, and is in the middle of it.
    InIt,
    /// It has published, and then given up.
    GaveUp,
    /// It has published, and then died.
    DiedInIt,
}
use Other::*;

/// Rank 0 gives up: is its tensor as before for good, at rest but unspecified, or poisoned?
#[test]
fn a_lent_tensor_is_at_rest_when_all_others_are_proven_to_be_done_and_else_poisoned() {
    let (untouched, at_rest, poisoned) = ((false, false), (true, false), (true, true));
    for (others, left) in [
        ([Away, Away], poisoned),
        ([Away, InIt], poisoned),
        ([Left, Away], untouched),
        ([Left, InIt], untouched),
        ([InIt, Left], untouched),
        ([Died, Away], untouched),
        ([InIt, Died], untouched),
        ([GaveUp, Away], poisoned),
        ([GaveUp, InIt], poisoned),
        ([DiedInIt, InIt], poisoned),
        ([DiedInIt, Away], poisoned),
        ([GaveUp, GaveUp], at_rest),
        ([DiedInIt, GaveUp], at_rest),
        ([DiedInIt, DiedInIt], at_rest),
        ([DiedInIt, Died], untouched),
    ] {
        for closure in [false, true] {
            let mut play = Play::new(3, closure);
            for (q, other) in [1, 2].into_iter().zip(others) {
                if matches!(other, InIt | GaveUp | DiedInIt) {
                    play.publish(q, token(q));
                }
                match other {
                    Left => play.end(q, End::Left(Leaving::Dropped), 0),
                    GaveUp => play.end(q, End::Failed(Failing::TimedOut(0)), 1),
                    Died | DiedInIt => {
                        play.dead.fetch_or(1 << q, Ordering::Release);
                    }
                    Away | InIt => {}
                }
            }
            let failed = if closure {
                // SAFETY: nobody else is here.
                let t = unsafe { play.heap.tensor::<f32>(0, LEN) };
                let panics = |_: &mut [f32], _: &[f32]| panic!("on purpose");
                let call = || play.zero.all_reduce_with(&mut [t], panics, here());
                !matches!(catch_unwind(AssertUnwindSafe(call)), Ok(Ok(_)))
            } else {
                let (said, as_before) = play.call();
                assert!(as_before || left != untouched, "{others:?}");
                said.is_err()
            };
            assert!(failed, "{others:?}");
            let found = (play.zero.touched(), play.heap.is_poisoned(0));
            assert_eq!(found, left, "{others:?}, closure: {closure}");
            assert!(!play.heap.is_poisoned(1) && !play.heap.is_poisoned(2));
        }
    }
}

/// Private tensors are nobody's business; neither are resident ones beside them.
#[test]
fn what_was_not_lent_is_never_poisoned() {
    let mut play = Play::new(3, false);
    play.publish(1, u64::MAX); // private
    play.publish(2, token(2));
    let (said, as_before) = play.call();
    assert!(matches!(said, Err(Fault::TimedOut { .. })) && as_before, "{said:?}");
    assert!(!play.heap.is_poisoned(0) && !play.zero.touched());
}
