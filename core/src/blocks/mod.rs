//! Blocks of an arena: lent, filled, sent without a copy, received, given back; whoever dies on the way, no block is
//! lost and none has two holders.
//!
//! # Two words say whose a block is
//!
//! ```text
//!  63         48 47                            0        63         48 47                            0
//! +-------------+-------------------------------+      +-------------+-------------------------------+
//! | generation  |  holders: a bit for each seat |      | generation  |      position in the ring     |
//! +-------------+-------------------------------+      +-------------+-------------------------------+
//!                      word                                               flight
//! ```
//! *Holders* is a set of seats, never a count: a count that the dead have left wrong can't be put right, a bit can. For
//! now it has one member at most. *Generation* grows with every change of hands, by two when a block is lent and by one
//! when it is received. *Flight* says, for the generation it names or the next one, in which position of the ring the
//! block travels. The ring is one of many producers and consumers ([`mpmc`](crate::ring::mpmc)), which carries
//! descriptors: {block, generation, sender, length}.
//!
//! | from            | to              | who                                       | how   | ordering | meaning                              |
//! |-----------------|-----------------|-------------------------------------------|-------|----------|--------------------------------------|
//! | {g, nobody}     | {g+2, me}       | who wants a block                         | CAS   | Release  | lent; then flight = {g, 0}: none     |
//! | {g, me}         | {g, me}         | the same                                  |       |          | sent: flight = {g, p}, in Writing(me) |
//! | {g, sender}     | {g+1, me}       | who has the slot in Reading(me)           | CAS   | Release  | received                             |
//! | {g, of the dead}| {g+1, me}       | who has taken over the slot: Reading(me)  | CAS   | Release  | received as an orphan; before: flight = {g, p} |
//! | {g, me}         | {g, nobody}     | the holder                                | store | Release  | given back                           |
//! | {g, dead}       | {g, nobody}     | who recovers, if the block is not in flight | CAS | Release  | freed                                |
//!
//! There is no other transition. Zeroed memory is an arena whose blocks are all free.
//!
//! # In flight
//!
//! Between sending and receiving nobody holds the block but the message: the sender's bit stays, and stands for it. A
//! block {g, seat} is *in flight* if its flight names generation g or g-1, and the slot of the flight's position is
//! in that position's lap and Full or Reading.
//!
//! - The sender stores flight after it has claimed the position (Writing) and before it publishes (Full). So when the
//!   slot is Full, flight is right; when the sender dies before, the slot is never Full, and the block is the dead
//!   one's.
//! - A receiver changes the word while its name is in the slot, before it gives the slot back. From Full on the word is
//!   {g, sender} exactly, and nobody else changes it: who recovers leaves what is in flight.
//! - If it dies in between, the message is an orphan, and whoever takes over the slot finds {g, sender}, with flight
//!   {g, p}, or {g+1, dead reader}, still with flight {g, p}. It first makes flight name the word's generation, then
//!   changes the word. So flight is never more than one behind, however many takers die one after another.
//! - Two generations for a loan: a flight that a former life has left names at most one less than the last
//!   generation of that life, two or more less than the next. Who is lent a block resets flight all the same, so that
//!   it does not seem right again when the generations have wrapped.
//!
//! # Recovery
//!
//! `recover(dead)` looks at each block with the bit of the dead one's seat: in flight, and it stays with the message;
//! else the bit is cleared. After that it recovers the ring, where it receives, as orphans, what the dead one was
//! receiving. The order matters: a newcomer recovers the seat that it has taken, and the orphans get the very bit that
//! it looks for. The races:
//!
//! | race                                          | why it is harmless                                                                  |
//! |-----------------------------------------------|-------------------------------------------------------------------------------------|
//! | a receiver takes the block meanwhile          | it changes the word before it gives the slot back: whoever finds the slot over has an old word, and its CAS fails |
//! | a second one recovers the same seat           | one CAS succeeds; the word never comes back, because the next loan raises the generation |
//! | a newcomer on the seat has blocks of its own, under the same bit | a look at the word that finds such a block is ordered after the newcomer took the seat (BlockLoan or BlockTake with BlockRecoverLoad), so `succeeded`, asked after it, says yes; all was recovered by the newcomer |
//! | the newcomer comes between the question and the CAS, and receives what its predecessor has sent, or takes over what it was receiving | receiving raises the generation, though the bit is the same: the CAS fails |
//! | an orphan's taker gives the block back before the slot, and dies | the next taker finds a word that flight does not match: stale, nothing is touched |
//! | the sender leaves with messages in flight, and its seat is taken again | left is as good as dead: the newcomer leaves what is in flight, under what is now its own bit; the receiver clears it, and so would recovery from the newcomer's own death leave it |
//!
//! A word repeats after 2^16 generations, 21845 journeys of one block. Nobody is harmed but by who recovers: it would
//! have to be stopped between its look and its CAS, resume after exactly that many, and find a newcomer on the seat as
//! the block's holder.
//!
//! | who dies, after …                         | what is left                                  | what the others do                        |
//! |-------------------------------------------|-----------------------------------------------|-------------------------------------------|
//! | the loan's CAS, or anything until the claim | {g, dead}, flight not of g                  | recover: freed                            |
//! | the claim of a position                   | the same, Writing(dead)                       | the ring buries it; recover: freed        |
//! | flight = {g, p}                           | the same, flight {g, p}, Writing(dead)        | as before: Writing is not in flight       |
//! | publishing                                | a message                                     | it is received                            |
//! | claiming the slot to read                 | {g, sender}, Reading(dead)                    | who takes over: received as an orphan     |
//! | taking the block                          | {g+1, dead}, flight {g, p}, Reading(dead)     | recover leaves it; who takes over: received as an orphan |
//! | an orphan's taker, flight = {g+1, p}      | {g+1, of the dead}, Reading(dead)             | the next taker goes on                    |
//! | an orphan's taker, its CAS                | {g+2, dead}, flight {g+1, p}, Reading(dead)   | the same                                  |
//! | giving the slot back                      | {g+1, dead}, its slot over                    | recover: freed; the dead one had the message |
//! | giving the block back                     | nothing                                       |                                           |
//! | who recovers, anywhere                    | some bits cleared, its own name in a slot     | the next one does the rest                |
//!
//! # Messages that are delivered again
//!
//! By the choice of who makes the arena ([`Shape::redelivering`]), the same for all, a received message whose reader
//! dies before it has given the block back is handed to one survivor more, by `recover`, as an orphan is. A third word
//! of the header, the *mail*, says what a received block holds: {generation, kept, sender, length}.
//!
//! A block whose word is {w, seat} holds a received message if the mail is {w-1, sent}, {w-1, kept} or {w, kept}. Not
//! if it is {w, sent}: that one is being sent, and was never received. So the sender notes {g, sent} beside flight, and
//! the receiver's CAS, which makes g+1 of g, makes the message a received one without a store of its own.
//!
//! | who                                | does, in this order                                                              |
//! |------------------------------------|----------------------------------------------------------------------------------|
//! | who is lent a block                | after the CAS: mail = {g-2}, so that it is of no block after a wrap              |
//! | the sender, in Writing(me)         | flight = {g, p}, mail = {g, sent}; publishes                                     |
//! | an orphan's taker, in Reading(me)  | mail = {w, kept} unless it is of generation w already; CAS {w} to {w+1, me}      |
//! | who recovers, block not in flight  | mail: CAS {w-1} to {w, kept}, unless it is; word: CAS {w, dead} to {w+1, me}     |
//! | who sends it again                 | mail = {w, kept}; then as the sender, but leaves the mail                        |
//!
//! The mail is raised before the word, as flight is: it is never more than one behind, however many die one after
//! another. It never goes back while the message is received. Those who recover are not alone with the block: one of
//! them may be late, so it raises by a CAS, which fails once the word has gone on, because whoever has taken the
//! block has found the mail raised or raised it. The winner of the word's CAS is alone with the message: it is never
//! with two.
//!
//! | who dies, after …                         | what is left                                  | what the others do                        |
//! |-------------------------------------------|-----------------------------------------------|-------------------------------------------|
//! | mail = {g, sent}, before publishing       | {g, dead}, Writing(dead)                      | recover: freed, it was never sent         |
//! | taking the block, giving the slot back    | {g+1, dead}, mail {g, sent}                   | recover: delivered again                  |
//! | giving the block back                     | nothing                                       | it is over, and never comes again         |
//! | who recovers, the mail's CAS              | {w, dead}, mail {w, kept}                     | the next one goes on                      |
//! | who recovers, the word's CAS              | {w+1, dead}, mail {w, kept}                   | recover: delivered again                  |
//! | an orphan's taker, the mail               | {w, of the dead}, mail {w, kept}, Reading(dead) | who takes over goes on                  |
//! | an orphan's taker, the slot               | {w+1, dead}, mail {w}                         | recover: delivered again                  |
//! | who sends it again, before publishing     | {w, dead}, mail {w, kept}, Writing(dead)      | the ring buries it; recover: delivered again |
//! | the same, publishing                      | a message, mail {w, kept}                     | it is received: {w+1}, mail one behind    |
//! | who leaves, with an orphan                | {w, gone}, mail one behind at most            | left is as good as dead: delivered again  |
//!
//! The dead one may have acted on the message: delivery is at least once. Without the choice nobody reads or writes the
//! mail. It is read Relaxed, like flight and for the same reason: BlockTake with BlockRecoverLoad, or the proof of
//! death. Whatever a bad peer writes there, seat and length are checked before they are used, and a block whose mail
//! can't be is freed.
//!
//! # Orderings
//!
//! - BlockFree and BlockRecover (Release) with BlockLoanLoad (Acquire): the next holder writes after the last one has
//!   read. A dead holder's accesses come before BlockRecover because of the proof of death.
//! - BlockLoan and BlockTake (Release) with BlockRecoverLoad (Acquire): as in the table of races.
//! - The bytes pass from sender to receiver with the message, by MpmcPublish and MpmcPopLoad. Flight is Relaxed: it is
//!   read by those who have the slot, and by those who recover, for whom it comes before the word of a dead holder
//!   because of the proof of death.
//!
//! # What a bad peer can do
//!
//! Descriptors are checked: a block that exists, the generation and sender that its word names, a length within it;
//! else the receiver gets [`DescriptorError`], the slot is given back and the block is left as it is. Words that lie
//! make two parties write to one block, inside the arena: bytes may be wrong, bounds hold, every loop ends.

