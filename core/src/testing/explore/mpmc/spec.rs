//! What the ring of many to many promises.

use core::hash::{Hash, Hasher};
use std::format;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use super::{Call, Event, name};
use crate::owner::Owner;
use crate::ring::mpmc::{LAP_BITS, State, Word};
use crate::testing::explore::{ACTORS, Change, Judge, Verdict};

/// What became of a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Writing(u8),
    Full,
    Reading(u8),
    Over,
    Skipped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Claimed {
    place: Place,
    /// Once it is published.
    value: u64,
    first_reader: Option<u8>,
    /// To whom it was handed as an orphan, a bit each.
    handed: u8,
    /// Its first reader's call returned it.
    returned: bool,
}

/// What was true at some instant of an actor's call, and when the call began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Seen {
    full: bool,
    empty: bool,
    /// Who wrote the oldest message that nobody has taken.
    writers: u8,
    /// Who held the place one lap before the next one.
    holders: u8,
    /// What is being sent; who was dead, and whether the ring was closed, when the call began.
    value: u64,
    dead: u8,
    closed: bool,
    panics: bool,
}

// States are hashed at every step: packed by hand.
impl Hash for Claimed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (kind, who) = match self.place {
            Place::Writing(a) => (0, a),
            Place::Full => (1, 0),
            Place::Reading(a) => (2, a),
            Place::Over => (3, 0),
            Place::Skipped => (4, 0),
        };
        let reader = self.first_reader.map_or(0, |r| r + 1);
        state.write_u64(u64::from_le_bytes([kind, who, reader, self.handed, self.returned.into(), 0, 0, 0]));
        state.write_u64(self.value);
    }
}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Seen { full, empty, writers, holders, value, dead, closed, panics } = *self;
        let bits = [full.into(), empty.into(), writers, holders, dead, closed.into(), panics.into(), 0];
        state.write_u64(u64::from_le_bytes(bits));
        state.write_u64(value);
    }
}

/// What never changes.
#[derive(Debug)]
struct Fixed {
    shift: u32,
    start: u64,
    /// Numbers of the slots' words, by slot, and of the word that says that the ring is closed.
    words: Vec<usize>,
    closed_word: usize,
}

/// The specification: the state table, order, at most once, and that every answer was true when it was given.
#[derive(Clone, Debug)]
pub struct Spec {
    fixed: Rc<Fixed>,
    /// Positions since the start, oldest first.
    claimed: Vec<Claimed>,
    closed: bool,
    sealed: bool,
    seen: [Seen; ACTORS],
    /// Under whose seat an actor goes on.
    heir_of: [Option<u8>; ACTORS],
}

impl Hash for Spec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(u16::from(self.closed) << 8 | u16::from(self.sealed));
        state.write_u64(u64::from_le_bytes(self.heir_of.map(|h| h.map_or(0, |h| h + 1))));
        (&self.claimed, &self.seen).hash(state);
    }
}

impl Spec {
    /// Of an empty ring: `words` are the numbers of the slots' words, `closed_word` is that of the flag.
    pub(super) fn new(shift: u32, start: u64, words: Vec<usize>, closed_word: usize) -> Self {
        let fixed = Rc::new(Fixed { shift, start, words, closed_word });
        let (seen, heir_of) = ([Seen::default(); ACTORS], [None; ACTORS]);
        Spec { fixed, claimed: Vec::new(), closed: false, sealed: false, seen, heir_of }
    }

