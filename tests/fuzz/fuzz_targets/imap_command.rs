//! Fuzzes IMAP commands.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::command::fuzz_command(data));
