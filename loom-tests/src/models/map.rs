//! The map: a pair is whole and there once, whoever helps; the count is exact; and whoever writes an entry or a home
//! comes after all who wrote it before.
//!
//! Loom orders the stores to a word as they are made, so a late store of an entry's last life is never seen there. The
//! models that are *watched* show it otherwise: who touches the words of an entry touches a plain cell too, on which
//! loom notices that nothing has ordered the two. And of a word that a thread has loaded and then stores, loom
//! remembers that load only: so whoever is to come in between is the thread that is spawned, and the victim is not.

use std::sync::Arc;

use loom::thread;
use sapwood_core::map::{Held, Map, Peers, PutError, Region, Shape, Slot, State};
use sapwood_core::mem::{Atom, Mem, Ordering};
use sapwood_core::owner::Owner;
use sapwood_core::testing::Chart;

use super::{Bound, Model};
use crate::explore;
use crate::family::{Loom, until};
use crate::guarded::Guarded;

type Word = <Loom as Mem>::U64;

/// The words of a map, one entry of which is watched.
#[derive(Clone)]
struct Watched {
    chart: Chart<Loom>,
    guard: Option<Arc<Guarded<u64>>>,
}

/// The entry that is watched, and the first of its words that readers only copy.
const ENTRY: usize = 0;
const HASH: usize = 2;
const SLOT: usize = 1;

impl Region<Loom> for Watched {
    fn commit(&self) -> &Word {
        self.chart.commit()
    }
    fn count(&self) -> &Word {
        self.chart.count()
    }
    fn word(&self, entry: usize, i: usize) -> &Word {
        if let Some(guard) = self.guard.as_ref().filter(|_| entry == ENTRY && i >= HASH) {
            guard.set(0);
        }
        self.chart.word(entry, i)
    }
}

type Handle<V> = Map<Loom, u64, V, Watched>;

/// Who is dead, a bit a seat, as the kernel says it: whatever the dead did happened before.
#[derive(Clone)]
struct Graves(Arc<Word>);

impl Graves {
    fn new() -> Self {
        Graves(Arc::new(Atom::new(0)))
    }
    fn bury(&self, seat: u32) {
        self.0.fetch_or(1 << seat, Ordering::Release);
    }
    fn are_dug(&self, seat: u32) -> bool {
        self.0.load(Ordering::Acquire) & 1 << seat != 0
    }
}

impl Peers for Graves {
    fn alive(&mut self, owner: Owner) -> bool {
        !self.are_dug(owner.seat())
    }
}

fn shape(capacity: usize) -> Shape {
    let shape = Shape::of::<u64, u64>(capacity, 3 - capacity).expect("a shape");
    assert_eq!(shape.entries(), 4);
    shape
}

/// A map of four entries. Its handles have values of one or two words.
#[derive(Clone)]
struct World {
    memory: Watched,
    graves: Graves,
    shape: Shape,
}

impl World {
    fn new(shape: Shape) -> World {
        let memory = Watched { chart: Chart::new(&shape, (1 << 34) - 1), guard: None };
        World { memory, graves: Graves::new(), shape }
    }

    /// Three entries are taken by somebody who never gets on, so that all want the first.
    fn watched(capacity: usize) -> World {
        let mut world = World::new(shape(capacity));
        for entry in 1..4 {
            let other = Slot::new(1, 0, Owner::new(9, 1), State::Filling);
            world.memory.chart.word(entry, SLOT).store(other.0, Ordering::Relaxed);
        }
        world.memory.guard = Some(Arc::new(Guarded::new(0)));
        world
    }

    fn map(&self, seat: u32) -> Handle<u64> {
        Map::attach(self.memory.clone(), self.shape, Owner::new(seat, 1))
    }

    /// Spawns a participant.
    fn spawn<T: 'static>(
        &self,
        seat: u32,
        then: impl FnOnce(Handle<u64>, Graves) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let (map, graves) = (self.map(seat), self.graves.clone());
        thread::spawn(move || then(map, graves))
    }
}

