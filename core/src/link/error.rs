//! Why a call on a link failed, and what is left of the link.

use core::fmt;
use core::time::Duration;

use super::pipe::Broken;
use crate::wire::{Content, Descriptor, WireError};

/// Why a link is over. Every later call says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The peer has closed the link, and everything that it sent before has been taken.
    Closed {
        /// The peer's rank.
        rank: u16,
    },
    /// The peer's end is gone without a word: its handle was dropped while there was no room for its last frame, or in
    /// the middle of one. Said to a sender also where what the peer sent last has not been read yet.
    Gone {
        /// The peer's rank.
        rank: u16,
    },
    /// The peer is dead, and everything that came from it before has been taken.
    Died {
        /// The peer's rank.
        rank: u16,
        /// Its process, as far as known.
        pid: Option<u32>,
    },
    /// The peer sent what breaks a rule of the wire.
    Wire {
        /// The peer's rank.
        rank: u16,
        /// Number of the bad frame.
        frame: u64,
        /// The rule.
        error: WireError,
    },
    /// What carries the bytes does not work.
    Broken(Broken),
    /// This end was closed.
    ClosedHere,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The sender's name for the message.
    pub tag: u64,
    /// Bytes that came.
    pub done: u64,
    /// Bytes of the whole message.
    pub total: u64,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The deadline passed before any of it was sent. The link is as before.
    Deadline {
        /// Tag of the message.
        tag: u64,
        /// How long the call waited.
        waited: Duration,
    },
    /// The deadline passed in its middle. It was aborted, which the receiver is told; the link stays usable.
    Cut {
        /// How far it came.
        part: Part,
        /// How long the call waited.
        waited: Duration,
    },
    /// Both ends were sending more than fits between them, and neither was reading: neither would ever have gone on.
    /// What was sent of it was aborted; the link stays usable. Where both must send,
    /// [`send_recv`](super::Link::send_recv) lets both go on.
    BothSending {
        /// How far it came.
        part: Part,
        /// Bytes of the peer's message.
        theirs: u64,
    },
    /// The message is longer than the receiver takes. The link is as before.
    TooLong {
        /// Its bytes.
        total: u64,
        /// The limit.
        most: u64,
    },
    /// The link is over.
    Ended {
        /// Why.
        end: Ended,
        /// How far the message came.
        part: Part,
    },
}

/// Why a message was not sent at once. Nothing of it was: the payload is still the caller's to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room for all of it now.
    Full {
        /// Bytes that it needs, with its heads.
        need: usize,
        /// Bytes that are free.
        room: usize,
    },
    /// There is never room for all of it at once: [`send`](super::Link::send) cuts it up.
    Never {
        /// Bytes that it needs, with its heads.
        need: usize,
        /// Bytes that the link holds.
        most: usize,
    },
    /// The message is longer than the receiver takes.
    TooLong {
        /// Its bytes.
        total: u64,
        /// The limit.
        most: u64,
    },
    /// The link is over.
    Ended {
        /// Why.
        end: Ended,
    },
}

/// Why no message was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The deadline passed before a first byte of payload came. A message that was announced is still pending.
    Deadline {
        /// How long the call waited.
        waited: Duration,
    },
    /// The deadline passed in the middle of a message. The rest of it will be skipped; the link stays usable. What
    /// came stands in the target.
    Cut {
        /// How far it came.
        part: Part,
        /// How long the call waited.
        waited: Duration,
    },
    /// The sender gave the message up in its middle. The link stays usable. What came stands in the target.
    Aborted {
        /// How far it came.
        part: Part,
    },
    /// The message is no tensor of the target's dtype and dims. It is skipped whole, by the calls that follow; the next
    /// one can be received. The target is as before.
    Refused {
        /// Tag of the message.
        tag: u64,
        /// What it holds.
        found: Content,
        /// What the target can hold.
        expected: Descriptor,
    },
    /// The message has more bytes than the target. It stays pending. The target is as before.
    TooSmall {
        /// Tag of the message.
        tag: u64,
        /// What it holds.
        content: Content,
        /// Bytes of the target.
        room: usize,
    },
    /// The link is over.
    Ended {
        /// Why.
        end: Ended,
        /// How far a message had come that will never be whole.
        part: Option<Part>,
    },
}

