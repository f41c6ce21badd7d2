//! The family `Loom`: weak memory, data races, deaths at the k-th shared operation, and one mutant at a time.
//!
//! A word that can be slept on carries loom's mutex and condition variable in place of the kernel's futex queue: a
//! sleeper compares under the lock, a waker notifies under it. That orders sleeper and waker no more than the kernel's
//! own lock does.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
use sapwood_core::mem::{Atom, Bug, Mem, Ordering, RaceCell, Site, Woke};

/// Loom's atomics and cells.
#[derive(Debug, Clone, Copy)]
pub struct Loom;

/// One change to the protocols that some model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The ordering at this site becomes `Relaxed`; a fence is left out.
    Weak(Site),
    /// This mistake in the logic is made.
    Mistake(Bug),
}

/// What a killed thread unwinds with.
#[derive(Debug)]
struct Killed;

// Loom runs all threads of a model on the thread that called it, so the mutant of this test thread is theirs.
thread_local!(static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) });
thread_local!(static YIELDS: Cell<bool> = const { Cell::new(true) });
loom::thread_local!(static BUDGET: Cell<usize> = Cell::new(usize::MAX));
// Set between the death of a thread and the end of its unwinding: its destructors must not tidy up.
loom::thread_local!(static DEAD: Cell<bool> = Cell::new(false));

/// Runs `body` with a mutant switched on.
pub fn with_mutant<V>(mutant: Option<Mutant>, body: impl FnOnce() -> V) -> V {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            MUTANT.set(None);
        }
    }
    MUTANT.set(mutant);
    let _off = Off;
    body()
}

/// Runs `body` with a family whose `yield_now` does nothing: every look before a sleep may then find an old value,
/// as it may on a machine where the other rank does not get on meanwhile.
pub fn without_yields<V>(body: impl FnOnce() -> V) -> V {
    struct On;
    impl Drop for On {
        fn drop(&mut self) {
            YIELDS.set(true);
        }
    }
    YIELDS.set(false);
    let _on = On;
    body()
}

/// Runs `body` in this loom thread and stops it for good before its shared operation `k`, as SIGKILL would; `None` if
/// that came to pass. An access to a cell, a fence and a system call count as operations.
pub fn until<V>(k: usize, body: impl FnOnce() -> V) -> Option<V> {
    BUDGET.with(|b| b.set(k));
    let result = catch_unwind(AssertUnwindSafe(body));
    BUDGET.with(|b| b.set(usize::MAX));
    DEAD.with(|d| d.set(false));
    match result {
        Ok(v) => Some(v),
        Err(e) if e.is::<Killed>() => None,
        Err(e) => resume_unwind(e),
    }
}

/// Whether the operation may happen; kills the thread when its budget is spent.
fn alive() -> bool {
    if DEAD.with(Cell::get) {
        return false;
    }
    if std::thread::panicking() {
        return true;
    }
    BUDGET.with(|b| match b.get() {
        0 => {
            DEAD.with(|d| d.set(true));
            resume_unwind(Box::new(Killed))
        }
        usize::MAX => (),
        left => b.set(left - 1),
    });
    true
}

macro_rules! word {
    ($name:ident, $word:ident, $v:ty) => {
        impl Atom<$v> for $name {
            fn new(v: $v) -> Self {
                $name::from(atomic::$word::new(v))
            }
            fn load(&self, o: Ordering) -> $v {
                if alive() { self.word.load(o) } else { 0 }
            }
            fn store(&self, v: $v, o: Ordering) {
                if alive() {
                    self.word.store(v, o)
                }
            }
            fn cas(&self, old: $v, new: $v, o: Ordering) -> Result<$v, $v> {
                if !alive() {
                    return Err(old);
                }
                self.word.compare_exchange(old, new, o, Ordering::Relaxed)
            }
            fn fetch_or(&self, v: $v, o: Ordering) -> $v {
                if alive() { self.word.fetch_or(v, o) } else { 0 }
            }
        }
    };
}

/// Who sleeps on a word.
#[derive(Debug, Default)]
struct Queue {
    /// How many sleep on it alone.
    sleepers: u32,
    /// Those who sleep on several words: whether each was woken.
    several: Vec<Arc<Alarm>>,
}

/// A sleep on several words.
#[derive(Debug, Default)]
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

