//! Fuzzes a whole SMTP or LMTP session, BDAT included.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::smtp::answer::fuzz_answer(data));
