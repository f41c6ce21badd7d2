//! What the kernels of all levels share: registers, the forms in which elements lie in memory, the operations, and
//! the table of kernels that follows from them.
//!
//! A level of the CPU supplies register types ([`Isa`]); a portable register is simply one number. A kernel is
//! `destination ← left ∘ right` for one operation and three forms of memory, so that f16 needs no code of its own:
//! it is f32 arithmetic between other loads and stores.
//!
//! # Safety
//! Kernels take erased pointers, because a tensor may lie in memory that other processes map: no reference to it may
//! ever exist. The caller of a kernel vouches for the memory; this file only steps through it.
#![allow(unsafe_code)]

/// A register of `N` numbers.
///
/// A value exists only on a CPU that has the register: only `load`, `splat` and the like make one, and their callers
/// vouch for the CPU. Arithmetic on existing values is therefore safe.
pub(super) trait Lanes: Copy {
    /// Numbers a register holds.
    const N: usize;
    /// Bytes of one number.
    const SIZE: usize = size_of::<Self>() / Self::N;

    /// # Safety
    /// The CPU has this register, and `N` numbers can be read at `p`, which is aligned to one number.
    unsafe fn load(p: *const u8) -> Self;

    /// # Safety
    /// `N` numbers can be written at `p`, which is aligned to one number.
    unsafe fn store(self, p: *mut u8);
}

/// Arithmetic that every dtype has. Integers wrap; see [`Op`](super::Op) for NaN and signed zeros.
pub(super) trait Number: Lanes {
    fn sum(self, other: Self) -> Self;
    fn prod(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
}

/// Bit operations.
pub(super) trait Bits: Lanes {
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
}

/// What an average needs.
pub(super) trait Float: Number {
    /// Half of the sum: the average of two, and the same bits as the sum divided by 2.
    fn half_sum(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;

    /// # Safety
    /// The CPU has this register, and one aligned number can be read at `p`.
    unsafe fn splat(p: *const u8) -> Self;
}

/// f32 registers that do the arithmetic of f16.
pub(super) trait Half: Float {
    /// # Safety
    /// As [`Lanes::load`], for `N` elements of f16.
    unsafe fn load_f16(p: *const u8) -> Self;
    /// Rounds to nearest, ties to even.
    ///
    /// # Safety
    /// As [`Lanes::store`], for `N` elements of f16.
    unsafe fn store_f16(self, p: *mut u8);
}

/// f32 registers that do the arithmetic of bf16.
pub(super) trait Brain: Float {
    /// # Safety
    /// As [`Lanes::load`], for `N` elements of bf16.
    unsafe fn load_bf16(p: *const u8) -> Self;
    /// Rounds to nearest, ties to even.
    ///
    /// # Safety
    /// As [`Lanes::store`], for `N` elements of bf16.
    unsafe fn store_bf16(self, p: *mut u8);
}

/// How elements lie in the memory that a kernel reads.
pub(super) trait Source<R: Lanes> {
    /// Bytes from one element to the next.
    const STRIDE: usize;

    /// # Safety
    /// As [`Lanes::load`], for elements in this form.
    unsafe fn load(p: *const u8) -> R;
}

/// How elements lie in the memory that a kernel writes.
pub(super) trait Sink<R: Lanes>: Source<R> {
    /// # Safety
    /// As [`Lanes::store`], for elements in this form.
    unsafe fn store(p: *mut u8, r: R);
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident: $bound:ident, $stride:expr, $load:ident, $store:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl<R: $bound> Source<R> for $name {
            const STRIDE: usize = $stride;
            #[inline(always)]
            unsafe fn load(p: *const u8) -> R {
                // SAFETY: the contract of the function called is the caller's promise, word for word.
                unsafe { R::$load(p) }
            }
        }

