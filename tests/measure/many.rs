//! Memory and start of a store with many mailboxes, on the real machine.
//!
//! ```text
//! store-many DIR ACCOUNTS MAILBOXES MESSAGES       mailboxes of an account, messages of a mailbox
//! store-many DIR                                   what an earlier run left there
//! ```
//!
//! Accounts are made by the store's own records, each message with a blob of a few octets. Then they
//! rest, and the log is closed. Another process opens it, as after a restart, and asks for every mailbox.
//! One table: octets of memory by the store's own count and by that of the system (beyond what the process
//! had before), for each message and for each mailbox.

use mimalloc::MiMalloc;
use pombal::bytes::codec::{to_u64, to_usize};
use pombal::env::Env as _;
use pombal::env::ring::{self, Ring, Shards};
use pombal::mailbox::{Accounts, Brought, Desk, Flags, INBOX, Message, Quota, Use};
use pombal::model::id::{AccountId, LogId};
use pombal::store::{Identity, Log, Machine, Settings};
use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

// As in the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const IDENTITY: Identity = Identity { store: 0x0F11, log: LogId(0), first_logs: 1 };
/// Turns of the hand in which all are to rest.
const TURNS_MAX: u32 = 1_000;
/// Accounts that are filled side by side.
const WRITERS: u32 = 1_024;

#[derive(Clone, Copy)]
struct Size {
    accounts: u32,
    mailboxes: u32,
    messages: u32,
}

type Opened = (Log<Ring>, Rc<RefCell<Accounts>>);

async fn open(ring: &Ring, dir: &Path) -> Opened {
    let settings = Settings { cache_octets: 1 << 20, ..Settings::default() };
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    let machine: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&accounts);
    let opened = Log::open(ring.clone(), dir, IDENTITY, settings, vec![(16..=47, machine)]).await;
    let (log, _) = opened.expect("the log opens");
    (log, accounts)
}

/// Messages come in turn to all mailboxes of the accounts of one writer, so that neighbours in a mailbox
/// lie as far apart as they do where many have mail.
async fn fill((log, accounts): &Opened, size: Size, first: u32) {
    let desk = Desk::new(log.clone(), Rc::clone(accounts));
    let own = || (first..=size.accounts).step_by(to_usize(WRITERS.into())).map(AccountId);
    for account in own() {
        desk.prepare(account, &[]).await.expect("made");
        for number in 1..size.mailboxes {
            let name = format!("Folder{number}");
            desk.create(account, &name, Use::default()).await.expect("made");
        }
    }
    for round in 0..size.messages {
        for account in own() {
            let mailboxes = accounts.borrow().mailboxes(account);
            for mailbox in mailboxes {
                let octets = 200 + (account.0 * 31 + round * 977 + mailbox.0 * 57) % 800;
                let octets = vec![b'm'; to_usize(octets.into())];
                let message = Message::new(octets, false, true, log.env().wall().seconds());
                let flags = if round % 3 == 0 { Flags::default() } else { Flags::SEEN };
                let one = Brought { message, flags, keywords: Vec::new() };
                desk.append(account, mailbox, vec![one], Quota::NONE).await.expect("taken");
            }
        }
    }
}

/// Octets of memory that the system gave to this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024
}

/// Seconds since this process was started, as the system has it.
fn age() -> f64 {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let uptime: f64 = text("/proc/uptime").split(' ').next().map_or(0.0, parsed);
    // Behind the name, which may have spaces in it; a tick is a hundredth of a second.
    let stat = text("/proc/self/stat");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    uptime - fields.split_whitespace().nth(19).map_or(0.0, parsed) / 100.0
}

fn parsed(number: &str) -> f64 {
    number.parse().unwrap_or(0.0)
}

/// How the store stood at one moment.
struct Line {
    name: &'static str,
    seconds: f64,
    awake: usize,
    /// Octets of accounts, blob table and index of pages.
    own: [u64; 3],
    resident: u64,
    /// Reads of the log since it was opened.
    reads: u64,
}

/// What is told at the end.
struct Table {
    /// What the process had before there was a store.
    before: u64,
    lines: Vec<Line>,
}

impl Table {
    fn begin() -> Table {
        Table { before: resident(), lines: Vec::new() }
    }

    fn add(&mut self, name: &'static str, seconds: f64, (log, accounts): &Opened) {
        let accounts = accounts.borrow();
        self.lines.push(Line {
            name,
            seconds,
            awake: accounts.awake(),
            own: [accounts.heap_octets(), log.table_octets(), log.index_octets()].map(to_u64),
            resident: resident().saturating_sub(self.before),
            reads: log.stats().reads.get(),
        });
    }

