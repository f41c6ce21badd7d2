//! Streams of frames: what an encoder sends is what a decoder hands out, however the bytes are split and whatever is
//! refused.
#![allow(missing_docs)]

use proptest::array::{uniform11, uniform32};
use proptest::collection::vec;
use proptest::prelude::*;
use sapwood_core::dtype::Dtype;
use sapwood_core::wire::{
    Content, Decoder, Descriptor, Encoder, Frame, Head, Header, Kind, Limits, Message, Stream, Want,
    WireError,
};

const STREAM: Stream = Stream { rank: 2, lane: 0, epoch: 1, first: u64::MAX - 2 };
const LIMITS: Limits = Limits { max_frame: 48, max_message: 4096 };

/// What is sent.
#[derive(Clone, Debug)]
enum Item {
    /// A message and its payload, in chunks of at most so many bytes; of some only so many chunks, then an abort.
    Message(Message, Vec<u8>, u64, Option<usize>),
    /// The same with a beat behind each chunk.
    Beaten(Message, Vec<u8>, u64),
    Beat(u64),
    Credit(u16),
    Close,
}

/// What a receiver has to show for it.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Whole(Message, Vec<u8>),
    Aborted(Message, Vec<u8>),
    Refused(Message),
    Beat(u64),
    Credit(u16),
    Close,
}

/// The bytes of these items.
fn encode(items: &[Item]) -> Vec<u8> {
    let (mut encoder, mut head, mut bytes) = (Encoder::new(STREAM, LIMITS), Head::new(), Vec::new());
    for item in items {
        let (message, payload, most, chunks, beat) = match item {
            Item::Message(m, payload, most, chunks) => {
                (m, payload, *most, chunks.unwrap_or(usize::MAX), false)
            }
            Item::Beaten(m, payload, most) => (m, payload, *most, usize::MAX, true),
            Item::Beat(n) => {
                encoder.beat(*n, &mut head).expect("open");
                bytes.extend_from_slice(head.bytes());
                continue;
            }
            Item::Credit(n) => {
                encoder.grant(*n, 0);
                encoder.credit(&mut head).expect("open");
                bytes.extend_from_slice(head.bytes());
                continue;
            }
            Item::Close => {
                encoder.close(&mut head).expect("open");
                bytes.extend_from_slice(head.bytes());
                continue;
            }
        };
        encoder.begin(*message).expect("within the limits");
        let mut rest = &payload[..];
        for _ in 0..chunks {
            let expected = encoder.head_bytes();
            let Some(n) = encoder.chunk(most, &mut head) else { break };
            assert_eq!(head.bytes().len(), expected);
            assert!(n <= LIMITS.max_frame.min(most));
            let (now, later) = rest.split_at(n as usize);
            bytes.extend_from_slice(head.bytes());
            bytes.extend_from_slice(now);
            rest = later;
            if beat {
                encoder.beat(n, &mut head).expect("open");
                bytes.extend_from_slice(head.bytes());
            }
        }
        if encoder.abort(&mut head) {
            bytes.extend_from_slice(head.bytes());
        }
    }
    bytes
}

/// What should be seen of them by somebody who refuses messages with an odd tag where `refuse` says so.
fn expected(items: &[Item], refuse: bool) -> Vec<Seen> {
    let mut all = Vec::new();
    for item in items {
        match item {
            Item::Message(m, p, most, chunks) => {
                let sent =
                    chunks.map_or(p.len(), |n| p.len().min(n * (*most).min(LIMITS.max_frame) as usize));
                let skipped = refuse && m.tag % 2 == 1 && !p.is_empty();
                match (*chunks == Some(0), skipped) {
                    (true, _) => {} // nothing of it ever went out
                    (_, true) => all.push(Seen::Refused(*m)),
                    _ if sent == p.len() => all.push(Seen::Whole(*m, p.clone())),
                    _ => all.push(Seen::Aborted(*m, p[..sent].to_vec())),
                }
            }
            Item::Beaten(m, p, most) => {
                let chunk = (*most).min(LIMITS.max_frame) as usize;
                let beats: Vec<Seen> = p.chunks(chunk).map(|c| Seen::Beat(c.len() as u64)).collect();
                let whole = if refuse && m.tag % 2 == 1 && !p.is_empty() {
                    Seen::Refused(*m)
                } else {
                    Seen::Whole(*m, p.clone())
                };
                // The last chunk makes it whole, the beat behind it comes after.
                let (last, before) =
                    beats.split_last().map_or((Seen::Beat(0), &[][..]), |(l, b)| (l.clone(), b));
                all.extend_from_slice(before);
                all.extend([whole, last]);
            }
            Item::Beat(n) => all.push(Seen::Beat(*n)),
            Item::Credit(n) => all.push(Seen::Credit(*n)),
            Item::Close => all.push(Seen::Close),
        }
    }
    all
}

