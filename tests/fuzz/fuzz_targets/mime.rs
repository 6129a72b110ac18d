//! Fuzzes the parts of a message, and what is told of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::structure::fuzz_structure(data));
