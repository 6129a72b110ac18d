//! Pombal.
fn main() {}
