//! A map: pairs inserted, replaced, updated, removed and drained by one that dies or stands still in the middle of it,
//! while others go through it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sapwood_shm::Segment;
use sapwood_shm::map::{MapError, SharedMap};

use crate::sweep::{Death, Stall};

type Value = [u64; 3];
type Map = SharedMap<u64, Value>;

fn value(i: u64) -> Value {
    [i, !i, i.rotate_left(9)]
}

const CAPACITY: usize = 4;
/// Far longer than a look at the dead takes.
const LONG: Duration = Duration::from_secs(20);

/// The survivor's handle; keys 1 and 2 are there.
pub(crate) struct World {
    segment: Arc<Segment>,
    map: Map,
}

fn world() -> World {
    let mut map = Map::create(CAPACITY, 2).expect("there is memory").with_deadline(LONG);
    for i in [1, 2] {
        map.insert(i, value(i)).expect("there is room");
    }
    World { segment: map.segment().expect("it is in one").clone(), map }
}

fn arrive(world: &World) -> Map {
    Map::attach(&world.segment, CAPACITY).expect("a seat is free")
}

/// What is there: whole, counted, each key once.
fn pairs(map: &Map) -> BTreeMap<u64, u64> {
    let (len, snapshot) = (map.len(), map.snapshot().expect("nobody writes"));
    let pairs: BTreeMap<_, _> = snapshot
        .iter()
        .map(|(key, v)| {
            assert_eq!(*v, value(v[0]), "torn");
            assert_eq!(map.get(key), Ok(Some(*v)), "out of reach");
            (*key, v[0])
        })
        .collect();
    assert_eq!((snapshot.len(), len), (pairs.len(), pairs.len()), "{snapshot:?}");
    pairs
}

fn these<const N: usize>(pairs: [(u64, u64); N]) -> BTreeMap<u64, u64> {
    BTreeMap::from(pairs)
}

