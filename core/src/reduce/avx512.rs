//! Kernels of 512-bit registers, for CPUs with AVX-512 F, BW, DQ and VL.
//!
//! # Safety
//! Intrinsics may only run on a CPU that has them. A register here is proof of it, as in `avx2`.
#![allow(unsafe_code)]

use core::arch::x86_64::*;

use super::avx2::{bits, float, register};
use super::lanes::{Apply, Bits, Float, Isa, Lanes, Number, Single, Sink, Source, strip};

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

impl Single for F32x16 {
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
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Self {
        // SAFETY: the caller promises the instructions and sixteen readable elements, 32 bytes.
        Self(unsafe { bf16_to_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u8) {
        // SAFETY: `self` exists, so the CPU has the instructions; the caller promises room for sixteen, 32 bytes.
        unsafe { _mm256_storeu_si256(p.cast(), ps_to_bf16(self.0)) }
    }
}

/// A bf16 is the upper half of an f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn bf16_to_ps(b: __m256i) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(b)))
}

/// As in `avx2`. The instruction made for this, of AVX512_BF16, flushes subnormals to zero: it is of no use here.
#[inline]
#[target_feature(enable = "avx512f")]
fn ps_to_bf16(x: __m512) -> __m256i {
    let bits = _mm512_castps_si512(x);
    let upper = _mm512_srli_epi32::<16>(bits);
    let even = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    let carried = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    let rounded = _mm512_srli_epi32::<16>(carried);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let result = _mm512_mask_or_epi32(rounded, nan, upper, _mm512_set1_epi32(0x40));
    _mm512_cvtepi32_epi16(result)
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
