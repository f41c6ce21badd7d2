//! What the fuzz targets of Sapwood check.
//!
//! Each target is one function from bytes to nothing, which panics when a property is broken. `fuzz/fuzz_targets` runs
//! it under libFuzzer and AddressSanitizer; the tests of this package run it over `fuzz/seeds` and over ten thousand
//! inputs that are the same every time, so that a machine without a C++ compiler checks the same properties.
//!
//! | target | bytes | properties |
//! |---|---|---|
//! | [`wire`] | decisions: a sender's script, limits, refusals, splits, and how its frames are forged | encoder and decoder do what an independent reference does, event by event, error by error, at the same byte; one encoding |
//! | [`wire_stream`] | a raw stream, its checksums put right or not | the same comes out in any split, never more than went in |
//! | [`descriptor`] | 88 bytes | the reference's tensor or its error; one encoding |
//! | [`segment_open`] | decisions: a file, spoilt, and a way to open it | a typed error exactly where an independent reading of the file says so; never a signal, a hang, or an access outside |
//! | [`live_segment`] | decisions: an object, calls of its handles, words of its segment that are overwritten between them | no panic, no hang, no length or access outside; afterwards a fresh object works |
#![deny(unsafe_code)]

mod descriptor;
mod input;
mod live_segment;
mod reference;
mod seeds;
mod segment_open;
mod wire;

pub use descriptor::descriptor;
pub use input::{Random, cases};
pub use live_segment::live_segment;
pub use seeds::{Seed, seeds, seeds_of};
pub use segment_open::segment_open;
pub use wire::{wire, wire_stream};

/// A check.
pub type Check = fn(&[u8]);

/// Every target: its name, and what it checks.
pub const TARGETS: [(&str, Check); 5] = [
    ("wire", wire),
    ("wire_stream", wire_stream),
    ("descriptor", descriptor),
    ("segment_open", segment_open),
    ("live_segment", live_segment),
];
