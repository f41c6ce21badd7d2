//! The frame header: one cache line, little endian, no optional parts.
//!
//! ```text
//!       0      1      2      3      4      5      6      7
//!    +---------------------------+------+------+------+------+
//!  0 |     magic "SPW1"          | kind | flags| words| lane |   words: of 8 bytes in the header: 8
//!    +---------------------------+------+------+------+------+
//!  8 |                       sequence                        |   one more a frame, for each lane and direction
//!    +-------------------------------------------------------+
//! 16 |                         tag                           |   the sender's; says nothing to the wire
//!    +-------------------------------------------------------+
//! 24 |                         len                           |   bytes of payload in this frame
//!    +-------------------------------------------------------+
//! 32 |                        offset                         |   where in the message they belong
//!    +-------------------------------------------------------+
//! 40 |                        total                          |   bytes of the message
//!    +-------------+-------------+---------------------------+
//! 48 |   credits   |     ack     |           epoch           |   epoch: frames of a former run are refused
//!    +-------------+-------------+-------------+-------------+
//! 56 |          checksum         | descriptor  |    rank     |   descriptor: its bytes, 0 or 88; rank: of the sender
//!    +---------------------------+-------------+-------------+
//! ```
//!
//! The checksum is CRC-32C of bytes 0 to 55, 60 to 63 and the descriptor. Payload has none: what carries it does.
//!
//! | kind    | code | descriptor     | flags       | tag       | len, offset, total                            |
//! |---------|------|----------------|-------------|-----------|-----------------------------------------------|
//! | Data    | 1    | none           | VALUE, DEAF | message's | a chunk; 0 bytes only if the message has none |
//! | Tensor  | 2    | if offset is 0 | DEAF        | message's | the same                                      |
//! | Credit  | 3    | none           | none        | 0         | 0                                             |
//! | Beat    | 4    | none           | none        | progress  | 0                                             |
//! | Abort   | 5    | none           | none        | message's | 0, bytes that were sent, message's            |
//! | Close   | 6    | none           | none        | 0         | 0                                             |
//!
//! `credits` are frames that the sender of this header will take beyond what it granted before, `ack` is the low half
//! word of the sequence that it expects next. Any frame carries them. They serve carriers that have no backpressure of
//! their own; the codec hands them on and has no rule for them.

use core::fmt;

use super::checksum;
use super::descriptor::{DESCRIPTOR_BYTES, Descriptor};
use super::error::HeaderError;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 64;
/// Most bytes before a payload: header and descriptor.
pub const HEAD_MOST: usize = HEADER_BYTES + DESCRIPTOR_BYTES;
/// The first four bytes of every frame of this version.
pub const MAGIC: [u8; 4] = *b"SPW1";

pub(super) const WORDS: u8 = (HEADER_BYTES / 8) as u8;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A chunk of bytes or of an encoded value.
    Data = 1,
    /// A chunk of a tensor, dense and row-major.
    Tensor = 2,
    /// Carries nothing but credits and an ack.
    Credit = 3,
    /// A sign of progress: the tag counts it. For diagnosis; nobody is dead because he sends none.
    Beat = 4,
    /// The message whose chunks came before ends here, unfinished.
    Abort = 5,
    /// The last frame: the sender will send no more.
    Close = 6,
}

impl Kind {
    /// Every kind, in the order of the codes.
    pub const ALL: [Kind; 6] = [Kind::Data, Kind::Tensor, Kind::Credit, Kind::Beat, Kind::Abort, Kind::Close];

    /// The byte in the header.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of this code.
    pub const fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Data,
            2 => Kind::Tensor,
            3 => Kind::Credit,
            4 => Kind::Beat,
            5 => Kind::Abort,
            6 => Kind::Close,
            _ => return None,
        })
    }

    /// Whether frames of this kind are chunks of a message.
    pub const fn is_chunk(self) -> bool {
        matches!(self, Kind::Data | Kind::Tensor)
    }

    /// The flags that this kind may have.
    pub const fn flags(self) -> Flags {
        match self {
            Kind::Data => Flags(Flags::VALUE.0 | Flags::DEAF.0),
            Kind::Tensor => Flags::DEAF,
            _ => Flags::NONE,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Data => "data",
            Kind::Tensor => "tensor",
            Kind::Credit => "credit",
            Kind::Beat => "beat",
            Kind::Abort => "abort",
            Kind::Close => "close",
        })
    }
}

