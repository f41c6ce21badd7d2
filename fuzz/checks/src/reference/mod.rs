//! The wire once more, slow and plain: byte by byte, in 128 bits, written from the pictures and tables at the top of
//! `core/src/wire/header.rs`, `descriptor.rs` and `decode.rs`, without their code. Only [`compare`] knows their types.

pub(crate) mod compare;
mod descriptor;
mod frame;
mod stream;

pub(crate) use descriptor::{Tensor, tensor};
pub(crate) use frame::{Bounds, FIELDS, Head, reseal};
pub(crate) use stream::{Event, Heard, Outcome, Wants, read};

/// A rule that bytes break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its name: the variant of the error.
    pub(crate) rule: &'static str,
    /// The field that it speaks of, where it speaks of one of several.
    pub(crate) field: &'static str,
    /// The numbers in the error, in the order in which they stand there.
    pub(crate) numbers: Vec<u128>,
}

/// `numbers` in any widths.
macro_rules! broken {
    ($rule:literal $(, $number:expr)* $(,)?) => {
        $crate::reference::Broken { rule: $rule, field: "", numbers: vec![$(u128::from($number)),*] }
    };
    ($rule:literal in $field:expr $(, $number:expr)* $(,)?) => {
        $crate::reference::Broken { rule: $rule, field: $field, numbers: vec![$(u128::from($number)),*] }
    };
}
use broken;

/// The number whose little-endian bytes these are.
fn number(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u128::from(*b))
}

/// The same, where it is known to have at most eight bytes.
fn word(bytes: &[u8]) -> u64 {
    number(bytes) as u64
}
