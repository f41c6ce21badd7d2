//! What can be wrong with bytes from outside: one variant for each rule, with the numbers.

use core::fmt;

use super::descriptor::DIMS_MOST;
use super::header::{Kind, MAGIC, WORDS};

/// Why a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A header broke a rule.
    Header(HeaderError),
    /// A descriptor broke a rule.
    Descriptor(DescriptorError),
    /// The tensor of the descriptor has another number of bytes than the message.
    Total {
        /// The tensor's.
        tensor: u64,
        /// The message's.
        total: u64,
    },
    /// The frame should not have come here.
    Order(OrderError),
}

/// Which rule of a header is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The frame does not begin with [`MAGIC`]: a foreign peer, another version, or a stream that has lost its place.
    Magic {
        /// What it begins with.
        found: [u8; 4],
    },
    /// The header has another length.
    Words {
        /// Its words of 8 bytes, as claimed; 8 is legal.
        found: u8,
    },
    /// No kind has this code.
    Kind {
        /// The code.
        found: u8,
    },
    /// A flag without meaning is set.
    Flags {
        /// All flags of the frame.
        found: u8,
        /// Those that have a meaning.
        known: u8,
    },
    /// A flag is set that frames of this kind do not have.
    FlagsOfKind {
        /// The kind.
        kind: Kind,
        /// All flags of the frame.
        found: u8,
        /// Those that the kind may have.
        allowed: u8,
    },
    /// The first frame of a tensor has a descriptor of 88 bytes, every other has none.
    DescriptorLength {
        /// The kind.
        kind: Kind,
        /// Its offset.
        offset: u64,
        /// Bytes, as claimed.
        found: u16,
        /// Bytes that the rule demands.
        expected: u16,
    },
    /// Header and descriptor are not what was sent.
    Checksum {
        /// The sum in the header.
        found: u32,
        /// The sum of what arrived.
        computed: u32,
    },
    /// A field that this kind does not use is not 0.
    Unused {
        /// The kind.
        kind: Kind,
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// More payload than a frame may have.
    TooLong {
        /// Bytes, as claimed.
        len: u64,
        /// The limit.
        most: u64,
    },
    /// A longer message than the receiver takes.
    MessageTooLong {
        /// Bytes, as claimed.
        total: u64,
        /// The limit.
        most: u64,
    },
    /// The chunk does not lie inside its message.
    Offset {
        /// Where it begins.
        offset: u64,
        /// Its bytes.
        len: u64,
        /// Bytes of the message.
        total: u64,
    },
    /// A chunk without payload, of a message that has some.
    Empty {
        /// Where it stands.
        offset: u64,
        /// Bytes of the message.
        total: u64,
    },
    /// A frame of another generation of the group.
    Epoch {
        /// The frame's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// A frame of another rank.
    Rank {
        /// The frame's.
        found: u16,
        /// Who is at the other end.
        expected: u16,
    },
    /// A frame of another lane.
    Lane {
        /// The frame's.
        found: u8,
        /// Ours.
        expected: u8,
    },
    /// A frame is missing, or came twice.
    Sequence {
        /// The frame's.
        found: u64,
        /// The one that is due.
        expected: u64,
    },
}

/// Which rule of a descriptor is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The code names no dtype.
    Dtype {
        /// The code.
        found: u8,
    },
    /// An element of this dtype has another size.
    Bits {
        /// Bits, as claimed.
        found: u8,
        /// Bits of the dtype.
        expected: u8,
    },
    /// Elements of several lanes: there are none.
    Lanes {
        /// Lanes, as claimed; 1 is legal.
        found: u16,
    },
    /// More dims than 8.
    Ndim {
        /// Dims, as claimed.
        found: u8,
    },
    /// An order of elements other than row-major.
    Order {
        /// Its code; 0 is legal.
        found: u8,
    },
    /// A reserved byte is not 0.
    Reserved {
        /// Where, in the descriptor.
        at: usize,
        /// The word (or half word) there.
        found: u64,
    },
    /// A dim that is not in use is not 0.
    UnusedDim {
        /// Which, from 0.
        index: usize,
        /// Dims in use.
        ndim: u8,
        /// Its value.
        found: u64,
    },
    /// The bytes of all elements do not fit 64 bits.
    Overflow {
        /// The dim at which the product grew too long, from 0.
        index: usize,
        /// Its value.
        dim: u64,
        /// The product before it, in bytes.
        bytes: u64,
    },
}

