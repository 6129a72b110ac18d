//! Fuzzes names of mailboxes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::imap::mailbox::fuzz_mailbox(data));
