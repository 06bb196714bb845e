//! See `kubetask_fuzz::server_side_apply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubetask_fuzz::server_side_apply(data));
