//! Several at one name: one of them stands still, at every instruction, while others do something whole. Whoever is let
//! in under the name must be in the segment that has it.

use std::time::Duration;

use sapwood_shm::{Error, Life, Seat, Segment};

use crate::common::{PATIENCE, get, recover, set, spec};
use crate::named::Names;
use crate::sweep::Stall;
use crate::tracer::{At, Traced, begin, end};

/// How long a newcomer waits for one who stands still.
const SHORT: Duration = Duration::from_millis(5);

type Entered = Result<(Segment, Seat), Error>;

/// Word of a segment's body that the actor sets in the one that it has entered.
const HERE: usize = 5;

/// What the actor leaves and says when it goes on: 1 if it was let in, 0 if it had to wait too long.
fn tell(entered: &Entered) -> u8 {
    match entered {
        Ok((segment, _)) => {
            set(segment, HERE, 1);
            1
        }
        Err(Error::Unsettled { .. }) => 0,
        Err(e) => panic!("{e}"),
    }
}

/// A name, its first segment, who sits at seat 1 of it, and who comes meanwhile.
pub(crate) struct World {
    names: Names,
    old: Segment,
    first: Option<Seat>,
    other: Option<Entered>,
    /// Whether the actor was seen at seat 0 of the first segment.
    came: bool,
}

impl World {
    fn new() -> World {
        let names = Names::new();
        let (old, first) = names.enter(&spec(2), 1).expect("the name is free");
        World { names, old, first: Some(first), other: None, came: false }
    }

    /// The other enters at seat 1.
    fn another_enters(&mut self) {
        self.other = Some(self.names.enter_again(1, SHORT));
    }

    /// Whether both are in one segment; `None` if the other had to wait for the actor.
    fn together(&self) -> Option<bool> {
        match self.other.as_ref().expect("it has tried") {
            Ok((segment, _)) => Some(get(segment, HERE) == 1),
            Err(Error::Unsettled { .. }) => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Whether the actor is in the first segment.
    fn in_the_old(&self) -> bool {
        get(&self.old, HERE) == 1
    }
}

/// Two enter a stale name at once.
pub(crate) struct Entering;

impl Stall for Entering {
    const NAME: &'static str = "enter a stale name while another enters";
    type World = World;
    type Actor = Names;
    type Done = Entered;
    fn world() -> World {
        let mut world = World::new();
        drop(world.first.take());
        world
    }
    fn arrive(world: &World) -> Names {
        world.names.handle()
    }
    fn act(names: &mut Names) -> Entered {
        names.enter_again(0, PATIENCE)
    }
    fn meanwhile(world: &mut World, _: bool) {
        world.another_enters();
    }
    fn report(_: Names, entered: Entered) -> u8 {
        tell(&entered)
    }
    fn conclude(world: World, report: u8) -> &'static str {
        world.names.is_all_there_is(1);
        assert_eq!(report, 1, "it is let in");
        match world.together() {
            None => "had to wait",
            Some(true) => "both at once",
            Some(false) => panic!("they are in different segments"),
        }
    }
}

/// The holder beside whom somebody enters leaves, and another enters: the name may be stale for a moment or not.
pub(crate) struct Leaving;

impl Stall for Leaving {
    const NAME: &'static str = "enter while the last holder leaves and another enters";
    type World = World;
    type Actor = Names;
    type Done = Entered;
    fn world() -> World {
        World::new()
    }
    fn arrive(world: &World) -> Names {
        world.names.handle()
    }
    fn act(names: &mut Names) -> Entered {
        names.enter_again(0, PATIENCE)
    }
    fn meanwhile(world: &mut World, _: bool) {
        drop(world.first.take());
        world.another_enters();
    }
    fn report(_: Names, entered: Entered) -> u8 {
        tell(&entered)
    }
    fn conclude(world: World, report: u8) -> &'static str {
        let old = world.in_the_old();
        Entering::conclude(world, report);
        if old { "in the old segment" } else { "in a new segment" }
    }
}

/// The name is taken away from a living segment, and another takes it.
pub(crate) struct Unlinking;

