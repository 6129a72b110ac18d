//! The audit over IMAP: does each tagged OK hold?
//!
//! ```text
//!   act      ──what is about to be asked──▸ journal ◂──OK──   (the server may be killed meanwhile)
//!   read     both mailboxes of each user ──▸ found ─┐
//!                                   journal ────────┴─▸ verdict
//! ```
//!
//! A message whose last command was not answered may be as it was before that command or as
//! it is behind it, and nothing in between: a MOVE that was cut off may leave no second copy.

mod act;
mod journal;
mod read;
mod verdict;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::journal::{Writer, sync_until_dropped};
use super::verdict::Verdict;
use crate::cli::AuditOptions;
use crate::imap::session::Session;
use crate::mails::Pool;
use crate::measure::report::{Outside, Report, Unit};
use crate::run::{Plan, drive};
use crate::values::{Pattern, Rng, to_usize, wall_seconds};
use crate::wire::link::Trouble;
use journal::Ledger;

/// How a session gets in.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    imap: SocketAddr,
    user: Pattern,
    password: Pattern,
    timeout: Duration,
}

impl Account {
    fn new(options: &AuditOptions, imap: SocketAddr) -> Account {
        Account {
            imap,
            user: options.users.user_format.clone(),
            password: options.users.password().clone(),
            timeout: options.work.timeout,
        }
    }

    async fn log_in(&self, user: u64) -> Result<Session, Trouble> {
        let mut session = Session::open(self.imap).await?;
        session.login(&self.user, &self.password, user).await?;
        Ok(session)
    }
}

fn load(path: &Path) -> Result<Ledger, String> {
    Ok(Ledger::parse(&super::journal::text(path)?))
}

/// One round of acting. Returns when all answers are in the journal, synced.
pub(crate) fn act(
    options: &AuditOptions,
    imap: SocketAddr,
    pool: &'static Pool,
) -> Result<Report, String> {
    let mut ledger = load(&options.journal)?;
    if ledger.run == 0 {
        ledger.run = Rng::new(wall_seconds(), u64::from(std::process::id())).next() | 1;
        Writer::open(&options.journal)?.run(ledger.run);
    } else {
        Writer::open(&options.journal)?.new_line();
    }
    let settings = Arc::new(act::Settings {
        account: Account::new(options, imap),
        users: options.users.users,
        journal: options.journal.clone(),
        journal_failed: AtomicBool::new(false),
        run: ledger.run,
        next_seq: AtomicU64::new(ledger.next_seq()),
        next_deed: AtomicU64::new(ledger.next_deed),
        patience: options.patience,
        seed: options.work.seed,
        pool,
    });
    let plan = crate::plan(&options.work, options.sessions, options.output.quiet);
    let mut outside = Outside::default();
    let (outcome, synced) = std::thread::scope(|scope| {
        let (stop, syncing) = sync_until_dropped(scope, &options.journal)?;
        let outcome =
            drive(plan, &mut outside, |context| act::session(context, Arc::clone(&settings)));
        drop(stop);
        let synced = syncing.join().map_err(|_| "the journal's thread died".to_owned())?;
        Ok::<_, String>((outcome, synced))
    })?;
    synced.map_err(|error| format!("{}: {error}", options.journal.display()))?;
    if settings.journal_failed.load(Ordering::Relaxed) {
        return Err(format!("{}: could not be written", options.journal.display()));
    }
    Ok(Report::new("audit: act by IMAP", &outcome, &outside).counted_in(Unit::Operations))
}

/// Reads all mailboxes and judges. There is no queue: what is missing now stays so.
pub(crate) fn verify(options: &AuditOptions, imap: SocketAddr) -> Result<Verdict, String> {
    let ledger = load(&options.journal)?;
    if ledger.run == 0 {
        return Err(format!("{}: no journal of an audit", options.journal.display()));
    }
    let settings = Arc::new(read::Settings {
        account: Account::new(options, imap),
        run: ledger.run,
        patience: options.patience,
    });
    let plan = Plan {
        sessions: options.sessions.min(to_usize(options.users.users)),
        threads: options.work.threads,
        count: Some(options.users.users),
        duration: None,
        rate: None,
        quiet: options.output.quiet,
    };
    let (found, found_in) = channel();
    let outcome = drive(plan, &mut Outside::default(), |context| {
        read::session(context, Arc::clone(&settings), found.clone())
    });
    drop((found, outcome));
    let found: Vec<_> = found_in.into_iter().collect();
    Ok(verdict::judge(&ledger, &found))
}
