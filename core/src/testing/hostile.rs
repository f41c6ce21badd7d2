//! The family `Hostile`: memory that a bad peer writes too, anything, anywhere, at any time.
//!
//! Within [`Adversary::call`] each access to a shared word comes after whatever the adversary has just written there,
//! and each look into plain memory finds what it has left there. So an operation that keeps its bounds and comes to an
//! end here keeps them against every process that has the memory mapped: values may be wrong, nothing else. Everything
//! is the adversary's, one's own words too; [`Adversary::trust`] takes words away from it.
//!
//! | what the adversary writes    | why                                                           |
//! |------------------------------|---------------------------------------------------------------|
//! | any bits; 0; all ones; signs | what no correct peer writes                                   |
//! | the truth, a little off      | one more or less than there is                                |
//! | what was there before        | a peer that repeats itself, or its victim: likely to be believed |
//! | the truth, one field flipped | another lap, owner, state, rank                               |
//! | what the caller compares to  | a compare-and-swap succeeds though it should not              |
//!
//! One thread runs the operation and no other thread is needed: the adversary acts between any two of its shared
//! operations. Nothing waits: sleeps end at once, and the clock runs ahead by a tick a look. Every call has a budget of
//! shared operations and of turns; an operation that needs more than its documented bound fails its test instead of
//! hanging it. All is decided by the seed.
//!
//! # Safety
//! Writes any bytes into cells, in the thread that is about to access them and before it does. What lies in shared
//! memory is a type of which any bytes are a value: bodies, call sites, `Shareable`.
#![allow(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;
use std::boxed::Box;
use std::collections::{HashMap, VecDeque};
use std::thread_local;
use std::vec::Vec;

use crate::mem::{Atom, Mem, Ordering, RaceCell, Real, Woke};

/// Core atomics that a bad peer writes too.
#[derive(Debug, Clone, Copy)]
pub struct Hostile;

/// How an adversary lies.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Anew each time, with this chance in 16.
    Often(u64),
    /// At one access only, the so-and-so-manieth.
    Once(u64),
    /// Each word says one thing for ever.
    Stuck,
    /// Nothing but random bits.
    Noise,
    /// The newest that was written, over and over, as a peer would that does the same as its victim; and a lie with
    /// this chance in 64.
    Mirror(u64),
}

/// A bad peer, decided by a seed.
pub struct Adversary(Option<Box<State>>);

struct State {
    random: u64,
    manner: Manner,
    trusted: Vec<Range<usize>>,
    /// Words that make sense where they are said.
    offered: Vec<u64>,
    /// Words that were seen, newest first.
    old: VecDeque<u64>,
    /// The last word that was stored.
    newest: Option<u64>,
    /// Contents of cells that were written, newest first.
    written: VecDeque<Vec<u8>>,
    stuck: HashMap<usize, u64>,
    accesses: u64,
    left: u64,
    used: u64,
    clock: u64,
}

/// Nanoseconds by which the clock runs ahead at each look.
pub const TICK: u64 = 1_000_000;
/// Values that are kept to be said again.
const KEPT: usize = 12;

thread_local! {
    static BAD: RefCell<Option<Box<State>>> = const { RefCell::new(None) };
    /// Whether there is one: looked at before each access.
    static AT_IT: Cell<bool> = const { Cell::new(false) };
}

fn with<V>(f: impl FnOnce(&mut State) -> V) -> Option<V> {
    if !AT_IT.get() {
        return None;
    }
    BAD.with_borrow_mut(|bad| bad.as_mut().map(|state| f(state)))
}

/// A shared operation, or a turn of a loop.
fn step() {
    with(State::step);
}

impl State {
    fn step(&mut self) {
        self.used += 1;
        if self.left == 0 {
            self.left = u64::MAX; // destructors may still run
            panic!(
                "an operation made more than {} shared operations: that is beyond its bound",
                self.used - 1
            );
        }
        self.left -= 1;
    }

