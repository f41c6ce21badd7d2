//! A script: what a sender is asked to do, done by the encoder, and what should come of it, by the words of its
//! documentation alone.

use sapwood_core::dtype::Dtype;
use sapwood_core::wire::{Content, Descriptor, EncodeError, Encoder, Head as Bytes, Message};

use crate::input::Input;
use crate::reference::{Bounds, Event, Head, Tensor};

/// Payload and frames of one script, about, so that a case stays short.
const MOST_BYTES: usize = 1 << 14;
const MOST_FRAMES: usize = 200;
/// Bytes of one chunk of a message that nobody could send whole.
const SOME: u64 = 300;

/// The limits, and what both ends know, by two bytes.
pub(crate) fn bounds(input: &mut Input<'_>) -> Bounds {
    let (max_frame, max_message) = match input.below(8) {
        0 => (64, 1000),
        1 => (1, 40),
        2 => (u64::MAX, u64::MAX),
        3 => (1 << 20, 1 << 40),
        4 => (600, 600),
        5 => (100, 1 << 62),
        6 => (7, u64::MAX >> 1),
        _ => (1000, 5000),
    };
    let far = input.u8();
    let bit = |i: u8| far >> i & 1 != 0;
    Bounds {
        max_frame,
        max_message,
        first: if bit(0) { u64::MAX - 2 } else { 0 },
        rank: if bit(1) { u16::MAX } else { 3 },
        lane: if bit(2) { u8::MAX } else { 0 },
        epoch: if bit(3) { u32::MAX } else { 1 },
    }
}

/// A message that is being sent.
#[derive(Debug, Clone)]
struct Open {
    kind: u8,
    flags: u8,
    tag: u64,
    total: u64,
    sent: u64,
    tensor: Option<Tensor>,
}

/// The encoder, and what its frames should say.
pub(crate) struct Script {
    encoder: Encoder,
    bounds: Bounds,
    /// Each frame with its payload.
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) expected: Vec<Event>,
    open: Option<Open>,
    closed: bool,
    credits: u16,
    ack: u16,
    /// Bytes of payload made so far: no two nearby are alike.
    made: usize,
}

impl Script {
    pub(crate) fn new(bounds: Bounds) -> Script {
        Script {
            encoder: Encoder::new(bounds.stream(), bounds.limits()),
            bounds,
            frames: Vec::new(),
            expected: Vec::new(),
            open: None,
            closed: false,
            credits: 0,
            ack: 0,
            made: 0,
        }
    }

    /// Up to 24 steps, each by a byte and what it needs.
    pub(crate) fn run(&mut self, input: &mut Input<'_>) {
        for _ in 0..input.below(25) {
            if input.is_empty() || self.is_long() {
                break;
            }
            match input.below(10) {
                0 | 1 => self.begin(input),
                2 => {
                    let most = input.u8();
                    self.chunk(u64::from(most) * 4);
                }
                3 | 4 => {
                    // Each turn makes a frame.
                    while let Some(open) = self.open.as_ref().filter(|_| !self.is_long()) {
                        self.chunk(if open.total <= 5000 { u64::MAX } else { SOME });
                    }
                }
                5 => self.abort(),
                6 => self.control(3, 0, |e, head| e.credit(head)),
                7 => {
                    let progress = input.u64();
                    self.control(4, progress, |e, head| e.beat(progress, head));
                }
                8 => {
                    let (frames, next) = (input.u16(), input.u64());
                    self.encoder.grant(frames, next);
                    self.credits = self.credits.saturating_add(frames);
                    self.ack = (next & 0xffff) as u16;
                }
                _ => self.close(),
            }
            let due = self.bounds.first.wrapping_add(self.frames.len() as u64);
            assert_eq!(self.encoder.sequence(), due);
        }
    }

    fn is_long(&self) -> bool {
        self.made > MOST_BYTES || self.frames.len() > MOST_FRAMES
    }

    fn begin(&mut self, input: &mut Input<'_>) {
        let (content, tensor) = content(input, &self.bounds);
        let (tag, deaf) = (input.u16().into(), input.u8() & 1 != 0);
        let (total, most) = (content.bytes(), self.bounds.max_message.min(i64::MAX as u64));
        let said = self.encoder.begin(Message { tag, content, deaf });
        let expected = match &self.open {
            _ if self.closed => Err(EncodeError::Closed),
            Some(o) => Err(EncodeError::Unfinished { tag: o.tag, sent: o.sent, total: o.total }),
            None if total > most => Err(EncodeError::TooLong { total, most }),
            None => Ok(()),
        };
        assert_eq!(said, expected, "of {content}");
        if said.is_ok() {
            let value = matches!(content, Content::Value(_));
            let kind = if tensor.is_some() { 2 } else { 1 };
            let flags = u8::from(value) | u8::from(deaf) << 1;
            self.open = Some(Open { kind, flags, tag, total, sent: 0, tensor });
        }
    }

