#![no_main]
//! libFuzzer's entry to `pollux_tests::fuzz::sync`.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pollux_tests::fuzz::sync::run(data));
