//! Kernels for any target: a register is one number, and the loops are written so that the compiler vectorises them.
//!
//! # Safety
//! Numbers are read and written through erased pointers into memory that other processes may map; the callers'
//! contracts in `lanes` say what they vouch for.
#![allow(unsafe_code)]

use super::lanes::{Apply, Bits, Brain, Float, Half, Isa, Lanes, Number, Sink, Source};

/// The portable level.
#[derive(Debug)]
pub(super) struct Portable;

impl Isa for Portable {
    type I8 = i8;
    type I16 = i16;
    type I32 = i32;
    type I64 = i64;
    type U8 = u8;
    type U16 = u16;
    type U32 = u32;
    type U64 = u64;
    type F32 = f32;
    type F64 = f64;
    type Bf16 = f32;

    /// The three loops differ only in which pointers are one. Told apart, the compiler's test for overlap passes
    /// also in place, and the loop runs vectorised.
    unsafe fn each<D: Sink<R>, A: Source<R>, B: Source<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    ) {
        debug_assert!(R::N == 1);
        // SAFETY: index i lies i strides in, and the caller vouches for the first n elements of all three. Where
        // `dst` is `a` or `b` it has that one's form, and element i is read before it is written.
        unsafe {
            if B::STRIDE == 0 {
                let right = B::load(b);
                for i in 0..n {
                    D::store(dst.add(i * D::STRIDE), O::apply(A::load(a.add(i * A::STRIDE)), right));
                }
            } else if core::ptr::eq(dst, a) {
                for i in 0..n {
                    let at = dst.add(i * D::STRIDE);
                    D::store(at, O::apply(A::load(at), B::load(b.add(i * B::STRIDE))));
                }
            } else if core::ptr::eq(dst, b) {
                for i in 0..n {
                    let at = dst.add(i * D::STRIDE);
                    D::store(at, O::apply(A::load(a.add(i * A::STRIDE)), B::load(at)));
                }
            } else {
                for i in 0..n {
                    let left = A::load(a.add(i * A::STRIDE));
                    D::store(dst.add(i * D::STRIDE), O::apply(left, B::load(b.add(i * B::STRIDE))));
                }
            }
        }
    }

    unsafe fn dual<S: Sink<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        also: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    ) {
        let tile = 2048 / S::STRIDE;
        let mut i = 0;
        while i < n {
            let len = tile.min(n - i);
            let at = i * S::STRIDE;
            // SAFETY: elements i..i + len are among the n that the caller vouches for; `dst` and `also` do not
            // overlap, and where `also` is a source, `each` has read these elements before the copy writes them.
            unsafe {
                Self::each::<S, S, S, R, O>(dst.add(at), a.add(at), b.add(at), len);
                core::ptr::copy_nonoverlapping(dst.add(at).cast_const(), also.add(at), len * S::STRIDE);
            }
            i += len;
        }
    }
}

macro_rules! lane {
    ($($t:ty),*) => {
        $(
            impl Lanes for $t {
                const N: usize = 1;
                #[inline(always)]
                unsafe fn load(p: *const u8) -> Self {
                    // SAFETY: the caller promises one readable, aligned number, and any bits are a value.
                    unsafe { p.cast::<$t>().read() }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut u8) {
                    // SAFETY: the caller promises room for one aligned number.
                    unsafe { p.cast::<$t>().write(self) }
                }
            }
        )*
    };
}

lane!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);

