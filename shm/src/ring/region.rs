//! The rings' memory over real addresses. What lies where, in a block or in the body of a segment:
//!
//! ```text
//! spsc     0: free word  128: closed words           256: lines, 64 bytes or a multiple each
//! mpmc     0: tail hint  128: head hint  256: closed  384: slots, 64 bytes or a multiple each
//! latest   0: number of the newest value             128: 4 cells, 64 bytes or a multiple each
//! jobs     0: tail hint  128: head hint               256: slots, 64 bytes or a multiple each
//! frames   a ring of descriptors as mpmc; then a header of 64 bytes for each frame; then the frames' bytes
//! stream   0: written    128: read       256: closed  384: bytes
//! ```
//! All of it begins as zeros, which is an empty ring: nothing has to be initialised by anybody who could die doing it.
//!
//! # Safety
//! Implements the rings' unsafe traits. Addresses are found once, by [`Memory::at`], which checks that all words and
//! cells lie inside; afterwards every index is masked with a number from private memory, or comes from the protocol,
//! which computes it from constants. The memory is mapped as long as the region lives, and words are atomics, for which
//! any bytes are valid.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::NonNull;

use sapwood_core::blocks;
use sapwood_core::board::Buffer;
use sapwood_core::claim;
use sapwood_core::mem::{Mem, RaceCell, Real};
use sapwood_core::ring::{CapacityError, latest, mpmc, spsc, stream};
use sapwood_core::shareable::Shareable;

use crate::memory::Memory;

type U64 = <Real as Mem>::U64;
type Cell<T> = <Real as Mem>::Cell<T>;

/// Bytes that rings keep apart: two cache lines, because they are fetched in pairs.
pub(crate) const APART: usize = 128;
/// Alignment that a value can have: the slots lie on multiples of it.
const MOST_ALIGN: usize = 64;

macro_rules! region {
    ($name:ident $(<$t:ident>)?, $first:ident) => {
        // SAFETY: addresses and what keeps them mapped; the protocols guard each access.
        unsafe impl$(<$t: Shareable>)? Send for $name$(<$t>)? {}
        // SAFETY: as above.
        unsafe impl$(<$t: Shareable>)? Sync for $name$(<$t>)? {}

        impl$(<$t: Shareable>)? Clone for $name$(<$t>)? {
            fn clone(&self) -> Self {
                $name { _memory: self._memory.clone(), ..*self }
            }
        }

        impl$(<$t: Shareable>)? std::fmt::Debug for $name$(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), " at {:?}"), self.$first)
            }
        }
    };
}

/// A cache line, as the lines of a ring lie on them.
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; MOST_ALIGN]);

/// A ring of one producer and one consumer.
pub(crate) struct Lines<T> {
    lines: NonNull<u8>,
    shape: spsc::Shape,
    ends: NonNull<spsc::Ends<Real>>,
    _memory: Memory,
    _values: PhantomData<fn(T) -> T>,
}
region!(Lines<T>, lines);

impl<T: Shareable> Lines<T> {
    const FRONT: usize = 256;

    /// Bytes that it needs.
    pub(crate) fn bytes(capacity: usize) -> Result<u64, CapacityError> {
        Ok((Self::FRONT + spsc::Shape::of::<T>(capacity)?.bytes()) as u64)
    }

    pub(crate) fn new(memory: Memory, capacity: usize) -> Result<Self, CapacityError> {
        let shape = spsc::Shape::of::<T>(capacity)?;
        let lines = memory.at::<Line>(Self::FRONT, shape.bytes() / size_of::<Line>()).cast();
        Ok(Lines { lines, shape, ends: memory.at(0, 1), _memory: memory, _values: PhantomData })
    }
}

// SAFETY: every clone has the same addresses. A place is inside its line, because the shape that reckons the line's
// length reckons the place too, and lines are masked.
unsafe impl<T: Shareable> spsc::Region<Real, T> for Lines<T> {
    #[inline(always)]
    fn ends(&self) -> &spsc::Ends<Real> {
        // SAFETY: inside the memory, which lives as long as we do; atomic words.
        unsafe { self.ends.as_ref() }
    }

    #[inline(always)]
    fn count(&self, line: u64) -> &U64 {
        // SAFETY: `count_at` is the beginning of one of our lines, which lie on multiples of 64; an atomic word.
        unsafe { self.lines.add(self.shape.count_at::<T>(line)).cast().as_ref() }
    }

