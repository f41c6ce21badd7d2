//! Bytes in any split in, frames out: the receiving half of the codec. It does no I/O and keeps no payload.
//!
//! ```text
//!            64 bytes            88 bytes, if a descriptor follows
//!  ---> head ----> glance -----------------------------------> parse, order ----> payload of len bytes ---> head
//!                    |                                            |        \
//!                    v                                            v         `---> closed
//!                  failed <---------------------------------------+
//! ```
//!
//! Rules are checked in this order; the first that is broken is the error, and the stream is over for good: whoever
//! has lost his place in a stream can't find it again by guessing.
//!
//! | after                       | rules                                                                                 |
//! |-----------------------------|---------------------------------------------------------------------------------------|
//! | 64 bytes                    | magic, words, kind, known flags, flags of the kind, length of the descriptor          |
//! | and 88 more if there is one | checksum, unused fields, len, total, offset, empty chunk, epoch, rank, lane, sequence |
//! |                             | the descriptor's own, its bytes against `total`                                       |
//! |                             | order of frames: [`OrderError`]                                                       |
//! | a byte behind a close       | [`OrderError::AfterClose`]                                                            |

use super::descriptor::{DESCRIPTOR_BYTES, DESCRIPTOR_WORDS, Descriptor};
use super::error::{HeaderError, OrderError, WireError};
use super::header::{Flags, HEAD_MOST, HEADER_BYTES, Header, Kind, Limits, Words, glance, words_of};
use super::message::{Content, Message, Stream};

/// What a decoder needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// So many bytes of a head: the rest of it, as far as its length is known.
    Head(usize),
    /// So many bytes of payload, the rest of the frame's. They may be fed, or taken elsewhere and reported.
    Payload(usize),
    /// So many bytes of payload that nobody wants. They may be fed, or dropped and reported.
    Refused(usize),
    /// Nothing: the stream has been closed or has failed.
    Nothing,
}

/// What came out of fed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The head of a frame, with all rules obeyed. If it is the first of a message, [`Decoder::message`] says which.
    Head(Header),
    /// Payload of the message, as it lies in the bytes that were fed.
    Payload {
        /// Where in the message it belongs.
        offset: u64,
        /// At least one byte.
        bytes: &'a [u8],
    },
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// `have` bytes of the head are kept, `need` is as much of it as is known to come.
    Head,
    /// So many bytes of payload are missing.
    Payload(u64),
    Closed,
    Failed(WireError),
}

/// One direction of a lane, as its receiver keeps it.
///
/// ```
/// use sapwood_core::wire::{Content, Decoder, Encoder, Frame, Head, Limits, Message, Stream};
///
/// let mut head = Head::new();
/// let mut encoder = Encoder::new(Stream::default(), Limits::DEFAULT);
/// encoder.begin(Message { tag: 5, content: Content::Bytes(3), deaf: false }).unwrap();
/// encoder.chunk(u64::MAX, &mut head).unwrap();
/// let stream = [head.bytes(), b"abc"].concat();
///
/// let mut decoder = Decoder::new(Stream::default(), Limits::DEFAULT);
/// let (n, frame) = decoder.feed(&stream).unwrap();
/// assert!(matches!(frame, Some(Frame::Head(h)) if h.tag == 5 && h.total == 3));
/// let (m, frame) = decoder.feed(&stream[n..]).unwrap();
/// assert_eq!(frame, Some(Frame::Payload { offset: 0, bytes: b"abc" }));
/// assert_eq!(n + m, stream.len());
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    stream: Stream,
    due: u64,
    limits: Limits,
    state: State,
    partial: [u8; HEAD_MOST],
    have: usize,
    need: usize,
    message: Option<Message>,
    total: u64,
    received: u64,
    refused: bool,
}

impl Decoder {
    /// The receiver of this stream.
    pub fn new(stream: Stream, limits: Limits) -> Decoder {
        Decoder {
            stream,
            due: stream.first,
            limits,
            state: State::Head,
            partial: [0; HEAD_MOST],
            have: 0,
            need: HEADER_BYTES,
            message: None,
            total: 0,
            received: 0,
            refused: false,
        }
    }

