//! Handshakes of sessions: bounded in time, counted, told.

use super::shard::Shard;
use crate::env::{Conn as _, Env};
use crate::model::channel::{Binding, Channel};
use crate::probe::event::{Level, Value, event};
use crate::tls::{Aside, Context, Facts, Stream};
use futures_lite::future::or;
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
}

/// What the protocol's machine is told of a connection.
pub(super) fn channel<E: Env>(conn: &Stream<E>) -> Channel {
    let Some(facts) = conn.facts() else { return Channel::default() };
    let end_point = facts.server_end_point().map(Into::into);
    let binding = Binding { exporter: facts.exporter(), end_point };
    Channel { encrypted: true, binding, certificate: None }
}

/// The version of TLS, for the log; empty in clear.
pub(super) fn version(facts: Option<&Arc<Facts>>) -> &'static str {
    facts.map_or("", |facts| facts.version())
}

/// Shakes hands with a client that will speak `protocol`. `None`: the connection has ended.
pub(super) async fn secure<E: Env>(
    shard: &Shard<E>,
    conn: Stream<E>,
    protocol: &'static str,
) -> Option<Stream<E>> {
    let settings = shard.settings().tls.clone()?;
    let Settings { context, aside, timeout, .. } = &settings;
    let peer = conn.peer().ip();
    let deadline = shard.env.now().after(*timeout);
    let shaking = Box::pin(conn.secure(&shard.env, context, &**aside, protocol, deadline));
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
