//! Fuzzes records of the log.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::store::fuzz::fuzz_record(data));
