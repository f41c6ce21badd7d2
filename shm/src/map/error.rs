//! Why a call on a map did nothing.

use std::time::Duration;

use crate::ring::Peer;

/// Why nothing was done. What was not written is handed back in `back`: a pair, a value, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError<B = ()> {
    /// As many pairs as the map was made for are in it.
    #[error("the map is full: it was made for {capacity} pairs")]
    Full {
        /// How many.
        capacity: usize,
        /// What was not written.
        back: B,
    },
    /// A participant that lives is writing a pair with the same home, or has stopped or been stopped while it was. It
    /// is waited for until the deadline, and longer if one calls again. Readers are not affected.
    #[error("{} writes near this key, and was waited for {waited:?}", held_by(*.holder))]
    Busy {
        /// Who; `None`: others were faster, again and again.
        holder: Option<Peer>,
        /// How long.
        waited: Duration,
        /// What was not written.
        back: B,
    },
    /// The pair was changed while it was copied, in every one of so many turns.
    #[error("the pair changed {turns} times while it was read: it is written faster than it can be copied")]
    Overtaken {
        /// How many.
        turns: usize,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's handle of a map; it can attach to the map's segment")]
    Forked {
        /// What was not written.
        back: B,
    },
}

impl<B> MapError<B> {
    /// The same reason with something else in hand.
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> MapError<C> {
        match self {
            MapError::Full { capacity, back } => MapError::Full { capacity, back: f(back) },
            MapError::Busy { holder, waited, back } => MapError::Busy { holder, waited, back: f(back) },
            MapError::Overtaken { turns } => MapError::Overtaken { turns },
            MapError::Forked { back } => MapError::Forked { back: f(back) },
        }
    }
}

fn held_by(holder: Option<Peer>) -> String {
    holder.map_or_else(|| "somebody, again and again another one,".to_owned(), |peer| peer.to_string())
}
