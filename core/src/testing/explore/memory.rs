//! The family `Replay`: shipping code, one shared operation at a time, on one thread.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::panic::AssertUnwindSafe;
use std::boxed::Box;
use std::format;
use std::panic::{catch_unwind, resume_unwind};
use std::string::{String, ToString};
use std::thread_local;
use std::vec::Vec;

use super::cell::ReplayCell;
use super::{Change, Judge, Verdict};
use crate::mem::{Atom, Bug, Mem, Ordering, Woke};

/// The family: memory lies in a [`World`] that `J` watches.
#[derive(Debug)]
pub struct Replay<J>(PhantomData<fn() -> J>);

/// What an actor throws on purpose: see [`Replay::caught`].
#[derive(Debug, Clone, Copy)]
pub struct Tantrum;

/// What a stopped actor unwinds with.
struct Stop;

/// A cell, and who is in the middle of it.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Where its bytes begin in `World::bytes`, and how many.
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) writing: Option<u8>,
    pub(super) reading: u8,
}

impl Hash for Plain {
    /// Where it lies never changes.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(self.writing.map_or(0, |w| u16::from(w) + 1) << 8 | u16::from(self.reading));
    }
}

/// All shared memory, the dead, and what the judge remembers.
#[derive(Clone, Hash)]
pub struct World<J> {
    words: Vec<u64>,
    pub(super) cells: Vec<Plain>,
    pub(super) bytes: Vec<u8>,
    dead: u8,
    judge: Option<J>,
    violation: Option<String>,
}

impl<J> fmt::Debug for World<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("words", &self.words).field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl<J: Judge> World<J> {
    /// Runs `build`, which makes memory and says who watches it.
    pub(super) fn new<V>(build: impl FnOnce() -> (V, J)) -> (Self, V) {
        let empty = World {
            words: Vec::new(),
            cells: Vec::new(),
            bytes: Vec::new(),
            dead: 0,
            judge: None,
            violation: None,
        };
        begin(Run { budget: usize::MAX, ..Run::<J>::new(empty, 0) });
        let (built, judge) = build();
        (World { judge: Some(judge), ..end::<J>().world }, built)
    }

    /// Who is dead, a bit each.
    pub fn dead(&self) -> u8 {
        self.dead
    }

    /// What its judge remembers.
    pub fn judge(&self) -> &J {
        self.judge.as_ref().expect("a world that is built has a judge")
    }

    pub(super) fn judge_mut(&mut self) -> &mut J {
        self.judge.as_mut().expect("a world that is built has a judge")
    }

    /// Stops an actor for good.
    pub(super) fn kill(&mut self, actor: u8) {
        self.dead |= 1 << actor;
        self.cells.iter_mut().for_each(|c| c.reading &= !(1 << actor));
        self.judge_mut().idle(actor);
    }

    /// What went wrong, if anything did.
    pub(super) fn verdict(&self) -> Verdict {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(super) fn blame(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn judged(&mut self, verdict: impl FnOnce(&mut J) -> Verdict) {
        if let Some(Err(what)) = self.judge.as_mut().map(verdict) {
            self.blame(what);
        }
    }

    fn change(&mut self, word: usize, new: u64, actor: u8) {
        let old = core::mem::replace(&mut self.words[word], new);
        let change = Change { word, old, new, actor, dead: self.dead };
        self.judged(|j| j.changes(change));
    }
}

/// What the operations of a call have answered so far.
pub(super) type Log = Vec<u64>;

struct Run<J: Judge> {
    world: World<J>,
    actor: u8,
    /// None while memory is being built.
    call: Option<J::Call>,
    log: Log,
    at: usize,
    budget: usize,
    stopped: bool,
    /// Has made an operation that is not in the log from before.
    acted: bool,
    events: Vec<J::Event>,
    /// The word that was touched last.
    last: usize,
}

impl<J: Judge> Run<J> {
    fn new(world: World<J>, actor: u8) -> Self {
        Run {
            world,
            actor,
            call: None,
            log: Log::new(),
            at: 0,
            budget: 0,
            stopped: false,
            acted: false,
            events: Vec::new(),
            last: 0,
        }
    }
}

thread_local!(static RUN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) });
thread_local!(static BUG: Cell<Option<Bug>> = const { Cell::new(None) });

