//! Maps between threads and between processes, and what deaths, stops and forks do to them.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::map::{DEFAULT_DEADLINE, MapError, MapToken, SharedMap, THREADS, TokenError};
use sapwood_shm::{Error, Processes};

fn add(n: Option<u64>) -> Option<u64> {
    Some(n.unwrap_or(0) + 1)
}

#[test]
fn st_1_built_from_a_table_it_has_the_same_pairs_and_the_source_is_unchanged() {
    let table: HashMap<u64, u64> = (0..100).map(|i| (i, i * i)).collect();
    let map = SharedMap::from_pairs(table.iter().map(|(k, v)| (*k, *v)), 0).expect("memory");
    assert_eq!((map.len(), map.capacity(), table.len()), (100, 100, 100));
    assert_eq!(map.snapshot().map(HashMap::from_iter), Ok(table));
}

#[test]
fn st_2_moved_in_and_drained_the_source_is_empty() {
    let mut table: HashMap<u64, u64> = (0..100).map(|i| (i, i + 1)).collect();
    let mut map = SharedMap::new(90).expect("memory");
    let said = map.move_in(&mut table);
    assert_eq!(said, Err(MapError::Full { capacity: 90, back: () }));
    assert_eq!((map.len(), table.len()), (90, 10), "what did not fit stays");
    let out: HashMap<u64, u64> = map.drain().expect("nobody else").into_iter().collect();
    assert_eq!((map.len(), out.len(), map.snapshot()), (0, 90, Ok(vec![])));
    map.move_in(&mut table).expect("room");
    assert_eq!((map.len(), table.len(), map.clear(), map.len()), (10, 0, Ok(10), 0));
}

#[test]
fn st_3_st_4_st_6_st_13_sizes_overwrites_and_removals() {
    let mut map = SharedMap::<[u8; 3], u16>::new(3).expect("memory");
    assert!(map.is_empty() && map.snapshot().expect("nobody else").is_empty());
    assert_eq!(map.insert([1; 3], 1), Ok(None));
    assert_eq!(map.insert([1; 3], 2), Ok(Some(1)));
    assert_eq!((map.get(&[1; 3]), map.contains_key(&[2; 3]), map.len()), (Ok(Some(2)), Ok(false), 1));
    map.extend([([2; 3], 2), ([3; 3], 3)]).expect("room");
    let full = MapError::Full { capacity: 3, back: ([4; 3], 4) };
    assert_eq!(map.insert([4; 3], 4), Err(full));
    assert_eq!(full.to_string(), "the map is full: it was made for 3 pairs");
    assert_eq!(map.insert([3; 3], 33), Ok(Some(3)), "a key that is there needs no room");
    assert_eq!(map.update(&[4; 3], |_| Some(4)), Err(MapError::Full { capacity: 3, back: Some(4) }));
    assert_eq!((map.remove(&[1; 3]), map.remove(&[1; 3]), map.len()), (Ok(Some(2)), Ok(None), 2));
    assert_eq!(map.update(&[2; 3], |_| None), Ok(None));
    assert_eq!((map.get(&[2; 3]), map.len()), (Ok(None), 1));
    // Sets, and a map of one.
    let mut set = SharedMap::<u64, ()>::new(1).expect("memory");
    assert_eq!((set.insert(7, ()), set.insert(7, ()), set.len()), (Ok(None), Ok(Some(())), 1));
}

