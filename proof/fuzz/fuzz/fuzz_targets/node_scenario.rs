//! See `holdfast_fuzz::node_scenario`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_fuzz::node_scenario(data));
