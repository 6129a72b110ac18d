//! Fuzzes a whole POP3 session.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::proto::pop3::replay::fuzz_session(data));
