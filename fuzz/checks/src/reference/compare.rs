//! The decoder of `core`, held against the reference.

use sapwood_core::dtype::Dtype;
use sapwood_core::wire::{
    Content, Decoder, Descriptor, DescriptorError, Frame, Header, HeaderError, Limits, OrderError, Stream,
    Want, WireError,
};

use super::{Bounds, Broken, Event, Head, Heard, Outcome, Tensor, Wants, broken};
use crate::input::Random;

impl Bounds {
    pub(crate) fn stream(&self) -> Stream {
        Stream { rank: self.rank, lane: self.lane, epoch: self.epoch, first: self.first }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { max_frame: self.max_frame, max_message: self.max_message }
    }
}

/// How a stream is fed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Splits {
    Whole,
    Single,
    /// By chance: pieces of none to some hundred bytes, payload now fed, now taken.
    Random(u64),
}

impl Splits {
    /// Bytes of the next piece.
    fn next(self, random: &mut Random) -> usize {
        match self {
            Splits::Whole => usize::MAX,
            Splits::Single => 1,
            Splits::Random(_) => match random.below(8) {
                0 => 0,
                1 => 1,
                2 => 64,
                3 => 152,
                4 => random.below(400),
                _ => random.below(70),
            },
        }
    }
}

/// Feeds `bytes` in these splits and compares all that comes out.
///
/// # Panics
/// Where the decoder and `expected` differ: events, their order and place, what is wanted, the error, its numbers and
/// the byte at which it comes.
pub(crate) fn follow(
    bytes: &[u8],
    bounds: &Bounds,
    refuse: &dyn Fn(usize) -> bool,
    expected: &Outcome,
    splits: Splits,
) {
    let seed = if let Splits::Random(seed) = splits { seed } else { 0 };
    let decoder = Decoder::new(bounds.stream(), bounds.limits());
    let mut run =
        Run { decoder, bytes, expected, refuse, events: 0, heads: 0, within: 0, random: Random::new(seed) };
    let broken_at = expected.broken.as_ref().map_or(usize::MAX, |(needs, _)| *needs);
    let mut end = 0;
    while end < bytes.len() {
        let start = end;
        end = end.saturating_add(splits.next(&mut run.random)).min(bytes.len());
        match run.piece(start, end) {
            Ok(()) => assert!(end < broken_at, "nothing was said of {:?}, at {end}", expected.broken),
            Err(error) => {
                assert!(
                    broken_at <= end,
                    "{error:?} came at {end} bytes, for {:?} of {bytes:02x?}",
                    expected.broken
                );
                return run.failed(error);
            }
        }
        if start == end {
            // Empty pieces are as if they had not been.
            assert_eq!((run.decoder.feed(&[]), run.decoder.filled(0)), (Ok((0, None)), Ok(None)));
        }
    }
    run.ended();
}

struct Run<'a> {
    decoder: Decoder,
    bytes: &'a [u8],
    expected: &'a Outcome,
    refuse: &'a dyn Fn(usize) -> bool,
    /// Events that have come, whole.
    events: usize,
    /// Heads among them.
    heads: usize,
    /// Bytes of the payload that is coming.
    within: usize,
    random: Random,
}

