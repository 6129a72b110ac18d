//! Fuzzes the relaxed form of bodies.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::policy::dkim::fuzz_relaxed(data));
