//! What the handshakes of a server have in common: certificates, suites, and the keys of its tickets.

use super::client::{Asking, Authorities};
use super::hello::Wants;
use super::identity::Identity;
use super::names::{Names, Resolver};
use super::noted::Exporters;
use crate::model::limits::TLS_TICKET_OCTETS_MAX;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// The protocols that have a registered name (RFC 7301 §6) and are spoken here.
const NAMED: [&str; 3] = ["imap", "pop3", "managesieve"];

/// Shared by all shards, so that a session that began on one is resumed on any. Made anew when a
/// certificate changes; with it go the keys of the tickets, since a resumed session would be bound
/// to a certificate that is no longer shown (RFC 5929 §4), or bring one along that no longer counts.
#[derive(Debug)]
pub struct Context {
    /// For clients that are not asked who they are.
    unasked: Configs,
    /// For those that are, and those that have to answer.
    asked: Option<(Configs, Configs)>,
    names: Arc<Names>,
    authorities: Option<Authorities>,
}

/// How to shake hands.
#[derive(Debug)]
struct Configs {
    /// With clients that name no protocol that we know.
    unnamed: Arc<ServerConfig>,
    /// By the name of the protocol. rustls refuses who offers other names only, and mail programs
    /// offer what they like.
    named: Vec<Arc<ServerConfig>>,
}

impl Context {
    /// With these certificates, and those who sign for clients. Keys of tickets are made here and
    /// change every six hours; a ticket is good for twelve.
    pub fn new(names: Names, authorities: Option<Authorities>) -> Result<Context, Error> {
        let names = Arc::new(names);
        let configs = |verifier| Configs::new(&names, verifier);
        let unasked = configs(WebPkiClientVerifier::no_client_auth())?;
        let asked = match &authorities {
            Some(authorities) => {
                Some((configs(authorities.verifier(false))?, configs(authorities.verifier(true))?))
            }
            None => None,
        };
        Ok(Context { unasked, asked, names, authorities })
    }

    /// The certificates.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.names.each()
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn authorities(&self) -> Option<&Authorities> {
        self.authorities.as_ref()
    }

    /// How to shake hands with this client of `protocol`.
    pub(super) fn config(
        &self,
        protocol: &str,
        asking: Asking,
        wants: &Wants,
    ) -> Arc<ServerConfig> {
        let configs = match (asking, &self.asked) {
            (Asking::Optional, Some((optional, _))) => optional,
            (Asking::Required, Some((_, required))) => required,
            (Asking::No, _) | (_, None) => &self.unasked,
        };
        let offers = |name: &&str| wants.protocols.iter().any(|offered| offered == name);
        let at = NAMED.iter().position(|name| *name == protocol && offers(name));
        let named = at.and_then(|at| configs.named.get(at));
        Arc::clone(named.unwrap_or(&configs.unnamed))
    }
}

impl Configs {
    /// With tickets of their own: what is asked at one door is not skipped by a ticket of another.
    fn new(names: &Arc<Names>, verifier: Arc<dyn ClientCertVerifier>) -> Result<Configs, Error> {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let resolver = Arc::new(Resolver(Arc::clone(names)));
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_cert_resolver(resolver);
        // What a client brings back is in its ticket: nothing is kept for it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Short(Ticketer::new()?));
        config.key_log = Arc::new(Exporters);
        // All suites are good; where the order is ours, scanners have nothing to say.
        config.ignore_client_order = true;
        let with_name = |name: &str| {
            let mut config = config.clone();
            config.alpn_protocols = vec![name.into()];
            Arc::new(config)
        };
        let named = NAMED.iter().map(|name| with_name(name)).collect();
        Ok(Configs { unnamed: Arc::new(config), named })
    }
}

/// Tickets that fit in the first message of the client that brings them back: they hold its
/// certificate with all that signed it. Where that is too long there is no ticket.
#[derive(Debug)]
struct Short(Arc<dyn ProducesTickets>);

impl ProducesTickets for Short {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > TLS_TICKET_OCTETS_MAX { None } else { self.0.encrypt(plain) }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