    #[inline(always)]
    fn cell(&self, line: u64, i: usize) -> &Cell<T> {
        debug_assert!(i < spsc::Shape::per_line::<T>());
        // SAFETY: `value_at` is inside one of our lines and aligned for T, because `i` is a place of a line. A cell is
        // laid out as T, any bytes are a T, and a shared reference to a cell grants no access.
        unsafe { self.lines.add(self.shape.value_at::<T>(line, i)).cast().as_ref() }
    }

    #[inline(always)]
    fn shape(&self) -> &spsc::Shape {
        &self.shape
    }
}

/// A ring of many producers and many consumers.
pub(crate) struct Slots<T: Shareable> {
    slots: NonNull<mpmc::Slot<Real, T>>,
    shift: u32,
    hints: NonNull<mpmc::Hints<Real>>,
    _memory: Memory,
}
region!(Slots<T>, slots);

impl<T: Shareable> Slots<T> {
    const FRONT: usize = 384;

    /// Bytes that it needs.
    pub(crate) fn bytes(capacity: usize) -> Result<u64, CapacityError> {
        const { assert!(align_of::<T>() <= MOST_ALIGN, "values with the alignment of a cache line at most") };
        mpmc::shift_of::<T>(capacity)?;
        Ok((Self::FRONT + capacity * size_of::<mpmc::Slot<Real, T>>()) as u64)
    }

    pub(crate) fn new(memory: Memory, capacity: usize) -> Result<Self, CapacityError> {
        let shift = mpmc::shift_of::<T>(capacity)?;
        let slots = memory.at(Self::FRONT, capacity);
        Ok(Slots { slots, shift, hints: memory.at(0, 1), _memory: memory })
    }
}

// SAFETY: every clone has the same addresses; a number is masked, so it is one of the 2^shift slots that `new` has
// found room for.
unsafe impl<T: Shareable> mpmc::Region<Real, T> for Slots<T> {
    #[inline(always)]
    fn hints(&self) -> &mpmc::Hints<Real> {
        // SAFETY: inside the memory, which lives as long as we do; atomic words.
        unsafe { self.hints.as_ref() }
    }

    #[inline(always)]
    fn slot(&self, i: u64) -> &mpmc::Slot<Real, T> {
        let i = i as usize & ((1 << self.shift) - 1);
        // SAFETY: one of our slots; an atomic word and a cell, for which any bytes are valid.
        unsafe { self.slots.add(i).as_ref() }
    }

    #[inline(always)]
    fn shift(&self) -> u32 {
        self.shift
    }
}

/// The newest value.
pub(crate) struct Cells<T> {
    words: NonNull<U64>,
    newest: NonNull<U64>,
    _memory: Memory,
    _values: PhantomData<fn(T) -> T>,
}
region!(Cells<T>, words);

impl<T: Shareable> Cells<T> {
    const FRONT: usize = APART;
    /// Words of a cell, whole cache lines.
    const STRIDE: usize = latest::words::<T>().next_multiple_of(8);
    const BYTES: usize = Self::FRONT + latest::CELLS * Self::STRIDE * size_of::<U64>();

    /// Bytes that it needs.
    pub(crate) fn bytes() -> u64 {
        Self::BYTES as u64
    }

    pub(crate) fn new(memory: Memory) -> Self {
        let words = memory.at(Self::FRONT, latest::CELLS * Self::STRIDE);
        Cells { words, newest: memory.at(0, 1), _memory: memory, _values: PhantomData }
    }
}

// SAFETY: every clone has the same addresses; words whose cell or number differ are different words.
unsafe impl<T: Shareable> latest::Region<Real, T> for Cells<T> {
    #[inline(always)]
    fn newest(&self) -> &U64 {
        // SAFETY: inside the memory, which lives as long as we do; an atomic word.
        unsafe { self.newest.as_ref() }
    }

    #[inline(always)]
    fn word(&self, cell: usize, i: usize) -> &U64 {
        debug_assert!(cell < latest::CELLS && i < latest::words::<T>());
        // SAFETY: a cell below CELLS and a word below STRIDE: `new` has found room for them. An atomic word.
        unsafe { self.words.add(cell * Self::STRIDE + i).as_ref() }
    }
}

/// A pipe of bytes.
pub(crate) struct Pipe {
    bytes: NonNull<u8>,
    mask: usize,
    ends: NonNull<stream::Ends<Real>>,
    _memory: Memory,
}
region!(Pipe, bytes);

impl Pipe {
    const FRONT: usize = 384;

    /// Bytes that it needs.
    pub(crate) fn bytes(capacity: usize) -> Result<u64, CapacityError> {
        Ok((Self::FRONT + stream::capacity(capacity)?) as u64)
    }