/// Runs `body` with this mistake in the logic of what it explores.
pub fn with_bug<V>(bug: Option<Bug>, body: impl FnOnce() -> V) -> V {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            BUG.set(None);
        }
    }
    BUG.set(bug);
    let _off = Off;
    body()
}

fn begin<J: Judge>(run: Run<J>) {
    RUN.set(Some(Box::new(run)));
}

fn end<J: Judge>() -> Run<J> {
    let run = RUN.take().expect("a run was begun");
    *run.downcast().unwrap_or_else(|_| panic!("a run of another judge"))
}

fn with<J: Judge, V>(f: impl FnOnce(&mut Run<J>) -> V) -> V {
    RUN.with_borrow_mut(|r| {
        let run = r.as_mut().and_then(|r| r.downcast_mut());
        f(run.expect("words of this family are touched in `Stage` only"))
    })
}

/// Makes a shared operation, or repeats its answer of `n` words (one at least), of which `take` makes the result.
/// `None` for a stopped actor, on which it has no effect.
pub(super) fn operation<J: Judge, V>(
    n: usize,
    make: impl FnOnce(&mut World<J>, u8, &mut Log),
    take: impl FnOnce(&[u64]) -> V,
) -> Option<V> {
    let answer = with::<J, _>(|r| {
        if r.stopped {
            return None;
        }
        if r.at == r.log.len() {
            if r.budget == 0 {
                r.stopped = true;
                return None;
            }
            r.budget -= 1;
            if let (true, Some(call)) = (r.at == 0, r.call) {
                let dead = r.world.dead;
                r.world.judge_mut().begins(r.actor, call, dead);
            }
            make(&mut r.world, r.actor, &mut r.log);
            if let Some(judge) = &mut r.world.judge {
                judge.tick();
            }
            r.acted = true;
        }
        r.at += n;
        Some(take(&r.log[r.at - n..r.at]))
    });
    // An actor that is stopped while it unwinds goes on unwinding, without effect.
    if answer.is_none() && !std::thread::panicking() {
        resume_unwind(Box::new(Stop));
    }
    answer
}

/// How far a call came.
pub(super) struct Ran<J: Judge> {
    pub(super) world: World<J>,
    pub(super) log: Log,
    pub(super) events: Vec<J::Event>,
    pub(super) finished: bool,
    /// Operations that were not made.
    pub(super) left: usize,
}

/// Replays `log`, then makes at most `budget` operations more.
pub(super) fn run<J: Judge>(
    world: World<J>,
    actor: u8,
    call: J::Call,
    log: Log,
    budget: usize,
    body: impl FnOnce(),
) -> Ran<J> {
    begin(Run { call: Some(call), log, budget, ..Run::new(world, actor) });
    let result = catch_unwind(AssertUnwindSafe(body));
    let mut run = end::<J>();
    if let Err(thrown) = result
        && !thrown.is::<Stop>()
    {
        run.world.blame(format!("actor {actor} panicked in {call:?}: {}", message(&*thrown)));
    }
    Ran { finished: !run.stopped, world: run.world, log: run.log, events: run.events, left: run.budget }
}

fn message(thrown: &(dyn Any + Send)) -> String {
    let text = thrown.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| thrown.downcast_ref::<&str>().copied()).unwrap_or("(no message)").to_string()
}

impl<J: Judge> Replay<J> {
    /// Reports what a call has come to. The judge sees it once, not in replays.
    pub fn emit(event: J::Event) {
        with::<J, _>(|r| {
            if r.stopped || !r.acted {
                return;
            }
            r.events.push(event.clone());
            let (actor, dead) = (r.actor, r.world.dead);
            r.world.judged(|j| j.event(actor, dead, event));
        });
    }

