//! See `sapwood_fuzz_checks::live_segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sapwood_fuzz_checks::live_segment(data));
