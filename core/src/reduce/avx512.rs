//! Kernels of 512-bit registers, for CPUs with AVX-512 F, BW, DQ and VL.
//!
//! # Safety
//! Intrinsics may only run on a CPU that has them. A register here is proof of it, as in `avx2`.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::avx2::{bits, float, register};
use super::lanes::{Apply, Bits, Float, Half, Isa, Lanes, Number, Sink, Source};
use super::wide::{Twin, Two, strip};

/// The level of 512-bit registers.
#[derive(Debug)]
pub(super) struct Avx512;

impl Isa for Avx512 {
    type I8 = I8x64;
    type I16 = I16x32;
    type I32 = I32x16;
    type I64 = I64x8;
    type U8 = U8x64;
    type U16 = U16x32;
    type U32 = U32x16;
    type U64 = U64x8;
    type F32 = F32x16;
    type F64 = F64x8;
    type Bf16 = Two<F32x16>;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn each<D: Sink<R>, A: Source<R>, B: Source<R>, R: Lanes, O: Apply<R>>(
        dst: *mut u8,
        a: *const u8,
        b: *const u8,
        n: usize,
    ) {
        // SAFETY: the contracts are the same.
        unsafe { strip::<D, A, B, R, O, false>(dst, dst, a, b, n) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
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

register! {
    U8x64(__m512i) of 64: _mm512_add_epi8 mul_epi8 _mm512_min_epu8 _mm512_max_epu8;
    I8x64(__m512i) of 64: _mm512_add_epi8 mul_epi8 _mm512_min_epi8 _mm512_max_epi8;
    U16x32(__m512i) of 32: _mm512_add_epi16 _mm512_mullo_epi16 _mm512_min_epu16 _mm512_max_epu16;
    I16x32(__m512i) of 32: _mm512_add_epi16 _mm512_mullo_epi16 _mm512_min_epi16 _mm512_max_epi16;
    U32x16(__m512i) of 16: _mm512_add_epi32 _mm512_mullo_epi32 _mm512_min_epu32 _mm512_max_epu32;
    I32x16(__m512i) of 16: _mm512_add_epi32 _mm512_mullo_epi32 _mm512_min_epi32 _mm512_max_epi32;
    U64x8(__m512i) of 8: _mm512_add_epi64 _mm512_mullo_epi64 _mm512_min_epu64 _mm512_max_epu64;
    I64x8(__m512i) of 8: _mm512_add_epi64 _mm512_mullo_epi64 _mm512_min_epi64 _mm512_max_epi64;
    F32x16(__m512) of 16: _mm512_add_ps _mm512_mul_ps min_ps max_ps;
    F64x8(__m512d) of 8: _mm512_add_pd _mm512_mul_pd min_pd max_pd;
}

bits!(U8x64: _mm512_and_si512 _mm512_or_si512 _mm512_xor_si512);
float!(F32x16 of f32: _mm512_add_ps _mm512_mul_ps _mm512_div_ps _mm512_set1_ps);
float!(F64x8 of f64: _mm512_add_pd _mm512_mul_pd _mm512_div_pd _mm512_set1_pd);

impl Half for F32x16 {
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self {
        // SAFETY: the caller promises the instructions and sixteen readable elements, 32 bytes.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u8) {
        // SAFETY: `self` exists, so the CPU has the instructions; the caller promises room for sixteen, 32 bytes.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
}

/// As in `avx2`: of each eight elements the first register has the first four. A quarter of a register is four
/// numbers; the shuffles name quarters, from the lowest digit on two of the left operand and two of the right.
impl Twin for F32x16 {
    #[inline(always)]
    unsafe fn load_two(p: *const u8) -> Two<Self> {
        // SAFETY: the caller promises the instructions and two registers of readable numbers.
        unsafe {
            let (low, high) = (Self::load(p).0, Self::load(p.add(64)).0);
            Two(
                Self(_mm512_shuffle_f32x4::<0b10_00_10_00>(low, high)),
                Self(_mm512_shuffle_f32x4::<0b11_01_11_01>(low, high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_two(two: Two<Self>, p: *mut u8) {
        // SAFETY: `two` exists, so the CPU has the instructions; the caller promises room for two registers.
        unsafe {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(two.0.0, two.1.0);
            let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(two.0.0, two.1.0);
            Self(_mm512_shuffle_f32x4::<0b11_01_10_00>(low, low)).store(p);
            Self(_mm512_shuffle_f32x4::<0b11_01_10_00>(high, high)).store(p.add(64));
        }
    }
    /// A bf16 is the upper half of an f32.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Two<Self> {
        // SAFETY: the caller promises the instructions and 32 readable elements, 64 bytes.
        unsafe {
            let (zero, halves) = (_mm512_setzero_si512(), _mm512_loadu_si512(p.cast()));
            Two(
                Self(_mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, halves))),
                Self(_mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, halves))),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(two: Two<Self>, p: *mut u8) {
        // SAFETY: `two` exists, so the CPU has the instructions; the caller promises room for 32, 64 bytes.
        unsafe {
            let halves = _mm512_packus_epi32(ps_to_bf16(two.0.0), ps_to_bf16(two.1.0));
            _mm512_storeu_si512(p.cast(), halves);
        }
    }
}

/// As in `avx2`. The instruction made for this, of AVX512_BF16, flushes subnormals to zero: it is of no use here.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ps_to_bf16(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(1 << 16));
    let above = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    let carried = _mm512_mask_add_epi32(above, odd, bits, _mm512_set1_epi32(0x8000));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let result = _mm512_mask_or_epi32(carried, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_srli_epi32::<16>(result)
}

/// As in `avx2`: the answers asked both ways differ only for two zeros and for a NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn min_ps(a: __m512, b: __m512) -> __m512 {
    _mm512_or_ps(_mm512_min_ps(a, b), _mm512_min_ps(b, a))
}

/// As in `avx2`: a NaN must be put back, here as the sum, which is one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn max_ps(a: __m512, b: __m512) -> __m512 {
    let max = _mm512_and_ps(_mm512_max_ps(a, b), _mm512_max_ps(b, a));
    _mm512_mask_add_ps(max, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b), a, b)
}

/// As [`min_ps`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn min_pd(a: __m512d, b: __m512d) -> __m512d {
    _mm512_or_pd(_mm512_min_pd(a, b), _mm512_min_pd(b, a))
}

/// As [`max_ps`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn max_pd(a: __m512d, b: __m512d) -> __m512d {
    let max = _mm512_and_pd(_mm512_max_pd(a, b), _mm512_max_pd(b, a));
    _mm512_mask_add_pd(max, _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(a, b), a, b)
}

/// The lower bytes of 16-bit products, once for the even bytes and once for the odd ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn mul_epi8(a: __m512i, b: __m512i) -> __m512i {
    let even = _mm512_and_si512(_mm512_mullo_epi16(a, b), _mm512_set1_epi16(0xff));
    let odd = _mm512_mullo_epi16(_mm512_srli_epi16::<8>(a), _mm512_srli_epi16::<8>(b));
    _mm512_or_si512(even, _mm512_slli_epi16::<8>(odd))
}
