//! See `kubetask_fuzz::bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubetask_fuzz::bodies(data));
