//! How large a group's buffers are, which scheme serves which tensor, and where everything lies in a segment.
//!
//! ```text
//!  +--------+--------+-----+----------+----------+--------------------------------+----------------------------+
//!  | place  | place  | ... | slots of | slots of | windows, two sides each        | block, result | block, ... |
//!  | rank 0 | rank 1 |     | rank 0   | rank 1   | (groups of two ranks only)     | of rank 0     | of rank 1  |
//!  +--------+--------+-----+----------+----------+--------------------------------+----------------------------+
//! ```

use crate::board::{Area, INLINE, Place};
use crate::mem::Mem;

/// Number of window settings.
pub const WINDOWS: usize = 5;

/// One setting of the exchange window of two ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Tensors of up to so many bytes use it.
    pub up_to: usize,
    /// Bytes of a chunk.
    pub chunk: usize,
    /// Chunks in flight.
    pub count: usize,
}

/// Buffer sizes and thresholds, in bytes. All ranks of a group must use the same: they are part of its fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// A rank's slot of one parity: tensors up to this are exchanged whole.
    pub slot: usize,
    /// The window settings, by rising `up_to`; the last serves everything.
    pub windows: [Window; WINDOWS],
    /// A rank's block: longer tensors go block by block.
    pub block: usize,
    /// Chunks that a block is cut into when it is broadcast.
    pub block_chunks: usize,
    /// Resident tensors from this size on are reduced where they lie.
    pub resident_from: usize,
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Sizes {
    /// The sizes that ship: measured, see `docs/ARCHITECTURE.md`.
    pub const DEFAULT: Sizes = Sizes {
        slot: 4 * KIB,
        windows: [
            Window { up_to: 12 * KIB, chunk: 12 * KIB, count: 1 },
            Window { up_to: 48 * KIB, chunk: 8 * KIB, count: 2 },
            Window { up_to: 192 * KIB, chunk: 16 * KIB, count: 4 },
            Window { up_to: 48 * MIB, chunk: 64 * KIB, count: 2 },
            Window { up_to: usize::MAX, chunk: 32 * KIB, count: 4 },
        ],
        block: 128 * KIB,
        block_chunks: 4,
        resident_from: 16 * KIB,
    };

    /// Tiny buffers, so that a tensor of a few hundred bytes goes through every pipeline.
    #[cfg(any(test, feature = "testing"))]
    pub const TINY: Sizes = Sizes {
        slot: 64,
        windows: [
            Window { up_to: 64, chunk: 64, count: 1 },
            Window { up_to: 192, chunk: 64, count: 2 },
            Window { up_to: 512, chunk: 128, count: 2 },
            Window { up_to: 1024, chunk: 64, count: 3 },
            Window { up_to: usize::MAX, chunk: 128, count: 4 },
        ],
        block: 512,
        block_chunks: 4,
        resident_from: 128,
    };

    /// Bytes of the slice of a block that one of `ranks` reduces, at most.
    pub fn result(&self, ranks: usize) -> usize {
        // Cuts are rounded down to multiples of 64 bytes, so a slice is less than one such step longer than its share.
        (self.block / ranks).next_multiple_of(64) + 128
    }

    /// A number that differs if two builds would lay a group out differently.
    pub fn fingerprint(&self, ranks: usize) -> u64 {
        let mut words = [0; 5 + 3 * WINDOWS];
        words[..5].copy_from_slice(&[ranks, self.slot, self.block, self.block_chunks, self.resident_from]);
        for (i, w) in self.windows.iter().enumerate() {
            words[5 + 3 * i..8 + 3 * i].copy_from_slice(&[w.up_to, w.chunk, w.count]);
        }
        crate::call::count_word(words.into_iter())
    }
}

/// How an all-reduce is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// The payload rides in the flag line; everyone reads everyone.
    Inline,
    /// Each copies its tensor into its slot; everyone reads everyone.
    Flat,
    /// Two ranks swap buffers: what one has read it writes next.
    Swap(usize),
    /// Block by block: each reduces its slice for all, then gathers the others'.
    Blocks,
}

impl Sizes {
    /// The scheme for `bytes` of tensor among `ranks`. A function of what the fingerprint compares, so that all ranks
    /// choose alike.
    #[inline]
    pub fn scheme(&self, bytes: usize, ranks: usize, built_in: bool) -> Scheme {
        if bytes <= INLINE {
            Scheme::Inline
        } else if ranks == 2 && built_in {
            Scheme::Swap(self.windows.iter().position(|w| bytes <= w.up_to).unwrap_or(WINDOWS - 1))
        } else if bytes <= self.slot {
            Scheme::Flat
        } else {
            Scheme::Blocks
        }
    }
}

