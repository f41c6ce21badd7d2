//! The two bells of a bounded queue: those who wait for a message sleep at one, those who wait for room at the other.
//!
//! ```text
//!    0  not empty   128 B   a doorbell: rung by whoever makes a message, or the end, visible
//!  128  not full    128 B   a doorbell: rung by whoever makes room, or the end, visible
//! ```
//! Whoever changes the queue rings *after* the change, whoever sleeps looks between announcing and sleeping; that no
//! wake is lost is argued by the doorbell. What has to be argued here is which change can end whose wait:
//!
//! | change of the queue                          | who may have waited for it                         | rings               |
//! |----------------------------------------------|----------------------------------------------------|---------------------|
//! | a push publishes: Full                       | a reader that found Free, or Writing (Busy)        | not empty           |
//! | a pop gives back: Free of the next lap       | a sender that found Full, or Reading (Busy)        | not full            |
//! | the same, in a queue that was closed         | also a reader: it can't seal a place that is still being read (Busy), and "drained" is what it waits for | both |
//! | a frame of a closed channel is given back, where it could have come back | also a reader: "drained" waits for it | both |
//! | close                                        | readers: there may be nothing left; senders: never any room | both       |
//! | a seal                                       | nobody: whoever looks after the close seals by himself | nothing         |
//! | a death is found, a place buried, a seat taken over | everybody: the dead may have owed a ring    | both, unasked       |
//!
//! **The third row.** A reader that is told Busy by the seal has seen the close; it announces, fences, and is still
//! told so. The one that gives the place back stores Free, fences, and then looks whether the queue was closed. If
//! its fence comes first, the reader's second look finds Free. If the reader's does, the flag that the reader had
//! seen before its fence is seen behind the other one, which rings.
//!
//! | who dies                                    | what is left                       | who repairs it                               |
//! |---------------------------------------------|------------------------------------|----------------------------------------------|
//! | after the change, before the ring           | the change, and sleepers           | sleepers, after a slice; who finds the death |
//! | in the middle of the change                 | a name in a slot (see `mpmc`)      | sleepers ask before each slice, and bury it  |
//! | between the rings of the two bells          | one kind of sleepers               | as the first                                 |
//! | a sleeper                                   | an announcement                    | the next ring: a system call too many, once  |

use core::fmt;

use crossbeam_utils::CachePadded;

use crate::doorbell::Doorbell;
use crate::mem::{Bug, Mem, Real};

/// Two bells, each on a line of its own. Zeroed memory is two at which nobody sleeps.
#[repr(C)]
pub struct Bells<M: Mem> {
    not_empty: CachePadded<Doorbell<M>>,
    not_full: CachePadded<Doorbell<M>>,
}

impl<M: Mem> fmt::Debug for Bells<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (empty, full) = (&*self.not_empty, &*self.not_full);
        f.debug_struct("Bells").field("not_empty", empty).field("not_full", full).finish()
    }
}

impl<M: Mem> Default for Bells<M> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<M: Mem> Bells<M> {
    /// Bells at which nobody sleeps. `epoch` is where they begin to count (tests start them near their wrap).
    pub fn new(epoch: u32) -> Self {
        let bell = || CachePadded::new(Doorbell::new(epoch));
        Bells { not_empty: bell(), not_full: bell() }
    }

    /// Where those sleep who wait for a message, or for the end.
    pub fn not_empty(&self) -> &Doorbell<M> {
        &self.not_empty
    }

    /// Where those sleep who wait for room, or for the end.
    pub fn not_full(&self) -> &Doorbell<M> {
        &self.not_full
    }

    /// Messages were published.
    #[inline(always)]
    pub fn pushed(&self) {
        self.not_empty.ring();
    }

    /// Messages were taken, and their places given back. `closed` looks whether the queue was closed.
    #[inline(always)]
    pub fn popped(&self, closed: impl FnOnce() -> bool) {
        Doorbell::<M>::fence();
        self.not_full.ring_fenced();
        if !M::broken(Bug::BellsForgetTheSeal) && closed() {
            self.not_empty.ring_fenced();
        }
    }

    /// The queue was closed, or somebody has left: whoever waits looks again.
    pub fn closed(&self) {
        Doorbell::<M>::fence();
        if !M::broken(Bug::BellsCloseForReaders) {
            self.not_full.ring_fenced();
        }
        if !M::broken(Bug::BellsCloseForSenders) {
            self.not_empty.ring_fenced();
        }
    }

    /// Somebody has died, who may have owed a ring, or has left.
    #[cold]
    pub fn recovered(&self) {
        self.not_empty.ring_anyway();
        self.not_full.ring_anyway();
    }
}

static_assertions::const_assert_eq!(size_of::<Bells<Real>>(), 256);
