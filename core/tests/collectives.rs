//! The operations against naive oracles: every scheme, by threads over a heap region with tiny buffers.
#![allow(missing_docs)]

mod common;

use common::{PATIENCE, Rank, group, heap, here, member, over};
use sapwood_core::board::{Leaving, Region};
use sapwood_core::call::Kind;
use sapwood_core::dtype::{Dtype, Element};
use sapwood_core::mem::Real;
use sapwood_core::member::{Fault, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::sizes::{Scheme, Sizes};

/// Values whose f32 sum depends on the order of addition.
fn value(rank: usize, i: usize, round: usize) -> f32 {
    let x = (rank * 7919 + i * 104_729 + round * 31) % 1000;
    (x as f32 - 500.0) * [1.0e-3, 1.0, 1.0e4][(i + rank) % 3]
}

fn fold(ranks: usize, i: usize, round: usize) -> f32 {
    (1..ranks).fold(value(0, i, round), |sum, q| sum + value(q, i, round))
}

const LENGTHS: [usize; 17] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 48, 64, 127, 200, 257, 300, 1000];

/// Near the wrap of sequences, and from the start.
const STARTS: [u64; 2] = [0, u64::MAX - 3];

#[test]
fn sums_are_the_fold_in_rank_order_for_every_length_and_group() {
    for n in STARTS {
        for ranks in [1, 2, 3, 4, 5] {
            group::<Real, _>(Sizes::TINY, ranks, n, |m, _| {
                for (round, len) in LENGTHS.iter().chain(LENGTHS.iter().rev()).enumerate() {
                    let mut t: Vec<f32> = (0..*len).map(|i| value(m.rank(), i, round)).collect();
                    assert_eq!(m.all_reduce(&mut [&mut t], Op::Sum, here()), Ok(ranks));
                    for (i, v) in t.iter().enumerate() {
                        assert_eq!(
                            v.to_bits(),
                            fold(ranks, i, round).to_bits(),
                            "{ranks} ranks, {len} [{i}]"
                        );
                    }
                }
            });
        }
    }
}

#[test]
fn the_lengths_reach_every_scheme() {
    let schemes = |ranks, built_in| {
        let mut all: Vec<_> = LENGTHS.iter().map(|n| Sizes::TINY.scheme(n * 4, ranks, built_in)).collect();
        all.dedup();
        all
    };
    use Scheme::*;
    assert_eq!(schemes(2, true), [Inline, Swap(0), Swap(1), Swap(2), Swap(3), Swap(4)]);
    assert_eq!(schemes(3, true), [Inline, Flat, Blocks]);
    assert_eq!(schemes(2, false), [Inline, Flat, Blocks]);
}

#[test]
fn several_tensors_are_one_operation() {
    for ranks in [1, 2, 3] {
        group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
            for (round, scale) in [1, 3, 20, 90].into_iter().enumerate() {
                let lengths = [3, 0, 1, 5 * scale, 2 * scale + 1];
                let of = |m: &Rank<Real>, k: usize, i: usize| value(m.rank(), k * 1000 + i, round);
                let mut t: Vec<Vec<f32>> =
                    (0..5).map(|k| (0..lengths[k]).map(|i| of(m, k, i)).collect()).collect();
                let mut list: Vec<&mut [f32]> = t.iter_mut().map(Vec::as_mut_slice).collect();
                let before = m.operations();
                m.all_reduce(&mut list, Op::Sum, here()).expect("all agree");
                assert_eq!(m.operations(), before + 1);
                for (k, t) in t.iter().enumerate() {
                    for (i, v) in t.iter().enumerate() {
                        assert_eq!(v.to_bits(), fold(ranks, k * 1000 + i, round).to_bits(), "{k} {i}");
                    }
                }
            }
        });
    }
}

#[test]
fn closures_fold_in_rank_order_too() {
    for ranks in [1, 2, 3, 4] {
        group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
            for len in LENGTHS {
                // Not commutative: appends the digit of the next rank.
                let mut t = vec![m.rank() as u64 + 1; len];
                let f = |sum: &mut [u64], next: &[u64]| {
                    assert_eq!(sum.len(), next.len());
                    sum.iter_mut().zip(next).for_each(|(s, n)| *s = *s * 10 + n);
                };
                assert_eq!(m.all_reduce_with(&mut [&mut t], f, here()), Ok(ranks));
                let want = (1..=ranks as u64).fold(0, |s, d| s * 10 + d);
                assert!(t.iter().all(|v| *v == want), "{ranks} {len}");
            }
        });
    }
}

