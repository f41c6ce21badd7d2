//! A mutex and a barrier: one takes, changes, gives back, inherits and recovers the lock, or comes to the barrier and
//! leaves it, and dies in the middle of that.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sapwood_shm::barrier::{Arrived, Barrier, BarrierError};
use sapwood_shm::mutex::{LockError, Mutex};
use sapwood_shm::{Segment, barrier};

use crate::common::set;
use crate::sweep::Death;

type Halves = [u64; 2];

/// The survivor's handle.
pub(crate) struct World {
    segment: Arc<Segment>,
    mutex: Mutex<Halves>,
}

fn world() -> World {
    let mutex = Mutex::create([1, 1], 3).expect("there is memory");
    World { segment: mutex.segment().expect("it is in one").clone(), mutex }
}

fn arrive(world: &World) -> Mutex<Halves> {
    Mutex::attach(&world.segment).expect("a seat is free")
}

/// Takes the lock. Says whether somebody had left it, and what it guarded.
fn take(mutex: &mut Mutex<Halves>) -> (bool, Halves) {
    let (told, mut guard) = match mutex.lock() {
        Ok(guard) => (false, guard),
        Err(LockError::OwnerDied { guard, .. }) => (true, guard),
        Err(e) => panic!("{e}"),
    };
    let found = *guard;
    assert!(told || found[0] == found[1], "torn, and nobody is named: {found:?}");
    *guard = [9, 9];
    guard.mark_consistent();
    (told, found)
}

/// The survivor takes the lock; then it works, for a newcomer to the dead one's seat too.
fn survive(mut world: World) -> (bool, Halves) {
    let found = take(&mut world.mutex);
    let mut newcomer = arrive(&world);
    for mutex in [&mut newcomer, &mut world.mutex] {
        assert_eq!(take(mutex), (false, [9, 9]));
        drop(mutex.try_lock().expect("nobody has it"));
    }
    found
}

/// What the actor does with the lock.
fn change(mutex: &mut Mutex<Halves>, from: u64) {
    let mut guard = mutex.lock().expect("nobody has it");
    assert_eq!(*guard, [from; 2]);
    guard[0] += 1;
    guard[1] += 1;
}

pub(crate) struct Take;

impl Death for Take {
    const NAME: &'static str = "take a lock";
    type World = World;
    type Actor = Mutex<Halves>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(mutex: &mut Self::Actor) -> impl Sized {
        mutex.lock()
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (told, found) = survive(world);
        assert!(found == [1, 1] && (told || !completed));
        if told { "taken" } else { "not taken" }
    }
}

pub(crate) struct Change;

impl Death for Change {
    const NAME: &'static str = "take a lock, change, give it back, and again";
    type World = World;
    type Actor = Mutex<Halves>;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(mutex: &mut Self::Actor) -> impl Sized {
        change(mutex, 1);
        change(mutex, 2);
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (told, found) = survive(world);
        assert!(!completed || (told, found) == (false, [3, 3]), "{told}, {found:?}");
        match (told, found) {
            (true, [a, b]) => {
                assert!(a == b || a == b + 1, "{found:?}");
                if a == b { "with the lock" } else { "between the halves" }
            }
            (false, [1, 1]) => "before",
            (false, [2, 2]) => "between",
            (false, [3, 3]) => "after",
            (false, _) => panic!("{found:?}"),
        }
    }
}

pub(crate) struct GiveBack;

impl Death for GiveBack {
    const NAME: &'static str = "give a lock back that is waited for";
    type World = World;
    type Actor = Mutex<Halves>;
    fn world() -> World {
        let world = world();
        // Somebody waited once, and is gone.
        set(&world.segment, 0, 1);
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(mutex: &mut Self::Actor) -> impl Sized {
        change(mutex, 1);
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (told, found) = survive(world);
        assert!(!completed || (told, found) == (false, [2, 2]), "{told}, {found:?}");
        if told { "with the lock" } else { "without" }
    }
}

/// A process takes a seat, takes the lock, writes one half and ends.
fn dead_owner(segment: &Arc<Segment>) {
    // SAFETY: this process has one thread; the child ends without handlers.
    match unsafe { libc::fork() } {
        0 => {
            let mut mutex = Mutex::<Halves>::attach(segment).expect("a seat is free");
            let mut guard = mutex.lock().expect("nobody has it");
            guard[0] = 5;
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) }
        }
        pid => _ = waitpid(Pid::from_raw(pid), None).expect("a child of ours"),
    }
}

pub(crate) struct Inherit;

