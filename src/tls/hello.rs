//! The first message of a client, looked at before anything is decided.

use super::names::Names;
use super::session::missing;
use rustls::Error;
use rustls::server::Acceptor;

/// Protocols that a client offers of which the rest is not looked at.
const PROTOCOLS_MAX: usize = 16;

/// What a client wants, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// The protocols that it would speak (RFC 7301), as far as they are text.
    pub(super) protocols: Vec<String>,
    /// The certificate for it signs slowly.
    pub(super) is_slow: bool,
}

/// What the first octets of a connection are.
pub(super) enum Hello {
    /// A part of it.
    Partial,
    Whole(Wants),
    /// None that we can answer; and the alert that says so.
    Bad(Error, Vec<u8>),
}

/// Looks at what was received so far.
pub(super) fn look(octets: &[u8], names: &Names) -> Hello {
    // Who sends octet by octet does not have all of them read each time.
    if missing(octets) > 0 {
        return Hello::Partial;
    }
    let mut acceptor = Acceptor::default();
    let mut left = octets;
    while !left.is_empty() {
        match acceptor.read_tls(&mut left) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Hello::Bad(Error::General(error.to_string()), Vec::new()),
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let protocols = hello.alpn().into_iter().flatten().take(PROTOCOLS_MAX);
                return Hello::Whole(Wants {
                    protocols: protocols
                        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
                        .collect(),
                    is_slow: names.choose(&hello).is_some_and(|identity| identity.is_slow()),
                });
            }
            Err((error, mut alert)) => {
                let mut octets = Vec::new();
                // A vector takes all there is.
                drop(alert.write_all(&mut octets));
                return Hello::Bad(error, octets);
            }
        }
    }
    Hello::Partial
}
