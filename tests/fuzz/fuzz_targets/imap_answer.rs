//! Fuzzes responses of other IMAP servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::answer::fuzz_answer(data));
