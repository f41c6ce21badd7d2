//! Names: built, entered, taken over, taken away.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use sapwood_shm::{Error, Life, Seat, Segment, Spec};

use crate::common::{PATIENCE, file_of, own, owners, recover, spec};
use crate::sweep::Death;

/// A folder of the kind that names live in, empty, that goes with its value.
pub(crate) struct Names {
    pub(crate) folder: PathBuf,
    owner: u32,
}

impl Names {
    pub(crate) fn new() -> Names {
        static COUNT: Mutex<u64> = Mutex::new(0);
        let mut count = COUNT.lock().expect("nobody panics with it");
        *count += 1;
        let path = Path::new("/dev/shm").join(format!("sapwood-kill-{}-{count}", std::process::id()));
        fs::create_dir(&path).expect("a folder can be made");
        Names { folder: path, owner: std::process::id() }
    }

    /// For an actor.
    pub(crate) fn handle(&self) -> Names {
        Names { folder: self.folder.clone(), owner: self.owner }
    }

    pub(crate) fn enter(&self, spec: &Spec, seat: usize) -> Result<(Segment, Seat), Error> {
        Segment::enter_named_in(&self.folder, "x", spec, seat, PATIENCE)
    }

    pub(crate) fn enter_again(&self, seat: usize, deadline: Duration) -> Result<(Segment, Seat), Error> {
        Segment::enter_named_again_in(&self.folder, "x", &spec(2), Some(seat), deadline, recover)
    }

    /// Inode under the name.
    fn inode(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(file_of(&self.folder, "x")).ok().map(|m| m.ino())
    }

    /// A newcomer gets in, whatever it wants to build, and the name is all there is.
    fn newcomer_gets_in(&self, spec: &Spec) {
        let (segment, seat) = self.enter(spec, 0).expect("a newcomer gets in");
        assert_eq!(segment.life(0), Life::Alive);
        self.is_all_there_is(1);
        segment.unlink().expect("it is ours");
        self.is_all_there_is(0);
        drop(seat);
    }

    pub(crate) fn is_all_there_is(&self, names: usize) {
        let found: Vec<_> = fs::read_dir(&self.folder)
            .expect("it is there")
            .map(|e| e.expect("an entry").file_name())
            .collect();
        assert_eq!(found.len(), names, "{found:?}");
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // Not in an actor.
        if self.owner == std::process::id() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

pub(crate) struct Enter;

impl Death for Enter {
    const NAME: &'static str = "enter a free name";
    type World = Names;
    type Actor = Names;
    fn world() -> Names {
        Names::new()
    }
    fn arrive(names: &Names) -> Names {
        names.handle()
    }
    fn act(names: &mut Names) -> impl Sized {
        names.enter(&spec(2), 0).expect("the name is free")
    }
    fn survive(names: Names, completed: bool) -> &'static str {
        let linked = names.inode().is_some();
        assert!(linked || !completed);
        names.newcomer_gets_in(&spec(3));
        if linked { "a stale name" } else { "no name" }
    }
}

/// A name whose only holder is dead.
pub(crate) fn stale() -> Names {
    let names = Names::new();
    let (segment, seat) = names.enter(&spec(2), 0).expect("the name is free");
    drop(seat);
    assert_eq!(segment.life(0), Life::Dead);
    names
}

pub(crate) struct EnterStale;

impl Death for EnterStale {
    const NAME: &'static str = "enter a stale name";
    type World = (Names, Option<u64>);
    type Actor = Names;
    fn world() -> Self::World {
        let names = stale();
        let inode = names.inode();
        (names, inode)
    }
    fn arrive((names, _): &Self::World) -> Names {
        names.handle()
    }
    fn act(names: &mut Names) -> impl Sized {
        names.enter(&spec(2), 0).expect("the name is stale")
    }
    fn survive((names, old): Self::World, completed: bool) -> &'static str {
        let now = names.inode();
        names.newcomer_gets_in(&spec(3));
        match now {
            None => "no name",
            Some(_) if now == old && !completed => "the old name",
            Some(_) => "a new stale name",
        }
    }
}

pub(crate) struct EnterSecond;