/// A word that can be slept on.
#[derive(Debug)]
pub struct LoomU32 {
    word: atomic::AtomicU32,
    queue: Mutex<Queue>,
    rung: Condvar,
}

/// A word.
#[derive(Debug)]
pub struct LoomU64 {
    word: atomic::AtomicU64,
}

impl From<atomic::AtomicU32> for LoomU32 {
    fn from(word: atomic::AtomicU32) -> Self {
        LoomU32 { word, queue: Mutex::new(Queue::default()), rung: Condvar::new() }
    }
}

impl From<atomic::AtomicU64> for LoomU64 {
    fn from(word: atomic::AtomicU64) -> Self {
        LoomU64 { word }
    }
}

word!(LoomU32, AtomicU32, u32);
word!(LoomU64, AtomicU64, u64);

impl LoomU32 {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no one panics under this lock")
    }
}

/// Memory on which loom notices races.
#[derive(Debug)]
pub struct LoomCell<T: Copy> {
    cell: loom::cell::UnsafeCell<T>,
    /// What a dead thread gets instead.
    grave: Cell<T>,
}

impl<T: Copy> RaceCell<T> for LoomCell<T> {
    fn new(v: T) -> Self {
        LoomCell { cell: loom::cell::UnsafeCell::new(v), grave: Cell::new(v) }
    }
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        if alive() { self.cell.with(f) } else { f(self.grave.as_ptr()) }
    }
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        if alive() { self.cell.with_mut(f) } else { f(self.grave.as_ptr()) }
    }
}

impl Mem for Loom {
    type U32 = LoomU32;
    type U64 = LoomU64;
    type Cell<T: Copy> = LoomCell<T>;

    fn fence(o: Ordering) {
        // A fence cannot be relaxed: the mutant leaves it out.
        if o != Ordering::Relaxed && alive() {
            atomic::fence(o);
        }
    }
    fn spin() {
        loom::thread::yield_now();
    }
    fn pause(_turns: u32) {
        Self::spin();
    }
    fn yield_now() {
        if YIELDS.get() {
            loom::thread::yield_now();
        }
    }
    fn cpu() -> u32 {
        0
    }
    fn now() -> u64 {
        0
    }
    fn wait(word: &LoomU32, seen: u32, _nanos: u64) -> Woke {
        if !alive() {
            return Woke::TimedOut;
        }
        let mut queue = word.queue();
        if word.word.load(Ordering::Relaxed) == seen {
            queue.sleepers += 1;
            drop(word.rung.wait(queue).expect("no one panics under this lock"));
        }
        Woke::Look
    }
    fn wait_any(words: &mut dyn Iterator<Item = (&LoomU32, u32)>, _nanos: u64) -> Woke {
        if !alive() {
            return Woke::TimedOut;
        }
        let alarm = Arc::new(Alarm::default());
        // As the kernel does it: onto one queue after the other, and off again if one word differs.
        for (word, seen) in words {
            let mut queue = word.queue();
            if word.word.load(Ordering::Relaxed) != seen {
                return Woke::Look;
            }
            queue.several.push(alarm.clone());
        }
        let mut rung = alarm.rung.lock().expect("no one panics under this lock");
        while !*rung {
            rung = alarm.bell.wait(rung).expect("no one panics under this lock");
        }
        Woke::Look
    }
    fn wake(word: &LoomU32) -> u32 {
        if !alive() {
            return 0;
        }
        let mut queue = word.queue();
        for alarm in queue.several.drain(..) {
            *alarm.rung.lock().expect("no one panics under this lock") = true;
            alarm.bell.notify_all();
        }
        if Self::broken(Bug::BellWakesOne) {
            word.rung.notify_one();
            let woken = queue.sleepers.min(1);
            queue.sleepers -= woken;
            return woken;
        }
        word.rung.notify_all();
        std::mem::take(&mut queue.sleepers)
    }
    fn touch(_bytes: usize) {
        alive();
    }
    fn at(site: Site, o: Ordering) -> Ordering {
        if MUTANT.get() == Some(Mutant::Weak(site)) { Ordering::Relaxed } else { o }
    }
    fn broken(bug: Bug) -> bool {
        MUTANT.get() == Some(Mutant::Mistake(bug))
    }
}
