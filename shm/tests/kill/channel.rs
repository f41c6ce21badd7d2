//! Channels at which somebody sleeps: used by one that dies in the middle of it.
//!
//! The sleeper is a process of its own, which is asleep in the kernel before the actor begins. Whatever the actor has
//! done when it is killed, the sleeper wakes once there is something for it, and the survivor loses nothing.
//!
//! # Safety
//! Forks the sleeper from this process, which has one thread; the child leaves without unwinding or destructors.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::Segment;
use sapwood_shm::channel::{Channel, FrameChannel, RecvError, State};

use crate::common::{PATIENCE, until};
use crate::sweep::{Death, Stall};

type Value = [u64; 7];

fn value(i: u64) -> Value {
    [i, !i, i, !i, i, !i, i]
}

/// What a sleeper says of the end of a channel.
const DRAINED: u8 = 200;
/// What it says of anything that must not be.
const WRONG: u8 = 250;

/// A process that is asleep at a channel, and says in a byte what it was woken for.
struct Sleeper(Option<Pid>);

impl Sleeper {
    fn start(then: impl FnOnce() -> u8) -> Sleeper {
        // SAFETY: see the top.
        match unsafe { fork() }.expect("a child can be made") {
            ForkResult::Child => {
                // SAFETY: takes numbers. Nobody is left to wait for it once its parent is gone.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(then)).unwrap_or(WRONG);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(i32::from(said)) }
            }
            ForkResult::Parent { child } => {
                let at = format!("/proc/{child}/syscall");
                let futex = format!("{} ", libc::SYS_futex);
                until("it sleeps", || std::fs::read_to_string(&at).is_ok_and(|s| s.starts_with(&futex)));
                Sleeper(Some(child))
            }
        }
    }

    fn said(mut self) -> u8 {
        match waitpid(self.0.take().expect("it was started"), None).expect("a child of ours") {
            WaitStatus::Exited(_, code) if code != i32::from(WRONG) => code as u8,
            other => panic!("the sleeper: {other:?}"),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// The survivor's handle, and who sleeps.
pub(crate) struct World {
    segment: Arc<Segment>,
    channel: Channel<Value>,
    sleeper: Sleeper,
}

fn attach(segment: &Arc<Segment>) -> Channel<Value> {
    let capacity = 1;
    let channel = Channel::attach(segment, capacity).expect("a seat is free");
    channel.with_deadline(PATIENCE).with_waiting(WaitPolicy::Sleep)
}

fn world(values: &[u64], sleep: impl FnOnce(Channel<Value>) -> u8) -> World {
    let mut channel = Channel::create(1, 4).expect("there is memory").with_deadline(PATIENCE);
    let segment = channel.segment().expect("it is in one").clone();
    channel.send_all(values.iter().map(|i| value(*i))).expect("there is room");
    let sleeper = Sleeper::start(|| sleep(attach(&segment)));
    World { segment, channel, sleeper }
}

/// Says what it received.
fn receiver(mut channel: Channel<Value>) -> u8 {
    match channel.recv() {
        Ok(v) if v == value(v[0]) => v[0] as u8,
        Err(RecvError::Drained) => DRAINED,
        _ => WRONG,
    }
}

/// A newcomer takes the dead one's seat, and messages pass.
fn goes_on(mut world: World) {
    let mut newcomer = attach(&world.segment);
    for i in 20..25 {
        newcomer.send(value(i)).expect("there is room");
        assert_eq!(world.channel.recv(), Ok(value(i)));
    }
    assert_eq!(world.channel.try_recv(), Err(RecvError::Empty));
}

/// Takes the sleeper out, so that the rest can be used.
fn wake(world: World) -> (World, u8) {
    let World { segment, channel, sleeper } = world;
    let said = sleeper.said();
    (World { segment, channel, sleeper: Sleeper(None) }, said)
}

pub(crate) struct Send;

impl Death for Send {
    const NAME: &'static str = "send to a channel at which a reader sleeps";
    type World = World;
    type Actor = Channel<Value>;
    fn world() -> World {
        world(&[], receiver)
    }
    fn arrive(world: &World) -> Channel<Value> {
        attach(&world.segment)
    }
    fn act(channel: &mut Channel<Value>) -> impl Sized {
        channel.send(value(8))
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // A place that was claimed counts as a message, so the length does not tell whether it was sent.
        if !completed {
            world.channel.send(value(9)).expect("room comes with the sleeper");
        }
        let (mut world, said) = wake(world);
        match said {
            8 => {
                assert!(completed || world.channel.recv() == Ok(value(9)), "behind the first");
                goes_on(world);
                "sent"
            }
            9 if !completed => {
                goes_on(world);
                "not sent"
            }
            other => panic!("the sleeper got {other}"),
        }
    }
}

pub(crate) struct Recv;

impl Death for Recv {
    const NAME: &'static str = "receive from a channel at which a sender sleeps";
    type World = World;
    type Actor = Channel<Value>;
    fn world() -> World {
        world(&[6], |mut channel| if channel.send(value(7)).is_ok() { 0 } else { WRONG })
    }
    fn arrive(world: &World) -> Channel<Value> {
        attach(&world.segment)
    }
    fn act(channel: &mut Channel<Value>) -> impl Sized {
        channel.recv()
    }
    fn survive(world: World, completed: bool) -> &'static str {
        taken_or_left(world, completed)
    }
}

/// The actor may have had the 6; behind it comes the sleeper's 7.
fn taken_or_left(mut world: World, completed: bool) -> &'static str {
    let mut got = Vec::new();
    while got.last() != Some(&7) && got.len() < 3 {
        let v = world.channel.recv().expect("the sleeper wakes when there is room");
        assert_eq!(v, value(v[0]), "a torn value");
        got.push(v[0]);
    }
    let (mut world, said) = wake(world);
    assert_eq!(said, 0);
    // An orphan comes out of order.
    got.extend(world.channel.try_recv().map(|v| v[0]));
    got.sort_unstable();
    assert!(got == [7] || got == [6, 7] && !completed, "{got:?}");
    goes_on(world);
    if got == [7] { "taken" } else { "left" }
}

pub(crate) struct Select;

impl Death for Select {
    const NAME: &'static str = "select a channel at which a sender sleeps, and receive";
    type World = World;
    type Actor = (sapwood_shm::select::Select, [Channel<Value>; 2]);
    fn world() -> World {
        Recv::world()
    }
    fn arrive(world: &World) -> Self::Actor {
        let select = sapwood_shm::select::Select::new().waiting(WaitPolicy::Sleep);
        (select, [attach(&world.segment), attach(&world.segment)])
    }
    fn act((select, [full, there]): &mut Self::Actor) -> impl Sized {
        let found = select.wait(&mut [full.sending(), there.receiving()]);
        (found == Ok(1)).then(|| there.try_recv())
    }
    fn survive(world: World, completed: bool) -> &'static str {
        taken_or_left(world, completed)
    }
}

