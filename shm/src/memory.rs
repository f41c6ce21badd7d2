//! Memory that rings lie in: a block of this process, which its threads share, or the body of a segment, which
//! processes share. To a ring it is the same: zeroed, on a page, and there until its last user is gone.
//!
//! # Safety
//! Carries an address between threads. It names `len` bytes that stay mapped as long as the keeper lives, and every
//! clone has the keeper; nothing is read or written here.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

use crate::error::Error;
use crate::limits::memory_left;
use crate::segment::Segment;

/// A range of shared memory and what keeps it mapped. Clones name the same bytes.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
    _keeper: Keeper,
}

#[derive(Debug, Clone)]
#[allow(dead_code)] // held, not read
enum Keeper {
    Block(Arc<MmapRaw>),
    Segment(Arc<Segment>),
    /// Whoever lent it.
    Lender,
}

// SAFETY: an address and its keeper, which is itself Send and Sync; who uses the address argues for each access.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A new block for the threads of this process: zeros on whole pages, which are there at once, so that no later
    /// access can find that memory has run out. A forked child has a copy of its own.
    pub(crate) fn block(what: &'static str, len: u64) -> Result<Memory, Error> {
        let have = memory_left();
        let len = usize::try_from(len).unwrap_or(usize::MAX).max(1);
        if len as u64 > have {
            return Err(Error::NoSpace { what, need: len as u64, have });
        }
        let map = MmapOptions::new().len(len).populate().map_anon();
        let map =
            MmapRaw::from(map.map_err(|e| Error::system(format!("mmap of {len} bytes for {what}"), e))?);
        let base = NonNull::new(map.as_mut_ptr()).expect("a mapping that succeeded begins somewhere");
        Ok(Memory { base, len, _keeper: Keeper::Block(Arc::new(map)) })
    }

    /// The body of a segment.
    pub(crate) fn body(segment: &Arc<Segment>) -> Memory {
        // SAFETY: the keeper keeps it mapped.
        let body = unsafe { Memory::lent(segment) };
        Memory { _keeper: Keeper::Segment(segment.clone()), ..body }
    }

    /// The body of a segment that somebody else keeps.
    ///
    /// # Safety
    /// The segment stays mapped as long as this or a clone of it is used.
    pub(crate) unsafe fn lent(segment: &Segment) -> Memory {
        let base = NonNull::new(segment.body_ptr()).expect("a mapping that succeeded begins somewhere");
        Memory { base, len: segment.body_len(), _keeper: Keeper::Lender }
    }

    /// `len` bytes from `offset` on: one of several objects.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Memory {
        let end = offset.checked_add(len).expect("an end");
        assert!(end <= self.len, "bytes {offset} to {end} of {}", self.len);
        // SAFETY: inside the range that we name, or one byte behind it.
        let base = unsafe { self.base.add(offset) };
        Memory { base, len, _keeper: self._keeper.clone() }
    }

    /// Where `count` values of type `T` begin, `offset` bytes into this memory.
    ///
    /// # Panics
    /// Unless they lie inside it, on their alignment.
    pub(crate) fn at<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = size_of::<T>().checked_mul(count).and_then(|bytes| bytes.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.len), "{count} values at {offset} in {} bytes", self.len);
        // SAFETY: inside the range that we name, or one byte behind it.
        let first = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(first.is_aligned(), "values at {offset} are not on their alignment");
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sapwood_core::mem::{Atom, Mem, Ordering, Real};

    #[test]
    fn a_block_is_zeroed_and_outlives_the_handle_that_made_it() {
        let block = Memory::block("a test", 10_000).expect("memory");
        let part = block.part(4096, 64);
        drop(block);
        let word = part.at::<<Real as Mem>::U64>(8, 1);
        // SAFETY: inside the part, which lives; any bytes are a word.
        let word = unsafe { word.as_ref() };
        assert_eq!(word.load(Ordering::Relaxed), 0);
        word.store(7, Ordering::Relaxed);
        assert_eq!(word.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn too_much_is_an_error_with_figures() {
        let said = Memory::block("a test", 1 << 46).expect_err("64 TiB");
        assert!(matches!(said, Error::NoSpace { what: "a test", need, have } if need > have), "{said}");
    }

    #[test]
    #[should_panic(expected = "2 values at 4088")]
    fn nothing_lies_outside() {
        let part = Memory::block("a test", 8192).expect("memory").part(0, 4096);
        part.at::<u64>(4088, 2);
    }

    #[test]
    #[should_panic(expected = "not on their alignment")]
    fn nothing_lies_askew() {
        Memory::block("a test", 4096).expect("memory").at::<u64>(12, 1);
    }
}
