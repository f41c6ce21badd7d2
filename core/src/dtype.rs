//! The twelve element types that collectives carry, as a code for the wire and as a trait for the compiler.

use core::fmt;

use half::{bf16, f16};

use crate::reduce::Scalar;

/// The type of one tensor element, as it travels in a call's fingerprint.
///
/// Codes start at 1, so that a word that was never written names no dtype.
///
/// ```
/// use sapwood_core::dtype::Dtype;
///
/// assert_eq!(Dtype::from_code(Dtype::Bf16.code()), Some(Dtype::Bf16));
/// assert_eq!(Dtype::from_code(0), None);
/// assert_eq!((Dtype::F64.size(), Dtype::F64.to_string()), (8, "f64".to_owned()));
/// ```
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 8 bits, two's complement.
    I8 = 1,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits, two's complement.
    I32,
    /// 64 bits, two's complement.
    I64,
    /// 8 bits, unsigned.
    U8,
    /// 16 bits, unsigned.
    U16,
    /// 32 bits, unsigned.
    U32,
    /// 64 bits, unsigned.
    U64,
    /// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl Dtype {
    /// Every dtype, in the order of the codes.
    pub const ALL: [Dtype; 12] = [
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::U8,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::F32,
        Dtype::F64,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::I8 | Dtype::U8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// The Rust name of the type, such as `"bf16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::U8 => "u8",
            Dtype::U16 => "u16",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }

    /// The number that stands for this dtype between processes and hosts; it never changes.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The dtype with this code, or nothing if the code names none.
    pub fn from_code(code: u8) -> Option<Dtype> {
        let dtype = Dtype::ALL.get(usize::from(code).checked_sub(1)?)?;
        Some(*dtype)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A type whose values may be tensor elements: `i8` … `u64`, [`half::f16`], [`half::bf16`], `f32` and `f64`.
///
/// The trait is sealed. Of each such type every bit pattern is a legal value and none is padding, so that bytes
/// which another process wrote may be read as elements.
///
/// ```
/// use sapwood_core::dtype::{Dtype, Element};
///
/// fn bytes<T: Element>(tensor: &[T]) -> usize {
///     tensor.len() * T::DTYPE.size()
/// }
/// assert_eq!(bytes(&[1.0f32; 6]), 24);
/// assert_eq!(<u16 as Element>::DTYPE, Dtype::U16);
/// ```
pub trait Element: Scalar + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The code of this type.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($t:ty => $dtype:ident),* $(,)?) => {
        $(
            impl Element for $t {
                const DTYPE: Dtype = Dtype::$dtype;
            }
            const _: () = assert!(Dtype::$dtype.size() == size_of::<$t>());
        )*
    };
}

elements! {
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    f16 => F16, bf16 => Bf16, f32 => F32, f64 => F64,
}