    pub(crate) fn new(memory: Memory, capacity: usize) -> Result<Self, CapacityError> {
        let capacity = stream::capacity(capacity)?;
        let bytes = memory.at(Self::FRONT, capacity);
        Ok(Pipe { bytes, mask: capacity - 1, ends: memory.at(0, 1), _memory: memory })
    }

    /// Where position `at` lies, and how many of `len` bytes come before the wrap.
    #[inline(always)]
    fn place(&self, at: u64, len: usize) -> (usize, usize) {
        let begin = at as usize & self.mask;
        debug_assert!(len <= self.mask + 1);
        (begin, len.min(self.mask + 1 - begin))
    }
}

// SAFETY: every clone has the same addresses; positions are masked, and both pieces of a copy end inside: the first at
// the last byte at most, the second begins at byte 0 and both together are no longer than the capacity.
unsafe impl stream::Region<Real> for Pipe {
    #[inline(always)]
    fn ends(&self) -> &stream::Ends<Real> {
        // SAFETY: inside the memory, which lives as long as we do; atomic words.
        unsafe { self.ends.as_ref() }
    }

    #[inline(always)]
    fn capacity(&self) -> usize {
        self.mask + 1
    }

    #[inline(always)]
    unsafe fn put(&self, at: u64, bytes: &[u8]) {
        let (begin, first) = self.place(at, bytes.len());
        let (a, b) = bytes.split_at(first);
        // SAFETY: both pieces lie inside (see above). The caller promises that nobody else touches them.
        unsafe {
            self.bytes.add(begin).copy_from_nonoverlapping(NonNull::from(a).cast(), a.len());
            self.bytes.copy_from_nonoverlapping(NonNull::from(b).cast(), b.len());
        }
    }

    #[inline(always)]
    unsafe fn get(&self, at: u64, into: &mut [u8]) {
        let (begin, first) = self.place(at, into.len());
        let (a, b) = into.split_at_mut(first);
        // SAFETY: both pieces lie inside (see above). The caller promises that nobody writes them.
        unsafe {
            self.bytes.add(begin).copy_to_nonoverlapping(NonNull::from(&mut *a).cast(), a.len());
            self.bytes.copy_to_nonoverlapping(NonNull::from(&mut *b).cast(), b.len());
        }
    }
}

/// A table of jobs.
pub(crate) struct Places<Q: Shareable, A: Shareable> {
    slots: NonNull<claim::Slot<Real, Q, A>>,
    shift: u32,
    hints: NonNull<claim::Hints<Real>>,
    _memory: Memory,
}

// SAFETY: addresses and what keeps them mapped; the protocol guards each access.
unsafe impl<Q: Shareable, A: Shareable> Send for Places<Q, A> {}
// SAFETY: as above.
unsafe impl<Q: Shareable, A: Shareable> Sync for Places<Q, A> {}

impl<Q: Shareable, A: Shareable> Clone for Places<Q, A> {
    fn clone(&self) -> Self {
        Places { _memory: self._memory.clone(), ..*self }
    }
}

impl<Q: Shareable, A: Shareable> std::fmt::Debug for Places<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Places at {:?}", self.slots)
    }
}

impl<Q: Shareable, A: Shareable> Places<Q, A> {
    const FRONT: usize = 256;

    /// Bytes that it needs.
    pub(crate) fn bytes(capacity: usize) -> Result<u64, CapacityError> {
        const { assert!(align_of::<Q>() <= MOST_ALIGN && align_of::<A>() <= MOST_ALIGN, "a cache line at most") };
        claim::shift_of::<Q, A>(capacity)?;
        Ok((Self::FRONT + capacity * size_of::<claim::Slot<Real, Q, A>>()) as u64)
    }

    pub(crate) fn new(memory: Memory, capacity: usize) -> Result<Self, CapacityError> {
        let shift = claim::shift_of::<Q, A>(capacity)?;
        let slots = memory.at(Self::FRONT, capacity);
        Ok(Places { slots, shift, hints: memory.at(0, 1), _memory: memory })
    }
}

// SAFETY: every clone has the same addresses; a number is masked, so it is one of the 2^shift slots that `new` has
// found room for.
unsafe impl<Q: Shareable, A: Shareable> claim::Region<Real, Q, A> for Places<Q, A> {
    #[inline(always)]
    fn hints(&self) -> &claim::Hints<Real> {
        // SAFETY: inside the memory, which lives as long as we do; atomic words.
        unsafe { self.hints.as_ref() }
    }

    #[inline(always)]
    fn slot(&self, i: u64) -> &claim::Slot<Real, Q, A> {
        let i = i as usize & ((1 << self.shift) - 1);
        // SAFETY: one of our slots; an atomic word and cells, for which any bytes are valid.
        unsafe { self.slots.add(i).as_ref() }
    }

