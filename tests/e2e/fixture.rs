//! Stores of earlier releases are opened by this one, and hold what they held.
//!
//! `tests/fixtures` has, for each release, `NAME.store`, a data directory as text (`packed.rs`), and
//! `NAME.holds`, what is in it as this file describes it: the directory, every message with its
//! digest, flags, keywords, subscriptions, removals. A store was made in several lives: closed well
//! (pages of a checkpoint), killed, and last copied under way, so that part of it must be replayed
//! and one message still waits in the spool of another shard.
//!
//! `MAKE_FIXTURE=NAME cargo test --test e2e fixture` adds one of this release. Those that are there
//! are never made anew.

use crate::client::{Link, Maildrop, find, ok, smtp};
use crate::harness::Server;
use crate::packed::{pack, unpack};
use crossbeam::channel::bounded;
use pombal::auth::Pool;
use pombal::config;
use pombal::env::ring::{self, Ring};
use pombal::mailbox::summary::summarize;
use pombal::mailbox::{Brought, Desk, FlagChange, Flags, INBOX, Message, Mode, Picked, Quota, Use};
use pombal::model::id::{AccountId, LogId, MailboxId, ModSeq, Uid};
use pombal::node::shard::{Plan, State, cost, open_state};
use pombal::queue::Pending;
use pombal::queue::record::put_add;
use pombal::store::{BlobDraft, Group};
use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// The users of a fixture who have mail, and their accounts.
const USERS: [(&str, AccountId); 3] =
    [("ann", AccountId(1)), ("eve", AccountId(3)), ("bob", AccountId(8))];
const ANN: AccountId = AccountId(1);
/// Fixtures are made with so many logs.
const LOGS: u16 = 2;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A server of small segments that makes no checkpoint by itself.
fn set_up() -> Server {
    let server = Server::set_up("[smtp]\nmax_message_size = \"64K\"\n");
    let path = server.dir().join("pombal.toml");
    let text = fs::read_to_string(&path).unwrap();
    let small = "segment_size = \"1M\"\nbatch_size = \"256K\"";
    let text = text.replace("segment_size = \"8M\"", small);
    let text = text.replace("checkpoint_interval = \"2s\"", "checkpoint_interval = \"1h\"");
    fs::write(&path, text).unwrap();
    server
}

#[test]
fn opens_the_stores_of_every_release() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "store") {
            continue;
        }
        let packed = fs::read_to_string(&path).unwrap();
        let holds = fs::read_to_string(path.with_extension("holds")).unwrap();
        assert_eq!(opened(&packed, None), holds, "{}", path.display());
        for shards in ["1", "4"] {
            let grown = opened(&packed, Some(shards));
            assert_eq!(grown, holds, "{}, 4 logs, {shards} shards", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "there is a fixture of each release");
}

/// A store made by this build; kept if `MAKE_FIXTURE` says under which name.
#[test]
fn opens_a_store_of_this_release() {
    let packed = made();
    let holds = opened(&packed, None);
    for what in
        ["ann 8 messages", "\"Old work/2026/of a long name\"", "$Forwarded", "from the spool"]
    {
        assert!(holds.contains(what), "{what} is missing:\n{holds}");
    }
    if let Ok(name) = std::env::var("MAKE_FIXTURE") {
        let path = fixtures().join(format!("{name}.store"));
        assert!(!path.exists(), "{} is there, and stays as it is", path.display());
        fs::write(&path, packed).unwrap();
        fs::write(path.with_extension("holds"), holds).unwrap();
    }
}