/// A receiver that keeps what it is given.
struct Receiver {
    decoder: Decoder,
    refuse: bool,
    payload: Vec<u8>,
    seen: Vec<Seen>,
}

impl Receiver {
    fn new(refuse: bool) -> Receiver {
        Receiver { decoder: Decoder::new(STREAM, LIMITS), refuse, payload: Vec::new(), seen: Vec::new() }
    }

    /// Takes all of these bytes; with `direct` the payload goes past the decoder.
    fn take(&mut self, mut bytes: &[u8], direct: bool) -> Result<(), WireError> {
        while !bytes.is_empty() {
            let n = match self.decoder.want() {
                Want::Payload(n) | Want::Refused(n) if direct => {
                    let n = n.min(bytes.len());
                    if matches!(self.decoder.want(), Want::Payload(_)) {
                        self.payload.extend_from_slice(&bytes[..n]);
                    }
                    self.decoder.taken(n);
                    self.settle();
                    n
                }
                Want::Head(_) if direct => {
                    let space = self.decoder.space();
                    let n = space.len().min(bytes.len());
                    space[..n].copy_from_slice(&bytes[..n]);
                    if let Some(h) = self.decoder.filled(n)? {
                        self.head(&h);
                    }
                    n
                }
                want => {
                    let (n, frame) = self.decoder.feed(bytes)?;
                    assert!(n > 0 && n <= bytes.len());
                    match frame {
                        Some(Frame::Head(h)) => self.head(&h),
                        Some(Frame::Payload { offset, bytes: now }) => {
                            assert!(
                                matches!(want, Want::Payload(most) if now.len() <= most && n == now.len())
                            );
                            assert_eq!((offset, now.as_ptr()), (self.payload.len() as u64, bytes.as_ptr()));
                            self.payload.extend_from_slice(now);
                            self.settle();
                        }
                        None if matches!(want, Want::Refused(_)) => self.settle(),
                        None => assert!(matches!(want, Want::Head(_))),
                    }
                    n
                }
            };
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn head(&mut self, h: &Header) {
        let message = self.decoder.message().copied();
        match h.kind {
            Kind::Data | Kind::Tensor => {
                if h.offset == 0 {
                    let m = message.expect("announced");
                    assert_eq!((m.tag, m.content.bytes(), m.content.kind()), (h.tag, h.total, h.kind));
                    self.payload.clear();
                    if self.refuse && m.tag % 2 == 1 {
                        self.decoder.refuse();
                        assert_eq!(self.decoder.is_refused(), h.total > 0);
                    }
                    if h.total == 0 {
                        self.settle();
                    }
                }
            }
            Kind::Abort if self.decoder.is_refused() => {
                self.seen.push(Seen::Refused(message.expect("aborted")))
            }
            Kind::Abort => self.seen.push(Seen::Aborted(message.expect("aborted"), self.payload.clone())),
            Kind::Beat => self.seen.push(Seen::Beat(h.tag)),
            Kind::Credit => self.seen.push(Seen::Credit(h.credits)),
            Kind::Close => self.seen.push(Seen::Close),
        }
    }

    /// Payload came: perhaps the message is whole.
    fn settle(&mut self) {
        let m = *self.decoder.message().expect("payload belongs to a message");
        if !self.decoder.is_within() {
            assert_eq!(self.decoder.received(), m.content.bytes());
            self.seen.push(if self.decoder.is_refused() {
                Seen::Refused(m)
            } else {
                Seen::Whole(m, self.payload.clone())
            });
        }
    }
}

fn bytes_of(tag: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u64 * 7 + tag + 1) as u8).collect()
}

fn bytes(tag: u64, len: usize) -> (Message, Vec<u8>) {
    (Message { tag, content: Content::Bytes(len as u64), deaf: false }, bytes_of(tag, len))
}

fn tensor(tag: u64, dims: &[u64]) -> (Message, Vec<u8>) {
    let d = Descriptor::new(Dtype::U16, dims).expect("legal");
    (Message { tag, content: Content::Tensor(d), deaf: true }, bytes_of(tag, d.bytes() as usize))
}

