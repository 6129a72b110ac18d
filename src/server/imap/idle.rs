//! IDLE (RFC 2177, RFC 9051 §6.3.13), with a line now and then where nothing happens.

use super::{Done, Driver, Mode, Outcome};
use crate::env::Env;
use crate::model::time::Mono;
use crate::tls::Stream;
use crate::wire::imap::reply::status::{Kind, Status};
use std::io;

impl<E: Env> Driver<E> {
    pub(super) async fn idle(&mut self, conn: &mut Stream<E>, tag: &str) -> Outcome {
        let heard = self.user.as_ref().map_or(0, |user| user.bell.rung());
        self.out.put(b"+ idling\r\n");
        self.mode = Mode::Idle { tag: tag.into(), heard, until: self.timeout() };
        self.sync(conn, true).await?;
        Ok(Done::Said)
    }

    /// Something of the account changed while the client waits for it.
    pub(super) async fn news(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        if self.ended().is_some() {
            // It hears that, and not of the messages that go one by one.
            return Ok(());
        }
        let rung = self.user.as_ref().map_or(0, |user| user.bell.rung());
        let timeout = self.timeout();
        if let Mode::Idle { heard, until, .. } = &mut self.mode {
            (*heard, *until) = (rung, timeout);
            self.sync(conn, true).await?;
        }
        Ok(())
    }

    fn timeout(&self) -> Mono {
        self.shard.env.now().after(self.shard.settings().imap.idle_timeout)
    }

    /// Whether the client idles, with no part of a line there, and may do so for longer (RFC 2177:
    /// it has to say something at least every 29 minutes).
    pub(super) fn idles_on(&self) -> bool {
        let Mode::Idle { until, .. } = self.mode else { return false };
        self.shard.env.now() < until && !self.framer.is_within_command()
    }

    /// A line while idling: DONE, or an error.
    pub(super) async fn on_idle_line(
        &mut self,
        conn: &mut Stream<E>,
        line: &[u8],
    ) -> io::Result<()> {
        let Mode::Idle { tag, .. } = std::mem::replace(&mut self.mode, Mode::Command) else {
            return Ok(());
        };
        if line.eq_ignore_ascii_case(b"DONE") {
            self.sync(conn, true).await?;
            Status::tagged(&tag, Kind::Ok, "no longer idling").put(&mut self.out);
        } else {
            self.errors += 1;
            Status::tagged(&tag, Kind::Bad, "DONE was expected").put(&mut self.out);
        }
        Ok(())
    }
}
