//! See `kubetask_fuzz::selectors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubetask_fuzz::selectors(data));