/// The flags of a frame; all chunks of a message have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// The message is an encoded value, not plain bytes.
    pub const VALUE: Flags = Flags(1);
    /// Its sender reads nothing before the message is sent whole. Two such senders that face each other know by this
    /// that neither will ever go on.
    pub const DEAF: Flags = Flags(2);
    /// Every flag that has a meaning.
    pub const KNOWN: Flags = Flags(Flags::VALUE.0 | Flags::DEAF.0);

    /// The byte in the header.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of this byte, or nothing if a bit has no meaning.
    pub const fn from_bits(bits: u8) -> Option<Flags> {
        if bits & !Flags::KNOWN.0 == 0 { Some(Flags(bits)) } else { None }
    }

    /// Whether all of `flags` are set.
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `others`.
    pub const fn with(self, others: Flags) -> Flags {
        Flags(self.0 | others.0)
    }
}

/// What a receiver takes at most. Nothing is ever allocated from a claimed length; these bound how long a frame may
/// hold up those behind it, and what counts as nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload in one frame.
    pub max_frame: u64,
    /// Bytes of one message. Never more than an address can count, whatever this says.
    pub max_message: u64,
}

impl Limits {
    /// Frames of 1 MiB, messages of 1 TiB.
    pub const DEFAULT: Limits = Limits { max_frame: 1 << 20, max_message: 1 << 40 };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// A header that broke no rule of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Its flags.
    pub flags: Flags,
    /// Which of several connections between two ranks it goes by.
    pub lane: u8,
    /// Rank of the sender.
    pub rank: u16,
    /// Generation of the group.
    pub epoch: u32,
    /// Number of the frame on its lane.
    pub sequence: u64,
    /// The sender's name for the message; progress in a beat; else 0.
    pub tag: u64,
    /// Bytes of payload behind the head.
    pub len: u64,
    /// Where in the message they belong; in an abort, bytes that were sent.
    pub offset: u64,
    /// Bytes of the message.
    pub total: u64,
    /// Frames granted beyond those before.
    pub credits: u16,
    /// Low half word of the sequence that the sender expects next.
    pub ack: u16,
}

/// A header as eight words.
pub(super) type Words = [u64; HEADER_BYTES / 8];

#[inline(always)]
pub(super) fn words_of(bytes: &[u8; HEADER_BYTES]) -> Words {
    let mut words = [0; HEADER_BYTES / 8];
    for (word, from) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*from);
    }
    words
}

/// First look, before the checksum: as much as says how many bytes of descriptor follow (0 or 88).
#[inline(always)]
pub(super) fn glance(words: &Words) -> Result<usize, HeaderError> {
    let [first, _, _, _, offset, _, _, last] = *words;
    if first as u32 != u32::from_le_bytes(MAGIC) {
        return Err(HeaderError::Magic { found: (first as u32).to_le_bytes() });
    }
    let [_, _, _, _, code, bits, length, _] = first.to_le_bytes();
    if length != WORDS {
        return Err(HeaderError::Words { found: length });
    }
    let kind = Kind::from_code(code).ok_or(HeaderError::Kind { found: code })?;
    let known = Flags::KNOWN.0;
    let flags = Flags::from_bits(bits).ok_or(HeaderError::Flags { found: bits, known })?;
    let allowed = kind.flags();
    if !allowed.has(flags) {
        return Err(HeaderError::FlagsOfKind { kind, found: bits, allowed: allowed.0 });
    }
    let expected = if kind == Kind::Tensor && offset == 0 { DESCRIPTOR_BYTES as u16 } else { 0 };
    let found = (last >> 32) as u16;
    if found != expected {
        return Err(HeaderError::DescriptorLength { kind, offset, found, expected });
    }
    Ok(usize::from(expected))
}

impl Header {
    /// Second look, of a header that has passed the first.
    #[inline(always)]
    pub(super) fn parse(words: &Words, descriptor: &[u64], limits: &Limits) -> Result<Header, HeaderError> {
        let [first, sequence, tag, len, offset, total, credit, last] = *words;
        let computed = checksum_of(words, descriptor);
        if last as u32 != computed {
            return Err(HeaderError::Checksum { found: last as u32, computed });
        }
        let [_, _, _, _, code, bits, _, lane] = first.to_le_bytes();
        let header = Header {
            kind: Kind::from_code(code).ok_or(HeaderError::Kind { found: code })?,
            flags: Flags(bits),
            lane,
            rank: (last >> 48) as u16,
            epoch: (credit >> 32) as u32,
            sequence,
            tag,
            len,
            offset,
            total,
            credits: credit as u16,
            ack: (credit >> 16) as u16,
        };
        header.bounds(limits)?;
        Ok(header)
    }

