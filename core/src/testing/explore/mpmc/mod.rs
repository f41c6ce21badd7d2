//! The ring of many to many under exploration: what [`crate::ring::mpmc`] promises, checked at every step.
//!
//! # Safety
//! Handles have names of their own, one for each actor; an actor that goes on under the seat of another begins only
//! when that one is dead, and recovers first.
#![allow(unsafe_code)]

pub mod scenarios;
mod spec;

use core::cell::Cell;
use std::format;
use std::vec::Vec;

pub use spec::Spec;

use super::{ACTORS, NEWCOMER, Protocol, Replay, Stage, Verdict};
use crate::owner::Owner;
use crate::ring::mpmc::{Handle, Peers, Region};
use crate::ring::{PopError, PushError};
use crate::testing::Mpmc;

type Family = Replay<Spec>;
type Memory = Mpmc<Family, u64>;

/// What an actor does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// Makes a handle. Every other call does so too if there is none yet.
    Attach,
    /// Sends.
    Push(u64),
    /// Sends what a closure makes that panics.
    PushPanics,
    /// Receives.
    Pop,
    /// Receives with a closure that panics.
    PopPanics,
    /// Recovers from the death of an actor, if he is dead.
    Recover(u8),
    /// Goes on under the seat of a dead actor, in the next epoch: begins only when he is dead, and recovers first.
    Succeed(u8),
    /// Closes.
    Close,
    /// Sets both hints back to the first position and so many more: as late stores of others would.
    Hints(u64),
}

/// What a call came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // as the ring's own results
pub enum Event {
    Pushed(u64, u64),
    Popped(u64, u64),
    Full,
    Closed,
    Empty,
    Drained,
    /// Blocked by this actor; `None`: by nobody who takes part.
    Busy(Option<u8>),
    Orphan(u64, u64),
    Skipped(u64),
    /// A position was given back because the sender panicked.
    Panicked,
}

fn seat(owner: Owner) -> Option<u8> {
    (owner.seat() < ACTORS as u32).then(|| owner.seat() as u8)
}

/// The name of an actor: a seat of his own, or the next epoch of the one that he goes on under.
fn name(actor: u8, heir_of: Option<u8>) -> Owner {
    match heir_of {
        None => Owner::new(actor.into(), 7),
        Some(of) => Owner::new(of.into(), 8),
    }
}

/// A participant that reports to the judge.
struct Watch;

impl Peers<u64> for Watch {
    fn alive(&mut self, owner: Owner) -> bool {
        // A seat's last epoch belongs to its heir, who is alive as long as his own bit says so.
        let Some(seat) = seat(owner) else { return true };
        if owner == name(seat, None) { Family::alive(seat) } else { Family::alive(heir(seat)) }
    }
    fn orphan(&mut self, at: u64, _: Owner, value: u64) {
        Family::emit(Event::Orphan(at, value));
    }
    fn skipped(&mut self, at: u64, _: Owner) {
        Family::emit(Event::Skipped(at));
    }
}

/// Who goes on under a seat: tests that use [`Call::Succeed`] let actor `HEIR` do so.
const fn heir(_seat: u8) -> u8 {
    HEIR
}

/// The only actor that may [`Call::Succeed`] another one.
pub const HEIR: u8 = 2;

/// The ring under exploration.
#[derive(Clone, Debug)]
pub struct Ring {
    memory: Memory,
    start: u64,
}

/// What an actor keeps: positions of producers and consumers as it knows them, and under whose seat it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Local {
    at: Option<(u64, u64)>,
    heir_of: Option<u8>,
}

impl Ring {
    /// An empty ring of 2^`shift` slots whose first position is `start`.
    pub fn stage(shift: u32, start: u64) -> (Ring, Stage<Ring>) {
        Stage::new(|| {
            let memory = Memory::new(1 << shift, start, 0).expect("a capacity that a ring can have");
            let words = (0..1 << shift).map(|i| Family::word_of(|| _ = memory.slot(i).word())).collect();
            let closed_word = Family::word_of(|| _ = memory.hints().is_closed());
            let spec = Spec::new(shift, start, words, closed_word);
            (Ring { memory, start }, spec)
        })
    }

    fn capacity(&self) -> u64 {
        1 << self.memory.shift()
    }
}

fn pushed(result: Result<u64, PushError<u64>>, value: u64) -> Event {
    match result {
        Ok(at) => Event::Pushed(at, value),
        Err(PushError::Full(_)) => Event::Full,
        Err(PushError::Closed(_)) => Event::Closed,
        Err(PushError::Busy { owner, .. }) => Event::Busy(blocker(owner)),
    }
}