mod handle;
mod memory;
mod recover;
mod word;

use core::fmt;

pub use handle::{Block, Blocks, Immortal, Message, Peers};
pub use memory::{Header, Region, Shape};
pub use recover::Recovered;
pub use word::{Descriptor, Flight, Mail, Raw, SEATS, Word};

use crate::owner::Owner;

/// No arena can have this shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ShapeError {
    /// An arena without blocks has nothing to lend.
    NoBlocks,
    /// A block without bytes carries nothing.
    NoBytes,
    /// More blocks than an arena can have.
    TooMany {
        /// What was asked for.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// More bytes a block than an arena of so many blocks can have.
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// The most.
        most: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeError::NoBlocks => f.write_str("an arena of 0 blocks has nothing to lend"),
            ShapeError::NoBytes => f.write_str("a block of 0 bytes can't carry anything"),
            ShapeError::TooMany { asked, most } => {
                write!(f, "an arena of {asked} blocks is too large: the most is {most}")
            }
            ShapeError::TooLarge { asked, most } => {
                write!(f, "blocks of {asked} bytes are too large: the most for so many of them is {most}")
            }
        }
    }
}

impl core::error::Error for ShapeError {}

/// Whoever has this seat can't hold blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeatError {
    /// The seat, counted from 0.
    pub seat: u32,
}

