//! Messages as octets: where the header ends, where its fields lie.

pub mod fields;
pub mod hops;
pub mod strip;
pub mod summary;
