//! What travels: one direction of a lane, and the messages on it.

use core::fmt;

use super::descriptor::Descriptor;
use super::header::{Flags, Kind};

/// One direction of one lane: what all of its frames say of their sender. Both ends know it before the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stream {
    /// Rank of the sender.
    pub rank: u16,
    /// Which of several connections between the two ranks. A message goes by one lane, whole.
    pub lane: u8,
    /// Generation of the group.
    pub epoch: u32,
    /// Number of the first frame; later ones count up, modulo 2⁶⁴.
    pub first: u64,
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Plain bytes, so many.
    Bytes(u64),
    /// An encoded value, of so many bytes.
    Value(u64),
    /// A tensor, dense and row-major.
    Tensor(Descriptor),
}

impl Content {
    /// Bytes of the whole payload.
    #[inline]
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Bytes(n) | Content::Value(n) => *n,
            Content::Tensor(d) => d.bytes(),
        }
    }

    /// The kind of its frames.
    #[inline]
    pub fn kind(&self) -> Kind {
        match self {
            Content::Bytes(_) | Content::Value(_) => Kind::Data,
            Content::Tensor(_) => Kind::Tensor,
        }
    }

    /// The flags that its frames have for its sake.
    #[inline]
    pub fn flags(&self) -> Flags {
        if matches!(self, Content::Value(_)) { Flags::VALUE } else { Flags::NONE }
    }

    /// The descriptor, if it is a tensor.
    #[inline]
    pub fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Content::Tensor(d) => Some(d),
            _ => None,
        }
    }
}

/// `60 bytes`, `a value of 60 bytes`, `f32[3, 5]`
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Bytes(n) => write!(f, "{n} bytes"),
            Content::Value(n) => write!(f, "a value of {n} bytes"),
            Content::Tensor(d) => fmt::Display::fmt(d, f),
        }
    }
}

/// A message as its receiver knows it after the first head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The sender's name for it.
    pub tag: u64,
    /// What it holds.
    pub content: Content,
    /// Whether the sender reads nothing until all of it is sent ([`Flags::DEAF`]).
    pub deaf: bool,
}

impl Message {
    /// The flags of its frames.
    #[inline]
    pub fn flags(&self) -> Flags {
        let flags = self.content.flags();
        if self.deaf { flags.with(Flags::DEAF) } else { flags }
    }
}