/// The map works, all of it, with a newcomer on the dead one's seat too, and before it comes.
fn goes_on(mut world: World) {
    for key in 1..4 {
        world.map.insert(key, value(60 + key)).expect("there is room");
    }
    let mut newcomer = arrive(&world).with_deadline(LONG);
    newcomer.update(&1, |v| v.map(|_| value(71))).expect("it is there");
    for key in 4..10 {
        match newcomer.insert(key, value(70)) {
            Ok(None) => {}
            Err(MapError::Full { capacity: CAPACITY, .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pairs(&newcomer).len(), CAPACITY);
    assert_eq!(world.map.clear(), Ok(CAPACITY));
    for key in 20..20 + CAPACITY as u64 {
        assert_eq!(newcomer.insert(key, value(key)), Ok(None));
    }
    assert_eq!(pairs(&world.map).len(), CAPACITY);
}

/// Looks what became of it before anybody writes, and then goes on.
fn became(
    world: World,
    completed: bool,
    before: BTreeMap<u64, u64>,
    after: BTreeMap<u64, u64>,
) -> &'static str {
    let now = pairs(&world.map);
    assert!(now == after || now == before && !completed, "{now:?}");
    goes_on(world);
    if now == after { "done" } else { "not done" }
}

macro_rules! death {
    ($name:ident, $what:literal, $act:expr, $after:expr) => {
        pub(crate) struct $name;

        impl Death for $name {
            const NAME: &'static str = $what;
            type World = World;
            type Actor = Map;
            fn world() -> World {
                world()
            }
            fn arrive(world: &World) -> Map {
                arrive(world)
            }
            fn act(map: &mut Map) -> impl Sized {
                let act: fn(&mut Map) -> _ = $act;
                act(map)
            }
            fn survive(world: World, completed: bool) -> &'static str {
                became(world, completed, these([(1, 1), (2, 2)]), $after)
            }
        }
    };
}

death!(Insert, "insert into a map", |map| map.insert(3, value(3)), these([(1, 1), (2, 2), (3, 3)]));
death!(Replace, "replace in a map", |map| map.insert(1, value(11)), these([(1, 11), (2, 2)]));
death!(
    Update,
    "update in a map",
    |map| map.update(&2, |v| v.map(|v| value(v[0] + 20))),
    these([(1, 1), (2, 22)])
);
death!(Remove, "remove from a map", |map| map.remove(&1), these([(2, 2)]));

pub(crate) struct Clear;

impl Death for Clear {
    const NAME: &'static str = "clear a map";
    type World = World;
    type Actor = Map;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Map {
        arrive(world)
    }
    fn act(map: &mut Map) -> impl Sized {
        map.clear()
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let now = pairs(&world.map);
        assert!(now.is_empty() || !completed && now.iter().all(|(key, n)| key == n), "{now:?}");
        goes_on(world);
        ["cleared", "one is left", "nothing removed"][now.len()]
    }
}

/// The newcomer's seat has been another's, which died with the home of key 1 in its hands: it dies while it recovers
/// it.
pub(crate) struct Succeed;

/// Attaches, and ends in the middle of an update of key 1.
fn die_in_an_update(world: &World) {
    // SAFETY: this process has one thread; the child attaches by itself and ends.
    match unsafe { libc::fork() } {
        0 => {
            let mut map = arrive(world);
            // SAFETY: ends this process at once, without handlers of its parent.
            let died = map.update(&1, |_| unsafe { libc::_exit(0) });
            unreachable!("{died:?}")
        }
        child => assert!(waitpid(Pid::from_raw(child), None).is_ok(), "a child of ours"),
    }
}

impl Death for Succeed {
    const NAME: &'static str = "take a dead one's seat at a map";
    type World = World;
    type Actor = (Arc<Segment>, Option<Map>);
    fn world() -> World {
        let world = world();
        die_in_an_update(&world);
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        (world.segment.clone(), None)
    }
    fn act((segment, map): &mut Self::Actor) -> impl Sized {
        let newcomer = Map::attach(segment, CAPACITY).expect("the dead one's seat");
        assert_eq!(newcomer.recovered().homes, 1);
        *map = Some(newcomer);
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        assert_eq!(pairs(&world.map), these([(1, 1), (2, 2)]));
        // A try learns of deaths by itself now and then only.
        let open = world.map.try_update(&1, |v| v).is_ok();
        assert!(open || !completed);
        goes_on(world);
        if open { "recovered" } else { "left to the next" }
    }
}

/// Somebody stands still in the middle of an insertion: readers and writers of other homes are not held up.
pub(crate) struct StallInsert;

impl Stall for StallInsert {
    const NAME: &'static str = "insert into a map while another removes and goes through it";
    type World = (World, bool);
    type Actor = Map;
    type Done = bool;
    fn world() -> Self::World {
        (world(), false)
    }
    fn arrive((world, _): &Self::World) -> Map {
        arrive(world)
    }
    fn act(map: &mut Map) -> bool {
        map.insert(3, value(3)).is_ok()
    }
    fn meanwhile((world, removed): &mut Self::World, completed: bool) {
        let now = pairs(&world.map);
        assert!(now == these([(1, 1), (2, 2), (3, 3)]) || !completed && now == these([(1, 1), (2, 2)]));
        *removed = match world.map.try_remove(&1) {
            Ok(got) => {
                assert_eq!(got, Some(value(1)));
                true
            }
            // The two keys may have one home.
            Err(MapError::Busy { holder: Some(holder), .. }) if !completed => {
                assert_eq!(holder.seat, 1);
                false
            }
            Err(e) => panic!("{e}"),
        };
        assert_eq!(pairs(&world.map).contains_key(&1), !*removed);
    }
    fn report(_: Map, done: bool) -> u8 {
        u8::from(done)
    }
    fn conclude((world, removed): Self::World, report: u8) -> &'static str {
        assert_eq!(report, 1);
        let after = if removed { these([(2, 2), (3, 3)]) } else { these([(1, 1), (2, 2), (3, 3)]) };
        assert_eq!(pairs(&world.map), after);
        goes_on(world);
        if removed { "both" } else { "one home" }
    }
}

/// Somebody goes through the map and stands still while others remove, insert again and replace.
pub(crate) struct StallSnapshot;

impl Stall for StallSnapshot {
    const NAME: &'static str = "go through a map while another removes and inserts";
    type World = World;
    type Actor = Map;
    type Done = Vec<(u64, Value)>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Map {
        arrive(world)
    }
    fn act(map: &mut Map) -> Self::Done {
        map.snapshot().expect("so often nobody is overtaken")
    }
    fn meanwhile(world: &mut World, _: bool) {
        let map = &mut world.map;
        // Key 1 comes again, perhaps elsewhere; key 2 stays, with another value.
        assert_eq!(map.remove(&1), Ok(Some(value(1))));
        assert_eq!(map.insert(3, value(3)), Ok(None));
        assert_eq!(map.insert(1, value(11)), Ok(None));
        assert_eq!(map.insert(2, value(22)), Ok(Some(value(2))));
    }
    fn report(_: Map, seen: Self::Done) -> u8 {
        let whole = seen.iter().all(|(_, v)| *v == value(v[0]));
        let times = |key| seen.iter().filter(|(k, _)| *k == key).count();
        let right = seen.iter().all(|(key, v)| v[0] == *key || v[0] == 11 * key && *key < 3);
        u8::from(whole && right && times(2) == 1 && times(1) <= 1 && times(3) <= 1)
    }
    fn conclude(world: World, report: u8) -> &'static str {
        assert_eq!(report, 1, "what was gone through was wrong");
        assert_eq!(pairs(&world.map), these([(1, 11), (2, 22), (3, 3)]));
        goes_on(world);
        "right"
    }
}