fn sent((message, payload): (Message, Vec<u8>)) -> Item {
    Item::Message(message, payload, 20, None)
}

/// Streams of a few hundred bytes with everything in them.
fn small() -> Vec<Vec<Item>> {
    let (m, p) = bytes(3, 45);
    let (t, q) = tensor(5, &[2, 6]);
    vec![
        vec![sent(bytes(1, 0)), sent(bytes(2, 1)), Item::Beat(4), Item::Close],
        vec![sent(tensor(1, &[3])), sent(tensor(2, &[0, 4])), sent(tensor(3, &[])), sent(bytes(4, 3))],
        vec![
            Item::Message(m, p.clone(), 20, Some(2)),
            Item::Beaten(m, p, 30),
            sent(bytes(4, 2)),
            Item::Close,
        ],
        vec![
            Item::Message(t, q.clone(), 8, Some(1)),
            Item::Credit(7),
            Item::Beaten(t, q, 8),
            sent(bytes(6, 1)),
        ],
    ]
}

#[test]
fn every_split_in_two_and_one_by_one() {
    for items in small() {
        let stream = encode(&items);
        for refuse in [false, true] {
            let expected = expected(&items, refuse);
            for direct in [false, true] {
                for cut in 0..=stream.len() {
                    let mut r = Receiver::new(refuse);
                    r.take(&stream[..cut], direct).expect("legal");
                    r.take(&stream[cut..], direct).expect("legal");
                    assert_eq!(r.seen, expected, "cut at {cut} of {items:?}");
                }
                let mut r = Receiver::new(refuse);
                stream.chunks(1).for_each(|b| r.take(b, direct).expect("legal"));
                assert_eq!(r.seen, expected);
            }
        }
    }
}

