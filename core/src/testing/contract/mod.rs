//! What every link must do: one suite over all of them.
//!
//! A transport makes a [`Rig`] and runs [`contract`] over it. Each check makes its own pair of ends, and every call in
//! it has a deadline that only a mistake reaches, except where reaching it is the point.

mod failures;
mod messages;
mod waiting;

use core::time::Duration;
use std::vec::Vec;
use std::{eprintln, thread, vec};

use crate::dtype::{Dtype, Element};
use crate::link::{Deadline, Incoming, Link, Source, Target};
use crate::view::{View, ViewMut};
use crate::wire::{Content, Descriptor, Flags, Header, Kind, Stream};

/// Makes pairs of ends, and does to them what a link can't do to itself.
pub trait Rig {
    /// The link.
    type L: Link + Send;

    /// Two ends of a fresh link, which holds 1 KiB in each direction at least. The first is rank 0, the second rank 1.
    fn pair(&self) -> (Self::L, Self::L);

    /// Bytes that a direction never holds, however little is received: a message longer than this can't be sent before
    /// the peer receives. Some 10 messages of this length pass through each check.
    fn more_than_fits(&self) -> usize;

    /// What a kill leaves of this end: what was sent stays sent, and the peer finds proof of death.
    fn kill(&self, link: Self::L);

    /// Puts these bytes into the stream from this end to its peer, behind what was sent.
    fn inject(&self, link: &mut Self::L, bytes: &[u8]);

    /// The stream that rank 0 sends on a fresh link.
    fn stream(&self) -> Stream;
}

/// Longer than anything here takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(60));
/// To be reached. What comes after does not depend on how long it is.
const SHORT: Deadline = Deadline::after(Duration::from_millis(20));

/// What a link must do, and what finds out.
type Check<R> = (&'static str, fn(&R));

/// Every check, by name.
fn checks<R: Rig>() -> Vec<Check<R>> {
    let mut all = messages::checks();
    all.extend(waiting::checks());
    all.extend(failures::checks());
    all
}

/// Runs every check; says on which one it was if it panics.
pub fn contract<R: Rig>(rig: &R) {
    struct Named(&'static str);
    impl Drop for Named {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("the link broke its contract: {}", self.0);
            }
        }
    }
    for (name, check) in checks::<R>() {
        let named = Named(name);
        check(rig);
        drop(named);
    }
}

/// The payload of message `tag`.
fn payload(tag: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 7).wrapping_add(tag * 13) as u8).collect()
}

/// Receives bytes and checks that they are those of `payload`.
fn expect_bytes(link: &mut impl Link, tag: u64, len: usize) {
    let mut into = vec![0xAA; len + 3];
    let got = link.recv(&mut into, LONG).expect("a message");
    assert_eq!(got, Incoming { tag, content: Content::Bytes(len as u64) });
    assert!(into[..len] == payload(tag, len), "the bytes of message {tag}");
    assert_eq!(into[len..], [0xAA; 3], "nothing beyond the message is touched");
}

fn send_bytes(link: &mut impl Link, tag: u64, len: usize) {
    link.send(tag, Source::Bytes(&payload(tag, len)), LONG).expect("sent");
}

/// Both ends still do what links do.
fn expect_usable(a: &mut impl Link, b: &mut impl Link) {
    for (tag, len) in [(901, 20), (902, 0), (903, 100)] {
        send_bytes(a, tag, len);
        expect_bytes(b, tag, len);
        send_bytes(b, tag, len);
        expect_bytes(a, tag, len);
    }
}

/// Runs one end in a thread of its own.
fn beside<L: Link + Send, V: Send, W>(
    mut link: L,
    there: impl FnOnce(&mut L) -> V + Send,
    here: impl FnOnce() -> W,
) -> (L, V, W) {
    thread::scope(|s| {
        let thread = s.spawn(move || {
            let v = there(&mut link);
            (link, v)
        });
        let w = here();
        let (link, v) = thread.join().expect("the other end's checks hold");
        (link, v, w)
    })
}

/// The first frame of a message of `total` bytes, the first of its stream: 12 bytes belong to it.
fn first_frame(stream: Stream, total: usize) -> Header {
    Header {
        kind: Kind::Data,
        flags: Flags::NONE,
        lane: stream.lane,
        rank: stream.rank,
        epoch: stream.epoch,
        sequence: stream.first,
        tag: 7,
        len: 12,
        offset: 0,
        total: total as u64,
        credits: 0,
        ack: 0,
    }
}
