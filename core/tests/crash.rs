//! A rank is killed before each of its shared operations, in every scheme: what the survivors make of it.
//!
//! The `Crash` family numbers a victim's shared operations in its program order; for every k the whole group runs anew,
//! as threads, and the victim stops for good at its k-th. Survivors must end with right results or with the name of
//! the dead, and never wait for ever.
#![allow(missing_docs)]
#![allow(clippy::disallowed_types)] // the oracle is the test's own

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{PATIENCE, Rank, here, member};
use sapwood_core::board::{Leaving, Life};
use sapwood_core::call::Kind;
use sapwood_core::member::Fault;
use sapwood_core::reduce::Op;
use sapwood_core::sizes::Sizes;
use sapwood_core::testing::{Crash, Heap};

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    Reduce(usize),
    Closure(usize),
    /// Bit r of the mask: the tensor of rank r is private, else resident.
    Resident(usize, usize),
    Broadcast(usize, usize),
    Barrier,
    Exchange,
}
use What::*;

/// One of each scheme (with `Sizes::TINY`): in the line, slot or one chunk, two chunks, many chunks or blocks.
const OPERATIONS: &[What] = &[
    Reduce(2),
    Reduce(14),
    Reduce(40),
    Reduce(300),
    Closure(2),
    Closure(200),
    Resident(60, 0),
    Resident(60, 1),
    Broadcast(3, 0),
    Broadcast(12, 1),
    Broadcast(300, 0),
    Barrier,
    Exchange,
];

fn value(rank: usize, i: usize, round: usize) -> u32 {
    (rank as u32 + 3).wrapping_mul((i as u32).wrapping_mul(2_654_435_761) | 7).wrapping_add(round as u32)
}

/// One operation of one rank; results are checked, and tensors that should be untouched.
fn act(m: &mut Rank<Crash>, heap: &Heap<Crash>, what: What, round: usize) -> Result<(), Fault> {
    let (me, size) = (m.rank(), m.size());
    let own = |len: usize| (0..len).map(|i| value(me, i, round)).collect::<Vec<u32>>();
    let sum = |i: usize| (0..size).fold(0u32, |s, q| s.wrapping_add(value(q, i, round)));
    let check = |m: &Rank<Crash>, r: Result<usize, Fault>, t: &[u32]| {
        match r {
            Ok(n) => {
                assert_eq!(n, size);
                assert!(t.iter().enumerate().all(|(i, v)| *v == sum(i)), "a wrong result of {what:?}");
            }
            Err(_) => assert!(m.touched() || t == own(t.len()), "{what:?} says that it touched nothing"),
        }
        r.map(|_| ())
    };
    match what {
        Reduce(len) => {
            let mut t = own(len);
            let r = m.all_reduce(&mut [&mut t], Op::Sum, here());
            check(m, r, &t)
        }
        Closure(len) => {
            let mut t = own(len);
            let add =
                |s: &mut [u32], n: &[u32]| s.iter_mut().zip(n).for_each(|(s, n)| *s = s.wrapping_add(*n));
            let r = m.all_reduce_with(&mut [&mut t], add, here());
            check(m, r, &t)
        }
        Resident(len, private) => {
            let mut mine = own(len);
            // SAFETY: each rank has its own part of the arena.
            let shared = unsafe { heap.tensor::<u32>(me, len) };
            shared.copy_from_slice(&mine);
            let t = if private >> me & 1 == 1 { &mut mine[..] } else { shared };
            let r = m.all_reduce(&mut [t], Op::Sum, here());
            check(m, r, t)
        }
        Broadcast(len, root) => {
            let mut t = own(len);
            let r = m.broadcast(&mut [&mut t], root, here());
            match r {
                Ok(()) => assert!((0..len).all(|i| t[i] == value(root, i, round)), "a wrong broadcast"),
                Err(_) => assert!(m.touched() || t == own(len), "{what:?} says that it touched nothing"),
            }
            r
        }
        Barrier => m.barrier(here()),
        Exchange => {
            let mut got = Vec::new();
            let words = [me as u64, round as u64, 0, 0];
            let r = m.exchange(Kind::Alloc, None, words, here(), |q, w| got.push(w[0] == q as u64));
            assert!(r.is_err() || got == vec![true; size]);
            r.map(|_| ())
        }
    }
}

/// What became of one rank.
#[derive(Debug)]
struct Story {
    /// Operations that completed.
    done: usize,
    /// What ended it; `None` if it was killed.
    end: Option<Fault>,
    killed: bool,
    /// What its resident tensor held when its call failed, if that was said to be at rest.
    left: Option<Vec<u32>>,
}

