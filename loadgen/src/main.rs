//! loadgen: measures and audits mail servers over SMTP, LMTP, POP3 and IMAP.
//!
//! Independent of the server it measures: own client code, own figures, own journal. It
//! takes from the server's library nothing but maps with a fixed order.
//!
//! ```text
//!   cli       what was asked            smtp pop3 imap   one session each
//!   run       threads, clock, pace      idle audit       memory; journal, send, verify
//!   mails     what is sent              wire             replies, dots, one connection
//!   measure   counts, /proc, HTTP, the table     sink   a server that receives
//!   relay     what a relay made of what it took
//! ```

mod audit;
mod cli;
mod idle;
mod imap;
mod mails;
mod measure;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod peer_imap;
mod pop3;
mod relay;
mod run;
mod sink;
mod smtp;
mod system;
mod values;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser as _;

use cli::{Cli, Command, Pop3Options, ServerOptions, SmtpOptions, WorkOptions};
use mails::Pool;
use measure::report::{Outside, Report, shortfall};
use run::{Plan, check_sessions, drive};
use values::to_usize;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs take this long when neither a count nor a time is asked for.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match execute(&Cli::parse()) {
        Ok((shown, good)) => {
            // A reader that has gone away does not change what was found out.
            std::io::stdout().write_all(shown.as_bytes()).ok();
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            let line = format!("loadgen: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).ok();
            ExitCode::from(2)
        }
    }
}

/// Does what was asked. Returns what is to be shown and whether all went well; an error is
/// wrong usage.
fn execute(cli: &Cli) -> Result<(String, bool), String> {
    let open_files = system::raise_open_files();
    let is_client = !matches!(cli.command, Command::Sink(_) | Command::Zone(_));
    if !is_client && (cli.tls.tls || cli.tls.starttls.is_some()) {
        return Err(
            "--tls and --starttls are for clients; a sink offers STARTTLS by --extensions".into()
        );
    }
    wire::secure::choose(&cli.tls)?;
    match &cli.command {
        Command::Smtp(options) => send("smtp", options, open_files),
        Command::Lmtp(options) => send("lmtp", options, open_files),
        Command::Pop3(options) => read(options, open_files),
        Command::Imap(options) => imap::run(options, open_files),
        Command::Idle(options) => idle::run(options, open_files),
        Command::Audit(options) => audit::run(options, open_files),
        Command::Relay(options) => relay::run(options, open_files),
        Command::Zone(options) => relay::zone(options),
        Command::Sink(options) => sink::run(options, open_files),
    }
}

/// Any report as one line.
fn json_line(report: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(report)
        .expect("reports are made of numbers and texts with texts as keys");
    line.push('\n');
    line
}

fn plan(work: &WorkOptions, sessions: usize, quiet: bool) -> Plan {
    let duration = match (work.count, work.duration) {
        (None, None) => Some(DURATION_DEFAULT),
        (_, duration) => duration,
    };
    let (threads, count, rate) = (work.threads, work.count, work.rate);
    Plan { sessions, threads, count, duration, rate, quiet }
}

fn outside(options: &ServerOptions) -> Result<Outside, String> {
    let (pids, url) = (&options.server_pids, options.metrics.clone());
    Outside::new(pids, url, &options.sync_metric, options.settle)
}

/// `loadgen smtp` and `loadgen lmtp`.
fn send(name: &str, options: &SmtpOptions, open_files: u64) -> Result<(String, bool), String> {
    check_sessions(options.sessions, open_files)?;
    if options.recipients > options.users.users {
        return Err("--recipients: there are not so many --users".into());
    }
    let seed = options.work.seed;
    let pool = match &options.mails {
        Some(folder) => Pool::folder(folder, options.chunking)?,
        None => Pool::made_up(options.size, &options.from, seed)?,
    };
    let settings = Arc::new(smtp::Settings {
        to: options.to.resolved(),
        is_lmtp: name == "lmtp",
        from: options.from.clone().into_bytes(),
        user: options.users.user_format.clone(),
        users: options.users.users,
        recipients: options.recipients,
        per_session: options.messages_per_session,
        pipelining: options.pipelining.is_on(),
        chunking: options.chunking,
        depth: to_usize(options.depth),
        timeout: options.work.timeout,
        seed,
        pool,
    });
    let mut outside = outside(&options.server)?;
    let plan = plan(&options.work, options.sessions, options.output.quiet);
    let outcome =
        drive(plan, &mut outside, |context| smtp::session(context, Arc::clone(&settings)));
    let mut report = Report::new(name, &outcome, &outside);
    if pool.skipped > 0 {
        report.note(format!("{} files were left out: DATA cannot carry them", pool.skipped));
    }
    let short =
        shortfall(options.work.count.filter(|_| plan.duration.is_none()), report.messages());
    let good = report.errors() == 0 && short.is_none() && report.messages() > 0;
    if let Some(short) = short {
        report.note(short);
    }
    Ok((report.show(options.output.json), good || options.allow_errors))
}

/// `loadgen pop3`.
fn read(options: &Pop3Options, open_files: u64) -> Result<(String, bool), String> {
    let users = options.users.users;
    let sessions = options.sessions.min(to_usize(users));
    check_sessions(sessions, open_files)?;
    let settings = Arc::new(pop3::Settings {
        to: options.to.resolved(),
        user: options.users.user_format.clone(),
        users,
        password: options.users.password().clone(),
        pipelining: options.pipelining.is_on(),
        delete: options.delete,
        verify: options.verify,
        timeout: options.work.timeout,
        open: (0..users).map(|_| AtomicBool::new(false)).collect(),
    });
    let mut work = options.work.clone();
    if work.duration.is_none() {
        work.count = work.count.or(Some(users));
    }
    let mut outside = outside(&options.server)?;
    let plan = plan(&work, sessions, options.output.quiet);
    let outcome =
        drive(plan, &mut outside, |context| pop3::session(context, Arc::clone(&settings)));
    let maildrops = outcome.tally.session.len();
    let mut report = Report::new("pop3", &outcome, &outside);
    let short = shortfall(work.count.filter(|_| plan.duration.is_none()), maildrops);
    let good = report.errors() == 0 && short.is_none() && maildrops > 0;
    if let Some(short) = short {
        report.note(short);
    }
    Ok((report.show(options.output.json), good || options.allow_errors))
}
