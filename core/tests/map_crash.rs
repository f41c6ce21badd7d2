//! A participant of a map is killed before each of its shared operations, whatever it does: each pair is as it was or
//! as it was to be, the count is that of the pairs, and the whole capacity is there again.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_core::map::{Map, Peers, PutError, Shape};
use sapwood_core::mem::Bug::{self, *};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Chart, Crash};

type Key = u64;
type Value = [u64; 3];
type Handle = Map<Crash, Key, Value, Chart<Crash>>;
type Pairs = BTreeMap<Key, u64>;

const CAPACITY: usize = 3;
const SEATS: usize = 3;
const FIRST: u32 = 0;
const SECOND: u32 = 1;
const SURVIVOR: u32 = 2;

fn full() -> bool {
    std::env::var_os("SAPWOOD_FULL").is_some()
}

/// All keys but one have the same home, so that one reaches over the other.
fn hash(key: Key) -> u64 {
    if key == 4 { 1 } else { key << 32 }
}

fn value(n: u64) -> Value {
    [n, !n, n.rotate_left(17)]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Put(Key, u64),
    Remove(Key),
    Get(Key),
    Len,
    /// Takes whatever is there, entry by entry.
    Clear,
    Recover(u32),
}
use Call::*;

impl Call {
    fn effect(self, pairs: &mut Pairs) {
        match self {
            Put(key, n) if pairs.contains_key(&key) || pairs.len() < CAPACITY => _ = pairs.insert(key, n),
            Remove(key) => _ = pairs.remove(&key),
            _ => {}
        }
    }
}

struct World {
    chart: Chart<Crash>,
    shape: Shape,
    dead: RefCell<BTreeSet<u32>>,
}

struct Eyes<'a>(&'a World);

impl Peers for Eyes<'_> {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.0.dead.borrow().contains(&owner.seat())
    }
}

impl World {
    fn new(pairs: &Pairs) -> World {
        let shape = Shape::of::<Key, Value>(CAPACITY, SEATS).expect("a shape");
        let chart = Chart::new(&shape, (1 << 34) - 2);
        let world = World { chart, shape, dead: RefCell::default() };
        let map = world.map(SURVIVOR);
        for (key, n) in pairs {
            world.call(&map, Put(*key, *n));
        }
        world
    }

    fn map(&self, seat: u32) -> Handle {
        Map::attach(self.chart.clone(), self.shape, Owner::new(seat, 1))
    }

    fn call(&self, map: &Handle, call: Call) {
        let eyes = &mut Eyes(self);
        match call {
            Put(key, n) => {
                let mut held = map.hold(hash(key), eyes).expect("nobody who lives is stopped");
                match held.find(hash(key), &key) {
                    Some(found) => held.replace(found, &value(n)),
                    None => match held.add(hash(key), &key, &value(n)) {
                        Ok(()) | Err(PutError::Full) => {}
                        Err(e) => panic!("nobody else: {e}"),
                    },
                }
            }
            Remove(key) => {
                let mut held = map.hold(hash(key), eyes).expect("nobody who lives is stopped");
                if let Some(found) = held.find(hash(key), &key) {
                    held.take_out(found).expect("nobody else");
                }
            }
            Get(key) => {
                if let Some(v) = map.get(hash(key), &key).expect("nobody else") {
                    assert_eq!(v, value(v[0]), "torn");
                }
            }
            Len => assert!(map.len() <= CAPACITY),
            Clear => {
                map.help();
                for i in 0..self.shape.entries() {
                    map.take(i, eyes).expect("nobody who lives is stopped");
                }
            }
            Recover(seat) => _ = map.recover(Owner::new(seat, 1)),
        }
    }

    /// Runs calls as `seat`, which is killed before operation `k`. How many calls returned, and whether all did.
    fn kill(&self, seat: u32, calls: &[Call], k: u64) -> (usize, bool) {
        let (map, done) = (self.map(seat), Cell::new(0));
        let end = Crash::until(k, || {
            for call in calls {
                self.call(&map, *call);
                done.set(done.get() + 1);
            }
        });
        self.dead.borrow_mut().insert(seat);
        (done.get(), end.is_some())
    }

