//! Members: the collectives as they ship, with their waiting, ringing and giving up, on the board.
//!
//! Sleeps never time out here, so a ring that is owed and not made is a deadlock.

use core::fmt;
use core::panic::Location;
use std::sync::Arc;

use loom::thread;
use sapwood_core::board::{Leaving, Life, Region};
use sapwood_core::call::Kind;
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::member::{Fault, Member, Patience};
use sapwood_core::reduce::Op;
use sapwood_core::testing::Heap;
use sapwood_core::wait::{Prices, WaitPolicy};

use super::board::{SIZES, group};
use super::{Bound, Model};
use crate::family::{Loom, until, without_yields};
use crate::guarded;

type Rank = Member<Loom, Heap<Loom>>;

/// How a member waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    policy: WaitPolicy,
    crowded: bool,
    yields: bool,
    name: &'static str,
}

/// Sleeps at once.
pub const SLEEP: Manner = Manner { policy: WaitPolicy::Sleep, crowded: true, yields: true, name: "sleep" };
/// Yields as few times as `Adaptive` ever does, then sleeps.
pub const CROWDED: Manner =
    Manner { policy: WaitPolicy::Adaptive, crowded: true, yields: true, name: "yield" };
/// The same, and its yields help nobody, so that it comes to sleep.
pub const STARVED: Manner =
    Manner { policy: WaitPolicy::Adaptive, crowded: true, yields: false, name: "yield in vain" };
/// Spins for as short as `Adaptive` ever does, then yields, then sleeps.
pub const ROOMY: Manner =
    Manner { policy: WaitPolicy::Adaptive, crowded: false, yields: true, name: "spin, yield" };
/// Never sleeps.
pub const SPIN: Manner = Manner { policy: WaitPolicy::Spin, crowded: false, yields: true, name: "spin" };

impl fmt::Debug for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Explores `body`, whose members wait in this manner.
fn explore(manner: Manner, bound: Bound, body: impl Fn() + Send + Sync + 'static) -> u64 {
    if manner.yields { crate::explore(bound, body) } else { without_yields(|| crate::explore(bound, body)) }
}

fn member(heap: &Heap<Loom>, me: usize, ranks: usize, n: u64, manner: Manner) -> Rank {
    let Manner { policy, crowded, .. } = manner;
    let prices = Prices { spin: 1, give_way: 1, wake: 1 };
    guarded::member(heap, me, ranks, n, Patience { policy, prices, crowded, deadline: u64::MAX })
}

/// Runs `body` as each of `ranks` ranks.
fn together(heap: &Heap<Loom>, ranks: usize, n: u64, manner: Manner, body: impl Fn(Rank) + Copy + 'static) {
    let others: Vec<_> = (1..ranks)
        .map(|r| member(heap, r, ranks, n, manner))
        .map(|m| thread::spawn(move || body(m)))
        .collect();
    body(member(heap, 0, ranks, n, manner));
    others.into_iter().for_each(|t| t.join().expect("the rank returned"));
}

/// Makes an exchange and checks what everybody said.
fn exchange(m: &mut Rank, word: u64) -> Result<(), Fault> {
    let mut said = [0; 4];
    let (me, ranks) = (m.rank() as u64, m.size());
    let words = [word + me; 4];
    let contributors = m.exchange(Kind::Barrier, None, words, Location::caller(), |q, w| {
        assert_eq!(w, [w[0]; 4], "a torn line");
        said[q] = w[0];
    })?;
    assert_eq!(contributors, ranks);
    for (q, said) in said.iter().enumerate().take(ranks) {
        assert_eq!(*said, word + q as u64);
    }
    Ok(())
}

/// `ops` exchanges.
pub fn exchanges(ranks: usize, n: u64, ops: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        together(&group(ranks, n), ranks, n, manner, move |mut m| {
            (1..=ops).for_each(|i| assert_eq!(exchange(&mut m, 10 * i), Ok(())));
        });
    })
}

/// `ops` sums of `len` words: in the line, or chunk by chunk through a window.
pub fn sums(len: usize, n: u64, ops: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        together(&group(2, n), 2, n, manner, move |mut m| {
            for i in 1..=ops {
                let mut t: Vec<u64> = (0..len as u64).map(|x| 100 * i + x + m.rank() as u64).collect();
                assert_eq!(m.all_reduce(&mut [&mut t], Op::Sum, Location::caller()), Ok(2));
                assert!(t.iter().zip(0..).all(|(v, x)| *v == 200 * i + 2 * x + 1), "{t:?}");
            }
        });
    })
}

/// `ops` broadcasts of `len` words by rank 0, which waits for nobody while they are short.
pub fn broadcasts(len: usize, n: u64, ops: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        together(&group(2, n), 2, n, manner, move |mut m| {
            for i in 1..=ops {
                let mut t = vec![if m.rank() == 0 { i } else { 0 }; len];
                assert_eq!(m.broadcast(&mut [&mut t], 0, Location::caller()), Ok(()));
                assert!(t.iter().all(|v| *v == i), "{t:?} in broadcast {i}");
            }
        });
    })
}

