//! A mutex between threads and between processes: whoever dies, panics, stops or forks with it.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::rings::*;
use common::*;
use nix::sys::signal::Signal;
use sapwood_shm::mutex::{self, Guard, LockError, Mutex};
use sapwood_shm::ring::Peer;
use sapwood_shm::{Error, Exit, Processes};

const CELLS: usize = 10_000;
const FILLS: u32 = 20;
type Cells = [u32; CELLS];

/// Flags of the tally.
const HELD: usize = 0;
const GO: usize = 1;

/// One that takes part fills all cells with its own number, and finds them all equal before.
fn fill(mutex: &mut Mutex<Cells>, mine: u32) {
    for _ in 0..FILLS {
        let mut cells = mutex.lock().expect("nobody dies");
        let first = cells[0];
        assert!(cells.iter().all(|cell| *cell == first), "another one was at it");
        cells.iter_mut().for_each(|cell| *cell = mine);
    }
}

fn whole(mutex: &mut Mutex<Cells>) -> u32 {
    let cells = mutex.lock().expect("nobody has died");
    assert!(cells.iter().all(|cell| *cell == cells[0]));
    cells[0]
}

fn all_are_there(mutex: &Mutex<Cells>) {
    let segment = mutex.segment().expect("in one");
    until("all are there", || (0..segment.spec().seats).all(|seat| segment.seat_pid(seat) != 0));
}

/// MTX-1
#[test]
fn mtx_1_three_threads_fill_10_000_cells() {
    let mut mutex = Mutex::new([0; CELLS]).expect("memory");
    std::thread::scope(|s| {
        for mine in 1..=3 {
            let mut mutex = mutex.try_clone().expect("a handle for each");
            s.spawn(move || fill(&mut mutex, mine));
        }
    });
    assert!((1..=3).contains(&whole(&mut mutex)));
}

/// MTX-1
#[test]
fn mtx_1_three_processes_fill_10_000_cells() {
    let name = name("cells");
    let open = || Mutex::<Cells>::open(&name, 4);
    let running = Processes::new(3).start(|rank| {
        let mut mutex = open().map_err(text)?;
        all_are_there(&mutex);
        fill(&mut mutex, rank.rank() as u32 + 1);
        Ok::<_, String>(())
    });
    let running = running.expect("they start");
    let _forget = Forget::name(&name);
    let mut mutex = open().expect("a seat is free");
    all_are_there(&mutex);
    ended_well(running);
    assert!((1..=3).contains(&whole(&mut mutex)));
}

/// MTX-3
#[test]
fn mtx_3_a_thread_that_has_the_lock_is_told_so_and_another_is_not() {
    let mut one = Mutex::new(0_u64).expect("memory");
    let mut two = one.try_clone().expect("another handle");
    let guard = one.lock().expect("it is free");
    let within = Duration::from_secs(100);
    assert_eq!(two.lock().expect_err("ours").without_guard(), LockError::WouldDeadlock);
    assert_eq!(two.lock_timeout(within).expect_err("ours").without_guard(), LockError::WouldDeadlock);
    assert_eq!(two.try_lock().expect_err("ours").without_guard(), LockError::WouldDeadlock);
    let me = Peer { seat: 0, pid: std::process::id() };
    let two = std::thread::spawn(move || {
        let busy = two.try_lock().expect_err("another thread has it").without_guard();
        assert_eq!(busy, LockError::Busy { holder: Some(me) });
        let said = two.lock_timeout(Duration::from_millis(1)).expect_err("it is held").without_guard();
        assert!(matches!(said, LockError::Timeout { holder: Some(p), .. } if p == me), "{said}");
        assert!(said.to_string().contains(&format!("process {} in seat 0 holds it", me.pid)), "{said}");
        two
    });
    let mut two = two.join().expect("it was told");
    drop(guard);
    *two.lock().expect("it is free") += 1;
    // A forgotten guard: the handle has the lock until it goes.
    std::mem::forget(two.lock().expect("it is free"));
    assert_eq!(two.lock().expect_err("it has it").without_guard(), LockError::WouldDeadlock);
    drop(two);
    let inherited = one.lock().expect_err("nobody gave it back");
    assert!(matches!(inherited, LockError::OwnerDied { peer: Peer { seat: 1, .. }, .. }), "{inherited}");
}

