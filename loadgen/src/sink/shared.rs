//! What all sessions of a sink have in common.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::profile::Profile;
use super::rule::Attempts;
use crate::values::Instant;

pub(crate) struct Shared {
    pub(crate) profile: Profile,
    pub(crate) attempts: Attempts,
    /// Where a site offers STARTTLS.
    pub(crate) acceptor: Option<TlsAcceptor>,
    /// Where messages are kept, one file each.
    pub(crate) keep: Option<PathBuf>,
    /// How long a client may say nothing.
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    pub(crate) next_connection: AtomicU64,
    pub(crate) next_message: AtomicU64,
    /// Messages after which the sink ends.
    pub(crate) count: Option<u64>,
    pub(crate) messages: AtomicU64,
    pub(crate) started: Instant,
    /// Becomes true when the sink is to end.
    pub(crate) stop: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A message was taken.
    pub(crate) fn took_one(&self) {
        let taken = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        if self.count.is_some_and(|count| taken >= count) {
            self.stop.send_replace(true);
        }
    }
}