    /// The rules that one header can break by itself.
    #[inline(always)]
    fn bounds(&self, limits: &Limits) -> Result<(), HeaderError> {
        let Header { kind, len, offset, total, .. } = *self;
        if !kind.is_chunk() {
            self.unused()?;
        }
        let most = limits.max_message.min(isize::MAX as u64);
        if len > limits.max_frame {
            return Err(HeaderError::TooLong { len, most: limits.max_frame });
        }
        if total > most {
            return Err(HeaderError::MessageTooLong { total, most });
        }
        if total.checked_sub(offset).is_none_or(|rest| len > rest) {
            return Err(HeaderError::Offset { offset, len, total });
        }
        if kind.is_chunk() && len == 0 && total != 0 {
            return Err(HeaderError::Empty { offset, total });
        }
        Ok(())
    }

    fn unused(&self) -> Result<(), HeaderError> {
        let Header { kind, tag, len, offset, total, .. } = *self;
        let abort = kind == Kind::Abort;
        let fields = [
            ("tag", tag, abort || kind == Kind::Beat),
            ("len", len, false),
            ("offset", offset, abort),
            ("total", total, abort),
        ];
        match fields.into_iter().find(|(_, found, used)| !used && *found != 0) {
            Some((field, found, _)) => Err(HeaderError::Unused { kind, field, found }),
            None => Ok(()),
        }
    }

    /// The header as it travels, with its checksum; `descriptor` is what goes behind it. Says what it is told: a
    /// header that breaks a rule is encoded too, for tests of who must notice.
    ///
    /// ```
    /// use sapwood_core::wire::{Header, Kind, Limits, Flags};
    ///
    /// let header = Header {
    ///     kind: Kind::Beat, flags: Flags::NONE, lane: 0, rank: 3, epoch: 1, sequence: 9, tag: 41,
    ///     len: 0, offset: 0, total: 0, credits: 0, ack: 0,
    /// };
    /// let bytes = header.encode(None);
    /// assert_eq!(&bytes[..4], b"SPW1");
    /// assert_eq!(Header::decode(&bytes, None, &Limits::DEFAULT), Ok(header));
    /// ```
    pub fn encode(&self, descriptor: Option<&Descriptor>) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        match descriptor {
            None => self.put(&[], &mut bytes),
            Some(d) => self.put(&d.words(), &mut bytes),
        }
        bytes
    }

    #[inline(always)]
    pub(super) fn put(&self, descriptor: &[u64], bytes: &mut [u8; HEADER_BYTES]) {
        let magic = u64::from(u32::from_le_bytes(MAGIC));
        let first = magic
            | u64::from(self.kind.code()) << 32
            | u64::from(self.flags.0) << 40
            | u64::from(WORDS) << 48
            | u64::from(self.lane) << 56;
        let credit = u64::from(self.credits) | u64::from(self.ack) << 16 | u64::from(self.epoch) << 32;
        let last = (size_of_val(descriptor) as u64) << 32 | u64::from(self.rank) << 48;
        let mut words = [first, self.sequence, self.tag, self.len, self.offset, self.total, credit, last];
        let sum = checksum_of(&words, descriptor);
        let [.., last] = &mut words;
        *last |= u64::from(sum);
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }

    /// Reads one header by itself: all rules but those that need to know what came before. `descriptor` is what lies
    /// behind it, if that is long enough.
    ///
    /// # Errors
    /// One variant for each rule; the first that is broken. Epoch, rank, lane and sequence are the decoder's to check.
    pub fn decode(
        bytes: &[u8; HEADER_BYTES],
        descriptor: Option<&[u8; DESCRIPTOR_BYTES]>,
        limits: &Limits,
    ) -> Result<Header, HeaderError> {
        let words = words_of(bytes);
        let follows = glance(&words)?;
        let mut behind = [0; DESCRIPTOR_BYTES / 8];
        for (word, from) in behind.iter_mut().zip(descriptor.unwrap_or(&[0; DESCRIPTOR_BYTES]).as_chunks().0)
        {
            *word = u64::from_le_bytes(*from);
        }
        Header::parse(&words, if follows == 0 { &[] } else { &behind }, limits)
    }
}

/// The sum of a header, whatever stands in its own place, and of the descriptor.
#[inline(always)]
fn checksum_of(words: &Words, descriptor: &[u64]) -> u32 {
    let [a, b, c, d, e, f, g, last] = *words;
    checksum::of_head(&[a, b, c, d, e, f, g], (last >> 32) as u32, descriptor)
}
