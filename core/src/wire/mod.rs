//! The wire: how messages travel as frames over anything that carries bytes in order.
//!
//! ```text
//!  message          [ descriptor? ][        payload, row-major and dense         ]
//!                                  |  chunk  |      chunk      |  chunk  |
//!  frames     [ header | descriptor? | chunk ][ header | chunk ] [beat] [ header | chunk ] ...
//!                64 B       88 B      <= max_frame
//! ```
//!
//! - [`header`]: the picture of a header, kinds, flags, and the rules that one frame can break by itself.
//! - [`descriptor`]: dtype and dims of a tensor. Strides stay off the wire.
//! - [`encode`]: messages in, heads out. [`decode`]: bytes in any split in, frames out; the order of all rules.
//!
//! Neither half touches payload: an [`Encoder`] says how many bytes go behind each head, and a [`Decoder`] hands
//! payload out as it lies in the caller's bytes, or lets the caller receive it where it belongs and be told. Nothing
//! here allocates, and nothing loops for as long as a length from outside says.
//!
//! Chunks of a message follow each other on one lane; frames without payload may stand between them. A receiver that
//! doesn't want a message refuses it and is given the next one; a sender that can't finish one aborts it. Anything
//! that breaks a rule ends the stream, each rule with its own error.
//!
//! A `&[u8]` is memory that nobody writes. Whoever receives through memory that the peer may still write copies what
//! he decodes out of it first: checking what can change after the check is no check.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod checksum;
pub mod decode;
pub mod descriptor;
pub mod encode;
mod error;
pub mod header;
mod message;

pub use checksum::crc32c;
pub use decode::{Decoder, Frame, Want};
pub use descriptor::{DESCRIPTOR_BYTES, DIMS_MOST, Descriptor};
pub use encode::{EncodeError, Encoder, Head};
pub use error::{DescriptorError, HeaderError, OrderError, WireError};
pub use header::{Flags, HEAD_MOST, HEADER_BYTES, Header, Kind, Limits, MAGIC};
pub use message::{Content, Message, Stream};

#[cfg(target_endian = "big")]
compile_error!(
    "elements travel little endian, straight out of memory: a big endian machine would have to swap each one"
);