impl fmt::Display for SeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seat = self.seat;
        write!(f, "seat {seat} can't hold blocks: an arena knows {SEATS} seats, 0 to {}", SEATS - 1)
    }
}

impl core::error::Error for SeatError {}

/// No block is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted {
    /// How many there are.
    pub blocks: u32,
    /// How many bytes each has.
    pub bytes: usize,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no block is free: all {} of {} bytes are held or on their way", self.blocks, self.bytes)
    }
}

impl core::error::Error for Exhausted {}

/// Why a block was not sent. It is handed back.
#[derive(PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// As many messages are on their way as the ring can hold.
    Full(Block),
    /// The ring was closed.
    Closed(Block),
    /// A participant that lives, but has stopped or been stopped in the middle of receiving, holds the place that is
    /// next. [`Owner::NOBODY`]: others were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
        /// What was not sent.
        block: Block,
    },
    /// A block has fewer bytes.
    TooLong {
        /// What was to be sent, in bytes.
        len: usize,
        /// What a block has.
        most: usize,
        /// What was not sent.
        block: Block,
    },
}

impl SendError {
    /// What was not sent.
    pub fn into_inner(self) -> Block {
        match self {
            SendError::Full(block) | SendError::Closed(block) => block,
            SendError::Busy { block, .. } | SendError::TooLong { block, .. } => block,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => f.write_str("no more messages can be on their way: the ring is full"),
            SendError::Closed(_) => f.write_str("the ring is closed"),
            SendError::Busy { owner, .. } => write!(f, "the next place of the ring is held by {owner}"),
            SendError::TooLong { len, most, .. } => {
                write!(f, "a message of {len} bytes does not fit into a block of {most}")
            }
        }
    }
}