#[test]
fn resident_and_private_tensors_mix() {
    const LEN: usize = 300;
    for ranks in [1, 2, 3, 4] {
        for private in 0..1usize << ranks {
            group::<Real, _>(Sizes::TINY, ranks, 0, |m, heap| {
                for round in 0..4 {
                    let mut own = vec![0.0; LEN];
                    // SAFETY: each rank has its own part of the arena.
                    let shared = unsafe { heap.tensor::<f32>(m.rank(), LEN) };
                    let t = if private >> m.rank() & 1 == 1 { &mut own[..] } else { shared };
                    t.iter_mut().enumerate().for_each(|(i, v)| *v = value(m.rank(), i, round));
                    assert_eq!(m.all_reduce(&mut [t], Op::Sum, here()), Ok(ranks));
                    for (i, v) in t.iter().enumerate() {
                        assert_eq!(v.to_bits(), fold(ranks, i, round).to_bits(), "{ranks} {private:b} [{i}]");
                    }
                    // Closures reach resident tensors too.
                    t.iter_mut().enumerate().for_each(|(i, v)| *v = value(m.rank(), i, round + 9));
                    let add = |s: &mut [f32], n: &[f32]| s.iter_mut().zip(n).for_each(|(s, n)| *s += n);
                    m.all_reduce_with(&mut [t], add, here()).expect("all agree");
                    assert!((0..LEN).all(|i| t[i].to_bits() == fold(ranks, i, round + 9).to_bits()));
                }
            });
        }
    }
}

#[test]
fn broadcast_from_every_root_at_every_length() {
    for n in STARTS {
        for ranks in [1, 2, 3, 4] {
            group::<Real, _>(Sizes::TINY, ranks, n, |m, _| {
                for round in 0..2 {
                    for root in 0..ranks {
                        for len in LENGTHS {
                            let mut t: Vec<f32> = (0..len).map(|i| value(m.rank(), i, round)).collect();
                            assert_eq!(m.broadcast(&mut [&mut t], root, here()), Ok(()));
                            assert!((0..len).all(|i| t[i] == value(root, i, round)), "{root} {len}");
                        }
                    }
                }
            });
        }
    }
}

/// A root that never waits runs ahead by one operation at most, and what it published stays until it was read.
#[test]
fn a_root_that_never_waits_overwrites_nothing() {
    group::<Real, _>(Sizes::TINY, 3, 0, |m, _| {
        for i in 0..2000u64 {
            let mut small = [if m.rank() == 1 { i } else { 0 }];
            m.broadcast(&mut [&mut small], 1, here()).expect("all agree");
            assert_eq!(small, [i]);
            let mut slot = [if m.rank() == 1 { i } else { 0 }; 7];
            m.broadcast(&mut [&mut slot], 1, here()).expect("all agree");
            assert_eq!(slot, [i; 7]);
        }
    });
}

#[test]
fn everybody_gets_everybodys_words() {
    group::<Real, _>(Sizes::TINY, 3, 0, |m, _| {
        let (words, mut got) = ([m.rank() as u64, 7, 8, 9], Vec::new());
        let told = m.exchange(Kind::Alloc, Some((Dtype::F32, 5)), words, here(), |q, w| got.push((q, w)));
        assert_eq!(told, Ok(3));
        assert_eq!(got, [(0, [0, 7, 8, 9]), (1, [1, 7, 8, 9]), (2, [2, 7, 8, 9])]);
    });
}

/// One mismatch after another, each seen by all, each followed by an operation that works.
#[test]
fn a_mismatch_names_both_calls_and_the_group_goes_on() {
    type Odd = fn(&mut Rank<Real>, &mut Vec<f32>) -> Result<usize, Fault>;
    let odd: [Odd; 6] = [
        |m, t| m.all_reduce(&mut [t], Op::Max, here()),
        |m, t| m.all_reduce(&mut [&mut t[1..]], Op::Sum, here()),
        |m, t| m.all_reduce(&mut [&mut vec![0i32; t.len()]], Op::Sum, here()),
        |m, t| m.all_reduce_with(&mut [t], |_, _| (), here()),
        |m, _| m.barrier(here()).map(|()| 0),
        |m, t| m.broadcast(&mut [t], 0, here()).map(|()| 0),
    ];
    for ranks in [2, 3] {
        for (which, odd) in odd.iter().enumerate() {
            for len in [2, 9, 40, 300] {
                let said = group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
                    let mut t = vec![m.rank() as f32 + 1.0; len];
                    let before = t.clone();
                    let last = ranks - 1;
                    let r = if m.rank() == last {
                        odd(m, &mut t)
                    } else {
                        m.all_reduce(&mut [&mut t], Op::Sum, here())
                    };
                    let named = if m.rank() == last { 0 } else { last };
                    assert_eq!(r, Err(Fault::Mismatch { rank: named }), "{which} {len}");
                    assert_eq!(t, before, "a tensor was touched");
                    assert!(!m.touched());
                    let (mine, theirs) = m.calls(named).expect("both calls are on the board");
                    assert!(mine.file().ends_with("collectives.rs") && mine.line() != theirs.line());
                    let said = (mine.to_string(), theirs.to_string());
                    // And on.
                    let mut next: Vec<f32> = (0..300).map(|i| value(m.rank(), i, 0)).collect();
                    assert_eq!(m.all_reduce(&mut [&mut next], Op::Sum, here()), Ok(ranks));
                    assert!((0..300).all(|i| next[i].to_bits() == fold(ranks, i, 0).to_bits()));
                    said
                });
                let (mine, theirs) = &said[ranks - 1];
                assert_ne!(mine, theirs);
                assert!(theirs.starts_with(&format!("all_reduce(sum, {len} x f32) at ")), "{theirs}");
                assert_eq!((&said[0].1, &said[0].0), (mine, theirs));
            }
        }
    }
}

