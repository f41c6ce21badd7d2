//! Seats: taken, given up, taken again, looked at.
//!
//! # Safety
//! Forks processes of one thread, as the harness does.
#![allow(unsafe_code)]

use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sapwood_shm::{Error, Life, Seat, Segment};

use crate::common::{get, own, owners, recover, set, spec, until};
use crate::sweep::{Death, Stall};

fn world() -> Segment {
    Segment::create(&spec(2)).expect("there is memory")
}

/// The actor's own handle of a segment.
fn attach(segment: &Segment) -> Segment {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    segment.send(&ours).expect("it can be sent");
    Segment::receive(&theirs, &spec(2)).expect("it can be received")
}

/// A segment whose seat 0 has had a holder, which has left two words.
fn bequeathed() -> Segment {
    let segment = world();
    let seat = segment.take_seat_again(0, recover).expect("it is free");
    own(&segment, &seat);
    own(&segment, &seat);
    segment
}

/// Takes seat 0 as a newcomer does who finds it dead. Everything that the dead have left has an owner that is known as
/// dead and that is recovered. Says under which epoch, and which ones were recovered.
fn succeed(segment: &Segment) -> (u32, Vec<u32>) {
    let left = owners(segment);
    for (seat, epoch) in &left {
        assert!(!segment.owner_alive(*seat, *epoch), "({seat}, {epoch}) is dead");
    }
    let mut dead = Vec::new();
    let taken = segment.take_seat_again(0, |segment, me, epoch| {
        dead.push(epoch);
        recover(segment, me, epoch)
    });
    let seat = taken.expect("its holder is dead");
    assert_eq!(owners(segment), []);
    assert!(left.iter().all(|(_, epoch)| dead.contains(epoch)), "{left:?} were left, {dead:?} are recovered");
    assert!(segment.owner_alive(0, seat.epoch()) && segment.life(0) == Life::Alive);
    (seat.epoch(), dead)
}

pub(crate) struct Take;

impl Death for Take {
    const NAME: &'static str = "take a seat";
    type World = Segment;
    type Actor = Segment;
    fn world() -> Segment {
        world()
    }
    fn arrive(segment: &Segment) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> impl Sized {
        segment.take_seat(0).expect("it is free")
    }
    fn survive(segment: Segment, completed: bool) -> &'static str {
        let life = segment.life(0);
        assert!(life == Life::Dead || !completed);
        match segment.take_seat(0) {
            Ok(_seat) => assert_eq!(life, Life::Absent),
            Err(Error::SeatDead { seat: 0, .. }) => assert_eq!(life, Life::Dead),
            Err(e) => panic!("{e}"),
        }
        if life == Life::Absent { "absent" } else { "dead" }
    }
}

pub(crate) struct Leave;

impl Death for Leave {
    const NAME: &'static str = "give a seat up";
    type World = Segment;
    type Actor = (Segment, Option<Seat>);
    fn world() -> Segment {
        world()
    }
    fn arrive(segment: &Segment) -> (Segment, Option<Seat>) {
        let mine = attach(segment);
        let seat = mine.take_seat(0).expect("it is free");
        own(&mine, &seat);
        (mine, Some(seat))
    }
    fn act((_, seat): &mut (Segment, Option<Seat>)) -> impl Sized {
        drop(seat.take());
    }
    fn survive(segment: Segment, _: bool) -> &'static str {
        assert_eq!(segment.life(0), Life::Dead);
        let said = segment.take_seat(0).expect_err("the others know it as dead");
        assert!(matches!(said, Error::SeatDead { seat: 0, .. }), "{said}");
        assert_eq!(succeed(&segment), (2, vec![1]));
        "dead"
    }
}

pub(crate) struct TakeAgain;