impl core::error::Error for SendError {}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing is there.
    Empty,
    /// Nothing is there and nothing will come: the ring was closed, and all that was sent has been received.
    Drained,
    /// A participant that lives, but has stopped or been stopped in the middle of sending, holds the place that is
    /// next. [`Owner::NOBODY`]: others were faster, again and again.
    Busy {
        /// Who.
        owner: Owner,
    },
    /// A message names a block that it can't have. It is gone; the block is as it was.
    Bad(DescriptorError),
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::Empty => f.write_str("no message is there"),
            ReceiveError::Drained => f.write_str("the ring is closed and empty"),
            ReceiveError::Busy { owner } => write!(f, "the next message is held by {owner}"),
            ReceiveError::Bad(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for ReceiveError {}

/// What is wrong with a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DescriptorError {
    /// There is no such block.
    Block {
        /// Its number.
        block: u32,
        /// How many there are.
        blocks: u32,
    },
    /// The block has fewer bytes.
    Length {
        /// What the descriptor says.
        len: u64,
        /// What a block has.
        most: usize,
    },
    /// No such seat can have sent it.
    Sender {
        /// The seat.
        seat: u32,
    },
    /// The block is not on its way in this generation: it was given back and perhaps lent again.
    Stale {
        /// Its number.
        block: u32,
        /// What the descriptor says.
        generation: u16,
        /// What the block's word says.
        found: Word,
    },
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DescriptorError::Block { block, blocks } => {
                write!(f, "a message names block {block} of an arena of {blocks}")
            }
            DescriptorError::Length { len, most } => {
                write!(f, "a message of {len} bytes claims to lie in a block of {most}")
            }
            DescriptorError::Sender { seat } => {
                write!(f, "a message claims to be sent by seat {seat} of {SEATS}")
            }
            DescriptorError::Stale { block, generation, found } => {
                write!(f, "a message names block {block} in generation {generation}; the block is {found:?}")
            }
        }
    }
}

impl core::error::Error for DescriptorError {}

/// Whoever holds blocks can't recover its own seat: its bit is its predecessor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnSeat {
    /// The seat.
    pub seat: u32,
}

impl fmt::Display for OwnSeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {} was to recover its predecessor before it held its first block", self.seat)
    }
}

impl core::error::Error for OwnSeat {}
