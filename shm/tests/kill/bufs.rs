//! Buffers: lent, shared, adopted, cloned and dropped by one that dies in the middle of it. In the end all are free.

use std::sync::Arc;

use sapwood_shm::Segment;
use sapwood_shm::bufs::{AdoptError, AllocError, Descriptor, Pool, SharedBuf};
use sapwood_shm::ring::PopError;
use sapwood_shm::ring::mpmc::Ring;

use crate::common::until;
use crate::sweep::{Death, Stall};

const BUFS: usize = 2;
const BYTES: usize = 64;

/// The survivor's ends.
pub(crate) struct World {
    pools: Arc<Segment>,
    rings: Arc<Segment>,
    pool: Pool,
    ring: Ring<Descriptor>,
}

/// The actor's.
pub(crate) struct Actor {
    pool: Option<Pool>,
    ring: Ring<Descriptor>,
    buf: Option<SharedBuf<u64>>,
}

impl World {
    fn new() -> World {
        let pool = Pool::create(BUFS, BYTES, 2).expect("there is memory");
        let ring = Ring::create(4, 2).expect("there is memory");
        let rings = ring.segment().expect("it is in one").clone();
        World { pools: pool.segment().clone(), rings, pool, ring }
    }

    /// With a buffer on its way that nobody else holds.
    fn sent() -> World {
        let mut world = World::new();
        send(&world.pool, &mut world.ring, 1);
        world
    }

    fn actor(&self) -> Actor {
        let pool = Pool::attach(&self.pools, BUFS, BYTES).expect("a seat is free");
        let ring = Ring::attach(&self.rings, 4).expect("a seat is free");
        Actor { pool: Some(pool), ring, buf: None }
    }

    /// Whatever comes, by a newcomer to the dead one's end of the ring. Says what it was, and how many were void.
    fn drain(&mut self) -> (Vec<u64>, usize) {
        let (mut got, mut void) = (Vec::new(), 0);
        let mut newcomer = Ring::<Descriptor>::attach(&self.rings, 4).expect("its holder is dead");
        until("nothing is left", || match newcomer.try_pop_with(|d| self.pool.adopt::<u64>(d)) {
            Ok(Ok(buf)) => {
                assert!(buf.len() == 8 && buf.iter().all(|v| *v == buf[0]), "torn: {:?}", &buf[..]);
                got.push(buf[0]);
                false
            }
            Ok(Err(e)) => {
                assert!(matches!(e, AdoptError::Void { .. }), "{e}");
                void += 1;
                false
            }
            Err(PopError::Busy { .. }) => false,
            Err(e) => e == PopError::Empty,
        });
        (got, void)
    }

    /// All buffers can be had, each once, by the survivor alone or after a newcomer to the dead one's seat.
    fn all_are_free(self, newcomer: bool) {
        let newcomer = newcomer.then(|| Pool::attach(&self.pools, BUFS, BYTES).expect("its holder is dead"));
        let mut all = Vec::new();
        until("all buffers are free", || {
            match self.pool.alloc::<u64>(8) {
                Ok(buf) => all.push(buf),
                Err(e) => assert!(matches!(e, AllocError::Exhausted { .. }), "{e}"),
            }
            all.len() == BUFS
        });
        assert_ne!(all[0].as_ptr(), all[1].as_ptr(), "each once");
        let stats = self.pool.stats();
        assert_eq!((stats.held, stats.in_flight), (2, 0));
        drop(newcomer);
    }
}

fn send(pool: &Pool, ring: &mut Ring<Descriptor>, value: u64) {
    let mut buf = pool.alloc::<u64>(8).expect("one is free");
    buf.fill(value);
    let descriptor = buf.into_descriptor().expect("there is a place");
    assert!(ring.try_push(descriptor).is_ok(), "there is room");
}

fn adopt(actor: &mut Actor) -> Option<SharedBuf<u64>> {
    let Actor { pool: Some(pool), ring, .. } = actor else { return None };
    ring.try_pop_with(|d| pool.adopt::<u64>(d)).ok().and_then(Result::ok)
}

pub(crate) struct Send;

impl Death for Send {
    const NAME: &'static str = "allocate a buffer, fill it, hand it over";
    type World = World;
    type Actor = Actor;
    fn world() -> World {
        World::new()
    }
    fn arrive(world: &World) -> Actor {
        world.actor()
    }
    fn act(actor: &mut Actor) -> impl Sized {
        if let Some(pool) = &actor.pool {
            send(pool, &mut actor.ring, 2);
        }
    }
    fn survive(world: World, completed: bool) -> &'static str {
        sent_or_not(world, 2, completed, false)
    }
}

/// The buffer that begins with `value` is there or was never sent; nothing is void, and all are free in the end.
fn sent_or_not(mut world: World, value: u64, completed: bool, newcomer: bool) -> &'static str {
    let (got, void) = world.drain();
    assert!(got == [value] || got.is_empty() && !completed, "{got:?}");
    assert_eq!(void, 0);
    world.all_are_free(newcomer);
    if got.is_empty() { "not sent" } else { "sent" }
}

pub(crate) struct Share;

