//! Fuzzes the keys of SEARCH.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::command::search::fuzz_search(data));
