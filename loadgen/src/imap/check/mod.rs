//! `loadgen imap --check`: many clients change one mailbox at once; each holds every response
//! against what it was told before, and at the end all must see what a fresh session sees.
//!
//! ```text
//!   client   STORE, EXPUNGE, APPEND, COPY, MOVE … by chance, from the seed
//!   model    one client's view by the responses; says what contradicts it
//!   resync   SELECT with QRESYNC from an earlier view
//!   judge    all views against the truth; nothing lost, doubled or made up
//! ```
//!
//! Clients take turns in what they ask for: plain, CONDSTORE, QRESYNC. A client that objects
//! ends the run; its conversation is shown.

mod client;
mod judge;
mod model;
mod resync;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use pombal::bytes::hash::Sorted;
use serde::Serialize;
use tokio::sync::Barrier;
use tokio::task::LocalSet;

use super::Settings;
use super::options::ImapOptions;
use crate::measure::table::{Table, grouped};
use crate::run::runtime;
use crate::values::{Instant, to_u64};
use crate::wire::link::Trouble;
use client::{Client, Fault};
use judge::{Deeds, Truth, difference};

/// Findings that are shown one by one.
const SHOWN_MAX: usize = 20;

/// What came out.
#[derive(Debug, Default, Serialize)]
struct CheckReport {
    good: bool,
    clients: u64,
    operations: u64,
    seconds: f64,
    /// Messages in the mailbox at the end.
    messages: u64,
    /// UIDs that came into being.
    created: u64,
    /// UIDs that were moved away.
    moved: u64,
    troubles: Sorted<&'static str, u64>,
    findings: Vec<String>,
    /// The last lines of the conversation of the first client that objected.
    transcript: Vec<String>,
}

/// One client's last view, with its name and the end of its conversation.
struct View {
    name: String,
    entries: Truth,
    transcript: Vec<String>,
}

/// What all clients share; they run on one thread.
struct Shared {
    settings: Settings,
    /// The mailbox that messages are moved to, quoted.
    other: Rc<[u8]>,
    deeds: Rc<RefCell<Deeds>>,
    report: RefCell<CheckReport>,
    /// Operations that may still begin.
    left: Cell<u64>,
    /// Somebody objected: the others stop as well.
    over: Cell<bool>,
    duration: Option<Duration>,
    began: Instant,
    all_done: Barrier,
    views: RefCell<Vec<View>>,
}

impl Shared {
    fn may_go_on(&self) -> bool {
        let left = self.left.get();
        if self.over.get()
            || left == 0
            || self.duration.is_some_and(|all| self.began.elapsed() > all)
        {
            return false;
        }
        self.left.set(left - 1);
        true
    }

    fn blame(&self, name: &str, fault: Fault, transcript: Vec<String>) {
        let mut report = self.report.borrow_mut();
        self.over.set(true);
        match fault {
            Fault::Trouble(trouble) => {
                *report.troubles.entry(trouble.label()).or_default() += 1;
                report.findings.push(format!("{name}: {}", trouble.label()));
            }
            Fault::Disagreed(why) => report.findings.push(format!("{name}: {why}")),
        }
        if report.transcript.is_empty() {
            report.transcript = transcript;
        }
    }
}

/// Runs the check. `Ok(false)` when anybody disagreed.
pub(crate) fn run(options: &ImapOptions) -> Result<(String, bool), String> {
    let settings = Settings::new(options)?;
    let other = super::quoted(&format!("{}-moved", options.mailbox))?;
    let (count, duration) = (options.work.count, options.work.duration);
    let duration =
        if count.is_none() { duration.or(Some(crate::DURATION_DEFAULT)) } else { duration };
    let shared = Rc::new(Shared {
        settings,
        other: other.into(),
        deeds: Rc::default(),
        report: RefCell::default(),
        left: Cell::new(count.unwrap_or(u64::MAX)),
        over: Cell::new(false),
        duration,
        began: Instant::now(),
        all_done: Barrier::new(options.sessions),
        views: RefCell::default(),
    });
    runtime().block_on(async {
        if let Err(fault) = begin(&shared).await {
            return shared.blame("the beginning", fault, Vec::new());
        }
        let local = LocalSet::new();
        for index in 0..options.sessions {
            local.spawn_local(client(Rc::clone(&shared), to_u64(index)));
        }
        local.await;
        shared.report.borrow_mut().seconds = shared.began.elapsed().as_secs_f64();
        if let Err(fault) = end(&shared).await {
            shared.blame("the end", fault, Vec::new());
        }
    });
    let mut report = shared.report.take();
    report.clients = to_u64(options.sessions);
    report.good = report.findings.is_empty() && report.operations > 0;
    let shown = if options.output.json { crate::json_line(&report) } else { report.table() };
    Ok((shown, report.good))
}

