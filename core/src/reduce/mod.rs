//! Reduction kernels: two or more sources, element by element, into one or more destinations.
//!
//! **Same bits.** Each element of a result depends on the elements of the sources at its place and on their order,
//! and on nothing else: not on the count, the alignment, the tiles, the level of the CPU, or on whether
//! [`Kernel::pair`] or [`Kernel::fold`] computed it. The one exception is *which* NaN a NaN is: its sign and payload
//! are unspecified. Integers wrap. Minimum and maximum yield NaN if any source is NaN, and order -0 before +0. The
//! 16-bit floats are summed, multiplied and divided in f32 over all sources, and rounded once, to nearest, ties to
//! even. A thread that has set its CPU to flush subnormals to zero, or to round otherwise, gets results of that kind.
//!
//! **Levels.** The kernels of AVX2 and AVX-512 are written by hand, for every dtype and operation; [`Level::detect`]
//! finds out once what the CPU has. 512-bit registers are used where
//! they save instructions: for the rest they were no faster from the caches and slower from memory. All other
//! targets use the portable kernels, which the compiler vectorises.
//!
//! # Safety
//! Tensors may lie in memory that other processes map, so kernels take raw pointers and make no reference from
//! them. The methods of [`Kernel`] say what their callers vouch for; the code here only steps through the memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
mod level;
mod op;
mod portable;
#[cfg(test)]
mod rounding;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod wide;

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::copy_nonoverlapping;

use crate::dtype::Element;
use lanes::{Each, Entry, Finish};

pub use level::Level;
pub use op::{Op, Unsupported};
pub(crate) use scalar::Scalar;

/// One operation on one dtype, with the kernels that this CPU runs fastest.
///
/// Making one costs a table look-up, so it may be made anew for each call.
///
/// ```
/// use sapwood_core::reduce::{Kernel, Op};
///
/// let kernel = Kernel::<f32>::new(Op::Avg)?;
/// let (mut mine, theirs) = ([1.0, 2.0, 3.0], [3.0, 2.0, 0.0]);
/// let dst = mine.as_mut_ptr();
/// // SAFETY: all pointers are to arrays of three, and the destination is exactly the first source.
/// unsafe { kernel.pair(dst, dst, theirs.as_ptr(), 3) };
/// assert_eq!(mine, [2.0, 2.0, 1.5]);
/// assert!(Kernel::<i32>::new(Op::Avg).is_err());
/// # Ok::<(), sapwood_core::reduce::Unsupported>(())
/// ```
#[derive(Clone, Copy)]
pub struct Kernel<T: Element> {
    /// For `REGISTER` bytes and more.
    wide: &'static Entry,
    /// For less.
    small: &'static Entry,
    op: Op,
    _elements: PhantomData<fn(T) -> T>,
}

/// Bytes of the widest register of any level: from so many bytes of a tensor on, every kernel may run.
const REGISTER: usize = 64;
/// Elements up to which a fold of more than a pair goes element by element.
const FEW: usize = 8;
/// Bytes of the running result of a fold. Small, because the CPU fetches the next tile of each source on its own
/// while the other sources are read: larger tiles were slower, most so for many sources in memory.
const TILE: usize = 2048;
/// Bytes between a refill and the reading of what it overwrites.
const REFILL: usize = 4096;

/// The running result of a fold, aligned for any register.
#[repr(C, align(64))]
struct Tile(MaybeUninit<[u8; TILE]>);

impl<T: Element> Kernel<T> {
    /// The kernel for this operation.
    ///
    /// # Errors
    /// [`Unsupported`] for the average of integers and for bit operations on floats.
    #[inline]
    pub fn new(op: Op) -> Result<Kernel<T>, Unsupported> {
        Kernel::of_level(op, Level::detect().min(T::BEST))
    }

    /// The kernel of one level, to test or measure it; nothing if this CPU does not have the level.
    ///
    /// # Errors
    /// As [`Kernel::new`].
    pub fn at_level(op: Op, level: Level) -> Result<Option<Kernel<T>>, Unsupported> {
        let kernel = Kernel::of_level(op, level.min(Level::detect()))?;
        Ok((level <= Level::detect()).then_some(kernel))
    }