impl Death for EnterSecond {
    const NAME: &'static str = "enter beside a living holder";
    type World = (Names, Segment, Seat);
    type Actor = Names;
    fn world() -> Self::World {
        let names = Names::new();
        let (segment, seat) = names.enter(&spec(2), 1).expect("the name is free");
        (names, segment, seat)
    }
    fn arrive((names, ..): &Self::World) -> Names {
        names.handle()
    }
    fn act(names: &mut Names) -> impl Sized {
        names.enter(&spec(2), 0).expect("seat 0 is free")
    }
    fn survive((names, segment, seat): Self::World, completed: bool) -> &'static str {
        let life = segment.life(0);
        assert!(life == Life::Dead || !completed);
        names.is_all_there_is(1);
        match names.enter(&spec(2), 0) {
            Ok((other, _seat)) => assert_eq!((other.nonce(), life), (segment.nonce(), Life::Absent)),
            Err(Error::SeatDead { seat: 0, .. }) => assert_eq!(life, Life::Dead),
            Err(e) => panic!("{e}"),
        }
        drop(seat);
        names.newcomer_gets_in(&spec(3));
        if life == Life::Absent { "absent" } else { "dead" }
    }
}

pub(crate) struct EnterAgain;

impl Death for EnterAgain {
    const NAME: &'static str = "enter at a dead seat";
    type World = (Names, Segment, Seat);
    type Actor = Names;
    fn world() -> Self::World {
        let names = Names::new();
        let (segment, living) = names.enter(&spec(2), 1).expect("the name is free");
        let (_, dead) = names.enter(&spec(2), 0).expect("seat 0 is free");
        own(&segment, &dead);
        (names, segment, living)
    }
    fn arrive((names, ..): &Self::World) -> Names {
        names.handle()
    }
    fn act(names: &mut Names) -> impl Sized {
        names.enter_again(0, PATIENCE).expect("seat 0 is dead")
    }
    fn survive((names, segment, living): Self::World, _: bool) -> &'static str {
        names.is_all_there_is(1);
        let (same, heir) = names.enter_again(0, PATIENCE).expect("a newcomer gets in");
        assert_eq!((same.nonce(), owners(&segment)), (segment.nonce(), vec![]));
        let epoch = heir.epoch();
        drop((heir, living));
        names.newcomer_gets_in(&spec(3));
        if epoch == 2 { "never came" } else { "came" }
    }
}

pub(crate) struct Create;

impl Death for Create {
    const NAME: &'static str = "create over a stale name";
    type World = (Names, Option<u64>);
    type Actor = Names;
    fn world() -> Self::World {
        EnterStale::world()
    }
    fn arrive((names, _): &Self::World) -> Names {
        names.handle()
    }
    fn act(names: &mut Names) -> impl Sized {
        Segment::create_named_in(&names.folder, "x", &spec(2), 0).expect("the name is stale")
    }
    fn survive(world: Self::World, completed: bool) -> &'static str {
        EnterStale::survive(world, completed)
    }
}

pub(crate) struct Unlink;

impl Death for Unlink {
    const NAME: &'static str = "take a name away";
    type World = Names;
    type Actor = (Segment, Seat);
    fn world() -> Names {
        Names::new()
    }
    fn arrive(names: &Names) -> (Segment, Seat) {
        names.enter(&spec(1), 0).expect("the name is free")
    }
    fn act((segment, _): &mut (Segment, Seat)) -> impl Sized {
        segment.unlink().expect("it is ours");
    }
    fn survive(names: Names, completed: bool) -> &'static str {
        let linked = names.inode().is_some();
        assert!(!linked || !completed);
        names.newcomer_gets_in(&spec(3));
        if linked { "a stale name" } else { "no name" }
    }
}

pub(crate) struct Build;

impl Death for Build {
    const NAME: &'static str = "build in an inherited file";
    type World = OwnedFd;
    type Actor = Option<OwnedFd>;
    fn world() -> OwnedFd {
        Segment::anonymous_fd().expect("a file can be made")
    }
    fn arrive(fd: &OwnedFd) -> Option<OwnedFd> {
        fd.try_clone().ok()
    }
    fn act(fd: &mut Option<OwnedFd>) -> impl Sized {
        Segment::build_or_attach(fd.take().expect("once"), &spec(2), PATIENCE).expect("nobody is at it")
    }
    fn survive(fd: OwnedFd, _: bool) -> &'static str {
        let built = |fd: &OwnedFd| {
            let fd = fd.try_clone().expect("descriptors can be duplicated");
            Segment::build_or_attach(fd, &spec(2), PATIENCE).expect("nobody is at it any more")
        };
        let segment = built(&fd);
        assert_eq!(segment.nonce(), built(&fd).nonce());
        assert_ne!(segment.nonce(), 0);
        let _seat = segment.take_seat(0).expect("nobody has sat there");
        "built"
    }
}