#[test]
fn st_7_a_hundred_threads_insert_a_hundred_keys_and_their_increments_are_seen() {
    let map = SharedMap::<u64, u64>::new(101).expect("memory");
    let threads: Vec<_> = (0..100)
        .map(|i| {
            let mut map = map.try_clone().expect("a handle");
            std::thread::spawn(move || {
                map.insert(i, i).expect("room");
                (0..100).for_each(|_| _ = map.update(&1000, add).expect("room"));
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("it ends well"));
    assert_eq!((map.len(), map.get(&1000)), (101, Ok(Some(10_000))));
    assert!((0..100).all(|i| map.get(&i) == Ok(Some(i))));
}

#[test]
fn st_8_update_needs_no_mutex() {
    let map = SharedMap::<u8, u64>::new(1).expect("memory");
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let mut map = map.try_clone().expect("a handle");
            std::thread::spawn(move || (0..1000).for_each(|_| _ = map.update(&0, add).expect("room")))
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("it ends well"));
    assert_eq!(map.get(&0), Ok(Some(10_000)));
}

#[test]
fn st_9_st_10_st_11_a_map_in_a_map_is_live_and_a_plain_value_is_a_copy() {
    let (outer_name, inner_name) = (name("outer"), name("inner"));
    let _forget = [Forget::name(&outer_name), Forget::name(&inner_name)];
    let mut outer = SharedMap::<u64, MapToken>::open(&outer_name, 10, 4).expect("a seat");
    let mut inner = SharedMap::<u64, [u64; 4]>::open(&inner_name, 10, 4).expect("a seat");
    inner.insert(1, [1; 4]).expect("room");
    outer.insert(7, inner.token().expect("it has a name")).expect("room");

    let token = outer.get(&7).expect("nobody writes").expect("it is there");
    let mut nested = token.open::<u64, [u64; 4]>().expect("it lives");
    nested.insert(2, [2; 4]).expect("room");
    assert_eq!((inner.get(&2), inner.len()), (Ok(Some([2; 4])), 2), "it is live");
    let mut copy = inner.get(&1).expect("nobody writes").expect("it is there");
    copy[0] = 9;
    assert_eq!((copy[0], inner.get(&1)), (9, Ok(Some([1; 4]))), "a copy");

    let said = token.open::<u64, u64>().expect_err("other values");
    assert!(matches!(said, TokenError::Open(Error::OtherMap { .. })), "{said}");
    drop((inner, nested));
    let said = token.open::<u64, [u64; 4]>().expect_err("it is gone");
    assert!(matches!(said, TokenError::Stale { .. }), "{said}");
    let file = file_of(std::path::Path::new("/dev/shm"), &inner_name);
    assert!(!file.exists(), "a map that was made for nobody is left behind");
    let nameless = SharedMap::<u64, u64>::new(1).expect("memory").token().expect_err("no name");
    assert!(matches!(nameless, TokenError::Nameless), "{nameless}");
}

#[test]
fn st_12_bytes_grow_with_content() {
    let mut map = SharedMap::<u64, [u64; 100]>::new(10).expect("memory");
    let mut last = map.bytes_used();
    assert_eq!(last, 0);
    for i in 0..10 {
        map.insert(i, [i; 100]).expect("room");
        assert!(map.bytes_used() >= last + 800);
        last = map.bytes_used();
    }
    assert!(last <= map.bytes_reserved());
    map.clear().expect("nobody else");
    assert_eq!(map.bytes_used(), 0);
}

/// ST-5, ST-14: those that stay are there once; nothing is there twice, nothing is torn.
#[test]
fn st_5_st_14_a_map_is_gone_through_while_others_delete_and_insert() {
    const STAY: u64 = 50;
    let rounds = if std::env::var_os("SAPWOOD_FULL").is_some() { 20_000 } else { 300 };
    let map = SharedMap::<u64, [u64; 3]>::from_pairs((0..50_u32).map(u64::from).map(|i| (i, [i; 3])), 50)
        .expect("memory");
    let (tell, end) = mpsc::channel::<()>();
    let (say, begun) = mpsc::sync_channel(1);
    let mut writer = map.try_clone().expect("a handle");
    let writes = std::thread::spawn(move || {
        let mut n = 0_u64;
        while end.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            n += 1;
            let key = STAY + n % 40;
            if n % 80 < 40 {
                writer.insert(key, [key; 3]).expect("room");
            } else {
                writer.remove(&key).expect("nobody else writes");
            }
            let stays = n % STAY;
            writer.update(&stays, |v| v.map(|v| [v[0] + 1000; 3])).expect("it stays");
            let _ = say.try_send(());
        }
        n
    });
    begun.recv().expect("it writes");
    for _ in 0..rounds {
        let pairs = map.snapshot().expect("so often nobody is overtaken");
        let keys: HashSet<u64> = pairs.iter().map(|(k, _)| *k).collect();
        assert_eq!(keys.len(), pairs.len(), "twice");
        assert!((0..STAY).all(|key| keys.contains(&key)), "one that stays is missing");
        assert!(pairs.iter().all(|(k, v)| v[0] % 1000 == *k % 1000 && *v == [v[0]; 3]), "torn");
    }
    drop(tell);
    assert!(writes.join().expect("it ends well") > 0);
}

#[test]
fn a_panic_in_the_closure_leaves_the_map_as_it_was() {
    let mut map = SharedMap::<u8, u64>::new(2).expect("memory");
    map.insert(1, 10).expect("room");
    for key in [1, 2] {
        let mut other = map.try_clone().expect("a handle");
        let update = || other.update(&key, |_| std::panic::resume_unwind(Box::new("out of the closure")));
        assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
        assert_eq!(map.snapshot(), Ok(vec![(1, 10)]));
        assert_eq!(map.update(&1, |n| n), Ok(Some(10)));
    }
    assert_eq!((map.insert(2, 20), map.len()), (Ok(None), 2));
}

#[test]
fn a_writer_waits_for_another_one_of_the_same_key_and_readers_do_not() {
    let mut map = SharedMap::<u64, u64>::new(4).expect("memory");
    map.insert(1, 10).expect("room");
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let mut other = map.try_clone().expect("a handle");
    let seat = other.seat();
    let slow = std::thread::spawn(move || {
        other.update(&1, |n| {
            entered.send(()).expect("somebody waits for it");
            may_leave.recv().expect("somebody says so");
            n.map(|n| n + 1)
        })
    });
    has_entered.recv().expect("it comes");
    assert_eq!((map.get(&1), map.len(), map.snapshot()), (Ok(Some(10)), 1, Ok(vec![(1, 10)])));
    let MapError::Busy { holder: Some(holder), waited, back: (1, 2) } =
        map.try_insert(1, 2).expect_err("held")
    else {
        panic!("another error");
    };
    assert_eq!((holder.seat, holder.pid), (seat, std::process::id()));
    assert!(waited < Duration::from_secs(1));
    let limit = Duration::from_millis(60);
    let said = map.remove_timeout(&1, limit).expect_err("held");
    assert!(matches!(said, MapError::Busy { waited, .. } if waited >= limit), "{said}");
    let called = std::cell::Cell::new(false);
    let said = map.try_update(&1, |n| {
        called.set(true);
        n
    });
    assert!(said.is_err() && !called.get(), "a closure is not called where the home was not had");
    // One that waits is woken.
    let mut waits =
        map.try_clone().expect("a handle").with_deadline(PATIENCE).with_waiting(WaitPolicy::Sleep);
    let (beyond, asleep) = mpsc::channel();
    let waits = std::thread::spawn(move || {
        beyond.send(()).expect("somebody waits for it");
        let done = waits.update(&1, |n| n.map(|n| n * 2));
        done.map(|n| (n, waits.waits().spins))
    });
    asleep.recv().expect("it comes");
    leave.send(()).expect("it waits for it");
    assert_eq!(slow.join().expect("it ends well"), Ok(Some(11)));
    let last = waits.join().expect("it ends well");
    assert_eq!(last, Ok((Some(22), 0)));
}

#[test]
fn handles_of_threads_are_counted_and_used_again() {
    let map = SharedMap::<u8, u8>::new(1).expect("memory");
    let others: Vec<_> = (1..THREADS).map(|_| map.try_clone().expect("a handle")).collect();
    let seats: HashSet<usize> = others.iter().map(SharedMap::seat).chain([map.seat()]).collect();
    assert_eq!(seats.len(), THREADS);
    let said = map.try_clone().expect_err("no more");
    assert!(matches!(said, Error::NoSeat { seats: THREADS }), "{said}");
    drop(others);
    assert!(map.try_clone().is_ok());
    fn crosses<T: Send>(_: &T) {}
    crosses(&map);
    assert_eq!(DEFAULT_DEADLINE, Duration::from_secs(300));
}

#[test]
fn what_is_wrong_is_said() {
    for capacity in [0, usize::MAX, sapwood_shm::map::MOST + 1] {
        let said = SharedMap::<u64, u64>::new(capacity).expect_err("no map can be like that");
        assert!(matches!(said, Error::Map(_)), "{said}");
    }
    let said = SharedMap::<u64, [u64; 1 << 12]>::new(sapwood_shm::map::MOST).expect_err("no memory");
    assert!(matches!(said, Error::NoSpace { .. } | Error::Map(_)), "{said}");
    let said = SharedMap::<u64, u64>::create(4, 0).expect_err("nobody");
    assert!(matches!(said, Error::Participants { asked: 0, .. }), "{said}");
    let name = name("figures");
    let _forget = Forget::name(&name);
    let _map = SharedMap::<u64, u64>::open(&name, 100, 4).expect("a seat");
    let said = SharedMap::<u64, u32>::open(&name, 100, 4).expect_err("other values").to_string();
    assert!(
        said.ends_with(
            "holds a map of 100 pairs with keys of 8 bytes and values of 8, this program expects one \
                            of 100 pairs with keys of 8 bytes and values of 4"
        ),
        "{said}"
    );
    assert!(matches!(SharedMap::<u32, u64>::open(&name, 100, 4), Err(Error::OtherMap { .. })));
    assert!(matches!(SharedMap::<u64, u64>::open(&name, 99, 4), Err(Error::OtherMap { .. })));
    assert!(matches!(SharedMap::<u64, u64>::open(&name, 100, 5), Err(Error::OtherSize { .. })));
    let others = [0; 3].map(|_| SharedMap::<u64, u64>::open(&name, 100, 4).expect("a seat"));
    let said = others[0].try_clone().expect_err("all seats are taken");
    assert!(matches!(said, Error::NoSeat { seats: 4 }), "{said}");
}

#[test]
fn processes_insert_and_update_as_threads_do() {
    const RANKS: usize = 4;
    let name = name("processes");
    let open = || SharedMap::<u64, u64>::open(&name, 101, RANKS + 1);
    let running = Processes::new(RANKS).start(|rank| {
        let mut map = open().map_err(text)?;
        for i in 0..25 {
            map.insert((25 * rank.rank() + i) as u64, i as u64).map_err(text)?;
        }
        for _ in 0..2000 {
            map.update(&1000, add).map_err(text)?;
        }
        // Until all have come, so that the map is one.
        until("all are there", || map.get(&1000) == Ok(Some(2000 * RANKS as u64)));
        Ok::<_, String>(())
    });
    let running = running.expect("they start");
    let _forget = Forget::name(&name);
    let map = open().expect("a seat is free");
    until("all is done", || map.get(&1000) == Ok(Some(2000 * RANKS as u64)));
    assert_eq!(map.len(), 101);
    assert!((0..100).all(|key| map.get(&key) == Ok(Some(key % 25))));
    ended_well(running);
}

/// Set by the rank when it is in its closure, and by the parent when it may leave it.
const IN: usize = 0;

#[test]
fn a_stopped_writer_is_named_and_a_dead_one_is_succeeded() {
    let (name, tally_name) = (name("stopped"), name("stopped-tally"));
    let running = rank(|| {
        let tally = Tally::open(&tally_name, 1);
        let mut map = SharedMap::<u64, u64>::open(&name, 100, 4).map_err(text)?;
        let in_it = map.update(&1, |n| {
            tally.set_flag(IN, 1);
            wait_to_be_ended().expect_err("it is killed");
            n
        });
        Err(format!("{in_it:?}"))
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut map = SharedMap::<u64, u64>::open(&name, 100, 4).expect("a seat is free");
    for key in 2..50 {
        // Some have the rank's home.
        _ = map.try_insert(key, key);
    }
    tally.wait_for_flag(IN, 0);
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    let pid = running.pids()[0];
    until("the rank is stopped", || state(pid) == Some('T'));
    assert_eq!(map.get(&1), Ok(None), "readers go on");
    let limit = Duration::from_millis(120);
    for _ in 0..3 {
        let said = map.update_timeout(&1, limit, add).expect_err("it lives");
        let MapError::Busy { holder: Some(holder), waited, back: None } = said else { panic!("{said}") };
        assert!(holder.pid == pid && waited >= limit, "{said}");
    }
    // Others have other homes, but for a few.
    let busy = (100..140).filter(|key| map.try_insert(*key, *key).is_err()).count();
    assert!(busy <= 8, "{busy} of 40 keys are held up by one writer");
    assert_eq!(map.len(), map.snapshot().expect("readers go on").len());

    kill(&running, 0);
    let after =
        map.update_timeout(&1, PATIENCE, add).expect("it is dead, and what it had begun is not there");
    assert_eq!(after, Some(1));
    assert!((100..140).all(|key| map.insert(key, 0).is_ok()));
    assert_eq!(running.wait(PATIENCE).expect("it ends").exits, [sapwood_shm::Exit::Signal(9)]);
    let newcomer = SharedMap::<u64, u64>::open(&name, 100, 4).expect("its seat is free");
    assert_eq!(newcomer.recovered().homes, 0, "the home was taken over before");
}

/// Ranks that write all the time are killed one after the other. Each counts what it has done in a flag of its own: its
/// count in the map is that, or one more.
#[test]
fn a_storm_of_kills_leaves_every_pair_whole_and_the_count_right() {
    const RANKS: usize = 8;
    const FLAG: usize = 3;
    type Value = [u64; 5];
    fn whole(n: u64) -> Value {
        [n, !n, n ^ 7, n << 1, n]
    }
    let (name, tally_name) = (name("storm"), name("storm-tally"));
    let open = || SharedMap::<u64, Value>::open(&name, 64, RANKS + 1);
    let running = Processes::new(RANKS).start(|rank| {
        let tally = Tally::open(&tally_name, 1);
        let mut map = open().map_err(text)?;
        let me = rank.rank() as u64;
        // Bounded by the parent, which ends this rank, or by a failure.
        for n in 1_u64.. {
            let added = map.update(&me, |v| Some(whole(v.map_or(0, |v| v[0]) + 1))).map_err(text)?;
            tally.set_flag(FLAG + rank.rank(), n as u32);
            assert_eq!(added.map(|v| v[0]), Some(n), "an update is lost");
            let key = 100 + (n * 7 + me) % 20;
            if n % 2 == 0 {
                map.insert(key, whole(n)).map_err(text)?;
            } else {
                map.remove(&key).map_err(text)?;
            }
        }
        Ok::<_, String>(())
    });
    let running = running.expect("they start");
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    let mut map = open().expect("a seat is free").with_deadline(PATIENCE);
    let mut dice = Dice::new();
    for victim in 0..RANKS {
        let wanted = 50 + dice.roll(400) as u32;
        until("the victim gets on", || tally.flag(FLAG + victim) > wanted);
        for (_, v) in map.snapshot().expect("so often nobody is overtaken") {
            assert_eq!(v, whole(v[0]), "torn");
        }
        kill(&running, victim);
        // At once, whoever is just dying: all of its keys can be had.
        for key in 100..120 {
            map.update(&key, |v| v).expect("nobody wedges it");
        }
        assert!(map.len() <= 64);
    }
    running.wait(PATIENCE).expect("all end");
    let pairs = map.snapshot().expect("nobody writes");
    assert_eq!(map.len(), pairs.len());
    let by_key: BTreeMap<u64, Value> = pairs.iter().copied().collect();
    assert_eq!(by_key.len(), pairs.len(), "twice");
    for rank in 0..RANKS {
        let (noted, counted) = (u64::from(tally.flag(FLAG + rank)), by_key[&(rank as u64)][0]);
        assert!(counted == noted || counted == noted + 1, "rank {rank}: {counted} for {noted}");
    }
    // Newcomers take the seats of the dead, and all of the capacity.
    let others: Vec<_> = (0..RANKS).map(|_| open().expect("a dead one's seat")).collect();
    assert_eq!(others.len(), RANKS);
    map.clear().expect("nobody else");
    (0..64).for_each(|key| assert_eq!(map.insert(key, whole(key)), Ok(None)));
    assert!(matches!(map.insert(64, whole(0)), Err(MapError::Full { capacity: 64, .. })));
}

#[test]
fn a_forked_child_holds_no_handle_but_can_attach() {
    let mut map = SharedMap::<u64, u64>::create(8, 2).expect("memory");
    let mut local = SharedMap::<u64, u64>::new(8).expect("memory");
    map.insert(1, 10).expect("room");
    // SAFETY: the child uses its copies of the handles and ends; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let forked = MapError::Forked { back: () };
            let good = map.insert(2, 20) == Err(MapError::Forked { back: (2, 20) })
                && map.update(&1, add) == Err(MapError::Forked { back: None })
                && (map.get(&1), map.remove(&1)) == (Err(forked), Err(forked))
                && (map.snapshot(), map.clear()) == (Err(forked), Err(forked))
                && local.insert(1, 1).is_err()
                && map.try_clone().is_ok_and(|mut own| own.insert(3, 30) == Ok(None));
            // SAFETY: the parent's copies live in the parent's memory; these are dropped here once.
            unsafe { drop((std::ptr::read(&map), std::ptr::read(&local))) };
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
            other => panic!("the child {pid}: {other:?}"),
        },
    }
    assert_eq!((map.len(), map.get(&3), local.len()), (2, Ok(Some(30)), 0));
}

/// A token may come from a bad peer: whatever it claims, nothing is made.
#[test]
fn a_token_makes_nothing() {
    use zerocopy::{FromBytes, IntoBytes};
    type Wide = [u64; 1024];
    let name = name("claims");
    let _forget = Forget::name(&name);
    let map = SharedMap::<u64, Wide>::open(&name, 1, 2).expect("a seat");
    // A number, then what the map was made for: the capacity from bit 33 on.
    let mut words = [0_u64; 11];
    words.as_mut_bytes().copy_from_slice(map.token().expect("it has a name").as_bytes());
    words[1] += ((1 << 26) - 1) << 33;
    let open = |words: &[u64; 11]| {
        let token = MapToken::read_from_bytes(words.as_bytes()).expect("as long as a token");
        token.open::<u64, Wide>().map(drop)
    };
    let said = open(&words).expect_err("another capacity");
    assert!(matches!(said, TokenError::Open(Error::OtherMap { .. })), "{said}");
    words[0] ^= 1;
    let said = open(&words).expect_err("another number");
    assert!(matches!(said, TokenError::Stale { .. }), "{said}");
    drop(map);
    let said = open(&words).expect_err("a TiB for nobody");
    assert!(matches!(said, TokenError::Stale { .. }), "{said}");
}

/// The closure forks: the child has a copy of what holds the home, and comes out of the call, or of a panic in it.
#[test]
fn a_child_that_the_closure_forks_gives_no_home_back() {
    for panics in [false, true] {
        let mut map = SharedMap::<u64, u64>::create(8, 2).expect("memory");
        let mut other = map.try_clone().expect("a seat");
        map.insert(1, 10).expect("room");
        let mut child = None;
        let update = AssertUnwindSafe(|| {
            map.update(&1, |n| {
                // SAFETY: the child comes out of the call and ends; glibc keeps its allocator usable there.
                let pid = unsafe { libc::fork() };
                child = Some(pid);
                match pid {
                    // Without the hook, which writes.
                    0 if panics => std::panic::resume_unwind(Box::new(())),
                    0 => return Some(99),
                    _ => {}
                }
                let end = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("our child");
                assert!(matches!(end, nix::sys::wait::WaitStatus::Exited(_, 0)), "{end:?}");
                let said = other.try_insert(1, 20);
                assert!(matches!(said, Err(MapError::Busy { .. })), "the home is ours: {said:?}");
                n.map(|n| n + 1)
            })
        });
        let said = catch_unwind(update);
        if child == Some(0) {
            let good = match said {
                Ok(said) => said == Err(MapError::Forked { back: Some(99) }),
                Err(_) => panics,
            };
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        assert_eq!(said.expect("the parent does not panic"), Ok(Some(11)));
        assert_eq!(other.insert(1, 20), Ok(Some(11)));
    }
}

#[test]
fn a_map_whose_holders_are_all_gone_begins_anew() {
    let name = name("anew");
    let _forget = Forget::name(&name);
    let mut map = SharedMap::<u64, u64>::open(&name, 4, 2).expect("a seat");
    map.insert(1, 1).expect("room");
    drop(map);
    assert!(SharedMap::<u64, u64>::open(&name, 4, 2).expect("a seat").is_empty());
}