#[test]
fn the_same_call_from_different_lines_is_no_mismatch() {
    group::<Real, _>(Sizes::TINY, 2, 0, |m, _| {
        let mut t = [1u32; 4];
        let lines = [
            here(),
            here(), // another line
        ];
        let r = m.all_reduce(&mut [&mut t], Op::Sum, lines[m.rank()]);
        assert_eq!((r, t), (Ok(2), [2; 4]));
    });
}

/// The root of a short broadcast has left when another rank's call turns out to differ: it learns at its next call.
#[test]
fn a_root_that_had_left_learns_of_a_mismatch_at_its_next_call() {
    group::<Real, _>(Sizes::TINY, 2, 0, |m, _| {
        let mut t = [5u32];
        if m.rank() == 0 {
            assert_eq!(m.broadcast(&mut [&mut t], 0, here()), Ok(()));
            assert_eq!(m.barrier(here()), Err(Fault::Mismatch { rank: 1 }));
        } else {
            assert_eq!(m.barrier(here()), Err(Fault::Mismatch { rank: 0 }));
        }
        assert_eq!(m.barrier(here()), Ok(()));
    });
}

#[test]
fn a_rank_that_leaves_is_named_and_its_last_operation_counts() {
    for ranks in [2, 3] {
        group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
            let mut t = vec![1u64; 100];
            assert_eq!(m.all_reduce(&mut [&mut t], Op::Sum, here()), Ok(ranks));
            assert!(t.iter().all(|v| *v == ranks as u64));
            if m.rank() == 1 {
                return m.leave(Leaving::Dropped);
            }
            let left = Err(Fault::Left { rank: 1, reason: Leaving::Dropped });
            assert_eq!(m.barrier(here()), left);
            assert_eq!(m.barrier(here()), left, "the answer stays");
        });
    }
}

#[test]
fn a_closure_that_panics_fails_the_others_with_its_rank() {
    for ranks in [2, 3] {
        group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
            let mut t = vec![1u64; 300];
            let bad = m.rank() == 1;
            let call = || {
                let f = |_: &mut [u64], _: &[u64]| assert!(!bad, "on purpose");
                m.all_reduce_with(&mut [&mut t], f, here())
            };
            let r = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
            assert_eq!(r.is_err(), bad);
            let failed = Fault::Failed { rank: 1, reason: sapwood_core::board::Failing::ClosurePanicked };
            if let Ok(r) = r {
                assert_eq!(r, Err(failed));
                assert!(m.touched());
            }
            assert_eq!(m.barrier(here()), Err(failed));
        });
    }
}

/// Rank 1 never comes: rank 0 says whom it waited for, and rank 2 learns of it at once rather than at its own deadline.
#[test]
fn a_deadline_names_who_is_missing_and_the_news_travels() {
    let heap = heap::<Real>(Sizes::TINY, 3, 0);
    let run = |r: usize, deadline| {
        let mut m = member(&heap, r, 3, 0, Patience { deadline, ..PATIENCE });
        (m.barrier(here()), m.behind().collect::<Vec<_>>())
    };
    std::thread::scope(|s| {
        let other = s.spawn(|| run(2, u64::MAX));
        let (r, behind) = run(0, 1_000_000);
        assert!(matches!(r, Err(Fault::TimedOut { rank: 1, nanos: 1_000_000.. })), "{r:?}");
        assert!(behind.contains(&1) && !behind.contains(&0));
        let (r, _) = other.join().expect("no panic");
        let reason = sapwood_core::board::Failing::TimedOut(1);
        assert_eq!(r, Err(Fault::Failed { rank: 0, reason }));
    });
}

