//! Fuzzes batches of the log, with blobs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::store::fuzz::fuzz_batch(data));
