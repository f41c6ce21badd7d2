//! Kernels of 256-bit registers, for CPUs with AVX2 and F16C, and the question to the CPU what it has.
//!
//! # Safety
//! Intrinsics may only run on a CPU that has them. A register here is proof of it: only the unsafe constructors of
//! `Lanes` and its kin make one, and the table of these kernels is only reached after [`supported`] said
//! yes.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::Level;
use super::lanes::{Apply, Bits, Float, Half, Isa, Lanes, Number, Sink, Source};
use super::wide::{Twin, Two, strip};

/// What this CPU has and this system saves on a switch of threads.
pub(super) fn supported() -> Level {
    const OSXSAVE_AVX_F16C: u32 = 1 << 27 | 1 << 28 | 1 << 29; // leaf 1, ecx
    const AVX2: u32 = 1 << 5; // leaf 7, ebx
    const AVX512_F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31; // leaf 7, ebx
    const XMM_YMM: u64 = 0b110; // state that the system saves
    const ZMM: u64 = 0b1110_0000; // masks, upper halves, upper sixteen

    let has = |word: u32, bits: u32| word & bits == bits;
    if cpuid(0).eax < 7 || !has(cpuid(1).ecx, OSXSAVE_AVX_F16C) {
        return Level::Portable;
    }
    // SAFETY: the bit OSXSAVE, just seen, says that the system has enabled this instruction.
    let saved = unsafe { _xgetbv(0) };
    let features = cpuid(7).ebx;
    if saved & XMM_YMM != XMM_YMM || !has(features, AVX2) {
        Level::Portable
    } else if saved & ZMM != ZMM || !has(features, AVX512_F_DQ_BW_VL) {
        Level::Avx2
    } else {
        Level::Avx512
    }
}

#[allow(unused_unsafe)] // newer compilers know that the instruction is always there on x86_64
fn cpuid(leaf: u32) -> CpuidResult {
    // SAFETY: every CPU of this architecture has the instruction.
    unsafe { __cpuid_count(leaf, 0) }
}

/// The level of 256-bit registers.
#[derive(Debug)]
pub(super) struct Avx2;

impl Isa for Avx2 {
    type I8 = I8x32;
    type I16 = I16x16;
    type I32 = I32x8;
    type I64 = I64x4;
    type U8 = U8x32;
    type U16 = U16x16;
    type U32 = U32x8;
    type U64 = U64x4;
    type F32 = F32x8;
    type F64 = F64x4;
    type Bf16 = Two<F32x8>;

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn each<D: Sink<R>, A: Source<R>, B: Source<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    ) {
        // SAFETY: the contracts are the same.
        unsafe { strip::<D, A, B, R, O, false>(dst, dst, a, b, n) }
    }

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn dual<S: Sink<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        also: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    ) {
        // SAFETY: the contracts are the same.
        unsafe { strip::<S, S, S, R, O, true>(dst, also, a, b, n) }
    }
}

macro_rules! register {
    ($($name:ident($raw:ty) of $n:literal: $sum:ident $prod:ident $min:ident $max:ident;)*) => {
        $(
            #[derive(Debug, Clone, Copy)]
            pub(super) struct $name($raw);

            impl Lanes for $name {
                const N: usize = $n;
                #[inline(always)]
                unsafe fn load(p: *const u8) -> Self {
                    // SAFETY: the caller promises that N numbers, one register, can be read.
                    Self(unsafe { p.cast::<$raw>().read_unaligned() })
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut u8) {
                    // SAFETY: the caller promises room for N numbers, one register.
                    unsafe { p.cast::<$raw>().write_unaligned(self.0) }
                }
            }

            impl Number for $name {
                #[inline(always)]
                fn sum(self, other: Self) -> Self {
                    // SAFETY: `self` exists, so the CPU has the instructions.
                    Self(unsafe { $sum(self.0, other.0) })
                }
                #[inline(always)]
                fn prod(self, other: Self) -> Self {
                    // SAFETY: `self` exists, so the CPU has the instructions.
                    Self(unsafe { $prod(self.0, other.0) })
                }
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    // SAFETY: `self` exists, so the CPU has the instructions.
                    Self(unsafe { $min(self.0, other.0) })
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    // SAFETY: `self` exists, so the CPU has the instructions.
                    Self(unsafe { $max(self.0, other.0) })
                }
            }
        )*
    };
}
pub(super) use register;

