//! Fuzzes superblocks and segment headers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::store::fuzz::fuzz_superblock(data));
