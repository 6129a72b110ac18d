//! Fuzzes sets of message numbers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::set::fuzz_set(data));
