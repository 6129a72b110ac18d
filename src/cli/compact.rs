//! `store compact`: asks for one unit after the other, tells how it goes on, and sums up.

use super::{Failure, Session, StoreTask, show};
use crate::admin::request::{CompactRow, Request, Response};
use crate::admin::socket::{AskError, ask};
use crate::config::units::show_size;
use serde::Serialize;
use std::io::Write;

/// What cleaning came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compaction {
    pub logs: u16,
    #[serde(flatten)]
    pub sum: CompactRow,
}

impl Compaction {
    /// Adds what was done in a log.
    pub fn add(&mut self, log: u16, done: &CompactRow) {
        self.logs = self.logs.max(log + 1);
        self.sum.segments += done.segments;
        self.sum.moved += done.moved;
        self.sum.moved_octets += done.moved_octets;
        self.sum.damaged += done.damaged;
        self.sum.reclaimed_octets += done.reclaimed_octets;
    }

    /// How far it is, in a line.
    pub fn progress(&self, log: u16) -> String {
        format!("log {log}: {}", self.words())
    }

    fn words(&self) -> String {
        let CompactRow { segments, moved, moved_octets, reclaimed_octets, .. } = self.sum;
        format!(
            "{segments} segments cleaned, {moved} messages moved ({}), {} free again",
            show_size(moved_octets),
            show_size(reclaimed_octets)
        )
    }

    /// What it came to. Messages that could not be read make it a failure.
    pub fn show(&self, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        if json {
            show::json(self, out)?;
        } else {
            writeln!(out, "{} logs: {}", self.logs, self.words())?;
        }
        match self.sum.damaged {
            0 => Ok(()),
            damaged => Err(Failure::Failed(format!(
                "{damaged} messages cannot be read and were left where they are: pombal store verify"
            ))),
        }
    }
}

/// Of a server that runs, or of the store alone.
pub(super) fn run(
    session: &Session<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let config = session.load()?.config;
    let socket = config.admin_socket();
    let mut all = Compaction::default();
    let mut cursor = None;
    loop {
        match ask(&socket, &Request::StoreCompact { cursor }) {
            Ok(Response::Compacted { log, done, next }) => {
                all.add(log, &done);
                if done.segments > 0 && !session.json {
                    writeln!(err, "{}", all.progress(log))?;
                }
                cursor = next;
                if cursor.is_none() {
                    return all.show(session.json, out);
                }
            }
            Ok(response) => {
                show::response(&response, session.json, out)?;
                return Err(Failure::Failed("the server gave another answer".into()));
            }
            Err(AskError::NotRunning) if cursor.is_none() => {
                return session.actions.store(&config, &StoreTask::Compact, session.json, out);
            }
            Err(AskError::NotRunning) => {
                return Err(Failure::Failed("the server stopped meanwhile".into()));
            }
            Err(AskError::Failed(error)) => {
                return Err(Failure::Failed(format!("{}: {error}", socket.display())));
            }
        }
    }
}
