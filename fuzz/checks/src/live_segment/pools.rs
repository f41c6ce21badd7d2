//! Buffers, and descriptors that come from anybody.

use std::sync::Arc;

use sapwood_shm::bufs::{self, Descriptor, OpenBuf, Pool, SharedBuf, UniqueBuf};
use sapwood_shm::{Error, Segment, Spec};
use zerocopy::{FromBytes, IntoBytes};

use super::{Object, SEATS, World};

const BLOCKS: usize = 4;
const BYTES: usize = 192;
/// What a handle keeps at a time.
const MOST: usize = 6;

enum Held {
    Unique(UniqueBuf<u64>),
    Shared(SharedBuf<u64>),
    Open(OpenBuf<u32>),
}

/// A participant of a pool, and what it holds.
pub(crate) struct Buffers(Pool, Vec<Held>);

impl Object for Buffers {
    fn spec() -> Result<Spec, Error> {
        bufs::spec(BLOCKS, BYTES, SEATS)
    }

    fn attach(segment: &Arc<Segment>, _: usize) -> Result<Self, Error> {
        Pool::attach(segment, BLOCKS, BYTES).map(|pool| Buffers(pool, Vec::new()))
    }

    fn step(&mut self, world: &mut World<'_>) {
        let what = world.input.u8();
        if self.1.len() >= MOST {
            self.1.remove(0);
        }
        match what & 15 {
            0..3 => {
                let len = world.input.below(BYTES / 8 + 2);
                let Some(mut buf) = world.said("alloc", self.0.alloc::<u64>(len)) else { return };
                assert_eq!(buf.len(), len);
                world.meddle();
                buf.fill(7);
                self.1.push(Held::Unique(buf));
            }
            3..6 => self.adopt(world),
            6 => {
                let len = world.input.below(BYTES / 4 + 1);
                let Some(buf) = world.said("alloc", self.0.alloc::<u32>(len)) else { return };
                self.1.push(Held::Open(buf.into_open()));
            }
            14 => {
                assert!(self.0.recall() <= BLOCKS * bufs::IN_FLIGHT);
                assert!(self.0.void_left() <= BLOCKS * bufs::IN_FLIGHT);
            }
            15 => {
                let stats = self.0.stats();
                assert!(stats.held as usize <= BLOCKS && self.0.seat() < SEATS, "{stats:?}");
                assert!(stats.in_flight as usize <= BLOCKS * bufs::IN_FLIGHT, "{stats:?}");
            }
            _ => {
                if let Some(held) = self.1.pop() {
                    self.1.extend(held.step(what >> 4, world));
                }
            }
        }
    }

    fn go(self, world: &mut World<'_>) {
        let Buffers(pool, held) = self;
        // Buffers may outlive their handle.
        if world.input.u8() & 1 == 1 {
            drop(pool);
            world.meddle();
        }
        held.into_iter().for_each(Held::read);
    }

    fn works(handles: &mut [Self]) {
        let [Buffers(a, _), Buffers(b, _), _] = handles else { unreachable!("there are three") };
        for i in 0..2 * BLOCKS as u64 {
            let mut buf = a.alloc::<u64>(BYTES / 8).expect("a buffer is free");
            buf.fill(i);
            let descriptor = buf.into_descriptor().expect("it can be handed over");
            let buf = b.adopt::<u64>(descriptor).expect("it is ours");
            assert_eq!(buf[..], [i; BYTES / 8]);
        }
        assert_eq!((a.stats().held, a.stats().in_flight), (0, 0));
    }
}