impl Death for TakeAgain {
    const NAME: &'static str = "take a seat again";
    type World = Segment;
    type Actor = Segment;
    fn world() -> Segment {
        bequeathed()
    }
    fn arrive(segment: &Segment) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> impl Sized {
        segment.take_seat_again(0, recover).expect("its holder is dead")
    }
    fn survive(segment: Segment, completed: bool) -> &'static str {
        assert_eq!(segment.life(0), Life::Dead);
        let (epoch, dead) = succeed(&segment);
        match (epoch, dead.as_slice()) {
            (2, [1]) if !completed => "before it had a name",
            (3, [1, 2]) if !completed => "before it had recovered",
            (3, [2]) => "recovered",
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct TakeAny;

impl Death for TakeAny {
    const NAME: &'static str = "take any seat";
    type World = (Segment, Seat);
    type Actor = Segment;
    fn world() -> (Segment, Seat) {
        let segment = bequeathed();
        let other = segment.take_seat(1).expect("it is free");
        (segment, other)
    }
    fn arrive((segment, _): &(Segment, Seat)) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> impl Sized {
        let seat = segment.take_any_seat(recover).expect("the holder of seat 0 is dead");
        assert_eq!(seat.number(), 0);
        seat
    }
    fn survive((segment, other): (Segment, Seat), completed: bool) -> &'static str {
        assert!(segment.owner_alive(1, other.epoch()));
        TakeAgain::survive(segment, completed)
    }
}

/// Somebody looks at a seat that is just being taken. It is absent or alive, and never dead.
pub(crate) struct StallLooking;

impl Stall for StallLooking {
    const NAME: &'static str = "look at a seat while it is taken";
    type World = (Segment, Option<Seat>);
    type Actor = Segment;
    type Done = Life;
    fn world() -> Self::World {
        (world(), None)
    }
    fn arrive((segment, _): &Self::World) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> Life {
        segment.life(0)
    }
    fn meanwhile((segment, seat): &mut Self::World, _: bool) {
        *seat = Some(segment.take_seat(0).expect("it is free"));
    }
    fn report(_: Segment, life: Life) -> u8 {
        life as u8
    }
    fn conclude((segment, seat): Self::World, report: u8) -> &'static str {
        assert_eq!(segment.life(0), Life::Alive);
        drop(seat);
        match report {
            r if r == Life::Absent as u8 => "absent",
            r if r == Life::Alive as u8 => "alive",
            r => panic!("it looked like {r}, which is neither absent nor alive"),
        }
    }
}

/// What an actor found that wants seat 0 again.
fn got(seat: &Result<Seat, Error>) -> u8 {
    match seat {
        Ok(seat) => seat.epoch() as u8,
        Err(Error::SeatTaken { seat: 0, .. }) => 0,
        Err(e) => panic!("{e}"),
    }
}

/// Two want one seat: one of them gets it.
pub(crate) struct StallRival;

impl Stall for StallRival {
    const NAME: &'static str = "take a seat again while another does";
    type World = (Segment, Option<Result<Seat, Error>>);
    type Actor = Segment;
    type Done = Result<Seat, Error>;
    fn world() -> Self::World {
        (bequeathed(), None)
    }
    fn arrive((segment, _): &Self::World) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> Self::Done {
        segment.take_seat_again(0, recover)
    }
    fn meanwhile((segment, seat): &mut Self::World, _: bool) {
        *seat = Some(segment.take_seat_again(0, recover));
    }
    fn report(segment: Segment, seat: Self::Done) -> u8 {
        // The other one may be in the middle of what it recovers; it is the actor that stood still.
        assert!(seat.is_err() || owners(&segment).is_empty());
        got(&seat)
    }
    fn conclude((segment, seat): Self::World, report: u8) -> &'static str {
        let mine = got(&seat.expect("it was tried"));
        match (report, mine) {
            (2, 0) => assert_eq!(segment.life(0), Life::Dead),
            (0, 2) => assert_eq!(owners(&segment), []),
            other => panic!("the actor and the other got {other:?}"),
        }
        if mine == 0 { "the one who stood still" } else { "the other" }
    }
}

/// Others come and go meanwhile: then the actor gets the seat after them, under a name of its own.
pub(crate) struct StallPasser;