/// Which rule about the order of frames is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OrderError {
    /// A later chunk of a message of which the first never came.
    Orphan {
        /// Its kind.
        kind: Kind,
        /// Its tag.
        tag: u64,
        /// Where it begins.
        offset: u64,
    },
    /// A message begins inside another one.
    Within {
        /// Tag of the new message.
        tag: u64,
        /// Tag of the one that is not whole.
        open: u64,
        /// Bytes of that one that have come.
        received: u64,
        /// Its bytes.
        total: u64,
    },
    /// A chunk (or an abort) does not go on where the last one ended.
    Gap {
        /// Tag of the message.
        tag: u64,
        /// Where it begins.
        offset: u64,
        /// Where the last one ended.
        expected: u64,
    },
    /// A chunk (or an abort) says something else of its message than the first one did.
    Differs {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: u64,
        /// What the first one said.
        expected: u64,
    },
    /// An abort outside a message.
    NothingToAbort {
        /// Its tag.
        tag: u64,
    },
    /// A close inside a message.
    CloseWithin {
        /// Tag of the message.
        tag: u64,
        /// Bytes of it that have come.
        received: u64,
        /// Its bytes.
        total: u64,
    },
    /// Bytes behind the last frame.
    AfterClose,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Header(error) => fmt::Display::fmt(error, f),
            WireError::Descriptor(error) => fmt::Display::fmt(error, f),
            WireError::Total { tensor, total } => {
                write!(f, "a tensor of {tensor} bytes in a message of {total}")
            }
            WireError::Order(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl core::error::Error for WireError {}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            HeaderError::Magic { found } => {
                write!(
                    f,
                    "a frame begins with {found:02x?} instead of {MAGIC:02x?}: a foreign peer or another version"
                )
            }
            HeaderError::Words { found } => {
                write!(f, "a header of {found} words; this version's has {WORDS}")
            }
            HeaderError::Kind { found } => write!(f, "no kind of frame has the code {found}"),
            HeaderError::Flags { found, known } => {
                write!(f, "flags {found:#04x}, of which only {known:#04x} have a meaning")
            }
            HeaderError::FlagsOfKind { kind, found, allowed } => {
                write!(f, "flags {found:#04x} on a frame of kind {kind}, which may have {allowed:#04x}")
            }
            HeaderError::DescriptorLength { kind, offset, found, expected } => write!(
                f,
                "a descriptor of {found} bytes in a frame of kind {kind} at offset {offset}, which has {expected}"
            ),
            HeaderError::Checksum { found, computed } => {
                write!(f, "a frame's checksum is {found:#010x}, but what arrived has {computed:#010x}")
            }
            HeaderError::Unused { kind, field, found } => {
                write!(f, "the {field} of a frame of kind {kind} is {found} instead of 0")
            }
            HeaderError::TooLong { len, most } => write!(f, "a frame of {len} bytes; {most} are the most"),
            HeaderError::MessageTooLong { total, most } => {
                write!(f, "a message of {total} bytes; {most} are the most")
            }
            HeaderError::Offset { offset, len, total } => {
                write!(f, "{len} bytes at offset {offset} do not lie inside a message of {total}")
            }
            HeaderError::Empty { offset, total } => {
                write!(f, "a chunk of no bytes at offset {offset} of a message of {total}")
            }
            HeaderError::Epoch { found, expected } => {
                write!(f, "a frame of epoch {found} in epoch {expected}")
            }
            HeaderError::Rank { found, expected } => {
                write!(f, "a frame of rank {found} from rank {expected}'s end")
            }
            HeaderError::Lane { found, expected } => write!(f, "a frame of lane {found} on lane {expected}"),
            HeaderError::Sequence { found, expected } => {
                write!(f, "frame number {found} came where number {expected} was due")
            }
        }
    }
}

impl core::error::Error for HeaderError {}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DescriptorError::Dtype { found } => write!(f, "no dtype has the code {found}"),
            DescriptorError::Bits { found, expected } => {
                write!(f, "an element of {found} bits is claimed for a dtype of {expected}")
            }
            DescriptorError::Lanes { found } => {
                write!(f, "elements of {found} lanes are claimed, but every dtype has 1")
            }
            DescriptorError::Ndim { found } => {
                write!(f, "a tensor of {found} dims; {DIMS_MOST} are the most")
            }
            DescriptorError::Order { found } => {
                write!(f, "an order of elements of code {found}, but only row-major (0) travels")
            }
            DescriptorError::Reserved { at, found } => {
                write!(f, "the reserved bytes at {at} of a descriptor hold {found:#x} instead of 0")
            }
            DescriptorError::UnusedDim { index, ndim, found } => {
                write!(f, "dim {index} of a tensor of {ndim} dims is {found} instead of 0")
            }
            DescriptorError::Overflow { index, dim, bytes } => {
                write!(f, "{bytes} bytes times dim {index}, which is {dim}, do not fit 64 bits")
            }
        }
    }
}

impl core::error::Error for DescriptorError {}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            OrderError::Orphan { kind, tag, offset } => {
                write!(f, "a {kind} chunk at offset {offset} of a message (tag {tag}) that never began")
            }
            OrderError::Within { tag, open, received, total } => write!(
                f,
                "a message (tag {tag}) begins within another (tag {open}), of which {received} of {total} bytes came"
            ),
            OrderError::Gap { tag, offset, expected } => write!(
                f,
                "a message (tag {tag}) goes on at offset {offset}, but {expected} bytes of it have come"
            ),
            OrderError::Differs { field, found, expected } => {
                write!(
                    f,
                    "a chunk says that its message's {field} is {found}; the first chunk said {expected}"
                )
            }
            OrderError::NothingToAbort { tag } => {
                write!(f, "an abort of a message (tag {tag}) that never began or is whole")
            }
            OrderError::CloseWithin { tag, received, total } => write!(
                f,
                "a close inside a message (tag {tag}) of which {received} of {total} bytes have come"
            ),
            OrderError::AfterClose => f.write_str("bytes behind the frame that closed the stream"),
        }
    }
}

impl core::error::Error for OrderError {}