        impl<R: $bound> Sink<R> for $name {
            #[inline(always)]
            unsafe fn store(p: *mut u8, r: R) {
                // SAFETY: the contract of the function called is the caller's promise, word for word.
                unsafe { r.$store(p) }
            }
        }
    };
}

form!(
    /// Elements are the numbers of the register.
    Plain: Lanes, R::SIZE, load, store
);
form!(
    /// Elements are f16, numbers f32.
    F16: Half, 2, load_f16, store_f16
);
form!(
    /// Elements are bf16, numbers f32.
    Bf16: Brain, 2, load_bf16, store_bf16
);

/// One number stands for all elements.
#[derive(Debug)]
pub(super) struct Splat;

impl<R: Float> Source<R> for Splat {
    const STRIDE: usize = 0;
    #[inline(always)]
    unsafe fn load(p: *const u8) -> R {
        // SAFETY: the contract of the function called is the caller's promise, word for word.
        unsafe { R::splat(p) }
    }
}

/// An operation as a type, so that each kernel is compiled for one operation.
pub(super) trait Apply<R> {
    fn apply(a: R, b: R) -> R;
}

macro_rules! operation {
    ($($name:ident: $bound:ident, $method:ident;)*) => {
        $(
            #[derive(Debug)]
            pub(super) struct $name;
            impl<R: $bound> Apply<R> for $name {
                #[inline(always)]
                fn apply(a: R, b: R) -> R {
                    a.$method(b)
                }
            }
        )*
    };
}

operation! {
    Sum: Number, sum;
    Prod: Number, prod;
    Min: Number, min;
    Max: Number, max;
    HalfSum: Float, half_sum;
    Div: Float, div;
    And: Bits, and;
    Or: Bits, or;
    Xor: Bits, xor;
}

/// `dst[i] = left[i] ∘ right[i]` for i below the count.
pub(super) type Each = unsafe fn(dst: *mut u8, left: *const u8, right: *const u8, n: usize);

/// The same, written to two places.
pub(super) type Dual = unsafe fn(dst: *mut u8, also: *mut u8, left: *const u8, right: *const u8, n: usize);

/// The registers of one level of the CPU, and its two loops.
pub(super) trait Isa {
    type I8: Number;
    type I16: Number;
    type I32: Number;
    type I64: Number;
    type U8: Number + Bits;
    type U16: Number;
    type U32: Number;
    type U64: Number;
    type F32: Half;
    type F64: Float;
    /// The arithmetic of bf16.
    type Bf16: Brain;

    /// # Safety
    /// The CPU has this level, and `n >= R::N`. `n` elements can be read at `a` and `b` and written at `dst`, each in
    /// its form and aligned to it. `dst` is exactly `a` or `b`, with the same form, or overlaps neither.
    unsafe fn each<D: Sink<R>, A: Source<R>, B: Source<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    );

    /// # Safety
    /// As [`Isa::each`], for each of `dst` and `also`, which do not overlap.
    unsafe fn dual<S: Sink<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        also: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    );
}

/// The kernels of one operation on one dtype. "Number" is the type of the running result: f32 for the 16-bit floats,
/// else the element itself.
#[derive(Debug)]
pub struct Entry {
    /// Elements ← element ∘ element, finished for two sources.
    pub(super) pair: Each,
    /// `pair` into two places.
    pub(super) dual: Dual,
    /// Numbers ← element ∘ element.
    pub(super) first: Each,
    /// Numbers ← number ∘ element.
    pub(super) step: Each,
    /// From the numbers of all sources but the last to finished elements.
    pub(super) finish: Finish,
    /// What the kernels count for one element of the dtype: 1, or its bytes where they work on bytes.
    pub(super) unit: usize,
}

/// How a fold ends.
#[derive(Debug)]
pub(super) enum Finish {
    /// Elements ← number ∘ element of the last source.
    Last(Each),
    /// `step` with the last source, then elements ← number / count, where the right operand is the one count.
    Divide(Each),
}

/// The kernels of one dtype at one level, in the order of [`Op::ALL`](super::Op::ALL).
pub(super) type Table = [Option<Entry>; 8];

const fn entry<I: Isa, S: Sink<R>, R: Lanes, O: Apply<R>>(unit: usize) -> Option<Entry> {
    Some(Entry {
        pair: I::each::<S, S, S, R, O>,
        dual: I::dual::<S, R, O>,
        first: I::each::<Plain, S, S, R, O>,
        step: I::each::<Plain, Plain, S, R, O>,
        finish: Finish::Last(I::each::<S, Plain, S, R, O>),
        unit,
    })
}

const fn average<I: Isa, S: Sink<R>, R: Float>() -> Option<Entry> {
    Some(Entry {
        pair: I::each::<S, S, S, R, HalfSum>,
        dual: I::dual::<S, R, HalfSum>,
        first: I::each::<Plain, S, S, R, Sum>,
        step: I::each::<Plain, Plain, S, R, Sum>,
        finish: Finish::Divide(I::each::<S, Plain, Splat, R, Div>),
        unit: 1,
    })
}

/// The table of an integer dtype with `size` bytes: `R` compares, `W` is the unsigned type of that size, whose
/// wrapping sums and products are those of the signed one, and bits are done bytewise for all.
pub(super) const fn integers<I: Isa, R: Number, W: Number>(size: usize) -> Table {
    [
        entry::<I, Plain, W, Sum>(1),
        entry::<I, Plain, W, Prod>(1),
        entry::<I, Plain, R, Min>(1),
        entry::<I, Plain, R, Max>(1),
        None,
        entry::<I, Plain, I::U8, And>(size),
        entry::<I, Plain, I::U8, Or>(size),
        entry::<I, Plain, I::U8, Xor>(size),
    ]
}

/// The table of a float dtype that lies in memory in the form `S`.
pub(super) const fn floats<I: Isa, S: Sink<R>, R: Float>() -> Table {
    [
        entry::<I, S, R, Sum>(1),
        entry::<I, S, R, Prod>(1),
        entry::<I, S, R, Min>(1),
        entry::<I, S, R, Max>(1),
        average::<I, S, R>(),
        None,
        None,
        None,
    ]
}