/// What a packed store holds, once it was checked, served, and checked again; where `grown` says on how
/// many cores, with more logs.
fn opened(packed: &str, grown: Option<&str>) -> String {
    let mut server = set_up();
    unpack(packed, &server.dir().join("data")).unwrap();
    server.pombal(&["store", "verify"], "");
    if let Some(shards) = grown {
        server.pombal(&["store", "grow", "--logs", "4"], "");
        server.edit("shards = 2", |_| format!("shards = {shards}"));
    }
    let mut out = String::new();
    for words in [["domain", "list"], ["alias", "list"]] {
        out.push_str(&server.pombal(&words, ""));
    }
    server.start();
    await_spool(&server);
    out.push_str(&server.pombal(&["user", "list"], ""));
    for (user, _) in USERS {
        let mut maildrop = Maildrop::open(server.pop3(), user, true).unwrap();
        writeln!(out, "{user} {} messages of {} octets", maildrop.count, maildrop.octets).unwrap();
        let ids = maildrop.listing("UIDL").unwrap();
        for (id, message) in ids.iter().zip(maildrop.retrieve_all().unwrap()) {
            let subject =
                message.split(|&octet| octet == b'\n').find(|l| l.starts_with(b"Subject"));
            let subject = String::from_utf8_lossy(subject.unwrap_or_default()).trim().to_owned();
            writeln!(out, "  {id} {} {:016x} {subject}", message.len(), xxh3_64(&message)).unwrap();
        }
        maildrop.quit().unwrap();
    }
    server.stop();
    out.push_str(&with_logs(&server, |states| async move {
        let mut out = String::new();
        for (user, account) in USERS {
            describe(&states[home(&states, account)], user, account, &mut out).await;
        }
        out
    }));
    server.pombal(&["store", "verify"], "");
    out
}

/// Waits until what was in the spools has come home.
fn await_spool(server: &Server) {
    for _ in 0..10_000 {
        let mut maildrop = Maildrop::open(server.pop3(), "ann", true).unwrap();
        let messages = maildrop.retrieve_all().unwrap();
        maildrop.quit().unwrap();
        if messages.iter().any(|one| find(one, b"from the spool").is_some()) {
            return;
        }
    }
    panic!("the message stays in the spool");
}

/// Everything that an account holds besides what POP3 shows.
async fn describe(state: &State<Ring>, user: &str, account: AccountId, out: &mut String) {
    let names = state.accounts.borrow().subscriptions(account);
    writeln!(out, "{user} is subscribed to {names:?}").unwrap();
    let mut mailboxes = Vec::new();
    state.accounts.borrow().each_mailbox(account, |one| {
        mailboxes.push((one.id, one.name.to_owned(), one.uses));
    });
    for (id, name, uses) in mailboxes {
        let view = state.accounts.borrow().view(account, id);
        let gone = state.accounts.borrow().vanished_since(account, id, ModSeq(0));
        let gone = gone.map(|runs| runs.iter().map(|run| (run.0.0, run.1.0)).collect::<Vec<_>>());
        let (validity, next) = (view.uidvalidity(), view.uidnext());
        writeln!(out, "{user} {id} {name:?} {} {validity} {next}, gone {gone:?}", uses.0).unwrap();
        for entry in view.iter() {
            let keywords: Vec<&str> =
                view.keywords().map(|known| known.of(entry.keywords).collect()).unwrap_or_default();
            let blob = state.log.read(entry.blob).await.unwrap();
            writeln!(
                out,
                "  {} {} {:#x} {:#x} {keywords:?} {} {} {:016x} {:016x}",
                entry.uid,
                entry.modseq,
                entry.flags.0,
                entry.marks.0,
                entry.internal_date,
                entry.size,
                xxh3_64(blob.octets()),
                xxh3_64(blob.summary()),
            )
            .unwrap();
        }
    }
}

/// Opens all logs of a server that does not run, does the work, and closes them.
pub(crate) fn with_logs<T, F>(
    server: &Server,
    work: impl Fn(Vec<State<Ring>>) -> F + Clone + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let config = config::load(Some(&server.dir().join("pombal.toml"))).unwrap().config;
    let described = fs::read_to_string(config.data_dir.join("store.toml")).unwrap();
    let id = described.lines().find_map(|line| line.strip_prefix("id = \"")?.strip_suffix('"'));
    let id = u128::from_str_radix(id.unwrap(), 16).unwrap();
    let logs = described.lines().find_map(|line| line.strip_prefix("logs = ")?.parse().ok());
    let logs: u16 = logs.unwrap();
    let pool = Pool::inline(cost(&config));
    let plan = Plan::new(config, id, LOGS, pool, [0; 32]).with_logs(logs);
    let (send, received) = bounded(1);
    let shards = ring::start(1, ring::Settings::default(), move |ring| {
        let (plan, work, send) = (plan.clone(), work.clone(), send.clone());
        async move {
            let mut states = Vec::new();
            for log in (0..logs).map(LogId) {
                states.push(open_state(ring.clone(), &plan, log).await.unwrap().0);
            }
            let done = work(states.clone()).await;
            for state in states {
                state.log.close().await.unwrap();
            }
            send.send(done).unwrap();
        }
    });
    shards.unwrap().wait();
    received.try_recv().unwrap()
}

