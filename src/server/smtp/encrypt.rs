//! STARTTLS: a session that begins anew inside (RFC 3207 §4.2).

use super::Driver;
use crate::env::Env;
use crate::proto::smtp::{Service, Session};
use crate::server::listener::Protocol;
use crate::server::pace::Coming;
use crate::server::secure::{channel, secure};
use crate::tls::Stream;
use std::rc::Rc;

impl<E: Env> Driver<E> {
    /// Takes in what is to be known of a connection before anything is said on it.
    pub(super) fn meet(&mut self, conn: &Stream<E>) {
        self.tls = conn.facts().cloned();
        let channel = channel(&self.shard, conn);
        self.session.secure(&channel);
    }

    fn protocol(&self) -> Protocol {
        match self.settings.service {
            Service::Mx => Protocol::Smtp,
            Service::Lmtp => Protocol::Lmtp,
            Service::Submission => Protocol::Submission,
        }
    }

    /// Shakes hands, and forgets all that was said before: whoever can write into a connection in clear
    /// must not have it said inside the encrypted one. `None`: the connection has ended.
    pub(super) async fn secure(&mut self, conn: Stream<E>) -> Option<Stream<E>> {
        let conn = secure(&self.shard, conn, self.protocol()).await?;
        self.session = Session::new(Rc::clone(&self.settings));
        self.coming = Coming::default();
        (self.attempt, self.login) = (None, None);
        self.guest.is_user = false;
        self.meet(&conn);
        Some(conn)
    }
}
