//! The words of a map: home, slot, commit, count. Pictures and transitions stand in the module's opening.

use crate::owner::Owner;

/// What an entry is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing.
    Free = 0,
    /// A pair is being written.
    Filling = 1,
    /// There is a pair.
    Full = 2,
}

/// The word of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Slot(pub u64);

const OWNER: u32 = 2;
const HALF: u32 = OWNER + Owner::BITS;
const VERSION: u32 = HALF + 1;

impl Slot {
    /// Packs a word.
    pub const fn new(version: u64, half: usize, owner: Owner, state: State) -> Slot {
        let low = ((half & 1) as u64) << HALF | (owner.bits() as u64) << OWNER | state as u64;
        Slot(version << VERSION | low)
    }

    /// How often it was changed.
    pub const fn version(self) -> u64 {
        self.0 >> VERSION
    }

    /// Where the value is: 0 or 1.
    pub const fn half(self) -> usize {
        (self.0 >> HALF & 1) as usize
    }

    /// Who fills or filled it.
    pub const fn owner(self) -> Owner {
        Owner::from_bits((self.0 >> OWNER) as u32)
    }

    /// What it is. A word that no participant writes is taken for a free one.
    pub const fn state(self) -> State {
        match self.0 & 3 {
            1 => State::Filling,
            2 => State::Full,
            _ => State::Free,
        }
    }

    pub(super) const fn filling(self, owner: Owner) -> Slot {
        Slot::new(self.version().wrapping_add(1), 0, owner, State::Filling)
    }

    pub(super) const fn full(self, half: usize) -> Slot {
        Slot::new(self.version().wrapping_add(1), half, self.owner(), State::Full)
    }

    pub(super) const fn freed(self) -> Slot {
        Slot::new(self.version().wrapping_add(1), 0, Owner::NOBODY, State::Free)
    }
}

/// The word of a home: who writes its pairs, and how far they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Home(pub u64);

impl Home {
    pub(super) const fn new(owner: Owner, reach: usize) -> Home {
        Home((reach as u64) << Owner::BITS | owner.bits() as u64)
    }

    /// Who holds it.
    pub const fn owner(self) -> Owner {
        Owner::from_bits(self.0 as u32)
    }

    /// In how many entries, from the home on, its pairs lie; in a map of `entries`.
    pub const fn reach(self, entries: usize) -> usize {
        let reach = (self.0 >> Owner::BITS) as usize;
        if reach < entries { reach } else { entries }
    }

    pub(super) const fn held(self, owner: Owner) -> Home {
        Home(self.0 & !(Owner::MASK as u64) | owner.bits() as u64)
    }
}

/// What an announced change does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing is pending.
    Idle = 0,
    /// A pair comes.
    Insert = 1,
    /// A pair goes.
    Remove = 2,
}

const SEQUENCE: u32 = 34;
/// The sequence, in the upper bits of commit and count.
const SHIFT: u32 = 64 - SEQUENCE;
const ENTRY: u32 = 2;

/// The announcement of a change of the number of pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Commit(pub u64);

impl Commit {
    /// Packs a word.
    pub const fn new(sequence: u64, entry: usize, kind: Kind) -> Commit {
        Commit(sequence << SHIFT | ((entry as u64) << ENTRY & ((1 << SHIFT) - 1)) | kind as u64)
    }

    /// The number of the change, modulo 2^34.
    pub const fn sequence(self) -> u64 {
        self.0 >> SHIFT
    }

    /// In which entry.
    pub const fn entry(self) -> usize {
        (self.0 & ((1 << SHIFT) - 1)) as usize >> ENTRY
    }

    /// Which change.
    pub const fn kind(self) -> Kind {
        match self.0 & 3 {
            1 => Kind::Insert,
            2 => Kind::Remove,
            _ => Kind::Idle,
        }
    }

    pub(super) const fn next(self, entry: usize, kind: Kind) -> Commit {
        Commit::new(self.sequence().wrapping_add(1), entry, kind)
    }

    pub(super) const fn settled(self) -> Commit {
        Commit::new(self.sequence(), 0, Kind::Idle)
    }
}

/// How many pairs there were after so many changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Count(pub u64);

impl Count {
    /// Packs a word.
    pub const fn new(sequence: u64, pairs: usize) -> Count {
        Count(sequence << SHIFT | pairs as u64 & ((1 << SHIFT) - 1))
    }

    /// The last change that is counted, modulo 2^34.
    pub const fn sequence(self) -> u64 {
        self.0 >> SHIFT
    }

    /// Pairs.
    pub const fn pairs(self) -> usize {
        (self.0 & ((1 << SHIFT) - 1)) as usize
    }

    /// With this change; `None` if it has been counted.
    pub(super) const fn after(self, change: Commit) -> Option<Count> {
        let next = Count::new(self.sequence().wrapping_add(1), 0);
        if next.sequence() != change.sequence() {
            return None;
        }
        let pairs = match change.kind() {
            Kind::Insert => self.pairs().wrapping_add(1),
            _ => self.pairs().wrapping_sub(1),
        };
        Some(Count::new(next.sequence(), pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_apart() {
        let owner = Owner::new(1021, 1023);
        let w = Slot::new(5, 1, owner, State::Full);
        assert_eq!((w.version(), w.half(), w.owner(), w.state()), (5, 1, owner, State::Full));
        assert_eq!(w.freed(), Slot::new(6, 0, Owner::NOBODY, State::Free));
        assert_eq!(w.full(0), Slot::new(6, 0, owner, State::Full));
        assert_eq!(Slot::new(u64::MAX, 1, owner, State::Filling).freed().version(), 0);
        assert_eq!(Slot(u64::MAX).state(), State::Free);

        let home = Home::new(Owner::NOBODY, 7).held(owner);
        assert_eq!((home.owner(), home.reach(16), home.reach(4)), (owner, 7, 4));
        assert_eq!(Home(u64::MAX).reach(8), 8);

        let last = (1 << SEQUENCE) - 1;
        let idle = Commit::new(last, 3, Kind::Idle);
        let insert = idle.next(1 << 27, Kind::Insert);
        assert_eq!((insert.sequence(), insert.entry(), insert.kind()), (0, 1 << 27, Kind::Insert));
        assert_eq!(insert.settled(), Commit::new(0, 0, Kind::Idle));

        let count = Count::new(last, 9);
        assert_eq!(count.after(insert), Some(Count::new(0, 10)));
        assert_eq!(count.after(idle.next(1, Kind::Remove)), Some(Count::new(0, 8)));
        assert_eq!(Count::new(0, 9).after(insert), None);
        assert_eq!(Count::new(3, 0).after(Commit::new(4, 0, Kind::Remove)).map(Count::sequence), Some(4));
    }
}