    /// Whether an actor is alive: a step of its own, so that a death can fall on either side of it.
    pub fn alive(actor: u8) -> bool {
        operation::<J, _>(1, |w, _, log| log.push(u64::from(w.dead >> actor & 1 == 0)), |a| a[0] != 0)
            .unwrap_or(true)
    }

    /// The number of the word that `look` touches last: for judges, while memory is being built.
    pub fn word_of(look: impl FnOnce()) -> usize {
        look();
        with::<J, _>(|r| r.last)
    }

    /// What `body` returned; `None` if it threw a [`Tantrum`]. Use it for calls of closures that panic.
    pub fn caught<V>(body: impl FnOnce() -> V) -> Option<V> {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(v) => Some(v),
            Err(thrown) if thrown.is::<Tantrum>() => None,
            Err(thrown) => resume_unwind(thrown),
        }
    }

    /// Throws a [`Tantrum`].
    pub fn throw() -> ! {
        resume_unwind(Box::new(Tantrum))
    }
}

macro_rules! word {
    ($name:ident, $v:ty) => {
        /// A word of a world, by its number.
        pub struct $name<J>(usize, PhantomData<fn() -> J>);

        impl<J> fmt::Debug for $name<J> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "word {}", self.0)
            }
        }

        impl<J: Judge> $name<J> {
            /// Makes `next` of what is there; answers with what was there.
            fn update(&self, next: impl FnOnce($v) -> Option<$v>) -> $v {
                let make = |w: &mut World<J>, actor: u8, log: &mut Log| {
                    let found = w.words[self.0];
                    log.push(found);
                    if let Some(next) = next(found as $v) {
                        w.change(self.0, u64::from(next), actor);
                    }
                };
                operation::<J, _>(1, make, |a| a[0] as $v).unwrap_or(0)
            }
        }

        impl<J: Judge> Atom<$v> for $name<J> {
            fn new(v: $v) -> Self {
                with::<J, _>(|r| {
                    r.world.words.push(u64::from(v));
                    $name(r.world.words.len() - 1, PhantomData)
                })
            }
            fn load(&self, _: Ordering) -> $v {
                with::<J, _>(|r| r.last = self.0);
                self.update(|_| None)
            }
            fn store(&self, v: $v, _: Ordering) {
                self.update(|_| Some(v));
            }
            fn cas(&self, old: $v, new: $v, _: Ordering) -> Result<$v, $v> {
                let found = self.update(|v| (v == old).then_some(new));
                if found == old { Ok(found) } else { Err(found) }
            }
            fn fetch_or(&self, v: $v, _: Ordering) -> $v {
                self.update(|found| Some(found | v))
            }
        }
    };
}

word!(ReplayU32, u32);
word!(ReplayU64, u64);

impl<J: Judge> Mem for Replay<J> {
    type U32 = ReplayU32<J>;
    type U64 = ReplayU64<J>;
    type Cell<T: Copy> = ReplayCell<J, T>;

    /// Memory is sequentially consistent here.
    fn fence(_: Ordering) {}
    fn spin() {}
    fn yield_now() {}
    fn cpu() -> u32 {
        0
    }
    fn now() -> u64 {
        0
    }
    /// Wakes at once, for no reason.
    fn wait(word: &ReplayU32<J>, _seen: u32, _nanos: u64) -> Woke {
        word.load(Ordering::Relaxed);
        Woke::Look
    }
    fn wake(word: &ReplayU32<J>) -> u32 {
        word.load(Ordering::Relaxed);
        0
    }
    fn touch(_bytes: usize) {
        let _ = operation::<J, _>(1, |_, _, log| log.push(0), |_| ());
    }
    fn broken(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }
}

/// A new cell with these bytes; its number.
pub(super) fn push_cell<J: Judge>(bytes: &[u8]) -> usize {
    with::<J, _>(|r| {
        let (at, len) = (r.world.bytes.len(), bytes.len());
        r.world.bytes.extend_from_slice(bytes);
        r.world.cells.push(Plain { at, len, writing: None, reading: 0 });
        r.world.cells.len() - 1
    })
}
