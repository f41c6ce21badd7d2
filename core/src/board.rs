//! The collectives' flag protocol: one line a rank and operation, one synchronisation an operation.
//!
//! Every rank owns two lines (by the parity of the operation), written by it alone:
//!
//! ```text
//!  0          8       16      24      32                              64
//! +----------+-------+-------+-------+-------------------------------+
//! | sequence | steps | what  | count |      payload (32 bytes)       |   line[n & 1] of operation n
//! +----------+-------+-------+-------+-------------------------------+
//! ```
//!
//! | step of operation n at rank r                      | how                                                         |
//! |----------------------------------------------------|-------------------------------------------------------------|
//! | catch up: every q has published n − 1              | as below; already known where n − 1 waited for everybody    |
//! | write `what`, `count`, `payload` of line[r][n & 1] | plain; the sequence there still says n − 2                  |
//! | publish                                            | steps.store(s), sequence.store(n, Release)                  |
//! | wait for the ranks that the operation needs        | sequence.load(Acquire) == n, then read the rest             |
//! | further steps (chunks of a long tensor)            | steps.store(s, Release); others wait for steps >= s         |
//!
//! **Reuse needs no second synchronisation.** r overwrites line[r][n & 1] (and every buffer that goes by parity) in
//! operation n + 2, after it has seen every q's n + 1. q published n + 1 after it had read all it needed of operation
//! n. So q's reads of n happen before q's Release of n + 1, which r's Acquire has seen. Hence a reader in operation n
//! finds n − 2 or n in the sequence, never n + 2. A rank that waits for nobody (the root of a short broadcast) catches
//! up before its next operation, so it runs ahead by one operation at most. Sequences are 64 bits wide and compared
//! for equality only.
//!
//! **A rank dies** before publishing n: its sequence stays n − 2 for good and its torn payload is never looked at.
//! After publishing: its contribution counts and stays. A survivor that saw the old sequence and then learnt of the
//! death loads the sequence once more: the death is later than every store of the dead, so that answer is final. "q
//! will never publish n" therefore is a fact that all survivors agree on, and no operation that waits for everybody can
//! complete anywhere once it is one: all survivors stop at the same n.
//!
//! **A rank that ends otherwise** (returns, panics, gives up) says so in its [`End`] word; the same second look
//! applies. A rank that gives up because of another names that other, so that the news travels along chains of waits.
//!
//! | rank dies                               | what is left                        | what survivors do                    |
//! |-----------------------------------------|-------------------------------------|--------------------------------------|
//! | before or in the middle of writing body | sequence n − 2                      | n fails for everyone                 |
//! | after publish, before ringing           | sequence n, sleepers not woken      | they find it at the end of a slice   |
//! | between two steps                       | sequence n, fewer steps than needed | n fails for whoever needs the rest   |
//! | after its last step                     | all that n needed                   | n completes, n + 1 fails             |
//! | after its End word, before ringing      | End word                            | found at the end of a slice          |
//!
//! # Safety
//! The bodies and call sites are plain memory guarded by the sequence of their line. Who may touch them when is the
//! reuse argument above; each access says which part of it holds there.

#![allow(unsafe_code)]

use core::fmt;

use crossbeam_utils::CachePadded;

use crate::barrier::Arrivals;
use crate::call::{CallSite, Fingerprint};
use crate::doorbell::Doorbell;
use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Real, Site};
use crate::sizes::{Area, INLINE, Sizes};

/// What a rank says about its call, and a short tensor's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Body {
    /// Kind, operation, dtype and root of the call, packed by [`crate::call`].
    pub what: u64,
    /// Elements of the one tensor, or a digest of the lengths of several.
    pub count: u64,
    /// A short tensor's bytes, or what the operation wants told at its start.
    pub payload: [u64; INLINE / 8],
}

/// One rank's part in one operation: a cache line, written by that rank only.
#[repr(C, align(64))]
pub struct Line<M: Mem> {
    sequence: M::U64,
    steps: M::U64,
    body: M::Cell<Body>,
}

/// What else others need of a rank: a line that is read at every operation and hardly ever written.
#[repr(C)]
pub struct Desk<M: Mem> {
    /// Where this rank sleeps.
    pub bell: Doorbell<M>,
    /// One more than the CPU that it ran on when it last waited long; 0 before.
    pub cpu: M::U32,
    end: M::U64,
}

/// All that a rank owns on the board. Zeroed memory is a fresh place whose last operation was 0: no sequence that
/// anybody waits for is 0 before the count has wrapped.
#[repr(C, align(128))]
pub struct Place<M: Mem> {
    lines: [Line<M>; 2],
    arrival: CachePadded<M::U64>,
    desk: CachePadded<Desk<M>>,
    sites: [M::Cell<CallSite>; 2],
}