impl Stall for Unlinking {
    const NAME: &'static str = "enter while the name goes to another segment";
    type World = World;
    type Actor = Names;
    type Done = Entered;
    fn world() -> World {
        World::new()
    }
    fn arrive(world: &World) -> Names {
        world.names.handle()
    }
    fn act(names: &mut Names) -> Entered {
        names.enter_again(0, PATIENCE)
    }
    fn meanwhile(world: &mut World, _: bool) {
        world.old.unlink().expect("it is ours");
        world.came = world.old.life(0) != Life::Absent;
        world.another_enters();
    }
    fn report(_: Names, entered: Entered) -> u8 {
        tell(&entered)
    }
    fn conclude(world: World, report: u8) -> &'static str {
        world.names.is_all_there_is(1);
        assert_eq!(report, 1, "it is let in");
        match (world.together(), world.came) {
            (Some(true), _) => "in the new segment",
            (Some(false), true) => "in the old segment",
            other => panic!("the actor sat down where it had not been: {other:?}"),
        }
    }
}

/// Somebody who has kept a stale segment sits down in it while it is being retired.
pub(crate) struct Reviving;

impl Stall for Reviving {
    const NAME: &'static str = "enter a stale name while its segment is sat in again";
    type World = World;
    type Actor = Names;
    type Done = Entered;
    fn world() -> World {
        Entering::world()
    }
    fn arrive(world: &World) -> Names {
        world.names.handle()
    }
    fn act(names: &mut Names) -> Entered {
        names.enter_again(0, PATIENCE)
    }
    fn meanwhile(world: &mut World, _: bool) {
        match world.old.take_seat_again(1, recover) {
            Ok(seat) => world.first = Some(seat),
            Err(Error::Retired) => {}
            Err(e) => panic!("{e}"),
        }
    }
    fn report(_: Names, entered: Entered) -> u8 {
        tell(&entered)
    }
    fn conclude(world: World, report: u8) -> &'static str {
        world.names.is_all_there_is(1);
        assert_eq!(report, 1, "it is let in");
        match (world.first.is_some(), world.in_the_old()) {
            (true, true) => "revived",
            (false, false) => "retired",
            other => panic!("sat in the old segment, entered it: {other:?}"),
        }
    }
}

/// The last holder leaves, and somebody stands right before it takes the name away. Nobody may get in there any more,
/// unless the retirer has found it.
pub(crate) struct Retiring;

pub(crate) struct Retirer {
    world: World,
    retirer: Option<(Traced, At)>,
}

impl Stall for Retiring {
    const NAME: &'static str = "enter while another is about to take the name away";
    type World = Retirer;
    type Actor = Names;
    type Done = Entered;
    fn world() -> Retirer {
        Retirer { world: World::new(), retirer: None }
    }
    fn arrive(world: &Retirer) -> Names {
        world.world.names.handle()
    }
    fn act(names: &mut Names) -> Entered {
        names.enter_again(0, SHORT)
    }
    fn meanwhile(Retirer { world, retirer }: &mut Retirer, _: bool) {
        drop(world.first.take());
        let body = || {
            begin();
            let entered = world.names.enter_again(1, PATIENCE);
            end();
            let (segment, _seat) = entered.expect("seat 1 is free");
            get(&segment, HERE) as u8
        };
        let mut traced = Traced::start(body).expect("it could be traced before");
        let at = traced.until_call(libc::SYS_unlink);
        *retirer = Some((traced, at));
    }
    fn report(_: Names, entered: Entered) -> u8 {
        tell(&entered)
    }
    fn conclude(Retirer { world, retirer }: Retirer, report: u8) -> &'static str {
        let (traced, at) = retirer.expect("it was started");
        let together = traced.finish(at) == 1;
        world.names.is_all_there_is(1);
        match (at, report, together) {
            (At::Inside, 0, false) => "had to wait",
            (At::Behind, 1, true) => "together",
            other => panic!("where the retirer was, whether the actor got in, whether they met: {other:?}"),
        }
    }
}
