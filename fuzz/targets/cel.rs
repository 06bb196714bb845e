//! See `kubetask_fuzz::cel`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubetask_fuzz::cel(data));