/// A store of everything that this release writes, packed.
fn made() -> String {
    let mut server = set_up();
    for domain in ["local.example", "other.example", "gone.example"] {
        server.pombal(&["domain", "add", domain], "");
    }
    server.pombal(&["domain", "del", "gone.example"], "");
    server.add_user("ann");
    server.start();
    server.add_user("dan");
    let words = ["user", "add", "eve@local.example", "--password-stdin", "--quota", "1M"];
    server.pombal(&words, "secret\n");
    for user in ["fay", "gus", "hal", "ida", "bob"] {
        server.add_user(user);
    }
    for words in [
        &["alias", "add", "all@local.example", "ann@local.example", "bob@local.example"][..],
        &["alias", "add", "sales@other.example", "eve@local.example", "sales@else.example"],
        &["alias", "add", "@other.example", "bob@local.example"],
        &["alias", "add", "brief@local.example", "ann@local.example"],
        &["alias", "del", "brief@local.example"],
    ] {
        server.pombal(words, "");
    }
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    let local = |user: &str| format!("{user}@local.example");
    for number in 0..4 {
        deliver(&mut link, "", &[&local("ann")], &format!("to ann {number}"), "one\r\n");
    }
    deliver(&mut link, "", &[&local("bob")], "dots", "...\r\n..\r\n");
    deliver(&mut link, " BODY=8BITMIME", &[&local("all")], "to all", "gr\u{fc}n\r\n");
    deliver(&mut link, " SMTPUTF8", &[&local("eve"), &local("dan")], "gr\u{fc}n", "x\r\n");
    link.command("QUIT", 221).unwrap();
    Maildrop::open_filled(server.pop3(), "ann", 5).unwrap().quit().unwrap();
    Maildrop::open_filled(server.pop3(), "bob", 2).unwrap().quit().unwrap();
    Maildrop::open_filled(server.pop3(), "eve", 1).unwrap().quit().unwrap();
    server.pombal(&["user", "del", "dan@local.example"], "");
    delete(&server, "ann", 1);
    server.stop();
    // The other mailboxes; they come into the pages of a checkpoint.
    with_logs(&server, |states| async move { sort(&states[home(&states, ANN)]).await });
    // Mail in the log behind the checkpoint.
    server.start();
    let mut link = smtp(server.smtp(), "EHLO").unwrap();
    for number in 4..8 {
        deliver(&mut link, "", &[&local("ann"), &local("bob")], &format!("both {number}"), "b\r\n");
    }
    deliver(&mut link, "", &["Any@other.example", &local("eve")], "catch", "c\r\n");
    Maildrop::open_filled(server.pop3(), "ann", 8).unwrap().quit().unwrap();
    Maildrop::open_filled(server.pop3(), "bob", 7).unwrap().quit().unwrap();
    delete(&server, "bob", 2);
    server.kill9();
    let data = server.dir().join("data");
    with_logs(&server, move |states| {
        let data = data.clone();
        async move {
            let home = home(&states, ANN);
            tidy(&states[home]).await;
            promise(&states[1 - home], home).await;
            pack(&data).unwrap()
        }
    })
}

fn deliver(link: &mut Link, parameters: &str, to: &[&str], subject: &str, body: &str) {
    link.command(&format!("MAIL FROM:<x@else.example>{parameters}"), 250).unwrap();
    for user in to {
        link.command(&format!("RCPT TO:<{user}>"), 250).unwrap();
    }
    link.command("DATA", 354).unwrap();
    let message = format!("Subject: {subject}\r\nFrom: x@else.example\r\n\r\n{body}.");
    link.command(&message, 250).unwrap();
}

fn delete(server: &Server, user: &str, number: usize) {
    let mut maildrop = Maildrop::open(server.pop3(), user, false).unwrap();
    maildrop.link.send(format!("DELE {number}\r\n")).unwrap();
    ok(&mut maildrop.link).unwrap();
    maildrop.quit().unwrap();
}

