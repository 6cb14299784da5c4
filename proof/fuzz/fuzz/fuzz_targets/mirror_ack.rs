//! See `holdfast_fuzz::mirror_ack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::mirror_ack(data));
