//! Fuzzes transfer encodings being undone.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::decode::fuzz_decode(data));
