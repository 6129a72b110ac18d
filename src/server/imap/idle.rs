//! IDLE (RFC 2177, RFC 9051 §6.3.13).

use super::{Done, Driver, Mode};
use crate::env::Env;
use crate::wire::imap::reply::status::{Kind, Status};

impl<E: Env> Driver<E> {
    pub(super) fn idle(&mut self, tag: &str) -> Done {
        let heard = self.user.as_ref().map_or(0, |user| user.bell.rung());
        self.out.put(b"+ idling\r\n");
        self.mode = Mode::Idle { tag: tag.into(), heard };
        self.sync(true);
        Done::Said
    }

    /// Something of the account changed while the client waits for it.
    pub(super) fn news(&mut self) {
        let rung = self.user.as_ref().map_or(0, |user| user.bell.rung());
        if let Mode::Idle { heard, .. } = &mut self.mode {
            *heard = rung;
            self.sync(true);
        }
    }

    /// A line while idling: DONE, or an error.
    pub(super) fn on_idle_line(&mut self, line: &[u8]) {
        let Mode::Idle { tag, .. } = std::mem::replace(&mut self.mode, Mode::Command) else {
            return;
        };
        if line.eq_ignore_ascii_case(b"DONE") {
            self.sync(true);
            Status::tagged(&tag, Kind::Ok, "no longer idling").put(&mut self.out);
        } else {
            self.errors += 1;
            Status::tagged(&tag, Kind::Bad, "DONE was expected").put(&mut self.out);
        }
    }
}
