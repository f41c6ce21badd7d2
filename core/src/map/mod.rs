//! A map of fixed capacity: readers never wait, writers wait for writers of the same neighbourhood only, and whoever
//! dies at any instruction leaves each pair as it was before or as it was to be, and the count right.
//!
//! # Memory
//!
//! Three kinds of words. The table has m *entries*, a power of two, with room for as many pairs as the map may have and
//! for one pair in the making of every participant, so that a free entry is always found. A key's *home* is the entry
//! at hash mod m; its pair lies there or in one of the entries behind it.
//!
//! ```text
//!  commit  | sequence n (34)  | entry (28)       | kind (2) |     kind: Idle 0, Insert 1, Remove 2
//!  count   | sequence n (34)  | pairs (30)                  |
//!
//!  entry   | home | slot | hash | key ... | half 0 of the value ... | half 1 of the value ... |   words of 8 bytes
//!
//!  home    | reach (44)                   | owner (20)      |     owner: who writes pairs of this home; 0: nobody
//!  slot    | version (41)  | half (1)     | owner (20)      | state (2) |   state: Free 0, Filling 1, Full 2
//! ```
//! *Reach*: the pairs of this home lie in the entries up to `reach` behind it; it may be too large, never too small.
//! *Half*: where the value is. *Owner* of a slot: who fills it, or who filled it. Every change of a slot raises its
//! version. Zeroed memory is an empty map.
//!
//! Home words are locks, each with its owner's name. Everything about the pairs of a home, be it in place, insertion
//! or removal, is done by the owner of that word; so a key never lies in two entries. A process that is stopped there
//! blocks the *writers* of keys with the same home, nobody else; readers read on.
//!
//! # States
//!
//! | word   | from                  | to                     | who                         | how   | ordering | meaning                                 |
//! |--------|-----------------------|------------------------|-----------------------------|-------|----------|-----------------------------------------|
//! | home   | (nobody, r)           | (me, r)                | a writer                    | CAS   | Acquire  | the home is mine                        |
//! | home   | (dead, r)             | (me, r)                | a writer, after `help`      | CAS   | Acquire  | taken over; nothing is to be repaired   |
//! | home   | (me, r)               | (me, r')               | its owner                   | store | Relaxed  | a pair will lie farther off             |
//! | home   | (me, r)               | (nobody, r')           | its owner                   | store | Release  | given back                              |
//! | home   | (dead, r)             | (nobody, r)            | who recovers, after `help`  | CAS   | Release  | given back in its place                 |
//! | slot   | Free(v)               | Filling(v+1, me, 0)    | owner of the pair's home    | CAS   | Relaxed  | an entry for a new pair                 |
//! | slot   | Filling(v)            | Full(v+1)              | whoever helps the insertion | CAS   | Release  | the insertion's one commit              |
//! | slot   | Full(v, h)            | Full(v+1, 1 − h)       | owner of the pair's home    | store | Release  | the one commit of a change in place     |
//! | slot   | Full(v)               | Free(v+1)              | whoever helps the removal   | CAS   | Release  | the removal's one commit                |
//! | slot   | Filling(v, me)        | Free(v+1)              | its owner                   | store | Release  | not inserted: the map is full           |
//! | slot   | Filling(v, dead)      | Free(v+1)              | who recovers, after `help`  | CAS   | Release  | it was never inserted                   |
//! | commit | Idle(n)               | Insert or Remove(n+1, e) | owner of the pair's home  | CAS   | Release  | the next change of the number of pairs  |
//! | commit | Insert or Remove(n, e) | Idle(n)               | anyone                      | CAS   | Release  | it has been done                        |
//! | count  | (n−1, c)              | (n, c ± 1)             | anyone                      | CAS   | Relaxed  | change n is counted                     |
//!
//! # A count that no death leaves wrong
//!
//! A pair comes or goes by a store to its slot, and the count is another word: whoever dies in between would leave it
//! wrong, and nobody could tell whether he had got there. So each change of the number of pairs has a sequence number
//! and is announced in `commit` first, whole: which entry, and whether it comes or goes. Then *anyone* who comes by
//! finishes it (`help`): slot, count, Idle, each by a CAS that only the first one wins. One that dies has announced
//! nothing, or something that the next one finishes. One that is stopped blocks nobody.
//!
//! **Each change is done once.** A helper looks at `commit` (g, number n), loads the slot, and looks at `commit` again.
//! If it still says g, then at some moment between g was pending and the slot was as loaded, so the slot is either as
//! announced, or the change is committed in it already: it can't have gone on to a later life, because every later
//! life begins with a removal or ends with an insertion, numbered after n, and a change in place needs the home, which
//! its owner keeps until g is done, and his survivors take over after they have helped. The version makes the slot's
//! CAS fail if it is late, the sequence that of the count. Sequences are 34 bits: whoever is stopped between two looks
//! would have to resume after a multiple of 2^34 changes (half an hour at 100 ns each), exactly while the same entry's
//! same change is pending.
//!
//! # A copy that passes its look is whole
//!
//! Readers copy words through relaxed atomics, between an Acquire load of the slot and an Acquire fence with a second
//! load. Key and hash are written while the slot is Filling, a value into the half that is not in use. Before the first
//! of these words is stored, a Release fence comes after a slot word that differs from what the reader has loaded
//! (the claim; the commit which made this half the spare one): if the reader has seen one of these words, its second
//! look finds another version. It does not depend on the writer that comes next, so a stopped writer holds up no
//! reader. A reader begins anew at an entry only if a pair was committed there meanwhile, and gives up after
//! [`TURNS`] of them ([`Overtaken`]).
//!
//! **"Not there" is true of some moment of the call.** A key that stays in the map stays in its entry. If the reader
//! found that entry free, filling or with another key, then its pair had been removed or was not yet there.
//!
//! # Orderings
//!
//! - MapLock (Acquire) with MapUnlock and MapUnlockDead (Release): the next owner of a home finds its pairs.
//! - MapCommit (in place) and MapFinish (insertions) (Release) with MapLook (Acquire): a pair is read after it was
//!   written, by a helper's hand too, through MapInstall (Release) with MapHelpLoad (Acquire).
//! - MapFinish (removals), MapGiveBack and MapBury (Release) with MapClaimLoad (Acquire): the words of an entry are
//!   written after all that was written in its last life.
//! - MapWriterFence (Release) with MapReaderFence (Acquire): as said above.
//! - MapSettle (Release) with MapHelpLoad (Acquire): who sees Idle(n) finds change n counted.
//! - MapFinishLoad (Acquire): whoever loads a slot of a later life finds `commit` past g at its second look, because
//!   the CAS that began this life continues the release sequence of MapFinish, which came after it.
//!
//! # What a death leaves
//!
//! | who dies                                             | what is left                   | who repairs it                                            |
//! |------------------------------------------------------|--------------------------------|-----------------------------------------------------------|
//! | a reader, anywhere                                   | nothing                        |                                                           |
//! | a writer, with its home                              | (dead, reach)                  | who wants the home takes it over; a newcomer to the seat gives it back |
//! | … after its claim, before the announcement           | Filling(dead), any bytes       | a newcomer to the seat frees it; until then it is one entry of its reserve |
//! | … while it writes a value in place                   | any bytes in the spare half    | nobody: the value before stands                           |
//! | … after the commit in place                          | the new value                  |                                                           |
//! | … after the announcement, at any step                | `commit` says it               | the next who inserts, removes, counts or takes over       |
//! | … after it grew the reach                            | a reach too large              | the next removal of the farthest pair of that home        |
//! | who helps, anywhere                                  | as the helped                  | the next one: each step is one CAS                        |
//! | who recovers, anywhere                               | as it found it                 | the next one: each step is one CAS                        |
//!
//! An entry that the dead was filling is not sought by those in need of one: the reserve has one for every
//! participant, a seat is recovered before it is used again, and so the dead hold no more than was set aside for them.
//!
//! Whoever takes over or buries has the proof of death first, looks at `commit` then, and helps: the dead announces
//! nothing any more, so afterwards nothing that is pending concerns his home or his entry.
//!
//! # A bad peer
//!
//! Everything is words, and every number from them is masked. Each loop has a bound: m looks for a pair or an entry,
//! [`TURNS`] for a race. So it can make values, counts and answers wrong, and block a home in the name of somebody who
//! lives.

