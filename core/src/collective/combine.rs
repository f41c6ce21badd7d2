//! What an all-reduce combines with: a kernel, or the caller's closure.
//!
//! # Safety
//! Sources and destinations may be memory that other processes write at other times, so they come as raw pointers; a
//! closure only ever sees private copies.
#![allow(unsafe_code)]

use crate::call::With;
use crate::dtype::Element;
use crate::reduce::{Kernel, Op};

/// Folds the ranks' elements in rank order.
pub(crate) trait Combine<T: Element> {
    /// Whether `pair` and `pair_refill` may be used.
    const BUILT_IN: bool;

    /// What the fingerprint says of it.
    fn with(&self) -> With;

    /// `((src(0) op src(1)) op src(2)) ...`, written to every destination.
    ///
    /// # Safety
    /// All are valid for `n` elements; each destination is exactly one of the sources or disjoint from all of them.
    unsafe fn fold(
        &mut self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    );

    /// Two sources, one destination.
    ///
    /// # Safety
    /// As for `fold`.
    unsafe fn pair(&mut self, dst: *mut T, a: *const T, b: *const T, n: usize);

    /// `pair`, after which `refill`, one of the two sources, gets `m` new elements.
    ///
    /// # Safety
    /// As for `fold`; `from` is valid for `m` elements and disjoint from the sources and `dst[..n]`.
    #[allow(clippy::too_many_arguments)] // one pass over two pairs of ranges
    unsafe fn pair_refill(
        &mut self,
        dst: *mut T,
        a: *const T,
        b: *const T,
        n: usize,
        refill: *mut T,
        from: *const T,
        m: usize,
    );
}

/// A built-in operation.
pub(crate) struct BuiltIn<T: Element> {
    pub(crate) op: Op,
    pub(crate) kernel: Kernel<T>,
}

impl<T: Element> Combine<T> for BuiltIn<T> {
    const BUILT_IN: bool = true;

    fn with(&self) -> With {
        With::Op(self.op)
    }

    #[inline(always)]
    unsafe fn fold(
        &mut self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    ) {
        // SAFETY: the caller promises what the kernel asks for.
        unsafe { self.kernel.fold(n, sources, src, dests, dst) }
    }

    #[inline(always)]
    unsafe fn pair(&mut self, dst: *mut T, a: *const T, b: *const T, n: usize) {
        // SAFETY: as above.
        unsafe { self.kernel.pair(dst, a, b, n) }
    }

    #[inline(always)]
    unsafe fn pair_refill(
        &mut self,
        dst: *mut T,
        a: *const T,
        b: *const T,
        n: usize,
        refill: *mut T,
        from: *const T,
        m: usize,
    ) {
        // SAFETY: as above.
        unsafe { self.kernel.pair_refill(dst, a, b, n, refill, from, m) }
    }
}

/// Elements that a closure is given at a time.
const TILE: usize = 512;

/// The caller's closure: `f(accumulator, next)`, element by element.
pub(crate) struct Closure<T, F> {
    f: F,
    sum: [T; TILE],
    next: [T; TILE],
}

impl<T: Element, F: Fn(&mut [T], &[T])> Closure<T, F> {
    pub(crate) fn new(f: F) -> Self {
        Closure { f, sum: [T::default(); TILE], next: [T::default(); TILE] }
    }
}

impl<T: Element, F: Fn(&mut [T], &[T])> Combine<T> for Closure<T, F> {
    const BUILT_IN: bool = false;

    fn with(&self) -> With {
        With::Closure
    }

    unsafe fn fold(
        &mut self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    ) {
        for at in (0..n).step_by(TILE) {
            let len = TILE.min(n - at);
            for q in 0..sources {
                let tile = if q == 0 { &mut self.sum } else { &mut self.next };
                // SAFETY: `at + len <= n`, and the tile is ours alone.
                unsafe { tile.as_mut_ptr().copy_from_nonoverlapping(src(q).add(at), len) };
                if q > 0 {
                    (self.f)(&mut self.sum[..len], &self.next[..len]);
                }
            }
            for d in 0..dests {
                // SAFETY: as above; all sources of this tile have been read.
                unsafe { dst(d).add(at).copy_from_nonoverlapping(self.sum.as_ptr(), len) };
            }
        }
    }

    unsafe fn pair(&mut self, dst: *mut T, a: *const T, b: *const T, n: usize) {
        // SAFETY: the caller promises what `fold` asks for.
        unsafe { self.fold(n, 2, |q| if q == 0 { a } else { b }, 1, |_| dst) }
    }

    unsafe fn pair_refill(
        &mut self,
        dst: *mut T,
        a: *const T,
        b: *const T,
        n: usize,
        refill: *mut T,
        from: *const T,
        m: usize,
    ) {
        // SAFETY: as above; the sources have been read before one of them is refilled.
        unsafe {
            self.pair(dst, a, b, n);
            refill.copy_from_nonoverlapping(from, m);
        }
    }
}