/// The home of key `key` is entry `key` mod 4.
fn hold<'a>(map: &'a Handle<u64>, key: u64, graves: &mut Graves) -> Held<'a, Loom, u64, u64, Watched> {
    for _ in 0..1000 {
        if let Ok(held) = map.hold(key, graves) {
            return held;
        }
        thread::yield_now();
    }
    panic!("wedged");
}

/// Gives `key` a value; if there is no room, not.
fn put(map: &Handle<u64>, key: u64, value: u64, graves: &mut Graves) -> bool {
    let mut held = hold(map, key, graves);
    match held.find(key, &key) {
        Some(found) => {
            held.replace(found, &value);
            true
        }
        None => match held.add(key, &key, &value) {
            Ok(()) => true,
            Err(PutError::Full | PutError::Crowded) => false,
            Err(e) => panic!("{e}"),
        },
    }
}

fn remove(map: &Handle<u64>, key: u64, graves: &mut Graves) -> bool {
    let mut held = hold(map, key, graves);
    let found = held.find(key, &key);
    found.is_some_and(|found| held.take_out(found).is_ok())
}

/// The pairs, each key once, and the count of them.
fn pairs(map: &Handle<u64>) -> Vec<(u64, u64)> {
    let len = map.len();
    let mut pairs: Vec<_> = (0..4).filter_map(|i| map.pair(i).expect("nobody writes")).collect();
    pairs.sort_unstable();
    assert!(pairs.windows(2).all(|two| two[0].0 != two[1].0), "twice: {pairs:?}");
    assert_eq!(pairs.len(), len, "the count of {pairs:?}");
    for (key, value) in &pairs {
        assert_eq!(map.get(*key, key), Ok(Some(*value)), "out of reach");
    }
    pairs
}

/// Two insert at different homes: both get in, or as many as there is room for.
fn two_homes(capacity: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let mut world = World::new(shape(capacity));
        let other = world.spawn(1, |map, mut graves| put(&map, 1, 10, &mut graves));
        let map = world.map(0);
        let mine = put(&map, 0, 0, &mut world.graves);
        let theirs = other.join().expect("it comes to an end");
        assert_eq!(usize::from(mine) + usize::from(theirs), capacity);
        assert_eq!(pairs(&map).len(), capacity);
    })
}

/// Two add to one key's value: nothing is lost, and the key is there once.
fn one_key(bound: Bound) -> u64 {
    explore(bound, || {
        fn add(map: &Handle<u64>, graves: &mut Graves) {
            let mut held = hold(map, 5, graves);
            match held.find(5, &5) {
                Some(found) => {
                    let value = held.value(found);
                    held.replace(found, &(value + 1));
                }
                None => held.add(5, &5, &1).expect("room for a pair"),
            }
        }
        let mut world = World::new(shape(2));
        let other = world.spawn(1, |map, mut graves| add(&map, &mut graves));
        let map = world.map(0);
        add(&map, &mut world.graves);
        other.join().expect("it comes to an end");
        assert_eq!(pairs(&map), [(5, 2)]);
    })
}

/// A value of two words is changed in place while it is read.
fn read_in_place(bound: Bound) -> u64 {
    explore(bound, || {
        let shape = Shape::of::<u64, [u64; 2]>(1, 1).expect("a shape");
        let world = World::new(shape);
        let map =
            |seat| Map::<Loom, u64, [u64; 2], _>::attach(world.memory.clone(), shape, Owner::new(seat, 1));
        let (writer, reader) = (map(0), map(1));
        writer.hold(0, &mut Graves::new()).expect("free").add(0, &0, &[7; 2]).expect("room");
        let reads = thread::spawn(move || {
            let value = reader.get(0, &0).expect("a writer that comes to an end").expect("it stays");
            assert_eq!(value[0], value[1], "torn");
        });
        let mut graves = Graves::new();
        let mut held = writer.hold(0, &mut graves).expect("free");
        for n in 8..10 {
            let found = held.find(0, &0).expect("it stays");
            held.replace(found, &[n; 2]);
        }
        drop(held);
        reads.join().expect("whole values");
    })
}