    /// The level must be one that the CPU has.
    #[inline]
    fn of_level(op: Op, level: Level) -> Result<Kernel<T>, Unsupported> {
        let table = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => T::AVX512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => T::AVX2,
            _ => T::PORTABLE,
        };
        match (&table[op.index()], &T::PORTABLE[op.index()]) {
            (Some(wide), Some(small)) => Ok(Kernel { wide, small, op, _elements: PhantomData }),
            _ => Err(Unsupported { dtype: T::DTYPE, op }),
        }
    }

    /// The operation.
    pub fn op(&self) -> Op {
        self.op
    }

    #[inline(always)]
    fn entry(&self, n: usize) -> &'static Entry {
        if n >= REGISTER / size_of::<T>() { self.wide } else { self.small }
    }

    /// `dst[i] = a[i] op b[i]` for each i below `n`, finished: an average is divided by two.
    ///
    /// # Safety
    /// - `a` and `b` are aligned for `T`, can be read for `n` elements, and nobody writes these elements meanwhile,
    ///   nor reads or writes those of `dst`.
    /// - `dst` is aligned for `T` and can be written for `n` elements. It is exactly `a`, or exactly `b`, or overlaps
    ///   neither.
    #[inline]
    pub unsafe fn pair(&self, dst: *mut T, a: *const T, b: *const T, n: usize) {
        let entry = self.entry(n);
        // SAFETY: `entry` gave kernels that the CPU has and that n is enough for; the rest is the caller's promise.
        unsafe { call(entry.pair, entry, dst, a, b, n) }
    }

    /// [`Kernel::pair`], and then `refill[i] = from[i]` for each i below `m`; a source is overwritten just after it
    /// was read, while its lines are still in the first-level cache.
    ///
    /// # Safety
    /// As [`Kernel::pair`]; and `refill` is exactly `a` or exactly `b`, is not `dst`, and can be written for `m`
    /// elements; `from` is aligned, can be read for `m` elements, and overlaps none of what is written.
    #[allow(clippy::too_many_arguments)] // five ranges of memory, and two lengths for them
    pub unsafe fn pair_refill(
        &self,
        dst: *mut T,
        a: *const T,
        b: *const T,
        n: usize,
        refill: *mut T,
        from: *const T,
        m: usize,
    ) {
        let both = n.min(m);
        let mut i = 0;
        // SAFETY: every range lies within the first n or m elements that the caller vouches for. Each part of
        // `refill` is written after `pair` has read that part, and later parts of `pair` do not read it again.
        unsafe {
            while i < both {
                let len = (REFILL / size_of::<T>()).min(both - i);
                self.pair(dst.add(i), a.add(i), b.add(i), len);
                copy_nonoverlapping(from.add(i), refill.add(i), len);
                i += len;
            }
            self.pair(dst.add(both), a.add(both), b.add(both), n - both);
            copy_nonoverlapping(from.add(both), refill.add(both), m - both);
        }
    }

    /// `((src(0)[i] op src(1)[i]) op src(2)[i]) …` for each i below `n`, finished, into each of `dst(0)` …: an average
    /// is divided by the number of sources, and one source is copied.
    ///
    /// The functions are called with each index below `sources` and `dests`, more than once, and must answer alike
    /// each time.
    ///
    /// # Safety
    /// - `sources` is at least 1. Each `src(k)` is aligned for `T`, can be read for `n` elements, and nobody writes
    ///   these elements meanwhile, nor reads or writes those of a destination.
    /// - Each `dst(k)` is aligned for `T` and can be written for `n` elements. It is exactly one of the sources, or
    ///   overlaps none; and it is exactly another destination, or overlaps none.
    #[inline]
    pub unsafe fn fold(
        &self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    ) {
        debug_assert!(sources >= 1, "a fold needs a source");
        let entry = self.entry(n);
        // SAFETY: what the caller promises covers each case. `pair` and `dual` get two sources and destinations
        // that are each a source or apart; `dual` only gets destinations that differ, hence do not overlap.
        unsafe {
            if sources == 1 {
                for k in 0..dests {
                    copy(src(0), dst(k), n);
                }
            } else if sources == 2 && dests == 1 {
                call(entry.pair, entry, dst(0), src(0), src(1), n);
            } else if n <= FEW {
                self.fold_few(n, sources, src, dests, dst);
            } else if sources == 2 && dests == 2 && dst(0) != dst(1) {
                let (also, a, b) = (dst(1).cast(), src(0).cast(), src(1).cast());
                (entry.dual)(dst(0).cast(), also, a, b, n * entry.unit);
            } else if dests > 0 {
                self.fold_tiles(n, sources, src, dests, dst);
            }
        }
    }

    /// Element by element: for a few, this is over before a vector kernel has set out.
    ///
    /// # Safety
    /// As [`Kernel::fold`].
    #[inline]
    unsafe fn fold_few(
        &self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    ) {
        for i in 0..n {
            // SAFETY: i < n, for which the caller vouches; element i of all sources is read before it is written.
            unsafe {
                let mut result = src(0).add(i).read().widen();
                for k in 1..sources {
                    result = T::apply(self.op, result, src(k).add(i).read().widen());
                }
                let element = T::finish(self.op, result, sources);
                for k in 0..dests {
                    dst(k).add(i).write(element);
                }
            }
        }
    }

    /// Tile by tile, with the running result on the stack.
    ///
    /// # Safety
    /// As [`Kernel::fold`], with at least two sources and one destination.
    unsafe fn fold_tiles(
        &self,
        n: usize,
        sources: usize,
        src: impl Fn(usize) -> *const T,
        dests: usize,
        dst: impl Fn(usize) -> *mut T,
    ) {
        let mut tile = Tile(MaybeUninit::uninit());
        let numbers = tile.0.as_mut_ptr().cast::<T::Number>();
        let count = T::count(sources);
        let step = TILE / size_of::<T::Number>();
        let mut i = 0;
        while i < n {
            let len = step.min(n - i);
            let entry = self.entry(len);
            let at = |k| src(k).wrapping_add(i);
            let to = dst(0).wrapping_add(i);
            // SAFETY: elements i..i + len are among the n that the caller vouches for, and as many numbers fit into
            // the tile, which nobody else knows. `to` is written when all sources but the last were read for these
            // elements; the last is read before that too, or by the very kernel that writes `to`, which allows it.
            unsafe {
                match (&entry.finish, sources) {
                    (_, 2) => call(entry.pair, entry, to, at(0), at(1), len),
                    (Finish::Last(last), _) => {
                        accumulate(entry, numbers, at, sources - 1, len);
                        call(*last, entry, to, numbers, at(sources - 1), len);
                    }
                    (Finish::Divide(divide), _) => {
                        accumulate(entry, numbers, at, sources, len);
                        call(*divide, entry, to, numbers, &raw const count, len);
                    }
                }
                for k in 1..dests {
                    copy(to, dst(k).wrapping_add(i), len);
                }
            }
            i += len;
        }
    }
}