pub(crate) struct Close;

impl Death for Close {
    const NAME: &'static str = "close a channel at which a reader sleeps";
    type World = World;
    type Actor = Channel<Value>;
    fn world() -> World {
        world(&[], receiver)
    }
    fn arrive(world: &World) -> Channel<Value> {
        attach(&world.segment)
    }
    fn act(channel: &mut Channel<Value>) -> impl Sized {
        channel.close();
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let closed = world.channel.is_closed();
        assert!(closed || !completed);
        if !closed {
            world.channel.close();
        }
        let (mut world, said) = wake(world);
        assert_eq!((said, world.channel.state()), (DRAINED, State::Drained));
        if closed { "closed" } else { "not closed" }
    }
}

/// The survivor's handle, and what it was told.
pub(crate) struct StallWorld {
    segment: Arc<Segment>,
    channel: Channel<Value>,
    said: Result<Value, RecvError>,
}

pub(crate) struct StallSend;

impl Stall for StallSend {
    const NAME: &'static str = "stand still in a send, while a reader waits until its deadline";
    type World = StallWorld;
    type Actor = Channel<Value>;
    type Done = bool;
    fn world() -> StallWorld {
        let channel = Channel::create(1, 2).expect("there is memory");
        let segment = channel.segment().expect("it is in one").clone();
        StallWorld { segment, channel, said: Err(RecvError::Empty) }
    }
    fn arrive(world: &StallWorld) -> Channel<Value> {
        attach(&world.segment)
    }
    fn act(channel: &mut Channel<Value>) -> bool {
        channel.send(value(8)).is_ok()
    }
    fn meanwhile(world: &mut StallWorld, completed: bool) {
        let limit = if completed { PATIENCE } else { Duration::from_millis(1) };
        world.said = world.channel.recv_timeout(limit);
        assert!(!completed || world.said.is_ok(), "{:?}", world.said);
    }
    fn report(_: Channel<Value>, done: bool) -> u8 {
        u8::from(done)
    }
    fn conclude(mut world: StallWorld, report: u8) -> &'static str {
        assert_eq!(report, 1, "it is sent in the end");
        let label = match world.said {
            Ok(v) => {
                assert_eq!(v, value(8));
                return "received";
            }
            Err(RecvError::TimedOut { .. }) => "nothing there yet",
            Err(RecvError::Busy { holder: Some(holder), .. }) => {
                assert_eq!((holder.seat, holder.pid), (1, world.segment.seat_pid(1)), "who is in the way");
                "held by the one that stands still"
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(world.channel.recv(), Ok(value(8)));
        label
    }
}

/// A channel of one frame.
pub(crate) struct FrameWorld {
    segment: Arc<Segment>,
    channel: FrameChannel,
    sleeper: Sleeper,
}

fn attach_frames(segment: &Arc<Segment>) -> FrameChannel {
    let channel = FrameChannel::attach(segment, 1, 64).expect("a seat is free");
    channel.with_deadline(PATIENCE).with_waiting(WaitPolicy::Sleep)
}

fn frame_world(values: &[u64], sleep: impl FnOnce(FrameChannel) -> u8) -> FrameWorld {
    let channel = FrameChannel::create(1, 64, 3).expect("there is memory");
    let mut channel = channel.with_deadline(PATIENCE);
    let segment = channel.segment().clone();
    values.iter().for_each(|i| channel.send_value(&value(*i)).expect("there is room"));
    let sleeper = Sleeper::start(|| sleep(attach_frames(&segment)));
    FrameWorld { segment, channel, sleeper }
}

fn frames_go_on(world: FrameWorld) {
    let FrameWorld { segment, mut channel, .. } = world;
    let mut newcomer = attach_frames(&segment);
    for i in 20..23 {
        newcomer.send_value(&value(i)).expect("a frame is free");
        assert_eq!(channel.recv_value::<Value>().expect("it came"), value(i));
    }
}

pub(crate) struct SendFrame;

impl Death for SendFrame {
    const NAME: &'static str = "send a value in a frame to a reader that sleeps";
    type World = FrameWorld;
    type Actor = FrameChannel;
    fn world() -> FrameWorld {
        frame_world(&[], |mut channel| match channel.recv_value::<Value>() {
            Ok(v) if v == value(v[0]) => v[0] as u8,
            _ => WRONG,
        })
    }
    fn arrive(world: &FrameWorld) -> FrameChannel {
        attach_frames(&world.segment)
    }
    fn act(channel: &mut FrameChannel) -> impl Sized {
        channel.send_value(&value(8)).is_ok()
    }
    fn survive(mut world: FrameWorld, completed: bool) -> &'static str {
        if !completed {
            world.channel.send_value(&value(9)).expect("the frame comes back");
        }
        let said = std::mem::replace(&mut world.sleeper, Sleeper(None)).said();
        assert!(said == 8 || said == 9 && !completed, "the sleeper got {said}");
        if said == 8 && !completed {
            assert_eq!(world.channel.recv_value::<Value>().expect("behind the first"), value(9));
        }
        frames_go_on(world);
        if said == 8 { "sent" } else { "not sent" }
    }
}

pub(crate) struct RecvFrame;

impl Death for RecvFrame {
    const NAME: &'static str = "receive the frame that a sender sleeps for";
    type World = FrameWorld;
    type Actor = FrameChannel;
    fn world() -> FrameWorld {
        frame_world(&[6], |mut channel| if channel.send_value(&value(7)).is_ok() { 0 } else { WRONG })
    }
    fn arrive(world: &FrameWorld) -> FrameChannel {
        attach_frames(&world.segment)
    }
    fn act(channel: &mut FrameChannel) -> impl Sized {
        channel.recv().map(|message| message.len()).is_ok()
    }
    fn survive(mut world: FrameWorld, completed: bool) -> &'static str {
        let mut got = Vec::new();
        while got.last() != Some(&7) && got.len() < 3 {
            let v = world.channel.recv_value::<Value>().expect("the sleeper wakes when the frame is free");
            assert_eq!(v, value(v[0]), "a torn value");
            got.push(v[0]);
        }
        assert_eq!(std::mem::replace(&mut world.sleeper, Sleeper(None)).said(), 0);
        assert!(got == [7] || got == [6, 7] && !completed, "{got:?}");
        frames_go_on(world);
        if got == [7] { "taken" } else { "left" }
    }
}