macro_rules! integer {
    ($($t:ty),*) => {
        $(
            impl Number for $t {
                #[inline(always)]
                fn sum(self, other: Self) -> Self {
                    self.wrapping_add(other)
                }
                #[inline(always)]
                fn prod(self, other: Self) -> Self {
                    self.wrapping_mul(other)
                }
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    Ord::min(self, other)
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    Ord::max(self, other)
                }
            }

            impl Bits for $t {
                #[inline(always)]
                fn and(self, other: Self) -> Self {
                    self & other
                }
                #[inline(always)]
                fn or(self, other: Self) -> Self {
                    self | other
                }
                #[inline(always)]
                fn xor(self, other: Self) -> Self {
                    self ^ other
                }
            }
        )*
    };
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float {
    ($($t:ty),*) => {
        $(
            impl Number for $t {
                #[inline(always)]
                fn sum(self, other: Self) -> Self {
                    self + other
                }
                #[inline(always)]
                fn prod(self, other: Self) -> Self {
                    self * other
                }
                /// Without a branch, so that it vectorises. Neither is less if they are equal, zeros of either sign,
                /// or not comparable: then `|` of the bits yields the number, -0 if there is one, or a NaN.
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    let both = <$t>::from_bits(self.to_bits() | other.to_bits());
                    let rest = if other < self { other } else { both };
                    if self < other { self } else { rest }
                }
                /// As `min`, but `&` of the bits prefers +0, and would not keep a NaN.
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    let (x, y) = (self.to_bits(), other.to_bits());
                    let both = <$t>::from_bits(if self == other { x & y } else { x | y });
                    let rest = if other > self { other } else { both };
                    if self > other { self } else { rest }
                }
            }

            impl Float for $t {
                #[inline(always)]
                fn half_sum(self, other: Self) -> Self {
                    (self + other) * 0.5
                }
                #[inline(always)]
                fn div(self, other: Self) -> Self {
                    self / other
                }
                #[inline(always)]
                unsafe fn splat(p: *const u8) -> Self {
                    // SAFETY: the caller promises one readable, aligned number.
                    unsafe { Self::load(p) }
                }
            }
        )*
    };
}

float!(f32, f64);

impl Half for f32 {
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self {
        // SAFETY: the caller promises one readable, aligned f16, which is laid out as a u16.
        f16_to_f32(unsafe { p.cast::<u16>().read() })
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u8) {
        // SAFETY: the caller promises room for one aligned f16, which is laid out as a u16.
        unsafe { p.cast::<u16>().write(f32_to_f16(self)) }
    }
}

impl Brain for f32 {
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Self {
        // SAFETY: the caller promises one readable, aligned bf16, which is laid out as a u16.
        bf16_to_f32(unsafe { p.cast::<u16>().read() })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u8) {
        // SAFETY: the caller promises room for one aligned bf16, which is laid out as a u16.
        unsafe { p.cast::<u16>().write(f32_to_bf16(self)) }
    }
}

/// Exact. Without a branch, so that it vectorises.
#[inline(always)]
pub(super) fn f16_to_f32(h: u16) -> f32 {
    let magnitude = u32::from(h & 0x7fff);
    // Subnormals count in units of 2^-24, and this product is exact.
    let tiny = (magnitude as f32 * f32::from_bits(0x3380_0000)).to_bits();
    let normal = (magnitude << 13) + (112 << 23); // the bias grows from 15 to 127
    let huge = normal + (112 << 23); // infinities and NaNs: the exponent becomes 255
    let rest = if magnitude < 0x7c00 { normal } else { huge };
    let bits = if magnitude < 0x0400 { tiny } else { rest };
    f32::from_bits(bits | u32::from(h & 0x8000) << 16)
}

/// To nearest, ties to even; NaNs become quiet. Without a branch, so that it vectorises.
#[inline(always)]
pub(super) fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // In 0.5 + y the last bit of the fraction counts 2^-24, the unit of f16 subnormals: the addition does the rounding.
    let tiny = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let even = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0x0fff + even) >> 13;
    let normal = if normal < 0x7c00 { normal } else { 0x7c00 }; // too large for f16, or infinite
    let finite = if magnitude < 0x3880_0000 { tiny } else { normal };
    let nan = 0x7e00 | ((magnitude >> 13) & 0x03ff);
    let result = if magnitude > 0x7f80_0000 { nan } else { finite };
    (result | (bits >> 16 & 0x8000)) as u16
}

#[inline(always)]
pub(super) fn bf16_to_f32(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

/// To nearest, ties to even; NaNs become quiet. Without a branch, so that it vectorises.
#[inline(always)]
pub(super) fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let even = (bits >> 16) & 1;
    let rounded = bits.wrapping_add(0x7fff + even) >> 16;
    let nan = bits >> 16 | 0x0040;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}
