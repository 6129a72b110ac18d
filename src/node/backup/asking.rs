//! Who has the logs that a backup is made of: a server that runs, or nobody else.

use crate::admin::request::{Request, Response};
use crate::admin::socket::{self, AskError};
use crate::cli::Failure;
use crate::config::Config;
use crate::model::id::LogId;
use crate::node::data_dir::{self, Held, LOCK_PATIENCE};
use crate::node::offline;
use crate::store::backup::{Ask, Base, Cut, Reply};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Holds the logs as they are, as long as it is heard of ([`Asker::hold`]).
pub(super) struct Asker {
    /// None: the data directory is held, and no log is open.
    server: Option<PathBuf>,
    _held: Option<Held>,
    token: u64,
    logs: u16,
}

impl Asker {
    /// Begins a backup: each log with its checkpoint, and how far it reaches. All of a moment that is
    /// the first log's.
    pub(super) fn begin(config: &Config) -> Result<(Asker, Vec<(Base, Cut)>), Failure> {
        let mut token = [0; 8];
        getrandom::fill(&mut token).map_err(|error| Failure::Failed(error.to_string()))?;
        let token = u64::from_le_bytes(token);
        let socket = config.admin_socket();
        if UnixStream::connect(&socket).is_ok() {
            let mut asker = Asker { server: Some(socket), _held: None, token, logs: 1 };
            let begun = asker.ask_all();
            if begun.is_err() {
                asker.end();
            }
            return begun.map(|parts| (asker, parts));
        }
        let held = data_dir::hold_existing(config, LOCK_PATIENCE)?;
        let logs = (0..held.logs).map(LogId);
        let parts =
            logs.map(|log| offline::backup(config, &held, log, token)).collect::<Result<_, _>>()?;
        let logs = held.logs;
        Ok((Asker { server: None, _held: Some(held), token, logs }, parts))
    }

    fn ask_all(&mut self) -> Result<Vec<(Base, Cut)>, Failure> {
        let token = self.token;
        let mut bases = Vec::new();
        let mut log = 0;
        while log < self.logs {
            let Reply::Base(base) = self.ask(log, Ask::Begin { token })? else {
                return Err(other());
            };
            self.logs = base.logs;
            bases.push(base);
            log += 1;
        }
        let mut parts = Vec::new();
        for base in bases {
            let Reply::Cut(cut) = self.ask(base.log, Ask::Cut { token })? else {
                return Err(other());
            };
            parts.push((base, cut));
        }
        Ok(parts)
    }

    fn ask(&self, log: u16, ask: Ask) -> Result<Reply, Failure> {
        let Some(socket) = &self.server else { return Ok(Reply::Done) };
        match socket::ask(socket, &Request::Backup { log, ask }) {
            Ok(Response::Backup(reply)) => Ok(*reply),
            Ok(Response::Refused(why) | Response::Wrong(why)) => Err(Failure::Failed(why)),
            Ok(_) => Err(other()),
            Err(AskError::NotRunning) => {
                Err(Failure::Failed("the server stopped meanwhile: begin again".into()))
            }
            Err(AskError::Failed(error)) => {
                Err(Failure::Failed(format!("{}: {error}", socket.display())))
            }
        }
    }

    /// Says that somebody is still at it; fails where a log is not kept as it was.
    pub(super) fn hold(&self) -> Result<(), Failure> {
        let token = self.token;
        (0..self.logs).try_for_each(|log| self.ask(log, Ask::Hold { token }).map(drop))
    }

    /// Lets the logs go.
    pub(super) fn end(&self) {
        let token = self.token;
        for log in 0..self.logs {
            // A log that does not hear of it is let go when its time is over.
            drop(self.ask(log, Ask::End { token }));
        }
    }
}

fn other() -> Failure {
    Failure::Failed("the server is of another release: restart it".into())
}
