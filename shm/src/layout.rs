//! The layout of every segment: a header page, the seats, the body, and a sparse reserve.
//!
//! ```text
//!  0        8     12    16            24     28      32       40        48       56       60       4096
//!  +--------+-----+-----+-------------+------+-------+--------+---------+--------+--------+---...--+
//!  | magic  | ver | kind| fingerprint | seats| 0     | prefix | length  | nonce  | retired| 0      |
//!  +--------+-----+-----+-------------+------+-------+--------+---------+--------+--------+---...--+
//!  4096: seat table, one line of 64 bytes a seat
//!  +-------+-----+------------+---------------+-------+--------+-----------+---+----------------+---+
//!  | epoch | pid | start time | PID namespace | never | buried | recovered | 0 | time namespace | 0 |
//!  +-------+-----+------------+---------------+-------+--------+-----------+---+----------------+---+
//!  0       4     8            16              24      28       32          36  40               48
//!  body (whole pages, backed and mapped)     up to `prefix`
//!  reserve (sparse, backed on demand)        up to `length`
//! ```
//! `magic` is written last, with Release: whoever reads it with Acquire finds the rest complete. Lengths are read once,
//! checked against what this program computes itself, and never read again.

use sapwood_core::mem::{Mem, Real};
use sapwood_core::owner::Owner;

type U32 = <Real as Mem>::U32;
type U64 = <Real as Mem>::U64;

/// "sapwood\0", little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"sapwood\0");
/// Raised with every change of this layout or of what lies in a body.
pub(crate) const VERSION: u32 = 3;
pub(crate) const PAGE: u64 = 4096;
/// Seats that a segment can have. Whoever finds a file looks at all the seats that it claims, a system call each.
pub(crate) const MOST_SEATS: usize = 1 << 12;

/// Locks on bytes far behind any file's end, so that they never meet data. 2^28 bytes a seat from here on, one for each
/// epoch: whoever still has the byte of a dead holder (a child that it has left behind) is in nobody's way.
const SEAT_LOCKS: i64 = 1 << 60;
/// Held while the segment is built.
pub(crate) const BUILD_LOCK: i64 = 1 << 61;
/// Held while the segment's name is taken away.
pub(crate) const NAME_LOCK: i64 = (1 << 61) + 1;

/// The byte that the holder of a seat under an epoch has locked. There are fewer than 2^32 seats, so it lies below
/// [`BUILD_LOCK`].
pub(crate) fn seat_lock(seat: usize, epoch: u32) -> i64 {
    SEAT_LOCKS + ((seat as i64) << 28 | i64::from(epoch % (1 << 28)))
}

/// Seats whose holders can own words of objects: an owner is a seat and an epoch in 20 bits, and 0 is nobody.
pub(crate) const OWNERS: usize = Owner::SEATS as usize;
/// The bits of an epoch that an owner's name holds.
pub(crate) const OWNER_EPOCH: u32 = 1023;

#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: U64,
    pub(crate) version: U32,
    pub(crate) kind: U32,
    pub(crate) fingerprint: U64,
    pub(crate) seats: U32,
    pub(crate) zero: U32,
    pub(crate) prefix: U64,
    pub(crate) length: U64,
    pub(crate) nonce: U64,
    pub(crate) retired: U32,
}

#[repr(C, align(64))]
pub(crate) struct SeatLine {
    /// How often the seat was taken: the name of its holder, together with the seat's number. Written last.
    pub(crate) epoch: U32,
    /// The holder's process number in its own PID namespace; 0 while the rest is written.
    pub(crate) pid: U32,
    /// When it started, in clock ticks since boot as its time namespace has it.
    pub(crate) start: U64,
    /// The inode of its PID namespace.
    pub(crate) namespace: U64,
    /// 1 if whoever was to sit here ended before it did: written by the process that had started it.
    pub(crate) never: U32,
    /// An epoch whose holder is dead: written by whoever has proved it, so that others need no system call. It may be
    /// behind, which only means that somebody proves it again.
    pub(crate) buried: U32,
    /// Up to which epoch everything that the holders left in the segment's objects has been recovered.
    pub(crate) recovered: U32,
    /// The inode of its time namespace.
    pub(crate) time: U64,
}

