//! Fuzzes a session with a server of any manner.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::proto::smtp::client::replay::fuzz_client(data));
