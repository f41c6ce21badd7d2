//! Links: sent over, and received from, by an end that dies.

use std::sync::Arc;

use sapwood_core::link::{Deadline, Ended, Link, Part, RecvError, SendError, Source};
use sapwood_shm::Segment;
use sapwood_shm::link::{self, ShmLink};

use crate::sweep::Death;

const CAPACITY: usize = 1024;
/// Longer than anything here takes.
const LONG: Deadline = Deadline::after(std::time::Duration::from_secs(20));

const ONE: [u8; 30] = [1; 30];
const TWO: [u8; 77] = [2; 77];

fn world() -> Arc<Segment> {
    Arc::new(Segment::create(&link::spec(CAPACITY).expect("a capacity")).expect("there is memory"))
}

fn end(segment: &Arc<Segment>, me: usize) -> ShmLink {
    link::attach(segment, CAPACITY, me).expect("that end is free")
}

fn is_death(end: Ended) -> bool {
    matches!(end, Ended::Died { rank: 0, pid: Some(pid) } if pid != std::process::id())
}

pub(crate) struct Send;

impl Death for Send {
    const NAME: &'static str = "send over a link";
    type World = Arc<Segment>;
    type Actor = ShmLink;
    fn world() -> Arc<Segment> {
        world()
    }
    fn arrive(segment: &Arc<Segment>) -> ShmLink {
        let mut link = end(segment, 0);
        link.try_send(1, Source::Bytes(&ONE)).expect("there is room");
        link
    }
    fn act(link: &mut ShmLink) -> impl Sized {
        link.try_send(2, Source::Bytes(&TWO))
    }
    fn survive(segment: Arc<Segment>, completed: bool) -> &'static str {
        let (mut link, mut into) = (end(&segment, 1), [0; TWO.len()]);
        assert_eq!(link.recv(&mut into, LONG).map(|got| got.tag), Ok(1));
        assert_eq!(into[..ONE.len()], ONE);
        let label = match link.recv(&mut into, LONG) {
            Ok(got) => {
                assert_eq!((got.tag, into), (2, TWO));
                "sent"
            }
            Err(RecvError::Ended { end, part: None }) if is_death(end) && !completed => return "not sent",
            Err(e) => panic!("{e}"),
        };
        match link.recv(&mut into, LONG) {
            Err(RecvError::Ended { end, part: None }) if is_death(end) => label,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Receive;

impl Death for Receive {
    const NAME: &'static str = "receive from a link";
    type World = (Arc<Segment>, ShmLink);
    type Actor = (ShmLink, [u8; TWO.len()]);
    fn world() -> Self::World {
        let segment = world();
        let mut link = end(&segment, 1);
        link.try_send(1, Source::Bytes(&TWO)).expect("there is room");
        (segment, link)
    }
    fn arrive((segment, _): &Self::World) -> Self::Actor {
        (end(segment, 0), [0; TWO.len()])
    }
    fn act((link, into): &mut Self::Actor) -> impl Sized {
        link.recv(into, Deadline::NONE)
    }
    fn survive((_, mut link): Self::World, _: bool) -> &'static str {
        // More than there is room for, whatever the dead one has read.
        let message = [3; 2 * CAPACITY];
        match link.send(2, Source::Bytes(&message), LONG) {
            Err(SendError::Ended { end, part: Part { tag: 2, done, .. } }) if is_death(end) => {
                if done > 0 {
                    "told in the middle of a message"
                } else {
                    "told before"
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