/// An entry goes from one pair to another while it is read.
fn read_another(bound: Bound) -> u64 {
    explore(bound, || {
        let mut world = World::new(shape(1));
        let map = world.map(0);
        assert!(put(&map, 4, 4, &mut world.graves));
        let reads = world.spawn(1, |map, _| {
            if let Some((key, value)) = map.pair(0).expect("a writer that comes to an end") {
                assert_eq!(key, value, "torn");
            }
        });
        assert!(remove(&map, 4, &mut world.graves) && put(&map, 8, 8, &mut world.graves));
        reads.join().expect("whole pairs");
        assert_eq!(pairs(&map), [(8, 8)]);
    })
}

/// Somebody helps with a removal, and is late: the entry has another pair by then.
fn late_helper(bound: Bound) -> u64 {
    explore(bound, || {
        let mut world = World::new(shape(1));
        let map = world.map(0);
        assert!(put(&map, 4, 4, &mut world.graves));
        let helper = world.spawn(1, |map, _| map.help());
        assert!(remove(&map, 4, &mut world.graves) && put(&map, 8, 8, &mut world.graves));
        helper.join().expect("it comes to an end");
        assert_eq!(pairs(&map), [(8, 8)]);
    })
}

/// One dies before its operation `k`, inserting (or, of a pair that is there, removing); another one helps without
/// knowing of the death, a third one reads; then the home is taken over.
fn dies(k: usize, there: bool, bound: Bound) -> u64 {
    explore(bound, move || {
        let mut world = World::new(shape(1));
        let map = world.map(0);
        if there {
            assert!(put(&map, 4, 4, &mut world.graves));
        }
        let helps = world.spawn(1, |map, _| assert!(map.len() <= 1));
        let reads = world.spawn(2, |map, _| {
            if let Some(pair) = map.pair(0).expect("writers that come to an end") {
                assert_eq!(pair, (4, 4), "torn");
            }
        });
        let graves = &mut world.graves;
        until(k, || if there { remove(&map, 4, graves) } else { put(&map, 4, 4, graves) });
        graves.bury(0);
        helps.join().expect("it comes to an end");
        reads.join().expect("whole pairs");
        let map = world.map(1);
        let before = pairs(&map);
        assert!(before.is_empty() || before == [(4, 4)]);
        assert!(put(&map, 4, 5, &mut world.graves));
        map.recover(Owner::new(0, 1));
        assert_eq!(pairs(&map), [(4, 5)]);
    })
}

/// An entry is freed by a removal, and filled by another one whose home is elsewhere.
fn freed(bound: Bound) -> u64 {
    explore(bound, || {
        let mut world = World::watched(2);
        let map = world.map(0);
        assert!(put(&map, 4, 4, &mut world.graves));
        let other = world.spawn(1, |map, mut graves| put(&map, 1, 10, &mut graves));
        assert!(put(&map, 4, 5, &mut world.graves) && remove(&map, 4, &mut world.graves));
        let came = other.join().expect("it comes to an end");
        assert_eq!(map.len(), usize::from(came));
    })
}

/// An entry is given back because somebody else's pair took the last place; a third one fills it.
fn given_back(bound: Bound) -> u64 {
    explore(bound, || {
        let mut world = World::watched(1);
        // Where the pair comes that takes the last place.
        world.memory.chart.word(2, SLOT).store(0, Ordering::Relaxed);
        let others = [(0, 4), (1, 3)]
            .map(|(seat, key)| world.spawn(seat, move |map, mut graves| put(&map, key, key, &mut graves)));
        let map = world.map(2);
        let mine = put(&map, 2, 2, &mut world.graves);
        let theirs = others.map(|other| other.join().expect("it comes to an end"));
        assert_eq!(map.len(), usize::from(mine) + theirs.iter().filter(|t| **t).count());
    })
}

