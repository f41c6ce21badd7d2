//! Rings of many: pushed to and popped from by one that dies, or stands still, in the middle of it.
//!
//! # Safety
//! Forms a reference to the word of a slot, to leave in it what a death would.
#![allow(unsafe_code)]

use std::sync::Arc;

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::owner::Owner;
use sapwood_core::ring::mpmc::{State, Word};
use sapwood_shm::Segment;
use sapwood_shm::ring::mpmc::{Ring, Stats};
use sapwood_shm::ring::{PopError, PushError};

use crate::common::until;
use crate::sweep::{Death, Stall};

type Value = [u64; 7];

fn value(i: u64) -> Value {
    [i, !i, i, !i, i, !i, i]
}

/// Places of the ring, and its participants.
const CAPACITY: usize = 4;
const SEATS: usize = 3;

/// A ring after a lap and a half, with values 6 and 7 in it, and the survivor's handle.
pub(crate) struct World {
    segment: Arc<Segment>,
    ring: Ring<Value>,
}

fn world() -> World {
    let mut ring = Ring::create(CAPACITY, SEATS).expect("there is memory");
    for i in 0..8 {
        assert_eq!(ring.try_push(value(i)), Ok(()));
        if i < 6 {
            assert_eq!(ring.try_pop(), Ok(value(i)));
        }
    }
    World { segment: ring.segment().expect("it is in one").clone(), ring }
}

fn arrive(world: &World) -> Ring<Value> {
    Ring::attach(&world.segment, CAPACITY).expect("a seat is free")
}

/// Pops until nothing is left, whoever is in the way. Says what came.
fn drain(ring: &mut Ring<Value>) -> Vec<u64> {
    let mut got = Vec::new();
    until("the ring is empty", || match ring.try_pop() {
        Ok(v) => {
            assert_eq!(v, value(v[0]), "a torn value");
            got.push(v[0]);
            false
        }
        Err(PopError::Busy { .. }) => false,
        Err(e) => e == PopError::Empty,
    });
    got
}

/// The ring works, for the survivor and for a newcomer to the dead one's seat: through more than a lap, and full.
fn goes_on(mut world: World) -> Stats {
    let mut newcomer = arrive(&world);
    assert_eq!(newcomer.seat(), 1, "the dead one's seat");
    assert_eq!(drain(&mut newcomer), []);
    for lap in 0..3 {
        for i in 0..CAPACITY as u64 {
            let ring = if i % 2 == 0 { &mut newcomer } else { &mut world.ring };
            let mut pushed = Err(PushError::Full(value(0)));
            until("the place is free", || {
                pushed = ring.try_push(value(100 * lap + i));
                !matches!(pushed, Err(PushError::Busy { .. }))
            });
            assert_eq!(pushed, Ok(()));
        }
        assert_eq!(world.ring.try_push(value(9)), Err(PushError::Full(value(9))));
        for i in 0..CAPACITY as u64 {
            let ring = if i % 3 == 0 { &mut newcomer } else { &mut world.ring };
            assert_eq!(ring.try_pop(), Ok(value(100 * lap + i)));
        }
        assert_eq!((newcomer.try_pop(), world.ring.try_pop()), (Err(PopError::Empty), Err(PopError::Empty)));
    }
    let (a, b) = (world.ring.stats(), newcomer.stats());
    Stats {
        redelivered: a.redelivered + b.redelivered,
        skipped: a.skipped + b.skipped,
        lost: a.lost + b.lost,
    }
}

pub(crate) struct Push;

impl Death for Push {
    const NAME: &'static str = "push to a ring of many";
    type World = World;
    type Actor = Ring<Value>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> impl Sized {
        ring.try_push(value(8))
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // Behind the dead one's place, if it has one.
        assert_eq!(world.ring.try_push(value(9)), Ok(()));
        let got = drain(&mut world.ring);
        let sent = got == [6, 7, 8, 9];
        assert!(sent || got == [6, 7, 9] && !completed, "{got:?}");
        let stats = goes_on(world);
        assert_eq!((stats.redelivered, stats.lost), (0, 0));
        match (sent, stats.skipped) {
            (true, 0) => "sent",
            (false, 0) => "not sent",
            (false, 1) => "skipped",
            other => panic!("{other:?}"),
        }
    }
}

/// The one that is blocked by the dead place is a producer, a lap later.
pub(crate) struct PushThenFull;