/// Why a rank takes part no more. The word is written once, by the rank itself:
///
/// ```text
///  63            48              16           8        0
/// +----------------+--------------+-----------+--------+
/// |  n mod 65536   | blamed rank  |  reason   | state  |   state: 0 here, 1 left, 2 failed; n: its last operation
/// +----------------+--------------+-----------+--------+
/// ```
/// Ranks are never more than one operation apart, so 16 bits tell whether a rank failed in the operation that its
/// reader is in (then that operation is over for the reader too) or in the next one (then it is not).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It left between two operations.
    Left(Leaving),
    /// It gave up in the middle of one.
    Failed(Failing),
}

/// Why a rank left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// It dropped its handle, or its program came to an end.
    Dropped,
    /// It dropped its handle while unwinding from a panic.
    Panicked,
}

/// Why a rank gave up in an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failing {
    /// The caller's closure panicked.
    ClosurePanicked,
    /// Its deadline passed while it waited for this rank.
    TimedOut(u32),
    /// It learnt that this rank is dead.
    BecauseDead(u32),
    /// It learnt that this rank has left or failed.
    BecauseGone(u32),
}

impl End {
    /// The word for it, of a rank whose last operation is `n`.
    pub fn encode(self, n: u64) -> u64 {
        let (state, reason, blamed) = match self {
            End::Left(Leaving::Dropped) => (1, 0, 0),
            End::Left(Leaving::Panicked) => (1, 1, 0),
            End::Failed(Failing::ClosurePanicked) => (2, 0, 0),
            End::Failed(Failing::TimedOut(q)) => (2, 1, q),
            End::Failed(Failing::BecauseDead(q)) => (2, 2, q),
            End::Failed(Failing::BecauseGone(q)) => (2, 3, q),
        };
        state | reason << 8 | u64::from(blamed) << 16 | n << 48
    }

    /// Whether the word speaks of operation `n`.
    pub fn is_of(word: u64, n: u64) -> bool {
        word >> 48 == n & 0xFFFF
    }

    /// What a word says; whatever a bad peer may have written decodes to something harmless.
    pub fn decode(word: u64) -> Option<End> {
        let blamed = (word >> 16) as u32;
        match (word & 0xFF, word >> 8 & 0xFF) {
            (0, _) => None,
            (1, 1) => Some(End::Left(Leaving::Panicked)),
            (1, _) => Some(End::Left(Leaving::Dropped)),
            (_, 1) => Some(End::Failed(Failing::TimedOut(blamed))),
            (_, 2) => Some(End::Failed(Failing::BecauseDead(blamed))),
            (_, 3) => Some(End::Failed(Failing::BecauseGone(blamed))),
            _ => Some(End::Failed(Failing::ClosurePanicked)),
        }
    }
}

impl<M: Mem> fmt::Debug for Line<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body belongs to whoever the protocol says; only the words may be looked at any time.
        let words = (self.sequence.load(Ordering::Relaxed), self.steps.load(Ordering::Relaxed));
        f.debug_struct("Line").field("sequence", &words.0).field("steps", &words.1).finish_non_exhaustive()
    }
}

impl<M: Mem> fmt::Debug for Desk<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = End::decode(self.end.load(Ordering::Relaxed));
        f.debug_struct("Desk").field("end", &end).finish_non_exhaustive()
    }
}

impl<M: Mem> fmt::Debug for Place<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("lines", &self.lines).field("desk", &*self.desk).finish_non_exhaustive()
    }
}

impl<M: Mem> Line<M> {
    fn new(sequence: u64) -> Self {
        let body = Body { what: 0, count: 0, payload: [0; INLINE / 8] };
        Line { sequence: M::U64::new(sequence), steps: M::U64::new(0), body: M::Cell::new(body) }
    }
}

impl<M: Mem> Place<M> {
    /// A place where the last operation was `n` (0 in a new group; tests start near the wrap).
    pub fn new(n: u64) -> Self {
        let at = |parity: u64| if n & 1 == parity { n } else { n.wrapping_sub(1) };
        Place {
            lines: [Line::new(at(0)), Line::new(at(1))],
            arrival: CachePadded::new(M::U64::new(n)),
            desk: CachePadded::new(Desk {
                bell: Doorbell::new(n as u32),
                cpu: M::U32::new(0),
                end: M::U64::new(0),
            }),
            sites: [M::Cell::new(CallSite::EMPTY), M::Cell::new(CallSite::EMPTY)],
        }
    }

    /// Bell, CPU and end word.
    #[inline(always)]
    pub fn desk(&self) -> &Desk<M> {
        &self.desk
    }