/// MTX-4
#[test]
fn mtx_4_a_panic_is_told_to_all_until_somebody_answers_for_it() {
    let mut mutex = Mutex::new([0_u64; 2]).expect("memory");
    let mut theirs = mutex.try_clone().expect("another handle");
    let panicked = std::thread::spawn(move || {
        let mut guard = theirs.lock().expect("it is free");
        guard[0] = 1;
        panic!("between the halves");
    });
    panicked.join().expect_err("it panicked");
    for _ in 0..2 {
        let said = mutex.lock().expect_err("it panicked");
        assert!(said.to_string().contains("panicked while it held the mutex"), "{said}");
        let guard = said.into_guard().expect("the lock is held all the same");
        assert_eq!(*guard, [1, 0]);
    }
    let Err(LockError::OwnerPanicked { mut guard, .. }) = mutex.try_lock() else { panic!("nobody answered") };
    guard[1] = 1;
    guard.mark_consistent();
    drop(guard);
    assert_eq!(*mutex.lock().expect("somebody has"), [1, 1]);
    // Who takes the lock while it unwinds, and gives it back, has not panicked over it.
    struct Tidies(Mutex<[u64; 2]>);
    impl Drop for Tidies {
        fn drop(&mut self) {
            *self.0.lock().expect("it is free") = [2, 2];
        }
    }
    let tidies = Tidies(mutex.try_clone().expect("another handle"));
    std::thread::spawn(move || {
        let _tidies = tidies;
        panic!("with the lock free");
    })
    .join()
    .expect_err("it panicked");
    assert_eq!(*mutex.lock().expect("nobody panicked over it"), [2, 2]);
}

/// A rank that takes the lock, writes one half, says so and waits to be ended.
fn holds(name: &str, tally: &str) -> Result<(), String> {
    let mut mutex = Mutex::<[u64; 2]>::open(name, 3).map_err(text)?;
    let mut guard = mutex.lock().map_err(text)?;
    guard[0] = 7;
    let tally = Tally::open(tally, 1);
    tally.set_flag(HELD, 1);
    wait_to_be_ended()
}

/// MTX-4
#[test]
fn mtx_4_a_killed_owner_hands_the_lock_to_one_of_those_that_wait() {
    let (name, tally_name) = (name("killed"), name("killed-tally"));
    let running = rank(|| holds(&name, &tally_name));
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    tally.wait_for_flag(HELD, 0);
    let pid = running.pids()[0];
    let open = || Mutex::<[u64; 2]>::open(&name, 3).expect("a seat is free");
    let (mut one, mut two) = (open(), open());
    let busy = one.try_lock().expect_err("it is held").without_guard();
    assert_eq!(busy, LockError::Busy { holder: Some(Peer { seat: 0, pid }) });
    let heir = |mutex: &mut Mutex<[u64; 2]>| match mutex.lock_timeout(PATIENCE) {
        Err(LockError::OwnerDied { peer, mut guard }) => {
            assert_eq!((peer, *guard), (Peer { seat: 0, pid }, [7, 0]));
            guard[1] = 7;
            guard.mark_consistent();
            true
        }
        Ok(guard) => {
            assert_eq!(*guard, [7, 7]);
            false
        }
        Err(e) => panic!("{e}"),
    };
    let heirs = std::thread::scope(|s| {
        let waiting = [&mut one, &mut two].map(|mutex| s.spawn(|| heir(mutex)));
        kill(&running, 0);
        waiting.map(|t| t.join().expect("it has had the lock"))
    });
    assert!(heirs[0] != heirs[1], "one of them is told, and says that it is whole: {heirs:?}");
    assert_eq!(running.wait(PATIENCE).expect("it ends").exits, [Exit::Signal(9)]);
    // Its seat can be had again.
    let mut newcomer = open();
    assert_eq!(newcomer.seat(), 0);
    assert_eq!(*newcomer.lock().expect("whole"), [7, 7]);
}

/// MTX-4
#[test]
fn mtx_4_a_newcomer_to_the_dead_ones_seat_frees_the_lock_and_names_the_dead() {
    let (name, tally_name) = (name("newcomer"), name("newcomer-tally"));
    let running = rank(|| holds(&name, &tally_name));
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    tally.wait_for_flag(HELD, 0);
    let pid = running.pids()[0];
    let open = || Mutex::<[u64; 2]>::open(&name, 3).expect("a seat is free");
    let mut other = open();
    kill(&running, 0);
    running.wait(PATIENCE).expect("it ends");
    let newcomer = open();
    assert_eq!(newcomer.seat(), 0);
    for _ in 0..2 {
        let said = other.try_lock().expect_err("nobody has answered for it");
        assert!(
            matches!(&said, LockError::OwnerDied { peer: Peer { seat: 0, pid: p }, .. } if *p == pid),
            "{said}"
        );
    }
}

/// MTX-4
#[test]
fn mtx_4_a_stopped_owner_is_named_and_never_dead() {
    let (name, tally_name) = (name("stopped"), name("stopped-tally"));
    let running = rank(|| {
        let mut mutex = Mutex::<u64>::open(&name, 2).map_err(text)?;
        let mut guard = mutex.lock().map_err(text)?;
        let tally = Tally::open(&tally_name, 1);
        tally.set_flag(HELD, 1);
        tally.wait_for_flag(GO, 0);
        *guard = 5;
        Ok(())
    });
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    let tally = Tally::open(&tally_name, 1);
    tally.wait_for_flag(HELD, 0);
    let holder = Peer { seat: 0, pid: running.pids()[0] };
    running.signal(0, Signal::SIGSTOP).expect("a child of ours can be stopped");
    until("the rank is stopped", || state(holder.pid) == Some('T'));
    let mut mutex = Mutex::<u64>::open(&name, 2).expect("a seat is free");
    for _ in 0..2000 {
        let busy = mutex.try_lock().expect_err("it is held").without_guard();
        assert_eq!(busy, LockError::Busy { holder: Some(holder) });
    }
    let limit = Duration::from_millis(120);
    match mutex.lock_timeout(limit).expect_err("it is held").without_guard() {
        LockError::Timeout { holder: Some(named), waited } => {
            assert!(named == holder && waited >= limit, "{named}, {waited:?}");
        }
        other => panic!("{other}"),
    }
    tally.set_flag(GO, 1);
    running.signal(0, Signal::SIGCONT).expect("a child of ours can go on");
    assert_eq!(*mutex.lock_timeout(PATIENCE).expect("it gives it back"), 5);
    ended_well(running);
}

