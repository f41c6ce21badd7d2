//! A group's segment: the board and buffers of its ranks, and an arena for resident tensors.
//!
//! ```text
//!  segment body
//!  +--------------------------------+-----------+-----------+-----+==================================+
//!  | places, slots, windows, blocks | card and  | card and  | ... | arena: sparse, backed block by   |
//!  | (sapwood_core::sizes::Layout)  | holdings  | holdings  |     | block as tensors are allocated   |
//!  +--------------------------------+-----------+-----------+-----+==================================+
//!                                     of rank 0   of rank 1
//!  card:     16 x u64, the CPUs that the rank may run on; written before it joins
//!  holdings: u32 a block of the arena, 1 while the rank holds the block; written by the rank alone
//! ```
//! Every word has one writer, so a rank that dies leaves no count wrong: at worst a block stays held until the group's
//! memory goes.
//!
//! # Safety
//! Lends the segment's bytes to the board. They are mapped as long as the group lives, and the layout keeps inside
//! them.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::board::{Area, Buffer, Life, Place, Region};
use sapwood_core::mem::{Atom, Mem, Ordering, RaceCell, Real};
use sapwood_core::sizes::{Layout, Sizes};

use crate::arena::{Arena, BLOCKS};
use crate::error::Error;
use crate::limits::{CPU_WORDS, allowed_cpus};
use crate::rank::Rendezvous;
use crate::seat::Seat;
use crate::segment::{Segment, Spec};

/// Segments of this kind hold a group.
const KIND: u32 = 1;
/// Bytes of the sparse arena: address space of the file, not memory.
const ARENA: u64 = 1 << 40;

type U32 = <Real as Mem>::U32;
type U64 = <Real as Mem>::U64;
type Guard = <Real as Mem>::Cell<()>;

/// What a rank tells of itself, beside the board.
#[repr(C, align(128))]
struct Card {
    cpus: [U64; CPU_WORDS],
    holdings: [U32; BLOCKS],
}

/// The mapped segment of a group, shared by the group and the tensors that it has handed out.
#[derive(Debug)]
pub(crate) struct Hall {
    segment: Segment,
    layout: Layout,
    rank: usize,
    ranks: usize,
}

impl Hall {
    fn card(&self, rank: usize) -> &Card {
        assert!(rank < self.ranks);
        let at = self.layout.len + rank * size_of::<Card>();
        // SAFETY: the body has room for `ranks` cards behind the layout (see `spec`), on a multiple of 4096 plus
        // multiples of 128; a card is made of atomic words only, for which zeroed memory is valid.
        unsafe { &*self.segment.body_ptr().add(at).cast::<Card>() }
    }

    /// Notes whether this rank holds block `block`.
    pub(crate) fn hold(&self, block: usize, held: bool) {
        // Pairs with the load in `held`: a holder's last accesses come before its release is seen.
        self.card(self.rank).holdings[block].store(u32::from(held), Ordering::Release);
    }

    /// Whether any rank holds block `block`.
    pub(crate) fn held(&self, block: usize) -> bool {
        (0..self.ranks).any(|r| self.card(r).holdings[block].load(Ordering::Acquire) != 0)
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn ranks(&self) -> usize {
        self.ranks
    }
}

/// One rank's handle of a group: its seat, and the memory that all ranks share.
#[derive(Debug)]
pub struct Group {
    hall: Arc<Hall>,
    seat: Seat,
    arena: Arena,
}

fn spec(ranks: usize) -> (Layout, Spec) {
    let layout = Layout::new::<Real>(Sizes::DEFAULT, ranks);
    let body = layout.len + ranks * size_of::<Card>();
    let fingerprint = Sizes::DEFAULT.fingerprint(ranks) ^ (size_of::<Card>() as u64) << 48;
    (layout, Spec { kind: KIND, fingerprint, seats: ranks, body: body as u64, reserve: ARENA })
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
        let hall = Arc::new(Hall { segment, layout, rank, ranks });
        for (word, cpus) in hall.card(rank).cpus.iter().zip(allowed_cpus()) {
            word.store(cpus, Ordering::Relaxed); // published by the rank's arrival at the joining barrier
        }
        Ok(Group { arena: Arena::new(hall.clone()), hall, seat })
    }

    /// Takes the group's name away, if it has one: once all ranks have joined nobody needs it, and a group without a
    /// name leaves nothing behind, however its ranks end.
    pub fn forget_name(&self) -> Result<(), Error> {
        self.hall.segment.unlink()
    }

    /// CPUs that at least one rank may run on. Right once all have joined.
    pub fn cpus(&self) -> usize {
        let word = |i: usize| {
            let of = |r: usize| self.hall.card(r).cpus[i].load(Ordering::Relaxed);
            (0..self.hall.ranks).fold(0, |all, r| all | of(r)).count_ones() as usize
        };
        (0..CPU_WORDS).map(word).sum()
    }

    /// Process number of each rank, as it sees itself; 0 for a rank that has not come.
    pub fn pids(&self) -> Vec<u32> {
        (0..self.hall.ranks).map(|r| self.hall.segment.seat_pid(r)).collect()
    }

    /// Whether this handle is used by the process that took the seat, and not by a forked child of it.
    pub fn is_mine(&self) -> bool {
        self.seat.is_mine()
    }

    /// Resident tensors.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Resident tensors.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }
}

// SAFETY: places and buffers are the same bytes of the segment for every rank, apart by the layout, inside the body
// (`spec` sizes it by the same layout); the arena answers only for mapped blocks; liveness is proof (see `liveness`).
unsafe impl Region<Real> for Group {
    #[inline(always)]
    fn place(&self, rank: usize) -> &Place<Real> {
        debug_assert!(rank < self.hall.ranks);
        // SAFETY: ranks are below `ranks` wherever the board names one (it iterates 0..size, or checked a root). A
        // place is atomic words and cells; zeroed memory is a fresh one.
        unsafe { &*self.hall.segment.body_ptr().add(self.hall.layout.place(rank)).cast::<Place<Real>>() }
    }

    #[inline(always)]
    fn buffer(&self, rank: usize, area: Area) -> Buffer<'_, Real> {
        debug_assert!(rank < self.hall.ranks);
        // SAFETY: the layout lies inside the body.
        let start = unsafe { self.hall.segment.body_ptr().add(self.hall.layout.area(rank, area)) };
        // The guard of the shipping family has no bytes and does nothing.
        static GUARD: std::sync::LazyLock<Guard> = std::sync::LazyLock::new(|| Guard::new(()));
        Buffer { start, guard: &GUARD }
    }

    #[inline(always)]
    fn sizes(&self) -> &Sizes {
        self.hall.layout.sizes()
    }

    fn life(&self, rank: usize) -> Life {
        self.hall.segment.life(rank)
    }

    fn token(&self, start: *const u8, bytes: usize) -> Option<u64> {
        self.arena.token(start, bytes)
    }

    fn resident(&self, token: u64, bytes: usize) -> Option<*mut u8> {
        self.arena.resident(token, bytes)
    }
}
