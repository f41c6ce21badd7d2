//! Every rule of the wire, broken one at a time: the exact error, and that it stays.
#![allow(missing_docs)]

use sapwood_core::dtype::Dtype;
use sapwood_core::wire::{
    Content, DESCRIPTOR_BYTES, Decoder, Descriptor, DescriptorError as D, EncodeError, Encoder, Flags, Frame,
    HEADER_BYTES, Head, Header, HeaderError as H, Kind, Limits, Message, OrderError as O, Stream, Want,
    WireError, crc32c,
};

const STREAM: Stream = Stream { rank: 3, lane: 1, epoch: 7, first: 100 };
const LIMITS: Limits = Limits { max_frame: 1000, max_message: 5000 };

/// A chunk of 10 bytes at the start of a message of 30.
fn chunk() -> Header {
    Header {
        kind: Kind::Data,
        flags: Flags::NONE,
        lane: 1,
        rank: 3,
        epoch: 7,
        sequence: 100,
        tag: 5,
        len: 10,
        offset: 0,
        total: 30,
        credits: 2,
        ack: 9,
    }
}

fn bare(kind: Kind) -> Header {
    Header { kind, tag: 0, len: 0, offset: 0, total: 0, ..chunk() }
}

fn tensor() -> (Header, Descriptor) {
    let d = Descriptor::new(Dtype::F32, &[2, 5]).expect("a legal one");
    (Header { kind: Kind::Tensor, len: 40, total: 40, ..chunk() }, d)
}

/// The sum that makes these bytes' head consistent again.
fn mend(bytes: &mut [u8]) {
    let covered = [&bytes[..56], &bytes[60..64], &bytes[64..]].concat();
    bytes[56..60].copy_from_slice(&crc32c(&covered).to_le_bytes());
}

/// What a fresh decoder says of these bytes: fed whole, one by one, and again after it has failed.
fn verdict(bytes: &[u8]) -> Result<Header, WireError> {
    let mut decoder = Decoder::new(STREAM, LIMITS);
    let whole = match decoder.feed(bytes) {
        Ok((n, Some(Frame::Head(h)))) => {
            assert_eq!(n, bytes.len());
            Ok(h)
        }
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    };
    let mut slow = Decoder::new(STREAM, LIMITS);
    let mut pieces = bytes.iter().map(|b| slow.feed(std::slice::from_ref(b)));
    let last = pieces.find_map(|r| match r {
        Ok((1, None)) => None,
        Ok((1, Some(Frame::Head(h)))) => Some(Ok(h)),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Some(Err(e)),
    });
    assert_eq!(last, Some(whole));
    if let Err(error) = whole {
        for decoder in [&mut decoder, &mut slow] {
            assert_eq!(decoder.want(), Want::Nothing);
            assert_eq!(decoder.feed(&chunk().encode(None)), Err(error), "no resync");
            assert_eq!(decoder.feed(&[]), Err(error));
            assert_eq!(decoder.sequence(), STREAM.first, "the number of the bad frame");
        }
        assert!(error.to_string().len() > 20, "{error}");
    }
    whole
}

fn refused(header: Header, error: H) {
    assert_eq!(verdict(&header.encode(None)), Err(WireError::Header(error)), "{header:?}");
}

/// The bytes of `header` with some overwritten and the checksum made right.
fn patched(header: Header, at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = header.encode(None).to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    mend(&mut bytes);
    bytes
}

