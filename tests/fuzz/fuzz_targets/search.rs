//! Fuzzes the search for a text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::search::fuzz_search(data));
