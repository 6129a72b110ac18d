//! What a client meets before its mail is taken: what is held against it, at the greeting, at XCLIENT
//! and at each recipient.

use super::reply::NO_USER;
use super::{Driver, Goes};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::env::{Conn as _, Env};
use crate::model::limits::UNKNOWN_RECIPIENT_PAUSE;
use crate::proto::smtp::Verdict;
use crate::server::guest::Missed;
use crate::server::listener::{Admitted, may_connect, smtp_settings};
use crate::tls::Stream;
use crate::wire::smtp::command::Recipient;
use crate::wire::smtp::reply::Reply;
use crate::wire::smtp::xclient::Xclient;
use std::rc::Rc;
use std::time::Duration;

/// Why a recipient is not taken.
pub(super) enum No {
    Reply(Reply<'static>),
    /// Now; after so long it may be.
    Greylisted(Duration),
}

impl From<Reply<'static>> for No {
    fn from(reply: Reply<'static>) -> No {
        No::Reply(reply)
    }
}

impl<E: Env> Driver<E> {
    /// Whether the client says something while it is to be silent.
    pub(super) async fn speaks_early(&self, conn: &mut Stream<E>, buffer: &mut Buffer) -> bool {
        let Some(delay) = self.guest.greet_delay(&self.shard) else { return false };
        let deadline = self.shard.env.now().after(delay);
        matches!(conn.read(buffer, deadline).await, Ok(1..))
    }

    /// Says so, and hangs up.
    pub(super) async fn refuse_early(&mut self, mut conn: Stream<E>) {
        self.guest.spoke_early(&self.shard);
        // 421: a 554 here would have to be answered with QUIT before we may go (RFC 5321 §3.1).
        self.settings.greet_refused("You spoke before the greeting", &mut self.ready);
        if self.flush(&mut conn).await.is_ok() {
            conn.close().await;
        }
    }

    /// A trusted proxy says who its client is: the session begins anew with that one, and counts as
    /// its connection. What comes from here on is the client's word, so nobody else is named on this
    /// connection.
    pub(super) fn on_client(&mut self, told: Xclient) {
        let hello = told.hello();
        self.settings = smtp_settings(&self.shard, self.protocol);
        let settings = Rc::clone(&self.settings);
        let before = self.peer;
        self.peer = self.guest.introduce(&self.shard, told);
        // Who logged in before is not this client.
        (self.attempt, self.login) = (None, None);
        let mut out = Chain::new();
        let mut refused = None;
        if self.peer != before {
            match Admitted::new(&self.shard, self.peer) {
                Some(admitted) => self.admitted = admitted,
                None => refused = Some("Too many connections"),
            }
            if may_connect(&self.shard, self.peer, self.protocol).is_err() {
                refused = Some("Your address connects too often");
            }
        }
        match refused {
            None => self.session.introduced(hello, settings, &mut out),
            Some(why) => {
                self.session.introduced(hello, settings, &mut Chain::new());
                self.session.turn_out(why, &mut out);
            }
        }
        self.put(out);
    }

    /// Some: the owners of other shards have to be asked first, or the client has to wait.
    pub(super) fn on_recipient(&mut self, recipient: &Recipient<'_>) -> Option<Goes> {
        if let Some(why) = self.guest.refuses_listed(&self.shard, &recipient.path) {
            self.put_recipient(Verdict::Refuse(Reply::new(550, 7, 1, &why)));
            return None;
        }
        if let Some(reply) = self.guest.refuses_recipients(&self.shard) {
            self.put_recipient(Verdict::Refuse(reply));
            return Some(Goes::Wait(UNKNOWN_RECIPIENT_PAUSE));
        }
        let verdict = match self.admit(recipient) {
            Ok(None) => Verdict::Accept,
            Ok(Some(asking)) => return Some(Goes::Ask(Box::new(asking))),
            Err(No::Reply(reply)) => Verdict::Refuse(reply),
            Err(No::Greylisted(wait)) => {
                let why = format!("Greylisted: come back in {} seconds", wait.as_secs());
                self.put_recipient(Verdict::Refuse(Reply::new(451, 7, 1, &why)));
                return None;
            }
        };
        self.put_recipient(verdict);
        if verdict == Verdict::Refuse(NO_USER) { self.on_missed() } else { None }
    }

    /// The client was told that somebody is not there.
    pub(super) fn on_missed(&mut self) -> Option<Goes> {
        match self.guest.missed(&self.shard) {
            Missed::GoesOn => None,
            Missed::Waits(pause) => Some(Goes::Wait(pause)),
            Missed::Ends if self.session.is_closing() => None,
            Missed::Ends => {
                let mut out = Chain::new();
                self.session.turn_out("Too many unknown recipients", &mut out);
                self.put(out);
                None
            }
        }
    }
}
