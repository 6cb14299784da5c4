//! See `holdfast_fuzz::config_lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::config_lines(data));