    /// What readers see, each key once.
    fn pairs(&self, map: &Handle) -> Pairs {
        let mut pairs = Pairs::new();
        for i in 0..self.shape.entries() {
            if let Some((key, v)) = map.pair(i).expect("nobody else") {
                assert_eq!(v, value(v[0]), "torn");
                assert_eq!(pairs.insert(key, v[0]), None, "key {key} is there twice");
                assert_eq!(map.get(hash(key), &key), Ok(Some(v)), "key {key} is out of reach");
            }
        }
        pairs
    }

    /// What is there, counted, is one of `allowed`.
    fn check(&self, map: &Handle, allowed: &[Pairs]) -> Pairs {
        let before = self.pairs(map);
        assert!(allowed.contains(&before), "{before:?} is none of {allowed:?}");
        let len = map.len();
        let pairs = self.pairs(map);
        assert!(allowed.contains(&pairs), "counted, {pairs:?} is none of {allowed:?}");
        assert_eq!(len, pairs.len(), "the count of {pairs:?}");
        pairs
    }

    /// All entries can be used, and all homes.
    fn settle(&self, map: &Handle, pairs: &mut Pairs) {
        for seat in self.dead.take() {
            self.dead.borrow_mut().insert(seat);
            self.call(map, Recover(seat));
            self.dead.borrow_mut().remove(&seat);
        }
        self.check(map, std::slice::from_ref(pairs));
        // From here on nobody may be in the way: nobody is dead any more.
        for key in 0..8 {
            self.call(map, Put(key, 70 + key));
            Put(key, 70 + key).effect(pairs);
            self.check(map, std::slice::from_ref(pairs));
        }
        assert_eq!(pairs.len(), CAPACITY);
        for key in 0..8 {
            self.call(map, Remove(key));
            Remove(key).effect(pairs);
            self.check(map, std::slice::from_ref(pairs));
        }
        for key in 10..10 + CAPACITY as u64 {
            self.call(map, Put(key, key));
        }
        assert_eq!(map.len(), CAPACITY);
    }
}

/// The states that `done` returned calls and one in the middle allow.
fn allowed(from: &[Pairs], calls: &[Call], done: usize) -> Vec<Pairs> {
    let mut states = Vec::new();
    for start in from {
        let mut pairs = start.clone();
        calls[..done].iter().for_each(|call| {
            if *call == Clear {
                pairs.clear();
            }
            call.effect(&mut pairs);
        });
        states.push(pairs.clone());
        match calls.get(done) {
            // Pair by pair.
            Some(Clear) => {
                let keys: Vec<Key> = pairs.keys().copied().collect();
                for chosen in 0..1 << keys.len() {
                    let gone = |i: &usize| chosen >> i & 1 == 1;
                    let mut some = pairs.clone();
                    (0..keys.len()).filter(gone).for_each(|i| _ = some.remove(&keys[i]));
                    states.push(some);
                }
            }
            Some(call) => {
                call.effect(&mut pairs);
                states.push(pairs);
            }
            None => {}
        }
    }
    states
}

fn starts() -> Vec<Pairs> {
    [&[][..], &[(1, 10)], &[(1, 10), (2, 20)], &[(2, 20), (1, 10), (4, 40)], &[(4, 40), (1, 10)]]
        .map(|pairs| pairs.iter().copied().collect())
        .to_vec()
}

const CALLS: &[Call] = &[Put(1, 11), Put(2, 22), Put(4, 44), Remove(1), Remove(4), Get(1), Len, Clear];

fn victims() -> Vec<Vec<Call>> {
    let pairs = CALLS.iter().flat_map(|a| CALLS.iter().map(|b| vec![*a, *b]));
    pairs.collect()
}

/// What the survivor does first.
const SURVIVORS: &[&[Call]] = &[
    &[],
    &[Put(1, 12)],
    &[Remove(1)],
    &[Put(3, 30), Put(4, 45)],
    &[Len, Remove(2)],
    &[Clear],
    &[Recover(FIRST), Put(1, 13)],
];

