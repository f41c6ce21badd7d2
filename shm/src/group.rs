//! A group's segment: the board and buffers of its ranks, and an arena for resident tensors.
//!
//! # Safety
//! Lends the segment's bytes to the board. They are mapped as long as the group lives, and the layout keeps inside
//! them. Makes the member of a rank: the seat is the proof that there is one only.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::board::{Buffer, Life, Place, Region};
use sapwood_core::mem::{Mem, RaceCell, Real};
use sapwood_core::member::{Member, Patience};
use sapwood_core::sizes::{Area, Sizes};

use crate::arena::{Arena, Blocks};
use crate::error::Error;
use crate::hall::{Hall, spec};
use crate::limits::{CPU_WORDS, allowed_cpus};
use crate::rank::Rendezvous;
use crate::seat::Seat;
use crate::segment::Segment;

type Guard = <Real as Mem>::Cell<()>;

/// One rank's handle of a group: its seat, and the memory that all ranks share.
#[derive(Debug)]
pub struct Group {
    hall: Arc<Hall>,
    seat: Seat,
    arena: Blocks,
}

impl Group {
    /// Takes the place of `rank` in the group of `ranks` ranks at the rendezvous; builds the segment if nobody has.
    ///
    /// # Errors
    /// A rank that is taken, a segment of another layout (other number of ranks, other build), too little memory, and
    /// whatever the system refuses.
    pub fn enter(
        rendezvous: Rendezvous,
        rank: usize,
        ranks: usize,
        deadline: Duration,
    ) -> Result<Group, Error> {
        let (layout, spec) = spec(ranks);
        let (segment, seat) = match rendezvous {
            Rendezvous::Inherited(fd) => {
                let segment = Segment::build_or_attach(fd, &spec, deadline)?;
                let seat = segment.take_seat(rank)?;
                (segment, seat)
            }
            Rendezvous::Name(name) => Segment::enter_named(&name, &spec, rank, deadline)?,
        };
        let hall = Arc::new(Hall::new(segment, layout, rank, ranks));
        hall.note_cpus(allowed_cpus());
        Ok(Group { arena: Blocks::new(hall.clone()), hall, seat })
    }

    /// Takes the group's name away, if it has one: once all ranks have joined nobody needs it, and a group without a
    /// name leaves nothing behind, however its ranks end.
    pub fn forget_name(&self) -> Result<(), Error> {
        self.hall.segment().unlink()
    }

    /// CPUs that at least one rank may run on. Right once all have joined.
    pub fn cpus(&self) -> usize {
        let word = |i: usize| {
            (0..self.hall.ranks()).fold(0, |all, r| all | self.hall.cpus(r, i)).count_ones() as usize
        };
        (0..CPU_WORDS).map(word).sum()
    }

    /// Process number of each rank, as it sees itself; 0 for a rank that has not come.
    pub fn pids(&self) -> Vec<u32> {
        (0..self.hall.ranks()).map(|r| self.hall.segment().seat_pid(r)).collect()
    }

    /// Whether this handle is used by the process that took the seat, and not by a forked child of it.
    pub fn is_mine(&self) -> bool {
        self.seat.is_mine()
    }

    /// The rank's side of the collectives: it takes part from now on.
    pub fn member(self, patience: Patience) -> Member<Real, Group> {
        let (rank, ranks) = (self.hall.rank(), self.hall.ranks());
        // SAFETY: the rank is that of a seat that this group has taken, so it is below `ranks`. Nobody else has, or
        // gets, this seat of a group, and a group makes one member, which it becomes. Places start zeroed: at
        // operation 0, and only members change them.
        unsafe { Member::new(self, rank, ranks, 0, patience) }
    }

    /// Resident tensors.
    pub fn arena_mut(&mut self) -> Arena<'_> {
        Arena(&mut self.arena)
    }

    /// Resident tensors of a member's group.
    pub fn arena_of(member: &mut Member<Real, Group>) -> Arena<'_> {
        // SAFETY: only the arena is reached, which stays this group's: an `Arena` gives no reference to it away.
        unsafe { member.region_mut() }.arena_mut()
    }
}

// SAFETY: places and buffers are the same bytes of the segment for every rank, apart by the layout, inside the body
// (`spec` sizes it by the same layout); the arena answers only for a rank's own part of mapped blocks, which are apart
// (see `Blocks::map`); liveness is proof (see `liveness`).
unsafe impl Region<Real> for Group {
    #[inline(always)]
    fn place(&self, rank: usize) -> &Place<Real> {
        debug_assert!(rank < self.hall.ranks());
        // SAFETY: ranks are below `ranks` wherever the board names one (it iterates 0..size, or checked a root). A
        // place is atomic words and cells; zeroed memory is a fresh one.
        unsafe { &*self.hall.segment().body_ptr().add(self.hall.layout().place(rank)).cast::<Place<Real>>() }
    }

    #[inline(always)]
    fn buffer(&self, rank: usize, area: Area) -> Buffer<'_, Real> {
        debug_assert!(rank < self.hall.ranks());
        // SAFETY: the layout lies inside the body.
        let start = unsafe { self.hall.segment().body_ptr().add(self.hall.layout().area(rank, area)) };
        // The guard of the shipping family has no bytes and does nothing.
        static GUARD: std::sync::LazyLock<Guard> = std::sync::LazyLock::new(|| Guard::new(()));
        Buffer { start, guard: &GUARD }
    }

    #[inline(always)]
    fn sizes(&self) -> &Sizes {
        self.hall.layout().sizes()
    }

    fn life(&self, rank: usize) -> Life {
        self.hall.segment().life(rank)
    }

    fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        self.arena.token(start, bytes)
    }

    fn resident(&self, rank: usize, token: u64, bytes: usize) -> Option<*mut u8> {
        self.arena.resident(rank, token, bytes)
    }

    fn poison(&self, start: usize, bytes: usize) {
        self.arena.poison(start, bytes);
    }
}
