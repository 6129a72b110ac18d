//! IMAP: measured mixes of commands, the filling of mailboxes, the fan-out of IDLE.
//!
//! ```text
//!   mix      what is done, as data         session   one connection, its tags
//!   perform  does a script per ticket      watch     IDLE: one appends, all others see it
//!   fill     MULTIAPPEND, pipelined APPEND          check     many clients, one mailbox, one truth
//! ```

mod check;
mod fill;
pub(crate) mod mix;
pub(crate) mod options;
mod perform;
pub(crate) mod session;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::mails::Pool;
use crate::measure::report::{Report, Unit, shortfall};
use crate::measure::tally::Stage;
use crate::run::{Context, check_sessions, drive};
use crate::values::{Pattern, to_u64};
use crate::wire::link::Trouble;
use mix::Mix;
use options::ImapOptions;
use session::{Answer, Session};

/// What all sessions of a run have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) to: SocketAddr,
    pub(crate) user: Pattern,
    pub(crate) users: u64,
    pub(crate) password: Pattern,
    pub(crate) sessions: u64,
    /// Quoted, as it goes over the wire.
    pub(crate) mailbox: Vec<u8>,
    /// Quoted.
    pub(crate) word: Vec<u8>,
    pub(crate) batch: u64,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    pub(crate) pool: &'static Pool,
}

impl Settings {
    fn new(options: &ImapOptions) -> Result<Settings, String> {
        Ok(Settings {
            to: options.to.resolved(),
            user: options.users.user_format.clone(),
            users: options.users.users,
            password: options.users.password().clone(),
            sessions: to_u64(options.sessions),
            mailbox: quoted(&options.mailbox)?,
            word: quoted(&options.word)?,
            batch: options.batch,
            timeout: options.work.timeout,
            seed: options.work.seed,
            pool: Pool::made_up(options.size, "loadgen@example.org", options.work.seed)?,
        })
    }

    /// Connects and logs in as this user.
    pub(crate) async fn log_in(&self, user: u64) -> Result<Session, Trouble> {
        let mut session = Session::open(self.to).await?;
        session.login(&self.user, &self.password, user).await?;
        Ok(session)
    }

    /// Makes the mailbox. That it is there already, as INBOX always is, is no error.
    pub(crate) async fn create(&self, session: &mut Session) -> Result<(), Trouble> {
        if !self.mailbox.eq_ignore_ascii_case(b"\"INBOX\"") {
            session.command(&[b"CREATE ", self.mailbox.as_slice()].concat()).await?;
        }
        Ok(())
    }

    pub(crate) async fn select(&self, session: &mut Session) -> Result<(), Trouble> {
        session.must(&[b"SELECT ", self.mailbox.as_slice()].concat()).await
    }

    /// Which share of its user's mailbox a session has, and how many shares there are.
    pub(crate) fn share(&self, index: usize) -> (u64, u64) {
        let (share, user) = (to_u64(index) / self.users, to_u64(index) % self.users);
        (share, (self.sessions - user).div_ceil(self.users))
    }
}

/// A quoted string (RFC 9051 §4.3).
pub(crate) fn quoted(text: &str) -> Result<Vec<u8>, String> {
    if text.contains(['"', '\\', '\r', '\n', '\0']) {
        return Err(format!("{text:?}: quotes, backslashes and line ends are not understood here"));
    }
    Ok(format!("\"{text}\"").into_bytes())
}

/// Counts the answer to a command that was begun at `from_ns`.
pub(crate) fn count(
    context: &Context,
    stage: Stage,
    from_ns: u64,
    answer: Answer,
    session: &Session,
) {
    let latency_ns = context.now_ns().saturating_sub(from_ns);
    context.count(|tally| {
        tally.reply(stage, answer.code());
        tally.fetched += answer.fetched;
        tally.command(stage, latency_ns);
        if !answer.is_ok() {
            tally.text(stage, answer.code(), || session.said.clone());
        }
    });
}

/// Runs the command. `Ok(false)` when something went wrong.
pub(crate) fn run(options: &ImapOptions, open_files: u64) -> Result<(String, bool), String> {
    check_sessions(options.sessions, open_files)?;
    if options.check {
        return check::run(options);
    }
    let settings = Arc::new(Settings::new(options)?);
    let mut outside = crate::outside(&options.server)?;
    let mut work = options.work.clone();
    if options.mix == Mix::Prepare && work.duration.is_none() {
        work.count = work.count.or(Some(settings.users));
    }
    let plan = crate::plan(&work, options.sessions, options.output.quiet);
    let outcome = match (options.mix, options.mix.script()) {
        (_, Some(script)) => drive(plan, &mut outside, |context| {
            perform::session(context, Arc::clone(&settings), script)
        }),
        (Mix::Idle, None) => {
            if options.sessions < 2 {
                return Err("--sessions: one that appends and at least one that watches".into());
            }
            let board = Arc::new(watch::Board::default());
            drive(plan, &mut outside, |context| {
                watch::session(context, Arc::clone(&settings), Arc::clone(&board))
            })
        }
        (_, None) => {
            drive(plan, &mut outside, |context| fill::session(context, Arc::clone(&settings)))
        }
    };
    let work_name = format!("imap {}", options.mix.label());
    let mut report = Report::new(&work_name, &outcome, &outside).counted_in(Unit::Operations);
    let asked = work.count.filter(|_| plan.duration.is_none());
    let short = shortfall(asked, report.messages());
    let good = report.errors() == 0 && short.is_none() && report.messages() > 0;
    if let Some(short) = short {
        report.note(short);
    }
    Ok((report.show(options.output.json), good || options.allow_errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_needs_no_more() {
        assert_eq!(quoted("A b"), Ok(b"\"A b\"".to_vec()));
        assert!(quoted("a\"b").is_err() && quoted("a\r\nb").is_err());
    }
}
