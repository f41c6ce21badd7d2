//! A barrier with one verdict a generation: all pass it, or it is broken for all.
//!
//! # Arrivals and a verdict
//!
//! Arrivals are the single-writer words of [`crate::barrier`]: nothing is counted, so nothing can be left half counted.
//! Beside them is one word, the *verdict*, which says how far all have come:
//!
//! ```text
//!  63                       32 31       18 17      2 1   0
//! +---------------------------+-----------+---------+-----+
//! |        generation         |     0     |  seat   | why |    why: 0 passed, 1 died, 2 left, 3 missing in time
//! +---------------------------+-----------+---------+-----+
//! ```
//!
//! | from          | to                  | who                                                  | how | ordering |
//! |---------------|---------------------|------------------------------------------------------|-----|----------|
//! | passed(g − 1) | passed(g)           | whoever sees all arrivals at g: it is the *leader*   | CAS | Release  |
//! | passed(g − 1) | broken(g, s, why)   | whoever waits at g, and knows why s never comes, or does not want to wait for it any longer | CAS | Release |
//!
//! There is no other transition: a broken barrier stays broken. Zeroed memory is passed(0). A generation is a count of
//! 64 bits in each participant, of which the verdict has the low 32; nobody is ever more than one from it.
//!
//! So what becomes of g is decided once: nobody passes what another one reports as broken, and whoever fails is told
//! the same seat and the same reason. Who waits at g and finds broken(g + 1) has passed g: somebody passed it before
//! arriving there.
//!
//! **Who looks.** Every waiter looks at the verdict, and at the first arrival that it has not seen yet; whoever sees
//! the last one decides. So the last to arrive needs nobody, and if it dies between its arrival and the verdict, any
//! other decides. Two that arrive last at the same time may each miss the other's arrival at first; both then announce
//! a sleep, which fences, and look once more: one of the two fences is first, and the other one's look finds both.
//!
//! **A death** is later than every store of the dead, and a leave is written behind the arrival: so after the news one
//! more look at the arrival is final ([`break_off`](Muster::break_off) makes it).
//!
//! # Orderings
//!
//! - BarrierArrive (Release) with BarrierLook (Acquire), then MusterDecide (Release) with MusterLook (Acquire):
//!   whatever was written before any arrival is visible behind the barrier.
//! - MusterLeave (Release) with MusterLookLeft (Acquire): the second look at the arrival of one that has left is final.
//!
//! # What a death leaves
//!
//! | who dies                        | what is left                  | what the others do                                      |
//! |---------------------------------|-------------------------------|---------------------------------------------------------|
//! | before it arrives at g          | its arrival at g − 1          | they wait; one proves the death: broken(g, it, died)    |
//! | after it has arrived, whoever it is | its arrival at g          | the rest arrive and pass; g + 1 breaks                  |
//! | the last, before the verdict    | all arrivals at g             | whoever looks next decides: passed, another is leader   |
//! | the leader, before it rings     | passed(g) beside sleepers     | their slice of sleep ends (50 ms); its leadership is lost |
//! | who breaks it, before it rings  | broken(g) beside sleepers     | the same                                                |
//! | while leaving                   | its arrival, perhaps *left*   | left or died, one of the two                            |

use core::cell::Cell;
use core::fmt;

use crate::barrier::{Arrivals, Barrier};
use crate::doorbell::Doorbell;
use crate::mem::{Atom, Bug, Mem, Ordering, Site};

/// Why a barrier is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The participant in the seat died before it had arrived.
    Died,
    /// It left before it had arrived.
    Left,
    /// It had not arrived when the time of one that waited was up.
    Missing,
}

/// How a generation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Not all have arrived.
    Open,
    /// All have arrived.
    Passed {
        /// Whether it was this participant who said so.
        leader: bool,
    },
    /// They never will.
    Broken {
        /// Whose seat it is due to. Of whatever a broken word names: a seat that there may not be.
        seat: u32,
        /// Why.
        why: Why,
    },
}

/// Lends the words of a barrier. Its arrivals are those of seats 0 to [`seats`](Region::seats).
pub trait Region<M: Mem>: Arrivals<M> {
    /// How many take part.
    fn seats(&self) -> usize;
    /// The verdict.
    fn verdict(&self) -> &M::U64;
    /// Whether the participant in a seat has left.
    fn left(&self, seat: usize) -> &M::U32;
    /// Where those sleep that wait.
    fn bell(&self) -> &Doorbell<M>;
}

/// The verdict's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Verdict(u64);

impl Verdict {
    fn passed(generation: u64) -> Verdict {
        Verdict(generation << 32)
    }

    fn broken(generation: u64, seat: usize, why: Why) -> Verdict {
        let why = match why {
            Why::Died => 1,
            Why::Left => 2,
            Why::Missing => 3,
        };
        Verdict(generation << 32 | (seat as u64 & 0xffff) << 2 | why)
    }

    fn why(self) -> Option<Why> {
        [None, Some(Why::Died), Some(Why::Left), Some(Why::Missing)][(self.0 & 3) as usize]
    }

    /// What it says of `generation`.
    fn of<M: Mem>(self, generation: u64) -> Standing {
        let ahead = ((self.0 >> 32) as u32).wrapping_sub(generation as u32).cast_signed();
        match self.why() {
            Some(why) if ahead <= 0 || M::broken(Bug::MusterNextIsOurs) => {
                Standing::Broken { seat: (self.0 >> 2 & 0xffff) as u32, why }
            }
            None if ahead < 0 => Standing::Open,
            _ => Standing::Passed { leader: false },
        }
    }
}

