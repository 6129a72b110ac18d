//! Measures and audits a server that relays: from its 250 to the arrival at a sink.
//!
//! ```text
//!   send ──SMTP──▸ server ──SMTP──▸ sink (of this process, or its journal)
//!     └── sent ──▸ ledger ◂── seen ──┘
//!                     └▸ verdict: arrived, bounced, queued; or missing, doubled, changed
//! ```
//!
//! The server finds the hosts of the sink by DNS: `loadgen zone` writes the zone for the same
//! domains. Reports come back to the sink, too, or to a maildrop at the server, which gets the
//! copies of local recipients as well. SIGINT or SIGTERM ends the sending, and when nothing is sent any more
//! the waiting; the audit follows.

mod domains;
mod ledger;
mod maildrop;
pub(crate) mod options;
mod send;
#[cfg(test)]
mod tests;
mod verdict;

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use pombal::bytes::hash::Set;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Address;
use crate::mails::Pool;
use crate::measure::report::{Outside, Report, pause};
use crate::run::{Observer, check_sessions, drive, runtime};
use crate::sink::desk::Batch;
use crate::sink::keeper::Keeper;
use crate::sink::profile::{Profile, Section};
use crate::sink::report::SinkReport;
use crate::sink::rule::Time;
use crate::sink::{Running, Settings as SinkSettings, journal};
use crate::values::{Instant, Pattern, Rng, wall_us};
use domains::{Class, Death, DomainOptions, Domains, Local, Recipients};
use ledger::{Ledger, Sent};
use maildrop::Maildrop;
use options::{RelayOptions, ZoneOptions};
use verdict::Verdict;

/// How often the rest is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Octets of a journal that are read at once.
const JOURNAL_OCTETS: u64 = 4 << 20;

/// Runs `loadgen zone`.
pub(crate) fn zone(options: &ZoneOptions) -> Result<(String, bool), String> {
    let mut out = String::new();
    let recipients = Recipients { least: 1, most: 1 };
    Domains::new(&options.domains, recipients, None, 0)?.write_zone(options.name_server, &mut out);
    Ok((out, true))
}

/// Runs `loadgen relay`. `Ok(false)` when something is missing or came twice.
pub(crate) fn run(options: &RelayOptions, open_files: u64) -> Result<(String, bool), String> {
    check_sessions(options.sessions, open_files)?;
    let domains = domains_of(options)?;
    let run = Rng::new(wall_us(), u64::from(std::process::id())).next() | 1;
    let settings = Arc::new(settings_of(options, run, &domains)?);
    let maildrop = options.maildrop.map(|pop3| maildrop_of(options, pop3, &domains));
    let source = match &options.sink_journal {
        Some(path) => Source::Journal(Tail::open(path)?),
        None => start_sink(options, &domains, open_files)?,
    };
    let ledger = RwLock::new(Ledger::new(run, domains));
    let mut outside = crate::outside(&options.server)?;
    let plan = crate::plan(&options.work, options.sessions, options.output.quiet);
    let mut keeper = Keeper::default();
    let (tell, told) = channel();
    let [is_draining, is_enough, is_over] = [const { AtomicBool::new(false) }; 3];
    let mut observer = Draining {
        has_begun: &is_draining,
        outside: &mut outside,
        ledger: &ledger,
        acknowledged: &settings.acknowledged,
        drain: options.drain,
        is_enough: &is_enough,
        quiet: options.output.quiet,
        start_us: 0,
    };
    let (running, source) = source.split();
    let sites = running.as_ref().map(Running::sites);
    let outcome = std::thread::scope(|scope| {
        let (keeper, ledger, is_over) = (&mut keeper, &ledger, &is_over);
        let (tell_mail, mail) = channel();
        let keeping = scope.spawn(move || keep(source, (&told, &mail), ledger, keeper, is_over));
        let (maildrop, is_draining, is_enough) = (&maildrop, &is_draining, &is_enough);
        let watching = scope.spawn(move || match maildrop {
            Some(maildrop) => maildrop.watch(is_draining, is_over, &tell_mail),
            None => Ok(()),
        });
        let asked = (is_draining, [&settings.is_ended, is_enough]);
        let listening = scope.spawn(move || await_end(asked, is_over));
        let outcome = drive(plan, &mut observer, |context| {
            send::session(context, Arc::clone(&settings), tell.clone())
        });
        if let Some(running) = running {
            running.stop();
            running.join();
        }
        is_over.store(true, Ordering::Relaxed);
        watching.join().map_err(|_| "the thread that reads the maildrop died".to_owned())??;
        listening.join().map_err(|_| "the thread that heeds signals died".to_owned())??;
        keeping.join().map_err(|_| "the thread that keeps the ledger died".to_owned())??;
        Ok::<_, String>(outcome)
    })?;
    let start_us = observer.start_us;
    let ledger = ledger.into_inner().map_err(|_| "the ledger is broken".to_owned())?;
    let queued = match &options.queued_by {
        Some(command) if ledger.has_open() => Some(look(command, &ledger)?),
        asked => asked.as_ref().map(|_| Set::default()),
    };
    let verdict = Verdict::new(&ledger, &keeper, queued.as_ref(), start_us);
    let sent = Report::new("relay", &outcome, &outside);
    let sink = sites.map(|sites| SinkReport::new(&keeper, &sites));
    let good =
        verdict.is_good() && sent.messages() > 0 && sink.as_ref().is_none_or(SinkReport::is_good);
    let shown = if options.output.json {
        let all = serde_json::json!({ "good": good, "sent": sent, "relay": verdict, "sink": sink });
        crate::json_line(&all)
    } else {
        let sink = sink.as_ref().map_or_else(String::new, |sink| format!("\n{}", sink.table()));
        format!("{}\n{}{sink}", sent.show(false), verdict.table())
    };
    Ok((shown, good))
}

