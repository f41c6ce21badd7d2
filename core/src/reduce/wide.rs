//! What levels share whose registers hold many numbers: the loop over whole registers, and two registers as one.
//!
//! # Safety
//! As in `lanes`: the caller of a kernel vouches for the memory, and this file only steps through it.
#![allow(unsafe_code)]

use super::lanes::{Apply, Brain, Float, Lanes, Number, Sink, Source};

/// The loop over whole registers, for levels whose registers hold many numbers.
///
/// The ends are not done number by number: where the count leaves a rest, or where a long run starts across a line of
/// the cache, one register of results for that end is computed before anything is written, and stored after the loop,
/// where it rewrites some of the loop's results with the same bits.
///
/// # Safety
/// As [`dual`](super::lanes::Isa::dual) with `DUAL`, else as [`each`](super::lanes::Isa::each), and `also` is not used.
#[inline(always)]
pub(super) unsafe fn strip<D, A, B, R, O, const DUAL: bool>(
    dst: *mut u8,
    also: *mut u8,
    a: *const u8,
    b: *const u8,
    n: usize,
) where
    D: Sink<R>,
    A: Source<R>,
    B: Source<R>,
    R: Lanes,
    O: Apply<R>,
{
    debug_assert!(n >= R::N);
    let off = dst.addr() % (R::N * D::STRIDE);
    let first = if off == 0 || n < 8 * R::N { 0 } else { R::N - off / D::STRIDE };
    let whole = n - (n - first) % R::N;
    let last = n - R::N;
    // SAFETY: every index given to `result` and `put` is at most n - N, so the N elements from there on are among
    // the n that the caller vouches for. Each element is read before it is written even if a destination is a
    // source: the loop reads i.. before it writes i.., never goes back, and the ends were read before the loop.
    unsafe {
        let start = if first > 0 { Some(result::<A, B, R, O>(a, b, 0)) } else { None };
        let end = if whole < n { Some(result::<A, B, R, O>(a, b, last)) } else { None };
        let mut i = first;
        while i + 4 * R::N <= whole {
            let r0 = result::<A, B, R, O>(a, b, i);
            let r1 = result::<A, B, R, O>(a, b, i + R::N);
            let r2 = result::<A, B, R, O>(a, b, i + 2 * R::N);
            let r3 = result::<A, B, R, O>(a, b, i + 3 * R::N);
            put::<D, R, DUAL>(dst, also, i, r0);
            put::<D, R, DUAL>(dst, also, i + R::N, r1);
            put::<D, R, DUAL>(dst, also, i + 2 * R::N, r2);
            put::<D, R, DUAL>(dst, also, i + 3 * R::N, r3);
            i += 4 * R::N;
        }
        while i < whole {
            let r = result::<A, B, R, O>(a, b, i);
            put::<D, R, DUAL>(dst, also, i, r);
            i += R::N;
        }
        if let Some(start) = start {
            put::<D, R, DUAL>(dst, also, 0, start);
        }
        if let Some(end) = end {
            put::<D, R, DUAL>(dst, also, last, end);
        }
    }
}

/// # Safety
/// The CPU has the register, and `N` elements can be read at index `i` of `a` and of `b`.
#[inline(always)]
unsafe fn result<A: Source<R>, B: Source<R>, R: Lanes, O: Apply<R>>(
    a: *const u8,
    b: *const u8,
    i: usize,
) -> R {
    // SAFETY: the caller vouches for the elements from index i on, and index i lies STRIDE * i bytes in.
    unsafe { O::apply(A::load(a.add(i * A::STRIDE)), B::load(b.add(i * B::STRIDE))) }
}

/// # Safety
/// `N` elements can be written at index `i` of `dst`, and of `also` with `DUAL`.
#[inline(always)]
unsafe fn put<D: Sink<R>, R: Lanes, const DUAL: bool>(dst: *mut u8, also: *mut u8, i: usize, r: R) {
    // SAFETY: the caller vouches for the elements from index i on, and index i lies STRIDE * i bytes in.
    unsafe {
        D::store(dst.add(i * D::STRIDE), r);
        if DUAL {
            D::store(also.add(i * D::STRIDE), r);
        }
    }
}

/// Two registers of f32 as one. A register of bf16 becomes two of f32, and these become one again, with the least
/// effort where the two may share its elements out as they like; [`Twin`] says how they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Two<R>(pub(super) R, pub(super) R);

/// A register of f32 of which two hold the elements of one register of bf16.
pub(super) trait Twin: Float {
    /// # Safety
    /// As [`Lanes::load`], for two registers.
    unsafe fn load_two(p: *const u8) -> Two<Self>;
    /// # Safety
    /// As [`Lanes::store`], for two registers.
    unsafe fn store_two(two: Two<Self>, p: *mut u8);
    /// # Safety
    /// As [`Brain::load_bf16`], for two registers.
    unsafe fn load_bf16(p: *const u8) -> Two<Self>;
    /// # Safety
    /// As [`Brain::store_bf16`], for two registers.
    unsafe fn store_bf16(two: Two<Self>, p: *mut u8);
}

impl<R: Twin> Lanes for Two<R> {
    const N: usize = 2 * R::N;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        unsafe { R::load_two(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        unsafe { R::store_two(self, p) }
    }
}

impl<R: Twin> Number for Two<R> {
    #[inline(always)]
    fn sum(self, other: Self) -> Self {
        Two(self.0.sum(other.0), self.1.sum(other.1))
    }
    #[inline(always)]
    fn prod(self, other: Self) -> Self {
        Two(self.0.prod(other.0), self.1.prod(other.1))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Two(self.0.min(other.0), self.1.min(other.1))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Two(self.0.max(other.0), self.1.max(other.1))
    }
}

impl<R: Twin> Float for Two<R> {
    #[inline(always)]
    fn half_sum(self, other: Self) -> Self {
        Two(self.0.half_sum(other.0), self.1.half_sum(other.1))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Two(self.0.div(other.0), self.1.div(other.1))
    }
    #[inline(always)]
    unsafe fn splat(p: *const u8) -> Self {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        let one = unsafe { R::splat(p) };
        Two(one, one)
    }
}

impl<R: Twin> Brain for Two<R> {
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Self {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        unsafe { R::load_bf16(p) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u8) {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        unsafe { R::store_bf16(self, p) }
    }
}