impl Death for PushThenFull {
    const NAME: &'static str = "push to a ring of many, and a producer comes round to it";
    type World = World;
    type Actor = Ring<Value>;
    fn world() -> World {
        let mut world = world();
        assert_eq!(drain(&mut world.ring), [6, 7]);
        world
    }
    fn arrive(world: &World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> impl Sized {
        ring.try_push(value(8))
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let mut pushed = 0;
        until("the ring is full", || match world.ring.try_push(value(20 + pushed)) {
            Ok(()) => {
                pushed += 1;
                false
            }
            Err(PushError::Busy { holder, .. }) => holder.is_some_and(|h| h.seat != 1),
            Err(e) => matches!(e, PushError::Full(_)),
        });
        let got = drain(&mut world.ring);
        let sent = got == [8, 20, 21, 22];
        assert!(sent || got == [20, 21, 22, 23] && !completed, "{got:?}");
        let stats = goes_on(world);
        assert_eq!((stats.redelivered, stats.lost), (0, 0));
        match (sent, stats.skipped) {
            (true, 0) => "sent",
            (false, 0) => "not sent",
            (false, 1) => "skipped",
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Pop;

/// What came of value 6, of which the rest is `got`, given how often an orphan was delivered.
fn fate(got: &[u64], stats: Stats, completed: bool) -> &'static str {
    assert_eq!((stats.skipped, stats.lost), (0, 0));
    let six = got.iter().filter(|i| **i == 6).count();
    assert!(six == 0 || !completed, "{got:?}");
    match (six, stats.redelivered) {
        (0, 0) => "taken",
        (1, 0) => "not taken",
        (1, 1) => "an orphan",
        other => panic!("{other:?}"),
    }
}

impl Death for Pop {
    const NAME: &'static str = "pop from a ring of many";
    type World = World;
    type Actor = Ring<Value>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> impl Sized {
        ring.try_pop()
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // A newcomer to the dead one's seat finds what it had.
        let mut newcomer = arrive(&world);
        let mut got = drain(&mut newcomer);
        let stats = newcomer.stats();
        drop(newcomer);
        got.extend(drain(&mut world.ring));
        let mut rest = got.clone();
        rest.retain(|i| *i != 6);
        assert_eq!(rest, [7]);
        goes_on(world);
        fate(&got, stats, completed)
    }
}

pub(crate) struct PopThenFull;

impl Death for PopThenFull {
    const NAME: &'static str = "pop from a ring of many, and a producer comes round to it";
    type World = World;
    type Actor = Ring<Value>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> impl Sized {
        ring.try_pop()
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // Values 6 and 7 are in, or 7 alone: the producer comes to the place of 6.
        let mut pushed = 0;
        until("the ring is full", || match world.ring.try_push(value(20 + pushed)) {
            Ok(()) => {
                pushed += 1;
                false
            }
            Err(PushError::Busy { .. }) => false,
            Err(e) => matches!(e, PushError::Full(_)),
        });
        let got = drain(&mut world.ring);
        let mut rest = got.clone();
        rest.retain(|i| *i != 6);
        let all: Vec<u64> = [7].into_iter().chain(20..20 + pushed).collect();
        assert_eq!(rest, all, "{got:?}");
        assert_eq!(got.len(), CAPACITY);
        let stats = world.ring.stats();
        goes_on(world);
        fate(&got, stats, completed)
    }
}

/// The ring is closed, and the orphan is all that is left.
pub(crate) struct PopThenDrained;

impl Death for PopThenDrained {
    const NAME: &'static str = "pop from a closed ring of many";
    type World = World;
    type Actor = Ring<Value>;
    fn world() -> World {
        let mut world = world();
        assert_eq!(world.ring.try_pop(), Ok(value(6)));
        world.ring.close();
        world
    }
    fn arrive(world: &World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> impl Sized {
        ring.try_pop()
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let mut got = Vec::new();
        until("the ring is drained", || match world.ring.try_pop() {
            Ok(v) => {
                got.push(v);
                false
            }
            Err(PopError::Busy { .. }) => false,
            Err(e) => {
                assert_eq!(e, PopError::Drained);
                true
            }
        });
        let redelivered = world.ring.stats().redelivered;
        assert_eq!(world.ring.try_pop(), Err(PopError::Drained));
        match (got.as_slice(), redelivered) {
            ([], 0) => "taken",
            ([v], 0) if *v == value(7) && !completed => "not taken",
            ([v], 1) if *v == value(7) && !completed => "an orphan",
            other => panic!("{other:?}"),
        }
    }
}

/// The word of slot `i`: two cache lines for each of three hints, then a line for each slot.
fn slot_word(segment: &Segment, i: usize) -> &<Real as Mem>::U64 {
    assert!(i < CAPACITY);
    // SAFETY: inside the body, which begins on a page and stays mapped as long as the segment lives; any bytes are a
    // word, and everybody uses this one as a word.
    unsafe { &*segment.body_ptr().add(384 + 64 * i).cast::<<Real as Mem>::U64>() }
}

/// A newcomer to a seat whose last holders have left a half-written and a half-read value is killed in its turn.
pub(crate) struct Succeed;

impl Death for Succeed {
    const NAME: &'static str = "take a dead seat of a ring of many";
    type World = World;
    type Actor = (Arc<Segment>, Option<Ring<Value>>);
    fn world() -> World {
        let world = world();
        // Value 6 is being read, and a value 8 written, by whoever had seat 1 under its first epoch.
        drop(arrive(&world));
        let dead = Owner::new(1, 1);
        for (i, from, to) in [(6, State::Full, State::Reading), (8, State::Free, State::Writing)] {
            let (word, lap) = (slot_word(&world.segment, i % CAPACITY), (i / CAPACITY) as u64);
            let (from, to) = (Word::new(lap, from, Owner::NOBODY), Word::new(lap, to, dead));
            assert_eq!(word.cas(from.0, to.0, Ordering::AcqRel), Ok(from.0));
        }
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        (world.segment.clone(), None)
    }
    fn act((segment, ring): &mut Self::Actor) -> impl Sized {
        *ring = Some(Ring::attach(segment, CAPACITY).expect("its holder is dead"));
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let mut newcomer = arrive(&world);
        assert_eq!(newcomer.seat(), 1);
        let mut got = drain(&mut newcomer);
        let stats = newcomer.stats();
        drop(newcomer);
        got.extend(drain(&mut world.ring));
        // The orphan was lost only with one that had taken it over and given its place back.
        let orphan = got.contains(&6);
        got.retain(|i| *i != 6);
        assert_eq!(got, [7]);
        assert_eq!(stats.lost, 0);
        // Who takes the seat puts the orphan back at once, so one that came as far has left it to everybody.
        assert!(!completed || orphan && (stats.redelivered, stats.skipped) == (0, 0));
        goes_on(world);
        assert!(stats.redelivered <= u64::from(orphan));
        match (orphan, stats.redelivered, stats.skipped) {
            (true, 1, 1) => "all is left",
            (true, 1, _) => "an orphan is left",
            (true, 0, _) => "the orphan is back",
            (_, _, 1) => "a half-written value is left",
            _ => "nothing is left",
        }
    }
}

pub(crate) struct StallPush;

impl Stall for StallPush {
    const NAME: &'static str = "push to a ring of many while others go on";
    type World = (World, Vec<u64>);
    type Actor = Ring<Value>;
    type Done = Result<(), PushError<Value>>;
    fn world() -> Self::World {
        (world(), Vec::new())
    }
    fn arrive((world, _): &Self::World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> Self::Done {
        ring.try_push(value(8))
    }
    fn meanwhile((world, got): &mut Self::World, completed: bool) {
        let _ = world.ring.try_push(value(9));
        // Past the time in which one asks whether the one in the way lives.
        for _ in 0..200 {
            match world.ring.try_pop() {
                Ok(v) => {
                    assert_eq!(v, value(v[0]), "a torn value");
                    got.push(v[0]);
                }
                Err(PopError::Busy { holder }) => {
                    assert!(!completed && holder.is_some_and(|h| h.seat == 1 && h.pid != std::process::id()));
                }
                Err(e) => assert_eq!(e, PopError::Empty),
            }
        }
    }
    fn report(_: Ring<Value>, done: Self::Done) -> u8 {
        u8::from(done == Ok(()))
    }
    fn conclude((mut world, mut got): Self::World, report: u8) -> &'static str {
        assert_eq!(report, 1, "there was room all the while");
        let before = got.contains(&9);
        got.extend(drain(&mut world.ring));
        assert!(got == [6, 7, 8, 9] || got == [6, 7, 9, 8], "{got:?}");
        assert_eq!(goes_on(world), Stats::default());
        if before { "others went on" } else { "others were blocked" }
    }
}

pub(crate) struct StallPop;

impl Stall for StallPop {
    const NAME: &'static str = "pop from a ring of many while others go on";
    type World = (World, Vec<u64>, u64);
    type Actor = Ring<Value>;
    type Done = Result<Value, PopError>;
    fn world() -> Self::World {
        (world(), Vec::new(), 8)
    }
    fn arrive((world, ..): &Self::World) -> Ring<Value> {
        arrive(world)
    }
    fn act(ring: &mut Ring<Value>) -> Self::Done {
        ring.try_pop()
    }
    fn meanwhile((world, got, next): &mut Self::World, completed: bool) {
        for _ in 0..200 {
            match world.ring.try_push(value(*next)) {
                Ok(()) => *next += 1,
                Err(PushError::Busy { holder, .. }) => {
                    assert!(!completed && holder.is_some_and(|h| h.seat == 1 && h.pid != std::process::id()));
                }
                Err(e) => assert!(matches!(e, PushError::Full(_)), "{e}"),
            }
        }
        // One, so that the one that stands still finds another value where it goes on.
        got.push(world.ring.try_pop().expect("7 is there at least")[0]);
    }
    fn report(_: Ring<Value>, done: Self::Done) -> u8 {
        let v = done.expect("there was a value all the while");
        if v == value(v[0]) { v[0] as u8 } else { u8::MAX }
    }
    fn conclude((mut world, mut got, next): Self::World, report: u8) -> &'static str {
        let first = got[0];
        got.extend(drain(&mut world.ring));
        got.push(u64::from(report));
        got.sort_unstable();
        assert_eq!(got, (6..next).collect::<Vec<_>>(), "each once");
        assert_eq!(goes_on(world), Stats::default());
        if first == 6 { "others were first" } else { "others were second" }
    }
}