fn settings_of(
    options: &RelayOptions,
    run: u64,
    domains: &Domains,
) -> Result<send::Settings, String> {
    let from = options.from.clone().unwrap_or_else(|| format!("loadgen@{}", domains.back()));
    Ok(send::Settings {
        to: options.to.resolved(),
        login: options.user.clone().zip(options.password.clone()),
        from: from.into_bytes(),
        run,
        domains: domains.clone(),
        pipelining: options.pipelining.is_on(),
        timeout: options.work.timeout,
        patience: options.server_patience,
        pool: Pool::made_up(options.size, "loadgen@example.org", options.work.seed)?,
        acknowledged: AtomicU64::new(0),
        is_ended: AtomicBool::new(false),
    })
}

fn domains_of(options: &RelayOptions) -> Result<Domains, String> {
    let local = match (&options.from, options.local > 0.0) {
        (Some(from), true) => {
            let (_, domain) = from.rsplit_once('@').ok_or("--from: no domain for --local")?;
            Some(Local { share: options.local, domain: domain.to_ascii_lowercase() })
        }
        _ => None,
    };
    Domains::new(&options.domains, options.recipients, local, options.work.seed)
}

fn maildrop_of(options: &RelayOptions, pop3: Address, domains: &Domains) -> Maildrop {
    let literal = |text: &Option<String>| Pattern::literal(text.as_deref().unwrap_or_default());
    Maildrop {
        pop3: pop3.resolved(),
        user: literal(&options.user),
        password: literal(&options.password),
        timeout: options.work.timeout,
        patience: options.server_patience,
        domains: domains.clone(),
    }
}

