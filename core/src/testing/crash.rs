//! The family `Crash`: stops one thread for good before its k-th shared operation, as SIGKILL would.
//!
//! Shared operations are numbered in the victim's program order. At the fatal one the thread unwinds to
//! [`Crash::until`]; from then on nothing it does has an effect, so that no destructor tidies up what SIGKILL would
//! leave behind.

use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::boxed::Box;
use std::panic::{catch_unwind, resume_unwind};
use std::thread_local;

use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Real, Woke};

/// Core atomics, until the thread's budget of shared operations is spent.
#[derive(Debug, Clone, Copy)]
pub struct Crash;

/// What a killed thread unwinds with.
#[derive(Debug)]
pub struct Killed;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static DEAD: Cell<bool> = const { Cell::new(false) };
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the operation may happen. Kills the thread when its budget is spent.
fn alive() -> bool {
    if DEAD.get() {
        return false;
    }
    if LEFT.get() == 0 {
        DEAD.set(true);
        // Who dies while he unwinds from a panic of his own goes on unwinding, without effect.
        if !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
        return false;
    }
    LEFT.set(LEFT.get() - 1);
    true
}

impl Crash {
    /// Runs `body` in this thread and kills it before its shared operation `k`; `None` if that came to pass.
    pub fn until<V>(k: u64, body: impl FnOnce() -> V) -> Option<V> {
        LEFT.set(k);
        let result = catch_unwind(AssertUnwindSafe(body));
        LEFT.set(u64::MAX);
        let dead = DEAD.replace(false);
        match result {
            Ok(_) if dead => None,
            Ok(v) => Some(v),
            Err(e) if e.is::<Killed>() => None,
            Err(e) => resume_unwind(e),
        }
    }

    /// Runs `body` with a mistake in the logic switched on, in this thread.
    pub fn with_bug<V>(bug: Bug, body: impl FnOnce() -> V) -> V {
        struct Off;
        impl Drop for Off {
            fn drop(&mut self) {
                BUG.set(None);
            }
        }
        BUG.set(Some(bug));
        let _off = Off;
        body()
    }
}

macro_rules! word {
    ($name:ident, $v:ty) => {
        /// A word that the dead can't change.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(<Real as Mem>::$name);

        impl Atom<$v> for $name {
            fn new(v: $v) -> Self {
                $name(Atom::new(v))
            }
            fn load(&self, o: Ordering) -> $v {
                if alive() { self.0.load(o) } else { 0 }
            }
            fn store(&self, v: $v, o: Ordering) {
                if alive() {
                    self.0.store(v, o)
                }
            }
            fn cas(&self, old: $v, new: $v, o: Ordering) -> Result<$v, $v> {
                if alive() { self.0.cas(old, new, o) } else { Err(old) }
            }
            fn fetch_or(&self, v: $v, o: Ordering) -> $v {
                if alive() { self.0.fetch_or(v, o) } else { 0 }
            }
        }
    };
}

word!(U32, u32);
word!(U64, u64);

/// Memory that counts each access as a step.
#[derive(Debug)]
pub struct CrashCell<T: Copy> {
    cell: <Real as Mem>::Cell<T>,
    /// What the dead get instead.
    grave: Cell<T>,
}

impl<T: Copy> RaceCell<T> for CrashCell<T> {
    fn new(v: T) -> Self {
        CrashCell { cell: RaceCell::new(v), grave: Cell::new(v) }
    }
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        if alive() { self.cell.with(f) } else { f(self.grave.as_ptr()) }
    }
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        if alive() { self.cell.with_mut(f) } else { f(self.grave.as_ptr()) }
    }
}

impl Mem for Crash {
    type U32 = U32;
    type U64 = U64;
    type Cell<T: Copy> = CrashCell<T>;

    fn fence(o: Ordering) {
        if alive() {
            Real::fence(o)
        }
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
        // Short slices: these tests have thousands of deaths to notice.
        if alive() { Real::wait(&word.0, seen, nanos.min(1_000_000)) } else { Woke::TimedOut }
    }
    fn wake(word: &U32) -> u32 {
        if alive() { Real::wake(&word.0) } else { 0 }
    }
    fn touch(_bytes: usize) {
        alive();
    }
    fn broken(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }
}