    #[inline(always)]
    fn shift(&self) -> u32 {
        self.shift
    }
}

/// Blocks that are lent: their headers, then their bytes.
pub(crate) struct Arena {
    headers: NonNull<blocks::Header<Real>>,
    bytes: NonNull<u8>,
    shape: blocks::Shape,
    guard: Cell<()>,
    _memory: Memory,
}

// SAFETY: addresses and what keeps them mapped; the protocol guards each access.
unsafe impl Send for Arena {}

impl Clone for Arena {
    fn clone(&self) -> Self {
        Arena { guard: RaceCell::new(()), _memory: self._memory.clone(), ..*self }
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena of {:?} at {:?}", self.shape, self.headers)
    }
}

impl Arena {
    /// Bytes that it needs.
    pub(crate) fn bytes(shape: blocks::Shape) -> u64 {
        let header = size_of::<blocks::Header<Real>>() as u64;
        u64::from(shape.blocks()) * (header + shape.bytes() as u64)
    }

    pub(crate) fn new(memory: Memory, shape: blocks::Shape) -> Self {
        let count = shape.blocks() as usize;
        let front = count * size_of::<blocks::Header<Real>>();
        let lines = count * (shape.bytes() / size_of::<Line>());
        let bytes = memory.at::<Line>(front, lines).cast();
        Arena { headers: memory.at(0, count), bytes, shape, guard: RaceCell::new(()), _memory: memory }
    }
}

// SAFETY: every clone has the same addresses; `new` has found room for the headers and the bytes of every block, which
// begin on cache lines, and no other number is asked for.
unsafe impl blocks::Region<Real> for Arena {
    #[inline(always)]
    fn header(&self, block: u32) -> &blocks::Header<Real> {
        debug_assert!(block < self.shape.blocks());
        // SAFETY: one of our headers; atomic words.
        unsafe { self.headers.add(block as usize).as_ref() }
    }

    #[inline(always)]
    fn bytes(&self, block: u32) -> Buffer<'_, Real> {
        debug_assert!(block < self.shape.blocks());
        // SAFETY: one of our blocks.
        let start = unsafe { self.bytes.add(block as usize * self.shape.bytes()) };
        Buffer { start: start.as_ptr(), guard: &self.guard }
    }

    #[inline(always)]
    fn shape(&self) -> blocks::Shape {
        self.shape
    }
}

static_assertions::const_assert_eq!(size_of::<spsc::Ends<Real>>(), Lines::<u8>::FRONT);
static_assertions::const_assert_eq!(size_of::<mpmc::Hints<Real>>(), Slots::<u8>::FRONT);
static_assertions::const_assert_eq!(size_of::<stream::Ends<Real>>(), Pipe::FRONT);
static_assertions::const_assert_eq!(size_of::<claim::Hints<Real>>(), Places::<u8, u8>::FRONT);
static_assertions::const_assert_eq!(size_of::<mpmc::Slot<Real, [u64; 7]>>(), 64);
static_assertions::const_assert_eq!(align_of::<mpmc::Slot<Real, [u64; 7]>>(), 64);
static_assertions::const_assert!(Slots::<u8>::FRONT.is_multiple_of(MOST_ALIGN));
static_assertions::const_assert_eq!(size_of::<Line>(), MOST_ALIGN);
static_assertions::const_assert!(align_of::<spsc::Ends<Real>>() <= APART);

#[cfg(test)]
mod tests {
    use super::*;
    use sapwood_core::ring::stream::Region as _;

    #[test]
    fn copies_wrap() {
        let bytes = Pipe::bytes(8).expect("a capacity");
        let pipe = Pipe::new(Memory::block("a test", bytes).expect("memory"), 8).expect("a capacity");
        for at in [0, 5, 7, u64::MAX - 2] {
            for len in 0..=8 {
                let out: Vec<u8> = (1..=len).collect();
                let mut back = vec![0; out.len()];
                // SAFETY: nobody else has this pipe.
                unsafe {
                    pipe.put(at, &out);
                    pipe.get(at, &mut back);
                }
                assert_eq!(back, out, "{len} bytes at {at}");
            }
        }
    }

    #[test]
    fn memory_that_is_too_short_is_found_at_once() {
        let bytes = Lines::<u64>::bytes(64).expect("a capacity");
        let memory = Memory::block("a test", bytes).expect("memory");
        assert!(Lines::<u64>::new(memory.clone(), 64).is_ok());
        let short = memory.part(0, bytes as usize - 1);
        assert!(std::panic::catch_unwind(|| Lines::<u64>::new(short, 64)).is_err());
    }
}
