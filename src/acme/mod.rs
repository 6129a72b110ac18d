//! Certificates that an authority hands out by itself: ACME (RFC 8555), on a thread of its own.
//!
//! The one thread of the server that runs tokio for it; shards never wait for it, and it knows no
//! shard. `instant-acme` speaks the protocol, what stands here is when it is asked, how the authority
//! is shown that the domains are ours, and what is kept.
//!
//! ```text
//!   keeper     when: at 2/3 of a certificate's life, or as the authority says (RFC 9773); after a
//!              failure later and later, also across restarts
//!   order      what: one certificate for all domains
//!   responder  shows the proofs: HTTP-01 (RFC 8555 §8.3), TLS-ALPN-01 (RFC 8737)
//!   files      data_dir/tls/acme.pem           key and chain in one file, so that they change as one
//!              data_dir/tls/acme-account.json  the account with its key
//!              data_dir/tls/acme-state.json    how the last try went
//! ```
//!
//! All files are of mode 0600, written beside their name and then given it.

mod files;
mod keeper;
mod order;
mod responder;

pub use files::{Certificate, Files, Tried};
pub use keeper::{Wishes, thread};
pub use responder::Challenge;

use std::path::PathBuf;

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The authority's directory, an https URL.
    pub directory: String,
    /// Addresses that it writes to when something is wrong.
    pub contacts: Vec<String>,
    /// What the certificate is for; the first names it.
    pub domains: Vec<String>,
    pub challenge: Challenge,
    /// Who vouches for the directory's own certificate (PEM), where not the system's authorities do.
    pub ca_file: Option<PathBuf>,
    /// The account that the authority knows the operator by (RFC 8555 §7.3.4): its name, and the key
    /// that both have.
    pub external_account: Option<(String, Vec<u8>)>,
    /// Where certificate, account and state are kept.
    pub dir: PathBuf,
}
