//! Fuzzes what is kept in front of a message.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::mailbox::summary::fuzz_summary(data));
