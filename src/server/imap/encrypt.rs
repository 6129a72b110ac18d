//! STARTTLS: a session that begins anew inside (RFC 9051 §6.2.1); and what is known of a connection.

use super::{Done, Driver, offer};
use crate::env::Env;
use crate::model::channel::{CLEAR, Channel};
use crate::server::listener::Protocol;
use crate::server::secure::{channel, secure};
use crate::tls::Stream;
use crate::wire::imap::reply::status::{Kind, Status};

impl<E: Env> Driver<E> {
    /// Takes in what is to be known of a connection before anything is said on it.
    pub(super) fn meet(&mut self, conn: &Stream<E>) {
        self.tls = conn.facts().cloned();
        self.channel = self.tls.as_ref().map(|_| Box::new(channel(&self.shard, conn)));
    }

    pub(super) fn channel(&self) -> &Channel {
        self.channel.as_deref().unwrap_or(&CLEAR)
    }

    pub(super) fn start_tls(&mut self, tag: &str) -> Done {
        if self.user.is_some() || !offer::offers_tls(&self.shard.settings().imap, self.channel()) {
            return Done::Bad("TLS is not offered here");
        }
        Status::tagged(tag, Kind::Ok, "go on with TLS").put(&mut self.out);
        Done::Secure
    }

    /// Shakes hands, and forgets all that was said in clear, and all that follows it. `None`: the
    /// connection has ended.
    pub(super) async fn secure(
        self: Box<Self>,
        conn: Stream<E>,
    ) -> Option<(Box<Driver<E>>, Stream<E>)> {
        let Driver { shard, peer, .. } = *self;
        let conn = secure(&shard, conn, Protocol::Imap).await?;
        let mut fresh = Driver::new(shard, peer);
        fresh.meet(&conn);
        Some((fresh, conn))
    }
}
