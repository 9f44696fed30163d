//! `scripts/fuzz image`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crossmod_fuzz::image(bytes));