/// Says when somebody asks for the end: of the sending, or of the drain once it has begun.
fn await_end(
    (is_draining, [is_ended, is_enough]): (&AtomicBool, [&AtomicBool; 2]),
    is_over: &AtomicBool,
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("signals: {error}");
    let asked = || {
        let asked = if is_draining.load(Ordering::Relaxed) { is_enough } else { is_ended };
        asked.store(true, Ordering::Relaxed);
    };
    runtime().block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        while !is_over.load(Ordering::Relaxed) {
            tokio::select! {
                _ = interrupt.recv() => asked(),
                _ = terminate.recv() => asked(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        Ok(())
    })
}

/// Where what the sink sees comes from.
enum Source {
    Running(Box<Running>),
    Batches(Receiver<Batch>),
    Journal(Tail),
}

impl Source {
    /// The sink, where it is ours, apart from what comes out of it.
    fn split(self) -> (Option<Running>, Source) {
        match self {
            Source::Running(running) => {
                let (running, batches) = running.split();
                (Some(running), Source::Batches(batches))
            }
            other => (None, other),
        }
    }
}

/// The sink of this process, with a site for each class of domains.
fn start_sink(
    options: &RelayOptions,
    domains: &Domains,
    open_files: u64,
) -> Result<Source, String> {
    let mut written = options.behaviour.written()?;
    written.sites.extend(sites(&options.domains, domains, options.sink_port));
    let profile = Profile::new(&written)?;
    let settings = SinkSettings::new(profile, &options.behaviour)?;
    Ok(Source::Running(Box::new(Running::start(settings, open_files)?)))
}

fn sites(options: &DomainOptions, domains: &Domains, port: u16) -> Vec<Section> {
    let mut sites = Vec::new();
    for class in Class::AWAY {
        let Some((first, last)) = domains.range(class) else { continue };
        let mut site = Section {
            listen: vec![format!("{first}-{last}:{port}")],
            name: Some(format!("{}.{}", class.label(), domains.zone())),
            ..Section::default()
        };
        match (class, options.death) {
            (Class::Live, _) => {}
            (Class::Slow, _) => site.delay = Some(Time(options.slow_by)),
            (Class::Refusing, _) => site.rules = Some(vec![refusal()]),
            (Class::Dead, Death::Blackhole) => site.blackhole = true,
            (Class::Dead, Death::Refuse) | (Class::Local, _) => continue,
        }
        sites.push(site);
    }
    sites
}

fn refusal() -> crate::sink::rule::Written {
    toml::from_str("at = 'rcpt'\ncode = 550\ntext = '5.1.1 nobody of that name'")
        .expect("the rule is as profiles have it")
}

/// Takes what senders and the sink tell, until the run is over and all is told.
fn keep(
    mut source: Source,
    (told, mail): (&Receiver<Sent>, &Receiver<Batch>),
    ledger: &RwLock<Ledger>,
    keeper: &mut Keeper,
    is_over: &AtomicBool,
) -> Result<(), String> {
    loop {
        // What was sent is told before it can be seen; the maildrop was read before the run is over.
        let was_over = is_over.load(Ordering::Relaxed);
        let seen = match &mut source {
            Source::Batches(batches) => match batches.recv_timeout(LOOK_EVERY) {
                Ok(batch) => Some(batch),
                Err(RecvTimeoutError::Timeout) => Some(Batch::default()),
                Err(RecvTimeoutError::Disconnected) => None,
            },
            Source::Journal(tail) => {
                let batch = tail.read()?;
                if batch.events.is_empty() {
                    pause(LOOK_EVERY);
                }
                (!was_over || !batch.events.is_empty()).then_some(batch)
            }
            Source::Running(_) => None,
        };
        let mut ledger = ledger.write().map_err(|_| "the ledger is broken".to_owned())?;
        for sent in told.try_iter() {
            ledger.sent(sent);
        }
        for batch in mail.try_iter() {
            keeper.take(&batch, |event| ledger.seen(event));
        }
        let Some(seen) = seen else { return Ok(()) };
        keeper.take(&seen, |event| ledger.seen(event));
    }
}

/// The journal of a sink in another process, from where it ends now.
struct Tail {
    file: File,
    /// The line that is not whole.
    rest: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> Result<Tail, String> {
        let named = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = std::fs::OpenOptions::new().read(true).open(path).map_err(named)?;
        file.seek(SeekFrom::End(0)).map_err(named)?;
        Ok(Tail { file, rest: Vec::new() })
    }

    /// The events that were written since.
    fn read(&mut self) -> Result<Batch, String> {
        let mut octets = std::mem::take(&mut self.rest);
        let mut part = (&mut self.file).take(JOURNAL_OCTETS);
        part.read_to_end(&mut octets).map_err(|error| format!("--sink-journal: {error}"))?;
        let end = memchr::memrchr(b'\n', &octets).map_or(0, |lf| lf + 1);
        self.rest = octets.split_off(end);
        let mut batch = Batch::default();
        for line in String::from_utf8_lossy(&octets).lines() {
            // The sink was told to write anew, or this is no journal.
            let event = journal::parse(line)
                .ok_or_else(|| format!("--sink-journal: {line:?} is no line of a journal"))?;
            batch.events.push(event);
        }
        Ok(batch)
    }
}

/// Waits for the rest after the last 250, so that the server's work on it counts.
struct Draining<'a> {
    /// Becomes true after the last 250.
    has_begun: &'a AtomicBool,
    outside: &'a mut Outside,
    ledger: &'a RwLock<Ledger>,
    acknowledged: &'a AtomicU64,
    drain: Duration,
    /// Somebody does not want to wait any longer.
    is_enough: &'a AtomicBool,
    quiet: bool,
    /// When the clock started, in microseconds since 1970.
    start_us: u64,
}

impl Draining<'_> {
    /// Recipients that are waited for; those of messages that the ledger does not know yet
    /// count as one each.
    fn left(&self) -> u64 {
        let told = self.acknowledged.load(Ordering::Relaxed);
        self.ledger.read().map_or(0, |ledger| {
            told.saturating_sub(ledger.acknowledged_messages()) + ledger.waited_for()
        })
    }
}

impl Observer for Draining<'_> {
    fn before(&mut self) {
        self.outside.before();
        self.start_us = wall_us();
    }

    fn each_second(&mut self) {
        self.outside.each_second();
    }

    fn after(&mut self) {
        self.has_begun.store(true, Ordering::Relaxed);
        let (began, mut shown) = (Instant::now(), 0);
        loop {
            let left = self.left();
            let is_enough = self.is_enough.load(Ordering::Relaxed);
            if left == 0 || is_enough || began.elapsed() >= self.drain {
                break;
            }
            pause(LOOK_EVERY);
            let passed = began.elapsed().as_secs();
            if passed > shown {
                shown = passed;
                self.outside.each_second();
                if !self.quiet {
                    let line = format!("{passed:>5} s after the last 250: {left} to come\n");
                    // Nobody may be looking any more.
                    std::io::stderr().write_all(line.as_bytes()).ok();
                }
            }
        }
        self.outside.after();
    }
}

/// The recipients in what a command prints.
fn look(command: &str, ledger: &Ledger) -> Result<Set<(u64, u64)>, String> {
    let failed = |error: std::io::Error| format!("--queued-by {command}: {error}");
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let printed = child.stdout.take().ok_or("--queued-by: nothing is printed")?;
    let found = ledger.find_queued(BufReader::new(printed)).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(found) } else { Err(format!("--queued-by {command}: {status}")) }
}
