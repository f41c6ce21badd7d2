//! The board's own steps, without waiting and without a member: reuse of lines, running ahead, chunks, deaths.

use loom::thread;
use sapwood_core::board::{End, Leaving, Life, Place, Region};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::sizes::Area;
use sapwood_core::sizes::{Sizes, WINDOWS, Window};
use sapwood_core::testing::Heap;
use std::sync::Arc;

use super::{Bound, Model, look, looks};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::{Guarded, end, publish, step, word};

/// As few and as small buffers as there can be: each has a cell that loom has to make in every execution.
pub(crate) const SIZES: Sizes = Sizes {
    slot: 64,
    windows: [
        Window { up_to: 128, chunk: 64, count: 1 },
        Window { up_to: 192, chunk: 64, count: 1 },
        Window { up_to: 256, chunk: 64, count: 2 },
        Window { up_to: 320, chunk: 64, count: 2 },
        Window { up_to: usize::MAX, chunk: 64, count: 1 },
    ],
    block: 128,
    block_chunks: 2,
    resident_from: usize::MAX,
};
const _: () = assert!(WINDOWS == 5);

/// A group of `ranks` whose last operation was `n` and of which nobody dies.
pub(crate) fn group(ranks: usize, n: u64) -> Heap<Loom> {
    Heap::new(SIZES, ranks, n, 64, |_| Life::Alive)
}

fn wait_until(ready: impl Fn() -> bool) {
    assert!(look(looks(2), ready), "the other rank never came");
}

/// `ops` operations of `ranks` ranks after operation `n`; every rank must get every sum. Lines are reused by parity.
pub fn reuse(ranks: usize, n: u64, ops: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let heap = group(ranks, n);
        let rank = move |heap: Heap<Loom>, me: usize| {
            for i in 1..=ops {
                let at = n.wrapping_add(i);
                publish(heap.place(me), at, 0, 10 * i + me as u64);
                let mut sum = 10 * i + me as u64;
                for q in (0..ranks).filter(|q| *q != me) {
                    if !look(looks(ranks), || heap.place(q).published(at)) {
                        return;
                    }
                    sum += word(heap.place(q), at);
                }
                assert_eq!(sum, (0..ranks as u64).map(|q| 10 * i + q).sum::<u64>());
            }
        };
        let others: Vec<_> =
            (1..ranks).map(|r| (heap.clone(), r)).map(|(h, r)| thread::spawn(move || rank(h, r))).collect();
        rank(heap, 0);
        others.into_iter().for_each(|t| t.join().expect("its sums are right"));
    })
}

/// A root that waits for nobody in its operation and catches up before the next; the other reads what it says.
pub fn root_runs_ahead(n: u64, ops: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let heap = group(2, n);
        let reader = {
            let heap = heap.clone();
            thread::spawn(move || {
                for i in 1..=ops {
                    let at = n.wrapping_add(i);
                    publish(heap.place(1), at, 0, 0);
                    wait_until(|| heap.place(0).published(at));
                    assert_eq!(word(heap.place(0), at), i);
                }
            })
        };
        for i in 1..=ops {
            let at = n.wrapping_add(i);
            wait_until(|| heap.place(1).published(at.wrapping_sub(1)));
            publish(heap.place(0), at, 0, i);
        }
        reader.join().expect("it got what the root said");
    })
}

/// Within one operation rank 0 sends `chunks` chunks through `places` places; rank 1 says by its steps what it has
/// read.
pub fn steps(chunks: u64, places: u64, n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let heap = group(2, n);
        let cells: Arc<Vec<_>> = Arc::new((0..places).map(|_| Guarded::new(0)).collect());
        let at = n.wrapping_add(1);
        let reader = {
            let (heap, cells) = (heap.clone(), cells.clone());
            thread::spawn(move || {
                publish(heap.place(1), at, 0, 0);
                wait_until(|| heap.place(0).published(at));
                for j in 0..chunks {
                    wait_until(|| heap.place(0).stepped(at, j + 1));
                    assert_eq!(cells[(j % places) as usize].get(), 7 + j);
                    step(heap.place(1), at, j + 1);
                }
            })
        };
        cells[0].set(7); // the first chunk is there when the line is
        publish(heap.place(0), at, 1, 0);
        wait_until(|| heap.place(1).published(at));
        for j in 1..chunks {
            if j >= places {
                wait_until(|| heap.place(1).stepped(at, j - places + 1));
            }
            cells[(j % places) as usize].set(7 + j);
            step(heap.place(0), at, j + 1);
        }
        reader.join().expect("all chunks were whole");
    })
}

/// A death: later than all that the dead did.
#[derive(Clone)]
struct Dead(Arc<<Loom as Mem>::U64>);

