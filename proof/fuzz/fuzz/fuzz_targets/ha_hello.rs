//! See `holdfast_fuzz::ha_hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::ha_hello(data));