    fn tell(&self, accounts: &Accounts) {
        let ids = accounts.living();
        let mailboxes: usize = ids.iter().map(|&id| accounts.mailboxes(id).len()).sum();
        let (messages, mailboxes) = (accounts.messages(), to_u64(mailboxes));
        say(&format!("{} accounts, {mailboxes} mailboxes, {messages} messages", ids.len()));
        let columns = |one: [&str; 9]| {
            let [name, rest @ ..] = one;
            say(&rest.iter().fold(format!("{name:<24}"), |line, word| format!("{line}{word:>11}")));
        };
        columns(["", "seconds", "awake", "accounts", "blobs", "pages", "all", "resident", "reads"]);
        for line in &self.lines {
            let [own, blobs, pages] = line.own.map(|octets| a_piece(octets, messages));
            let all = a_piece(line.own.iter().sum(), messages);
            let seconds = format!("{:.2}", line.seconds);
            let (awake, reads) = (line.awake.to_string(), line.reads.to_string());
            let resident = a_piece(line.resident, messages);
            columns([line.name, &seconds, &awake, &own, &blobs, &pages, &all, &resident, &reads]);
        }
        say("octets a message; of accounts a mailbox:");
        for Line { name, own: [own, ..], .. } in &self.lines {
            say(&format!("{name:<24}{:>11}", a_piece(*own, mailboxes)));
        }
    }
}

/// With a digit behind the point.
fn a_piece(octets: u64, count: u64) -> String {
    let tenths = (octets * 10).checked_div(count).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Seconds of a step.
async fn timed<T>(ring: &Ring, step: impl Future<Output = T>) -> (T, f64) {
    let begun = ring.now();
    let outcome = step.await;
    (outcome, ring.now().since(begun).as_secs_f64())
}

/// All rest. The longest step in seconds, which is how long everybody else waits.
async fn rest_all(ring: &Ring, accounts: &RefCell<Accounts>) -> f64 {
    let mut longest = 0.0_f64;
    for _ in 0..TURNS_MAX {
        if accounts.borrow().awake() == 0 {
            break;
        }
        accounts.borrow_mut().begin_turn();
        let mut goes_on = true;
        while goes_on {
            let step = ring.now();
            goes_on = accounts.borrow_mut().turn();
            longest = longest.max(ring.now().since(step).as_secs_f64());
            ring.breathe().await;
        }
    }
    longest
}

async fn make(ring: Ring, dir: PathBuf, size: Size) {
    let mut table = Table::begin();
    let opened = open(&ring, &dir).await;
    let filling = (1..=WRITERS).map(|first| {
        let opened = opened.clone();
        async move { fill(&opened, size, first).await }
    });
    let (_, seconds) = timed(&ring, pombal::env::together::together(filling)).await;
    table.add("filled", seconds, &opened);
    let (saved, seconds) = timed(&ring, opened.0.checkpoint()).await;
    saved.expect("saved");
    table.add("saved", seconds, &opened);
    let (longest, seconds) = timed(&ring, rest_all(&ring, &opened.1)).await;
    table.add("at rest", seconds, &opened);
    table.tell(&opened.1.borrow());
    say(&format!("longest step of the hand: {:.2} ms", longest * 1_000.0));
    opened.0.close().await.expect("it closes");
}

/// A start: the log is open, and could be served, when the first line is taken.
async fn start(ring: Ring, dir: PathBuf) {
    let mut table = Table::begin();
    let (opened, seconds) = timed(&ring, open(&ring, &dir)).await;
    table.add("opened", seconds, &opened);
    table.add("since the process began", age(), &opened);
    let (verified, seconds) = timed(&ring, async { opened.1.borrow().verify() }).await;
    verified.expect("all is well");
    table.add("verified", seconds, &opened);
    let ids = opened.1.borrow().living();
    let (longest, seconds) = timed(&ring, async {
        let mut longest = 0.0_f64;
        for &id in &ids {
            let begun = ring.now();
            let accounts = opened.1.borrow();
            for mailbox in accounts.mailboxes(id) {
                accounts.open_view(id, mailbox).expect("it is there");
            }
            longest = longest.max(ring.now().since(begun).as_secs_f64());
        }
        longest
    })
    .await;
    table.add("every mailbox opened", seconds, &opened);
    // Who was woken to be read keeps what it rests as.
    for &id in &ids {
        drop(opened.1.borrow_mut().take_view(id, INBOX));
    }
    table.add("awake to be changed", 0.0, &opened);
    table.tell(&opened.1.borrow());
    say(&format!("longest to open all mailboxes of an account: {:.3} ms", longest * 1_000.0));
    opened.0.close().await.expect("it closes");
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn say(line: &str) {
    println!("{line}");
}

fn run(dir: &Path, size: Option<Size>) -> bool {
    let dir = dir.join("log");
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let dir = dir.clone();
        async move {
            match size {
                Some(size) => Box::pin(make(ring, dir, size)).await,
                None => Box::pin(start(ring, dir)).await,
            }
        }
    });
    shards.map(Shards::wait).is_ok()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
    let size = match (words.len(), number(1), number(2), number(3)) {
        (1, ..) => None,
        (4, Some(accounts), Some(mailboxes), Some(messages)) => {
            Some(Size { accounts, mailboxes, messages })
        }
        _ => return ExitCode::from(2),
    };
    let Some(dir) = words.first() else { return ExitCode::from(2) };
    let mut is_well = run(Path::new(dir), size);
    if let (Some(_), Ok(itself)) = (size, std::env::current_exe()) {
        is_well &=
            std::process::Command::new(itself).arg(dir).status().is_ok_and(|end| end.success());
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