impl Stall for StallPasser {
    const NAME: &'static str = "take a seat again while others come and go";
    type World = (Segment, u8);
    type Actor = Segment;
    type Done = Result<Seat, Error>;
    fn world() -> Self::World {
        (bequeathed(), 0)
    }
    fn arrive((segment, _): &Self::World) -> Segment {
        attach(segment)
    }
    fn act(segment: &mut Segment) -> Self::Done {
        segment.take_seat_again(0, recover)
    }
    fn meanwhile((segment, other): &mut Self::World, _: bool) {
        for _ in 0..3 {
            let seat = segment.take_seat_again(0, recover);
            if let Ok(seat) = &seat {
                own(segment, seat);
            }
            *other = got(&seat);
        }
    }
    fn report(segment: Segment, seat: Self::Done) -> u8 {
        assert_eq!(owners(&segment), []);
        got(&seat)
    }
    fn conclude((segment, other): Self::World, report: u8) -> &'static str {
        assert_eq!(owners(&segment), []);
        match (other, report) {
            (4, 5) => "after the others",
            (0, 2) => "before the others",
            both => panic!("the last of the others and the actor got {both:?}"),
        }
    }
}

/// A child that has kept the lock of its dead parent, and the segment whose seat 0 that one had.
pub(crate) struct Orphan {
    segment: Segment,
    child: Pid,
    heir: Option<Seat>,
}

impl Orphan {
    fn new() -> Orphan {
        let segment = world();
        // SAFETY: this process has one thread; the child may do what any program may.
        let parent = unsafe { libc::fork() };
        if parent == 0 {
            let seat = segment.take_seat_again(0, recover).expect("it is free");
            own(&segment, &seat);
            // SAFETY: like fork without its handlers; both processes do nothing but the system calls below.
            unsafe {
                if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0 {
                    set(&segment, 0, libc::getpid().cast_unsigned());
                    libc::alarm(600); // should this whole program be ended
                    loop {
                        libc::pause();
                    }
                }
                libc::_exit(0)
            }
        }
        waitpid(Pid::from_raw(parent), None).expect("it ends");
        until("the child is there", || get(&segment, 0) != 0);
        let child = Pid::from_raw(get(&segment, 0).cast_signed());
        Orphan { segment, child, heir: None }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill(self.child, Signal::SIGKILL);
        let _ = waitpid(self.child, None); // where orphans come to us
    }
}

/// The words about the holder's process change under the eyes of whoever judges it by them.
pub(crate) struct StallJudging;

impl Stall for StallJudging {
    const NAME: &'static str = "judge a dead owner while its seat is taken again";
    type World = Orphan;
    type Actor = Segment;
    type Done = bool;
    fn world() -> Orphan {
        Orphan::new()
    }
    fn arrive(world: &Orphan) -> Segment {
        attach(&world.segment)
    }
    fn act(segment: &mut Segment) -> bool {
        segment.owner_alive(0, 1)
    }
    fn meanwhile(world: &mut Orphan, _: bool) {
        world.heir = Some(world.segment.take_seat_again(0, recover).expect("its holder is dead"));
    }
    fn report(segment: Segment, alive: bool) -> u8 {
        u8::from(alive) | u8::from(segment.owner_alive(0, 2)) << 1
    }
    fn conclude(world: Orphan, report: u8) -> &'static str {
        assert_eq!(report, 2, "1: the dead owner is alive; 2: the new one is");
        assert_eq!(owners(&world.segment), []);
        "dead"
    }
}

/// A newcomer stands still anywhere on its way to the seat: the dead owner is known as dead all the while, although a
/// child of it has its lock and the words about its process may be the newcomer's.
pub(crate) struct StallBurying;

impl Stall for StallBurying {
    const NAME: &'static str = "take a seat again while its dead owner is judged";
    type World = Orphan;
    type Actor = Segment;
    type Done = Seat;
    fn world() -> Orphan {
        Orphan::new()
    }
    fn arrive(world: &Orphan) -> Segment {
        attach(&world.segment)
    }
    fn act(segment: &mut Segment) -> Seat {
        segment.take_seat_again(0, recover).expect("its holder is dead")
    }
    fn meanwhile(world: &mut Orphan, _: bool) {
        assert!(!world.segment.owner_alive(0, 1));
    }
    fn report(segment: Segment, seat: Seat) -> u8 {
        assert!(segment.owner_alive(0, seat.epoch()) && !segment.owner_alive(0, 1));
        seat.epoch() as u8
    }
    fn conclude(world: Orphan, report: u8) -> &'static str {
        assert_eq!((report, owners(&world.segment)), (2, vec![]));
        "dead"
    }
}
