//! Fuzzes the text of HTML.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pombal::wire::message::html::fuzz_html(data));
