//! Buffers in shared memory: a tensor's storage, handed around by descriptor, freed by the last holder.
//!
//! A [`Pool`] lends buffers. Whoever [allocates](Pool::alloc) one has it alone ([`UniqueBuf`], to write); shared, it
//! can be read by all who hold it ([`SharedBuf`]), or, *open*, read and written by all, value by value ([`OpenBuf`]). A
//! [`Descriptor`] of sixteen bytes hands it to another thread or process, through whatever carries it: a ring, a link,
//! a message of any kind. Nothing is copied.
//!
//! # Who holds a buffer
//!
//! A set of participants, a bit each in the buffer's word, and the descriptors on their way, a bit each too: never a
//! count. See [`sapwood_core::bufs`] for the protocol. A participant that dies leaves bits that name it; whoever takes
//! its seat, or finds no other buffer, clears them once its death is proven.
//!
//! | who dies                                    | what becomes of the buffer                                            |
//! |---------------------------------------------|-----------------------------------------------------------------------|
//! | a holder                                    | it holds it no more; free if nobody else does                         |
//! | in the middle of sharing                    | a descriptor that nobody has is void with its sender's other ones     |
//! | after it has sent a descriptor              | the descriptor is good until the sender's seat is recovered: void then |
//! | after it has sent, and dropped its [`Pool`] | the descriptor is good: it stands by itself                           |
//! | with a descriptor in its hands, not adopted | the descriptor is lost, see below                                     |
//! | in the middle of adopting                   | either lost, or it was a holder                                       |
//!
//! # A descriptor that is lost
//!
//! A buffer on its way is held by its descriptor, and the descriptor by its sender's seat. If the message is lost (its
//! reader died, the ring went) the buffer stays until one of these:
//!
//! - its sender [recalls](Pool::recall) what nobody has adopted, or adopts the descriptor itself;
//! - its sender dies: recovery makes it void;
//! - its sender had left, and any participant says [`void_left`](Pool::void_left);
//! - the last participant is gone: so is the pool.
//!
//! Nobody else can know that a message will not come: it may lie in a file. A ring that keeps a message until its
//! reader has done with it knows: [`try_pop_with`](crate::ring::mpmc::Ring::try_pop_with) adopts while the message is
//! in the ring, so whoever dies over it leaves it to the next reader, and nothing is lost.
//!
//! # What a bad peer can do
//!
//! Descriptors are checked, and what stands in a buffer's header about type and length is checked against the memory.
//! A bad peer that has the pool mapped can write to a buffer while it is borrowed, as to any frame
//! ([`ring::frames`](crate::ring::frames)): values may be wrong; any bytes are a value of a [`Shareable`] type.

mod buf;
mod depot;
mod open;
mod pool;

pub use buf::{SharedBuf, UniqueBuf};
pub use open::OpenBuf;
pub use pool::{Pool, Stats, spec};
pub use sapwood_core::shareable::Shareable;

use std::fmt;

use sapwood_core::bufs::{self, Ticket};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::ring::Peer;

/// The most participants of a pool: each has a bit in a buffer's word.
pub const PARTICIPANTS: usize = bufs::SEATS as usize;
/// The most descriptors of one buffer that can be on their way.
pub const IN_FLIGHT: usize = bufs::TICKETS as usize;

/// A buffer on its way. A plain value: send it through any ring, link or message to somebody who has the same pool, who
/// [adopts](Pool::adopt) it. It can be copied, but is adopted once.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    serde::Serialize,
    serde::Deserialize,
)]
#[repr(C)]
pub struct Descriptor {
    pool: u32,
    block: u32,
    /// {bit: 24, serial: 40}
    ticket: u64,
}

impl Descriptor {
    const SERIAL: u32 = 40;

    fn new(pool: u32, ticket: Ticket) -> Descriptor {
        let bits = u64::from(ticket.bit) << Self::SERIAL | ticket.serial;
        Descriptor { pool, block: ticket.block, ticket: bits }
    }

    fn ticket(self) -> Ticket {
        let (bit, serial) = (self.ticket >> Self::SERIAL, self.ticket & ((1 << Self::SERIAL) - 1));
        Ticket { block: self.block, bit: bit as u32, serial }
    }
}

/// How a buffer may be used by those who share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// Read: a [`SharedBuf`].
    Still,
    /// Read and written: an [`OpenBuf`].
    Open,
}

/// What is in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// How it may be used.
    pub how: Use,
    /// Bytes of a value.
    pub size: usize,
    /// Alignment of a value.
    pub align: usize,
    /// Values.
    pub len: usize,
}

impl Contents {
    const SIZE: u32 = 40;