#[test]
fn the_header_is_the_one_in_the_picture() {
    let h = Header {
        flags: Flags::VALUE,
        sequence: 0x0102_0304_0506_0708,
        tag: 0x1112_1314_1516_1718,
        len: 0x21,
        offset: 0x31,
        total: 0x4142,
        credits: 0x5152,
        ack: 0x5354,
        epoch: 0x6162_6364,
        rank: 0x7172,
        lane: 0x81,
        ..chunk()
    };
    let bytes = h.encode(None);
    assert_eq!(bytes[..8], [b'S', b'P', b'W', b'1', 1, 1, 8, 0x81]);
    assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[16..24], [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11]);
    assert_eq!(bytes[24..32], [0x21, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[32..40], [0x31, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..48], [0x42, 0x41, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[48..56], [0x52, 0x51, 0x54, 0x53, 0x64, 0x63, 0x62, 0x61]);
    assert_eq!(bytes[60..64], [0, 0, 0x72, 0x71]);
    let covered = [&bytes[..56], &bytes[60..]].concat();
    assert_eq!(bytes[56..60], crc32c(&covered).to_le_bytes());
    let (h, d) = tensor();
    let bytes = [&h.encode(Some(&d))[..], &d.encode()].concat();
    assert_eq!(bytes[60..62], [88, 0]);
    let mut again = bytes.clone();
    mend(&mut again);
    assert_eq!(again, bytes, "the sum covers the descriptor");
}

#[test]
fn good_heads_are_taken_as_they_are() {
    let (t, d) = tensor();
    let heads = [
        chunk(),
        Header { flags: Flags::VALUE.with(Flags::DEAF), ..chunk() },
        Header { len: 0, total: 0, ..chunk() },
        Header { len: LIMITS.max_frame, total: LIMITS.max_message, ..chunk() },
        bare(Kind::Credit),
        Header { tag: u64::MAX, ..bare(Kind::Beat) },
        bare(Kind::Close),
    ];
    for h in heads {
        assert_eq!(verdict(&h.encode(None)), Ok(h));
        assert_eq!(Header::decode(&h.encode(None), None, &LIMITS), Ok(h));
    }
    for h in [t, Header { flags: Flags::DEAF, len: 4, ..t }] {
        let bytes = h.encode(Some(&d));
        assert_eq!(verdict(&[&bytes[..], &d.encode()].concat()), Ok(h));
        assert_eq!(Header::decode(&bytes, Some(&d.encode()), &LIMITS), Ok(h));
    }
}

#[test]
fn foreign_first_words_are_refused() {
    for found in [*b"SPW2", *b"1WPS", *b"GET ", [0; 4], [0xFF; 4]] {
        let bytes = patched(chunk(), 0, &found);
        assert_eq!(verdict(&bytes), Err(WireError::Header(H::Magic { found })));
    }
    for found in (0..=255).filter(|w| *w != 8) {
        let bytes = patched(chunk(), 6, &[found]);
        assert_eq!(verdict(&bytes), Err(WireError::Header(H::Words { found })));
    }
    for found in (0..=255).filter(|k| Kind::from_code(*k).is_none()) {
        let bytes = patched(chunk(), 4, &[found]);
        assert_eq!(verdict(&bytes), Err(WireError::Header(H::Kind { found })));
    }
    assert_eq!((0..=255).filter(|k| Kind::from_code(*k).is_some()).count(), Kind::ALL.len());
}

#[test]
fn flags_are_known_and_of_their_kind() {
    for found in 4..=255u8 {
        let bytes = patched(chunk(), 5, &[found]);
        assert_eq!(verdict(&bytes), Err(WireError::Header(H::Flags { found, known: 3 })));
    }
    for kind in Kind::ALL {
        let allowed = kind.flags().bits();
        for found in (0..4u8).filter(|f| f & !allowed != 0) {
            let bytes = patched(bare(kind), 5, &[found]);
            let error = H::FlagsOfKind { kind, found, allowed };
            assert_eq!(verdict(&bytes), Err(WireError::Header(error)));
        }
    }
}

#[test]
fn a_descriptor_stands_where_it_must_and_nowhere_else() {
    let (t, _) = tensor();
    for found in [0, 1, 87, 89, 128, u16::MAX] {
        let bytes = patched(t, 60, &found.to_le_bytes());
        let error = H::DescriptorLength { kind: Kind::Tensor, offset: 0, found, expected: 88 };
        assert_eq!(verdict(&bytes), Err(WireError::Header(error)));
    }
    let later = Header { offset: 4, len: 4, ..t };
    for (h, kind, offset) in
        [(chunk(), Kind::Data, 0), (later, Kind::Tensor, 4), (bare(Kind::Beat), Kind::Beat, 0)]
    {
        for found in [1, 88, u16::MAX] {
            let bytes = patched(h, 60, &found.to_le_bytes());
            let error = H::DescriptorLength { kind, offset, found, expected: 0 };
            assert_eq!(verdict(&bytes), Err(WireError::Header(error)));
        }
    }
}

/// Any bit that flips is noticed: by the rule about its field if that comes before the sum, else by the sum.
#[test]
fn no_bit_of_a_head_can_flip_unseen() {
    let (t, d) = tensor();
    let heads = [chunk().encode(None).to_vec(), [&t.encode(Some(&d))[..], &d.encode()].concat()];
    for head in heads {
        verdict(&head).expect("legal before the flip");
        let mut by_sum = 0;
        for bit in 0..head.len() * 8 {
            let mut bytes = head.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match verdict(&bytes) {
                Err(WireError::Header(H::Checksum { found, computed })) => {
                    assert_ne!(found, computed);
                    by_sum += 1;
                }
                Err(WireError::Header(_)) => {
                    let early = bit / 8 < 7 || matches!(bit / 8, 32..40 | 60..62);
                    assert!(early, "bit {bit} is covered by the sum alone");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        assert!(by_sum > head.len() * 8 / 2);
    }
}

#[test]
fn fields_that_a_kind_does_not_use_are_zero() {
    for kind in [Kind::Credit, Kind::Beat, Kind::Abort, Kind::Close] {
        let abort = kind == Kind::Abort;
        let base = if abort { Header { tag: 5, offset: 10, total: 30, ..bare(kind) } } else { bare(kind) };
        for found in [1, u64::MAX] {
            refused(Header { len: found, ..base }, H::Unused { kind, field: "len", found });
            if !abort {
                refused(Header { offset: found, ..base }, H::Unused { kind, field: "offset", found });
                refused(Header { total: found, ..base }, H::Unused { kind, field: "total", found });
            }
            if matches!(kind, Kind::Credit | Kind::Close) {
                refused(Header { tag: found, ..base }, H::Unused { kind, field: "tag", found });
            }
        }
    }
}

#[test]
fn lengths_have_limits_and_do_not_wrap() {
    let c = chunk();
    let most = LIMITS.max_frame;
    for len in [most + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        refused(Header { len, ..c }, H::TooLong { len, most });
    }
    let most = LIMITS.max_message;
    for total in [most + 1, 1 << 63, u64::MAX] {
        refused(Header { total, ..c }, H::MessageTooLong { total, most });
    }
    // What an address can't count is too long whatever the limit says.
    let open = Limits { max_frame: u64::MAX, max_message: u64::MAX };
    let decode = |h: Header| Header::decode(&h.encode(None), None, &open);
    let most = isize::MAX as u64;
    assert_eq!(decode(Header { total: most + 1, ..c }), Err(H::MessageTooLong { total: most + 1, most }));
    assert_eq!(decode(Header { total: most, len: most, ..c }).map(|h| h.total), Ok(most));

    let outside = [
        (0, 31, 30),
        (21, 10, 30),
        (31, 0, 30),
        (31, 1, 30),
        (30, 1, 30),
        (u64::MAX, 1, 30),
        (u64::MAX - 9, 10, 30), // offset + len wraps to 0
        (u64::MAX - 4, 10, 30), // and to 5
        (1 << 63, 1000, 30),
        (1, 1, 0),
        (0, 1, 0),
        (1, 0, 0),
    ];
    for (offset, len, total) in outside {
        refused(Header { offset, len, total, ..c }, H::Offset { offset, len, total });
    }
    for offset in [0, 1, 29, 30] {
        refused(Header { offset, len: 0, ..c }, H::Empty { offset, total: 30 });
    }
}

#[test]
fn frames_of_others_are_refused() {
    let c = chunk();
    for found in [0, 6, 8, u32::MAX] {
        refused(Header { epoch: found, ..c }, H::Epoch { found, expected: 7 });
    }
    for found in [0, 2, u16::MAX] {
        refused(Header { rank: found, ..c }, H::Rank { found, expected: 3 });
    }
    for found in [0, 2, u8::MAX] {
        refused(Header { lane: found, ..c }, H::Lane { found, expected: 1 });
    }
    for found in [0, 99, 101, 100 + (1 << 32), u64::MAX] {
        refused(Header { sequence: found, ..c }, H::Sequence { found, expected: 100 });
    }
}

#[test]
fn a_descriptor_obeys_each_of_its_rules() {
    let (t, d) = tensor();
    let of = |at: usize, with: &[u8]| {
        let mut bytes = [&t.encode(Some(&d))[..], &d.encode()].concat();
        bytes[HEADER_BYTES + at..HEADER_BYTES + at + with.len()].copy_from_slice(with);
        mend(&mut bytes);
        let alone: &[u8; DESCRIPTOR_BYTES] = bytes[HEADER_BYTES..].try_into().expect("88 bytes");
        match (verdict(&bytes), Descriptor::decode(alone)) {
            (Err(WireError::Descriptor(e)), Err(alone)) => {
                assert_eq!(e, alone);
                assert!(e.to_string().len() > 15, "{e}");
                e
            }
            other => panic!("{other:?}"),
        }
    };
    for found in (0..=255).filter(|c| Dtype::from_code(*c).is_none()) {
        assert_eq!(of(0, &[found]), D::Dtype { found });
    }
    for found in (0..=255).filter(|b| *b != 32) {
        assert_eq!(of(1, &[found]), D::Bits { found, expected: 32 });
    }
    for found in [0u16, 2, 256, u16::MAX] {
        assert_eq!(of(2, &found.to_le_bytes()), D::Lanes { found });
    }
    for found in 9..=255 {
        assert_eq!(of(4, &[found]), D::Ndim { found });
    }
    for found in 1..=255 {
        assert_eq!(of(5, &[found]), D::Order { found });
    }
    for (at, bytes) in [(6, 2), (72, 8), (80, 8)] {
        for (i, b) in (0..bytes).flat_map(|i| [(i, 1u8), (i, 0xFF)]) {
            assert_eq!(of(at + i, &[b]), D::Reserved { at, found: u64::from(b) << (8 * i) });
        }
    }
    for index in 2..8 {
        assert_eq!(of(8 + 8 * index, &[1]), D::UnusedDim { index, ndim: 2, found: 1 });
    }
    for ndim in 0..2u8 {
        let found = [2, 5][usize::from(ndim)];
        assert_eq!(of(4, &[ndim]), D::UnusedDim { index: usize::from(ndim), ndim, found });
    }
}

#[test]
fn dims_that_wrap_are_refused_even_next_to_a_zero() {
    let wrap = |dims: &[u64], error: D| {
        assert_eq!(Descriptor::new(Dtype::F32, dims), Err(error), "{dims:?}");
        let mut bytes = Descriptor::new(Dtype::F32, &[]).expect("a scalar").encode();
        bytes[4] = dims.len() as u8;
        for (i, dim) in dims.iter().enumerate() {
            bytes[8 + 8 * i..16 + 8 * i].copy_from_slice(&dim.to_le_bytes());
        }
        assert_eq!(Descriptor::decode(&bytes), Err(error), "{dims:?}");
    };
    wrap(&[1 << 62], D::Overflow { index: 0, dim: 1 << 62, bytes: 4 });
    wrap(&[u64::MAX], D::Overflow { index: 0, dim: u64::MAX, bytes: 4 });
    wrap(&[1 << 31, 1 << 31], D::Overflow { index: 1, dim: 1 << 31, bytes: 1 << 33 }); // to 0
    wrap(&[1 << 32, 1 << 30, 5], D::Overflow { index: 1, dim: 1 << 30, bytes: 1 << 34 }); // to 0
    wrap(&[0, 1 << 31, 1 << 31], D::Overflow { index: 2, dim: 1 << 31, bytes: 1 << 33 });
    wrap(&[1 << 31, 0, 1 << 31], D::Overflow { index: 2, dim: 1 << 31, bytes: 1 << 33 });
    wrap(&[1 << 31, 1 << 31, 0], D::Overflow { index: 1, dim: 1 << 31, bytes: 1 << 33 });
    wrap(&[256; 8], D::Overflow { index: 7, dim: 256, bytes: 1 << 58 });
    assert_eq!(
        Descriptor::new(Dtype::I8, &[256, 256, 256, 256, 256, 256, 256, 255]).map(|d| d.bytes()),
        Ok(255 << 56)
    );
    assert_eq!(Descriptor::new(Dtype::I8, &[1; 9]), Err(D::Ndim { found: 9 }));
    assert_eq!(Descriptor::new(Dtype::I8, &[1; 300]), Err(D::Ndim { found: 255 }));
}

#[test]
fn a_tensor_has_the_bytes_that_its_frame_claims() {
    for (dims, tensor) in [(&[2, 5, 2][..], 80), (&[2, 0], 0), (&[], 4), (&[9], 36), (&[1 << 40], 1 << 42)] {
        let d = Descriptor::new(Dtype::F32, dims).expect("legal by itself");
        let (h, _) = self::tensor();
        let bytes = [&h.encode(Some(&d))[..], &d.encode()].concat();
        assert_eq!(verdict(&bytes), Err(WireError::Total { tensor, total: 40 }));
    }
}

/// Feeds these frames, each with its payload of zeros; what the last one is called.
fn order(frames: &[Header]) -> Result<(), O> {
    let mut decoder = Decoder::new(STREAM, LIMITS);
    for (i, h) in frames.iter().enumerate() {
        let d =
            Descriptor::new(Dtype::U8, &[h.total]).ok().filter(|_| h.kind == Kind::Tensor && h.offset == 0);
        let head = Header { sequence: 100 + i as u64, ..*h }.encode(d.as_ref());
        let tail = d.map(|d| d.encode().to_vec()).unwrap_or_default();
        match decoder.feed(&[&head[..], &tail].concat()).map(|(n, _)| n) {
            Ok(_) if h.len > 0 => decoder.taken(h.len as usize),
            Ok(_) => {}
            Err(WireError::Order(e)) => {
                assert_eq!(i + 1, frames.len(), "{e} too early");
                assert!(e.to_string().len() > 20, "{e}");
                return Err(e);
            }
            Err(e) => panic!("{e}"),
        }
    }
    Ok(())
}

#[test]
fn frames_have_an_order() {
    let first = chunk();
    let at = |offset| Header { offset, ..first };
    let t = Header { kind: Kind::Tensor, ..first };
    let abort = |offset| Header { kind: Kind::Abort, offset, len: 0, ..first };
    let (beat, credit, close) = (bare(Kind::Beat), bare(Kind::Credit), bare(Kind::Close));

    let legal: [&[Header]; 6] = [
        &[first, at(10), at(20), first, at(10), at(20), close],
        &[beat, first, beat, credit, at(10), beat, at(20), credit, close],
        &[first, abort(10), first, at(10), abort(20), t, abort(10), close],
        &[t, Header { offset: 10, ..t }, beat, Header { offset: 20, ..t }],
        &[Header { len: 0, total: 0, ..first }, Header { len: 0, total: 0, ..t }, close],
        &[first, Header { len: 1, ..at(10) }, Header { len: 19, ..at(11) }],
    ];
    for frames in legal {
        assert_eq!(order(frames), Ok(()));
    }

    let within = O::Within { tag: 6, open: 5, received: 10, total: 30 };
    assert_eq!(order(&[first, Header { tag: 6, ..first }]), Err(within));
    assert_eq!(order(&[first, Header { tag: 6, ..t }]), Err(within));
    assert_eq!(order(&[first, Header { tag: 6, len: 0, total: 0, ..first }]), Err(within));
    let orphan = |kind, offset| O::Orphan { kind, tag: 5, offset };
    assert_eq!(order(&[at(10)]), Err(orphan(Kind::Data, 10)));
    assert_eq!(order(&[first, at(10), at(20), at(20)]), Err(orphan(Kind::Data, 20)));
    assert_eq!(order(&[first, abort(10), at(10)]), Err(orphan(Kind::Data, 10)));
    assert_eq!(order(&[Header { offset: 10, ..t }]), Err(orphan(Kind::Tensor, 10)));
    for offset in [1, 9, 11, 20] {
        let gap = O::Gap { tag: 5, offset, expected: 10 };
        assert_eq!(order(&[first, at(offset)]), Err(gap));
        assert_eq!(order(&[first, abort(offset)]), Err(gap));
    }
    let differs = |field, found, expected| Err(O::Differs { field, found, expected });
    assert_eq!(order(&[first, Header { kind: Kind::Tensor, ..at(10) }]), differs("kind", 2, 1));
    assert_eq!(order(&[t, at(10)]), differs("kind", 1, 2));
    assert_eq!(order(&[first, Header { flags: Flags::DEAF, ..at(10) }]), differs("flags", 2, 0));
    assert_eq!(order(&[Header { flags: Flags::VALUE, ..first }, at(10)]), differs("flags", 0, 1));
    assert_eq!(order(&[first, Header { tag: 6, ..at(10) }]), differs("tag", 6, 5));
    assert_eq!(order(&[first, Header { total: 31, ..at(10) }]), differs("total", 31, 30));
    assert_eq!(order(&[first, Header { tag: 6, ..abort(10) }]), differs("tag", 6, 5));
    assert_eq!(order(&[first, Header { total: 31, ..abort(10) }]), differs("total", 31, 30));
    let nothing = Err(O::NothingToAbort { tag: 5 });
    assert_eq!(order(&[abort(0)]), nothing);
    assert_eq!(order(&[first, at(10), at(20), abort(30)]), nothing);
    assert_eq!(order(&[first, abort(10), abort(10)]), nothing);
    assert_eq!(order(&[Header { len: 0, total: 0, ..first }, Header { total: 0, ..abort(0) }]), nothing);
    assert_eq!(order(&[first, close]), Err(O::CloseWithin { tag: 5, received: 10, total: 30 }));
    for late in [close, beat, first] {
        assert_eq!(order(&[first, abort(10), close, late]), Err(O::AfterClose));
    }
}

#[test]
fn one_byte_behind_a_close_is_an_error() {
    let mut decoder = Decoder::new(STREAM, LIMITS);
    decoder.feed(&bare(Kind::Close).encode(None)).expect("legal");
    assert!(decoder.is_closed());
    assert_eq!((decoder.want(), decoder.feed(&[])), (Want::Nothing, Ok((0, None))));
    let late = Err(WireError::Order(O::AfterClose));
    assert_eq!(decoder.feed(b"S"), late);
    assert_eq!((decoder.feed(&[]), decoder.is_closed()), (late, false));
}

#[test]
fn numbers_of_frames_go_on_past_their_end() {
    let stream = Stream { first: u64::MAX - 1, ..STREAM };
    let (mut encoder, mut decoder) = (Encoder::new(stream, LIMITS), Decoder::new(stream, LIMITS));
    let mut head = Head::new();
    for sequence in [u64::MAX - 1, u64::MAX, 0, 1] {
        assert_eq!((encoder.sequence(), decoder.sequence()), (sequence, sequence));
        encoder.beat(3, &mut head).expect("open");
        let (_, frame) = decoder.feed(head.bytes()).expect("legal");
        assert!(matches!(frame, Some(Frame::Head(h)) if h.sequence == sequence && h.tag == 3), "{frame:?}");
    }
}

#[test]
fn an_encoder_refuses_what_a_decoder_would() {
    let mut encoder = Encoder::new(STREAM, LIMITS);
    let mut head = Head::new();
    let message = |n| Message { tag: 5, content: Content::Bytes(n), deaf: false };
    assert_eq!(head.bytes(), []);
    assert_eq!(encoder.chunk(9, &mut head), None);
    assert!(!encoder.abort(&mut head));
    let too_long = EncodeError::TooLong { total: 5001, most: 5000 };
    assert_eq!(encoder.begin(message(5001)), Err(too_long));
    assert_eq!(encoder.begin(message(30)), Ok(()));
    assert_eq!(encoder.begin(message(1)), Err(EncodeError::Unfinished { tag: 5, sent: 0, total: 30 }));
    assert!(!encoder.abort(&mut head), "the receiver has heard nothing of it");
    assert_eq!(encoder.sequence(), 100);
    assert_eq!(encoder.begin(message(30)), Ok(()));
    assert_eq!(encoder.chunk(10, &mut head), Some(10));
    let unfinished = Err(EncodeError::Unfinished { tag: 5, sent: 10, total: 30 });
    assert_eq!((encoder.begin(message(1)), encoder.close(&mut head)), (unfinished, unfinished));
    assert_eq!(encoder.chunk(0, &mut head), Some(1), "a chunk of a message that has bytes has some");
    assert!(encoder.abort(&mut head));
    let aborted =
        Header { offset: 11, credits: 0, ack: 0, sequence: 102, kind: Kind::Abort, len: 0, ..chunk() };
    assert_eq!(head.bytes(), aborted.encode(None));
    assert_eq!(encoder.begin(message(0)), Ok(()));
    assert_eq!((encoder.chunk(10, &mut head), encoder.chunk(10, &mut head)), (Some(0), None));
    assert_eq!(encoder.close(&mut head), Ok(()));
    let closed = Err(EncodeError::Closed);
    assert_eq!((encoder.begin(message(1)), encoder.close(&mut head)), (closed, closed));
    assert_eq!((encoder.beat(1, &mut head), encoder.credit(&mut head)), (closed, closed));
}

#[test]
fn credits_travel_once_and_acks_stay() {
    let mut encoder = Encoder::new(STREAM, LIMITS);
    let mut decoder = Decoder::new(STREAM, LIMITS);
    let mut head = Head::new();
    let mut carried = |encoder: &mut Encoder| {
        encoder.credit(&mut head).expect("open");
        match decoder.feed(head.bytes()) {
            Ok((64, Some(Frame::Head(h)))) => (h.kind, h.credits, h.ack),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(carried(&mut encoder), (Kind::Credit, 0, 0));
    encoder.grant(3, 0x1_0007);
    encoder.grant(2, 0x1_0009);
    assert_eq!(carried(&mut encoder), (Kind::Credit, 5, 9));
    assert_eq!(carried(&mut encoder), (Kind::Credit, 0, 9));
    encoder.grant(u16::MAX, 10);
    encoder.grant(1, 11);
    assert_eq!(carried(&mut encoder), (Kind::Credit, u16::MAX, 11));
}

#[test]
#[should_panic(expected = "11 bytes taken where a decoder wants Payload(10)")]
fn taking_more_than_is_wanted_is_a_mistake_of_the_caller() {
    let mut decoder = Decoder::new(STREAM, LIMITS);
    decoder.feed(&chunk().encode(None)).expect("legal");
    decoder.taken(11);
}

#[test]
fn a_failed_or_closed_stream_has_no_space() {
    let mut decoder = Decoder::new(STREAM, LIMITS);
    assert_eq!(decoder.space().len(), 64);
    decoder.space()[..4].copy_from_slice(b"SPW1");
    assert_eq!((decoder.filled(4), decoder.want()), (Ok(None), Want::Head(60)));
    decoder.space().fill(0);
    let error = Err(WireError::Header(H::Words { found: 0 }));
    assert_eq!(decoder.filled(60), error);
    assert_eq!((decoder.space().len(), decoder.filled(0)), (0, error));
    let mut decoder = Decoder::new(STREAM, LIMITS);
    decoder.feed(&bare(Kind::Close).encode(None)).expect("legal");
    assert_eq!((decoder.space().len(), decoder.filled(0)), (0, Ok(None)));
}

#[test]
#[should_panic(expected = "65 bytes received where a decoder wants Head(64)")]
fn filling_more_than_there_is_space_for_is_a_mistake_of_the_caller() {
    let _ = Decoder::new(STREAM, LIMITS).filled(65);
}