/// What became of the two halves of an exchange, of which one failed at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeError {
    /// The sending half.
    pub send: Result<(), SendError>,
    /// The receiving half.
    pub recv: Result<super::Incoming, RecvError>,
}

/// Why a link was not closed in order. It is closed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseError {
    /// The peer made no room for the last frame in time: it will find this end [`Gone`](Ended::Gone).
    Deadline {
        /// How long the call waited.
        waited: Duration,
    },
    /// The link was over before.
    Ended {
        /// Why.
        end: Ended,
    },
}

/// `12 of 40 bytes of the message with tag 5`
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes of the message with tag {}", self.done, self.total, self.tag)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Closed { rank } => write!(f, "rank {rank} has closed the link"),
            Ended::Gone { rank } => write!(f, "rank {rank} has dropped its end of the link"),
            Ended::Died { rank, pid: Some(pid) } => write!(f, "rank {rank} (process {pid}) died"),
            Ended::Died { rank, pid: None } => write!(f, "rank {rank} died"),
            Ended::Wire { rank, frame, error } => {
                write!(f, "rank {rank} sent a bad frame (number {frame}): {error}")
            }
            Ended::Broken(broken) => fmt::Display::fmt(broken, f),
            Ended::ClosedHere => f.write_str("this end of the link was closed"),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Deadline { tag, waited } => {
                write!(
                    f,
                    "nothing of the message with tag {tag} was sent in {waited:?}; the link is as before"
                )
            }
            SendError::Cut { part, waited } => {
                write!(f, "only {part} were sent in {waited:?}; it was aborted")
            }
            SendError::BothSending { part, theirs } => write!(
                f,
                "both ends were sending and none was receiving: {part} were sent, and {theirs} bytes wait in the other \
                 direction; it was aborted"
            ),
            SendError::TooLong { total, most } => {
                write!(f, "a message of {total} bytes; {most} are the most that the receiver takes")
            }
            SendError::Ended { end, part } if part.done == 0 => fmt::Display::fmt(end, f),
            SendError::Ended { end, part } => write!(f, "{end}; {part} had been sent"),
        }
    }
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full { need, room } => {
                write!(f, "the message needs {need} bytes with its heads, and {room} are free")
            }
            TrySendError::Never { need, most } => {
                write!(
                    f,
                    "the message needs {need} bytes with its heads, but the link holds {most}; use send"
                )
            }
            TrySendError::TooLong { total, most } => {
                write!(f, "a message of {total} bytes; {most} are the most that the receiver takes")
            }
            TrySendError::Ended { end } => fmt::Display::fmt(end, f),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Deadline { waited } => {
                write!(f, "no message came in {waited:?}; the link is as before")
            }
            RecvError::Cut { part, waited } => {
                write!(f, "only {part} came in {waited:?}; the rest will be skipped")
            }
            RecvError::Aborted { part } => write!(f, "the sender gave up after {part}"),
            RecvError::Refused { tag, found, expected } => {
                write!(f, "{found} came (tag {tag}) where {expected} was expected; it is skipped")
            }
            RecvError::TooSmall { tag, content, room } => {
                write!(f, "a message (tag {tag}) of {content} does not fit {room} bytes; it stays pending")
            }
            RecvError::Ended { end, part: None } => fmt::Display::fmt(end, f),
            RecvError::Ended { end, part: Some(part) } => write!(f, "{end} after {part}"),
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.send, &self.recv) {
            (Err(send), Err(recv)) => write!(f, "neither half of the exchange: {send}; {recv}"),
            (Err(send), Ok(got)) => write!(f, "{} was received, but {send}", got.content),
            (Ok(()), Err(recv)) => write!(f, "the message was sent, but {recv}"),
            (Ok(()), Ok(_)) => f.write_str("both halves of the exchange are done"),
        }
    }
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseError::Deadline { waited } => {
                write!(f, "there was no room for the last frame in {waited:?}; the link is closed without it")
            }
            CloseError::Ended { end } => fmt::Display::fmt(end, f),
        }
    }
}

impl core::error::Error for Ended {}
impl core::error::Error for SendError {}
impl core::error::Error for TrySendError {}
impl core::error::Error for RecvError {}
impl core::error::Error for ExchangeError {}
impl core::error::Error for CloseError {}
