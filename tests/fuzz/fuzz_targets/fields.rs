//! Fuzzes the header of a message.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::fields::fuzz_fields(data));
