//! A call's tensors as one row of elements.
//!
//! # Safety
//! Collectives read one range of a tensor while they write another, and let other processes write into resident ones,
//! so they work on raw pointers that all derive from the caller's exclusive borrows. The unsafe here is to take those
//! pointers out of the borrows without reborrowing.
#![allow(unsafe_code)]

use core::marker::PhantomData;

use crate::sizes::INLINE;

/// The caller's tensors, borrowed for the length of a call.
pub(crate) struct Tensors<'a, T> {
    list: *const *mut [T],
    parts: usize,
    total: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

/// Where in the row a walk stands: the part, and the index of its first element.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    part: usize,
    first: usize,
}

impl<'a, T> Tensors<'a, T> {
    #[inline]
    pub(crate) fn new(list: &'a mut [&mut [T]]) -> Self {
        let total = list.iter().map(|t| t.len()).sum();
        // `&mut [T]` and `*mut [T]` have the same layout, so a list of the one can be read as a list of the other.
        Tensors { list: list.as_mut_ptr().cast(), parts: list.len(), total, _borrow: PhantomData }
    }

    /// Elements in all.
    #[inline(always)]
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    #[inline(always)]
    fn part(&self, i: usize) -> *mut [T] {
        debug_assert!(i < self.parts);
        // SAFETY: i < parts (every caller's index comes from a walk below `total`), and the list is borrowed for 'a.
        // The copy is a raw pointer with the provenance of the caller's exclusive borrow, which nobody uses meanwhile.
        unsafe { self.list.add(i).read() }
    }

    /// The only part, if there is just one.
    #[inline(always)]
    pub(crate) fn only(&self) -> Option<*mut T> {
        (self.parts == 1).then(|| self.part(0).cast())
    }

    /// Calls `f(pointer, elements, offset)` for the pieces of the range of `len` elements from `at`; `offset` counts
    /// from `at`. Successive calls with one cursor must walk forward.
    #[inline]
    pub(crate) fn pieces(
        &self,
        c: &mut Cursor,
        at: usize,
        len: usize,
        mut f: impl FnMut(*mut T, usize, usize),
    ) {
        debug_assert!(at + len <= self.total);
        let mut done = 0;
        while done < len {
            let part = self.part(c.part);
            let within = at + done - c.first;
            let left = part.len() - within.min(part.len());
            if left == 0 {
                c.first += part.len();
                c.part += 1;
                continue;
            }
            let n = left.min(len - done);
            f(part.cast::<T>().wrapping_add(within), n, done);
            done += n;
        }
    }

    /// All elements as the words of a flag line's payload: by whole words where there is one part, because a copy of a
    /// length that the compiler does not know costs more than the few bytes.
    ///
    /// # Safety
    /// They are at most `INLINE` bytes.
    #[inline]
    pub(crate) unsafe fn payload(&self) -> [u64; INLINE / 8] {
        let (mut words, bytes) = ([0; INLINE / 8], self.total * size_of::<T>());
        match self.only() {
            Some(start) if bytes.is_multiple_of(8) => {
                for (i, word) in words.iter_mut().enumerate().take(bytes / 8) {
                    // SAFETY: inside the only part, of which any bytes make a word.
                    *word = unsafe { start.cast::<u64>().add(i).read_unaligned() };
                }
            }
            // SAFETY: the words have room for as many bytes.
            _ => unsafe { self.copy_out(&mut Cursor::default(), 0, self.total, words.as_mut_ptr().cast()) },
        }
        words
    }

    /// Copies elements `at .. at + len` to `to`.
    ///
    /// # Safety
    /// `to` is valid for `len` writes and lies in none of the tensors.
    #[inline]
    pub(crate) unsafe fn copy_out(&self, c: &mut Cursor, at: usize, len: usize, to: *mut T) {
        // SAFETY: the piece lies in the tensors, `to + offset .. + n` in the caller's `len` elements; disjoint.
        self.pieces(c, at, len, |p, n, offset| unsafe { to.add(offset).copy_from_nonoverlapping(p, n) });
    }

    /// Copies `len` elements from `from` to elements `at ..`.
    ///
    /// # Safety
    /// `from` is valid for `len` reads and lies in none of the tensors.
    #[inline]
    pub(crate) unsafe fn copy_in(&self, c: &mut Cursor, at: usize, len: usize, from: *const T) {
        // SAFETY: the piece lies in the tensors, borrowed exclusively; `from + offset .. + n` in the caller's elements.
        self.pieces(c, at, len, |p, n, offset| unsafe { p.copy_from_nonoverlapping(from.add(offset), n) });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn any_range_of_any_parts_is_copied_whole() {
        let (mut a, mut b, mut c, mut d) = ([0, 1, 2], [0u32; 0], [3], [4, 5, 6, 7]);
        let mut list: [&mut [u32]; 4] = [&mut a, &mut b, &mut c, &mut d];
        let t = Tensors::new(&mut list);
        assert_eq!((t.total(), t.only()), (8, None));
        for at in 0..=8 {
            for len in 0..=8 - at {
                let mut out = [99; 8];
                // SAFETY: `out` has 8 elements and is not among the tensors.
                unsafe { t.copy_out(&mut Cursor::default(), at, len, out.as_mut_ptr()) };
                assert!(out[..len].iter().copied().eq(at as u32..(at + len) as u32), "{at} {len} {out:?}");
                assert!(out[len..].iter().all(|v| *v == 99));
            }
        }
        // One cursor, forward in steps of three.
        let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
        for at in [0, 3, 6] {
            let mut out = [0; 3];
            let len = 3.min(8 - at);
            // SAFETY: as above.
            unsafe { t.copy_out(&mut cursor, at, len, out.as_mut_ptr()) };
            seen.extend_from_slice(&out[..len]);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
        let from = [10, 11, 12, 13, 14];
        // SAFETY: `from` has 5 elements and is not among the tensors.
        unsafe { t.copy_in(&mut Cursor::default(), 2, 5, from.as_ptr()) };
        assert_eq!((a, c, d), ([0, 1, 10], [11], [12, 13, 14, 7]));
    }
}