impl Run<'_> {
    /// Bytes `at..end` of the stream.
    fn piece(&mut self, mut at: usize, end: usize) -> Result<(), WireError> {
        // Each turn takes a byte at least, or is the last.
        while at < end {
            let want = self.decoder.want();
            self.wants(at, want);
            let taken = match want {
                Want::Head(n) if self.random.below(3) == 0 => {
                    let n = n.min(end - at);
                    let space = self.decoder.space();
                    space[..n].copy_from_slice(&self.bytes[at..at + n]);
                    if let Some(header) = self.decoder.filled(n)? {
                        self.head(&header, at + n);
                    }
                    n
                }
                Want::Payload(n) | Want::Refused(n) if self.random.below(3) == 0 => {
                    let n = n.min(end - at).min(1 + self.random.below(300));
                    let offset = self.decoder.received();
                    self.decoder.taken(n);
                    if let Want::Payload(_) = want {
                        self.payload(offset, &self.bytes[at..at + n]);
                    }
                    n
                }
                _ => {
                    let (n, frame) = self.decoder.feed(&self.bytes[at..end])?;
                    assert!(n > 0 && n <= end - at, "{n} bytes were taken of {}", end - at);
                    match frame {
                        None => {}
                        Some(Frame::Head(header)) => self.head(&header, at + n),
                        Some(Frame::Payload { offset, bytes }) => {
                            assert_eq!(bytes.as_ptr(), self.bytes[at..].as_ptr(), "lent as it lies there");
                            self.payload(offset, bytes);
                        }
                    }
                    n
                }
            };
            at += taken;
        }
        Ok(())
    }

    fn wants(&mut self, at: usize, want: Want) {
        let space = self.decoder.space().len();
        assert_eq!(space, if let Want::Head(n) = want { n } else { 0 });
        let want = match want {
            Want::Head(n) => Wants::Head(n as u64),
            Want::Payload(n) => Wants::Payload(n as u64),
            Want::Refused(n) => Wants::Refused(n as u64),
            Want::Nothing => Wants::Nothing,
        };
        assert_eq!(want, self.expected.wants(at), "at {at} of {:02x?}", self.bytes);
    }

    fn head(&mut self, header: &Header, end: usize) {
        let expected = self.expected.events.get(self.events);
        let Some(Event::Head(head)) = expected else {
            panic!("{header:?} came instead of {expected:?}");
        };
        assert_eq!(self.within, 0, "a head came inside of a payload");
        let message = self.decoder.message();
        let tensor = message.and_then(|m| m.content.descriptor()).filter(|_| head.tensor.is_some());
        assert_eq!(head_of(header, tensor), *head);
        // One encoding: what was accepted is what would be sent.
        let Heard { start, received, within, refused } = self.expected.heads[self.heads];
        assert_eq!(header.encode(tensor)[..], self.bytes[start..start + 64]);
        if let Some(tensor) = tensor {
            assert_eq!(tensor.encode()[..], self.bytes[start + 64..end]);
        }
        if head.is_chunk() && head.offset == 0 {
            let message = message.expect("it has just begun");
            let content = (message.content.kind().code(), message.content.bytes());
            assert_eq!((message.tag, content), (head.tag, (head.kind, head.total)));
            assert_eq!(message.flags().bits(), head.flags);
            assert_eq!(matches!(message.content, Content::Value(_)), head.flags & 1 != 0);
        }
        assert_eq!(self.decoder.sequence(), head.sequence.wrapping_add(1));
        if (self.refuse)(self.heads) {
            self.decoder.refuse();
        }
        let stands = (self.decoder.received(), self.decoder.is_within(), self.decoder.is_refused());
        assert_eq!(stands, (received, within, refused), "after {head:?}");
        self.heads += 1;
        self.events += 1;
    }

    fn payload(&mut self, offset: u64, bytes: &[u8]) {
        let expected = self.expected.events.get(self.events);
        let Some(Event::Payload { offset: first, bytes: whole }) = expected else {
            panic!("payload at {offset} came instead of {expected:?}");
        };
        assert!(!bytes.is_empty());
        let end = self.within + bytes.len();
        assert_eq!(offset, first + self.within as u64);
        assert_eq!(Some(bytes), whole.get(self.within..end));
        self.within = end;
        if end == whole.len() {
            (self.within, self.events) = (0, self.events + 1);
        }
    }

    fn failed(&mut self, error: WireError) {
        assert_eq!(Some(&broken_of(&error)), self.expected.broken.as_ref().map(|(_, broken)| broken));
        assert!(!error.to_string().is_empty());
        for more in [&[][..], self.bytes] {
            assert_eq!(self.decoder.feed(more), Err(error), "an error is for good");
        }
        assert_eq!(self.decoder.filled(0), Err(error));
        assert_eq!(self.decoder.want(), Want::Nothing);
        self.all();
    }

    fn ended(&mut self) {
        let want = self.decoder.want();
        self.wants(self.bytes.len(), want);
        assert_eq!(self.decoder.is_closed(), self.decoder.want() == Want::Nothing);
        self.all();
    }

    fn all(&self) {
        assert_eq!(self.events, self.expected.events.len(), "less came than should");
        assert_eq!(self.decoder.sequence(), self.expected.due);
        assert!(self.heads * 64 <= self.bytes.len());
    }
}

