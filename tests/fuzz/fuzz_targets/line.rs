//! Fuzzes how lines are cut out of what was received.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::line::fuzz_line(data));
