//! Fuzzes the end of data and the dots in it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::dot::fuzz_data(data));