mod handle;
mod recover;
mod word;

use core::fmt;

pub use crate::claim::Peers;
pub use handle::{Found, Held, Map};
pub use recover::Recovered;
pub use word::{Commit, Count, Home, Kind, Slot, State};

use crate::mem::Mem;
use crate::owner::Owner;
use crate::shareable::Shareable;

/// Races that a call may lose before it says so.
pub const TURNS: usize = 64;
/// The most pairs that a map can be made for.
pub const MOST: usize = 1 << 26;
/// The longest key and value, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
const WORD: usize = 8;
/// The words of an entry before its key.
const HOME: usize = 0;
const SLOT: usize = 1;
const HASH: usize = 2;
const KEY: usize = 3;

/// How a map lies in its memory: private numbers, which every participant computes by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    capacity: usize,
    entries: usize,
    key: usize,
    value: usize,
}

/// No map has that shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShapeError {
    /// A map without room for a pair.
    Empty,
    /// More pairs than a map can have.
    TooMany {
        /// What was asked for.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// A key or a value that is too long.
    TooLong {
        /// Bytes of it.
        bytes: usize,
        /// The most.
        most: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeError::Empty => f.write_str("a map of capacity 0 can't hold anything"),
            ShapeError::TooMany { asked, most } => {
                write!(f, "a map of capacity {asked} is too large: the most is {most}")
            }
            ShapeError::TooLong { bytes, most } => {
                write!(f, "a key or value of {bytes} bytes is too long for a map: the most is {most}")
            }
        }
    }
}