    /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn lies(&mut self) -> bool {
        self.accesses += 1;
        match self.manner {
            Manner::Often(chance) => self.below(16) < chance,
            Manner::Once(at) => self.accesses == at,
            Manner::Stuck | Manner::Noise | Manner::Mirror(_) => true,
        }
    }

    fn seen(&mut self, v: u64) {
        if self.old.front() != Some(&v) {
            self.old.truncate(KEPT - 1);
            self.old.push_front(v);
        }
    }

    fn old(&mut self, otherwise: u64) -> u64 {
        // The newest is the most likely to be believed.
        let at = if self.below(2) == 0 { 0 } else { self.below(KEPT as u64) as usize };
        self.old.get(at).copied().unwrap_or(otherwise)
    }

    fn offered(&mut self) -> Option<u64> {
        let at = self.below(self.offered.len() as u64) as usize;
        self.offered.get(at).copied()
    }

    /// Whether it does as its victim does this time.
    fn mirrors(&mut self) -> bool {
        let Manner::Mirror(chance) = self.manner else { return false };
        self.below(64) >= chance
    }

    fn near(&mut self, v: u64) -> u64 {
        v.wrapping_add(self.below(17)).wrapping_sub(8)
    }

    /// Some bits beside each other are others.
    fn flipped(&mut self, v: u64) -> u64 {
        let (wide, at) = (self.below(24) + 1, self.below(64));
        v ^ (self.next() & ((1 << wide) - 1)) << at
    }

    /// What a bad peer might write where `truth` stands, and the accessing thread compares with `wanted`.
    fn lie(&mut self, truth: u64, wanted: Option<u64>) -> u64 {
        const EDGES: [u64; 6] = [0, u64::MAX, 1, 1 << 63, i64::MAX as u64, u32::MAX as u64];
        match self.below(11) {
            0 => self.next(),
            1 => EDGES[self.below(EDGES.len() as u64) as usize],
            2 => self.near(truth),
            3 => self.flipped(truth),
            4 => {
                let old = self.old(truth);
                self.near(old)
            }
            5 => {
                let old = self.old(truth);
                self.flipped(old)
            }
            6 | 7 => wanted.unwrap_or(truth),
            8 => self.offered().unwrap_or(truth),
            _ => self.old(truth),
        }
    }

    /// What the adversary has just written at `at`, if anything.
    fn meddle(&mut self, at: usize, truth: u64, wanted: Option<u64>) -> Option<u64> {
        if self.trusted.iter().any(|t| t.contains(&at)) || !self.lies() {
            return None;
        }
        if self.mirrors() {
            return self.newest;
        }
        match self.manner {
            Manner::Noise => Some(self.next()),
            Manner::Stuck => {
                let lie = self.lie(truth, wanted);
                Some(*self.stuck.entry(at).or_insert(lie))
            }
            _ => Some(self.lie(truth, wanted)),
        }
    }

    /// What the adversary has just written into a cell of `bytes` bytes.
    fn scribble(&mut self, cell: &mut [u8]) {
        if cell.is_empty() || !self.lies() {
            return;
        }
        let mirrors = self.mirrors();
        match if mirrors { 4 + self.below(2) } else { self.below(6) } {
            0 => cell.iter_mut().for_each(|b| *b = self.next() as u8),
            1 => {
                let at = self.below(cell.len() as u64) as usize;
                cell[at] = self.next() as u8;
            }
            // Another one's contents, perhaps with a bit that differs, or a word that makes sense in its place.
            kind => {
                let alike = self.written.iter().filter(|w| w.len() == cell.len()).count();
                let nth = if mirrors { 0 } else { self.below(alike as u64) as usize };
                if let Some(other) = self.written.iter().filter(|w| w.len() == cell.len()).nth(nth) {
                    cell.copy_from_slice(other);
                }
                if kind == 2 {
                    let at = self.below(cell.len() as u64) as usize;
                    cell[at] ^= 1 << self.below(8);
                }
                let words = (cell.len() / 8) as u64;
                if let (5, 1.., Some(word)) = (kind, words, self.offered()) {
                    let at = self.below(words) as usize * 8;
                    cell[at..at + 8].copy_from_slice(&word.to_ne_bytes());
                }
            }
        }
    }
}

