//! Waiting for a client, for news of its account, and for the end of the server.

use super::{Driver, Mode};
use crate::env::{Conn as _, Env};
use crate::model::time::Mono;
use crate::server::pace::Pace;
use crate::tls::Stream;
use futures_lite::future::or;
use std::io;
use std::rc::Rc;

/// What a wait for the client came to.
pub(super) enum Heard {
    Octets(usize),
    Bell,
    Draining,
}

impl<E: Env> Driver<E> {
    /// When the client has to have said something.
    fn deadline(&mut self) -> Mono {
        let settings = self.shard.settings();
        let now = self.shard.env.now();
        let mut deadline = match &self.user {
            Some(_) => now.after(settings.imap.idle_timeout),
            None => self.begun.after(settings.imap.login_timeout),
        };
        self.pace = self.appending.is_some().then(|| self.pace.unwrap_or(Pace::new(now)));
        if let Mode::Idle { until, .. } = self.mode
            && self.idles_on()
        {
            let keepalive = settings.imap.idle_keepalive.map(|pause| now.after(pause));
            deadline = keepalive.map_or(until, |next| next.min(until));
        }
        if let Some(pace) = &self.pace {
            deadline = pace.deadline(&settings, now.after(settings.data_timeout));
        } else {
            deadline = self.coming.deadline(self.framer.is_within_command(), now, deadline);
        }
        deadline
    }

    pub(super) async fn receive(&mut self, conn: &mut Stream<E>) -> io::Result<Heard> {
        let deadline = self.deadline();
        let bell = match (&self.mode, &self.user) {
            (Mode::Idle { heard, .. }, Some(user)) => Some((Rc::clone(&user.bell), *heard)),
            _ => None,
        };
        let draining = async {
            self.shard.draining.wait().await;
            Ok(Heard::Draining)
        };
        let (buffer, squeeze) = (&mut self.buffer, self.squeeze.as_deref_mut());
        let reading = async {
            let read = match squeeze {
                None => conn.read(buffer, deadline).await,
                // In a box: a session without keeps no room for it.
                Some(squeeze) => Box::pin(squeeze.read(conn, buffer, deadline)).await,
            };
            read.map(Heard::Octets)
        };
        match bell {
            None => or(reading, draining).await,
            Some((bell, heard)) => {
                let rings = async {
                    bell.past(heard).await;
                    Ok(Heard::Bell)
                };
                or(reading, or(rings, draining)).await
            }
        }
    }
}