    pub(crate) const fn of<T>(how: Use, len: usize) -> Contents {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 64, "values of a byte or more, on 64 at most") };
        const { assert!((size_of::<T>() as u64) < 1 << Self::SIZE, "values of less than 1 TiB") };
        Contents { how, size: size_of::<T>(), align: align_of::<T>(), len }
    }

    /// As it stands in the header.
    fn said(self) -> [u64; 2] {
        let how = match self.how {
            Use::Still => 1,
            Use::Open => 2,
        };
        let align = u64::from(self.align.trailing_zeros());
        [how << 56 | align << Self::SIZE | self.size as u64, self.len as u64]
    }

    /// What stands in a header, which may say anything; `None`: nothing that fits into `bytes` bytes.
    fn checked(said: [u64; 2], bytes: usize) -> Option<Contents> {
        let how = match said[0] >> 56 {
            1 => Use::Still,
            2 => Use::Open,
            _ => return None,
        };
        let size = usize::try_from(said[0] & ((1 << Self::SIZE) - 1)).ok()?;
        let align = 1_usize.checked_shl((said[0] >> Self::SIZE & 0xffff) as u32)?;
        let len = usize::try_from(said[1]).ok()?;
        let fits = size.checked_mul(len).is_some_and(|need| need <= bytes);
        fits.then_some(Contents { how, size, align, len })
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contents { how, size, align, len } = self;
        let how = match how {
            Use::Still => "to be read",
            Use::Open => "to be read and written",
        };
        write!(f, "{len} values of {size} bytes, aligned to {align}, {how}")
    }
}

/// Why no buffer was allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// All buffers are held by the living, or on their way.
    #[error(
        "no buffer is free: of {blocks} of {bytes} bytes, {held} are held and {in_flight} descriptors are on their way"
    )]
    Exhausted {
        /// How many there are.
        blocks: u32,
        /// Bytes of each.
        bytes: usize,
        /// How many somebody holds.
        held: u32,
        /// Descriptors that nobody has adopted.
        in_flight: u32,
    },
    /// A buffer has fewer bytes.
    #[error("{len} values need {need} bytes, and a buffer of this pool has {most}")]
    TooLong {
        /// Values.
        len: usize,
        /// Bytes that they need.
        need: usize,
        /// Bytes of a buffer.
        most: usize,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's seat in a pool")]
    Forked,
}

/// Why no descriptor was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// As many are on their way as there can be.
    #[error(
        "{most} descriptors of the buffer are on their way, and more can't be until one is adopted or recalled"
    )]
    TooMany {
        /// How many.
        most: usize,
    },
    /// Another participant changes the buffer's word again and again, as no good one does.
    #[error("others change the word of buffer {block} again and again")]
    Busy {
        /// The buffer.
        block: u32,
    },
    /// This process is a forked child of the one that has this buffer.
    #[error("a forked child does not hold its parent's buffers")]
    Forked,
}

/// A buffer that was not handed over, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Kept<B> {
    /// Why.
    pub error: ShareError,
    /// The buffer.
    pub buf: B,
}

/// Why a descriptor was not adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It was adopted or recalled already, or its sender has died and was recovered.
    #[error("buffer {block}: the descriptor is void, adopted or recalled before, or its sender has died{}", by(*.last))]
    Void {
        /// The buffer.
        block: u32,
        /// Whose descriptor has its place now, if anybody's.
        last: Option<Peer>,
    },
    /// It names a buffer that this pool does not have: it comes from another one, or from a bad peer.
    #[error(
        "the descriptor names buffer {block} of pool {pool:#010x}; this is pool {ours:#010x} of {blocks} buffers"
    )]
    OtherPool {
        /// The buffer.
        block: u32,
        /// The pool that it names.
        pool: u32,
        /// This one.
        ours: u32,
        /// Buffers of this one.
        blocks: u32,
    },
    /// The buffer holds something else. It was put on its way again, under a new descriptor.
    #[error("the buffer holds {found}, not {expected}")]
    Other {
        /// What it holds.
        found: Contents,
        /// What was asked for; its length is not looked at.
        expected: Contents,
        /// With which it can be adopted as what it is; `None`: there was no place for it, and the buffer was let go.
        descriptor: Option<Descriptor>,
    },
    /// A bad peer has been at it: what stands in the buffer's header is nothing that a good one writes, or is not what
    /// this participant has the buffer for already, or this participant has it alone, so that nobody can have sent it.
    /// The descriptor is spent; what this participant had of the buffer it has.
    #[error(
        "buffer {block} can't have been sent as it is: its header says {said:x?}, or it is held here alone"
    )]
    Broken {
        /// The buffer.
        block: u32,
        /// What it says.
        said: [u64; 2],
    },
    /// Another participant changes the buffer's word again and again, as no good one does.
    #[error("others change the word of buffer {block} again and again")]
    Busy {
        /// The buffer.
        block: u32,
    },
    /// This process is a forked child of the one that has this handle.
    #[error("a forked child does not hold its parent's seat in a pool")]
    Forked,
}

fn by(peer: Option<Peer>) -> String {
    peer.map_or_else(String::new, |peer| format!(" (whose place {peer} has now)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_told_and_nothing_else_is_believed() {
        for how in [Use::Still, Use::Open] {
            let c = Contents::of::<u64>(how, 100);
            assert_eq!(Contents::checked(c.said(), 800), Some(c));
            assert_eq!(Contents::checked(c.said(), 799), None);
        }
        assert_eq!(Contents::checked([0, 0], 64), None);
        assert_eq!(Contents::checked([1 << 56 | u64::MAX >> 24, u64::MAX], usize::MAX), None);
        let wild = Contents::checked([1 << 56 | 0xffff << 40, 0], 64);
        assert_eq!(wild, None, "an alignment of 2^65535");
    }

    #[test]
    fn a_descriptor_keeps_its_ticket() {
        let ticket = Ticket { block: u32::MAX, bit: 15, serial: (1 << 40) - 1 };
        assert_eq!(Descriptor::new(7, ticket).ticket(), ticket);
        assert_eq!(size_of::<Descriptor>(), 16);
    }
}