/// Where everything lies, in bytes from the start of the group's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    sizes: Sizes,
    place: usize,
    slots: usize,
    windows: [usize; WINDOWS],
    blocks: usize,
    block_stride: usize,
    /// Bytes in all: whole pages.
    pub len: usize,
}

const PAGE: usize = 4 * KIB;

impl Layout {
    /// The layout for `ranks` ranks.
    pub fn new<M: Mem>(sizes: Sizes, ranks: usize) -> Layout {
        let place = size_of::<Place<M>>();
        let slots = (place * ranks).next_multiple_of(PAGE);
        let mut at = (slots + 2 * sizes.slot * ranks).next_multiple_of(PAGE);
        let mut windows = [0; WINDOWS];
        for (start, w) in windows.iter_mut().zip(&sizes.windows) {
            *start = at;
            if ranks == 2 {
                at = (at + 2 * w.chunk * w.count).next_multiple_of(PAGE);
            }
        }
        let block_stride = (sizes.block + sizes.result(ranks)).next_multiple_of(PAGE);
        Layout { sizes, place, slots, windows, blocks: at, block_stride, len: at + block_stride * ranks }
    }

    /// Where the place of `rank` starts.
    #[inline(always)]
    pub fn place(&self, rank: usize) -> usize {
        self.place * rank
    }

    /// Where a buffer of `rank` starts.
    #[inline(always)]
    pub fn area(&self, rank: usize, area: Area) -> usize {
        match area {
            Area::Slot(n) => self.slots + (2 * rank + (n & 1) as usize) * self.sizes.slot,
            Area::Window(w, i) => {
                let window = &self.sizes.windows[w];
                self.windows[w] + (rank * window.count + i) * window.chunk
            }
            Area::Block(chunk) => {
                self.blocks + rank * self.block_stride + chunk * (self.sizes.block / self.sizes.block_chunks)
            }
            Area::Result => self.blocks + rank * self.block_stride + self.sizes.block,
        }
    }

    /// The sizes it was made for.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::mem::Real;
    use std::vec::Vec;

    /// Every buffer lies inside, on its alignment, and overlaps no other.
    #[test]
    fn nothing_overlaps() {
        for sizes in [Sizes::DEFAULT, Sizes::TINY] {
            for ranks in [1, 2, 3, 4, 7, 64, 300] {
                let l = Layout::new::<Real>(sizes, ranks);
                let mut all: Vec<(usize, usize)> = Vec::new();
                for r in 0..ranks {
                    all.push((l.place(r), size_of::<Place<Real>>()));
                    all.extend([0, 1].map(|p| (l.area(r, Area::Slot(p)), sizes.slot)));
                    for (w, s) in sizes.windows.iter().enumerate().filter(|_| ranks == 2) {
                        all.extend((0..s.count).map(|i| (l.area(r, Area::Window(w, i)), s.chunk)));
                    }
                    let chunk = sizes.block / sizes.block_chunks;
                    all.extend((0..sizes.block_chunks).map(|i| (l.area(r, Area::Block(i)), chunk)));
                    all.push((l.area(r, Area::Result), sizes.result(ranks)));
                }
                all.sort_unstable();
                assert!(all.iter().all(|(start, _)| start % 64 == 0));
                assert!(all.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "overlap among {ranks} ranks");
                assert!(
                    all.last().is_some_and(|(start, len)| start + len <= l.len) && l.len.is_multiple_of(PAGE)
                );
            }
        }
    }

    #[test]
    fn schemes_change_where_the_sizes_say() {
        let s = Sizes::DEFAULT;
        assert_eq!(s.scheme(32, 8, true), Scheme::Inline);
        assert_eq!(s.scheme(33, 8, true), Scheme::Flat);
        assert_eq!(s.scheme(4097, 8, true), Scheme::Blocks);
        assert_eq!(s.scheme(33, 2, true), Scheme::Swap(0));
        assert_eq!(s.scheme(33, 2, false), Scheme::Flat);
        assert_eq!(s.scheme(usize::MAX, 2, true), Scheme::Swap(WINDOWS - 1));
    }
}
