//! What the handshakes of a server have in common: certificates, suites, and the keys of its tickets.

use super::hello::Wants;
use super::identity::Identity;
use super::names::{Names, Resolver};
use super::noted::Exporters;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// The protocols that have a registered name (RFC 7301 §6) and are spoken here.
const NAMED: [&str; 3] = ["imap", "pop3", "managesieve"];

/// Shared by all shards, so that a session that began on one is resumed on any. Made anew when a
/// certificate changes; with it go the keys of the tickets, since a resumed session would be bound
/// to a certificate that is no longer shown (RFC 5929 §4).
#[derive(Debug)]
pub struct Context {
    /// For clients that name no protocol that we know.
    unnamed: Arc<ServerConfig>,
    /// By the name of the protocol. rustls refuses who offers other names only, and mail programs
    /// offer what they like.
    named: Vec<Arc<ServerConfig>>,
    names: Arc<Names>,
}

impl Context {
    /// With these certificates. Keys of tickets are made here and change every six hours; a ticket
    /// is good for twelve.
    pub fn new(names: Names) -> Result<Context, Error> {
        let names = Arc::new(names);
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let resolver = Arc::new(Resolver(Arc::clone(&names)));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        // What a client brings back is in its ticket: nothing is kept for it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        config.key_log = Arc::new(Exporters);
        // All suites are good; where the order is ours, scanners have nothing to say.
        config.ignore_client_order = true;
        let with_name = |name: &str| {
            let mut config = config.clone();
            config.alpn_protocols = vec![name.into()];
            Arc::new(config)
        };
        let named = NAMED.iter().map(|name| with_name(name)).collect();
        Ok(Context { unnamed: Arc::new(config), named, names })
    }

    /// The certificates.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.names.each()
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// How to shake hands with this client of `protocol`.
    pub(super) fn config(&self, protocol: &str, wants: &Wants) -> Arc<ServerConfig> {
        let offers = |name: &&str| wants.protocols.iter().any(|offered| offered == name);
        let at = NAMED.iter().position(|name| *name == protocol && offers(name));
        let named = at.and_then(|at| self.named.get(at));
        Arc::clone(named.unwrap_or(&self.unnamed))
    }
}