fn head_of(header: &Header, tensor: Option<&Descriptor>) -> Head {
    let Header { kind, flags, lane, rank, epoch, sequence, tag, len, offset, total, credits, ack } = *header;
    let (kind, flags, tensor) = (kind.code(), flags.bits(), tensor.map(tensor_of));
    Head { kind, flags, lane, sequence, tag, len, offset, total, credits, ack, epoch, rank, tensor }
}

pub(crate) fn tensor_of(descriptor: &Descriptor) -> Tensor {
    let code = descriptor.dtype().code();
    assert_eq!(Dtype::from_code(code), Some(descriptor.dtype()));
    Tensor { code, dims: descriptor.dims().to_vec(), bytes: descriptor.bytes() }
}

pub(crate) fn broken_of(error: &WireError) -> Broken {
    match error {
        WireError::Header(error) => header_broken(error),
        WireError::Descriptor(error) => descriptor_broken(error),
        WireError::Total { tensor, total } => broken!("Total", *tensor, *total),
        WireError::Order(error) => order_broken(error),
        other => panic!("a kind of error that the reference does not know: {other:?}"),
    }
}

pub(crate) fn header_broken(error: &HeaderError) -> Broken {
    use HeaderError as E;
    match *error {
        E::Magic { found } => broken!("Magic", u32::from_le_bytes(found)),
        E::Words { found } => broken!("Words", found),
        E::Kind { found } => broken!("Kind", found),
        E::Flags { found, known } => broken!("Flags", found, known),
        E::FlagsOfKind { kind, found, allowed } => broken!("FlagsOfKind", kind.code(), found, allowed),
        E::DescriptorLength { kind, offset, found, expected } => {
            broken!("DescriptorLength", kind.code(), offset, found, expected)
        }
        E::Checksum { found, computed } => broken!("Checksum", found, computed),
        E::Unused { kind, field, found } => broken!("Unused" in field, kind.code(), found),
        E::TooLong { len, most } => broken!("TooLong", len, most),
        E::MessageTooLong { total, most } => broken!("MessageTooLong", total, most),
        E::Offset { offset, len, total } => broken!("Offset", offset, len, total),
        E::Empty { offset, total } => broken!("Empty", offset, total),
        E::Epoch { found, expected } => broken!("Epoch", found, expected),
        E::Rank { found, expected } => broken!("Rank", found, expected),
        E::Lane { found, expected } => broken!("Lane", found, expected),
        E::Sequence { found, expected } => broken!("Sequence", found, expected),
        other => panic!("a kind of error that the reference does not know: {other:?}"),
    }
}

pub(crate) fn descriptor_broken(error: &DescriptorError) -> Broken {
    use DescriptorError as E;
    match *error {
        E::Dtype { found } => broken!("Dtype", found),
        E::Bits { found, expected } => broken!("Bits", found, expected),
        E::Lanes { found } => broken!("Lanes", found),
        E::Ndim { found } => broken!("Ndim", found),
        E::Order { found } => broken!("Order", found),
        E::Reserved { at, found } => broken!("Reserved", at as u64, found),
        E::UnusedDim { index, ndim, found } => broken!("UnusedDim", index as u64, ndim, found),
        E::Overflow { index, dim, bytes } => broken!("Overflow", index as u64, dim, bytes),
        other => panic!("a kind of error that the reference does not know: {other:?}"),
    }
}

fn order_broken(error: &OrderError) -> Broken {
    use OrderError as E;
    match *error {
        E::Orphan { kind, tag, offset } => broken!("Orphan", kind.code(), tag, offset),
        E::Within { tag, open, received, total } => broken!("Within", tag, open, received, total),
        E::Gap { tag, offset, expected } => broken!("Gap", tag, offset, expected),
        E::Differs { field, found, expected } => broken!("Differs" in field, found, expected),
        E::NothingToAbort { tag } => broken!("NothingToAbort", tag),
        E::CloseWithin { tag, received, total } => broken!("CloseWithin", tag, received, total),
        E::AfterClose => broken!("AfterClose"),
        other => panic!("a kind of error that the reference does not know: {other:?}"),
    }
}