fn change<'a>(mode: Mode, flags: Flags, keywords: &[&'a str]) -> FlagChange<'a> {
    FlagChange { mode, flags, keywords: keywords.to_vec() }
}

/// The log in which an account lies.
pub(crate) fn home(states: &[State<Ring>], account: AccountId) -> usize {
    let lies = |state: &State<Ring>| state.accounts.borrow().living().contains(&account);
    states.iter().position(lies).expect("it has had mail")
}

fn named(state: &State<Ring>, name: &str) -> MailboxId {
    state.accounts.borrow().named(ANN, name).expect("it was made")
}

/// Makes mailboxes for ann, and puts messages and flags into them.
async fn sort(state: &State<Ring>) {
    let desk = Desk::new(state.log.clone(), Rc::clone(&state.accounts));
    desk.prepare(ANN, &[("Sent", Use::SENT), ("Trash", Use::TRASH)]).await.unwrap();
    let work = desk.create(ANN, "Work/2026/of a long name", Use::default()).await.unwrap();
    let seen = change(Mode::Add, Flags::SEEN, &["Work", "$Forwarded"]);
    desk.store(ANN, INBOX, &[Uid(2), Uid(3)], &seen, None).await.unwrap();
    let flagged = change(Mode::Replace, Flags::FLAGGED.with(Flags::ANSWERED), &[]);
    desk.store(ANN, INBOX, &[Uid(4)], &flagged, None).await.unwrap();
    let uids = [Uid(2), Uid(3), Uid(4)];
    desk.copy(ANN, INBOX, work, Picked::All(&uids), Quota::NONE).await.unwrap();
    let drafts = ["first", "second"].map(|subject| {
        let octets = format!("Subject: {subject}\r\n\r\nsent").into_bytes();
        let message = Message {
            summary: summarize(&octets),
            parts: vec![octets],
            internal_date: 1_700_000_000,
            ..Message::default()
        };
        Brought { message, flags: Flags::DRAFT, keywords: vec!["Mine"] }
    });
    desk.append(ANN, named(state, "Sent"), drafts.into(), Quota::NONE).await.unwrap();
    desk.expunge(ANN, work, &[Uid(1)]).await.unwrap();
}

/// One change of each kind, none of which is in a page.
async fn tidy(state: &State<Ring>) {
    let desk = Desk::new(state.log.clone(), Rc::clone(&state.accounts));
    let (sent, trash) = (named(state, "Sent"), named(state, "Trash"));
    desk.shift(ANN, INBOX, trash, Picked::All(&[Uid(4)])).await.unwrap();
    desk.copy(ANN, INBOX, sent, Picked::All(&[Uid(2), Uid(5)]), Quota::NONE).await.unwrap();
    desk.rename(ANN, "Work", "Old work").await.unwrap();
    desk.subscribe(ANN, "elsewhere", true).await.unwrap();
    desk.subscribe(ANN, "Trash", false).await.unwrap();
    desk.create(ANN, "brief", Use::ARCHIVE).await.unwrap();
    desk.delete(ANN, "brief").await.unwrap();
    let unseen = change(Mode::Remove, Flags::SEEN, &["work"]);
    desk.store(ANN, INBOX, &[Uid(2)], &unseen, None).await.unwrap();
    desk.expunge(ANN, sent, &[Uid(1)]).await.unwrap();
}

/// A message that the other log has promised to bring to ann.
pub(crate) async fn promise(state: &State<Ring>, home: usize) {
    let octets = b"Subject: from the spool\r\n\r\nlate\r\n".to_vec();
    let blob = state.log.reserve_blob();
    let spool = state.spool.borrow_mut().assign();
    let pending = Pending {
        blob,
        size: u32::try_from(octets.len()).unwrap(),
        internal_date: 1_700_000_001,
        marks: 0,
        recipients: vec![(LogId(u16::try_from(home).unwrap()), ANN)],
    };
    let mut group = Group::new();
    put_add(&mut group, spool, &pending);
    group.blobs.push(BlobDraft { id: blob, summary: summarize(&octets), parts: vec![octets] });
    state.log.append(group).await.unwrap();
}