/// A stream that ends anywhere has shown what was whole by then, and asks for the rest.
#[test]
fn frames_cut_at_every_byte() {
    for items in small() {
        let stream = encode(&items);
        let all = expected(&items, false);
        for cut in 0..stream.len() {
            let mut r = Receiver::new(false);
            r.take(&stream[..cut], false).expect("what came is legal");
            assert!(r.seen.len() < all.len() && all.starts_with(&r.seen), "cut at {cut}");
            match r.decoder.want() {
                Want::Head(n) => assert!((1..=88).contains(&n)),
                Want::Payload(n) => assert!((1..=48).contains(&n)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_refused_tensor_is_skipped_whole_and_the_next_one_is_right() {
    let (t, q) = tensor(5, &[40]);
    let items =
        [Item::Beaten(t, q, 8), sent(tensor(6, &[3])), sent(bytes(7, 30)), sent(bytes(8, 30)), Item::Close];
    let stream = encode(&items);
    let mut r = Receiver::new(true);
    r.take(&stream, false).expect("legal");
    let whole: Vec<u64> =
        r.seen.iter().filter_map(|s| if let Seen::Whole(m, _) = s { Some(m.tag) } else { None }).collect();
    assert_eq!((r.seen, whole), (expected(&items, true), vec![6, 8]));
}

/// Somebody may change his mind in the middle: what has come stays, the rest is skipped.
#[test]
fn a_message_is_refused_in_its_middle() {
    let stream = encode(&[sent(bytes(2, 100)), sent(bytes(4, 5))]);
    let mut r = Receiver::new(false);
    r.take(&stream[..64 + 20 + 64 + 3], false).expect("legal");
    assert_eq!((r.payload.len(), r.decoder.received()), (23, 23));
    r.decoder.refuse();
    assert_eq!(r.decoder.want(), Want::Refused(17));
    r.take(&stream[64 + 20 + 64 + 3..], false).expect("legal");
    let (first, second) = (bytes(2, 100), bytes(4, 5));
    assert_eq!(r.seen, [Seen::Refused(first.0), Seen::Whole(second.0, second.1)]);
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let dtype = (0..Dtype::ALL.len()).prop_map(|i| Dtype::ALL[i]);
    let tensor =
        (dtype, vec(0u64..4, 0..5)).prop_map(|(t, dims)| Content::Tensor(Descriptor::new(t, &dims).unwrap()));
    let content =
        prop_oneof![(0u64..200).prop_map(Content::Bytes), (0u64..200).prop_map(Content::Value), tensor];
    let message = (any::<u64>(), content, any::<bool>())
        .prop_map(|(tag, content, deaf)| Message { tag, content, deaf })
        .prop_map(|m| (m, bytes_of(m.tag % 1000, m.content.bytes() as usize)));
    let item = prop_oneof![
        4 => (message.clone(), 1u64..70).prop_map(|((m, p), most)| Item::Message(m, p, most, None)),
        1 => (message.clone(), 1u64..70, 0usize..4).prop_map(|((m, p), most, n)| Item::Message(m, p, most, Some(n))),
        1 => (message, 1u64..70).prop_map(|((m, p), most)| Item::Beaten(m, p, most)),
        1 => any::<u64>().prop_map(Item::Beat),
        1 => any::<u16>().prop_map(Item::Credit),
    ];
    (vec(item, 0..12), any::<bool>()).prop_map(|(mut items, close)| {
        if close {
            items.push(Item::Close);
        }
        items
    })
}

/// Runs of lengths at which a stream of `len` bytes is cut.
fn cuts(len: usize, steps: &[usize]) -> Vec<(usize, usize)> {
    let (mut at, mut all) = (0, Vec::new());
    for step in steps.iter().cycle().take(len) {
        let end = (at + step).min(len);
        all.push((at, end));
        at = end;
    }
    all.push((at, len));
    all
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_seen(
        items in items(),
        steps in vec(1usize..200, 1..20),
        refuse in any::<bool>(),
        direct in any::<bool>(),
    ) {
        let stream = encode(&items);
        let mut r = Receiver::new(refuse);
        for (from, to) in cuts(stream.len(), &steps) {
            r.take(&stream[from..to], direct).expect("legal");
        }
        prop_assert_eq!(&r.seen, &expected(&items, refuse));
    }

    /// Bytes that are hardly legal: every split has the same frames and the same error, and never more than came in.
    #[test]
    fn splits_of_damaged_streams_agree(
        items in items(),
        flips in vec((any::<prop::sample::Index>(), 0u8..8), 0..3),
        steps in vec(1usize..200, 1..20),
        direct in any::<bool>(),
    ) {
        let mut stream = encode(&items);
        for (index, bit) in flips.iter().filter(|_| !stream.is_empty()).collect::<Vec<_>>() {
            let at = index.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        let (mut whole, mut split) = (Receiver::new(false), Receiver::new(false));
        let first = whole.take(&stream, false);
        let pieces = cuts(stream.len(), &steps);
        let second = pieces.into_iter().try_for_each(|(from, to)| split.take(&stream[from..to], direct));
        prop_assert_eq!(first, second);
        prop_assert_eq!(&whole.seen, &split.seen);
        prop_assert!(whole.decoder.received() <= stream.len() as u64);
    }

    #[test]
    fn headers_are_canonical(bytes in uniform32(any::<u8>()), more in uniform32(any::<u8>())) {
        // Random words under a right start and a right sum: what is accepted encodes to the same bytes.
        let mut head: [u8; 64] = [bytes, more].concat().try_into().expect("64 bytes");
        let (kind, flags, lane) = (head[4] % 8, head[5] % 5, head[7]);
        head[..8].copy_from_slice(&[b'S', b'P', b'W', b'1', kind, flags, 8, lane]);
        for at in [24, 32, 40] {
            // Small lengths, or hardly anything would be legal.
            head[at + 1..at + 8].fill(0);
            head[at] %= 8;
        }
        head[60..62].fill(0);
        let sum = sapwood_core::wire::crc32c(&[&head[..56], &head[60..]].concat());
        head[56..60].copy_from_slice(&sum.to_le_bytes());
        if let Ok(h) = Header::decode(&head, None, &LIMITS) {
            prop_assert_eq!(h.encode(None), head);
        }
    }

    #[test]
    fn descriptors_are_canonical(words in uniform11(any::<u8>()), ndim in 0u8..10, code in 0u8..14) {
        let mut bytes = [0; 88];
        bytes[..5].copy_from_slice(&[code, [8, 16, 32, 64][usize::from(words[0] % 4)], 1, 0, ndim]);
        for (i, w) in words.iter().enumerate().take(8) {
            let in_use = i < usize::from(ndim) || w % 16 == 0;
            bytes[8 + 8 * i] = if in_use { *w } else { 0 };
        }
        if let Ok(d) = Descriptor::decode(&bytes) {
            prop_assert_eq!(d.encode(), bytes);
            prop_assert_eq!(Descriptor::new(d.dtype(), d.dims()), Ok(d));
        }
    }
}
