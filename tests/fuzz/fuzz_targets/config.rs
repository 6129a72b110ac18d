//! Fuzzes the configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::config::fuzz_config(data));
