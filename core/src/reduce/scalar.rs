//! What reduction needs of each of the twelve element types.

use core::convert::identity;

use half::{bf16, f16};

use super::lanes::{Bf16, Bits, F16, Isa, Number, Plain, Table, floats, integers};
use super::portable::{Portable, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::{Level, Op};

/// What reduction needs of an element type: its kernels, and the same arithmetic on single elements.
pub trait Scalar: Copy {
    /// The type of the running result.
    type Number: Copy;
    /// The portable kernels.
    const PORTABLE: &'static Table;
    /// The kernels of AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    const AVX2: &'static Table;
    /// The kernels of AVX-512.
    #[cfg(target_arch = "x86_64")]
    const AVX512: &'static Table;

    /// The level that is fastest if the CPU has all. AVX-512 gains where AVX2 lacks an instruction, for integers of
    /// 64 bits and for bf16.
    const BEST: Level;

    /// This element as a number.
    fn widen(self) -> Self::Number;
    /// One step; [`Op::Avg`] adds. Only for operations of the table.
    fn apply(op: Op, a: Self::Number, b: Self::Number) -> Self::Number;
    /// The count of sources as a number.
    fn count(sources: usize) -> Self::Number;
    /// The finished element; [`Op::Avg`] divides by the count.
    fn finish(op: Op, result: Self::Number, sources: usize) -> Self;
}

macro_rules! tables {
    (@ $isa:ty, integers $r:ident $w:ident) => {
        integers::<$isa, <$isa as Isa>::$r, <$isa as Isa>::$w>(size_of::<Self>())
    };
    (@ $isa:ty, floats $form:ident $r:ident) => { floats::<$isa, $form, <$isa as Isa>::$r>() };
    ($($builder:tt)*) => {
        const PORTABLE: &'static Table = &tables!(@ Portable, $($builder)*);
        #[cfg(target_arch = "x86_64")]
        const AVX2: &'static Table = &tables!(@ super::avx2::Avx2, $($builder)*);
        #[cfg(target_arch = "x86_64")]
        const AVX512: &'static Table = &tables!(@ super::avx512::Avx512, $($builder)*);
    };
}

macro_rules! integer_element {
    ($($t:ty: $r:ident $w:ident),*) => {
        $(
            impl Scalar for $t {
                type Number = $t;
                tables!(integers $r $w);
                const BEST: Level = if size_of::<$t>() == 8 { Level::Avx512 } else { Level::Avx2 };

                #[inline(always)]
                fn widen(self) -> $t {
                    self
                }
                #[inline(always)]
                fn apply(op: Op, a: $t, b: $t) -> $t {
                    match op {
                        Op::Sum => Number::sum(a, b),
                        Op::Prod => a.prod(b),
                        Op::Min => Number::min(a, b),
                        Op::Max => Number::max(a, b),
                        Op::And => a.and(b),
                        Op::Or => a.or(b),
                        Op::Xor => a.xor(b),
                        Op::Avg => unreachable!("integers have no kernel for avg"),
                    }
                }
                #[inline(always)]
                fn count(sources: usize) -> $t {
                    sources as $t
                }
                #[inline(always)]
                fn finish(_: Op, result: $t, _: usize) -> $t {
                    result
                }
            }
        )*
    };
}

integer_element!(i8: I8 U8, i16: I16 U16, i32: I32 U32, i64: I64 U64);
integer_element!(u8: U8 U8, u16: U16 U16, u32: U32 U32, u64: U64 U64);

macro_rules! float_element {
    ($t:ty: $number:ty, $best:ident, $form:ident $r:ident, $widen:expr, $narrow:expr) => {
        impl Scalar for $t {
            type Number = $number;
            tables!(floats $form $r);
            const BEST: Level = Level::$best;

            #[inline(always)]
            fn widen(self) -> $number {
                $widen(self)
            }
            #[inline(always)]
            fn apply(op: Op, a: $number, b: $number) -> $number {
                match op {
                    Op::Sum | Op::Avg => a + b,
                    Op::Prod => a * b,
                    Op::Min => Number::min(a, b),
                    Op::Max => Number::max(a, b),
                    Op::And | Op::Or | Op::Xor => unreachable!("floats have no kernels for bits"),
                }
            }
            #[inline(always)]
            fn count(sources: usize) -> $number {
                sources as $number
            }
            #[inline(always)]
            fn finish(op: Op, result: $number, sources: usize) -> $t {
                $narrow(if op == Op::Avg { result / Self::count(sources) } else { result })
            }
        }
    };
}

float_element!(f32: f32, Avx2, Plain F32, identity, identity);
float_element!(f64: f64, Avx2, Plain F64, identity, identity);
float_element!(f16: f32, Avx2, F16 F32, |h: f16| f16_to_f32(h.to_bits()), |x| f16::from_bits(f32_to_f16(x)));
float_element!(bf16: f32, Avx512, Bf16 Bf16, |b: bf16| bf16_to_f32(b.to_bits()), |x| bf16::from_bits(f32_to_bf16(x)));
