//! Messages as octets: where the header ends, where its fields lie, what parts there are.

pub mod authors;
pub mod casemap;
pub mod charset;
pub mod decode;
pub mod delivered;
pub mod downgrade;
pub mod encode;
pub mod envelope;
pub mod fields;
pub mod head;
pub mod hops;
pub mod html;
pub mod ids;
mod lexer;
mod mailboxes;
pub mod mime;
pub mod nature;
mod nstring;
pub mod params;
pub mod preview;
pub mod quoted;
pub mod respond;
pub mod search;
pub mod section;
pub mod sent;
pub mod sort;
pub mod strip;
pub mod structure;
pub mod subject;
pub mod submitted;
pub mod text;
pub mod thread;
pub mod tls_required;
pub mod words;

#[cfg(test)]
mod corpus_tests;
