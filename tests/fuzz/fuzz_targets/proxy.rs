//! Fuzzes the headers of proxies. The seeds are what HAProxy 2.6 writes, and some that it would not.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::proxy::fuzz_proxy(data));