fn popped(result: Result<(u64, u64), PopError>) -> Event {
    match result {
        Ok((at, value)) => Event::Popped(at, value),
        Err(PopError::Empty) => Event::Empty,
        Err(PopError::Drained) => Event::Drained,
        Err(PopError::Busy { owner }) => Event::Busy(blocker(owner)),
    }
}

fn blocker(owner: Owner) -> Option<u8> {
    let seat = seat(owner)?;
    Some(if owner == name(seat, None) { seat } else { heir(seat) })
}

impl Protocol for Ring {
    type Judge = Spec;
    type Local = Local;

    fn act(&self, me: u8, local: &mut Local, call: Call) {
        if let Call::Succeed(of) = call {
            assert_eq!(me, heir(of), "the only heir");
            local.heir_of = Some(of);
        }
        let me = name(me, local.heir_of);
        let mut handle: Handle<Family, u64, _> = match local.at {
            // SAFETY: a name of its own, as said at the top; `Recover` comes first where it is another's seat.
            None => unsafe { Handle::attach(self.memory.clone(), me) },
            // SAFETY: the same handle as before.
            Some((tail, head)) => unsafe { Handle::resume(self.memory.clone(), me, tail, head) },
        };
        match call {
            Call::Attach => (),
            Call::Push(value) => Family::emit(pushed(handle.try_push(value, &mut Watch), value)),
            Call::Pop => Family::emit(popped(handle.try_pop(&mut Watch))),
            Call::PushPanics => {
                let result = Family::caught(|| handle.try_push_with(|_| Family::throw(), &mut Watch));
                let back = |e: PushError<()>| pushed(Err(e.map(|()| 0)), 0);
                Family::emit(result.map_or(Event::Panicked, |r| back(r.expect_err("it panics"))));
            }
            Call::PopPanics => {
                let had = Cell::new(None);
                let take = |at, value| -> (u64, u64) {
                    had.set(Some((at, value)));
                    Family::throw()
                };
                let result = Family::caught(|| handle.try_pop_with(take, &mut Watch));
                // A message is gone once its slot is given back; a death before that leaves an orphan.
                let gone = had.get().map(|(at, value)| Event::Popped(at, value));
                Family::emit(result.map(popped).or(gone).expect("a message, or why there is none"));
            }
            Call::Recover(of) => {
                if !Family::alive(of) {
                    handle.recover(name(of, None), &mut Watch);
                }
            }
            Call::Succeed(of) => handle.recover(name(of, None), &mut Watch),
            Call::Close => handle.close(),
            Call::Hints(after) => {
                let at = self.start.wrapping_add(after);
                self.memory.hints().set(at, at);
            }
        }
        local.at = Some(handle.positions());
    }

    fn may_begin(&self, call: Call, dead: u8) -> bool {
        if let Call::Succeed(of) = call { dead >> of & 1 == 1 } else { true }
    }

    /// A newcomer empties the ring, fills it to the brim and empties it again: nothing is lost, nothing wedged, and the
    /// whole capacity is back. It learns of the dead only where it is blocked. A closed ring it drains.
    fn settle(&self, stage: &mut Stage<Ring>) -> Verdict {
        let closed = stage.world().judge().is_closed();
        let last = |events: Vec<Event>| *events.last().expect("every call reports something");
        let mut call = |call: Call| {
            stage.perform(self, NEWCOMER, call).map(last).map_err(|e| format!("in the end: {e}"))
        };
        let expect = |got: Event, want: Event| {
            if got == want { Ok(()) } else { Err(format!("wedged: {got:?} instead of {want:?}")) }
        };
        let end = loop {
            match call(Call::Pop)? {
                Event::Popped(..) => (),
                other => break other,
            }
        };
        expect(end, if closed { Event::Drained } else { Event::Empty })?;
        if closed {
            expect(call(Call::Push(9))?, Event::Closed)?;
            expect(call(Call::Pop)?, Event::Drained)?;
        } else {
            for i in 0..self.capacity() {
                if !matches!(call(Call::Push(1000 + i))?, Event::Pushed(_, v) if v == 1000 + i) {
                    return Err(format!("wedged: no room for message {i} of {}", self.capacity()));
                }
            }
            expect(call(Call::Push(9))?, Event::Full)?;
            for i in 0..self.capacity() {
                if !matches!(call(Call::Pop)?, Event::Popped(_, v) if v == 1000 + i) {
                    return Err(format!("wedged: message {i} did not come in its turn"));
                }
            }
            expect(call(Call::Pop)?, Event::Empty)?;
        }
        stage.world().judge().settled(stage.world().dead())
    }
}
