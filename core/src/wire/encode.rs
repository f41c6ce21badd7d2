//! Messages in, heads of frames out: the sending half of the codec, which touches no payload.

use core::fmt;

use super::descriptor::{DESCRIPTOR_BYTES, Descriptor};
use super::header::{Flags, HEAD_MOST, HEADER_BYTES, Header, Kind, Limits};
use super::message::{Message, Stream};

/// The bytes before a frame's payload: a header, and a descriptor where there is one.
#[derive(Clone)]
pub struct Head {
    bytes: [u8; HEAD_MOST],
    len: usize,
}

impl Head {
    /// An empty one, to be filled by an [`Encoder`].
    pub const fn new() -> Head {
        Head { bytes: [0; HEAD_MOST], len: 0 }
    }

    /// The bytes: 64 or 152 of them, none before the first use.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    #[inline(always)]
    fn put(&mut self, header: &Header, descriptor: Option<&Descriptor>) {
        let Some((first, behind)) = self.bytes.split_first_chunk_mut::<HEADER_BYTES>() else { return };
        match descriptor {
            None => {
                header.put(&[], first);
                self.len = HEADER_BYTES;
            }
            Some(d) => {
                header.put(&d.words(), first);
                behind.copy_from_slice(&d.encode());
                self.len = HEAD_MOST;
            }
        }
    }
}

impl Default for Head {
    fn default() -> Self {
        Head::new()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({:02x?})", self.bytes())
    }
}

/// Why an [`Encoder`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is longer than the receiver takes.
    TooLong {
        /// Its bytes.
        total: u64,
        /// The limit.
        most: u64,
    },
    /// The message before is not whole; abort it or send the rest.
    Unfinished {
        /// Its tag.
        tag: u64,
        /// Bytes of it that have been cut into frames.
        sent: u64,
        /// Its bytes.
        total: u64,
    },
    /// The stream has been closed.
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Sending {
    message: Message,
    total: u64,
    /// 0 until the first head is made: a message without bytes is whole with that one.
    sent: u64,
}

/// One direction of a lane, as its sender keeps it: numbers frames and cuts messages into chunks.
///
/// For each message [`begin`](Self::begin), then [`chunk`](Self::chunk) until it says that there is no more; behind
/// each head the caller sends as many bytes of payload as `chunk` said.
///
/// ```
/// use sapwood_core::wire::{Content, Encoder, Head, Limits, Message, Stream};
///
/// let mut encoder = Encoder::new(Stream::default(), Limits { max_frame: 100, ..Limits::DEFAULT });
/// let (mut head, payload, mut stream) = (Head::new(), [7; 250], Vec::new());
/// encoder.begin(Message { tag: 5, content: Content::Bytes(250), deaf: false }).unwrap();
/// let mut rest = &payload[..];
/// while let Some(n) = encoder.chunk(u64::MAX, &mut head) {
///     let (now, later) = rest.split_at(n as usize);
///     stream.extend_from_slice(head.bytes());
///     stream.extend_from_slice(now);
///     rest = later;
/// }
/// assert_eq!(stream.len(), 250 + 3 * 64);
/// ```
#[derive(Debug, Clone)]
pub struct Encoder {
    frames: Frames,
    limits: Limits,
    sending: Option<Sending>,
    closed: bool,
}

/// What every frame says.
#[derive(Debug, Clone)]
struct Frames {
    stream: Stream,
    next: u64,
    credits: u16,
    ack: u16,
}

impl Encoder {
    /// The sender of this stream, to a receiver with these limits.
    pub fn new(stream: Stream, limits: Limits) -> Encoder {
        let frames = Frames { stream, next: stream.first, credits: 0, ack: 0 };
        Encoder { frames, limits, sending: None, closed: false }
    }

    /// Number of the next frame.
    pub fn sequence(&self) -> u64 {
        self.frames.next
    }

    /// Begins a message. Nothing goes out yet.
    ///
    /// # Errors
    /// [`EncodeError`]: then nothing has changed.
    #[inline]
    pub fn begin(&mut self, message: Message) -> Result<(), EncodeError> {
        let (total, most) = (message.content.bytes(), self.limits.max_message.min(isize::MAX as u64));
        if self.closed {
            return Err(EncodeError::Closed);
        }
        if let Some(Sending { message, total, sent }) = self.sending {
            return Err(EncodeError::Unfinished { tag: message.tag, sent, total });
        }
        if total > most {
            return Err(EncodeError::TooLong { total, most });
        }
        self.sending = Some(Sending { message, total, sent: 0 });
        Ok(())
    }

