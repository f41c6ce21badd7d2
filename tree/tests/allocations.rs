//! No collective allocates after its first call of a shape: counted in every rank.
#![allow(missing_docs)]
#![allow(clippy::disallowed_types)] // the counter is this test's own

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sapwood_shm::Processes;
use sapwood_tree::{Error, Op, Tree};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

type Call = fn(&mut Tree, &mut [f32], &mut [f32]);

fn reduced(result: Result<usize, Error>) {
    assert!(result.expect("all agree") >= 2);
}

/// One of each: every operation, and every scheme of the long ones.
const CALLS: &[(&str, Call)] = &[
    ("barrier", |tree, _, _| tree.barrier().expect("all agree")),
    ("all_reduce in the line", |tree, t, _| reduced(tree.all_reduce(&mut t[..2], Op::Sum))),
    ("all_reduce by slots or one chunk", |tree, t, _| reduced(tree.all_reduce(&mut t[..500], Op::Max))),
    ("all_reduce by blocks or chunks", |tree, t, _| reduced(tree.all_reduce(t, Op::Avg))),
    ("all_reduce of resident tensors", |tree, _, r| reduced(tree.all_reduce(r, Op::Sum))),
    ("all_reduce of several tensors", |tree, t, _| {
        let (a, b) = t.split_at_mut(1000);
        tree.all_reduce_many(&mut [a, b], Op::Sum).expect("all agree");
    }),
    ("all_reduce with a closure", |tree, t, _| {
        let add = |sum: &mut [f32], next: &[f32]| sum.iter_mut().zip(next).for_each(|(s, n)| *s += n);
        tree.all_reduce_with(t, add).expect("all agree");
    }),
    ("broadcast in the line", |tree, t, _| tree.broadcast(&mut t[..3], 1).expect("all agree")),
    ("broadcast by slot", |tree, t, _| tree.broadcast(&mut t[..900], 0).expect("all agree")),
    ("broadcast by chunks", |tree, t, _| tree.broadcast(t, 1).expect("all agree")),
];

fn count(size: usize) {
    let running = Processes::new(size).start(|rank| -> Result<(), String> {
        let mut tree =
            Tree::builder().deadline(Duration::from_secs(60)).join(&rank).map_err(|e| e.to_string())?;
        let mut private = vec![1.0; 100_000];
        let mut resident = tree.alloc::<f32>(50_000).map_err(|e| e.to_string())?;
        for (what, call) in CALLS {
            call(&mut tree, &mut private, &mut resident);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..50 {
                call(&mut tree, &mut private, &mut resident);
            }
            let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
            if made != 0 {
                return Err(format!("{what}: {made} allocations in 50 calls"));
            }
        }
        Ok(())
    });
    let report = running.expect("they start").wait(Duration::from_secs(100)).expect("all end");
    assert!(report.success(), "{report}");
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0, "the counter counts");
}

#[test]
fn two_ranks_allocate_nothing() {
    count(2);
}

#[test]
fn more_ranks_than_cpus_allocate_nothing() {
    count(5);
}
