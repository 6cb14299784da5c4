//! See `holdfast_fuzz::mirror_data`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::mirror_data(data));
