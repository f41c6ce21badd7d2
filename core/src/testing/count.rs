//! The family `Count`: how many shared operations a thread makes, and how many cache lines they touch.
//!
//! A line is counted once however often it is touched, so the figure is the most that an operation can cost in
//! transfers: false sharing shows as a line too many, on any machine and under any load.

use core::cell::RefCell;
use std::collections::BTreeSet;
use std::thread_local;

use crate::mem::{Atom, Mem, Ordering, RaceCell, Real, Woke};

/// Core atomics that count.
#[derive(Debug, Clone, Copy)]
pub struct Count;

/// What a piece of code did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Loads of shared words.
    pub loads: u32,
    /// Stores to shared words.
    pub stores: u32,
    /// Read-modify-writes of shared words.
    pub rmws: u32,
    /// Fences.
    pub fences: u32,
    /// Accesses to plain shared memory; however long a buffer is, it counts as one.
    pub cells: u32,
    /// System calls to sleep or wake.
    pub calls: u32,
    /// Different cache lines touched, those of buffers not counted.
    pub lines: u32,
}

thread_local! {
    static SEEN: RefCell<(Counts, BTreeSet<usize>)> = const { RefCell::new((Counts {
        loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0,
    }, BTreeSet::new())) };
}

fn note(at: Option<usize>, what: impl FnOnce(&mut Counts)) {
    SEEN.with_borrow_mut(|(counts, lines)| {
        what(counts);
        lines.extend(at.map(|a| a / 64));
    });
}

impl Count {
    /// What `body` did in this thread.
    pub fn of(body: impl FnOnce()) -> Counts {
        SEEN.take();
        body();
        let (counts, lines) = SEEN.take();
        Counts { lines: lines.len() as u32, ..counts }
    }
}

macro_rules! word {
    ($name:ident, $v:ty) => {
        /// A word that counts what is done to it.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(<Real as Mem>::$name);

        impl $name {
            fn at(&self) -> Option<usize> {
                Some(core::ptr::from_ref(self).addr())
            }
        }

        impl Atom<$v> for $name {
            fn new(v: $v) -> Self {
                $name(Atom::new(v))
            }
            fn load(&self, o: Ordering) -> $v {
                note(self.at(), |c| c.loads += 1);
                self.0.load(o)
            }
            fn store(&self, v: $v, o: Ordering) {
                note(self.at(), |c| c.stores += 1);
                self.0.store(v, o)
            }
            fn cas(&self, old: $v, new: $v, o: Ordering) -> Result<$v, $v> {
                note(self.at(), |c| c.rmws += 1);
                self.0.cas(old, new, o)
            }
            fn fetch_or(&self, v: $v, o: Ordering) -> $v {
                note(self.at(), |c| c.rmws += 1);
                self.0.fetch_or(v, o)
            }
        }
    };
}

word!(U32, u32);
word!(U64, u64);

/// Plain memory that counts accesses.
#[repr(transparent)]
#[derive(Debug)]
pub struct CountCell<T>(<Real as Mem>::Cell<T>)
where
    T: Copy;

impl<T: Copy> CountCell<T> {
    /// The guard of a buffer has no bytes and no line of its own.
    fn line(&self) -> Option<usize> {
        (size_of::<T>() > 0).then(|| core::ptr::from_ref(self).addr())
    }
}

impl<T: Copy> RaceCell<T> for CountCell<T> {
    fn new(v: T) -> Self {
        CountCell(RaceCell::new(v))
    }
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        note(self.line(), |c| c.cells += 1);
        self.0.with(f)
    }
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        note(self.line(), |c| c.cells += 1);
        self.0.with_mut(f)
    }
}

impl Mem for Count {
    type U32 = U32;
    type U64 = U64;
    type Cell<T: Copy> = CountCell<T>;

    fn fence(o: Ordering) {
        note(None, |c| c.fences += 1);
        Real::fence(o)
    }
    fn spin() {
        Real::spin()
    }
    fn yield_now() {
        Real::yield_now()
    }
    fn cpu() -> u32 {
        Real::cpu()
    }
    fn now() -> u64 {
        Real::now()
    }
    fn wait(word: &U32, seen: u32, nanos: u64) -> Woke {
        note(None, |c| c.calls += 1);
        Real::wait(&word.0, seen, nanos)
    }
    fn wake(word: &U32) -> u32 {
        note(None, |c| c.calls += 1);
        Real::wake(&word.0)
    }
    fn touch(_bytes: usize) {
        note(None, |c| c.cells += 1);
    }
}