impl Dead {
    fn group(ranks: usize, n: u64, victim: usize) -> (Dead, Heap<Loom>) {
        let dead = Dead(Arc::new(Atom::new(0)));
        let d = dead.clone();
        let life =
            move |q| if q == victim && d.0.load(Ordering::Acquire) == 1 { Life::Dead } else { Life::Alive };
        (dead, Heap::new(SIZES, ranks, n, 64, life))
    }
}

/// What a survivor knows for good of `q`'s part in operation `n`: here (true), never (false), or not yet known.
fn part(heap: &Heap<Loom>, q: usize, n: u64) -> Option<bool> {
    for _ in 0..2 {
        if heap.place(q).published(n) {
            assert_eq!(word(heap.place(q), n), q as u64);
            return Some(true);
        }
        if heap.life(q) == Life::Dead {
            return Some(heap.place(q).published(n));
        }
        thread::yield_now();
    }
    None
}

/// Operations of a publication: body, steps, sequence.
pub const PUBLISH_OPS: usize = 3;

/// Rank 2 dies before its shared operation `k`; what ranks 0 and 1 know for good must agree.
pub fn agreement(k: usize, n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let (dead, heap) = Dead::group(3, n, 2);
        let at = n.wrapping_add(1);
        let victim = {
            let heap = heap.clone();
            thread::spawn(move || {
                until(k, || publish(heap.place(2), at, 0, 2));
                dead.0.store(1, Ordering::Release);
            })
        };
        let survive = move |heap: Heap<Loom>, me: usize| {
            publish(heap.place(me), at, 0, me as u64);
            [1 - me, 2].map(|q| part(&heap, q, at))
        };
        let other = {
            let heap = heap.clone();
            thread::spawn(move || survive(heap, 1))
        };
        let mine = survive(heap, 0);
        let its = other.join().expect("the other survivor came to an end");
        for [survivor, third] in [mine, its] {
            assert_ne!(survivor, Some(false), "a survivor was reported dead");
            assert!(third.is_none_or(|here| here == (k >= PUBLISH_OPS)), "the survivors disagree");
        }
        victim.join().expect("killed, not panicked");
    })
}

/// A rank publishes and leaves; who sees that it has left sees on a second look what it has published.
pub fn end_word(n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let heap = group(2, n);
        let at = n.wrapping_add(1);
        let leaver = {
            let heap = heap.clone();
            thread::spawn(move || {
                publish(heap.place(1), at, 0, 5);
                end(heap.place(1), End::Left(Leaving::Dropped), at);
            })
        };
        let place: &Place<Loom> = heap.place(1);
        wait_until(|| place.published(at) || place.ended().is_some());
        if let Some(end) = place.ended() {
            assert_eq!(end, End::Left(Leaving::Dropped));
            assert!(place.published(at), "it left, and its last part was lost");
        }
        if place.published(at) {
            assert_eq!(word(place, at), 5);
        }
        leaver.join().expect("it left");
    })
}

/// A slot of the region is the same memory for every member: guards of one parity are one cell.
pub fn slots(n: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let heap = group(2, n);
        let writer = {
            let heap = heap.clone();
            thread::spawn(move || {
                for i in 1..=3 {
                    let at = n.wrapping_add(i);
                    let _ = heap.buffer(1, Area::Slot(at)).write();
                    publish(heap.place(1), at, 0, i);
                    wait_until(|| heap.place(0).published(at));
                }
            })
        };
        for i in 1..=3 {
            let at = n.wrapping_add(i);
            publish(heap.place(0), at, 0, 0);
            wait_until(|| heap.place(1).published(at));
            let _ = heap.buffer(1, Area::Slot(at)).read();
        }
        writer.join().expect("nobody read what it wrote too early");
    })
}

/// All models of the board's own steps.
pub fn all() -> Vec<Model> {
    let (wrap, long): (u64, &[Bound]) = (u64::MAX - 1, &[Some(4), None]);
    let mut models = vec![
        Model::new("two ranks, 4 operations across the wrap", 3, long, move |b| reuse(2, wrap, 4, b)),
        Model::new("three ranks, 2 operations across the wrap", 1, &[Some(2)], |b| reuse(3, u64::MAX, 2, b)),
        Model::new("a root that waits for nobody, 4 operations", 3, long, move |b| {
            root_runs_ahead(wrap, 4, b)
        }),
        Model::new("3 chunks through 1 place", 3, long, move |b| steps(3, 1, wrap, b)),
        Model::new("4 chunks through 2 places", 3, &[Some(4)], move |b| steps(4, 2, wrap, b)),
        Model::new("slots by parity, 3 operations", 3, long, move |b| slots(wrap, b)),
        Model::new("publish, then leave", 3, long, move |b| end_word(wrap, b)),
    ];
    models.extend((0..=PUBLISH_OPS).map(|k| {
        Model::new(format!("a rank dies before operation {k}: survivors agree"), 2, &[Some(3)], move |b| {
            agreement(k, wrap, b)
        })
    }));
    models
}