fn one_death() -> u64 {
    let mut points = 0;
    for start in starts() {
        for calls in victims() {
            for survivors in SURVIVORS {
                for k in 0.. {
                    let world = World::new(&start);
                    let (done, all) = world.kill(FIRST, &calls, k);
                    let map = world.map(SURVIVOR);
                    let now = allowed(std::slice::from_ref(&start), &calls, done);
                    // Some do something before they look: what the dead has begun is then not yet done.
                    if survivors.first() == Some(&Len) || survivors.is_empty() {
                        world.check(&map, &now);
                    }
                    survivors.iter().for_each(|call| world.call(&map, *call));
                    let now = allowed(&now, survivors, survivors.len());
                    let mut pairs = world.check(&map, &now);
                    world.settle(&map, &mut pairs);
                    points += 1;
                    if all {
                        break;
                    }
                }
            }
        }
    }
    points
}

#[test]
fn one_death_at_every_step() {
    println!("one death: killed at {} points", one_death());
}

/// The second one dies over what the first has left: in its way, or at recovering it.
fn two_deaths() -> u64 {
    let firsts: &[&[Call]] = &[&[Put(1, 11)], &[Put(2, 22)], &[Remove(1)], &[Put(4, 44)]];
    let seconds: &[&[Call]] =
        &[&[Put(1, 12)], &[Remove(1)], &[Put(3, 30)], &[Recover(FIRST)], &[Recover(FIRST), Put(3, 30)]];
    let mut points = 0;
    let starts = if full() { starts() } else { starts()[1..4].to_vec() };
    for start in starts {
        for (first, second) in firsts.iter().flat_map(|f| seconds.iter().map(move |s| (f, s))) {
            for k in 0.. {
                let mut more = false;
                for l in 0.. {
                    let world = World::new(&start);
                    let (done, all) = world.kill(FIRST, first, k);
                    more |= !all;
                    let now = allowed(std::slice::from_ref(&start), first, done);
                    let (done, all) = world.kill(SECOND, second, l);
                    let now = allowed(&now, second, done);
                    let map = world.map(SURVIVOR);
                    let mut pairs = world.check(&map, &now);
                    world.call(&map, Put(1, 13));
                    Put(1, 13).effect(&mut pairs);
                    world.settle(&map, &mut pairs);
                    points += 1;
                    if all {
                        break;
                    }
                }
                if !more {
                    break;
                }
            }
        }
    }
    points
}

#[test]
fn two_deaths_one_over_the_other() {
    println!("two deaths: killed at {} points", two_deaths());
}

/// Who lives is left alone.
fn one_lives() {
    let world = World::new(&Pairs::new());
    let (a, b) = (world.map(FIRST), world.map(SECOND));
    let held = a.hold(hash(1), &mut Eyes(&world)).expect("free");
    assert!(b.hold(hash(1), &mut Eyes(&world)).is_err());
    drop(held);
}

/// Mistakes that one death is enough to show; `loom-tests` has the others.
const MISTAKES: &[Bug] = &[
    MapAssumeDead,
    MapAssumeAlive,
    MapTakeOverUnhelped,
    MapBuryUnhelped,
    MapReadFilling,
    MapOverwritePending,
    MapIgnoreCapacity,
    MapCountTwice,
    MapNoCount,
    MapSameHalf,
    MapCommitFirst,
    MapPublishFirst,
    MapKeepReach,
    MapShrinkTooFar,
];

#[test]
fn mistakes_are_noticed() {
    one_lives();
    std::panic::set_hook(Box::new(|_| {}));
    let said = MISTAKES.iter().map(|bug| {
        let run = || {
            Crash::with_bug(*bug, || {
                one_lives();
                one_death();
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).err();
        let text = panic.as_ref().map(|e| {
            e.downcast_ref::<String>().cloned().or_else(|| e.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        });
        (bug, text.map(Option::unwrap_or_default))
    });
    let said: Vec<_> = said.collect();
    let _ = std::panic::take_hook();
    for (bug, text) in &said {
        let text = text.as_deref().unwrap_or("NOBODY");
        println!("{:<22} | {}", format!("{bug:?}"), text.lines().next().unwrap_or_default());
    }
    let missed: Vec<_> = said.iter().filter(|(_, text)| text.is_none()).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
