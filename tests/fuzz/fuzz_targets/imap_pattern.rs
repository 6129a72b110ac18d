//! Fuzzes patterns of LIST.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::pattern::fuzz_pattern(data));
