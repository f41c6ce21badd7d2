//! Frames: lent, sent, received and given back by one that dies in the middle of it.

use std::sync::Arc;

use sapwood_shm::Segment;
use sapwood_shm::ring::PopError;
use sapwood_shm::ring::frames::{Frames, LoanError, ReceiveError};

use crate::common::until;
use crate::sweep::Death;

const FRAMES: usize = 2;
const BYTES: usize = 64;

/// The survivor's handle, with a frame on its way that holds ones.
pub(crate) struct World {
    segment: Arc<Segment>,
    frames: Frames,
}

fn world() -> World {
    let mut frames = Frames::create(FRAMES, BYTES, 2).expect("there is memory");
    send(&mut frames, 1);
    World { segment: frames.segment().expect("it is in one").clone(), frames }
}

fn send(frames: &mut Frames, byte: u8) {
    let mut frame = frames.loan().expect("one is free");
    frame.fill(byte);
    assert!(frame.send(BYTES).is_ok(), "there is room");
}

/// Receives until nothing is left, whoever is in the way. Says what came.
fn drain(frames: &mut Frames) -> Vec<u8> {
    let mut got = Vec::new();
    until("nothing is left", || match frames.receive() {
        Ok(message) => {
            assert!(message.len() == BYTES && message.iter().all(|b| *b == message[0]), "a torn frame");
            got.push(message[0]);
            false
        }
        Err(ReceiveError::Ring(PopError::Busy { .. })) => false,
        Err(e) => e == ReceiveError::Ring(PopError::Empty),
    });
    got
}

/// All frames can be lent, by the survivor alone or after a newcomer to the dead one's seat has recovered it; each
/// once, and then they pass.
fn goes_on(mut world: World, newcomer: bool) {
    let newcomer =
        newcomer.then(|| Frames::attach(&world.segment, FRAMES, BYTES).expect("its holder is dead"));
    let mut lent = Vec::new();
    until("all frames are free", || {
        match world.frames.loan() {
            Ok(loan) => {
                lent.push(loan.as_ptr().addr());
                std::mem::forget(loan);
            }
            Err(e) => assert!(matches!(e, LoanError::Exhausted { .. }), "{e}"),
        }
        lent.len() == FRAMES
    });
    assert_ne!(lent[0], lent[1], "each once");
    drop(newcomer);
}

pub(crate) struct Send;

impl Death for Send {
    const NAME: &'static str = "lend and send a frame";
    type World = World;
    type Actor = Frames;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Frames {
        Frames::attach(&world.segment, FRAMES, BYTES).expect("a seat is free")
    }
    fn act(frames: &mut Frames) -> impl Sized {
        send(frames, 2);
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        let got = drain(&mut world.frames);
        let sent = got == [1, 2];
        assert!(sent || got == [1] && !completed, "{got:?}");
        goes_on(world, false);
        if sent { "sent" } else { "not sent" }
    }
}

pub(crate) struct Receive;

impl Death for Receive {
    const NAME: &'static str = "receive a frame and give it back";
    type World = World;
    type Actor = Frames;
    fn world() -> World {
        world()
    }
    fn arrive(world: &World) -> Frames {
        Frames::attach(&world.segment, FRAMES, BYTES).expect("a seat is free")
    }
    fn act(frames: &mut Frames) -> impl Sized {
        frames.receive().map(|message| message[0])
    }
    fn survive(mut world: World, completed: bool) -> &'static str {
        // A newcomer to the dead one's seat finds what it was receiving.
        let mut newcomer = Frames::attach(&world.segment, FRAMES, BYTES).expect("its holder is dead");
        let mut got = drain(&mut newcomer);
        drop(newcomer);
        got.extend(drain(&mut world.frames));
        assert!(got == [1] && !completed || got.is_empty(), "{got:?}");
        goes_on(world, true);
        if got.is_empty() { "taken" } else { "left" }
    }
}
