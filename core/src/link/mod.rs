//! Links: messages between two ends, whatever lies between them.
//!
//! [`Link`] is the contract; every transport keeps it, and `testing::contract` checks that it does. A message is
//! bytes, an encoded value or a tensor, with a tag of the sender's. It is gathered straight from the caller's memory
//! and scattered straight into the caller's memory, whatever its strides. Messages arrive in the order in which they
//! were sent, each whole or not at all; nothing is allocated after a link is made.
//!
//! | what happens                                             | the call says                | the link afterwards     |
//! |----------------------------------------------------------|------------------------------|-------------------------|
//! | a deadline before the first byte of payload              | `Deadline`                   | as before               |
//! | a deadline in the middle of sending                      | `Cut`; the peer: `Aborted`   | usable                  |
//! | a deadline in the middle of receiving                    | `Cut`; the rest is skipped   | usable                  |
//! | another dtype or shape than the target's                 | `Refused`; skipped whole     | usable, next one right  |
//! | a target that is too small                               | `TooSmall`                   | as before               |
//! | both ends send more than fits, and neither receives      | `BothSending`                | usable                  |
//! | no room                                                  | `Full`, nothing was sent     | as before               |
//! | the peer closes                                          | what it sent, then `Closed`  | over                    |
//! | the peer dies or drops its end                           | what it sent, then `Died`, `Gone` | over               |
//! | bytes that break a rule of the wire                      | `Wire`, and which rule       | over, for both          |
//!
//! [`Framed`] is a link over any [`Pipe`], which is a pair of bounded rings of bytes.

mod deadline;
mod error;
mod framed;
mod pipe;

pub use deadline::{Deadline, Timer};
pub use error::{CloseError, Ended, ExchangeError, Part, RecvError, SendError, TrySendError};
pub use framed::{Framed, PIPE_LEAST, PipeTooSmall};
pub use pipe::{Broken, Interest, Peer, Pipe, Waited};

use crate::view::{View, ViewMut};
use crate::wire::Content;

/// What is sent, where it lies.
#[allow(clippy::large_enum_variant)] // no heap here to box a view in
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Plain bytes.
    Bytes(&'a [u8]),
    /// An encoded value.
    Value(&'a [u8]),
    /// A tensor, with any strides.
    Tensor(View<'a>),
}

impl<'a> Source<'a> {
    /// What the receiver is told of it.
    #[inline]
    pub fn content(&self) -> Content {
        match self {
            Source::Bytes(bytes) => Content::Bytes(bytes.len() as u64),
            Source::Value(bytes) => Content::Value(bytes.len() as u64),
            Source::Tensor(view) => Content::Tensor(*view.descriptor()),
        }
    }
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Source::Bytes(bytes)
    }
}

impl<'a> From<View<'a>> for Source<'a> {
    fn from(view: View<'a>) -> Self {
        Source::Tensor(view)
    }
}

/// Where a message goes.
#[allow(clippy::large_enum_variant)] // as above
#[derive(Debug)]
pub enum Target<'a> {
    /// The front of these bytes: any message that is no longer. Of a tensor they get the elements, dense and
    /// row-major.
    Bytes(&'a mut [u8]),
    /// A tensor of the same dtype and dims, with any strides.
    Tensor(ViewMut<'a>),
}

/// A message that has been announced, or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// The sender's name for it.
    pub tag: u64,
    /// What it holds: kind and length, or dtype and dims.
    pub content: Content,
}

/// Which calls would not have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready {
    /// A message is pending.
    pub recv: bool,
    /// There is room for a short message, or for the start of a long one.
    pub send: bool,
}

/// One direction of a link, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Whole messages.
    pub messages: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes of payload, of messages that never got whole too.
    pub bytes: u64,
    /// Messages that were given up in their middle, by a deadline or because both ends were sending.
    pub aborted: u64,
}

