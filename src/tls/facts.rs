//! What both ends of an encrypted connection know, for trace lines, logs and channel bindings.

use super::client::Client;
use super::identity::Identity;
use super::noted::Secret;
use super::server::Server;
use ring::{digest, hmac};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use std::sync::Arc;

/// The label of the channel binding `tls-exporter` (RFC 9266 §2).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Octets of that binding.
const BINDING_OCTETS: u8 = 32;

/// What was negotiated in a handshake.
#[derive(Clone, Debug)]
pub struct Facts {
    pub(super) version: ProtocolVersion,
    pub(super) suite: CipherSuite,
    pub(super) group: Option<NamedGroup>,
    pub(super) resumed: bool,
    pub(super) name: Option<Box<str>>,
    pub(super) alpn: Option<Box<str>>,
    pub(super) end: End,
    pub(super) exporter: Option<Secret>,
}

/// Who has shown what, by the end of the connection that is ours.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// We are the server, and have shown this.
    Ours { identity: Arc<Identity>, client: Option<Box<Client>> },
    /// We are the client.
    Theirs(Box<Server>),
}

impl Facts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub fn version(&self) -> &'static str {
        if self.is_1_3() { "TLSv1.3" } else { "TLSv1.2" }
    }

    pub fn is_1_3(&self) -> bool {
        self.version == ProtocolVersion::TLSv1_3
    }

    /// The cipher suite by its registered name (RFC 8314 §4.3).
    pub fn suite(&self) -> String {
        let name = self.suite.as_str().unwrap_or("unknown");
        name.replace("TLS13_", "TLS_")
    }

    /// The group of the key exchange by its registered name; a resumption may be without.
    pub fn group(&self) -> Option<&'static str> {
        match self.group? {
            NamedGroup::X25519 => Some("x25519"),
            NamedGroup::secp256r1 => Some("secp256r1"),
            NamedGroup::secp384r1 => Some("secp384r1"),
            _ => None,
        }
    }

    /// The session began in an earlier connection.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The name that the client asked for (RFC 6066 §3), in lower case.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The protocol that both agreed on (RFC 7301).
    pub fn alpn(&self) -> Option<&str> {
        self.alpn.as_deref()
    }

    /// The certificate that the client showed, and holds the key of; whether it is good for anything
    /// it says itself. Only where clients are asked.
    pub fn client(&self) -> Option<&Client> {
        match &self.end {
            End::Ours { client, .. } => client.as_deref(),
            End::Theirs(_) => None,
        }
    }

    /// The server that we called, and whether it is who it should be; `None` where we are the server.
    pub fn server(&self) -> Option<&Server> {
        match &self.end {
            End::Ours { .. } => None,
            End::Theirs(server) => Some(server),
        }
    }

    /// The channel binding `tls-exporter` (RFC 9266 §2). Not to be had in TLS 1.2, where it would be
    /// unique only with an extension that we cannot ask rustls about (§4.2).
    pub fn exporter(&self) -> Option<[u8; 32]> {
        let secret = self.exporter.as_ref().filter(|_| self.is_1_3())?;
        let (hash, mac) = match self.suite {
            CipherSuite::TLS13_AES_256_GCM_SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
            _ => (&digest::SHA256, hmac::HMAC_SHA256),
        };
        let nothing = digest::digest(hash, b"");
        let nothing = nothing.as_ref();
        let len = u8::try_from(nothing.len()).ok()?;
        let derived = expand_label(mac, &secret.0, BINDING_LABEL, nothing, len);
        let binding = expand_label(mac, derived.as_ref(), b"exporter", nothing, BINDING_OCTETS);
        binding.as_ref().get(..usize::from(BINDING_OCTETS))?.try_into().ok()
    }

    /// The channel binding `tls-server-end-point` (RFC 5929 §4): a hash of the server's certificate.
    pub fn server_end_point(&self) -> Option<&[u8]> {
        match &self.end {
            End::Ours { identity, .. } => identity.end_point(),
            End::Theirs(server) => server.end_point(),
        }
    }
}

/// HKDF-Expand-Label (RFC 8446 §7.1) for no more octets than the hash has; the result is longer, and
/// its front is meant.
fn expand_label(
    mac: hmac::Algorithm,
    secret: &[u8],
    label: &[u8],
    context: &[u8],
    len: u8,
) -> hmac::Tag {
    let octets = |text: &[u8]| u8::try_from(text.len()).expect("labels and hashes are short");
    let label = [b"tls13 ", label].concat();
    let mut info = vec![0, len, octets(&label)];
    info.extend_from_slice(&label);
    info.push(octets(context));
    info.extend_from_slice(context);
    // The only block of HKDF-Expand (RFC 5869 §2.3).
    info.push(1);
    hmac::sign(&hmac::Key::new(mac, secret), &info)
}