impl Death for Share {
    const NAME: &'static str = "share a buffer, clone it, drop both";
    type World = World;
    type Actor = Actor;
    fn world() -> World {
        World::sent()
    }
    fn arrive(world: &World) -> Actor {
        let mut actor = world.actor();
        actor.buf = adopt(&mut actor);
        assert!(actor.buf.is_some(), "it is on its way");
        actor
    }
    fn act(actor: &mut Actor) -> impl Sized {
        let buf = actor.buf.take();
        if let Some(descriptor) = buf.as_ref().and_then(|b| b.share().ok()) {
            let _ = actor.ring.try_push(descriptor);
        }
        let clone = buf.as_ref().and_then(|b| b.try_clone().ok());
        drop(buf);
        drop(clone);
    }
    fn survive(world: World, completed: bool) -> &'static str {
        sent_or_not(world, 1, completed, true)
    }
}

pub(crate) struct Adopt;

impl Death for Adopt {
    const NAME: &'static str = "adopt a buffer while its message is in the ring, drop it";
    type World = World;
    type Actor = Actor;
    fn world() -> World {
        World::sent()
    }
    fn arrive(world: &World) -> Actor {
        world.actor()
    }
    fn act(actor: &mut Actor) -> impl Sized {
        adopt(actor).map(|buf| buf[0])
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // Nothing is lost: it comes again, or the dead one has had it.
        let (got, void) = world.drain();
        assert!(got == [1] && !completed && void == 0 || got.is_empty(), "{got:?}");
        world.all_are_free(false);
        match (got.is_empty(), void) {
            (false, _) => "left",
            (true, 0) => "taken",
            _ => "taken, and its message comes again",
        }
    }
}

pub(crate) struct AdoptLate;

impl Death for AdoptLate {
    const NAME: &'static str = "take a descriptor out of the ring, then adopt its buffer";
    type World = World;
    type Actor = Actor;
    fn world() -> World {
        World::sent()
    }
    fn arrive(world: &World) -> Actor {
        world.actor()
    }
    fn act(actor: &mut Actor) -> impl Sized {
        let Actor { pool: Some(pool), ring, .. } = actor else { return None };
        ring.try_pop().ok().and_then(|d| pool.adopt::<u64>(d).ok())
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let (got, void) = world.drain();
        assert!(got == [1] && !completed || got.is_empty(), "{got:?}");
        assert_eq!(void, 0);
        // What was lost between the two its sender recalls.
        let lost = world.pool.recall();
        assert!(lost == 0 || got.is_empty() && !completed);
        world.all_are_free(false);
        match (got.is_empty(), lost) {
            (false, _) => "left",
            (true, 0) => "taken",
            _ => "lost, and recalled",
        }
    }
}

pub(crate) struct Leave;

impl Death for Leave {
    const NAME: &'static str = "drop a pool with a descriptor on its way";
    type World = World;
    type Actor = Actor;
    fn world() -> World {
        World::new()
    }
    fn arrive(world: &World) -> Actor {
        let mut actor = world.actor();
        if let Some(pool) = &actor.pool {
            send(pool, &mut actor.ring, 3);
        }
        actor
    }
    fn act(actor: &mut Actor) -> impl Sized {
        drop(actor.pool.take());
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // A newcomer to the seat: what one that has left had sent stands, what one that died had sent is void.
        let newcomer = Pool::attach(&world.pools, BUFS, BYTES).expect("its holder is dead");
        let (got, void) = world.drain();
        assert!(got == [3] && void == 0 || got.is_empty() && void == 1 && !completed, "{got:?}, {void}");
        drop(newcomer);
        world.all_are_free(true);
        if void == 0 { "it stands" } else { "it is void" }
    }
}

/// What one that stands still has to do with those who go on: its sender recalls what it is adopting.
pub(crate) struct StallAdopt;

/// With how many descriptors the sender had recalled.
pub(crate) struct Recalling {
    world: World,
    descriptor: Descriptor,
    recalled: usize,
}

impl Stall for StallAdopt {
    const NAME: &'static str = "adopt a buffer, while its sender recalls it and wants all buffers";
    type World = Recalling;
    type Actor = (Actor, Descriptor);
    type Done = Option<u64>;
    fn world() -> Recalling {
        let world = World::new();
        let mut buf = world.pool.alloc::<u64>(8).expect("one is free");
        buf.fill(1);
        let descriptor = buf.into_descriptor().expect("there is a place");
        Recalling { world, descriptor, recalled: 0 }
    }
    fn arrive(recalling: &Recalling) -> (Actor, Descriptor) {
        (recalling.world.actor(), recalling.descriptor)
    }
    fn act((actor, descriptor): &mut (Actor, Descriptor)) -> Option<u64> {
        let pool = actor.pool.as_ref()?;
        let buf = pool.adopt::<u64>(*descriptor).ok()?;
        let first = buf[0];
        buf.iter().all(|v| *v == first).then_some(first)
    }
    fn meanwhile(recalling: &mut Recalling, _: bool) {
        let pool = &recalling.world.pool;
        recalling.recalled = pool.recall();
        // Whatever is free is written over: it must not be what the other one reads.
        let all: Vec<_> = (0..BUFS).map_while(|_| pool.alloc::<u64>(8).ok()).collect();
        assert!(!all.is_empty(), "one was free all the while");
        for mut buf in all {
            buf.fill(9);
        }
    }
    fn report(_: (Actor, Descriptor), done: Option<u64>) -> u8 {
        done.map_or(0, |value| value as u8)
    }
    fn conclude(recalling: Recalling, report: u8) -> &'static str {
        assert_eq!((recalling.recalled, report), (1 - usize::from(report == 1), u8::from(report == 1)));
        recalling.world.all_are_free(true);
        if report == 1 { "adopted" } else { "recalled" }
    }
}
