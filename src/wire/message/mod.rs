//! Messages as octets: where the header ends, where its fields lie, what parts there are.

pub mod envelope;
pub mod fields;
pub mod head;
pub mod hops;
mod lexer;
mod mailboxes;
pub mod mime;
mod nstring;
pub mod params;
pub mod section;
pub mod strip;
pub mod structure;
pub mod summary;

#[cfg(test)]
mod corpus_tests;
