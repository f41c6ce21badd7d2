//! The mapped memory of a group, shared by the group and the tensors that it has handed out.
//!
//! ```text
//!  segment body
//!  +--------------------------------+-----------+-----------+-----+==================================+
//!  | places, slots, windows, blocks | card and  | card and  | ... | arena: sparse, backed block by   |
//!  | (sapwood_core::layout::Layout)  | holdings  | holdings  |     | block as tensors are allocated   |
//!  +--------------------------------+-----------+-----------+-----+==================================+
//!                                     of rank 0   of rank 1
//!  card:     16 x u64, the CPUs that the rank may run on; written before it joins
//!  holdings: u32 a block of the arena, 1 while the rank holds the block; written by the rank alone
//! ```
//! Every word has one writer, so a rank that dies leaves no count wrong: at worst a block stays held until the group's
//! memory goes.
//!
//! # Safety
//! Forms references to the cards: inside the body, made of atomic words, mapped as long as the hall lives.
#![allow(unsafe_code)]

use sapwood_core::layout::Layout;
use sapwood_core::mem::{Atom, Mem, Ordering, Real};
use sapwood_core::sizes::Sizes;

use crate::layout::kind;
use crate::limits::CPU_WORDS;
use crate::segment::{Segment, Spec};

/// Resident tensors that a group can hold at a time.
pub const BLOCKS: usize = 992;
/// Bytes of the sparse arena: address space of the file, not memory.
const ARENA: u64 = 1 << 40;

type U32 = <Real as Mem>::U32;
type U64 = <Real as Mem>::U64;

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
    pub(crate) fn new(segment: Segment, layout: Layout, rank: usize, ranks: usize) -> Self {
        Hall { segment, layout, rank, ranks }
    }

    /// Tells the others where this rank may run. Published by its arrival at the joining barrier.
    pub(crate) fn note_cpus(&self, mask: [u64; CPU_WORDS]) {
        let words = &self.card(self.rank).cpus;
        words.iter().zip(mask).for_each(|(word, cpus)| word.store(cpus, Ordering::Relaxed));
    }

    /// Word `word` of the CPU mask of `rank`.
    pub(crate) fn cpus(&self, rank: usize, word: usize) -> u64 {
        self.card(rank).cpus[word].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

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

    #[inline(always)]
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    #[inline(always)]
    pub(crate) fn ranks(&self) -> usize {
        self.ranks
    }
}

/// The layout of a group, and the segment that it needs.
pub(crate) fn spec(ranks: usize) -> (Layout, Spec) {
    let layout = Layout::new::<Real>(Sizes::DEFAULT, ranks);
    let body = layout.len + ranks * size_of::<Card>();
    let fingerprint = Sizes::DEFAULT.fingerprint(ranks) ^ (size_of::<Card>() as u64) << 48;
    (layout, Spec { kind: kind::GROUP, fingerprint, seats: ranks, body: body as u64, reserve: ARENA })
}