    /// What comes next.
    #[inline]
    pub fn want(&self) -> Want {
        match self.state {
            State::Head => Want::Head(self.need.saturating_sub(self.have)),
            State::Payload(left) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                if self.refused { Want::Refused(left) } else { Want::Payload(left) }
            }
            State::Closed | State::Failed(_) => Want::Nothing,
        }
    }

    /// The latest message, from its first head until the head of the next.
    #[inline]
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Bytes of the latest message that have come.
    #[inline]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the latest message is still to go on: not whole, and not aborted.
    #[inline]
    pub fn is_within(&self) -> bool {
        self.received < self.total
    }

    /// Whether the sender has closed the stream.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Number of the frame whose head comes next: after an error, of the bad one.
    pub fn sequence(&self) -> u64 {
        self.due
    }

    /// Takes bytes, from the front of `bytes` as many as it says: up to the end of one head, or of the payload that is
    /// there. Feed it the rest until nothing is left; one call per frame's part, never a loop inside.
    ///
    /// # Errors
    /// The rule that is broken. From then on every call returns the same.
    #[inline]
    pub fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Frame<'a>>), WireError> {
        match self.state {
            State::Head => match bytes.first_chunk() {
                Some(first) if self.have == 0 => self.whole(first, bytes),
                _ => self.piece(bytes),
            },
            State::Payload(left) => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (offset, now) = (self.received, bytes.get(..n).unwrap_or(bytes));
                self.taken(n);
                let wanted = n > 0 && !self.refused;
                Ok((n, wanted.then_some(Frame::Payload { offset, bytes: now })))
            }
            State::Closed if bytes.is_empty() => Ok((0, None)),
            State::Closed => Err(self.fail(WireError::Order(OrderError::AfterClose))),
            State::Failed(error) => Err(error),
        }
    }

    /// Reports that the caller took `n` bytes of the payload that [`want`](Self::want) asked for straight from the
    /// stream.
    ///
    /// # Panics
    /// If these are more than it asked for: the place in the stream would be lost.
    #[inline]
    pub fn taken(&mut self, n: usize) {
        let n = n as u64;
        match self.state {
            State::Payload(left) if n < left => self.state = State::Payload(left.saturating_sub(n)),
            State::Payload(left) if n == left => self.state = State::Head,
            _ => assert!(n == 0, "{n} bytes taken where a decoder wants {:?}", self.want()),
        }
        self.received = self.received.saturating_add(n);
    }

    /// Refuses the rest of the latest message, all its chunks: their heads are still checked and come out of
    /// [`feed`](Self::feed), their payload does not. Of a message that is whole there is nothing to refuse.
    pub fn refuse(&mut self) {
        self.refused = self.is_within();
    }

    /// Whether the latest message was refused.
    #[inline]
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// A header that lies whole in the caller's bytes, as nearly all do.
    #[inline(always)]
    fn whole<'a>(
        &mut self,
        first: &[u8; HEADER_BYTES],
        bytes: &'a [u8],
    ) -> Result<(usize, Option<Frame<'a>>), WireError> {
        let words = words_of(first);
        let follows = match glance(&words) {
            Ok(follows) => follows,
            Err(error) => return Err(self.fail(WireError::Header(error))),
        };
        if follows == 0 {
            let header = self.accept(&words, None)?;
            return Ok((HEADER_BYTES, Some(Frame::Head(header))));
        }
        match bytes.get(HEADER_BYTES..).and_then(|b| b.first_chunk()) {
            Some(descriptor) => {
                let header = self.accept(&words, Some(&behind_of(descriptor)))?;
                Ok((HEAD_MOST, Some(Frame::Head(header))))
            }
            None => self.piece(bytes),
        }
    }

    /// A part of a head: it is kept until the rest comes.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Frame<'a>>), WireError> {
        let mut used = 0;
        // At most two turns: the header, then the descriptor.
        while used < bytes.len() {
            let (to, from) = (self.space(), bytes.get(used..).unwrap_or_default());
            let n = to.len().min(from.len());
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            used = used.saturating_add(n);
            if let Some(header) = self.filled(n)? {
                return Ok((used, Some(Frame::Head(header))));
            }
        }
        Ok((used, None))
    }

    /// Where the next bytes of a head may be put, as many as [`want`](Self::want) says; empty where it wants none. Who
    /// receives into it spares [`feed`](Self::feed) a copy.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        match self.state {
            State::Head => self.partial.get_mut(self.have..self.need).unwrap_or_default(),
            _ => &mut [],
        }
    }

    /// Reports that the first `n` bytes of [`space`](Self::space) have been received. Returns the head if it is whole
    /// with that.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    ///
    /// # Panics
    /// If these are more than there was space for.
    #[inline]
    pub fn filled(&mut self, n: usize) -> Result<Option<Header>, WireError> {
        let space = self.space().len();
        assert!(n <= space, "{n} bytes received where a decoder wants {:?}", self.want());
        self.have = self.have.saturating_add(n);
        if n < space || n == 0 {
            return if let State::Failed(error) = self.state { Err(error) } else { Ok(None) };
        }
        // All is there that was known to come.
        let Some((first, behind)) = self.partial.split_first_chunk() else { return Ok(None) };
        let words = words_of(first);
        if let (true, Some(descriptor)) = (self.need > HEADER_BYTES, behind.first_chunk()) {
            let behind = behind_of(descriptor);
            return self.accept(&words, Some(&behind)).map(Some);
        }
        match glance(&words) {
            Ok(0) => self.accept(&words, None).map(Some),
            Ok(follows) => {
                self.need = HEADER_BYTES.saturating_add(follows);
                Ok(None)
            }
            Err(error) => Err(self.fail(WireError::Header(error))),
        }
    }

    #[inline(always)]
    fn accept(&mut self, words: &Words, behind: Option<&Behind>) -> Result<Header, WireError> {
        (self.have, self.need) = (0, HEADER_BYTES);
        match self.examine(words, behind) {
            Ok(header) => Ok(header),
            Err(error) => Err(self.fail(error)),
        }
    }

    #[inline(always)]
    fn examine(&mut self, words: &Words, behind: Option<&Behind>) -> Result<Header, WireError> {
        let Some(behind) = behind else {
            let header = self.header(words, &[])?;
            return self.arrange(header, None);
        };
        let header = self.header(words, behind)?;
        let tensor = Descriptor::from_words(behind).map_err(WireError::Descriptor)?;
        if tensor.bytes() != header.total {
            return Err(WireError::Total { tensor: tensor.bytes(), total: header.total });
        }
        self.arrange(header, Some(tensor))
    }

    #[inline(always)]
    fn header(&self, words: &Words, descriptor: &[u64]) -> Result<Header, WireError> {
        let header = Header::parse(words, descriptor, &self.limits).map_err(WireError::Header)?;
        let Stream { rank, lane, epoch, .. } = self.stream;
        let error = if header.epoch != epoch {
            HeaderError::Epoch { found: header.epoch, expected: epoch }
        } else if header.rank != rank {
            HeaderError::Rank { found: header.rank, expected: rank }
        } else if header.lane != lane {
            HeaderError::Lane { found: header.lane, expected: lane }
        } else if header.sequence != self.due {
            HeaderError::Sequence { found: header.sequence, expected: self.due }
        } else {
            return Ok(header);
        };
        Err(WireError::Header(error))
    }

    /// Puts a good head in its place among the frames before it.
    #[inline(always)]
    fn arrange(&mut self, header: Header, tensor: Option<Descriptor>) -> Result<Header, WireError> {
        let Header { kind, len, offset, total, tag, .. } = header;
        match kind {
            Kind::Data | Kind::Tensor if offset == 0 => {
                if self.is_within() {
                    return Err(WireError::Order(self.within(tag)));
                }
                let content = match tensor {
                    Some(d) => Content::Tensor(d),
                    None if header.flags.has(Flags::VALUE) => Content::Value(total),
                    None => Content::Bytes(total),
                };
                self.message = Some(Message { tag, content, deaf: header.flags.has(Flags::DEAF) });
                (self.total, self.received, self.refused) = (total, 0, false);
            }
            Kind::Data | Kind::Tensor => self.goes_on(&header).map_err(WireError::Order)?,
            Kind::Abort => {
                self.goes_on(&header).map_err(WireError::Order)?;
                self.total = self.received;
            }
            Kind::Close => {
                if self.is_within() {
                    let open = self.message.map_or(0, |m| m.tag);
                    let (received, total) = (self.received, self.total);
                    return Err(WireError::Order(OrderError::CloseWithin { tag: open, received, total }));
                }
                self.state = State::Closed;
            }
            Kind::Credit | Kind::Beat => {}
        }
        if len > 0 {
            self.state = State::Payload(len);
        }
        self.due = self.due.wrapping_add(1);
        Ok(header)
    }

    #[cold]
    fn within(&self, tag: u64) -> OrderError {
        let open = self.message.map_or(0, |m| m.tag);
        OrderError::Within { tag, open, received: self.received, total: self.total }
    }

    /// A later chunk, or an abort, must be of the message that is not whole, and go on where that stands.
    fn goes_on(&self, header: &Header) -> Result<(), OrderError> {
        let Header { kind, flags, tag, offset, total, .. } = *header;
        let abort = kind == Kind::Abort;
        let Some(message) = self.message.filter(|_| self.is_within()) else {
            return Err(match kind {
                Kind::Abort => OrderError::NothingToAbort { tag },
                _ => OrderError::Orphan { kind, tag, offset },
            });
        };
        let fields = [
            ("kind", kind.code(), message.content.kind().code()),
            ("flags", flags.bits(), message.flags().bits()),
        ];
        for (field, found, expected) in fields.map(|(n, f, e)| (n, u64::from(f), u64::from(e))) {
            if !abort && found != expected {
                return Err(OrderError::Differs { field, found, expected });
            }
        }
        for (field, found, expected) in [("tag", tag, message.tag), ("total", total, self.total)] {
            if found != expected {
                return Err(OrderError::Differs { field, found, expected });
            }
        }
        if offset != self.received {
            return Err(OrderError::Gap { tag, offset, expected: self.received });
        }
        Ok(())
    }

    #[cold]
    fn fail(&mut self, error: WireError) -> WireError {
        self.state = State::Failed(error);
        error
    }
}

/// A descriptor as eleven words.
type Behind = [u64; DESCRIPTOR_WORDS];

#[inline(always)]
fn behind_of(bytes: &[u8; DESCRIPTOR_BYTES]) -> Behind {
    let mut words = [0; DESCRIPTOR_WORDS];
    for (word, from) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*from);
    }
    words
}
