//! Frames that are delivered again: received, given back and recovered by one that dies in the middle of it.

use std::sync::Arc;

use sapwood_shm::Segment;
use sapwood_shm::channel::{FrameChannel, FrameChannelBuilder, RecvError, RecvValueError};

use crate::common::PATIENCE;
use crate::sweep::Death;

/// What was sent.
const VALUE: u64 = 6;

fn plan(participants: usize) -> FrameChannelBuilder {
    FrameChannel::builder(2, 64).participants(participants).redelivering()
}

pub(crate) struct World {
    segment: Arc<Segment>,
    channel: FrameChannel,
    participants: usize,
}

fn world(participants: usize) -> World {
    let mut channel = plan(participants).create().expect("there is memory").with_deadline(PATIENCE);
    channel.send_value(&VALUE).expect("a frame is free");
    World { segment: channel.segment().clone(), channel, participants }
}

fn attach(world: &World) -> FrameChannel {
    plan(world.participants).attach(&world.segment).expect("a seat is free").with_deadline(PATIENCE)
}

/// All that still comes out of the channel, to its last word; first of what a newcomer finds, if one is to come. Says
/// how often the survivor has delivered again.
fn rest(mut world: World, newcomer: bool) -> (Vec<u64>, u64) {
    let mut got = Vec::new();
    if newcomer {
        // It takes the dead one's seat, and sends on what it finds there.
        let mut next = attach(&world);
        if let Ok(message) = next.try_recv() {
            got.push(u64::from(message[0]));
        }
    }
    world.channel.close();
    // Each turn gives one frame back, and there are two.
    for _ in 0..3 {
        match world.channel.recv_value::<u64>() {
            Ok(value) => got.push(value),
            Err(RecvValueError::Channel(RecvError::Drained)) => break,
            Err(e) => panic!("{e}"),
        }
    }
    let stats = world.channel.stats();
    assert_eq!(stats.lost_with_reader, 0, "a frame is lost with its reader");
    (got, stats.redelivered)
}

pub(crate) struct Keep;

impl Death for Keep {
    const NAME: &'static str = "receive a frame that is delivered again, and keep it";
    type World = World;
    type Actor = FrameChannel;
    fn world() -> World {
        world(3)
    }
    fn arrive(world: &World) -> FrameChannel {
        attach(world)
    }
    fn act(channel: &mut FrameChannel) -> impl Sized {
        channel.recv().map(std::mem::forget).is_ok()
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (got, again) = rest(world, false);
        assert_eq!(got, [VALUE], "once, wherever the reader has died");
        assert!(again == 1 || !completed, "who has received it had it");
        if again == 1 { "delivered again" } else { "not received yet" }
    }
}

pub(crate) struct End;

impl Death for End {
    const NAME: &'static str = "receive a frame that is delivered again, and give it back";
    type World = World;
    type Actor = FrameChannel;
    fn world() -> World {
        world(2)
    }
    fn arrive(world: &World) -> FrameChannel {
        attach(world)
    }
    fn act(channel: &mut FrameChannel) -> impl Sized {
        channel.recv().map(|message| message.len()).is_ok()
    }
    fn survive(world: World, completed: bool) -> &'static str {
        let (got, _) = rest(world, true);
        assert!(
            got.is_empty() || got == [VALUE] && !completed,
            "{got:?} after it was given back: {completed}"
        );
        if got.is_empty() { "given back" } else { "not given back" }
    }
}

pub(crate) struct Succeed;

impl Death for Succeed {
    const NAME: &'static str = "take the seat of a reader that has left with its frame, and receive that";
    type World = World;
    type Actor = Arc<Segment>;
    fn world() -> World {
        let world = world(2);
        let mut gone = attach(&world);
        std::mem::forget(gone.recv().expect("it was sent"));
        world
    }
    fn arrive(world: &World) -> Arc<Segment> {
        world.segment.clone()
    }
    fn act(segment: &mut Arc<Segment>) -> impl Sized {
        let mut channel = plan(2).attach(segment).expect("its holder has left");
        let received = channel.recv().map(std::mem::forget).is_ok();
        (received, channel)
    }
    fn survive(world: World, _: bool) -> &'static str {
        let (got, again) = rest(world, false);
        assert_eq!(got, [VALUE], "once, wherever the successor has died");
        if again == 0 { "sent again by the dead one" } else { "taken from the dead one" }
    }
}