impl Buffers {
    fn adopt(&mut self, world: &mut World<'_>) {
        let (how, i) = (world.input.u8(), world.input.below(8));
        if world.mail.is_empty() {
            let Some(buf) = world.said("alloc", self.0.alloc::<u64>(i)) else { return };
            let letter =
                if how & 4 == 0 { buf.into_shared().share().ok() } else { buf.into_open().share().ok() };
            // Whoever has shared it keeps it no longer than this: the descriptor is all that holds it.
            world.mail.extend(letter.and_then(|d| <[u8; 16]>::try_from(d.as_bytes()).ok()));
        }
        let mut bytes = match world.mail.len() {
            0 => return,
            n if how & 1 == 0 => world.mail[i % n],
            n => world.mail.swap_remove(i % n),
        };
        // A letter that somebody has changed: in one bit, or the buffer's number, which are all that can be believed.
        match how >> 5 {
            6 => bytes[i] ^= 1 << (how >> 1 & 7),
            7 => bytes[8 + i] ^= 1 << (how >> 1 & 7),
            _ => {}
        }
        let Ok(descriptor) = Descriptor::read_from_bytes(&bytes) else { unreachable!("sixteen bytes") };
        let held = if how & 2 == 0 {
            world.said("adopt", self.0.adopt::<u64>(descriptor)).map(Held::Shared)
        } else {
            world.said("adopt open", self.0.adopt_open::<u32>(descriptor)).map(Held::Open)
        };
        if let Some(held) = &held {
            assert!(held.bytes() <= BYTES, "{} bytes of a buffer of {BYTES}", held.bytes());
            let block = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            assert!((block as usize) < BLOCKS, "buffer {block} of a pool of {BLOCKS}");
        }
        self.1.extend(held);
    }
}

impl Held {
    fn bytes(&self) -> usize {
        match self {
            Held::Unique(buf) => size_of_val(&buf[..]),
            Held::Shared(buf) => size_of_val(&buf[..]),
            Held::Open(buf) => buf.len() * 4,
        }
    }

    fn read(self) {
        let sum = match &self {
            Held::Unique(buf) => buf.iter().fold(0, |a, b| a ^ b),
            Held::Shared(buf) => buf.iter().fold(0, |a, b| a ^ b),
            Held::Open(buf) => buf.to_vec().into_iter().fold(0, |a, b| a ^ u64::from(b)),
        };
        std::hint::black_box(sum);
    }

    /// What becomes of it.
    fn step(self, what: u8, world: &mut World<'_>) -> Vec<Held> {
        let mut post = None;
        let held = match (what, self) {
            (0 | 1, held) => {
                held.read();
                vec![]
            }
            (2, Held::Unique(buf)) => vec![Held::Shared(buf.into_shared())],
            (3, Held::Unique(buf)) => {
                post = world.said("hand over", buf.into_descriptor().map_err(|kept| kept.error));
                vec![]
            }
            (_, Held::Unique(mut buf)) => {
                buf.fill(1);
                vec![Held::Unique(buf)]
            }
            (2 | 3, Held::Shared(buf)) => {
                post = world.said("hand over", buf.into_descriptor().map_err(|kept| kept.error));
                vec![]
            }
            (4 | 5, Held::Shared(mut buf)) => {
                if let Some(values) = buf.get_mut() {
                    values.fill(3);
                }
                vec![buf.into_unique().map_or_else(Held::Shared, Held::Unique)]
            }
            (6, Held::Shared(buf)) => {
                let other = world.said("clone", buf.try_clone());
                other.map(Held::Shared).into_iter().chain([Held::Shared(buf)]).collect()
            }
            (_, Held::Shared(buf)) => {
                post = world.said("share", buf.share());
                vec![Held::Shared(buf)]
            }
            (2 | 3, Held::Open(buf)) => {
                post = world.said("hand over", buf.into_descriptor().map_err(|kept| kept.error));
                vec![]
            }
            (4 | 5, Held::Open(buf)) => match buf.into_unique() {
                Ok(unique) => {
                    vec![Held::Open(unique.into_open())]
                }
                Err(buf) => vec![Held::Open(buf)],
            },
            (6 | 7, Held::Open(buf)) => {
                buf.fill(2);
                let other = world.said("clone", buf.try_clone());
                other.map(Held::Open).into_iter().chain([Held::Open(buf)]).collect()
            }
            (_, Held::Open(buf)) => {
                post = world.said("share", buf.share());
                vec![Held::Open(buf)]
            }
        };
        let letter = post.and_then(|d| <[u8; 16]>::try_from(d.as_bytes()).ok());
        world.mail.extend(letter);
        held
    }
}
