//! Fuzzes how IMAP commands are cut out of what was received.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::frame::fuzz_frame(data));
