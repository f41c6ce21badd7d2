//! Rings between threads and between processes: bounded queues in memory that both ends share.
//!
//! | ring       | who            | what passes            | made by                                                      |
//! |------------|----------------|------------------------|--------------------------------------------------------------|
//! | [`spsc`]   | one to one     | values, in order       | [`spsc::pair`]; [`spsc::Producer`], [`spsc::Consumer`]       |
//! | [`mpmc`]   | many to many   | values, in order       | [`mpmc::threads`]; [`mpmc::Ring`]                            |
//! | [`local`]  | many to many   | values of any type     | [`local::Queue`]: threads only                               |
//! | [`stream`] | one to one     | bytes, in order        | [`stream::pair`]; [`stream::Writer`], [`stream::Reader`]     |
//! | [`frames`] | many to many   | bytes made in place    | [`frames::threads`]; [`frames::Frames`]                      |
//! | [`jobs`]   | many to many   | jobs and their answers | [`jobs::threads`]; [`jobs::Jobs`]                            |
//! | [`latest`] | one to many    | the newest value       | [`latest::pair`]; [`latest::Writer`], [`latest::Reader`]     |
//!
//! **Between threads** `pair` and `threads` hand out the ends. **Between processes** each takes its end by itself:
//! `open` by a name, whoever comes first makes the ring; `create` in an anonymous segment, which is handed on by
//! [`Segment::send`](crate::Segment::send) and joined by `attach`; `attach` also in an inherited segment. The handles
//! are the same, and so is what they do.
//!
//! **Who may do what** is decided by seats: seat 0 of a ring is its producer's (writer's), seat 1 its consumer's
//! (reader's); of a ring of many every seat may do both. A seat has one holder, proven by a lock that the kernel drops
//! at its death.
//!
//! **Nothing here blocks.** A call that succeeds makes no system call and allocates nothing. One that finds nothing to
//! do says why: empty or full; closed; [`Busy`](PopError::Busy), when a participant that lives, but has stopped, holds
//! the very next place; [`PeerDied`](PopError::PeerDied), when nothing can come any more because who should bring it is
//! dead. For the last one it has to ask the kernel, which it does once in 5 ms at most, so that a loop of tries costs
//! next to nothing and still learns of the death; `peer` asks at once.
//!
//! **A death** loses at most what the dead had in its hands; what that is stands with each ring. A successor takes the
//! seat by `open` or `attach` and goes on where the dead stopped. A ring lives as long as one of its holders: when all
//! are gone, its name is taken over and the ring begins anew.
//!
//! **A forked child** holds no end: its calls fail with [`Forked`](PopError::Forked).
//!
//! Values are [`Shareable`]: plain data in which any bytes are a legal value. Only what a [`local::Queue`] carries may
//! be anything: it never leaves the process.

mod figures;
pub mod frames;
pub mod jobs;
pub mod latest;
pub mod local;
pub(crate) mod member;
pub mod mpmc;
pub(crate) mod region;
pub mod spsc;
pub mod stream;

use std::fmt;

pub use figures::Figures;
pub use sapwood_core::board::Life;
pub use sapwood_core::ring::CapacityError;
pub use sapwood_core::shareable::Shareable;

/// Another participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it sits.
    pub seat: usize,
    /// Its process number, as it sees itself.
    pub pid: u32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} in seat {}", self.pid, self.seat)
    }
}

/// Why a value was not pushed. It is handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError<T> {
    /// All places are taken.
    #[error("the ring is full")]
    Full(T),
    /// The ring was closed: nobody will read.
    #[error("the ring is closed")]
    Closed(T),
    /// A participant that lives, but has stopped or been stopped in the middle of reading, holds the next place.
    #[error("the next place of the ring is held by {}", held_by(*.holder))]
    Busy {
        /// Who; `None`: others were faster, again and again.
        holder: Option<Peer>,
        /// What was not pushed.
        value: T,
    },
    /// All places are taken, and who should empty them is dead. A successor may still come.
    #[error("the ring is full, and its reader, {peer}, is dead")]
    PeerDied {
        /// Who.
        peer: Peer,
        /// What was not pushed.
        value: T,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a ring")]
    Forked(T),
}

impl<T> PushError<T> {
    /// What was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Full(value) | PushError::Closed(value) | PushError::Forked(value) => value,
            PushError::Busy { value, .. } | PushError::PeerDied { value, .. } => value,
        }
    }

    /// The same about another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> PushError<U> {
        match self {
            PushError::Full(value) => PushError::Full(f(value)),
            PushError::Closed(value) => PushError::Closed(f(value)),
            PushError::Busy { holder, value } => PushError::Busy { holder, value: f(value) },
            PushError::PeerDied { peer, value } => PushError::PeerDied { peer, value: f(value) },
            PushError::Forked(value) => PushError::Forked(f(value)),
        }
    }
}

/// Why nothing was popped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PopError {
    /// Nothing is there.
    #[error("the ring is empty")]
    Empty,
    /// Nothing is there and nothing will come: the ring was closed, and all that was sent has been taken.
    #[error("the ring is closed and empty")]
    Drained,
    /// A participant that lives, but has stopped or been stopped in the middle of writing, holds the next message.
    #[error("the next message of the ring is held by {}", held_by(*.holder))]
    Busy {
        /// Who; `None`: others were faster, again and again.
        holder: Option<Peer>,
    },
    /// All that was sent has been taken, and who should send more is dead. A successor may still come.
    #[error("the ring is empty, and its sender, {peer}, is dead")]
    PeerDied {
        /// Who.
        peer: Peer,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's end of a ring")]
    Forked,
}

fn held_by(holder: Option<Peer>) -> String {
    holder.map_or_else(|| "others, again and again".to_owned(), |peer| peer.to_string())
}
