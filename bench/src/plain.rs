//! The floor of rings and messages: what two ends need at least, written by hand over memory that both have. No checks,
//! no recovery, no third party. Plain code, not a proven bound.
//!
//! ```text
//!      0  flag of either end        128 B each   messages that it has sent
//!    256  ball of either end        128 B each   the last word that it has sent
//!    512  positions of the ring     128 B each   written by the producer, by the consumer
//!    768  positions of the chunks   128 B each   the same
//!   4096  slots                      64 KiB      words or records
//!  69632  chunks                    256 KiB      4 of 64 KiB, from end 0 to end 1
//! 331776  a message of either end     1 MiB each copied in and out (short), or made in place
//! ```
//! In ping-pong each direction has a line of its own, as two channels would; one line that goes there and back is
//! faster (200 ns one way against 260 in the same minute), but no two rings can share one.
//!
//! # Safety
//! Works on raw bytes that both ends have mapped, or that two threads share. Who writes what when is the protocol of
//! each function: a word is stored (Release) after the bytes were written and loaded (Acquire) before they are looked
//! at, and the same on the way back before they are overwritten.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_shm::{Seat, Segment, Spec};

use crate::flow::messages::{self, Loans, Messages};
use crate::flow::records::{self, BATCH, PopRecords, PushRecords, Record};
use crate::flow::words::{self, Pop, Push};
use crate::flow::{Failure, Said, Spin};
use crate::ring::meeting;

type U64 = <Real as Mem>::U64;

const LINE: usize = 128;
/// Lines, two of each: the flags, the balls, and the positions of ring and chunks, the producer's first.
const FLAG: usize = 0;
const BALL: usize = 2;
const RING: usize = 4;
const CHUNKS: usize = 6;
const SLOTS_AT: usize = 4096;
const SLOTS: usize = records::CAPACITY * size_of::<Record>();
const CHUNKS_AT: usize = SLOTS_AT + SLOTS;
const CHUNK: usize = 64 << 10;
/// Chunks under way.
const DEEP: usize = 4;
const MESSAGES_AT: usize = CHUNKS_AT + DEEP * CHUNK;
/// The longest message.
const LONGEST: usize = 1 << 20;
const BYTES: usize = MESSAGES_AT + 2 * LONGEST;

/// Keeps the bytes there, and says where.
pub(crate) trait Bytes {
    /// Where they begin, on a page; there are [`BYTES`] of them, the same for both ends.
    fn base(&self) -> *mut u8;
}

impl Bytes for (Segment, Seat) {
    fn base(&self) -> *mut u8 {
        self.0.body_ptr()
    }
}

impl Bytes for Arc<Heap> {
    fn base(&self) -> *mut u8 {
        self.0
    }
}

/// Bytes of one process.
pub(crate) struct Heap(*mut u8);

// SAFETY: an address; whoever uses it says why it may.
unsafe impl Send for Heap {}
// SAFETY: the same.
unsafe impl Sync for Heap {}

impl Heap {
    const LAYOUT: Layout = match Layout::from_size_align(BYTES, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a page is a power of two"),
    };

    fn new() -> Heap {
        // SAFETY: the layout is not empty.
        let at = unsafe { alloc_zeroed(Self::LAYOUT) };
        if at.is_null() {
            handle_alloc_error(Self::LAYOUT);
        }
        Heap(at)
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout, and nobody has the address any more: the last `Arc` is going.
        unsafe { dealloc(self.0, Self::LAYOUT) };
    }
}

/// One end. Alone on its lines: two threads have one each.
#[repr(align(128))]
pub(crate) struct Plain<B> {
    bytes: B,
    end: usize,
    /// Messages sent and received so far.
    sent: u64,
    came: u64,
    /// The last word of the other end's ball.
    seen: u64,
    /// Chunks sent or taken so far.
    chunks: u64,
}

