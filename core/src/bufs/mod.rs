//! Blocks that several hold at a time: lent, shared, handed around by tickets, freed by the last holder; whoever dies
//! on the way, no block is lost and none is freed under a holder.
//!
//! [`blocks`](crate::blocks) have one holder and travel in one ring, whose slot stands for them on the way: giving one
//! back is a store. Here a block has any number of holders and its *ticket* goes through whatever carries sixteen
//! bytes, which nobody can ask whether it still has them. So a ticket is held by a bit of its own, beside the holders'
//! bits.
//!
//! # One word says whose a block is
//!
//! ```text
//!  63         48 47                32 31                             0      63                24   20 19           0
//! +-------------+--------------------+--------------------------------+    +------------------+------+--------------+
//! | generation  |  tickets: 16 bits  |  holders: a bit for each seat  |    |  serial          | left |  issuer      |
//! +-------------+--------------------+--------------------------------+    +------------------+------+--------------+
//!                                word                                            note: one for each ticket's bit
//! ```
//! *Holders* is a set of seats, never a count: a count that the dead have left wrong can't be put right, a bit can.
//! *Tickets* has a bit for each ticket that is on its way. A block is free when both sets are empty. *Generation*
//! grows when a block is lent and when a ticket is issued. So the word does not come back: what else happens only
//! clears bits, but for adopting, which clears a ticket's, and that one is not set again without a new generation. A
//! *note* says who has issued the ticket (an [owner](crate::owner::Owner), or nobody: then the bit can be had) and
//! which one it is: a ticket is {block, bit, serial}.
//!
//! | from            | to              | who                                 | how | ordering | meaning                            |
//! |-----------------|-----------------|-------------------------------------|-----|----------|------------------------------------|
//! | {g, -, -}       | {g+1, -, me}    | who wants a block                   | CAS | Release  | lent                               |
//! | {g, T, H ∋ me}  | {g+1, T+t, H}   | a holder whose note t is            | CAS | Release  | shared: a ticket is on its way     |
//! | {g, T, H ∋ me}  | {g+1, T+t, H-me} | the same                           | CAS | Release  | handed over: its holding is        |
//! | {g, T ∋ t, H}   | {g, T-t, H+me}  | who has ticket t                   | CAS | Release  | adopted; then the note is freed    |
//! | {g, T, H ∋ me}  | {g, T, H-me}    | a holder                            | CAS | Release  | let go                             |
//! | {g, T, H ∋ dead} | {g, T, H-dead} | who recovers                        | CAS | Release  | a dead holder's bit                |
//! | {g, T ∋ t, H}   | {g, T-t, H}     | who recovers t's issuer, or voids t | CAS | Release  | a ticket that nobody will bring; then the note is freed |
//!
//! There is no other transition, and in each step one bit of the word moves, or two at once: nowhere is a block held by
//! nobody that somebody is to have. Zeroed memory is an arena whose blocks are all free.
//!
//! | note              | to                | who                                                       |
//! |-------------------|-------------------|-----------------------------------------------------------|
//! | {s, nobody}       | {s+1, me}         | a holder who is about to issue a ticket                   |
//! | {s, me}, its bit not set | {s+1, me}  | the same: its ticket was adopted, by one that died before it freed the note |
//! | {s, left}, its bit not set | {s+1, me} | the same, of one who has left                            |
//! | {s, me}           | {s, me, left}     | who leaves for good, in order                             |
//! | {s, any}          | {s, nobody}       | who has taken the ticket's bit out of the word            |
//!
//! # While a ticket's bit is set its note stands still
//!
//! The note is claimed before the bit is set, by the one who sets it, and freed after it was cleared, by the one who
//! cleared it; in between only `left` changes. Whoever adopts (or voids) looks at the word first, then at the note,
//! then changes the word by a CAS from what it saw. Where the CAS succeeds the word was the same all the while, so the
//! bit was set all the while, and the note is that of the bit.
//!
//! # Recovery
//!
//! `recover(dead)` clears the dead one's bit in each block and voids the tickets that it has issued. Both by a CAS that
//! is tried again where others were faster: they change the same word for reasons of their own.
//!
//! A ticket of a dead issuer can be adopted until somebody recovers the issuer; tickets of one who *left* stand until
//! they are adopted or [`void_left`](Bufs::void_left) is called. A living issuer's are its own: it may
//! [`recall`](Bufs::recall) them.
//!
//! | race                                          | why it is harmless                                                             |
//! |-----------------------------------------------|--------------------------------------------------------------------------------|
//! | two adopt one ticket (it was copied)          | one CAS succeeds; the other finds the bit cleared or another serial: stale     |
//! | one adopts what another voids                 | the same                                                                       |
//! | two recover the same seat                     | a bit is cleared once, and the word does not come back                          |
//! | a newcomer on the seat has bits of its own    | a look at the word that finds such a bit is ordered after the newcomer took the seat (BufLoan or BufAdopt with BufRecoverLoad), so `succeeded`, asked after it, says yes |
//! | the newcomer comes between the question and the CAS | to have its bit in this very word, it needs a loan or a ticket that is issued after: another generation, the CAS fails, and the next look asks again |
//! | who adopts frees the note late                | by a CAS from what it saw, serial included: a later ticket's note stays        |
//!
//! A word repeats after 2^16 generations of one block. Somebody is harmed only if another stands still between its look
//! and its CAS for exactly that many, with the same holders and tickets at the end.
//!
//! | who dies, after …                | what is left                               | who repairs it                                     |
//! |----------------------------------|--------------------------------------------|----------------------------------------------------|
//! | the loan's CAS                   | {holder: dead}                             | recover: freed                                     |
//! | claiming a note                  | a note of the dead, its bit not set        | recover: the note is freed                         |
//! | issuing a ticket                 | a ticket, and perhaps {holder: dead}       | who has the ticket adopts; recover: voided         |
//! | taking a ticket out of its carrier, before the CAS | a ticket that nobody will bring | its issuer, alive: recall; dead: recover; left: void_left |
//! | adopting                         | {holder: dead}, a note whose bit is not set | recover: the bit; the issuer takes the note for its next ticket, recover of the issuer frees it |
//! | letting go                       | nothing                                    |                                                    |
//! | marking some tickets as left     | those stand, the others are the dead one's | recover: the others are voided                     |
//! | who recovers, anywhere           | some bits cleared, some notes freed        | the next one does the rest                         |
//!
//! A carrier that keeps a message until its reader has done with it (`try_pop_with` of a ring of many) closes the
//! fourth row: there the reader adopts while its name is in the slot, and who dies has the ticket delivered again.
//!
//! # Orderings
//!
//! - BufDrop and BufRecover (Release) with BufLoanLoad and BufSoleLoad (Acquire): who has a block alone writes after
//!   the others have read. Words change by CAS only, so each one's Release holds for whoever reads a later word.
//! - BufShare (Release) with BufAdoptLoad (Acquire): the bytes, and what is said of them, and the note.
//! - BufLoan and BufAdopt (Release) with BufRecoverLoad (Acquire): as in the table of races.
//! - BufLeave (Release) with BufLeftLoad (Acquire): a note that says *left* is read before the word that shows whether
//!   its bit is set; without that an old word would make a ticket on its way seem adopted.
//! - Notes else are Relaxed. Who reads a note after a word (BufAdoptLoad, BufRecoverLoad) finds the note of the word's
//!   bit or a later one, never an older one. Who has claimed a note may still see an old word with the bit set; its CAS
//!   from that fails: it can't come before the one that cleared the bit, which has read, with Acquire, a word from
//!   before.
//!
//! # What a bad peer can do
//!
//! Tickets are checked: a block that exists, a bit of sixteen, a serial that its note has; else [`TicketError`], and
//! nothing is touched. What the sharer said of the bytes ([`said`](Bufs::said)) is checked by who reads it. Words that
//! lie make a block free that is not, or keep one for good: values may be wrong, bounds hold. Every CAS is tried a
//! bounded number of times; more tries than living peers can ever need, so only a bad one can make them run out, and
//! then a bit stays until its seat is recovered.

