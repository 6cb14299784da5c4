//! See `holdfast_fuzz::probe_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::probe_answer(data));
