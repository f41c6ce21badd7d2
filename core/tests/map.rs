//! The map alone: against std's, in one thread and in many; what it costs; and against a peer that writes anything.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};

use common::seeds;
use proptest::prelude::*;
use sapwood_core::map::{
    Busy, Found, Held, Home, Map, Overtaken, Peers, PutError, Region, Shape, ShapeError, Slot, State, TURNS,
};
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::owner::Owner;
use sapwood_core::shareable::Shareable;
use sapwood_core::testing::{Adversary, Chart, Counts, Hostile};

struct All;

impl Peers for All {
    fn alive(&mut self, _: Owner) -> bool {
        true
    }
}

type Key = [u8; 3];
type Value = [u32; 3];

fn map<M: Mem, K: Shareable, V: Shareable>(
    chart: &Chart<M>,
    shape: Shape,
    seat: u32,
) -> Map<M, K, V, Chart<M>> {
    Map::attach(chart.clone(), shape, Owner::new(seat, 1))
}

/// Collides often, at homes and wholly.
fn bad_hash(key: &Key) -> u64 {
    u64::from(key[0] % 8) | u64::from(key[1] % 2) << 40
}

fn value(n: u32) -> Value {
    [n, !n, n ^ 0x5555]
}

fn put<M: Mem>(map: &Map<M, Key, Value, Chart<M>>, key: &Key, n: u32) -> Result<Option<Value>, PutError> {
    let hash = bad_hash(key);
    let mut held = map.hold(hash, &mut All).expect("nobody else");
    let found = held.find(hash, key);
    let before = found.map(|found| held.value(found));
    match found {
        Some(found) => held.replace(found, &value(n)),
        None => held.add(hash, key, &value(n))?,
    }
    Ok(before)
}

fn remove<M: Mem>(map: &Map<M, Key, Value, Chart<M>>, key: &Key) -> Option<Value> {
    let hash = bad_hash(key);
    let mut held = map.hold(hash, &mut All).expect("nobody else");
    let found: Found = held.find(hash, key)?;
    let before = held.value(found);
    held.take_out(found).expect("nobody else");
    Some(before)
}

#[derive(Debug, Clone)]
enum Call {
    Put(Key, u32),
    Remove(Key),
    Get(Key),
    Take(usize),
    Recover,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let key = (0u8..12, 0u8..3, Just(1u8)).prop_map(|(a, b, c)| [a, b, c]);
    let call = prop_oneof![
        4 => (key.clone(), any::<u32>()).prop_map(|(k, n)| Call::Put(k, n)),
        3 => key.clone().prop_map(Call::Remove),
        2 => key.prop_map(Call::Get),
        1 => any::<usize>().prop_map(Call::Take),
        1 => Just(Call::Recover),
    ];
    proptest::collection::vec(call, 0..200)
}

proptest! {
    /// ST-1, ST-3 to ST-6, ST-13: the same answers as std's map gives, also where hashes collide and the map is full.
    #[test]
    fn st_it_does_as_a_hash_map(calls in calls(), capacity in 1usize..20) {
        let shape = Shape::of::<Key, Value>(capacity, 2).expect("a shape");
        let chart = Chart::<Real>::new(&shape, (1 << 34) - 3);
        let (map, mut twin) = (map(&chart, shape, 0), HashMap::<Key, u32>::new());
        prop_assert_eq!(map.len(), 0);
        for call in calls {
            match call {
                Call::Put(key, n) => match put(&map, &key, n) {
                    Ok(before) => prop_assert_eq!(before, twin.insert(key, n).map(value)),
                    Err(e) => {
                        prop_assert_eq!(e, PutError::Full);
                        prop_assert!(twin.len() == capacity && !twin.contains_key(&key));
                    }
                },
                Call::Remove(key) => prop_assert_eq!(remove(&map, &key), twin.remove(&key).map(value)),
                Call::Get(key) => {
                    prop_assert_eq!(map.get(bad_hash(&key), &key), Ok(twin.get(&key).copied().map(value)));
                }
                Call::Take(i) => {
                    if let Some((key, got)) = map.take(i, &mut All).expect("nobody else") {
                        prop_assert_eq!(Some(got), twin.remove(&key).map(value));
                    }
                }
                Call::Recover => {
                    let found = map.recover(Owner::new(1, 1));
                    prop_assert_eq!((found.homes, found.entries), (0, 0));
                }
            }
            prop_assert_eq!(map.len(), twin.len());
        }
        let all = (0..shape.entries()).filter_map(|i| map.pair(i).expect("nobody else"));
        let all: BTreeMap<Key, Value> = all.collect();
        prop_assert_eq!(all, twin.into_iter().map(|(k, n)| (k, value(n))).collect());
    }
}