/// MTX-4
#[test]
fn mtx_4_no_time_at_all_is_enough_to_inherit() {
    let (name, tally_name) = (name("at-once"), name("at-once-tally"));
    let running = rank(|| holds(&name, &tally_name));
    let _forget = [Forget::name(&name), Forget::name(&tally_name)];
    Tally::open(&tally_name, 1).wait_for_flag(HELD, 0);
    let mut mutex = Mutex::<[u64; 2]>::open(&name, 3).expect("a seat is free");
    let said = mutex.lock_timeout(Duration::ZERO).expect_err("it is held").without_guard();
    assert!(matches!(said, LockError::Timeout { holder: Some(Peer { seat: 0, .. }), .. }), "{said}");
    kill(&running, 0);
    running.wait(PATIENCE).expect("it ends");
    let said = mutex.lock_timeout(Duration::ZERO).expect_err("it is torn");
    assert!(matches!(said, LockError::OwnerDied { peer: Peer { seat: 0, .. }, .. }), "{said}");
}

fn in_a_fork(child: impl FnOnce() -> bool) {
    // SAFETY: the child uses its copies of the handles and ends; glibc keeps its allocator usable there.
    match unsafe { libc::fork() } {
        0 => {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends this process at once, without handlers of its parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        pid => match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => {}
            other => panic!("the child {pid}: {other:?}"),
        },
    }
}

/// MTX-3
#[test]
fn mtx_3_a_forked_child_neither_has_the_lock_nor_gives_it_back() {
    for mut mutex in [Mutex::new(3_u64), Mutex::create(3_u64, 2)].map(|made| made.expect("memory")) {
        let mut other = mutex.try_clone().expect("another handle");
        let mut guard = mutex.lock().expect("it is free");
        in_a_fork(|| {
            let refused = other.try_lock().expect_err("a forked child").without_guard() == LockError::Forked
                && other.lock().expect_err("a forked child").without_guard() == LockError::Forked;
            std::panic::set_hook(Box::new(|_| {}));
            let denied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| *guard)).is_err();
            // SAFETY: the parent's copy lives in the parent's memory; this one is dropped here once.
            drop(unsafe { std::ptr::read(&guard) });
            refused && denied
        });
        assert_eq!(other.try_lock().expect_err("ours").without_guard(), LockError::WouldDeadlock);
        *guard += 1;
        drop(guard);
        assert_eq!(*other.lock().expect("nobody died"), 4);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let said = Mutex::<u64>::create(0, 0).expect_err("nobody");
    assert!(matches!(said, Error::Participants { asked: 0, most: mutex::PARTICIPANTS }), "{said}");
    let mutex = Mutex::<u64>::create(1, 2).expect("memory");
    let segment = mutex.segment().expect("in one");
    let said = Mutex::<[u64; 2]>::attach(segment).expect_err("another value");
    assert!(said.to_string().contains("16 bytes"), "{said}");
    let _second = mutex.try_clone().expect("a seat is free");
    let said = mutex.try_clone().expect_err("none is");
    assert!(matches!(said, Error::NoSeat { seats: 2 }), "{said}");
    let mutex = Mutex::new(()).expect("memory");
    let all: Vec<_> = (1..mutex::THREADS).map(|_| mutex.try_clone().expect("a seat is free")).collect();
    let said = mutex.try_clone().expect_err("none is");
    assert!(matches!(said, Error::NoSeat { seats: mutex::THREADS }), "{said}");
    drop(all);
    mutex.try_clone().expect("seats of threads can be had again");
}

/// Errors go where guards can't.
#[test]
fn an_error_without_its_guard_can_be_sent() {
    fn sum(mutex: &mut Mutex<u64>) -> Result<u64, LockError<()>> {
        Ok(*mutex.lock()?)
    }
    fn can_be_sent<T: Send + Sync + 'static>(_: &T) {}
    let mut mutex = Mutex::new(2).expect("memory");
    can_be_sent(&sum(&mut mutex));
    assert_eq!(sum(&mut mutex), Ok(2));
    let guard: Guard<'_, u64> = mutex.lock().expect("it is free");
    assert_eq!(format!("{guard:?}"), "Guard(2)");
}
