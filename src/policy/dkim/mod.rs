//! DKIM signatures (RFC 6376) of what leaves: what is signed, how, and what the DNS has to say.
//!
//! ```text
//!   header ─ which fields (fields.rs) ─> relaxed (canon.rs) ─┐
//!   body ──────────────────────────────> relaxed, SHA-256 ──┴─> DKIM-Signature, one per key (sign.rs)
//!   key ──> the TXT record that others check them by (record.rs)
//! ```
//!
//! Pure: keys and the time are arguments. Signatures are rsa-sha256 (RFC 8301) and ed25519-sha256
//! (RFC 8463) over the relaxed forms, since servers on the way touch white space; of the whole body
//! (no `l=`), and for as long as the key is published (no `x=`: mail may wait for days). `i=` is left
//! out: it says no more than `d=` does.

mod canon;
mod fields;
mod keys;
mod own;
mod record;
mod sign;

pub use keys::{Algorithm, BadKey, Key, Keys, is_selector};
pub use own::without_own;
pub use record::{Verdict, judge, record, zone_line};
pub use sign::{Unsigned, sign};

#[cfg(any(test, feature = "sim"))]
pub use canon::fuzz_relaxed;

#[cfg(test)]
mod corpus_tests;