/// Makes both mailboxes and notes what they hold.
async fn begin(shared: &Shared) -> Result<(), Fault> {
    let mut session = shared.settings.log_in(0).await?;
    shared.settings.create(&mut session).await?;
    session.command(&[b"CREATE ", &*shared.other].concat()).await?;
    let mut client = open(shared, 0).await?;
    let here = client.look(&shared.settings.mailbox).await?;
    let there = client.look(&shared.other).await?;
    let mut deeds = shared.deeds.borrow_mut();
    deeds.created.extend(here.iter().filter_map(|entry| entry.uid));
    // Somebody may have left messages that are marked already.
    let marked = |flags: &model::Flags| flags.iter().any(|flag| flag == "\\deleted");
    let doomed = here.iter().filter(|entry| entry.flags.as_ref().is_some_and(marked));
    deeds.doomed.extend(doomed.filter_map(|entry| entry.uid));
    deeds.moved_to.extend(there.iter().filter_map(|entry| entry.uid));
    Ok(())
}

async fn open(shared: &Shared, index: u64) -> Result<Client, Fault> {
    let (other, deeds) = (Rc::clone(&shared.other), Rc::clone(&shared.deeds));
    let opening = Box::pin(Client::open(&shared.settings, other, deeds, index));
    let timeout = shared.settings.timeout;
    tokio::time::timeout(timeout, opening).await.unwrap_or(Err(Trouble::Timeout.into()))
}

/// One client to its last view.
async fn client(shared: Rc<Shared>, index: u64) {
    let timeout = shared.settings.timeout;
    let mut opened = open(&shared, index).await;
    let name = match &opened {
        Ok(client) => format!("client {index} ({:?})", client.kind),
        Err(_) => format!("client {index}"),
    };
    let mut fault = None;
    if let Ok(client) = &mut opened {
        while shared.may_go_on() {
            let operation = Box::pin(client.operate(&shared.settings));
            let done = tokio::time::timeout(timeout, operation).await;
            if let Err(why) = done.unwrap_or(Err(Trouble::Timeout.into())) {
                fault = Some(why);
                break;
            }
            shared.report.borrow_mut().operations += 1;
        }
    }
    // Those that ended early stand at the barrier too, or the others would wait for ever.
    if fault.is_some() {
        shared.over.set(true);
    }
    shared.all_done.wait().await;
    let mut client = match opened {
        Ok(client) => client,
        Err(why) => return shared.blame(&name, why, Vec::new()),
    };
    if fault.is_none() {
        let settling = tokio::time::timeout(timeout, Box::pin(client.settle())).await;
        fault = settling.unwrap_or(Err(Trouble::Timeout.into())).err();
    }
    if let Some(first) = client.model.late.first() {
        let finding = format!("{name}: {first}; told late: {}", client.model.late.len());
        shared.report.borrow_mut().findings.push(finding);
    }
    let transcript: Vec<String> = client.transcript.into();
    if let Some(fault) = fault {
        return shared.blame(&name, fault, transcript);
    }
    let entries = client.model.entries;
    shared.views.borrow_mut().push(View { name, entries, transcript });
}

/// Compares all views with what a fresh session sees.
async fn end(shared: &Shared) -> Result<(), Fault> {
    // A client with CONDSTORE, where there is one, so that MODSEQ is compared as well.
    let mut fresh = open(shared, 1).await?;
    let there = fresh.look(&shared.other).await?;
    let truth = fresh.look(&shared.settings.mailbox).await?;
    for view in shared.views.take() {
        if let Some(difference) = difference(&view.entries, &truth) {
            shared.blame(&view.name, Fault::Disagreed(difference), view.transcript);
        }
    }
    let (mut deeds, mut report) = (shared.deeds.borrow_mut(), shared.report.borrow_mut());
    // After an objection what else is wrong may only follow from it.
    if !shared.over.get() {
        deeds.judge(&truth, &there);
    }
    report.messages = to_u64(truth.len());
    report.created = to_u64(deeds.created.len());
    report.moved = to_u64(deeds.moved_to.len());
    report.findings.append(&mut deeds.findings);
    Ok(())
}

impl CheckReport {
    fn table(&self) -> String {
        let mut table = Table::default();
        table.row("work", "imap check");
        table.row("clients", grouped(self.clients));
        table.row("operations", grouped(self.operations));
        table.row("seconds", format!("{:.3}", self.seconds));
        table.row("messages at the end", grouped(self.messages));
        table.row("UIDs made", grouped(self.created));
        table.row("UIDs moved away", grouped(self.moved));
        table.gap();
        for finding in self.findings.iter().take(SHOWN_MAX) {
            table.row("found", finding);
        }
        table.row("findings", grouped(to_u64(self.findings.len())));
        table.row("verdict", if self.good { "good" } else { "WRONG" });
        table.gap();
        for line in &self.transcript {
            table.row("said", line);
        }
        table.show()
    }
}
