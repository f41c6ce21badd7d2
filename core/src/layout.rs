//! Where everything of a group lies in its segment.
//!
//! ```text
//!  +--------+--------+-----+----------+----------+--------------------------------+----------------------------+
//!  | place  | place  | ... | slots of | slots of | windows, two sides each        | block, result | block, ... |
//!  | rank 0 | rank 1 |     | rank 0   | rank 1   | (groups of two ranks only)     | of rank 0     | of rank 1  |
//!  +--------+--------+-----+----------+----------+--------------------------------+----------------------------+
//! ```

use crate::board::Place;
use crate::mem::Mem;
use crate::sizes::{Area, Sizes, WINDOWS};

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

const PAGE: usize = 4096;

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
}
