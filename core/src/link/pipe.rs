//! What carries a link's bytes: two directions, each in order, bounded, and without waiting.

use core::fmt;

/// What a wait is for. It ends when any of it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Bytes to read.
    pub read: bool,
    /// Room for so many bytes to write; 0 for none.
    pub write: usize,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something of the interest may be there, or the peer is not what it was: look.
    Look,
    /// The time was up.
    TimedOut,
}

/// What is known of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nothing speaks against it.
    Open,
    /// It has closed its end, or dropped it. What it wrote before can still be read.
    Gone,
    /// There is proof that it is dead. What it wrote before can still be read.
    Dead,
}

/// The pipe itself does not work: its memory holds what no peer of ours writes, or the system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong, as a clause.
    pub what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pipe is broken: {}", self.what)
    }
}

impl core::error::Error for Broken {}

/// One end of a pair of byte pipes. It has room for so many bytes in each direction, and that is all the backpressure
/// there is: [`Framed`](super::Framed) grants no credits on top. A carrier that takes bytes without knowing how many
/// (a socket) has a link of its own.
///
/// Nothing but [`wait`](Pipe::wait) ever waits.
pub trait Pipe {
    /// Bytes that the outgoing direction holds.
    fn outgoing(&self) -> usize;

    /// Bytes that the incoming direction holds.
    fn incoming(&self) -> usize;

    /// Bytes that the next write takes for certain: `wanted` if there are as many, else all that there are at a fresh
    /// look. May be more.
    fn room(&mut self, wanted: usize) -> usize;

    /// Writes these bytes, one part after the other; together they are never more than [`room`](Pipe::room) said.
    ///
    /// # Errors
    /// [`Broken`].
    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Broken>;

    /// Reads into these parts, one after the other, as many bytes as are there; says how many. 0 where there are some
    /// to read into: nothing is there now.
    ///
    /// # Errors
    /// [`Broken`].
    fn read(&mut self, parts: &mut [&mut [u8]]) -> Result<usize, Broken>;

    /// Drops at most `most` bytes that could be read; says how many.
    ///
    /// # Errors
    /// [`Broken`].
    fn skip(&mut self, most: usize) -> Result<usize, Broken> {
        let mut nowhere = [0; 1024];
        let n = most.min(nowhere.len());
        self.read(&mut [&mut nowhere[..n]])
    }

    /// Wakes the peer if it waits for what was written or read since the last call. Comes after every step of a call
    /// that moved bytes, so that a frame costs one look at the peer's bell and not one for each part.
    fn notify(&mut self);

    /// What is known of the peer, without asking the system.
    fn peer(&self) -> Peer;

    /// The process at the other end, for messages.
    fn pid(&self) -> Option<u32> {
        None
    }

    /// Waits until something of `interest` is there, the peer is no longer [`Peer::Open`] (that is said at once), or
    /// the monotonic clock shows `until` nanoseconds. May end early.
    ///
    /// # Errors
    /// [`Broken`].
    fn wait(&mut self, interest: Interest, until: u64) -> Result<Waited, Broken>;

    /// Closes this end for good, both directions. What was written can still be read by the peer.
    fn shut(&mut self);
}