    fn chunk(&mut self, most: u64) {
        let mut head = Bytes::new();
        let Some(mut open) = self.open.take() else {
            assert_eq!(self.encoder.chunk(most, &mut head), None);
            return;
        };
        // A chunk of a message that nobody could send whole is cut short, whatever the script says.
        let most = if open.total - open.sent > 5000 { most.min(SOME) } else { most };
        let len = (open.total - open.sent).min(self.bounds.max_frame.min(most).max(1));
        let before = self.encoder.head_bytes();
        assert_eq!(self.encoder.chunk(most, &mut head), Some(len));
        assert_eq!(head.bytes().len(), before);
        let payload: Vec<u8> = (self.made..self.made + len as usize).map(|i| (i % 251) as u8).collect();
        self.made += payload.len();
        self.push(head.bytes(), &payload);
        let tensor = if open.sent == 0 { open.tensor.clone() } else { None };
        let Open { kind, flags, tag, total, sent, .. } = open;
        self.expect(Head { flags, tag, len, offset: sent, total, tensor, ..self.bare(kind) });
        if len > 0 {
            self.expected.push(Event::Payload { offset: sent, bytes: payload });
        }
        open.sent += len;
        if open.sent < open.total {
            self.open = Some(open);
        }
    }

    fn abort(&mut self) {
        let mut head = Bytes::new();
        let heard = self.encoder.abort(&mut head);
        match self.open.take() {
            Some(Open { tag, total, sent, .. }) if sent > 0 => {
                assert!(heard, "the receiver waits for the rest");
                self.push(head.bytes(), &[]);
                self.expect(Head { tag, offset: sent, total, ..self.bare(5) });
            }
            _ => assert!(!heard, "the receiver knows of no message"),
        }
    }

    fn close(&mut self) {
        match &self.open {
            Some(o) if !self.closed => {
                let expected = EncodeError::Unfinished { tag: o.tag, sent: o.sent, total: o.total };
                assert_eq!(self.encoder.close(&mut Bytes::new()), Err(expected));
            }
            _ => {
                self.control(6, 0, |e, head| e.close(head));
                self.closed = true;
            }
        }
    }

    fn control(
        &mut self,
        kind: u8,
        tag: u64,
        make: impl FnOnce(&mut Encoder, &mut Bytes) -> Result<(), EncodeError>,
    ) {
        let mut head = Bytes::new();
        let made = make(&mut self.encoder, &mut head);
        if self.closed {
            assert_eq!(made, Err(EncodeError::Closed));
            return;
        }
        assert_eq!(made, Ok(()));
        self.push(head.bytes(), &[]);
        self.expect(Head { tag, ..self.bare(kind) });
    }

    /// What every frame says.
    fn bare(&self, kind: u8) -> Head {
        let Bounds { rank, lane, epoch, first, .. } = self.bounds;
        // The frame itself has been pushed.
        let sequence = first.wrapping_add(self.frames.len() as u64 - 1);
        let (credits, ack) = (self.credits, self.ack);
        Head {
            kind,
            flags: 0,
            lane,
            sequence,
            tag: 0,
            len: 0,
            offset: 0,
            total: 0,
            credits,
            ack,
            epoch,
            rank,
            tensor: None,
        }
    }

    fn push(&mut self, head: &[u8], payload: &[u8]) {
        self.frames.push([head, payload].concat());
    }

    fn expect(&mut self, head: Head) {
        self.expected.push(Event::Head(head));
        // They went out with this one.
        self.credits = 0;
    }
}

/// What a message holds: mostly short, else at the edge of what is allowed.
fn content(input: &mut Input<'_>, bounds: &Bounds) -> (Content, Option<Tensor>) {
    let kind = input.below(4);
    if kind >= 2 {
        let dtype = input.of(&Dtype::ALL);
        let dims: Vec<u64> = (0..input.below(9)).map(|_| dim(input)).collect();
        return match Descriptor::new(dtype, &dims) {
            Ok(d) => (Content::Tensor(d), Some(Tensor { code: dtype.code(), bytes: d.bytes(), dims })),
            Err(_) => (Content::Bytes(1), None),
        };
    }
    let total = match input.below(12) {
        0 => 0,
        1 => 1,
        2 => bounds.max_frame,
        3 => bounds.max_frame.saturating_add(1),
        4 => bounds.max_message,
        5 => bounds.max_message.saturating_add(1),
        6 => u64::MAX,
        7 => i64::MAX as u64,
        _ => u64::from(input.u16()) % 2000,
    };
    (if kind == 0 { Content::Bytes(total) } else { Content::Value(total) }, None)
}

fn dim(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        n @ 0..240 => u64::from(n % 6),
        n @ 240..250 => u64::from(n) * 7,
        n => u64::MAX >> (n - 250).saturating_mul(12),
    }
}