impl Adversary {
    /// The bad peer of this seed.
    pub fn new(seed: u64) -> Self {
        let mut state = State {
            random: seed,
            manner: Manner::Stuck,
            trusted: Vec::new(),
            offered: Vec::new(),
            old: VecDeque::new(),
            newest: None,
            written: VecDeque::new(),
            stuck: HashMap::new(),
            accesses: 0,
            left: 0,
            used: 0,
            clock: 0,
        };
        state.manner = match state.below(12) {
            0 => Manner::Stuck,
            1 | 2 => Manner::Once(state.below(64) + 1),
            3 => Manner::Noise,
            8 => Manner::Often(16),
            9..=11 => Manner::Mirror([0, 1, 4][state.below(3) as usize]),
            4 => Manner::Often(8),
            5 => Manner::Often(4),
            6 => Manner::Often(2),
            _ => Manner::Often(1),
        };
        Adversary(Some(Box::new(state)))
    }

    fn state(&mut self) -> &mut State {
        self.0.as_mut().expect("nobody is in a call")
    }

    /// Words in this memory are written by nobody else.
    pub fn trust<T>(&mut self, memory: &T) {
        let start = core::ptr::from_ref(memory).addr();
        self.state().trusted.push(start..start + size_of::<T>());
    }

    /// A word that the adversary says now and then, because it makes sense here.
    pub fn offer(&mut self, word: u64) {
        self.state().offered.push(word);
    }

    /// A number below `n`, for the test's own choices: of the same seed.
    pub fn below(&mut self, n: usize) -> usize {
        self.state().below(n as u64) as usize
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state().next()
    }

    /// Runs `body` in this thread against the adversary.
    ///
    /// # Panics
    /// If `body` makes more than `most` shared operations and turns of loops.
    pub fn call<V>(&mut self, most: u64, body: impl FnOnce() -> V) -> V {
        struct Over<'a>(&'a mut Adversary);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                AT_IT.set(false);
                self.0.0 = BAD.take();
            }
        }
        assert!(!AT_IT.get(), "one adversary at a time");
        let mut state = self.0.take().expect("nobody is in a call");
        (state.left, state.used) = (most, 0);
        BAD.set(Some(state));
        AT_IT.set(true);
        let _over = Over(self);
        body()
    }

    /// Shared operations and turns of the last call.
    pub fn used(&mut self) -> u64 {
        self.state().used
    }
}

impl fmt::Debug for Adversary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adversary")
            .field("manner", &self.0.as_ref().map(|s| s.manner))
            .finish_non_exhaustive()
    }
}

impl Hostile {
    /// A number below `n` that the adversary of this thread chooses; 0 where there is none. For oracles.
    pub fn choice(n: usize) -> usize {
        with(|bad| bad.below(n as u64) as usize).unwrap_or(0)
    }

    /// Writes any bytes over `len` bytes from `start` on, or a few of them, or none, as the adversary of this thread
    /// likes.
    ///
    /// # Safety
    /// They are valid for writes, nobody else touches them meanwhile, and any bytes are legal there.
    pub unsafe fn scribble(start: *mut u8, len: usize) {
        // SAFETY: as the caller promises.
        with(|bad| bad.scribble(unsafe { core::slice::from_raw_parts_mut(start, len) }));
    }
}

