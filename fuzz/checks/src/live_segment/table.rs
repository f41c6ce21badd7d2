//! A map.

use std::sync::Arc;

use sapwood_shm::map::{self, SharedMap};
use sapwood_shm::{Error, Segment, Spec};

use super::{NOW, Object, SEATS, World};

type Value = [u64; 3];
const CAPACITY: usize = 5;
/// More than it can ever hold.
const MOST: usize = 64;

/// A map of few keys.
pub(crate) struct Table(SharedMap<u64, Value>);

impl Object for Table {
    fn spec() -> Result<Spec, Error> {
        map::spec::<u64, Value>(CAPACITY, SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        SharedMap::attach(segment, CAPACITY).map(|map| Table(map.with_deadline(NOW)))
    }

    fn step(&mut self, world: &mut World<'_>) {
        let (map, what) = (&mut self.0, world.input.u8());
        let key = u64::from(what >> 4) % 7;
        match what & 15 {
            0..4 => drop(world.said("insert", map.insert(key, [7; 3]))),
            4 => drop(world.said("try insert", map.try_insert(key, [5; 3]))),
            5..7 => drop(world.said("remove", map.remove(&key))),
            7 => drop(world.said("try remove", map.try_remove(&key))),
            8..10 => {
                let updated = map.update(&key, |value| {
                    world.meddle();
                    value.map_or(Some([1; 3]), |v| (v[0] & 1 == 0).then_some([v[0] ^ 1; 3]))
                });
                world.said("update", updated);
            }
            10..12 => drop(world.said("get", map.get(&key))),
            12 => {
                let pairs = world.said("snapshot", map.snapshot());
                assert!(pairs.is_none_or(|pairs| pairs.len() <= MOST), "more pairs than places");
            }
            13 => {
                let drained = map.drain().map_err(|e| e.map(|pairs| assert!(pairs.len() <= MOST)));
                world.said("drain", drained);
            }
            14 => drop(world.said("clear", map.clear())),
            _ => {
                let _ =
                    (map.bytes_used(), map.bytes_reserved(), map.recovered(), map.waits(), map.is_empty());
                assert!(map.capacity() == CAPACITY && map.seat() < SEATS);
            }
        }
    }

    fn works(handles: &mut [Self]) {
        let [Table(a), Table(b), _] = handles else { unreachable!("there are three") };
        for i in 0..CAPACITY as u64 {
            assert_eq!(a.insert(i, [i; 3]), Ok(None));
            assert_eq!(b.get(&i), Ok(Some([i; 3])));
        }
        assert_eq!(b.len(), CAPACITY);
        assert!(b.insert(CAPACITY as u64, [0; 3]).is_err(), "it is full");
        assert_eq!(b.remove(&1), Ok(Some([1; 3])));
        assert_eq!((a.get(&1), a.len()), (Ok(None), CAPACITY - 1));
    }
}
