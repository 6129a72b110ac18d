//! Fuzzes encoded words of header fields.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::words::fuzz_words(data));