macro_rules! bits {
    ($name:ident: $and:ident $or:ident $xor:ident) => {
        impl Bits for $name {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                // SAFETY: `self` exists, so the CPU has the instruction.
                Self(unsafe { $and(self.0, other.0) })
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                // SAFETY: `self` exists, so the CPU has the instruction.
                Self(unsafe { $or(self.0, other.0) })
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                // SAFETY: `self` exists, so the CPU has the instruction.
                Self(unsafe { $xor(self.0, other.0) })
            }
        }
    };
}
pub(super) use bits;

macro_rules! float {
    ($name:ident of $t:ty: $add:ident $mul:ident $div:ident $set1:ident) => {
        impl Float for $name {
            #[inline(always)]
            fn half_sum(self, other: Self) -> Self {
                // SAFETY: `self` exists, so the CPU has the instructions.
                Self(unsafe { $mul($add(self.0, other.0), $set1(0.5)) })
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                // SAFETY: `self` exists, so the CPU has the instruction.
                Self(unsafe { $div(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn splat(p: *const u8) -> Self {
                // SAFETY: the caller promises the instruction and one readable, aligned number.
                Self(unsafe { $set1(p.cast::<$t>().read()) })
            }
        }
    };
}
pub(super) use float;

register! {
    U8x32(__m256i) of 32: _mm256_add_epi8 mul_epi8 _mm256_min_epu8 _mm256_max_epu8;
    I8x32(__m256i) of 32: _mm256_add_epi8 mul_epi8 _mm256_min_epi8 _mm256_max_epi8;
    U16x16(__m256i) of 16: _mm256_add_epi16 _mm256_mullo_epi16 _mm256_min_epu16 _mm256_max_epu16;
    I16x16(__m256i) of 16: _mm256_add_epi16 _mm256_mullo_epi16 _mm256_min_epi16 _mm256_max_epi16;
    U32x8(__m256i) of 8: _mm256_add_epi32 _mm256_mullo_epi32 _mm256_min_epu32 _mm256_max_epu32;
    I32x8(__m256i) of 8: _mm256_add_epi32 _mm256_mullo_epi32 _mm256_min_epi32 _mm256_max_epi32;
    U64x4(__m256i) of 4: _mm256_add_epi64 mul_epi64 min_epu64 max_epu64;
    I64x4(__m256i) of 4: _mm256_add_epi64 mul_epi64 min_epi64 max_epi64;
    F32x8(__m256) of 8: _mm256_add_ps _mm256_mul_ps min_ps max_ps;
    F64x4(__m256d) of 4: _mm256_add_pd _mm256_mul_pd min_pd max_pd;
}

bits!(U8x32: _mm256_and_si256 _mm256_or_si256 _mm256_xor_si256);
float!(F32x8 of f32: _mm256_add_ps _mm256_mul_ps _mm256_div_ps _mm256_set1_ps);
float!(F64x4 of f64: _mm256_add_pd _mm256_mul_pd _mm256_div_pd _mm256_set1_pd);

impl Half for F32x8 {
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self {
        // SAFETY: the caller promises the instructions and eight readable elements, 16 bytes.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u8) {
        // SAFETY: `self` exists, so the CPU has the instructions; the caller promises room for eight, 16 bytes.
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
}

/// The first register has elements 0 … 3 and 8 … 11, the second 4 … 7 and 12 … 15: so the instructions that pack and
/// unpack within halves of a register share them out.
impl Twin for F32x8 {
    #[inline(always)]
    unsafe fn load_two(p: *const u8) -> Two<Self> {
        // SAFETY: the caller promises the instructions and two registers of readable numbers.
        unsafe {
            let (low, high) = (Self::load(p).0, Self::load(p.add(32)).0);
            Two(
                Self(_mm256_permute2f128_ps::<0x20>(low, high)),
                Self(_mm256_permute2f128_ps::<0x31>(low, high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_two(two: Two<Self>, p: *mut u8) {
        // SAFETY: `two` exists, so the CPU has the instructions; the caller promises room for two registers.
        unsafe {
            Self(_mm256_permute2f128_ps::<0x20>(two.0.0, two.1.0)).store(p);
            Self(_mm256_permute2f128_ps::<0x31>(two.0.0, two.1.0)).store(p.add(32));
        }
    }
    /// A bf16 is the upper half of an f32.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Two<Self> {
        // SAFETY: the caller promises the instructions and sixteen readable elements, 32 bytes.
        unsafe {
            let (zero, halves) = (_mm256_setzero_si256(), _mm256_loadu_si256(p.cast()));
            Two(
                Self(_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, halves))),
                Self(_mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, halves))),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(two: Two<Self>, p: *mut u8) {
        // SAFETY: `two` exists, so the CPU has the instructions; the caller promises room for sixteen, 32 bytes.
        unsafe {
            let halves = _mm256_packus_epi32(ps_to_bf16(two.0.0), ps_to_bf16(two.1.0));
            _mm256_storeu_si256(p.cast(), halves);
        }
    }
}

/// A bf16 in the lower half of each number, zeros above. To nearest, ties to even: a carry out of the lower half
/// reaches the upper one if the lower is above one half, or is one half and the upper is odd. NaNs keep their upper
/// half and become quiet.
#[inline]
#[target_feature(enable = "avx2")]
fn ps_to_bf16(x: __m256) -> __m256i {
    let bits = _mm256_castps_si256(x);
    let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let carried = _mm256_add_epi32(bits, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
    _mm256_srli_epi32::<16>(_mm256_blendv_epi8(carried, quiet, nan))
}

/// The instruction yields its second operand for two zeros and for a NaN. Asked both ways, the answers are alike or
/// they are just those cases, and then `or` yields -0 if there is one, or a NaN.
#[inline]
#[target_feature(enable = "avx2")]
fn min_ps(a: __m256, b: __m256) -> __m256 {
    _mm256_or_ps(_mm256_min_ps(a, b), _mm256_min_ps(b, a))
}

/// As [`min_ps`], but `and` prefers +0, and a NaN must be put back.
#[inline]
#[target_feature(enable = "avx2")]
fn max_ps(a: __m256, b: __m256) -> __m256 {
    let max = _mm256_and_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a));
    _mm256_or_ps(max, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b))
}

/// As [`min_ps`].
#[inline]
#[target_feature(enable = "avx2")]
fn min_pd(a: __m256d, b: __m256d) -> __m256d {
    _mm256_or_pd(_mm256_min_pd(a, b), _mm256_min_pd(b, a))
}

/// As [`max_ps`].
#[inline]
#[target_feature(enable = "avx2")]
fn max_pd(a: __m256d, b: __m256d) -> __m256d {
    let max = _mm256_and_pd(_mm256_max_pd(a, b), _mm256_max_pd(b, a));
    _mm256_or_pd(max, _mm256_cmp_pd::<_CMP_UNORD_Q>(a, b))
}

/// The lower bytes of 16-bit products, once for the even bytes and once for the odd ones.
#[inline]
#[target_feature(enable = "avx2")]
fn mul_epi8(a: __m256i, b: __m256i) -> __m256i {
    let even = _mm256_and_si256(_mm256_mullo_epi16(a, b), _mm256_set1_epi16(0xff));
    let odd = _mm256_mullo_epi16(_mm256_srli_epi16::<8>(a), _mm256_srli_epi16::<8>(b));
    _mm256_or_si256(even, _mm256_slli_epi16::<8>(odd))
}

/// Long multiplication in digits of 32 bits, without the product of the upper ones, which lies above 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn mul_epi64(a: __m256i, b: __m256i) -> __m256i {
    let lower = _mm256_mul_epu32(a, b);
    let cross = _mm256_add_epi64(
        _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), b),
        _mm256_mul_epu32(a, _mm256_srli_epi64::<32>(b)),
    );
    _mm256_add_epi64(lower, _mm256_slli_epi64::<32>(cross))
}

#[inline]
#[target_feature(enable = "avx2")]
fn min_epi64(a: __m256i, b: __m256i) -> __m256i {
    _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn max_epi64(a: __m256i, b: __m256i) -> __m256i {
    _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b))
}

/// Unsigned order is signed order with the upper bit flipped.
#[inline]
#[target_feature(enable = "avx2")]
fn greater_epu64(a: __m256i, b: __m256i) -> __m256i {
    let flip = _mm256_set1_epi64x(i64::MIN);
    _mm256_cmpgt_epi64(_mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip))
}

#[inline]
#[target_feature(enable = "avx2")]
fn min_epu64(a: __m256i, b: __m256i) -> __m256i {
    _mm256_blendv_epi8(a, b, greater_epu64(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn max_epu64(a: __m256i, b: __m256i) -> __m256i {
    _mm256_blendv_epi8(b, a, greater_epu64(a, b))
}