    /// The barrier's word: its own rank's alone to write, so nobody outside of this crate gets it.
    #[inline(always)]
    pub(crate) fn arrival(&self) -> &M::U64 {
        &self.arrival
    }

    #[inline(always)]
    fn line(&self, n: u64) -> &Line<M> {
        &self.lines[if M::broken(Bug::BoardOneLine) { 0 } else { (n & 1) as usize }]
    }

    /// Publishes this rank's part in operation `n`.
    ///
    /// # Safety
    /// Called by the place's own rank, which has seen that every rank has published `n − 1`.
    #[inline]
    pub unsafe fn publish(&self, n: u64, steps: u64, body: &Body) {
        let line = self.line(n);
        // SAFETY: every reader of n − 2 has published n − 1 since, as the caller has seen; nobody else writes here.
        line.body.with_mut(|p| unsafe {
            // The payload first: it may still be on its way from the caller's tensor. The first store takes the line
            // away from those who poll it; were it one of the words that are long known, they would fetch the line back
            // before the sequence is in it, and it would have to travel twice.
            (&raw mut (*p).payload).write_volatile(body.payload);
            (&raw mut (*p).what).write_volatile(body.what);
            (&raw mut (*p).count).write_volatile(body.count);
        });
        line.steps.store(steps, Ordering::Relaxed); // published by the sequence
        // Pairs with the load in `published`: body, steps and the buffers filled before.
        line.sequence.store(n, M::at(Site::BoardPublish, Ordering::Release));
    }

    /// Whether this rank has published operation `n`.
    #[inline(always)]
    pub fn published(&self, n: u64) -> bool {
        self.line(n).sequence.load(M::at(Site::BoardLook, Ordering::Acquire)) == n
    }

    /// The payload of operation `n`, in place. Valid for reading once [`published`](Self::published) has said yes,
    /// until the reader publishes `n + 1`.
    #[inline(always)]
    pub fn payload(&self, n: u64) -> *const [u64; INLINE / 8] {
        // SAFETY: only an address inside the cell is formed.
        self.line(n).body.with(|p| unsafe { &raw const (*p).payload })
    }

    /// The fingerprint of operation `n`.
    ///
    /// # Safety
    /// [`published`](Self::published) has said yes, and the caller has not published `n + 1`.
    #[inline(always)]
    pub unsafe fn fingerprint(&self, n: u64) -> Fingerprint {
        // SAFETY: the body was complete before the sequence that the caller has seen, and stays until the caller
        // publishes n + 1.
        self.line(n).body.with(|p| unsafe { Fingerprint { what: (*p).what, count: (*p).count } })
    }

    /// Publishes a further step of operation `n`.
    ///
    /// # Safety
    /// Called by the place's own rank, which is in operation `n` and has done what `steps` stands for: the buffers are
    /// filled, or read.
    #[inline]
    pub unsafe fn step(&self, n: u64, steps: u64) {
        // Pairs with the load in `stepped`: the chunk written before.
        self.line(n).steps.store(steps, M::at(Site::BoardStep, Ordering::Release));
    }

    /// Whether this rank, which has published operation `n`, has come to `steps`.
    #[inline(always)]
    pub fn stepped(&self, n: u64, steps: u64) -> bool {
        self.line(n).steps.load(M::at(Site::BoardLookStep, Ordering::Acquire)) >= steps
    }

    /// Notes where the call of operation `n` stands. Before [`publish`](Self::publish), which publishes it too.
    ///
    /// # Safety
    /// As for `publish`.
    pub unsafe fn note_site(&self, n: u64, site: CallSite) {
        // SAFETY: guarded by the sequence like the body of the same parity.
        self.sites[(n & 1) as usize].with_mut(|p| unsafe { p.write(site) });
    }

    /// Where the call of operation `n` stands.
    ///
    /// # Safety
    /// As for [`fingerprint`](Self::fingerprint).
    pub unsafe fn site(&self, n: u64) -> CallSite {
        // SAFETY: published by the sequence that the caller has seen, and not written again until it publishes n + 1.
        self.sites[(n & 1) as usize].with(|p| unsafe { p.read() })
    }

    /// Says that this rank, whose last operation is `n`, takes part no more.
    ///
    /// # Safety
    /// Called by the place's own rank, which from now on publishes nothing and touches no buffer and no resident tensor
    /// of another: others may rely on that.
    pub unsafe fn end(&self, end: End, n: u64) {
        // Pairs with the load in `ended`: all steps that this rank has published before.
        self.desk.end.store(end.encode(n), M::at(Site::BoardEnd, Ordering::Release));
    }

