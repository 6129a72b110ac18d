//! Handshakes of sessions: bounded in time, counted, told; and whose certificate a client has shown.
//!
//! A certificate that does not hold, or names nobody who may log in, is told of and counts for nothing:
//! the session goes on as one without (docs/decisions/0018).

use super::listener::Protocol;
use super::shard::Shard;
use crate::directory::{self, Snapshot};
use crate::env::{Conn as _, Env};
use crate::model::channel::{Binding, Channel};
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::prepare;
use crate::tls::{Aside, Asking, Client, Context, Facts, NameField, Stream, Terms};
use futures_lite::future::or;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What sessions need to be encrypted.
#[derive(Clone)]
pub struct Settings {
    pub context: Arc<Context>,
    /// Where slow signatures are made.
    pub aside: Rc<Aside>,
    /// How long a handshake may take.
    pub timeout: Duration,
    /// Whose clients are asked for a certificate.
    pub asking: Rc<dyn Fn(Protocol) -> Asking>,
    /// Where in it the name of a user stands.
    pub name_field: NameField,
}

/// What the protocol's machine is told of a connection.
pub(super) fn channel<E: Env>(shard: &Shard<E>, conn: &Stream<E>) -> Channel {
    let Some(facts) = conn.facts() else { return Channel::default() };
    let end_point = facts.server_end_point().map(Into::into);
    let binding = Binding { exporter: facts.exporter(), end_point };
    let certificate = facts.client().and_then(|client| owner(shard, client));
    Channel { encrypted: true, binding, certificate }
}

fn owner<E: Env>(shard: &Shard<E>, client: &Client) -> Option<Box<str>> {
    let settings = shard.settings();
    let field = settings.tls.as_ref()?.name_field;
    named(client.names(field), &shard.directory(), &settings.directory)
}

/// The user to whom a certificate with these names belongs: the first of them that is one of a user, if
/// he may log in. Whoever is switched off does not turn his certificate into that of another.
fn named<'a>(
    mut names: impl Iterator<Item = &'a str>,
    snapshot: &Snapshot,
    settings: &directory::Settings,
) -> Option<Box<str>> {
    let (name, user) = names.find_map(|name| {
        // A name that SASLprep would change could become another's.
        let whole = prepare(name.as_bytes()).ok().filter(|whole| *whole == name)?;
        Some((name, snapshot.login(&whole, settings)?))
    })?;
    user.enabled.then(|| snapshot.login_name(name, settings).into())
}

/// Tells and counts what a client has shown.
fn tell_client<E: Env>(shard: &Shard<E>, peer: IpAddr, protocol: &str, client: &Client) {
    let owner = owner(shard, client);
    let subject = client.subject();
    let (level, name, last) = if let Some(user) = &owner {
        shard.figures.clients_known.one();
        (Level::Debug, "client_certificate", ("user", (&**user).into()))
    } else {
        shard.figures.clients_unknown.one();
        let why = client
            .fault()
            .map_or("it names no user who may log in".into(), |fault| Value::Shown(fault));
        (Level::Info, "client_certificate_refused", ("why", why))
    };
    let fields = [
        ("protocol", protocol.into()),
        ("peer", Value::Shown(&peer)),
        ("subject", subject.into()),
        last,
    ];
    event(level, name, &fields);
}

/// The version of TLS, for the log; empty in clear.
pub(super) fn version(facts: Option<&Arc<Facts>>) -> &'static str {
    facts.map_or("", |facts| facts.version())
}

/// Shakes hands with a client that will speak `protocol`. `None`: the connection has ended.
pub(super) async fn secure<E: Env>(
    shard: &Shard<E>,
    conn: Stream<E>,
    protocol: Protocol,
) -> Option<Stream<E>> {
    let settings = shard.settings().tls.clone()?;
    let Settings { context, aside, timeout, asking, .. } = &settings;
    let peer = conn.peer().ip();
    let deadline = shard.env.now().after(*timeout);
    let asking = asking(protocol);
    let protocol = protocol.name();
    let terms = Terms { context, aside: &**aside, protocol, asking };
    let shaking = Box::pin(conn.secure(&shard.env, terms, deadline));
    let draining = async {
        shard.draining.wait().await;
        None
    };
    let figures = &shard.figures;
    match or(async { Some(shaking.await) }, draining).await? {
        Ok(conn) => {
            if let Some(facts) = conn.facts() {
                let version = if facts.is_1_3() { &figures.tls_1_3 } else { &figures.tls_1_2 };
                version.one();
                if facts.is_resumed() {
                    figures.tls_resumed.one();
                }
                let suite = facts.suite();
                let fields = [
                    ("protocol", protocol.into()),
                    ("peer", Value::Shown(&peer)),
                    ("tls", facts.version().into()),
                    ("suite", suite.as_str().into()),
                    ("resumed", facts.is_resumed().into()),
                    ("name", facts.name().unwrap_or_default().into()),
                ];
                event(Level::Debug, "tls", &fields);
                if let Some(client) = facts.client() {
                    tell_client(shard, peer, protocol, client);
                }
            }
            Some(conn)
        }
        Err(failure) => {
            figures.tls_failed.one();
            let fields = [
                ("protocol", protocol.into()),
                ("peer", Value::Shown(&peer)),
                ("why", Value::Shown(&failure)),
            ];
            event(Level::Info, "tls_failed", &fields);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Ledger;
    use crate::model::time::Wall;

    #[test]
    fn the_first_name_of_a_user_says_whose_certificate_it_is() {
        let ledger = Ledger::new();
        ledger.change(|draft| {
            draft.add_domain("a.example", Wall(0))?;
            for user in ["ann@a.example", "off@a.example"] {
                draft.add_user(user, "{SSHA}", 0, Wall(0))?;
            }
            draft.set_enabled("off@a.example", false)
        });
        let (snapshot, settings) = (ledger.snapshot(), directory::Settings::default());
        let owner = |names: &[&str]| named(names.iter().copied(), &snapshot, &settings);
        assert_eq!(owner(&["ANN@a.example"]).as_deref(), Some("ann@a.example"));
        assert_eq!(owner(&["x@b.example", "ann"]).as_deref(), Some("ann@a.example"));
        // Who is switched off is nobody, and nobody else.
        assert_eq!(owner(&["off@a.example", "ann@a.example"]), None);
        for near in ["\u{ff41}nn@a.example", "a\u{ad}nn@a.example", "\u{7}ann@a.example", ""] {
            assert_eq!(owner(&[near]), None);
        }
    }
}