/// The running result of the first `sources` sources, at least two, into `numbers`.
///
/// # Safety
/// The CPU has the entry's level and `n` is enough for it. Each `at(k)` can be read for `n` elements, `numbers`
/// written for as many numbers, and they do not overlap.
#[inline]
unsafe fn accumulate<T: Element>(
    entry: &Entry,
    numbers: *mut T::Number,
    at: impl Fn(usize) -> *const T,
    sources: usize,
    n: usize,
) {
    // SAFETY: as the caller promises; from the second step on the destination is exactly the left operand.
    unsafe {
        call(entry.first, entry, numbers, at(0), at(1), n);
        for k in 2..sources {
            call(entry.step, entry, numbers, numbers, at(k), n);
        }
    }
}

/// Whether all is aligned and the destinations lie as [`Kernel::fold`] asks for: exactly on another range or apart. For
/// assertions where the addresses come from other processes.
pub(crate) fn apart<T>(
    n: usize,
    sources: usize,
    src: &impl Fn(usize) -> *const T,
    dests: usize,
    dst: &impl Fn(usize) -> *mut T,
) -> bool {
    let fits = |a: *const T, b: *const T| {
        a.is_aligned() && b.is_aligned() && (a == b || a.addr().abs_diff(b.addr()) >= n * size_of::<T>())
    };
    (0..dests).all(|d| {
        let to = dst(d).cast_const();
        (0..sources).all(|s| fits(to, src(s))) && (0..d).all(|e| fits(to, dst(e).cast_const()))
    })
}

/// A kernel of `entry` for `n` elements.
///
/// # Safety
/// As [`lanes::Isa::each`], for the kernel given.
#[inline(always)]
unsafe fn call<D, A, B>(kernel: Each, entry: &Entry, dst: *mut D, a: *const A, b: *const B, n: usize) {
    // SAFETY: the contract of the kernel is the caller's promise.
    unsafe { kernel(dst.cast(), a.cast(), b.cast(), n * entry.unit) }
}

/// # Safety
/// `n` elements can be read at `from` and written at `to`, which are the same or do not overlap.
#[inline]
unsafe fn copy<T>(from: *const T, to: *mut T, n: usize) {
    if !core::ptr::eq(from, to) {
        // SAFETY: the caller promises both ranges, and they are not the same, so they do not overlap.
        unsafe { copy_nonoverlapping(from, to, n) }
    }
}

impl<T: Element> fmt::Debug for Kernel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("dtype", &T::DTYPE).field("op", &self.op).finish_non_exhaustive()
    }
}
