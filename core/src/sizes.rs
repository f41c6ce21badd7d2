//! How large a group's buffers are, and which scheme serves which tensor.

/// Bytes of payload in a flag line.
pub const INLINE: usize = 32;

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
            Window { up_to: 4 * KIB, chunk: 4 * KIB, count: 1 },
            Window { up_to: 16 * KIB, chunk: 16 * KIB, count: 1 },
            Window { up_to: 64 * KIB, chunk: 64 * KIB, count: 1 },
            Window { up_to: 8 * MIB, chunk: 128 * KIB, count: 2 },
            Window { up_to: usize::MAX, chunk: 64 * KIB, count: 4 },
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

/// Which of a rank's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// A short tensor, by the parity of the operation.
    Slot(u64),
    /// A chunk of the exchange windows of two ranks: the setting, and the chunk's place. `rank` is the side.
    Window(usize, usize),
    /// A chunk of a rank's block: what it contributes, or broadcasts.
    Block(usize),
    /// The slice of a block that a rank has reduced for all.
    Result,
}

#[cfg(test)]
mod tests {
    use super::*;

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