/// All ranks join through the barrier.
pub fn join(ranks: usize, n: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        together(&group(ranks, n), ranks, n, manner, |mut m| assert_eq!(m.join(), Ok(())));
    })
}

/// Rank 1 takes part in one exchange and leaves: rank 0 must complete it, and fail in the next one.
pub fn leave(n: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        together(&group(2, n), 2, n, manner, |mut m| {
            assert_eq!(exchange(&mut m, 10), Ok(()));
            if m.rank() == 1 {
                m.leave(Leaving::Dropped);
            } else {
                let left = Fault::Left { rank: 1, reason: Leaving::Dropped };
                assert_eq!(exchange(&mut m, 20), Err(left));
            }
        });
    })
}

/// The last rank dies before its shared operation `k` of an exchange. The others end with a result or with the news,
/// and all of them with the same. Somebody rings when the death is known, as the end of a slice would.
pub fn death(ranks: usize, k: usize, n: u64, manner: Manner, bound: Bound) -> u64 {
    explore(manner, bound, move || {
        let victim = ranks - 1;
        let dead: Arc<<Loom as Mem>::U64> = Arc::new(Atom::new(0));
        let d = dead.clone();
        let life =
            move |q| if q == victim && d.load(Ordering::Acquire) == 1 { Life::Dead } else { Life::Alive };
        let heap = Heap::new(SIZES, ranks, n, 64, life);
        let survivors: Vec<_> = (0..victim)
            .map(|r| member(&heap, r, ranks, n, manner))
            .map(|mut m| thread::spawn(move || exchange(&mut m, 10)))
            .collect();
        let mut m = member(&heap, victim, ranks, n, manner);
        until(k, || exchange(&mut m, 10));
        dead.store(1, Ordering::Release);
        (0..victim).for_each(|q| heap.place(q).desk().bell.ring_anyway());
        let ends: Vec<_> = survivors.into_iter().map(|s| s.join().expect("the survivor returned")).collect();
        let published = m.region().place(victim).published(n.wrapping_add(1));
        let due = if published { Ok(()) } else { Err(Fault::Died { rank: victim }) };
        assert!(ends.iter().all(|e| *e == due), "{ends:?}, published: {published}");
    })
}

/// Two members that wait in this manner.
fn two(manner: Manner) -> Vec<Model> {
    const FROM: u64 = u64::MAX - 1; // the second operation is number 0
    let model = |what: &str, bound, long: &[Bound], run: fn(Manner, Bound) -> u64| {
        Model::new(format!("two members, {what}, {manner:?}"), bound, long, move |b| run(manner, b))
    };
    // Yields that help leave little to explore with few preemptions, yields in vain much.
    let more = usize::from(manner != STARVED);
    let (long, longer): (&[Bound], &[Bound]) = (&[Some(2 + more)], &[Some(3 + more)]);
    let mut models = vec![
        model("join", 3, &[Some(4), None], |m, b| join(2, FROM, m, b)),
        model("2 exchanges", 2 + more, longer, |m, b| exchanges(2, FROM, 2, m, b)),
        model("3 sums in the line", 2, long, |m, b| sums(2, FROM, 3, m, b)),
        model("a sum of 3 chunks through 1 place", 2, long, |m, b| sums(24, FROM, 1, m, b)),
        model("a sum of 4 chunks through 2 places", 1, &[Some(2)], |m, b| sums(32, FROM, 1, m, b)),
        model("3 short broadcasts", 2, long, |m, b| broadcasts(2, FROM, 3, m, b)),
        model("2 broadcasts in slots", 2, long, |m, b| broadcasts(6, FROM, 2, m, b)),
        model("a broadcast of 3 chunks through 2 places", 1, &[Some(2)], |m, b| {
            broadcasts(24, FROM, 1, m, b)
        }),
    ];
    // Who only spins looks for the end of others once in 65,536 turns: too many for loom.
    if manner != SPIN {
        models.push(model("an exchange, then one leaves", 2 + more, longer, |m, b| leave(FROM, m, b)));
    }
    models
}

/// Operations of an exchange up to and beyond its rings: call site, body, steps, sequence, a look, a fence, a look at a
/// bell, the change of its word, the wake, the announcement of a sleep, and what comes then.
const OPS: usize = 12;

/// All models of members.
pub fn all() -> Vec<Model> {
    let from = u64::MAX - 1;
    let mut models: Vec<_> = [SLEEP, STARVED, CROWDED, ROOMY, SPIN].into_iter().flat_map(two).collect();
    models.push(Model::new("three members, one exchange, sleep", 1, &[Some(2)], move |b| {
        exchanges(3, from, 1, SLEEP, b)
    }));
    for k in 0..=OPS {
        for manner in [SLEEP, STARVED] {
            let name = format!("two members, one dies before operation {k}, {manner:?}");
            models.push(Model::new(name, 3, &[Some(4)], move |b| death(2, k, from, manner, b)));
        }
        let name = format!("three members, one dies before operation {k}, {SLEEP:?}");
        models.push(Model::new(name, 1, &[Some(2)], move |b| death(3, k, from, SLEEP, b)));
    }
    models
}
