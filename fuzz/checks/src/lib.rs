//! What the fuzz targets of Sapwood check.
//!
//! Each target is one function from bytes to nothing, which panics when a property is broken. `fuzz/fuzz_targets` runs
//! it under libFuzzer and AddressSanitizer; the tests of this package run it over `fuzz/seeds` and over ten thousand
//! inputs that are the same every time, so that a machine without a C++ compiler checks the same properties.
//!
//! | target | bytes | properties |
//! |---|---|---|
//! | [`segment_open`] | decisions: a file, spoilt, and a way to open it | a typed error exactly where an independent reading of the file says so; never a signal, a hang, or an access outside |
#![deny(unsafe_code)]

mod input;
mod seeds;
mod segment_open;

pub use input::{Random, cases};
pub use seeds::{Seed, seeds, seeds_of};
pub use segment_open::segment_open;

/// A check.
pub type Check = fn(&[u8]);

/// Every target: its name, and what it checks.
pub const TARGETS: [(&str, Check); 1] = [("segment_open", segment_open)];
