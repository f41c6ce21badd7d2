//! Every schedule of a few actors, one shared operation at a time, with deaths anywhere.
//!
//! An actor makes *calls*, one after the other. A call is a function of what its shared operations answered, so it can
//! be *replayed*: run again from its start, fed the answers that it already had, let make one operation more, and
//! stopped there. Not to run it again is SIGKILL; to run it again later is a switch to another thread. The code that
//! runs is the code that ships, on the memory family [`Replay`].
//!
//! | piece        | what it is                                                                             |
//! |--------------|----------------------------------------------------------------------------------------|
//! | [`Replay`]   | the family: words and cells in a [`World`] that can be copied and compared             |
//! | [`Judge`]    | the specification of one protocol: looks at every change of a word and every event     |
//! | [`Protocol`] | makes calls on the protocol's memory, and says what a newcomer must find in the end    |
//! | [`Stage`]    | a world with its actors: calls in a row, a death before operation k, or all schedules  |
//!
//! What an actor keeps from call to call is its `Local`; a call's operations are forgotten when it returns, so
//! histories that left the same memory and the same locals are one state.
//!
//! An access to a cell is two operations, in between which the cell is torn: who reads it then, or writes while
//! another reads, is a violation. Memory is sequentially consistent; weak memory is loom's business. A fence is
//! therefore no operation here.
//!
//! To explore a protocol: build it on `Replay<YourJudge>` in [`Stage::new`], emit an event for everything that a call
//! returned ([`Replay::emit`]), and ask [`Replay::alive`] who is alive. [`mpmc`] is the example.

mod cell;
mod digest;
mod memory;
pub mod mpmc;
mod search;
mod stage;

use core::fmt::Debug;
use core::hash::Hash;
use std::string::String;

pub use cell::ReplayCell;
pub use memory::{Replay, ReplayU32, ReplayU64, Tantrum, World, with_bug};
pub use search::Report;
pub use stage::Stage;

/// Nothing to say, or what was wrong.
pub type Verdict = Result<(), String>;

/// The most actors of a world.
pub const ACTORS: usize = 8;
/// The actor that comes when all is over and cleans up: the last one.
pub const NEWCOMER: u8 = ACTORS as u8 - 1;

/// A word that an actor changed.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which one: the number that [`Replay::word_of`] gives.
    pub word: usize,
    /// What it was.
    pub old: u64,
    /// What it is.
    pub new: u64,
    /// Who did it.
    pub actor: u8,
    /// Who is dead, a bit each.
    pub dead: u8,
}

/// The specification: sees everything that happens, in order, and remembers what it needs.
pub trait Judge: Clone + Hash + 'static {
    /// What actors do.
    type Call: Copy + Debug;
    /// What calls report.
    type Event: Clone + Debug;

    /// `actor` is about to make the first shared operation of `call`.
    fn begins(&mut self, actor: u8, call: Self::Call, dead: u8);
    /// A word was stored, or changed by a read-modify-write.
    ///
    /// # Errors
    /// What is wrong with that.
    fn changes(&mut self, change: Change) -> Verdict;
    /// A shared operation was made: what is true now was true at some instant of every call that is under way.
    fn tick(&mut self);
    /// A call of `actor` reported this.
    ///
    /// # Errors
    /// What is wrong with that.
    fn event(&mut self, actor: u8, dead: u8, event: Self::Event) -> Verdict;
    /// The call of `actor` is over, or the actor is: what was kept for it is forgotten, so that idle actors look alike.
    fn idle(&mut self, actor: u8);
}

/// A protocol whose memory stands on [`Replay`].
pub trait Protocol {
    /// Its specification.
    type Judge: Judge;
    /// What an actor keeps in private memory between two calls.
    type Local: Clone + Hash + Default;

    /// Makes one call. Nothing but shared operations and `local` may decide what it does.
    fn act(&self, me: u8, local: &mut Self::Local, call: <Self::Judge as Judge>::Call);

    /// Whether an actor may begin this call while these are dead.
    fn may_begin(&self, _call: <Self::Judge as Judge>::Call, _dead: u8) -> bool {
        true
    }

    /// All have returned or died: what [`NEWCOMER`] must find.
    ///
    /// # Errors
    /// What it did not find.
    fn settle(&self, stage: &mut Stage<Self>) -> Verdict
    where
        Self: Sized;
}
