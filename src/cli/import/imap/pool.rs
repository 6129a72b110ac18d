//! Connections to another server: as many as are wanted, or as it allows, made anew when they are lost.

use super::connection::{Account, Connection, Trouble};
use super::transport::is_distrust;
use crate::wire::imap::answer::{Answer, Value};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a server that does not take us any more is called, in vain.
const CALLS_MAX: u32 = 8;
/// The longest pause between two calls.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often somebody who waits looks whether all has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// See the header.
pub(super) struct Pool {
    account: Account,
    idle: (Sender<Connection>, Receiver<Connection>),
    /// Connections that are open, or being opened.
    open: AtomicUsize,
    /// How many there may be.
    open_max: AtomicUsize,
    /// The first one came to be.
    is_known: AtomicBool,
    is_dovecot: AtomicBool,
    is_stopped: AtomicBool,
}

impl Pool {
    pub(super) fn new(account: Account, connections: usize) -> Pool {
        Pool {
            account,
            idle: bounded(connections.max(1)),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(connections.max(1)),
            is_known: AtomicBool::new(false),
            is_dovecot: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.account.place.host
    }

    /// Whether the server says that it is a Dovecot.
    pub(super) fn is_dovecot(&self) -> bool {
        self.is_dovecot.load(Ordering::Relaxed)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Ends all waits, and says goodbye.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        while let Ok(connection) = self.idle.1.try_recv() {
            connection.close();
        }
    }

    /// Works with a connection, which lives on unless it was lost.
    pub(super) fn with<T>(
        &self,
        work: &mut dyn FnMut(&mut Connection) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut connection = self.take()?;
        let done = work(&mut connection);
        let is_of_use = matches!(done, Ok(_) | Err(Trouble::Refused(_))) && !self.is_stopped();
        if !is_of_use || self.idle.0.try_send(connection).is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        done
    }

    /// Waits a while, longer with each try.
    pub(super) fn pause(&self, tries: u32) {
        let mut left = Duration::from_secs(1 << (tries.clamp(1, 6) - 1)).min(PAUSE_MAX);
        while !left.is_zero() && !self.is_stopped() {
            std::thread::park_timeout(LOOK_PAUSE.min(left));
            left = left.saturating_sub(LOOK_PAUSE);
        }
    }

    fn take(&self) -> Result<Connection, Trouble> {
        let mut calls = 0;
        loop {
            if self.is_stopped() {
                return Err(Trouble::Fatal(super::STOPPED.into()));
            }
            if let Ok(connection) = self.idle.1.try_recv() {
                return Ok(connection);
            }
            let open_max = self.open_max.load(Ordering::Relaxed);
            let more = |open: usize| (open < open_max).then_some(open + 1);
            if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                if let Ok(connection) = self.idle.1.recv_timeout(LOOK_PAUSE) {
                    return Ok(connection);
                }
                continue;
            }
            let trouble = match self.call() {
                Ok(connection) => return Ok(connection),
                Err(trouble) => trouble,
            };
            let others = self.open.fetch_sub(1, Ordering::Relaxed) - 1;
            let is_known = self.is_known.load(Ordering::Relaxed);
            let is_distrust = matches!(&trouble, Trouble::Lost(error) if is_distrust(error));
            if !is_known || is_distrust || calls >= CALLS_MAX {
                return Err(Trouble::Fatal(trouble.to_string()));
            }
            // It took others: so many it takes, and no more.
            if others > 0 && matches!(trouble, Trouble::Refused(_)) {
                self.open_max.fetch_min(others, Ordering::Relaxed);
            }
            calls += 1;
            self.pause(calls);
        }
    }

    fn call(&self) -> Result<Connection, Trouble> {
        let mut connection = Connection::open(&self.account)?;
        if !self.is_known.swap(true, Ordering::Relaxed) && connection.can("ID") {
            let mut is_dovecot = false;
            // Not every server likes to be asked.
            let asked = connection.done("ID (\"name\" \"pombal\")", &mut |(answer, _)| {
                if let Answer::Id(values) = answer {
                    is_dovecot = values.iter().any(|value| {
                        matches!(value, Value::Text(text) if text.eq_ignore_ascii_case(b"Dovecot"))
                    });
                }
                Ok(())
            });
            match asked {
                Ok(()) => self.is_dovecot.store(is_dovecot, Ordering::Relaxed),
                Err(Trouble::Refused(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(connection)
    }
}
