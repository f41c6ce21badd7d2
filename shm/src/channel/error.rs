//! Why a channel did not do what it was asked.

use std::time::Duration;

use sapwood_core::blocks::DescriptorError;

use crate::ring::{Peer, PopError, PushError};

/// Why a value was not sent. It is handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// All places are taken, and the call does not wait.
    #[error("the channel is full: all {capacity} places are taken")]
    Full {
        /// How many there are.
        capacity: usize,
        /// What was not sent.
        value: T,
    },
    /// The channel was closed: nobody will read what is sent from now on.
    #[error("the channel is closed")]
    Closed {
        /// What was not sent.
        value: T,
    },
    /// A reader that lives, but has stopped or been stopped in the middle of reading, holds the next place.
    #[error("after {waited:?} the next place of the channel is still held by {}", held_by(*.holder))]
    Busy {
        /// Who; `None`: another thread, or others were faster, again and again.
        holder: Option<Peer>,
        /// How long this call has waited.
        waited: Duration,
        /// What was not sent.
        value: T,
    },
    /// All places were taken until the deadline.
    #[error("nobody has made room in the channel of {capacity} places for {waited:?}")]
    TimedOut {
        /// How many places there are.
        capacity: usize,
        /// How long this call has waited.
        waited: Duration,
        /// What was not sent.
        value: T,
    },
    /// All places are taken, and everybody else who had joined is gone, by proof. Told once: who calls again waits for
    /// a newcomer.
    #[error("the channel is full, and nobody is left to read: {}", gone_are(*.gone, *.peer))]
    Alone {
        /// How many are gone: they died, or gave their handles up.
        gone: usize,
        /// One of them, of a channel between processes.
        peer: Option<Peer>,
        /// What was not sent.
        value: T,
    },
    /// The thread that wakes futures could not be started. Of futures only.
    #[error("the thread that wakes futures could not be started: error {code} of the system")]
    NoWatcher {
        /// errno.
        code: i32,
        /// What was not sent.
        value: T,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a channel")]
    Forked {
        /// What was not sent.
        value: T,
    },
}

impl<T> SendError<T> {
    /// What was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full { value, .. } | SendError::Closed { value } | SendError::Busy { value, .. } => {
                value
            }
            SendError::TimedOut { value, .. } | SendError::Alone { value, .. } => value,
            SendError::NoWatcher { value, .. } | SendError::Forked { value } => value,
        }
    }

    /// The same about another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            SendError::Full { capacity, value } => SendError::Full { capacity, value: f(value) },
            SendError::Closed { value } => SendError::Closed { value: f(value) },
            SendError::Busy { holder, waited, value } => SendError::Busy { holder, waited, value: f(value) },
            SendError::TimedOut { capacity, waited, value } => {
                SendError::TimedOut { capacity, waited, value: f(value) }
            }
            SendError::Alone { gone, peer, value } => SendError::Alone { gone, peer, value: f(value) },
            SendError::NoWatcher { code, value } => SendError::NoWatcher { code, value: f(value) },
            SendError::Forked { value } => SendError::Forked { value: f(value) },
        }
    }

    /// What a push that did not wait has said.
    pub(super) fn of(e: PushError<T>, capacity: usize) -> SendError<T> {
        match e {
            PushError::Closed(value) => SendError::Closed { value },
            PushError::Busy { holder, value } => SendError::Busy { holder, waited: Duration::ZERO, value },
            PushError::Forked(value) => SendError::Forked { value },
            e => SendError::Full { capacity, value: e.into_inner() },
        }
    }
}

/// Why a batch ended early. What was sent before is there for the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{sent} values were sent, and the next one was not: {error}")]
pub struct SendAllError<T> {
    /// How many were sent, from the first one on.
    pub sent: usize,
    /// What became of the next one, which it holds. Those behind it are still in the iterator.
    pub error: SendError<T>,
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing is there, and the call does not wait.
    #[error("nothing is in the channel")]
    Empty,
    /// The channel was closed, and all that was sent has been received: nothing will ever come.
    #[error("the channel is closed, and all that was sent has been received")]
    Drained,
    /// A sender that lives, but has stopped or been stopped in the middle of sending, holds the next message.
    #[error("after {waited:?} the next message of the channel is still held by {}", held_by(*.holder))]
    Busy {
        /// Who; `None`: another thread, or others were faster, again and again.
        holder: Option<Peer>,
        /// How long this call has waited.
        waited: Duration,
    },
    /// Nothing came until the deadline.
    #[error("nothing has come through the channel for {waited:?}")]
    TimedOut {
        /// How long this call has waited.
        waited: Duration,
    },
    /// Nothing is there, and everybody else who had joined is gone, by proof. Told once: who calls again waits for a
    /// newcomer.
    #[error("nothing is in the channel, and nobody is left to send: {}", gone_are(*.gone, *.peer))]
    Alone {
        /// How many are gone: they died, or gave their handles up.
        gone: usize,
        /// One of them, of a channel between processes.
        peer: Option<Peer>,
    },
    /// A message names a frame that it can't have: a bad peer has sent it. It is gone. Of frame channels only.
    #[error("{0}")]
    Bad(DescriptorError),
    /// The thread that wakes futures could not be started. Of futures only.
    #[error("the thread that wakes futures could not be started: error {code} of the system")]
    NoWatcher {
        /// errno.
        code: i32,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a channel")]
    Forked,
}

impl RecvError {
    /// What a pop that did not wait has said.
    pub(super) fn of(e: PopError) -> RecvError {
        match e {
            PopError::Drained => RecvError::Drained,
            PopError::Busy { holder } => RecvError::Busy { holder, waited: Duration::ZERO },
            PopError::Forked => RecvError::Forked,
            _ => RecvError::Empty,
        }
    }
}

/// Everybody else who had joined is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) gone: usize,
    pub(crate) peer: Option<Peer>,
}

fn held_by(holder: Option<Peer>) -> String {
    holder.map_or_else(|| "another thread".to_owned(), |peer| peer.to_string())
}

fn gone_are(gone: usize, peer: Option<Peer>) -> String {
    match (gone, peer) {
        (1, Some(peer)) => format!("{peer} is gone"),
        (gone, Some(peer)) => format!("{gone} participants are gone, {peer} among them"),
        _ => "all other handles were dropped".to_owned(),
    }
}
