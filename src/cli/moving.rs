//! What import and export have in common: whom they ask, running or stopped, and how.

use super::progress::Clock;
use super::{Asking, Failure, Session};
use crate::admin::request::moving::{Ask, Reply};
use crate::admin::request::{Request, Response};
use crate::admin::socket::{self, Answer, AskError};
use crate::config::Config;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The server closes connections that say nothing for longer: then another one is opened.
const SILENT_MAX: Duration = Duration::from_secs(20);

/// A server that runs.
struct Running<'a> {
    path: &'a Path,
    session: socket::Session,
    asked_at: Clock,
}

impl Asking for Running<'_> {
    fn ask(&mut self, request: Request, octets: Vec<u8>) -> Result<Answer, Failure> {
        if self.asked_at.age() > SILENT_MAX {
            self.session = socket::Session::open(self.path).map_err(|error| match error {
                AskError::NotRunning => Failure::Failed("the server was stopped".into()),
                AskError::Failed(error) => failed(self.path, &error),
            })?;
        }
        let answer = self.session.ask(&request, &octets);
        self.asked_at = Clock::begin();
        answer.map_err(|error| failed(self.path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

/// Has `work` ask the server, or the store where no server runs.
pub(super) fn with_store(
    session: &Session<'_>,
    config: &Config,
    work: &mut dyn FnMut(&mut dyn Asking) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let path = config.admin_socket();
    match socket::Session::open(&path) {
        Ok(session) => work(&mut Running { path: &path, session, asked_at: Clock::begin() }),
        Err(AskError::NotRunning) => session.actions.with_stopped(session.named, work),
        Err(AskError::Failed(error)) => Err(failed(&path, &error)),
    }
}

/// Asks about the mail of a user.
pub(super) fn ask(
    asking: &mut dyn Asking,
    address: &str,
    ask: Ask,
    octets: Vec<u8>,
) -> Result<(Reply, Vec<u8>), Failure> {
    let (address, count) = (address.to_owned(), octets.len() as u64);
    let request = Request::Moving { address, ask: Box::new(ask), octets: count };
    let Answer { response, octets } = asking.ask(request, octets)?;
    match response {
        Response::Moving { reply, .. } => Ok((*reply, octets)),
        Response::Refused(why) => Err(Failure::Failed(why)),
        Response::Wrong(why) => Err(Failure::Wrong(why)),
        _ => Err(strange()),
    }
}

/// A reply that has nothing to say.
pub(super) fn done(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Failed(why) => Err(Failure::Failed(why)),
        _ => Err(strange()),
    }
}

pub(super) fn strange() -> Failure {
    Failure::Failed("the server is of another release: restart it".into())
}