/// What a link has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// From here to the peer.
    pub sent: Traffic,
    /// From the peer to here.
    pub received: Traffic,
    /// Messages of the peer's that were skipped: refused, or cut by a deadline here.
    pub skipped: u64,
    /// Times that a call had to wait.
    pub waits: u64,
}

/// One end of a link.
///
/// ```
/// use core::time::Duration;
/// use sapwood_core::link::{Deadline, Link, Source};
/// use sapwood_core::testing::MemoryPipe;
/// use sapwood_core::view::{View, ViewMut};
///
/// let (mut a, mut b) = MemoryPipe::links(4096);
/// let soon = Deadline::after(Duration::from_secs(5));
/// a.send(7, Source::Tensor(View::new(&[1.0f32, 2.0])), soon).unwrap();
///
/// let mut x = [0.0f32; 2];
/// assert_eq!(b.recv_into(&mut ViewMut::new(&mut x), soon).unwrap().tag, 7);
/// assert_eq!(x, [1.0, 2.0]);
/// ```
pub trait Link {
    /// Sends a message; waits for room. A message that is longer than what the link holds goes in pieces, as the peer
    /// receives it.
    ///
    /// # Errors
    /// [`SendError`] says how far the message came and what is left of the link.
    fn send(&mut self, tag: u64, source: Source<'_>, deadline: Deadline) -> Result<(), SendError>;

    /// Sends a message whole, or nothing of it. Never waits.
    ///
    /// # Errors
    /// [`TrySendError`]; nothing was sent.
    fn try_send(&mut self, tag: u64, source: Source<'_>) -> Result<(), TrySendError>;

    /// The next message, if it has been announced: its tag, kind and length, or dtype and dims. It stays pending until
    /// it is received or refused, and nothing of it is read. Never waits.
    ///
    /// # Errors
    /// [`Ended`].
    fn try_recv(&mut self) -> Result<Option<Incoming>, Ended>;

    /// Receives the next message.
    ///
    /// # Errors
    /// [`RecvError`] says what became of the message and of the link.
    fn receive(&mut self, target: Target<'_>, deadline: Deadline) -> Result<Incoming, RecvError>;

    /// Receives the next message into the front of `into`.
    ///
    /// # Errors
    /// As [`receive`](Link::receive).
    fn recv(&mut self, into: &mut [u8], deadline: Deadline) -> Result<Incoming, RecvError> {
        self.receive(Target::Bytes(into), deadline)
    }

    /// Receives the next message, a tensor, into a tensor of the same dtype and dims.
    ///
    /// # Errors
    /// As [`receive`](Link::receive).
    fn recv_into(&mut self, into: &mut ViewMut<'_>, deadline: Deadline) -> Result<Incoming, RecvError> {
        self.receive(Target::Tensor(into.reborrow()), deadline)
    }

    /// Sends one message and receives one, whichever can go on: two ends that both do so never wait for each other.
    ///
    /// # Errors
    /// What became of each half.
    fn send_recv(
        &mut self,
        tag: u64,
        source: Source<'_>,
        target: Target<'_>,
        deadline: Deadline,
    ) -> Result<Incoming, ExchangeError>;

    /// Skips the pending message whole, by the calls that follow: no call waits for what nobody wants. Says whether
    /// there was one.
    fn refuse(&mut self) -> bool;

    /// Waits until one of the calls in `wanted` would not have to wait; says which. Neither, if the deadline passes.
    ///
    /// # Errors
    /// [`Ended`].
    fn poll(&mut self, wanted: Ready, deadline: Deadline) -> Result<Ready, Ended>;

    /// Closes this end. The peer can still receive everything that was sent, then it is told; what it sent and this
    /// end has not received is lost. Waits for room for the last frame.
    ///
    /// # Errors
    /// [`CloseError`]; the link is closed all the same.
    fn close(&mut self, deadline: Deadline) -> Result<(), CloseError>;

    /// What the link has done so far.
    fn stats(&self) -> Stats;
}
