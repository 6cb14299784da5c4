//! See `holdfast_fuzz::engine_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::engine_frames(data));
