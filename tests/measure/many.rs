//! Memory and start of a store with many mailboxes, on the real machine.
//!
//! ```text
//! store-many DIR ACCOUNTS MAILBOXES MESSAGES       mailboxes of an account, messages of a mailbox
//! ```
//!
//! Accounts are made by the store's own records, each message with a blob of a few octets. Then they
//! rest, the log is closed and opened again. One line of JSON a phase: octets of memory by the
//! accounts' own count and by that of the system, for each message and for each mailbox.

use mimalloc::MiMalloc;
use pombal::bytes::codec::{to_u64, to_usize};
use pombal::env::Env as _;
use pombal::env::ring::{self, Ring};
use pombal::mailbox::{Accounts, Brought, Desk, Flags, Message, Quota, Use};
use pombal::model::id::{AccountId, LogId};
use pombal::store::{Identity, Log, Machine, Settings};
use std::cell::RefCell;
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
const WRITERS: u32 = 64;

#[derive(Clone, Copy)]
struct Size {
    accounts: u32,
    mailboxes: u32,
    messages: u32,
}

impl Size {
    fn mailboxes(self) -> u64 {
        u64::from(self.accounts) * u64::from(self.mailboxes)
    }

    fn messages(self) -> u64 {
        self.mailboxes() * u64::from(self.messages)
    }
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
    for round in 0..size.messages {
        for account in own() {
            if round == 0 {
                desk.prepare(account, &[]).await.expect("made");
                for number in 1..size.mailboxes {
                    let name = format!("Folder{number}");
                    desk.create(account, &name, Use::default()).await.expect("made");
                }
            }
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

fn tell(name: &str, accounts: &Accounts, log: &Log<Ring>, size: Size, seconds: f64) {
    let octets = to_u64(accounts.heap_octets());
    say(&serde_json::json!({
        "phase": name, "seconds": seconds, "messages": accounts.messages(),
        "mailboxes": size.mailboxes(), "awake": accounts.awake(), "octets": octets,
        "octets_a_message": octets / size.messages().max(1),
        "octets_a_mailbox": octets / size.mailboxes().max(1),
        "blob_table_octets": log.table_octets(), "resident_octets": resident(),
    }));
}

async fn run(ring: Ring, dir: PathBuf, size: Size) {
    let begun = ring.now();
    let since = |begun| ring.now().since(begun).as_secs_f64();
    let opened = open(&ring, &dir).await;
    let filling = (1..=WRITERS).map(|first| {
        let opened = opened.clone();
        async move { fill(&opened, size, first).await }
    });
    pombal::env::together::together(filling).await;
    let (log, accounts) = opened;
    tell("awake", &accounts.borrow(), &log, size, since(begun));
    let begun = ring.now();
    log.checkpoint().await.expect("saved");
    tell("checkpoint", &accounts.borrow(), &log, size, since(begun));
    let begun = ring.now();
    let mut longest = 0.0_f64;
    let mut turns = 0;
    while accounts.borrow().awake() > 0 && turns < TURNS_MAX {
        turns += 1;
        accounts.borrow_mut().begin_turn();
        let mut goes_on = true;
        while goes_on {
            let step = ring.now();
            goes_on = accounts.borrow_mut().turn();
            longest = longest.max(ring.now().since(step).as_secs_f64());
            ring.breathe().await;
        }
    }
    tell("at rest", &accounts.borrow(), &log, size, since(begun));
    say(&serde_json::json!({ "longest_step_seconds": longest, "turns": turns }));
    log.close().await.expect("it closes");
    drop(accounts);
    let begun = ring.now();
    let (log, accounts) = open(&ring, &dir).await;
    tell("opened again", &accounts.borrow(), &log, size, since(begun));
    let begun = ring.now();
    accounts.borrow().verify().expect("all is well");
    tell("verified", &accounts.borrow(), &log, size, since(begun));
    log.close().await.expect("it closes");
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn say(line: &serde_json::Value) {
    println!("{line}");
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
    let (Some(dir), Some(accounts), Some(mailboxes), Some(messages)) =
        (words.first(), number(1), number(2), number(3))
    else {
        return ExitCode::from(2);
    };
    let dir = Path::new(dir).join("log");
    let size = Size { accounts, mailboxes, messages };
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let dir = dir.clone();
        async move { Box::pin(run(ring, dir, size)).await }
    });
    match shards {
        Ok(shards) => {
            shards.wait();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}