mod handle;
mod memory;
mod recover;
mod word;

use core::fmt;

pub use handle::{Adopted, Bufs, Holding};
pub use memory::{Header, Region};
pub use recover::Recovered;
pub use word::{Note, SEATS, TICKETS, Ticket, Word};

pub use crate::blocks::{Exhausted, OwnSeat, SeatError, Shape, ShapeError};

/// Why a ticket was not issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShareError {
    /// As many tickets of the block are on their way as it can have.
    TooMany {
        /// The block.
        block: u32,
        /// How many.
        most: u32,
    },
    /// Others were faster, more often than can be.
    Busy {
        /// The block.
        block: u32,
    },
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::TooMany { block, most } => {
                write!(f, "{most} descriptors of block {block} are on their way, and more can't be")
            }
            ShareError::Busy { block } => write!(f, "others change block {block} again and again"),
        }
    }
}

impl core::error::Error for ShareError {}

/// Why a ticket was not adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TicketError {
    /// There is no such block.
    Block {
        /// Its number.
        block: u32,
        /// How many there are.
        blocks: u32,
    },
    /// A block has fewer tickets.
    Bit {
        /// Its number.
        bit: u32,
    },
    /// The ticket was adopted already, or recalled, or its issuer has died and was recovered.
    Stale {
        /// The block.
        block: u32,
        /// What the ticket says.
        serial: u64,
        /// What the note says.
        found: Note,
    },
    /// Others were faster, more often than can be.
    Busy {
        /// The block.
        block: u32,
    },
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketError::Block { block, blocks } => {
                write!(f, "a descriptor names block {block} of an arena of {blocks}")
            }
            TicketError::Bit { bit } => {
                write!(f, "a descriptor names place {bit} of {TICKETS} that a block has for them")
            }
            TicketError::Stale { block, serial, found } => write!(
                f,
                "descriptor {serial} of block {block} is void: it was adopted or recalled, or who sent it has died \
                 (its place has {found:?} now)"
            ),
            TicketError::Busy { block } => write!(f, "others change block {block} again and again"),
        }
    }
}

impl core::error::Error for TicketError {}
