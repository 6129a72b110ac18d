//! Fuzzes the answers of servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::smtp::answer::fuzz_answer(data));
