//! See `holdfast_fuzz::peer_steps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::peer_steps(data));
