//! Fuzzes a whole SMTP or LMTP session, BDAT included.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::proto::smtp::client::replay::fuzz_client(data));