impl core::error::Error for ShapeError {}

impl Shape {
    /// A map of `capacity` pairs for `participants` handles at a time.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn of<K: Shareable, V: Shareable>(
        capacity: usize,
        participants: usize,
    ) -> Result<Shape, ShapeError> {
        let (key, value) = (size_of::<K>(), size_of::<V>());
        let bytes = if key > value { key } else { value };
        if bytes > MOST_BYTES {
            return Err(ShapeError::TooLong { bytes, most: MOST_BYTES });
        }
        // No mapping could be longer than this many bytes.
        let most = (1 << 45) / ((KEY * WORD + key + 2 * value + 3 * WORD) as u64);
        let most = if most < MOST as u64 { most as usize } else { MOST };
        if capacity == 0 {
            return Err(ShapeError::Empty);
        }
        if capacity > most {
            return Err(ShapeError::TooMany { asked: capacity, most });
        }
        // At most two thirds are full, where chains are a few entries long; and the reserve of all participants.
        let entries = (capacity + capacity / 2 + participants).next_power_of_two();
        Ok(Shape { capacity, entries, key: key.div_ceil(WORD), value: value.div_ceil(WORD) })
    }

    /// The most pairs.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Entries of the table: a power of two.
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Words of an entry.
    pub const fn words(&self) -> usize {
        KEY + self.key + 2 * self.value
    }

    /// Bytes that a pair takes in its entry: the words beside it are counted too.
    pub const fn pair_bytes(&self) -> usize {
        self.words() * WORD
    }

    const fn mask(&self) -> usize {
        self.entries - 1
    }
}

/// Lends the memory of a map, all of it words, zeroed at first. What is lent decides what the map holds; it can't make
/// a handle touch anything else.
pub trait Region<M: Mem>: Clone {
    /// The announcement of the last change of the number of pairs. On a line of its own.
    fn commit(&self) -> &M::U64;
    /// How many pairs there are. On a line of its own.
    fn count(&self) -> &M::U64;
    /// Word `i`, below [`Shape::words`], of entry `entry`, below [`Shape::entries`]: different words for different
    /// numbers.
    fn word(&self, entry: usize, i: usize) -> &M::U64;
}

/// A home that was not had: it is held by a participant that lives, but is at work there, or has stopped or been
/// stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    /// Which home.
    pub home: usize,
    /// Who. [`Owner::NOBODY`]: others were faster, again and again.
    pub owner: Owner,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "home {} is held by {}", self.home, self.owner)
    }
}

impl core::error::Error for Busy {}

/// Why a pair was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PutError {
    /// As many pairs as the map was made for are in it.
    Full,
    /// Others changed the number of pairs first, again and again.
    Crowded,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full => "the map is full",
            PutError::Crowded => "others changed the map first, again and again",
        })
    }
}

impl core::error::Error for PutError {}

/// Why nothing was read: a pair was changed while it was copied, in every one of so many turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overtaken {
    /// How many.
    pub turns: usize,
}

impl fmt::Display for Overtaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pair changed {} times while it was read", self.turns)
    }
}

impl core::error::Error for Overtaken {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn shapes() {
        let shape = Shape::of::<u64, [u8; 9]>(100, 20).expect("a shape");
        assert_eq!((shape.capacity(), shape.entries(), shape.words()), (100, 256, 3 + 1 + 2 * 2));
        assert_eq!(Shape::of::<(), ()>(1, 1).map(|s| (s.entries(), s.words())), Ok((2, 3)));
        assert_eq!(Shape::of::<u64, u64>(0, 1), Err(ShapeError::Empty));
        for asked in [MOST + 1, usize::MAX] {
            let e = Shape::of::<u64, u64>(asked, 1).expect_err("too many");
            assert_eq!(
                e.to_string(),
                std::format!("a map of capacity {asked} is too large: the most is {MOST}")
            );
        }
        let long = Shape::of::<u64, [u8; MOST_BYTES + 1]>(1, 1);
        assert_eq!(long, Err(ShapeError::TooLong { bytes: MOST_BYTES + 1, most: MOST_BYTES }));
        assert!(
            Shape::of::<u64, [u8; MOST_BYTES]>(MOST, 1).is_err_and(|e| e.to_string().contains("too large"))
        );
    }
}
