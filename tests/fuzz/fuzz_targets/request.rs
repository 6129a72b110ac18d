//! Fuzzes requests to the admin port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::admin::http::fuzz_request(data));