/// One participant.
pub struct Muster<M: Mem, R: Region<M>> {
    region: R,
    barrier: Barrier<M>,
    me: usize,
    generation: u64,
    /// All seats before this one have arrived.
    seen: Cell<usize>,
}

impl<M: Mem, R: Region<M>> fmt::Debug for Muster<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Muster")
            .field("me", &self.me)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl<M: Mem, R: Region<M>> Muster<M, R> {
    /// The participant in seat `me`, which nobody has sat in before. All words stand at `generation` (0 in fresh
    /// memory; tests start near the wraps).
    ///
    /// # Panics
    /// If there is no such seat.
    pub fn attach(region: R, me: usize, generation: u64) -> Self {
        assert!(me < region.seats(), "seat {me} of {}", region.seats());
        Muster { region, barrier: Barrier::new(generation), me, generation, seen: Cell::new(0) }
    }

    /// The words.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Where it sits.
    pub fn me(&self) -> usize {
        self.me
    }

    /// At which generation it has arrived last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How the next generation stands, before an arrival there: open or broken.
    pub fn coming(&self) -> Standing {
        self.verdict().of::<M>(self.generation.wrapping_add(1))
    }

    /// Arrives at the next generation. Everything written before is visible to whoever passes it.
    #[inline]
    pub fn arrive(&mut self) {
        self.barrier.arrive(&self.region, self.me);
        self.generation = self.generation.wrapping_add(1);
        self.seen.set(0);
    }

    /// How the generation of the last arrival stands; says that it is passed if nobody has said so yet.
    pub fn poll(&self) -> Standing {
        let found = self.verdict();
        let standing = found.of::<M>(self.generation);
        if standing != Standing::Open {
            return standing;
        }
        let seats = self.region.seats() - usize::from(M::broken(Bug::MusterEarly));
        let first = (self.seen.get()..seats).find(|seat| !self.has_arrived(*seat));
        self.seen.set(first.unwrap_or(seats));
        match first {
            Some(_) => Standing::Open,
            None => {
                let passed = Verdict::passed(self.generation);
                self.decide(found, passed, Standing::Passed { leader: true })
            }
        }
    }

    /// Who has not arrived.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.region.seats()).filter(|seat| !self.has_arrived(*seat))
    }

    /// Whether the participant in a seat has left: if it has not arrived, it never will.
    pub fn has_left(&self, seat: usize) -> bool {
        // Pairs with the store in `leave`.
        self.region.left(seat).load(M::at(Site::MusterLookLeft, Ordering::Acquire)) != 0
    }

    /// Nobody passes this generation because of the participant in `seat`, of whose death or leave the caller knows, or
    /// which it does not want to wait for: unless that one has arrived, or somebody was faster.
    #[cold]
    pub fn break_off(&self, seat: usize, why: Why) -> Standing {
        if self.has_arrived(seat) && !M::broken(Bug::MusterNoSecondLook) {
            return self.poll();
        }
        let found = self.verdict();
        match found.of::<M>(self.generation) {
            Standing::Open => {
                let broken = Standing::Broken { seat: seat as u32 & 0xffff, why };
                self.decide(found, Verdict::broken(self.generation, seat, why), broken)
            }
            other => other,
        }
    }

    /// This participant takes part no more: the next generation breaks.
    pub fn leave(&self) {
        // Pairs with the load in `has_left`: the arrival that is seen behind this is the last one.
        self.region.left(self.me).store(1, M::at(Site::MusterLeave, Ordering::Release));
        self.region.bell().ring();
    }

    fn has_arrived(&self, seat: usize) -> bool {
        Barrier::reached(&self.region, seat, self.generation)
    }

    fn verdict(&self) -> Verdict {
        // Pairs with `decide`.
        Verdict(self.region.verdict().load(M::at(Site::MusterLook, Ordering::Acquire)))
    }

    fn decide(&self, found: Verdict, new: Verdict, standing: Standing) -> Standing {
        if M::broken(Bug::MusterRingFirst) {
            self.region.bell().ring();
        }
        if new.why().is_some() && M::broken(Bug::MusterBreakByStore) {
            self.region.verdict().store(new.0, Ordering::Release);
            return standing;
        }
        // Pairs with the load in `verdict`.
        let order = M::at(Site::MusterDecide, Ordering::Release);
        if self.region.verdict().cas(found.0, new.0, order).is_err() {
            return self.verdict().of::<M>(self.generation);
        }
        if !M::broken(Bug::MusterRingFirst) {
            self.region.bell().ring();
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::Real;

    #[test]
    fn a_verdict_speaks_of_its_generation_and_those_before() {
        for g in [5, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let next = g.wrapping_add(1);
            let passed = Standing::Passed { leader: false };
            assert_eq!(Verdict::passed(g).of::<Real>(g), passed);
            assert_eq!(Verdict::passed(g).of::<Real>(next), Standing::Open);
            let broken = Verdict::broken(next, 1021, Why::Left);
            assert_eq!(broken.of::<Real>(g), passed);
            for later in [next, next.wrapping_add(1)] {
                assert_eq!(broken.of::<Real>(later), Standing::Broken { seat: 1021, why: Why::Left });
            }
        }
        assert_eq!(Verdict(0), Verdict::passed(0));
    }
}
