//! Does the server keep its promise? Sends with a journal, reads back, compares.
//!
//! ```text
//!   send    ──intent──▸ journal ◂──answer──      (the server may be killed meanwhile)
//!   verify  maildrops ──POP3──▸ found ─┐
//!                       journal ───────┴─▸ verdict
//! ```
//!
//! Every acknowledged message must be in each accepted recipient's maildrop exactly once and
//! unchanged; what was not acknowledged may be there once or not; nothing else may be there.
//! With `--imap` the same is asked of APPEND, COPY, MOVE, STORE and EXPUNGE.

mod imap;
mod journal;
pub(crate) mod message;
mod send;
mod verdict;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;

use serde::Serialize;

use crate::cli::{Address, AuditOptions, Phase};
use crate::mails::Pool;
use crate::measure::report::{Outside, Report};
use crate::measure::table::Table;
use crate::run::{Context, Plan, check_sessions, drive};
use crate::values::{Instant, Rng, to_usize, wall_seconds};
use journal::{Ledger, Writer, sync_until_dropped};
use verdict::Verdict;

/// Time between two readings of all maildrops while something is missing.
const READ_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// A session of either kind, so that one run can have both.
type Session = std::pin::Pin<Box<dyn Future<Output = ()>>>;

#[derive(Debug, Serialize)]
struct Round {
    sent: Option<Report>,
    verdict: Option<Verdict>,
}

/// Runs the command. `Ok(false)` when a verdict found something wrong.
pub(crate) fn run(options: &AuditOptions, open_files: u64) -> Result<(String, bool), String> {
    // A session has a connection and a journal; the journal's own needs are few.
    check_sessions((options.sessions + options.pop3_delete) * 2, open_files)?;
    let pool = Pool::made_up(options.size, "loadgen@example.org", options.work.seed)?;
    let (mut rounds, mut good) = (Vec::new(), true);
    for _ in 0..options.rounds.max(1) {
        let mut round = Round { sent: None, verdict: None };
        if options.phase != Phase::Verify {
            let sent = match options.imap {
                Some(imap) => imap::act(options, imap.resolved(), pool)?,
                None => send(options, pool)?,
            };
            // A server that is killed makes troubles; one that takes nothing at all is wrong.
            good &= sent.messages() > 0 || options.work.count == Some(0);
            round.sent = Some(sent);
        }
        if options.phase != Phase::Send {
            let verdict = match options.imap {
                Some(imap) => imap::verify(options, imap.resolved())?,
                None => verify(options)?,
            };
            good &= verdict.is_good();
            round.verdict = Some(verdict);
        }
        rounds.push(round);
    }
    let shown = if options.output.json {
        crate::json_line(&serde_json::json!({ "good": good, "rounds": rounds }))
    } else {
        rounds.iter().map(Round::table).collect()
    };
    Ok((shown, good))
}

/// One round of sending. Returns when all answers are in the journal, synced.
fn send(options: &AuditOptions, pool: &'static Pool) -> Result<Report, String> {
    let mut ledger = Ledger::load(&options.journal)?;
    if ledger.run == 0 {
        let mut rng = Rng::new(wall_seconds(), u64::from(std::process::id()));
        ledger.run = rng.next() | 1;
        Writer::open(&options.journal)?.run(ledger.run);
    } else {
        Writer::open(&options.journal)?.new_line();
    }
    let settings = Arc::new(send::Settings {
        smtp: asked_for(options.smtp)?,
        pop3: asked_for(options.pop3)?,
        journal: options.journal.clone(),
        journal_failed: AtomicBool::new(false),
        run: ledger.run,
        first_seq: ledger.next_seq(),
        next_deletion: AtomicU64::new(ledger.deletions + 1),
        user: options.users.user_format.clone(),
        users: options.users.users,
        password: options.users.password().clone(),
        timeout: options.work.timeout,
        patience: options.patience,
        seed: options.work.seed,
        pool,
    });
    let senders = options.sessions;
    let plan = crate::plan(&options.work, senders + options.pop3_delete, options.output.quiet);
    let mut outside = Outside::default();
    let session = |context: Context| -> Session {
        let settings = Arc::clone(&settings);
        if context.index < senders {
            Box::pin(send::sender(context, settings))
        } else {
            Box::pin(send::deleter(context, settings))
        }
    };
    let (outcome, synced) = std::thread::scope(|scope| {
        let (stop, syncing) = sync_until_dropped(scope, &options.journal)?;
        let outcome = drive(plan, &mut outside, session);
        drop(stop);
        let synced = syncing.join().map_err(|_| "the journal's thread died".to_owned())?;
        Ok::<_, String>((outcome, synced))
    })?;
    synced.map_err(|error| format!("{}: {error}", options.journal.display()))?;
    if settings.journal_failed.load(Ordering::Relaxed) {
        return Err(format!("{}: could not be written", options.journal.display()));
    }
    Ok(Report::new("audit: send", &outcome, &outside))
}

/// The command line wants both addresses where `--imap` is not given.
fn asked_for(address: Option<Address>) -> Result<SocketAddr, String> {
    address.map(Address::resolved).ok_or_else(|| "--smtp and --pop3, or --imap".into())
}

/// Reads all maildrops, again while something is missing and there is patience.
fn verify(options: &AuditOptions) -> Result<Verdict, String> {
    let ledger = Ledger::load(&options.journal)?;
    if ledger.run == 0 {
        return Err(format!("{}: no journal of an audit", options.journal.display()));
    }
    let settings = Arc::new(verify::Settings {
        pop3: asked_for(options.pop3)?,
        run: ledger.run,
        user: options.users.user_format.clone(),
        password: options.users.password().clone(),
        timeout: options.work.timeout,
        patience: options.patience,
    });
    let sessions = options.sessions.min(to_usize(options.users.users));
    let plan = Plan {
        sessions,
        threads: options.work.threads,
        count: Some(options.users.users),
        duration: None,
        rate: None,
        quiet: options.output.quiet,
    };
    let began = Instant::now();
    loop {
        let (found, found_in) = channel();
        let outcome = drive(plan, &mut Outside::default(), |context| {
            verify::session(context, Arc::clone(&settings), found.clone())
        });
        drop((found, outcome));
        let found: Vec<_> = found_in.into_iter().collect();
        let verdict = verdict::judge(&ledger, &found);
        if !verdict.may_improve() || began.elapsed() > options.patience {
            return Ok(verdict);
        }
        crate::measure::report::pause(READ_AGAIN_AFTER);
    }
}

impl Round {
    fn table(&self) -> String {
        let mut out = self.sent.as_ref().map_or_else(String::new, |sent| sent.show(false));
        if let Some(verdict) = &self.verdict {
            let mut table = Table::default();
            table.gap();
            table.row("work", "audit: verify");
            verdict.rows(&mut table);
            table.row("verdict", if verdict.is_good() { "good" } else { "WRONG" });
            out.push('\n');
            out.push_str(&table.show());
        }
        out
    }
}
