//! See `kubetask_fuzz::patches`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kubetask_fuzz::patches(data));