#[test]
fn a_home_is_had_once_and_given_back_in_a_panic() {
    let shape = Shape::of::<Key, Value>(4, 2).expect("a shape");
    let chart = Chart::<Real>::new(&shape, 0);
    let (a, b) = (map::<Real, Key, Value>(&chart, shape, 0), map::<Real, Key, Value>(&chart, shape, 1));
    let held = a.hold(3, &mut All).expect("free");
    assert_eq!(b.hold(3, &mut All).err(), Some(Busy { home: 3, owner: a.me() }));
    assert!(b.hold(4, &mut All).is_ok(), "another home");
    drop(held);
    let panic = std::panic::catch_unwind(|| {
        let _held = a.hold(3, &mut All).expect("free");
        std::panic::resume_unwind(Box::new("out of its closure"));
    });
    assert!(panic.is_err() && b.hold(3, &mut All).is_ok());
}

/// ST-4: all of the capacity can be used, whatever was inserted and removed before, and what is full says so.
#[test]
fn st_4_the_whole_capacity_can_be_used_again_and_again() {
    for capacity in [1, 2, 7, 64] {
        let shape = Shape::of::<Key, Value>(capacity, 1).expect("a shape");
        let chart = Chart::<Real>::new(&shape, 0);
        let map = map(&chart, shape, 0);
        for round in 0..20 {
            let key = |i: usize| [i as u8, round, 0];
            for i in 0..capacity {
                assert_eq!(put(&map, &key(i), 1), Ok(None));
            }
            assert_eq!(put(&map, &key(capacity), 1), Err(PutError::Full));
            assert_eq!((map.len(), map.get(bad_hash(&key(capacity)), &key(capacity))), (capacity, Ok(None)));
            for i in 0..capacity {
                assert_eq!(remove(&map, &key(i)), Some(value(1)));
            }
            assert!(map.is_empty());
        }
        // No look goes farther than it must.
        for home in 0..shape.entries() {
            let reach = Home(chart.word(home, 0).load(Ordering::Relaxed));
            assert_eq!(reach.reach(shape.entries()), 0, "home {home} of an empty map");
        }
    }
}

#[test]
fn sequences_and_versions_wrap() {
    let shape = Shape::of::<Key, Value>(2, 1).expect("a shape");
    let chart = Chart::<Real>::new(&shape, (1 << 34) - 5);
    let map = map(&chart, shape, 0);
    for n in 0..20 {
        assert_eq!((put(&map, &[1, 1, 1], n), map.len()), (Ok(None), 1));
        assert_eq!((remove(&map, &[1, 1, 1]), map.len()), (Some(value(n)), 0));
    }
}

#[test]
fn shapes_have_bounds() {
    assert_eq!(Shape::of::<u8, u8>(0, 4), Err(ShapeError::Empty));
    assert!(matches!(Shape::of::<u8, u8>(usize::MAX, 4), Err(ShapeError::TooMany { .. })));
}