macro_rules! word {
    ($name:ident, $v:ty) => {
        /// A word that a bad peer writes too.
        #[repr(transparent)]
        #[derive(Debug)]
        pub struct $name(<Real as Mem>::$name);

        impl $name {
            /// What the adversary does before an access; `Some(before)` if it will put that back after it.
            fn meddle(&self, wanted: Option<$v>) -> Option<$v> {
                let truth = self.0.load(Ordering::Relaxed);
                with(|bad| {
                    bad.step();
                    let at = core::ptr::from_ref(self).addr();
                    let lie = bad.meddle(at, truth.into(), wanted.map(u64::from))?;
                    self.0.store(lie as $v, Ordering::Relaxed);
                    (bad.below(2) == 0).then_some(truth)
                })?
            }

            fn seen(&self, v: $v) {
                with(|bad| bad.seen(v.into()));
            }
        }

        impl Atom<$v> for $name {
            fn new(v: $v) -> Self {
                $name(Atom::new(v))
            }
            fn load(&self, o: Ordering) -> $v {
                let back = self.meddle(None);
                let v = self.0.load(o);
                if let Some(truth) = back {
                    self.0.store(truth, Ordering::Relaxed);
                }
                self.seen(v);
                v
            }
            fn store(&self, v: $v, o: Ordering) {
                // Dropped, in effect, if the adversary writes at once.
                self.0.store(v, o);
                with(|bad| bad.newest = Some(v.into()));
                self.meddle(None);
                self.seen(v);
            }
            fn cas(&self, old: $v, new: $v, o: Ordering) -> Result<$v, $v> {
                self.meddle(Some(old));
                self.seen(new);
                self.0.cas(old, new, o)
            }
            fn fetch_or(&self, v: $v, o: Ordering) -> $v {
                self.meddle(None);
                self.0.fetch_or(v, o)
            }
        }
    };
}

word!(U32, u32);
word!(U64, u64);

/// Memory that a bad peer writes too.
#[repr(transparent)]
#[derive(Debug)]
pub struct HostileCell<T>(<Real as Mem>::Cell<T>)
where
    T: Copy;

impl<T: Copy> HostileCell<T> {
    fn scribble(&self) {
        step();
        self.0.with_mut(|p| {
            // SAFETY: the cell's bytes, which this thread is about to access by right, so nobody else does.
            unsafe { Hostile::scribble(p.cast(), size_of::<T>()) }
        });
    }
}

impl<T: Copy> RaceCell<T> for HostileCell<T> {
    fn new(v: T) -> Self {
        HostileCell(RaceCell::new(v))
    }
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.scribble();
        self.0.with(f)
    }
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        step();
        self.0.with_mut(|p| {
            let result = f(p);
            with(|bad| {
                // SAFETY: the cell's bytes; what lies in shared memory has no padding, and this thread has just
                // written it by right.
                let now = unsafe { core::slice::from_raw_parts(p.cast::<u8>(), size_of::<T>()) };
                bad.written.truncate(KEPT - 1);
                bad.written.push_front(now.to_vec());
            });
            result
        })
    }
}

impl Mem for Hostile {
    type U32 = U32;
    type U64 = U64;
    type Cell<T: Copy> = HostileCell<T>;

    fn fence(o: Ordering) {
        step();
        Real::fence(o)
    }
    fn spin() {
        step();
    }
    fn yield_now() {
        step();
    }
    fn cpu() -> u32 {
        with(|bad| bad.below(4) as u32).unwrap_or(0)
    }
    fn now() -> u64 {
        let ahead = with(|bad| {
            bad.step();
            bad.clock += TICK;
            bad.clock
        });
        ahead.unwrap_or_else(Real::now)
    }
    fn wait(word: &U32, seen: u32, nanos: u64) -> Woke {
        let woke = with(|bad| {
            bad.step();
            if bad.below(2) == 0 { Woke::TimedOut } else { Woke::Look }
        });
        woke.unwrap_or_else(|| Real::wait(&word.0, seen, nanos))
    }
    fn wake(word: &U32) -> u32 {
        let nobody = with(|bad| {
            bad.step();
            bad.below(3) as u32
        });
        nobody.unwrap_or_else(|| Real::wake(&word.0))
    }
    fn touch(_bytes: usize) {
        step();
    }
}