    /// Whether somebody has closed the ring.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn is(&self, owner: Owner, actor: u8) -> bool {
        owner == self.name(actor)
    }

    fn name(&self, actor: u8) -> Owner {
        name(actor, self.heir_of[usize::from(actor)])
    }

    /// The actor behind a name.
    fn actor(&self, owner: Owner) -> Option<u8> {
        (0..ACTORS as u8).find(|a| self.is(owner, *a))
    }

    fn is_dead(&self, owner: Owner, dead: u8) -> bool {
        self.actor(owner).is_some_and(|a| dead >> a & 1 == 1)
    }

    /// The index of the position whose slot and lap these are.
    fn index(&self, slot: usize, lap: u64) -> usize {
        let laps = lap.wrapping_sub(self.fixed.start >> self.fixed.shift) & (u64::MAX >> (64 - LAP_BITS));
        let at = (laps << self.fixed.shift | slot as u64).wrapping_sub(self.fixed.start & self.mask());
        at as usize
    }

    fn mask(&self) -> u64 {
        (1 << self.fixed.shift) - 1
    }

    /// The position that an event names; `recover` knows it modulo 2^(LAP_BITS + shift) only.
    fn at(&self, position: u64) -> usize {
        (position.wrapping_sub(self.fixed.start) & (u64::MAX >> (64 - LAP_BITS - self.fixed.shift))) as usize
    }

    /// Notes what is true now, for every call that is under way.
    fn note(&mut self, only: Option<u8>) {
        let taken = |c: &Claimed| matches!(c.place, Place::Reading(_) | Place::Over | Place::Skipped);
        let oldest = self.claimed.iter().find(|c| !taken(c)).map(|c| c.place);
        let behind = self.claimed.len().checked_sub(1 << self.fixed.shift).map(|i| self.claimed[i].place);
        let bit = |place: Option<Place>| match place {
            Some(Place::Writing(a) | Place::Reading(a)) => 1 << a,
            _ => 0u8,
        };
        let full = matches!(behind, Some(Place::Full | Place::Writing(_) | Place::Reading(_)));
        for (a, seen) in self.seen.iter_mut().enumerate() {
            if only.is_none_or(|o| usize::from(o) == a) {
                seen.empty |= oldest.is_none();
                seen.full |= full;
                seen.writers |= bit(oldest);
                seen.holders |= bit(behind);
            }
        }
    }

    /// How many positions ended in each way that a death leaves: skipped, and handed to somebody as an orphan.
    pub fn left_behind(&self) -> (usize, usize) {
        let skipped = self.claimed.iter().filter(|c| c.place == Place::Skipped).count();
        (skipped, self.claimed.iter().filter(|c| c.handed != 0).count())
    }

    fn transition(&mut self, slot: usize, change: Change) -> Result<bool, String> {
        let Change { actor, dead, .. } = change;
        let (old, new) = (Word(change.old), Word(change.new));
        let i = self.index(slot, old.lap());
        let me = |owner: Owner| self.is(owner, actor);
        let is_dead = self.is_dead(old.owner(), dead);
        let freed =
            new.lap() == (old.lap() + 1) & (u64::MAX >> (64 - LAP_BITS)) && new.owner() == Owner::NOBODY;
        let same = new.lap() == old.lap();
        if (old.state(), new.state()) == (State::Free, State::Writing) {
            let in_order = i == self.claimed.len() && !self.sealed && same;
            if new.owner() == Owner::SEAL {
                let taken = |c: &Claimed| matches!(c.place, Place::Reading(_) | Place::Over | Place::Skipped);
                self.sealed = true;
                return Ok(in_order && self.closed && self.claimed.iter().all(taken));
            }
            let mine = me(new.owner()) && !self.seen[usize::from(actor)].closed;
            let place = Place::Writing(actor);
            self.claimed.push(Claimed { place, value: 0, first_reader: None, handed: 0, returned: false });
            return Ok(in_order && mine);
        }
        let panics = self.seen[usize::from(actor)].panics;
        let value = self.seen[usize::from(actor)].value;
        let i = i.min(self.claimed.len());
        let (before, rest) = self.claimed.split_at_mut(i);
        let Some(claimed) = rest.first_mut() else {
            return Err(format!("its position was never claimed ({i} were)"));
        };
        let ours = claimed.place == Place::Writing(actor) || claimed.place == Place::Reading(actor);
        let name = name(actor, self.heir_of[usize::from(actor)]);
        let (was_mine, is_mine) = (old.owner() == name && ours, new.owner() == name);
        Ok(match (old.state(), new.state()) {
            (State::Writing, State::Full) => {
                claimed.place = Place::Full;
                claimed.value = value;
                same && was_mine && !panics && new.owner() == Owner::NOBODY
            }
            (State::Writing, State::Free) => {
                claimed.place = Place::Skipped;
                freed && (is_dead || was_mine && panics)
            }
            (State::Full, State::Reading) => {
                let taken = |c: &Claimed| matches!(c.place, Place::Reading(_) | Place::Over | Place::Skipped);
                let first = claimed.first_reader.replace(actor).is_none();
                claimed.place = Place::Reading(actor);
                before.iter().all(taken) && first && same && is_mine
            }
            (State::Reading, State::Reading) => {
                claimed.place = Place::Reading(actor);
                is_dead && same && is_mine
            }
            (State::Reading, State::Free) => {
                claimed.place = Place::Over;
                freed && was_mine
            }
            _ => false,
        })
    }

    fn popped(&mut self, actor: u8, at: u64, value: u64) -> bool {
        let at = self.at(at);
        self.claimed.get_mut(at).is_some_and(|c| {
            let first = !core::mem::replace(&mut c.returned, true);
            c.value == value && c.first_reader == Some(actor) && first && c.handed == 0
        })
    }

    /// Only the dead may have had it before, and whoever took it over died before giving it back.
    fn orphaned(&mut self, actor: u8, dead: u8, at: u64, value: u64) -> bool {
        let at = self.at(at);
        self.claimed.get_mut(at).is_some_and(|c| {
            let reader_died = c.first_reader.is_some_and(|r| dead >> r & 1 == 1);
            let fine = c.value == value && reader_died && !c.returned && c.handed & !dead == 0;
            c.handed |= 1 << actor;
            fine
        })
    }

    /// Nobody whose death was known to a call may still be named when it says "drained".
    fn no_orphans(&self, known_dead: u8) -> bool {
        self.claimed.iter().all(|c| !matches!(c.place, Place::Reading(r) if known_dead >> r & 1 == 1))
    }

    /// All is quiet: nothing is in the middle of anything, and every message ended in one way.
    pub(super) fn settled(&self, dead: u8) -> Verdict {
        for (i, c) in self.claimed.iter().enumerate() {
            let died = |r: Option<u8>| r.is_some_and(|r| dead >> r & 1 == 1);
            let fine = match c.place {
                Place::Skipped => c.first_reader.is_none() && c.handed == 0 && !c.returned,
                // Popped or handed over; a reader that died after it had given the slot back had its message.
                Place::Over => {
                    c.first_reader.is_some()
                        && (c.returned != (c.handed != 0) || !c.returned && died(c.first_reader))
                }
                _ => false,
            };
            if !fine {
                return Err(format!("position {i} ended as {c:?}"));
            }
        }
        Ok(())
    }
}