impl Plain<(Segment, Seat)> {
    /// One of two processes.
    pub(crate) fn join(rank: usize, ranks: usize) -> Result<Self, Box<dyn Error>> {
        if ranks != 2 {
            return Err("the floor is written for two ranks".into());
        }
        let spec = Spec { kind: 0xF101, fingerprint: 1, seats: 2, body: BYTES as u64, reserve: 0 };
        let entered = Segment::enter_named(&meeting()?, &spec, rank, Duration::from_secs(20))?;
        let mut plain = Plain::new(entered, rank);
        plain.raise();
        plain.await_flag();
        if rank == 0 {
            plain.bytes.0.unlink()?;
        }
        Ok(plain)
    }
}

impl Plain<Arc<Heap>> {
    /// Both ends in one process.
    pub(crate) fn pair() -> [Self; 2] {
        let heap = Arc::new(Heap::new());
        [0, 1].map(|end| Plain::new(heap.clone(), end))
    }
}

impl<B: Bytes> Plain<B> {
    fn new(bytes: B, end: usize) -> Self {
        Plain { bytes, end, sent: 0, came: 0, seen: 0, chunks: 0 }
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.bytes.base().wrapping_add(offset)
    }

    /// One of the first lines.
    fn line(&self, which: usize) -> &U64 {
        // SAFETY: aligned, below the slots; an atomic word, for which zeros are valid; it stays while `self` does.
        unsafe { &*self.at(which * LINE).cast::<U64>() }
    }

    fn wait_for(word: &U64, least: u64) {
        while word.load(Ordering::Acquire) < least {
            Real::spin();
        }
    }

    /// Says that one more message lies there.
    fn raise(&mut self) {
        self.sent += 1;
        self.line(FLAG + self.end).store(self.sent, Ordering::Release);
    }

    /// Waits for one more message of the other end.
    fn await_flag(&mut self) {
        self.came += 1;
        Self::wait_for(self.line(FLAG + 1 - self.end), self.came);
    }

    /// Where the message of an end lies. In ping-pong there is one at a time: whoever writes his next has read the
    /// answer to his last.
    fn message(&self, end: usize) -> *mut u8 {
        self.at(MESSAGES_AT + end * LONGEST)
    }

    /// Obeys an order.
    pub(crate) fn obey(&mut self, bench: &str, bytes: usize, n: u64) -> Result<Said, Failure> {
        let first = self.end == 0;
        let batch = if bench == "msgrate" { BATCH } else { 1 };
        match (bench, first) {
            ("pingpong", _) if bytes <= 8 => {
                let mut from = BallFrom { word: self.line(BALL + 1 - self.end), seen: self.seen };
                let mut to = BallTo(self.line(BALL + self.end));
                let said = words::pingpong::<Spin>(first, &mut to, &mut from, n);
                self.seen = from.seen;
                said
            }
            ("pingpong", _) => messages::pingpong(first, self, bytes, n),
            ("stream", _) => messages::stream(first, &mut Chunked(self), bytes, n),
            ("loan", _) => messages::loan(first, self, bytes, n),
            ("spsc", true) => words::produce::<Spin>(&mut Ring::new(self), n),
            ("spsc", false) => words::consume::<Spin>(&mut Ring::new(self), n),
            ("msgrate" | "msgrate_unbatched", true) => records::produce(&mut Ring::new(self), n, batch),
            ("msgrate" | "msgrate_unbatched", false) => records::consume(&mut Ring::new(self), n, batch),
            (other, _) => Err(format!("no floor for {other}").into()),
        }
    }
}

/// One word there: it is its own flag, since no two words one after the other are alike.
struct BallTo<'a>(&'a U64);

struct BallFrom<'a> {
    word: &'a U64,
    seen: u64,
}

impl Push for BallTo<'_> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        self.0.store(word, Ordering::Release);
        true
    }
}

impl Pop for BallFrom<'_> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word != self.seen).then(|| {
            self.seen = word;
            word
        })
    }
}

