//! Tests of the conversions between f32 and the 16-bit floats, on each level, against those of the crate `half`.
//!
//! # Safety
//! Registers are loaded from and stored to arrays that are as long as the register.
#![allow(unsafe_code)]

use std::eprintln;
use std::vec::Vec;

use half::{bf16, f16};

use super::Level;
use super::lanes::{Brain, Half, Isa};

/// A multiple of every register's width.
const N: usize = 32;

type Narrow = fn(&[f32; N]) -> ([u16; N], [u16; N]);
type Widen = fn(&[u16; N]) -> ([f32; N], [f32; N]);

/// To f16 with registers `H`, and to bf16 with registers `B`.
fn narrow<H: Half, B: Brain>(x: &[f32; N]) -> ([u16; N], [u16; N]) {
    let (mut f, mut b) = ([0u16; N], [0u16; N]);
    // SAFETY: a register's width divides N, so as many elements follow each index that is a multiple of it; callers
    // name registers that the CPU has.
    unsafe {
        for i in (0..N).step_by(H::N) {
            H::load(x.as_ptr().add(i).cast()).store_f16(f.as_mut_ptr().add(i).cast());
        }
        for i in (0..N).step_by(B::N) {
            B::load(x.as_ptr().add(i).cast()).store_bf16(b.as_mut_ptr().add(i).cast());
        }
    }
    (f, b)
}

fn widen<H: Half, B: Brain>(h: &[u16; N]) -> ([f32; N], [f32; N]) {
    let (mut f, mut b) = ([0f32; N], [0f32; N]);
    // SAFETY: as in `narrow`.
    unsafe {
        for i in (0..N).step_by(H::N) {
            H::load_f16(h.as_ptr().add(i).cast()).store(f.as_mut_ptr().add(i).cast());
        }
        for i in (0..N).step_by(B::N) {
            B::load_bf16(h.as_ptr().add(i).cast()).store(b.as_mut_ptr().add(i).cast());
        }
    }
    (f, b)
}

fn of<I: Isa>(level: Level) -> (Level, Narrow, Widen) {
    (level, narrow::<I::F32, I::Bf16>, widen::<I::F32, I::Bf16>)
}

fn levels() -> Vec<(Level, Narrow, Widen)> {
    let all = [
        of::<super::portable::Portable>(Level::Portable),
        #[cfg(target_arch = "x86_64")]
        of::<super::avx2::Avx2>(Level::Avx2),
        #[cfg(target_arch = "x86_64")]
        of::<super::avx512::Avx512>(Level::Avx512),
    ];
    let (here, missing): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(level, ..)| *level <= Level::detect());
    for (level, ..) in missing {
        eprintln!("not checked: this CPU does not have {level}");
    }
    here
}

fn check_narrow(x: &[f32; N]) {
    for (level, narrow, _) in levels() {
        let (f, b) = narrow(x);
        for i in 0..N {
            assert_eq!(f[i], f16::from_f32(x[i]).to_bits(), "{level}: {:#010x} to f16", x[i].to_bits());
            assert_eq!(b[i], bf16::from_f32(x[i]).to_bits(), "{level}: {:#010x} to bf16", x[i].to_bits());
        }
    }
}

/// Bit for bit, NaN payloads included: here the levels and `half` agree even there.
#[test]
fn f32_rounds_as_half_does() {
    let stride = if cfg!(miri) { 4_000_037 } else { 503 };
    for first in (0..=u32::MAX).step_by(N * stride) {
        check_narrow(&core::array::from_fn(|i| f32::from_bits(first.wrapping_add((i * stride) as u32))));
    }
}

/// Around each value of a 16-bit float, and around each point halfway to the next one.
#[test]
fn ties_round_to_even() {
    let step = if cfg!(miri) { 997 } else { 1 };
    for h in (0..=u16::MAX).step_by(step) {
        let exact = [f16::from_bits(h).to_f32().to_bits(), bf16::from_bits(h).to_f32().to_bits()];
        for value in exact {
            // Half a step of bf16 is 2^15 steps of f32, of f16 2^12.
            check_narrow(&core::array::from_fn(|i| {
                let step = (1 << (i / 2 + 1)) - i as i32 % 2;
                f32::from_bits(value.wrapping_add_signed(if i == 0 { 0 } else { step }))
            }));
        }
    }
    // Subnormal f16 are spaced 2^-24, so halfway points are odd multiples of 2^-25.
    for odd in 0..=1024u32 {
        let tie = (2 * odd + 1) as f32 / (1 << 25) as f32;
        let near = |d: i32| f32::from_bits(tie.to_bits().wrapping_add_signed(d));
        check_narrow(&core::array::from_fn(|i| near(i as i32 - 16)));
    }
}

#[test]
fn every_16_bit_float_widens_exactly() {
    for first in (0..=u16::MAX).step_by(N) {
        let h: [u16; N] = core::array::from_fn(|i| first + i as u16);
        for (level, _, widen) in levels() {
            let (f, b) = widen(&h);
            for i in 0..N {
                let (want_f, want_b) = (f16::from_bits(h[i]).to_f32(), bf16::from_bits(h[i]).to_f32());
                let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                assert!(same(f[i], want_f), "{level}: f16 {:#06x} became {}, not {want_f}", h[i], f[i]);
                assert!(same(b[i], want_b), "{level}: bf16 {:#06x} became {}, not {want_b}", h[i], b[i]);
            }
        }
    }
}
