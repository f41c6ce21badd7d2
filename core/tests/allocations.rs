//! Neither the codec nor a link allocates, whatever lengths are claimed.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use sapwood_core::dtype::Dtype;
use sapwood_core::link::{Deadline, Framed, Link, Ready, Source, Target};
use sapwood_core::testing::MemoryPipe;
use sapwood_core::view::{View, ViewMut};
use sapwood_core::wire::{
    Content, Decoder, Descriptor, Encoder, Flags, Frame, Head, Header, Kind, Limits, Message, Stream, Want,
};

struct Counting;

// Of this thread alone: the harness allocates when it likes.
thread_local!(static ALLOCATIONS: Cell<u64> = const { Cell::new(0) });

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as asked.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LIMITS: Limits = Limits { max_frame: u64::MAX, max_message: u64::MAX };

/// Sends and receives one of each through a buffer, a refused one among them.
fn round(encoder: &mut Encoder, decoder: &mut Decoder, buffer: &mut [u8]) -> u64 {
    let payload = [5; 64];
    let tensor = Content::Tensor(Descriptor::new(Dtype::F32, &[4, 4]).expect("legal"));
    let mut head = Head::new();
    let mut received = 0;
    for (tag, content) in
        [(0, Content::Bytes(64)), (1, tensor), (2, Content::Value(0)), (3, Content::Bytes(64))]
    {
        encoder.begin(Message { tag, content, deaf: false }).expect("within the limits");
        while let Some(n) = encoder.chunk(40, &mut head) {
            let (to, h) = (n as usize, head.bytes().len());
            buffer[..h].copy_from_slice(head.bytes());
            buffer[h..h + to].copy_from_slice(&payload[..to]);
            let mut rest = &buffer[..h + to];
            while !rest.is_empty() {
                let (n, frame) = decoder.feed(rest).expect("legal");
                match frame {
                    Some(Frame::Head(h)) if h.tag == 3 => decoder.refuse(),
                    Some(Frame::Payload { bytes, .. }) => received += bytes.len() as u64,
                    _ => {}
                }
                rest = &rest[n..];
            }
        }
    }
    received
}

type End = Framed<MemoryPipe>;

/// One of each call of a link, those that fail too.
fn calls(a: &mut End, b: &mut End, long: &[u8], into: &mut [u8]) {
    let none = Deadline::NONE;
    let matrix = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let transposed = View::strided(&matrix, 0, &[3, 2], &[1, 3]).expect("inside");
    let mut columns = [0.0f32; 12];
    let mut slot = ViewMut::strided(&mut columns, 0, &[3, 2], &[4, 2]).expect("inside");
    a.send(1, Source::Tensor(transposed), none).expect("there is room");
    b.recv_into(&mut slot, none).expect("it is there");
    a.send(2, Source::Value(&long[..50]), none).expect("there is room");
    assert!(b.recv_into(&mut slot, none).is_err(), "no tensor");
    assert!(a.send(3, Source::Bytes(long), none).is_err(), "more than fits");
    assert!(b.recv(into, none).is_err(), "aborted");
    a.try_send(4, Source::Bytes(&long[..100])).expect("there is room");
    assert!(b.try_recv().expect("open").is_some() && b.recv(&mut [], none).is_err(), "too small");
    assert!(b.refuse() && b.try_recv().expect("open").is_none());
    b.send(5, Source::Bytes(b"abc"), none).expect("there is room");
    a.send_recv(6, Source::Bytes(&[]), Target::Bytes(into), none).expect("there is room, and it is there");
    assert!(b.poll(Ready { recv: true, send: true }, none).expect("open").recv);
    b.recv(into, none).expect("it is there");
    assert!(b.recv(into, none).is_err(), "nothing there");
}

/// One test, because the counter is the whole program's.
#[test]
fn no_message_no_claim_and_no_call_allocates() {
    let (mut encoder, mut decoder) =
        (Encoder::new(Stream::default(), LIMITS), Decoder::new(Stream::default(), LIMITS));
    let mut buffer = vec![0; 512];
    let (mut a, mut b) = MemoryPipe::links(1024);
    let (long, mut into) = (vec![7; 5000], vec![0; 5000]);
    let counted = ALLOCATIONS.get();
    assert!(counted > 0, "the counter counts");
    let mut received = 0;
    for _ in 0..100 {
        received += round(&mut encoder, &mut decoder, black_box(&mut buffer));
        calls(&mut a, &mut b, &long, &mut into);
    }
    // A claim of as much as an address can count, and one that breaks every limit.
    let most = isize::MAX as u64;
    let claim = |sequence, len, total| Header {
        kind: Kind::Data,
        flags: Flags::NONE,
        lane: 0,
        rank: 0,
        epoch: 0,
        sequence,
        tag: 9,
        len,
        offset: 0,
        total,
        credits: 0,
        ack: 0,
    };
    let first = claim(decoder.sequence(), most, most).encode(None);
    let taken = decoder.feed(&first).is_ok() && decoder.want() == Want::Payload(isize::MAX as usize);
    let mut other = Decoder::new(Stream::default(), Limits::DEFAULT);
    let refused = other.feed(&claim(0, u64::MAX, u64::MAX).encode(None)).is_err();
    assert_eq!(ALLOCATIONS.get(), counted);
    assert_eq!((received, taken, refused), (100 * 128, true, true));
}