/// One dies before its operation `k` of an insertion; another one finishes it without knowing of the death, and reads.
fn helped(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let mut world = World::new(shape(1));
        let other = world.spawn(1, |map, _| {
            map.help();
            if let Some(pair) = map.pair(0).expect("writers that come to an end") {
                assert_eq!(pair, (4, 4), "torn");
            }
        });
        let map = world.map(0);
        until(k, || put(&map, 4, 4, &mut world.graves));
        other.join().expect("whole pairs");
        assert!(pairs(&map).len() <= 1);
    })
}

/// One dies before its operation `k` of an insertion, and whoever has proof of it recovers; another one wants the
/// entry.
fn buried(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let mut world = World::watched(2);
        let other = world.spawn(1, |map, mut graves| put(&map, 1, 10, &mut graves));
        let victim = world.map(0);
        until(k, || put(&victim, 4, 4, &mut world.graves));
        let map = world.map(2);
        map.recover(Owner::new(0, 1));
        other.join().expect("it comes to an end");
        assert!(map.len() <= 2);
        put(&map, 1, 11, &mut world.graves);
    })
}

/// One dies before its operation `k` of a change in place, and whoever has proof of it gives its home back; another one
/// takes it.
fn home_given_back(k: usize, bound: Bound) -> u64 {
    explore(bound, move || {
        let mut world = World::watched(2);
        let victim = world.map(0);
        assert!(put(&victim, 4, 4, &mut world.graves));
        // Nobody tells it of the death: what it learns it learns from the word.
        let other = world.spawn(1, |map, _| {
            if let Ok(mut held) = map.hold(4, &mut Graves::new()) {
                let found = held.find(4, &4).expect("it stays");
                held.replace(found, &6);
            }
        });
        // The other one may be in the way, and lives.
        until(k, || {
            if let Ok(mut held) = victim.hold(4, &mut Graves::new()) {
                let found = held.find(4, &4).expect("it stays");
                held.replace(found, &5);
            }
        });
        let map = world.map(2);
        map.recover(Owner::new(0, 1));
        other.join().expect("it comes to an end");
        assert!(put(&map, 4, 7, &mut world.graves));
        assert_eq!(map.len(), 1);
    })
}

/// All models of the map.
pub fn all() -> Vec<Model> {
    let long: &[Bound] = &[Some(4)];
    let mut models = vec![
        Model::new("map: two homes, room for one", 3, long, |b| two_homes(1, b)),
        Model::new("map: two homes, room for both", 3, long, |b| two_homes(2, b)),
        Model::new("map: two add to one key", 3, long, one_key),
        Model::new("map: a value is read while it changes", 3, long, read_in_place),
        Model::new("map: an entry is read while it changes", 3, long, read_another),
        Model::new("map: a late helper", 3, long, late_helper),
        Model::new("map: an entry freed and filled", 2, &[Some(3)], freed),
    ];
    models.extend((0..=28).map(|k| {
        let name = format!("map: dies before operation {k} of an insertion");
        Model::new(name, 2, &[Some(3)], move |b| dies(k, false, b))
    }));
    models.extend((0..=20).map(|k| {
        let name = format!("map: dies before operation {k} of a removal");
        Model::new(name, 2, &[Some(3)], move |b| dies(k, true, b))
    }));
    models.extend((15..=20).map(|k| {
        let name = format!("map: helped, dead before operation {k} of an insertion");
        Model::new(name, 3, long, move |b| helped(k, b))
    }));
    models.extend([10, 14, 18].map(|k| {
        let name = format!("map: buried, dead before operation {k} of an insertion");
        Model::new(name, 3, &[Some(3)], move |b| buried(k, b))
    }));
    models.extend([7, 9, 12].map(|k| {
        let name = format!("map: a home of one dead before operation {k} of a change");
        Model::new(name, 3, &[Some(3)], move |b| home_given_back(k, b))
    }));
    models.push(Model::new("map: an entry given back and filled", 2, &[Some(2)], given_back));
    models
}