/// Runs `script` in a group; rank r is killed before its shared operation `kill[r]`. A rank that comes through leaves,
/// and the others find that at one more barrier.
fn run(ranks: usize, n: u64, script: &[What], kill: &[Option<u64>]) -> Vec<Story> {
    let dead: Arc<Vec<AtomicBool>> = Arc::new((0..ranks).map(|_| AtomicBool::new(false)).collect());
    let oracle = dead.clone();
    let life = move |r: usize| if oracle[r].load(Ordering::Acquire) { Life::Dead } else { Life::Alive };
    let heap = Heap::<Crash>::new(Sizes::TINY, ranks, n, 4096 * ranks, life);
    std::thread::scope(|s| {
        let one = |r: usize| {
            let (heap, dead) = (heap.clone(), dead.clone());
            let kill = kill[r];
            s.spawn(move || {
                let mut m = member(&heap, r, ranks, n, PATIENCE);
                let (mut done, mut last) = (0, None);
                let body = || {
                    for (round, what) in script.iter().enumerate() {
                        last = Some(*what);
                        act(&mut m, &heap, *what, round)?;
                        done += 1;
                    }
                    if kill.is_some() {
                        m.leave(Leaving::Dropped);
                    }
                    m.barrier(here())
                };
                let end = Crash::until(kill.unwrap_or(u64::MAX), body);
                if end.is_none() {
                    dead[r].store(true, Ordering::Release);
                }
                let left = match last {
                    // SAFETY: a resident tensor of our own, which is not used any more, and at rest.
                    Some(Resident(len, _)) if end.is_some() && !heap.is_poisoned(r) => unsafe {
                        Some(heap.tensor::<u32>(r, len).to_vec())
                    },
                    _ => None,
                };
                Story { done, end: end.and_then(Result::err), killed: end.is_none(), left }
            })
        };
        let threads: Vec<_> = (0..ranks).map(one).collect();
        let stories: Vec<_> =
            threads.into_iter().map(|t| t.join().expect("a rank panicked")).collect::<Vec<Story>>();
        for (r, left) in stories.iter().enumerate().filter_map(|(r, s)| Some((r, s.left.as_ref()?))) {
            // SAFETY: nobody is here any more.
            let now = unsafe { heap.tensor::<u32>(r, left.len()) };
            assert_eq!(now, left, "the tensor of rank {r} was at rest, and then written: {stories:?}");
        }
        stories
    })
}

/// Whether everybody waits for everybody before this operation returns or fails: then all survivors stop together.
fn all_wait(what: What, ranks: usize) -> bool {
    match what {
        Barrier | Exchange => true,
        Reduce(len) => len <= if ranks == 2 { 2 } else { 16 },
        Closure(len) => len <= 16,
        Resident(..) | Broadcast(..) => false,
    }
}

fn judge(stories: &[Story], victims: &[usize], script: &[What], what: &str) {
    let left = |r: usize| Fault::Left { rank: r, reason: Leaving::Dropped };
    for (r, story) in stories.iter().enumerate().filter(|(r, _)| !victims.contains(r)) {
        let fault = story.end.unwrap_or_else(|| panic!("{what}: rank {r} never learnt: {stories:?}"));
        let named = victims.iter().any(|v| fault == Fault::Died { rank: *v } || fault == left(*v));
        assert!(named, "{what}: rank {r} ended with {fault:?}; {stories:?}");
    }
    if script.iter().all(|w| all_wait(*w, stories.len())) {
        let mut done = stories.iter().enumerate().filter(|(r, _)| !victims.contains(r)).map(|(_, s)| s.done);
        let first = done.next().expect("a survivor");
        assert!(done.all(|d| d == first), "{what}: survivors stopped at different operations: {stories:?}");
    }
}

/// Kills `victim` before each of its shared operations. Says how many there are.
fn sweep(ranks: usize, n: u64, script: &[What], victim: usize) -> u64 {
    for k in 0..100_000 {
        let mut kill = vec![None; ranks];
        kill[victim] = Some(k);
        let stories = run(ranks, n, script, &kill);
        judge(&stories, &[victim], script, &format!("{script:?}, {ranks} ranks, victim {victim}, k = {k}"));
        if !stories[victim].killed {
            return k;
        }
    }
    panic!("a victim that makes more than 100000 shared operations");
}

#[test]
fn a_rank_killed_before_any_shared_operation_is_named_and_nothing_is_wrong() {
    for what in OPERATIONS {
        let mut points = 0;
        for ranks in [2, 3] {
            for victim in 0..ranks {
                // The operation itself, and the reuse of what it left behind.
                for n in [0, u64::MAX - 1].repeat(if full() { 10 } else { 1 }) {
                    points += sweep(ranks, n, &[*what, *what, *what], victim);
                }
            }
        }
        points += sweep(4, u64::MAX - 1, &[*what, *what], 2);
        println!("{what:?}: killed at {points} points");
    }
}

/// Different operations one after another, which use each other's buffers.
#[test]
fn mixed_operations_survive_a_death_at_any_point() {
    let scripts: &[&[What]] = &[
        &[Reduce(300), Broadcast(300, 1), Closure(200), Resident(60, 0), Reduce(40)],
        &[Broadcast(12, 0), Broadcast(3, 1), Broadcast(300, 0), Reduce(14), Exchange],
    ];
    for script in scripts {
        for (ranks, victim) in [(2, 0), (2, 1), (3, 1)] {
            println!("{script:?}, {ranks} ranks: killed at {} points", sweep(ranks, 0, script, victim));
        }
    }
}

/// Rank 2 dies first; rank 1 is killed at any point of learning of it and giving up.
#[test]
fn two_deaths() {
    let stride = if full() { 1 } else { 3 };
    let mut pairs = 0;
    for what in [Reduce(2), Reduce(40), Barrier, Broadcast(300, 0)] {
        let script = [what, what];
        let points = sweep(3, 0, &script, 1);
        for first in (0..points).step_by(stride * 2) {
            for second in (0..points + 12).step_by(stride) {
                let stories = run(3, 0, &script, &[None, Some(second), Some(first)]);
                let at = format!("{what:?}: rank 2 at {first}, rank 1 at {second}");
                judge(&stories, &[1, 2], &script, &at);
                pairs += 1;
            }
        }
    }
    println!("{pairs} pairs of deaths");
}
