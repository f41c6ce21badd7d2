//! Rings: bounded queues in memory that several threads or processes share.
//!
//! | ring       | who            | what passes                | a death leaves                                    |
//! |------------|----------------|----------------------------|---------------------------------------------------|
//! | [`spsc`]   | one to one     | values, in order           | at most one value unsent, or read twice            |
//! | [`stream`] | one to one     | bytes, in order            | nothing: the successor of an end goes on           |
//! | [`mpmc`]   | many to many   | values, in order           | a name in a slot, which whoever is blocked buries  |
//! | [`latest`] | one to many    | the newest value           | the value before                                   |
//! | [`local`]  | many to many   | values of any type         | nothing: threads of one process die with it        |
//!
//! [`local`] stands beside [`mpmc`] because only it carries any `T: Send`, and because nothing in it has to be
//! recoverable: places share cache lines, a batch has one claim, and whoever is in the way stands back. Two producers
//! and two consumers on two CPUs passed 7 to 18 times as many words through it (`docs/ARCHITECTURE.md`).
//!
//! The memory of a ring is a *region*, which lends its words and cells by reference and masks every index, so that a
//! number which another process wrote never leads outside. What a participant knows by itself (its positions, what it
//! has seen of the other side) stays in its handle, in private memory. Handles never block: waiting is the business of
//! whoever holds them, and [`bells`] are where they sleep.

pub mod bells;
pub mod latest;
pub mod local;
pub mod mpmc;
pub mod spsc;
pub mod stream;

use core::fmt;

use crate::owner::Owner;

/// The most places a ring can have.
pub const MOST: usize = 1 << 30;

/// Why no ring can have that many places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CapacityError {
    /// A ring without places can't pass anything on.
    Zero,
    /// Places are found by masking, so their number is a power of two.
    NotAPowerOfTwo {
        /// What was asked for.
        asked: usize,
        /// The next power of two.
        next: usize,
    },
    /// More than any ring can have.
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// The most that a ring of such values can have.
        most: usize,
    },
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CapacityError::Zero => f.write_str("a ring of capacity 0 can't pass anything on"),
            CapacityError::NotAPowerOfTwo { asked, next } => {
                write!(f, "a ring's capacity is a power of two, and {asked} is none; the next one is {next}")
            }
            CapacityError::TooLarge { asked, most } => {
                write!(f, "a ring of capacity {asked} is too large: the most is {most}")
            }
        }
    }
}

impl core::error::Error for CapacityError {}

/// Checks a capacity, of places that take `bytes` each.
pub(crate) fn check(asked: usize, bytes: usize) -> Result<usize, CapacityError> {
    let most = MOST.min(((1usize << 46) / bytes.next_power_of_two().max(1)).max(1));
    match asked {
        0 => Err(CapacityError::Zero),
        _ if asked > most => Err(CapacityError::TooLarge { asked, most }),
        _ if !asked.is_power_of_two() => {
            Err(CapacityError::NotAPowerOfTwo { asked, next: asked.next_power_of_two() })
        }
        _ => Ok(asked),
    }
}

/// Why a value was not pushed. It is handed back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PushError<T> {
    /// All places are taken.
    Full(T),
    /// The ring was closed.
    Closed(T),
    /// A participant that lives, but has stopped or been stopped in the middle of reading, holds the very place that is
    /// next. [`Owner::NOBODY`]: others were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
        /// What was not pushed.
        value: T,
    },
}

/// Why nothing was popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PopError {
    /// Nothing is there.
    Empty,
    /// Nothing is there and nothing will come: the ring was closed, and all that was sent has been taken.
    Drained,
    /// A participant that lives, but has stopped or been stopped in the middle of writing, holds the very place that is
    /// next; or one in the middle of reading holds the place at which a closed ring ends. [`Owner::NOBODY`]: others
    /// were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
    },
}

impl<T> PushError<T> {
    /// What was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Full(value) | PushError::Closed(value) | PushError::Busy { value, .. } => value,
        }
    }

    /// The same reason, for what `make` makes of the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> PushError<U> {
        match self {
            PushError::Full(value) => PushError::Full(make(value)),
            PushError::Closed(value) => PushError::Closed(make(value)),
            PushError::Busy { owner, value } => PushError::Busy { owner, value: make(value) },
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full(_) => f.write_str("the ring is full"),
            PushError::Closed(_) => f.write_str("the ring is closed"),
            PushError::Busy { owner, .. } => write!(f, "the next place of the ring is held by {owner}"),
        }
    }
}

impl<T: fmt::Debug> core::error::Error for PushError<T> {}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PopError::Empty => f.write_str("the ring is empty"),
            PopError::Drained => f.write_str("the ring is closed and empty"),
            PopError::Busy { owner } => write!(f, "the next message of the ring is held by {owner}"),
        }
    }
}

impl core::error::Error for PopError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn capacities() {
        assert_eq!(check(0, 8), Err(CapacityError::Zero));
        assert_eq!(check(1, 8), Ok(1));
        assert_eq!(check(3, 8), Err(CapacityError::NotAPowerOfTwo { asked: 3, next: 4 }));
        assert_eq!(check(1 << 30, 8), Ok(1 << 30));
        for asked in [(1 << 30) + 1, usize::MAX] {
            assert_eq!(check(asked, 8), Err(CapacityError::TooLarge { asked, most: MOST }));
        }
        assert_eq!(check(1 << 20, 1 << 30), Err(CapacityError::TooLarge { asked: 1 << 20, most: 1 << 16 }));
        assert!(check(3, 8).is_err_and(|e| e.to_string().ends_with("the next one is 4")));
    }
}