    /// The head of the next chunk, of at most `most` bytes (at least 1, whatever `most` says) and the receiver's
    /// limit; returns how many bytes of payload follow it. `None` when the message is whole, or none was begun.
    #[inline]
    pub fn chunk(&mut self, most: u64, head: &mut Head) -> Option<u64> {
        let Some(Sending { message, total, sent }) = &mut self.sending else { return None };
        let (total, offset) = (*total, *sent);
        let len = total.saturating_sub(offset).min(self.limits.max_frame.min(most).max(1));
        let header = Header {
            flags: message.flags(),
            tag: message.tag,
            len,
            offset,
            total,
            ..self.frames.next(message.content.kind())
        };
        head.put(&header, if offset == 0 { message.content.descriptor() } else { None });
        *sent = offset.saturating_add(len);
        if *sent >= total {
            self.sending = None;
        }
        Some(len)
    }

    /// Bytes before the payload of the chunk that is next: 64, or 152.
    pub fn head_bytes(&self) -> usize {
        match &self.sending {
            Some(s) if s.sent == 0 && s.message.content.descriptor().is_some() => {
                HEADER_BYTES.saturating_add(DESCRIPTOR_BYTES)
            }
            _ => HEADER_BYTES,
        }
    }

    /// Ends a message that is not whole. `true`: the head of an abort is in `head` and must be sent; `false`: the
    /// receiver has heard nothing of the message, or has all of it, or there was none.
    pub fn abort(&mut self, head: &mut Head) -> bool {
        let Some(Sending { message, total, sent }) = self.sending.take() else { return false };
        if sent == 0 {
            return false;
        }
        let header = Header { tag: message.tag, offset: sent, total, ..self.frames.next(Kind::Abort) };
        head.put(&header, None);
        true
    }

    /// Grants the receiver of the next frame `frames` more, and acknowledges all frames before `next` (its low half
    /// word travels). Any frame carries both; grants add up until one does, to 65 535
    /// at most.
    pub fn grant(&mut self, frames: u16, next: u64) {
        self.frames.credits = self.frames.credits.saturating_add(frames);
        self.frames.ack = next as u16;
    }

    /// A frame that carries nothing but what [`grant`](Self::grant) said. May stand between two chunks.
    ///
    /// # Errors
    /// [`EncodeError::Closed`].
    pub fn credit(&mut self, head: &mut Head) -> Result<(), EncodeError> {
        self.control(Kind::Credit, 0, head)
    }

    /// A sign of progress. May stand between two chunks.
    ///
    /// # Errors
    /// [`EncodeError::Closed`].
    pub fn beat(&mut self, progress: u64, head: &mut Head) -> Result<(), EncodeError> {
        self.control(Kind::Beat, progress, head)
    }

    /// The last frame.
    ///
    /// # Errors
    /// [`EncodeError::Closed`], and [`EncodeError::Unfinished`] inside a message.
    pub fn close(&mut self, head: &mut Head) -> Result<(), EncodeError> {
        if let Some(error) = self.unfinished() {
            return Err(error);
        }
        self.control(Kind::Close, 0, head)?;
        self.closed = true;
        Ok(())
    }

    fn control(&mut self, kind: Kind, tag: u64, head: &mut Head) -> Result<(), EncodeError> {
        if self.closed {
            return Err(EncodeError::Closed);
        }
        let header = Header { tag, ..self.frames.next(kind) };
        head.put(&header, None);
        Ok(())
    }

    fn unfinished(&self) -> Option<EncodeError> {
        let Sending { message, total, sent } = self.sending.as_ref()?;
        Some(EncodeError::Unfinished { tag: message.tag, sent: *sent, total: *total })
    }
}

impl Frames {
    /// The next frame's header, bare of what its kind says.
    #[inline(always)]
    fn next(&mut self, kind: Kind) -> Header {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let credits = core::mem::take(&mut self.credits);
        let Stream { rank, lane, epoch, .. } = self.stream;
        Header {
            kind,
            flags: Flags::NONE,
            lane,
            rank,
            epoch,
            sequence,
            tag: 0,
            len: 0,
            offset: 0,
            total: 0,
            credits,
            ack: self.ack,
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EncodeError::TooLong { total, most } => {
                write!(f, "a message of {total} bytes; {most} are the most that the receiver takes")
            }
            EncodeError::Unfinished { tag, sent, total } => {
                write!(f, "the message before (tag {tag}) is not whole: {sent} of {total} bytes are sent")
            }
            EncodeError::Closed => f.write_str("the stream has been closed"),
        }
    }
}

impl core::error::Error for EncodeError {}