/// What a segment holds.
pub(crate) mod kind {
    pub(crate) const GROUP: u32 = 1;
    pub(crate) const SPSC: u32 = 2;
    pub(crate) const MPMC: u32 = 3;
    pub(crate) const LATEST: u32 = 4;
    pub(crate) const STREAM: u32 = 5;
    pub(crate) const LINK: u32 = 6;
    pub(crate) const FRAMES: u32 = 7;
    pub(crate) const JOBS: u32 = 8;
    pub(crate) const CHANNEL: u32 = 9;
    pub(crate) const FRAME_CHANNEL: u32 = 10;
    pub(crate) const QUEUE: u32 = 11;
    pub(crate) const MUTEX: u32 = 12;
    pub(crate) const BARRIER: u32 = 13;
    pub(crate) const MAP: u32 = 14;
    pub(crate) const FROZEN: u32 = 15;
    pub(crate) const BUFS: u32 = 16;
}

/// A kind in a sentence.
pub(crate) fn kind_name(of: u32) -> String {
    match of {
        kind::GROUP => "a group of ranks".to_owned(),
        kind::SPSC => "a ring of one producer and one consumer".to_owned(),
        kind::MPMC => "a ring of many producers and many consumers".to_owned(),
        kind::LATEST => "a newest value".to_owned(),
        kind::STREAM => "a stream of bytes".to_owned(),
        kind::LINK => "a link".to_owned(),
        kind::FRAMES => "frames".to_owned(),
        kind::JOBS => "a table of jobs".to_owned(),
        kind::CHANNEL => "a channel".to_owned(),
        kind::FRAME_CHANNEL => "a channel of frames".to_owned(),
        kind::QUEUE => "a workqueue".to_owned(),
        kind::MUTEX => "a mutex".to_owned(),
        kind::BARRIER => "a barrier".to_owned(),
        kind::MAP => "a map".to_owned(),
        kind::FROZEN => "a frozen value".to_owned(),
        kind::BUFS => "buffers".to_owned(),
        other => format!("something of kind {other}"),
    }
}

/// What a segment is made for. All who attach must ask for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// What it holds.
    pub kind: u32,
    /// How that is laid out.
    pub fingerprint: u64,
    /// Participants.
    pub seats: usize,
    /// Bytes after the seats that are backed with memory at once.
    pub body: u64,
    /// Bytes after those that can be backed later.
    pub reserve: u64,
}

impl Spec {
    /// Whether a file can be that long; the sums below are right only then.
    pub(crate) fn fits(&self) -> bool {
        let whole = |bytes: u64| bytes.checked_next_multiple_of(PAGE);
        let table = (self.seats as u64).checked_mul(size_of::<SeatLine>() as u64).and_then(whole);
        let sum = [table, whole(self.body), whole(self.reserve)];
        let length = sum.into_iter().try_fold(PAGE, |length, bytes| length.checked_add(bytes?));
        length.is_some_and(|length| length <= i64::MAX.cast_unsigned())
    }

    /// Bytes before the body.
    pub(crate) fn front(&self) -> u64 {
        PAGE + (self.seats as u64 * size_of::<SeatLine>() as u64).next_multiple_of(PAGE)
    }

    /// Bytes that are backed at once.
    pub(crate) fn prefix(&self) -> u64 {
        self.front() + self.body.next_multiple_of(PAGE)
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.prefix() + self.reserve.next_multiple_of(PAGE)
    }
}

static_assertions::const_assert_eq!(size_of::<SeatLine>(), 64);
static_assertions::const_assert_eq!(std::mem::offset_of!(SeatLine, never), 24);
static_assertions::const_assert_eq!(std::mem::offset_of!(SeatLine, recovered), 32);
static_assertions::const_assert_eq!(std::mem::offset_of!(SeatLine, time), 40);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, fingerprint), 16);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, prefix), 32);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, retired), 56);
static_assertions::const_assert!(size_of::<Header>() as u64 <= PAGE);
