//! The memory of an arena: its shape, headers, and who lends them.
//!
//! # Safety
//! An unsafe trait is declared here, because the handles trust what a region lends; nothing unsafe is done.
#![allow(unsafe_code)]

use core::fmt;

use super::word::MOST_LEN;
use super::{Flight, Mail, ShapeError, Word};
use crate::board::Buffer;
use crate::mem::{Atom, Mem, Ordering, Real};

/// How many blocks, and how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    blocks: u32,
    bytes: usize,
    redelivers: bool,
}

impl Shape {
    /// The most blocks.
    pub const MOST_BLOCKS: usize = 1 << 24;
    /// The most bytes of all blocks together.
    pub const MOST_BYTES: usize = 1 << 46;

    /// `blocks` blocks of `bytes` bytes each, rounded up to whole cache lines.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn of(blocks: usize, bytes: usize) -> Result<Shape, ShapeError> {
        if blocks == 0 {
            return Err(ShapeError::NoBlocks);
        }
        if bytes == 0 {
            return Err(ShapeError::NoBytes);
        }
        if blocks > Self::MOST_BLOCKS {
            return Err(ShapeError::TooMany { asked: blocks, most: Self::MOST_BLOCKS });
        }
        let most = Self::MOST_BYTES / blocks / 64 * 64;
        if bytes > most {
            return Err(ShapeError::TooLarge { asked: bytes, most });
        }
        Ok(Shape { blocks: blocks as u32, bytes: bytes.next_multiple_of(64), redelivers: false })
    }

    /// The same; a message whose reader died before it had given the block back is delivered again. All participants
    /// say so, or none.
    ///
    /// # Errors
    /// [`ShapeError::TooLarge`], if a block has more than 2^40 bytes.
    pub const fn redelivering(self) -> Result<Shape, ShapeError> {
        if self.bytes > MOST_LEN {
            return Err(ShapeError::TooLarge { asked: self.bytes, most: MOST_LEN });
        }
        Ok(Shape { redelivers: true, ..self })
    }

    /// Whether messages of dead readers are delivered again.
    #[inline(always)]
    pub const fn redelivers(self) -> bool {
        self.redelivers
    }

    /// How many blocks.
    pub const fn blocks(self) -> u32 {
        self.blocks
    }

    /// Bytes of a block, a multiple of 64.
    pub const fn bytes(self) -> usize {
        self.bytes
    }
}

/// The words of a block, on a line of their own: they change hands at another time than its bytes.
#[repr(C, align(64))]
pub struct Header<M: Mem> {
    pub(super) word: M::U64,
    pub(super) flight: M::U64,
    /// Only where messages of dead readers are delivered again.
    pub(super) mail: M::U64,
}

impl<M: Mem> Header<M> {
    /// A free block's, in `generation` (0 in a new arena; tests start near the wrap).
    pub fn new(generation: u16) -> Self {
        let word = Word::new(generation, 0);
        Header {
            word: M::U64::new(word.0),
            flight: M::U64::new(Flight::none(generation).0),
            mail: M::U64::new(Mail::none(generation).0),
        }
    }

    /// Its word, as it is now.
    pub fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }
}

impl<M: Mem> fmt::Debug for Header<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flight = Flight(self.flight.load(Ordering::Relaxed));
        let mail = Mail(self.mail.load(Ordering::Relaxed));
        let word = self.word();
        f.debug_struct("Header").field("word", &word).field("flight", &flight).field("mail", &mail).finish()
    }
}

/// Lends the memory of an arena.
///
/// # Safety
/// Every clone lends the same headers and blocks for as long as it lives; different numbers below the shape's `blocks`
/// are different blocks, whose bytes, as many as the shape says, from an address that is a multiple of 64, are nothing
/// else; `shape`, from private memory, stays the same. Other numbers are never asked for.
pub unsafe trait Region<M: Mem>: Clone {
    /// The words of a block.
    fn header(&self, block: u32) -> &Header<M>;
    /// The bytes of a block.
    fn bytes(&self, block: u32) -> Buffer<'_, M>;
    /// How many blocks, and how large.
    fn shape(&self) -> Shape;
}

static_assertions::const_assert_eq!(size_of::<Header<Real>>(), 64);
static_assertions::const_assert_eq!(core::mem::offset_of!(Header<Real>, flight), 8);
static_assertions::const_assert_eq!(core::mem::offset_of!(Header<Real>, mail), 16);

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn shapes() {
        let shape = Shape::of(3, 65).expect("a small arena");
        assert_eq!((shape.blocks(), shape.bytes()), (3, 128));
        assert_eq!(Shape::of(0, 64), Err(ShapeError::NoBlocks));
        assert_eq!(Shape::of(1, 0), Err(ShapeError::NoBytes));
        let too_many = ShapeError::TooMany { asked: (1 << 24) + 1, most: 1 << 24 };
        assert_eq!(Shape::of((1 << 24) + 1, 64), Err(too_many));
        assert_eq!(Shape::of(1 << 24, 1 << 23), Err(ShapeError::TooLarge { asked: 1 << 23, most: 1 << 22 }));
        assert_eq!(Shape::of(1, usize::MAX), Err(ShapeError::TooLarge { asked: usize::MAX, most: 1 << 46 }));
        assert_eq!(Shape::of(1, 1 << 46).map(Shape::bytes), Ok(1 << 46));
        let keeping = Shape::of(1, 1 << 40).and_then(Shape::redelivering);
        assert_eq!(keeping.map(Shape::redelivers), Ok(true));
        let more = Shape::of(1, (1 << 40) + 1).and_then(Shape::redelivering);
        assert_eq!(more, Err(ShapeError::TooLarge { asked: (1 << 40) + 64, most: 1 << 40 }));
        assert!(too_many.to_string().ends_with("the most is 16777216"));
    }
}