/// The ring: end 0 produces, end 1 consumes. Between two orders it is empty.
struct Ring<'a, T> {
    /// Our position's line, and the other end's.
    line: &'a U64,
    other: &'a U64,
    slots: *mut T,
    at: u64,
    /// The other end's position when we last looked.
    known: u64,
}

const CAPACITY: u64 = records::CAPACITY as u64;
const _: () = assert!(words::CAPACITY == records::CAPACITY && records::CAPACITY.is_power_of_two());

impl<'a, T: Copy> Ring<'a, T> {
    fn new(plain: &'a Plain<impl Bytes>) -> Self {
        let (line, other) = (plain.line(RING + plain.end), plain.line(RING + 1 - plain.end));
        let (at, known) = (line.load(Ordering::Relaxed), other.load(Ordering::Acquire));
        Ring { line, other, slots: plain.at(SLOTS_AT).cast(), at, known }
    }

    /// Free slots, as far as we must know.
    #[inline(always)]
    fn room(&mut self) -> u64 {
        if self.at - self.known == CAPACITY {
            self.known = self.other.load(Ordering::Acquire);
        }
        CAPACITY - (self.at - self.known)
    }

    /// Full slots, as far as we must know.
    #[inline(always)]
    fn filled(&mut self) -> u64 {
        if self.at == self.known {
            self.known = self.other.load(Ordering::Acquire);
        }
        self.known - self.at
    }

    #[inline(always)]
    fn slot(&self, i: u64) -> *mut T {
        self.slots.wrapping_add(((self.at + i) & (CAPACITY - 1)) as usize)
    }

    #[inline(always)]
    fn publish(&mut self, count: u64) {
        self.at += count;
        self.line.store(self.at, Ordering::Release);
    }
}

impl Push for Ring<'_, u64> {
    #[inline(always)]
    fn try_push(&mut self, word: u64) -> bool {
        if self.room() == 0 {
            return false;
        }
        // SAFETY: a slot of ours, since the consumer's position has passed what lay there.
        unsafe { self.slot(0).write(word) };
        self.publish(1);
        true
    }
}

impl Pop for Ring<'_, u64> {
    #[inline(always)]
    fn try_pop(&mut self) -> Option<u64> {
        if self.filled() == 0 {
            return None;
        }
        // SAFETY: a full slot, since the producer's position has passed it, and ours has not.
        let word = unsafe { self.slot(0).read() };
        self.publish(1);
        Some(word)
    }
}

impl PushRecords for Ring<'_, Record> {
    #[inline(always)]
    fn push(&mut self, mut records: &[Record]) -> Result<(), Failure> {
        while !records.is_empty() {
            let count = self.room().min(records.len() as u64);
            if count == 0 {
                Real::spin();
                continue;
            }
            let (now, later) = records.split_at(count as usize);
            for (i, record) in (0..).zip(now) {
                // SAFETY: as in `try_push`, for each of the free slots.
                unsafe { self.slot(i).write(*record) };
            }
            self.publish(count);
            records = later;
        }
        Ok(())
    }
}

impl PopRecords for Ring<'_, Record> {
    #[inline(always)]
    fn pop(&mut self, into: &mut [Record]) -> Result<usize, Failure> {
        loop {
            let count = self.filled().min(into.len() as u64);
            if count == 0 {
                Real::spin();
                continue;
            }
            for (i, record) in (0..count).zip(into.iter_mut()) {
                // SAFETY: as in `try_pop`, for each of the full slots.
                *record = unsafe { self.slot(i).read() };
            }
            self.publish(count);
            return Ok(count as usize);
        }
    }
}

impl<B: Bytes> Messages for Plain<B> {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        let to = self.message(self.end);
        assert!(message.len() <= LONGEST, "a message of {} bytes, of at most {LONGEST}", message.len());
        // SAFETY: our own room, long enough, which the other end does not read: see `message`.
        unsafe { to.copy_from_nonoverlapping(message.as_ptr(), message.len()) };
        self.raise();
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        self.await_flag();
        let from = self.message(1 - self.end);
        assert!(message.len() <= LONGEST, "a message of {} bytes, of at most {LONGEST}", message.len());
        // SAFETY: the other end's room, filled before it raised its flag, and left alone until we answer.
        unsafe { message.as_mut_ptr().copy_from_nonoverlapping(from, message.len()) };
        Ok(())
    }
}

