//! See `holdfast_fuzz::connection_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::connection_filter(data));
