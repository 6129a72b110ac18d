//! Fuzzes messages that are made fit for 7 bits.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::downgrade::fuzz_downgrade(data));