impl Death for Inherit {
    const NAME: &'static str = "take a lock from the dead";
    type World = World;
    type Actor = Mutex<Halves>;
    fn world() -> World {
        let world = world();
        // The actor is to sit in seat 1: in the dead one's it would recover it.
        let spare = arrive(&world);
        dead_owner(&world.segment);
        drop(spare);
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        arrive(world)
    }
    fn act(mutex: &mut Self::Actor) -> impl Sized {
        if let Err(LockError::OwnerDied { mut guard, .. }) = mutex.lock() {
            guard[1] = 5;
            guard.mark_consistent();
        }
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (told, found) = survive(world);
        assert!(!completed || (told, found) == (false, [5, 5]), "{told}, {found:?}");
        match (told, found) {
            (true, [5, 1]) => "half",
            (true, [5, 5]) => "whole, and nobody has said so",
            (false, [5, 5]) => "whole",
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Recover;

impl Death for Recover {
    const NAME: &'static str = "recover a lock from the dead";
    type World = World;
    type Actor = (Arc<Segment>, Option<Mutex<Halves>>);
    fn world() -> World {
        let world = world();
        dead_owner(&world.segment);
        world
    }
    fn arrive(world: &World) -> Self::Actor {
        (world.segment.clone(), None)
    }
    fn act((segment, mutex): &mut Self::Actor) -> impl Sized {
        *mutex = Mutex::attach(segment).ok();
    }
    fn survive(world: World, _: bool) -> &'static str {
        let found = survive(world);
        assert_eq!(found, (true, [5, 1]));
        "told"
    }
}

/// Long enough for every death to be learnt of.
const LONG: Duration = Duration::from_secs(20);

/// Seat 0, which survives, of a barrier for two.
pub(crate) struct Yard {
    segment: Arc<Segment>,
    barrier: Barrier,
}

fn yard() -> Yard {
    let barrier = Barrier::create(2).expect("there is memory");
    Yard { segment: barrier.segment().expect("it is in one").clone(), barrier }
}

/// The survivor's wait; and that the next one fails, whatever came of this.
fn wait(yard: &mut Yard) -> Result<Arrived, BarrierError> {
    let first = yard.barrier.wait_timeout(LONG);
    let second = yard.barrier.wait_timeout(LONG).expect_err("the other one is dead");
    match &first {
        Ok(arrived) => {
            assert_eq!(arrived.generation, 1);
            let gone = |e: &BarrierError| match e {
                BarrierError::PeerDied { peer, generation } | BarrierError::PeerLeft { peer, generation } => {
                    (peer.seat, *generation) == (1, 2)
                }
                _ => false,
            };
            assert!(gone(&second), "{second}");
        }
        Err(e) => assert_eq!(*e, second, "it stays broken, for the same reason"),
    }
    first
}

pub(crate) struct ArriveFirst;

impl Death for ArriveFirst {
    const NAME: &'static str = "come to a barrier first, and give up";
    type World = Yard;
    type Actor = Barrier;
    fn world() -> Yard {
        yard()
    }
    fn arrive(yard: &Yard) -> Barrier {
        Barrier::attach(&yard.segment).expect("a seat is free")
    }
    fn act(barrier: &mut Barrier) -> impl Sized {
        barrier.wait_timeout(Duration::ZERO)
    }
    fn survive(mut yard: Yard, completed: bool) -> &'static str {
        match wait(&mut yard) {
            Ok(_) if !completed => "came",
            Err(BarrierError::PeerDied { generation: 1, .. }) if !completed => "did not come",
            Err(BarrierError::Broken { missing, generation: 1 }) if missing.seat == 0 => "gave up",
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct ArriveLast;

impl Death for ArriveLast {
    const NAME: &'static str = "come to a barrier last";
    type World = Yard;
    type Actor = Barrier;
    fn world() -> Yard {
        let yard = yard();
        // The survivor has arrived already: its wait will only look for the verdict.
        assert_eq!(yard.segment.spec(), &barrier::spec(2).expect("two"));
        set(&yard.segment, ARRIVAL, 1);
        yard
    }
    fn arrive(yard: &Yard) -> Barrier {
        Barrier::attach(&yard.segment).expect("a seat is free")
    }
    fn act(barrier: &mut Barrier) -> impl Sized {
        assert!(barrier.wait_timeout(LONG).expect("both have come").leader);
    }
    fn survive(mut yard: Yard, completed: bool) -> &'static str {
        match wait(&mut yard) {
            Ok(Arrived { leader: false, .. }) => "passed",
            Ok(_) if !completed => "came, and its heir passed first",
            Err(BarrierError::PeerDied { generation: 1, .. }) if !completed => "did not come",
            other => panic!("{other:?}"),
        }
    }
}

/// The low half of seat 0's arrival, among the words of a barrier's body.
const ARRIVAL: usize = 64;

pub(crate) struct Leave;

impl Death for Leave {
    const NAME: &'static str = "leave a barrier";
    type World = Yard;
    type Actor = Option<Barrier>;
    fn world() -> Yard {
        yard()
    }
    fn arrive(yard: &Yard) -> Self::Actor {
        Some(Barrier::attach(&yard.segment).expect("a seat is free"))
    }
    fn act(barrier: &mut Self::Actor) -> impl Sized {
        drop(barrier.take());
    }
    fn survive(mut yard: Yard, completed: bool) -> &'static str {
        match wait(&mut yard) {
            Err(BarrierError::PeerLeft { .. }) => "left",
            Err(BarrierError::PeerDied { .. }) if !completed => "died",
            other => panic!("{other:?}"),
        }
    }
}