#[test]
fn joining_waits_for_all() {
    let heap = heap::<Real>(Sizes::TINY, 4, 0);
    over(&heap, 4, 0, |m, _| {
        assert_eq!(m.join(), Ok(()));
        assert_eq!(m.barrier(here()), Ok(()));
        assert!(m.region().place(m.rank()).ended().is_none());
    });
}

#[test]
fn what_a_dtype_lacks_and_roots_that_do_not_exist_are_refused_before_anything_is_published() {
    group::<Real, _>(Sizes::TINY, 2, 0, |m, _| {
        let mut t = [1.0f32];
        let root = m.broadcast(&mut [&mut t], 2, here());
        assert_eq!(root, Err(Fault::NoSuchRoot { root: 2, size: 2 }));
        let r = m.all_reduce(&mut [&mut t], Op::Xor, here());
        assert!(matches!(r, Err(Fault::Unsupported(_))), "{r:?}");
        assert_eq!(m.operations(), 0);
        assert_eq!(m.barrier(here()), Ok(()));
    });
}

/// Every element type with every operation that it has, through every scheme; small whole numbers, so that the oracle
/// needs no rounding. (Rounding is `tests/reduce.rs`'s.)
#[test]
fn every_dtype_and_operation_goes_through_every_scheme() {
    macro_rules! check {
        ($m:ident, $ranks:ident, $($t:ty),*) => {$(
            for op in Op::ALL {
                for bytes in [8, 120, 400, 3000] {
                    let len = bytes / size_of::<$t>();
                    let of = |rank: usize, i: usize| ((rank + i) % 3 + 1) as u8;
                    let mut t: Vec<$t> = (0..len).map(|i| <$t>::whole(of($m.rank(), i))).collect();
                    let got = $m.all_reduce(&mut [&mut t], op, here());
                    if let Err(Fault::Unsupported(_)) = got {
                        let float = <$t as Element>::DTYPE.name().contains('f');
                        let lacks = if float { matches!(op, Op::And | Op::Or | Op::Xor) } else { op == Op::Avg };
                        assert!(lacks, "{op} of {}", <$t as Element>::DTYPE);
                        continue;
                    }
                    assert_eq!(got, Ok($ranks));
                    for (i, v) in t.iter().enumerate() {
                        let all = (0..$ranks).map(|q| of(q, i));
                        let want = match op {
                            Op::Sum => all.sum(),
                            Op::Prod => all.product(),
                            Op::Min => all.min().expect("a rank"),
                            Op::Max => all.max().expect("a rank"),
                            Op::And => all.fold(0xFF, |a, b| a & b),
                            Op::Or => all.fold(0, |a, b| a | b),
                            Op::Xor => all.fold(0, |a, b| a ^ b),
                            Op::Avg if all.clone().map(usize::from).sum::<usize>() % $ranks == 0 => {
                                all.sum::<u8>() / $ranks as u8
                            }
                            Op::Avg => continue, // a fraction
                        };
                        assert_eq!(*v, <$t>::whole(want), "{op} of {} x {len} at {i}", <$t as Element>::DTYPE);
                    }
                }
            }
        )*};
    }
    for ranks in [2, 3] {
        group::<Real, _>(Sizes::TINY, ranks, 0, |m, _| {
            check!(m, ranks, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, half::f16, half::bf16);
        });
    }
}

/// Small whole numbers of any element type.
trait Whole {
    fn whole(v: u8) -> Self;
}

macro_rules! whole {
    ($($t:ty => $v:ident $make:expr),* $(,)?) => {$(
        impl Whole for $t {
            fn whole($v: u8) -> Self {
                $make
            }
        }
    )*};
}

whole! {
    i8 => v v.cast_signed(), i16 => v v.into(), i32 => v v.into(), i64 => v v.into(),
    u8 => v v, u16 => v v.into(), u32 => v v.into(), u64 => v v.into(),
    f32 => v v.into(), f64 => v v.into(), half::f16 => v v.into(), half::bf16 => v v.into(),
}

/// A resident tensor's token can't be taken back: a rank that comes late may still write to it, so a call on it that
/// failed for good never says that the tensor is as before. A private one is.
#[test]
fn a_failed_call_never_calls_a_resident_tensor_untouched() {
    for resident in [true, false] {
        let heap = heap::<Real>(Sizes::TINY, 2, 0);
        let mut m = member(&heap, 0, 2, 0, Patience { deadline: 1_000_000, ..PATIENCE });
        // SAFETY: nobody else is here.
        let (mut own, shared) = (vec![1.0f32; 300], unsafe { heap.tensor::<f32>(0, 300) });
        let t = if resident { shared } else { &mut own[..] };
        let r = m.all_reduce(&mut [t], Op::Sum, here());
        assert!(matches!(r, Err(Fault::TimedOut { rank: 1, .. })), "{r:?}");
        assert_eq!(m.touched(), resident);
    }
}
