//! Fuzzes rewritten senders, there and back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::mta::srs::fuzz_srs(data));
