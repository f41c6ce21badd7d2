//! A block's word, the notes of its tickets, and the ticket that travels.

use core::fmt;

use crate::owner::Owner;

/// How many seats can hold blocks.
pub const SEATS: u32 = 32;
/// How many tickets of a block can be on their way.
pub const TICKETS: u32 = 16;

const TICKET: u32 = SEATS;
const GENERATION: u32 = SEATS + TICKETS;

/// Generation, tickets and holders.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

impl Word {
    /// Packs a word.
    pub const fn new(generation: u16, tickets: u16, holders: u32) -> Word {
        Word((generation as u64) << GENERATION | (tickets as u64) << TICKET | holders as u64)
    }

    /// How many loans and tickets there were, modulo 2^16.
    pub const fn generation(self) -> u16 {
        (self.0 >> GENERATION) as u16
    }

    /// The tickets on their way, a bit each.
    pub const fn tickets(self) -> u16 {
        (self.0 >> TICKET) as u16
    }

    /// Who holds the block: bit s is seat s.
    pub const fn holders(self) -> u32 {
        self.0 as u32
    }

    /// The bit of a seat; `None` of a seat that can hold no blocks.
    pub const fn bit(seat: u32) -> Option<u32> {
        if seat < SEATS { Some(1 << seat) } else { None }
    }

    /// Whether nobody holds the block and no ticket of it is on its way.
    pub const fn is_free(self) -> bool {
        self.tickets() == 0 && self.holders() == 0
    }

    pub(super) const fn has(self, ticket: u32) -> bool {
        self.tickets() >> ticket & 1 == 1
    }

    pub(super) const fn next(self) -> Word {
        Word::new(self.generation().wrapping_add(1), self.tickets(), self.holders())
    }

    pub(super) const fn with_holder(self, bit: u32) -> Word {
        Word::new(self.generation(), self.tickets(), self.holders() | bit)
    }

    pub(super) const fn without_holder(self, bit: u32) -> Word {
        Word::new(self.generation(), self.tickets(), self.holders() & !bit)
    }

    pub(super) const fn with_ticket(self, ticket: u32) -> Word {
        Word::new(self.generation(), self.tickets() | 1 << ticket, self.holders())
    }

    pub(super) const fn without_ticket(self, ticket: u32) -> Word {
        Word::new(self.generation(), self.tickets() & !(1 << ticket), self.holders())
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (generation, tickets, holders) = (self.generation(), self.tickets(), self.holders());
        write!(f, "generation {generation}, tickets {tickets:#x}, holders {holders:#x}")
    }
}

const SERIAL: u32 = 24;
const LEFT: u64 = 1 << 20;

/// Which ticket a bit stands for, and who has issued it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Note(pub u64);

impl Note {
    /// Packs a note; of the serial the low 40 bits count.
    pub const fn new(serial: u64, issuer: Owner) -> Note {
        Note(serial << SERIAL | issuer.bits() as u64)
    }

    /// How many tickets have had this bit.
    pub const fn serial(self) -> u64 {
        self.0 >> SERIAL
    }

    /// Who has issued it; [`Owner::NOBODY`]: the bit can be had.
    pub const fn issuer(self) -> Owner {
        Owner::from_bits(self.0 as u32)
    }

    /// Whether the issuer has left in order, and the ticket stands without it.
    pub const fn has_left(self) -> bool {
        self.0 & LEFT != 0
    }

    pub(super) const fn is_free(self) -> bool {
        self.issuer().bits() == 0
    }

    /// The next ticket of this bit.
    pub(super) const fn claimed(self, issuer: Owner) -> Note {
        Note::new(self.serial() + 1, issuer)
    }

    pub(super) const fn freed(self) -> Note {
        Note::new(self.serial(), Owner::NOBODY)
    }

    pub(super) const fn left(self) -> Note {
        Note(self.0 | LEFT)
    }

    /// Whether this is a living issuer's, or was until it died.
    pub(super) fn is_of(self, issuer: Owner) -> bool {
        self.issuer() == issuer && !self.has_left()
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = if self.has_left() { ", who has left" } else { "" };
        write!(f, "serial {} of {}{left}", self.serial(), self.issuer())
    }
}

/// A block on its way to somebody. A copy of a ticket is the same ticket: it is adopted once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// The number of the block.
    pub block: u32,
    /// Its bit, below [`TICKETS`].
    pub bit: u32,
    /// Which one of that bit, below 2^40.
    pub serial: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_put_into_them() {
        for generation in [0, 1, u16::MAX] {
            for tickets in [0, 1, 1 << 15, u16::MAX] {
                for holders in [0, 1, 1 << 31, u32::MAX] {
                    let w = Word::new(generation, tickets, holders);
                    let parts = (w.generation(), w.tickets(), w.holders());
                    assert_eq!(parts, (generation, tickets, holders));
                    assert_eq!(w.next(), Word::new(generation.wrapping_add(1), tickets, holders));
                    assert_eq!(w.with_ticket(3).without_ticket(3).tickets(), tickets & !8);
                    assert_eq!(w.with_holder(4).without_holder(4).holders(), holders & !4);
                }
            }
        }
        assert_eq!((Word::bit(0), Word::bit(31), Word::bit(32)), (Some(1), Some(1 << 31), None));
    }

    #[test]
    fn notes_keep_what_is_put_into_them() {
        let (me, other) = (Owner::new(31, 1023), Owner::new(0, 1));
        let n = Note::new((1 << 40) - 1, me);
        assert_eq!((n.serial(), n.issuer(), n.has_left()), ((1 << 40) - 1, me, false));
        assert!(n.is_of(me) && !n.is_of(other) && !n.left().is_of(me) && n.left().has_left());
        assert_eq!((n.left().issuer(), n.left().serial()), (me, n.serial()));
        assert!(n.freed().is_free() && !n.is_free() && n.left().freed() == n.freed());
        assert_eq!(n.claimed(other), Note::new(0, other), "the serial wraps");
    }
}