impl Judge for Spec {
    type Call = Call;
    type Event = Event;

    fn begins(&mut self, actor: u8, call: Call, dead: u8) {
        let value = if let Call::Push(v) = call { v } else { 0 };
        let panics = call == Call::PushPanics;
        if let Call::Succeed(of) = call {
            self.heir_of[usize::from(actor)] = Some(of);
        }
        self.seen[usize::from(actor)] = Seen { value, dead, closed: self.closed, panics, ..Seen::default() };
        self.note(Some(actor));
    }

    fn changes(&mut self, change: Change) -> Verdict {
        if change.word == self.fixed.closed_word {
            self.closed = true;
            return if change.new == 1 { Ok(()) } else { Err(format!("opened again: {change:?}")) };
        }
        let Some(slot) = self.fixed.words.iter().position(|w| *w == change.word) else {
            return Ok(()); // a hint: judged by what it leads to
        };
        let (old, new) = (Word(change.old), Word(change.new));
        match self.transition(slot, change) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("actor {} made {old:?} -> {new:?}", change.actor)),
            Err(what) => Err(format!("actor {} made {old:?} -> {new:?}: {what}", change.actor)),
        }
    }

    fn tick(&mut self) {
        self.note(None);
    }

    fn event(&mut self, actor: u8, dead: u8, event: Event) -> Verdict {
        let seen = self.seen[usize::from(actor)];
        let fine = match event {
            Event::Pushed(at, v) => {
                let claimed = self.claimed.get(self.at(at));
                !seen.closed && claimed.is_some_and(|c| c.value == v && !matches!(c.place, Place::Writing(_)))
            }
            Event::Popped(at, v) => self.popped(actor, at, v),
            Event::Orphan(at, v) => self.orphaned(actor, dead, at, v),
            Event::Skipped(at) => self.claimed.get(self.at(at)).is_some_and(|c| c.place == Place::Skipped),
            Event::Full => seen.full,
            Event::Closed => self.closed,
            Event::Empty => seen.empty && !seen.closed,
            Event::Drained => self.sealed && self.no_orphans(seen.dead),
            // Who receives may be held up by a reader, where the closed ring is to be sealed.
            Event::Busy(owner) => owner.is_some_and(|o| (seen.writers | seen.holders) >> o & 1 == 1),
            Event::Panicked => true,
        };
        if fine { Ok(()) } else { Err(format!("actor {actor}: {event:?} is not true here ({seen:?})")) }
    }

    fn idle(&mut self, actor: u8) {
        self.seen[usize::from(actor)] = Seen::default();
    }
}