    /// Whether and why this rank takes part no more.
    pub fn ended(&self) -> Option<End> {
        End::decode(self.end_word())
    }

    /// Whether this rank gave up in operation `n`.
    pub fn failed_in(&self, n: u64) -> bool {
        let word = self.end_word();
        matches!(End::decode(word), Some(End::Failed(_))) && End::is_of(word, n)
    }

    fn end_word(&self) -> u64 {
        self.desk.end.load(M::at(Site::BoardLookEnd, Ordering::Acquire))
    }
}

/// Whether a rank lives. What `Dying` and `Dead` say is final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Nobody has taken this seat yet.
    Absent,
    /// Alive, perhaps stopped.
    Alive,
    /// It will execute no further instruction of its program, but the kernel is not done with it.
    Dying,
    /// Gone.
    Dead,
}

/// Plain memory in the group's segment that is guarded by the board.
#[derive(Clone, Copy)]
pub struct Buffer<'a, M: Mem> {
    /// Its first byte; aligned to 64.
    pub start: *mut u8,
    /// Tells test families of accesses.
    pub guard: &'a M::Cell<()>,
}

impl<M: Mem> fmt::Debug for Buffer<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.start).finish()
    }
}

impl<M: Mem> Buffer<'_, M> {
    /// The first byte, for reading.
    #[inline(always)]
    pub fn read(&self) -> *const u8 {
        self.guard.with(|_| self.start)
    }
    /// The first byte, for writing.
    #[inline(always)]
    pub fn write(&self) -> *mut u8 {
        self.guard.with_mut(|_| self.start)
    }
}

/// A group's shared memory, lent to the protocol: places, buffers, resident tensors, and who lives.
///
/// # Safety
/// `place` lends the same place for the same rank to every member; `buffer` lends memory of at least the bytes that
/// `sizes` promises, not otherwise used, the same for every member; `resident` only hands out pointers to mapped
/// memory of at least `bytes` bytes that is set aside for the resident tensors of `rank`, so what it hands out for two
/// ranks never overlaps; `life` says `Dying` or `Dead` only of ranks that will never again execute an instruction of
/// their program.
pub unsafe trait Region<M: Mem> {
    /// The board place of `rank`.
    fn place(&self, rank: usize) -> &Place<M>;
    /// A buffer of `rank`.
    fn buffer(&self, rank: usize, area: Area) -> Buffer<'_, M>;
    /// How large the buffers are.
    fn sizes(&self) -> &Sizes;
    /// Whether `rank` lives.
    fn life(&self, rank: usize) -> Life;
    /// The token under which every member finds these bytes, if they lie in a resident tensor of this region's rank.
    fn token(&self, start: *const u8, bytes: usize) -> Option<u64>;
    /// Where the bytes of a token of `rank` (any number, if a peer is bad) are mapped here.
    fn resident(&self, rank: usize, token: u64, bytes: usize) -> Option<*mut u8>;
    /// A call has failed that had lent these bytes to the other ranks, one of which may write to them even now. The
    /// region sees to it that they are not used as a tensor any more.
    fn poison(&self, start: usize, bytes: usize);
}

/// A region's places, as the barrier sees them.
pub(crate) struct Words<'a, R>(pub(crate) &'a R);

impl<M: Mem, R: Region<M>> Arrivals<M> for Words<'_, R> {
    #[inline(always)]
    fn arrival(&self, rank: usize) -> &M::U64 {
        self.0.place(rank).arrival()
    }
}

static_assertions::const_assert_eq!(size_of::<Line<Real>>(), 64);
static_assertions::const_assert_eq!(core::mem::offset_of!(Line<Real>, body), 16);
static_assertions::const_assert_eq!(size_of::<Place<Real>>(), 640);
static_assertions::const_assert_eq!(core::mem::offset_of!(Place<Real>, desk), 256);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_survives_its_word() {
        use {Failing::*, Leaving::*};
        let ends = [
            End::Left(Dropped),
            End::Left(Panicked),
            End::Failed(ClosurePanicked),
            End::Failed(TimedOut(7)),
            End::Failed(BecauseDead(u32::MAX)),
            End::Failed(BecauseGone(0)),
        ];
        for end in ends {
            for n in [0, 1, 0xFFFF, u64::MAX] {
                let word = end.encode(n);
                assert_eq!(End::decode(word), Some(end));
                assert!(End::is_of(word, n) && !End::is_of(word, n ^ 1));
            }
        }
        assert_eq!(End::decode(0), None);
        for word in [u64::MAX, 3, 0xFF02, 1 << 63 | 1] {
            assert!(End::decode(word).is_some(), "a bad word {word:#x} still ends the rank");
        }
    }
}