impl<B: Bytes> Loans for Plain<B> {
    fn lend(&mut self, bytes: usize, write: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        assert!(bytes <= LONGEST, "a message of {bytes} bytes, of at most {LONGEST}");
        // SAFETY: our own room, long enough, initialised by zeros or by earlier messages; see `message` for the reader.
        write(unsafe { std::slice::from_raw_parts_mut(self.message(self.end), bytes) });
        self.raise();
        Ok(())
    }

    fn borrow(&mut self, bytes: usize, look: impl FnOnce(&[u8])) -> Result<(), Failure> {
        assert!(bytes <= LONGEST, "a message of {bytes} bytes, of at most {LONGEST}");
        self.await_flag();
        // SAFETY: as in `recv`.
        look(unsafe { std::slice::from_raw_parts(self.message(1 - self.end), bytes) });
        Ok(())
    }
}

/// A stream of messages in chunks, so that one end copies in while the other copies out.
struct Chunked<'a, B>(&'a mut Plain<B>);

impl<B: Bytes> Chunked<'_, B> {
    fn chunk(&self) -> *mut u8 {
        self.0.at(CHUNKS_AT + (self.0.chunks % DEEP as u64) as usize * CHUNK)
    }
}

impl<B: Bytes> Messages for Chunked<'_, B> {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        for part in message.chunks(CHUNK) {
            Plain::<B>::wait_for(self.0.line(CHUNKS + 1), (self.0.chunks + 1).saturating_sub(DEEP as u64));
            // SAFETY: a chunk's room, of which the other end has said that it has read what lay there.
            unsafe { self.chunk().copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            self.0.chunks += 1;
            self.0.line(CHUNKS).store(self.0.chunks, Ordering::Release);
        }
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8]) -> Result<(), Failure> {
        for part in message.chunks_mut(CHUNK) {
            Plain::<B>::wait_for(self.0.line(CHUNKS), self.0.chunks + 1);
            // SAFETY: the other end has filled it, and waits for our word before it does so again.
            unsafe { part.as_mut_ptr().copy_from_nonoverlapping(self.chunk(), part.len()) };
            self.0.chunks += 1;
            self.0.line(CHUNKS + 1).store(self.0.chunks, Ordering::Release);
        }
        Ok(())
    }
}

const _: () = assert!(SLOTS_AT >= (CHUNKS + 2) * LINE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::threads::two;

    #[test]
    fn every_order_adds_up_between_threads() {
        let [mut a, mut b] = Plain::pair();
        let mut sum = |bench: &str, bytes: usize, n: u64| {
            two(|| a.obey(bench, bytes, n), || b.obey(bench, bytes, n)).expect("it works").sum
        };
        for _ in 0..2 {
            assert_eq!(sum("pingpong", 0, 50), words::pingpong_sum(50));
            assert_eq!(sum("pingpong", 4096, 50), messages::pingpong_sum(4096, 50));
            assert_eq!(sum("spsc", 8, 3000), words::stream_sum(3000));
            assert_eq!(sum("msgrate", 64, 3000), records::sum(3000));
            assert_eq!(sum("msgrate_unbatched", 64, 3000), records::sum(3000));
            assert_eq!(sum("stream", LONGEST, 3), messages::stream_sum(LONGEST, 3));
            assert_eq!(sum("stream", 100, 50), messages::stream_sum(100, 50));
            assert_eq!(sum("loan", LONGEST, 3), messages::loan_sum(LONGEST, 3));
        }
    }

    #[test]
    fn it_does_not_know_every_order() {
        let [mut a, _b] = Plain::pair();
        assert!(a.obey("mpmc", 8, 3).is_err());
    }
}
