//! Fuzzes the paths of MAIL and RCPT.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::address::fuzz_path(data));