/// Many write at the same few keys; each key's increments are all there, and counts agree.
#[test]
fn threads_lose_no_update_and_no_count() {
    const THREADS: u32 = 4;
    let rounds = if std::env::var_os("SAPWOOD_FULL").is_some() { 200_000 } else { 5_000 };
    let shape = Shape::of::<Key, Value>(6, THREADS as usize).expect("a shape");
    let chart = Chart::<Real>::new(&shape, 0);
    let balance: i64 = std::thread::scope(|s| {
        let threads = (0..THREADS).map(|t| {
            let map = map::<Real, Key, Value>(&chart, shape, t);
            s.spawn(move || {
                let mut balance = 0;
                for n in 0..rounds {
                    let key: Key = [((n ^ t) % 8) as u8, 0, 0];
                    let hash = bad_hash(&key);
                    if let Some(read) = map.get(hash, &key).expect("so often nobody is overtaken") {
                        assert_eq!(read, value(read[0]), "torn");
                    }
                    let Ok(mut held) = map.hold(hash, &mut All) else {
                        std::thread::yield_now();
                        continue;
                    };
                    match (held.find(hash, &key), n % 3) {
                        (Some(found), 0) => balance -= i64::from(held.take_out(found).is_ok()),
                        (Some(found), _) => {
                            let next = held.value(found)[0] + 1;
                            held.replace(found, &value(next));
                        }
                        (None, _) => balance += i64::from(held.add(hash, &key, &value(n)).is_ok()),
                    }
                    assert!(map.len() <= 6);
                }
                balance
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|t| t.join().expect("nothing torn")).sum()
    });
    let map = map::<Real, Key, Value>(&chart, shape, 0);
    let pairs = (0..shape.entries()).filter_map(|i| map.pair(i).expect("nobody else"));
    let keys: HashSet<Key> = pairs.map(|(k, _)| k).collect();
    assert_eq!((map.len() as i64, map.len()), (balance, keys.len()));
}

const NONE: Counts = Counts { loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0 };

/// A pair of two words in a line of its own: a read looks at the home, twice at the slot, and at hash, key and value; a
/// change in place takes and gives the home, and writes value and slot; one of the number of pairs adds
/// commit and count.
#[test]
fn what_it_costs() {
    use sapwood_core::testing::Count as Counting;
    let shape = Shape::of::<u64, u64>(100, 4).expect("a shape");
    let chart = Chart::<Counting>::new(&shape, 0);
    let map = map::<Counting, u64, u64>(&chart, shape, 0);
    type Writer<'a> = Held<'a, Counting, u64, u64, Chart<Counting>>;
    let write = |f: &dyn Fn(&mut Writer<'_>)| Counting::of(|| f(&mut map.hold(5, &mut All).expect("free")));
    let insert = write(&|held| held.add(5, &50, &500).expect("room"));
    assert_eq!(Counts { lines: 0, ..insert }, Counts { loads: 9, stores: 5, rmws: 6, fences: 1, ..NONE });
    let read = Counting::of(|| assert_eq!(map.get(5, &50), Ok(Some(500))));
    assert_eq!(Counts { lines: 0, ..read }, Counts { loads: 6, fences: 1, ..NONE });
    let absent = Counting::of(|| assert_eq!(map.get(6, &60), Ok(None)));
    assert_eq!(absent, Counts { loads: 1, lines: 1, ..NONE });
    let replace = write(&|held| {
        let found = held.find(5, &50).expect("it is there");
        held.replace(found, &501);
    });
    assert_eq!(Counts { lines: 0, ..replace }, Counts { loads: 4, stores: 3, rmws: 1, fences: 1, ..NONE });
    let len = Counting::of(|| assert_eq!(map.len(), 1));
    assert_eq!(Counts { lines: 0, ..len }, Counts { loads: 2, ..NONE });
    for counts in [insert, read, replace] {
        assert!(counts.lines <= 4, "{counts:?}"); // an entry of 48 bytes lies on two lines at most
    }
}

/// What the kernel says of a name; a bad peer may write any.
struct Oracle;

impl Peers for Oracle {
    fn alive(&mut self, owner: Owner) -> bool {
        if owner.seat() < 8 { owner.seat().is_multiple_of(2) } else { Hostile::choice(2) == 0 }
    }
}

fn hostile(seed: u64, answers: &mut BTreeMap<&'static str, u64>) {
    let mut bad = Adversary::new(seed);
    let capacity = bad.below(20) + 1;
    let shape = Shape::of::<u64, Value>(capacity, 2).expect("a shape");
    let chart = Chart::<Hostile>::new(&shape, bad.bits());
    let maps = [0, 2].map(|seat| map::<Hostile, u64, Value>(&chart, shape, seat));
    // Each look takes some words, each race is lost so often at most.
    let (entry, most) = (shape.words() + 4, 64 * 12);
    let scan = (shape.entries() * (entry + most)) as u64;
    for _ in 0..20 {
        let map = &maps[bad.below(2)];
        let key = bad.below(6) as u64;
        let hash = if bad.below(4) == 0 { bad.bits() } else { key % 3 };
        let mut note = |what| *answers.entry(what).or_default() += 1;
        match bad.below(10) {
            0..=2 => note(match bad.call(scan, || map.get(hash, &key)) {
                Ok(Some(_)) => "read",
                Ok(None) => "absent",
                Err(_) => "overtaken",
            }),
            3 => assert!(bad.call(20, || map.len()) <= capacity),
            4 => _ = bad.call(scan, || map.pair(usize::MAX - key as usize)),
            5 => note(match bad.call(4 * scan, || map.take(key as usize, &mut Oracle)) {
                Ok(Some(_)) => "taken",
                Ok(None) => "nothing to take",
                Err(_) => "take: busy",
            }),
            6 => _ = bad.call(scan, || map.recover(Owner::new(1, 1))),
            _ => note(bad.call(8 * scan, || {
                let Ok(mut held) = map.hold(hash, &mut Oracle) else { return "busy" };
                match held.find(hash, &key) {
                    Some(found) if key == 0 => match held.take_out(found) {
                        Ok(()) => "removed",
                        Err(_) => "remove: crowded",
                    },
                    Some(found) => {
                        held.replace(found, &value(1));
                        "replaced"
                    }
                    None => match held.add(hash, &key, &value(2)) {
                        Ok(()) => "added",
                        Err(PutError::Full) => "full",
                        Err(_) => "crowded",
                    },
                }
            })),
        }
    }
}

#[test]
fn a_bad_peer_makes_values_wrong_and_nothing_else() {
    let mut answers = BTreeMap::new();
    seeds(3_000, |seed| hostile(seed, &mut answers));
    println!("{answers:?}");
    let all = [
        "read",
        "absent",
        "taken",
        "nothing to take",
        "take: busy",
        "busy",
        "removed",
        "replaced",
        "added",
        "full",
        "crowded",
    ];
    for answer in all {
        assert!(answers.contains_key(answer), "never {answer}");
    }
}

/// A pair that changes at every look.
#[derive(Clone)]
struct Restless(Chart<Real>);

impl Region<Real> for Restless {
    fn commit(&self) -> &<Real as Mem>::U64 {
        self.0.commit()
    }
    fn count(&self) -> &<Real as Mem>::U64 {
        self.0.count()
    }
    fn word(&self, entry: usize, i: usize) -> &<Real as Mem>::U64 {
        let word = self.0.word(entry, i);
        let now = Slot(word.load(Ordering::Relaxed));
        if i == 1 && now.state() == State::Full {
            word.store(Slot::new(now.version() + 1, 0, now.owner(), State::Full).0, Ordering::Relaxed);
        }
        word
    }
}

#[test]
fn a_reader_that_is_always_overtaken_gives_up() {
    let shape = Shape::of::<u64, u64>(1, 1).expect("a shape");
    let chart = Chart::<Real>::new(&shape, 0);
    map::<Real, u64, u64>(&chart, shape, 0).hold(0, &mut All).expect("free").add(0, &7, &8).expect("room");
    let restless = Map::<Real, u64, u64, _>::attach(Restless(chart.clone()), shape, Owner::new(0, 1));
    assert_eq!(restless.get(0, &7), Err(Overtaken { turns: TURNS }));
    assert_eq!(restless.get(0, &9), Ok(None), "another key was not there, whatever moved");
    assert_eq!(map::<Real, u64, u64>(&chart, shape, 0).get(0, &7), Ok(Some(8)));
}
