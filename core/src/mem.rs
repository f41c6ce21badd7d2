//! Memory families: what a protocol may do to shared memory, and nothing else.
//!
//! Every lock-free protocol of this crate is generic over [`Mem`], so that the code that ships (on [`Real`]) is the
//! code that is model-checked (on loom, in `loom-tests`), killed at every step (`Crash`) and counted (`Count`).
//! A protocol never names an atomic type: it asks its family for one.

pub use core::sync::atomic::Ordering;

pub use crate::real::Real;

/// A shared word. A failed [`cas`](Atom::cas) returns the value found, loaded with `Relaxed`: a caller that needs more
/// loads again.
pub trait Atom<V>: Send + Sync {
    /// A word that holds `v`.
    fn new(v: V) -> Self;
    /// Reads the word.
    fn load(&self, o: Ordering) -> V;
    /// Writes the word.
    fn store(&self, v: V, o: Ordering);
    /// Writes `new` where the word holds `old`.
    fn cas(&self, old: V, new: V, o: Ordering) -> Result<V, V>;
    /// Sets the bits of `v`; returns the word as it was.
    fn fetch_or(&self, v: V, o: Ordering) -> V;
}

/// Plain memory guarded by a protocol word. Test families check that nobody races on it.
pub trait RaceCell<T> {
    /// A cell that holds `v`.
    fn new(v: T) -> Self;
    /// Lends the memory for reading.
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R;
    /// Lends the memory for writing.
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R;
}

/// Why a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woke {
    /// The word differed, somebody woke us, or the kernel did so for no reason: look again.
    Look,
    /// The time was up.
    TimedOut,
}

/// A memory family.
pub trait Mem: Sized + 'static {
    /// A 32-bit word, which can be slept on.
    type U32: Atom<u32>;
    /// A 64-bit word.
    type U64: Atom<u64>;
    /// Plain memory.
    type Cell<T: Copy>: RaceCell<T>;

    /// A memory fence.
    fn fence(o: Ordering);
    /// One turn of a spin loop.
    fn spin();
    /// Gives the processor away.
    fn yield_now();
    /// The processor that this thread runs on.
    fn cpu() -> u32;
    /// Monotonic nanoseconds.
    fn now() -> u64;
    /// Sleeps while `word` holds `seen`, for at most `nanos`.
    fn wait(word: &Self::U32, seen: u32, nanos: u64) -> Woke;
    /// Wakes everyone who sleeps on `word`; says how many were woken.
    fn wake(word: &Self::U32) -> u32;
    /// An access to shared memory that is neither an atom's nor a cell's: `bytes` of a resident tensor. Test families
    /// count it as a step.
    #[inline(always)]
    fn touch(_bytes: usize) {}
    /// The ordering used at `site`: the identity, except in a test family that runs a mutant.
    #[inline(always)]
    fn at(_site: Site, o: Ordering) -> Ordering {
        o
    }
    /// Whether a mistake in the logic is switched on: never, except in a test family that runs a mutant.
    #[inline(always)]
    fn broken(_bug: Bug) -> bool {
        false
    }
}

/// Every place whose ordering is not `Relaxed`. A mutant weakens one of them, and some model must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// `doorbell`: the sleeper's fence between its announcement and its second look.
    BellSleeperFence,
    /// `doorbell`: the waker's fence between publishing and looking for sleepers.
    BellWakerFence,
    /// `barrier`: a participant's arrival.
    BarrierArrive,
    /// `barrier`: the look at another's arrival.
    BarrierLook,
    /// `board`: the sequence of a line is published.
    BoardPublish,
    /// `board`: the sequence of another's line is read.
    BoardLook,
    /// `board`: a step within an operation is published.
    BoardStep,
    /// `board`: another's step is read.
    BoardLookStep,
    /// `board`: a rank says that it has left or failed.
    BoardEnd,
    /// `board`: the look at that word.
    BoardLookEnd,
}

/// Mistakes in the logic that the models must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A waker wakes one sleeper and clears the announcement of all.
    BellWakesOne,
    /// A waker clears the announcement but leaves the epoch as it was.
    BellKeepsEpoch,
    /// A sleeper does not look again after it has announced itself.
    BellNoSecondLook,
    /// The board has one line for each rank instead of two.
    BoardOneLine,
    /// A rank that learns of a death does not look once more.
    BoardNoSecondLook,
    /// A rank publishes without having seen that all readers of the line are done.
    BoardNoCatchUp,
}
