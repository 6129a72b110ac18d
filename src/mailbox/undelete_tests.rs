//! Going back, held against a journal of what was done: the same mailboxes, flags and UIDs.

use super::super::super::deliver::{Judge, Recipient, deliver};
use super::super::super::history::Retention;
use super::super::super::history::past::past;
use super::super::super::undelete::{UndeleteError, Undeleted, Wanted};
use super::*;
use crate::model::time::Wall;
use std::collections::BTreeSet;

const RETENTION: u32 = 100_000;
const BEGIN: u64 = 1_795_953_600;

/// A message: blob, both dates, size, flags, keywords.
type Exact = (u64, u32, u32, u32, u8, Vec<String>);

/// All that an account is at one moment: use and messages of each mailbox, and subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    mailboxes: BTreeMap<String, (u8, BTreeMap<u32, Exact>)>,
    subscribed: Vec<String>,
}

fn exact<'n>(entry: &Entry, names: impl Iterator<Item = &'n str>) -> (u32, Exact) {
    let mut names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
    names.sort();
    let dates = (entry.internal_date, entry.save_date);
    (entry.uid.0, (entry.blob.0, dates.0, dates.1, entry.size, entry.flags.0, names))
}

fn now_of(accounts: &Accounts) -> Snapshot {
    let mut snapshot = Snapshot::default();
    accounts.each_mailbox(WHO, |one| {
        let view = accounts.view(WHO, one.id);
        let none = Keywords::default();
        let keywords = view.keywords().unwrap_or(&none);
        let held = view.iter().map(|entry| exact(&entry, keywords.of(entry.keywords)));
        snapshot.mailboxes.insert(one.name.to_owned(), (one.uses.0, held.collect()));
    });
    snapshot.subscribed = accounts.subscriptions(WHO).iter().map(ToString::to_string).collect();
    snapshot
}

/// As the history has it.
fn then_of(accounts: &Accounts, at: u32) -> Snapshot {
    let past = past(accounts.account(WHO).expect("the account is there"), at);
    let mailboxes = past.folders.iter().map(|folder| {
        let content = &folder.content;
        let held = content.entries().map(|entry| exact(&entry, content.keywords(&entry)));
        (folder.name.to_string(), (folder.uses.0, held.collect()))
    });
    let mailboxes = mailboxes.collect();
    Snapshot { mailboxes, subscribed: past.subscriptions.iter().map(ToString::to_string).collect() }
}

/// What was so from each second on, and seconds in which the account was on its way back.
#[derive(Default)]
struct Journal(BTreeMap<u32, Snapshot>, BTreeSet<u32>);

impl Journal {
    fn note(&mut self, at: u32, accounts: &Accounts) {
        self.0.insert(at, now_of(accounts));
    }

    /// The same of what was begun at `begun`.
    fn note_since(&mut self, begun: u32, at: u32, accounts: &Accounts) {
        self.1.extend(begun..at);
        self.note(at, accounts);
    }

    fn at(&self, at: u32) -> Snapshot {
        self.0.range(..=at).next_back().map(|(_, one)| one.clone()).unwrap_or_default()
    }

    /// A second between the first and the last.
    fn pick(&self, chance: &Chance) -> u32 {
        let (first, last) = (*self.0.keys().next().unwrap(), *self.0.keys().next_back().unwrap());
        let mut at = first + u32::try_from(chance.below(u64::from(last - first) + 1)).unwrap();
        while self.1.contains(&at) {
            at -= 1;
        }
        at
    }
}

/// Waits for the begin of some second, so that nothing is done on both sides of one.
async fn next_second(env: &SimEnv, chance: &Chance) -> u32 {
    let into = env.wall().0 % 1_000_000;
    let pause = 1_000_000 - into + chance.below(3) * 1_000_000;
    env.sleep(Duration::from_micros(pause)).await;
    env.wall().seconds()
}

fn keep_all(accounts: &Rc<RefCell<Accounts>>) {
    accounts.borrow_mut().set_retention(Retention::all(RETENTION));
}

async fn mail(log: &Log<SimEnv>, accounts: &Rc<RefCell<Accounts>>, size: usize) {
    let to = Recipient { account: WHO, quota: Quota::NONE };
    let message = Message { parts: vec![vec![b'm'; size]], ..Message::default() };
    let verdicts = deliver(log, accounts, &[to], Judge::Each, message).await.expect("taken");
    assert!(verdicts.iter().all(Result::is_ok));
}

async fn go_back(
    desk: &Desk<SimEnv>,
    at: u32,
    beside: Option<&str>,
) -> Result<Undeleted, UndeleteError> {
    let wanted = Wanted { at, beside: beside.map(str::to_owned), dry_run: false };
    desk.undelete(WHO, &wanted).await
}

impl Model {
    /// Goes on from what is there.
    fn learn(&mut self, accounts: &Accounts) {
        self.mailboxes = observed(accounts);
        self.subscribed = accounts.subscriptions(WHO).iter().map(ToString::to_string).collect();
        self.validity_last = accounts.account(WHO).expect("it is there").uidvalidity_last.0;
    }
}

/// Some random changes, each noted; now and then the account goes back, or a copy of it.
async fn live(
    (desk, accounts, log): &(Desk<SimEnv>, Rc<RefCell<Accounts>>, Log<SimEnv>),
    env: &SimEnv,
    model: &mut Model,
    journal: &mut Journal,
    chance: &Chance,
) {
    for _ in 0..60 {
        let now = next_second(env, chance).await;
        if chance.below(2) == 0 {
            accounts.borrow_mut().rest_all();
        }
        match chance.below(16) {
            0 => {
                let at = journal.pick(chance);
                let told = go_back(desk, at, None).await.expect("it is known");
                assert_eq!(now_of(&accounts.borrow()), journal.at(at), "back at {at}: {told:?}");
            }
            1 => {
                let at = journal.pick(chance);
                let name = format!("back{now}");
                go_back(desk, at, Some(&name)).await.expect("it is known");
                let (is, was) = (now_of(&accounts.borrow()), journal.at(at));
                for (folder, (_, held)) in &was.mailboxes {
                    assert_eq!(&is.mailboxes[&format!("{name}/{folder}")].1, held, "{folder}");
                }
                let count = is.mailboxes.keys().filter(|known| known.starts_with(&name)).count();
                assert_eq!(count, was.mailboxes.len() + 1);
                desk.delete(WHO, &name).await.expect("deleted");
            }
            2..5 => mail(log, accounts, 700).await,
            _ => {
                model.step(desk, accounts, chance).await;
            }
        }
        model.learn(&accounts.borrow());
        journal.note_since(now, env.wall().seconds(), &accounts.borrow());
    }
}

fn check_all(accounts: &Accounts, journal: &Journal, seed: u64) {
    for &at in journal.0.keys() {
        assert_eq!(then_of(accounts, at), journal.at(at), "seed {seed}: at {at}");
        let after = at + 1;
        if journal.1.contains(&after) {
            continue;
        }
        assert_eq!(then_of(accounts, after), journal.at(after), "seed {seed}: at {after}");
    }
}

#[test]
fn brings_back_what_a_journal_says_was_there() {
    for seed in 0..12 {
        let mut model = Model::default();
        let mut journal = Journal::default();
        let mut disk = Disk::new();
        for life in 0..3 {
            let sim = Sim::with_disk(seed * 10 + life, Faults::none(), disk);
            sim.allow_leaks();
            sim.set_wall(Wall((BEGIN + life * 10_000) * 1_000_000));
            let chance = sim.chance();
            let env = sim.env(0);
            let living = async {
                let world = open(env.clone()).await;
                let (desk, accounts, log) = &world;
                keep_all(accounts);
                if life == 0 {
                    desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
                    model.learn(&accounts.borrow());
                    journal.note(env.wall().seconds(), &accounts.borrow());
                }
                check_all(&accounts.borrow(), &journal, seed);
                live(&world, &env, &mut model, &mut journal, &chance).await;
                check_all(&accounts.borrow(), &journal, seed);
                accounts.borrow().verify().expect("the accounts agree with themselves");
                let findings = log.verify(|_| ()).await;
                assert_eq!(findings.faults, Vec::<String>::new());
                if life == 1 {
                    log.clone().close().await.expect("it closes");
                }
            };
            sim.run_until(living).unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            disk = sim.crash().disk();
        }
    }
}

/// Runs `work` on a machine of its own.
fn alone<F: Future<Output = ()>>(
    work: impl FnOnce(Desk<SimEnv>, Rc<RefCell<Accounts>>, Log<SimEnv>, SimEnv) -> F,
) {
    let sim = Sim::with_disk(5, Faults::none(), Disk::new());
    sim.allow_leaks();
    sim.set_wall(Wall(BEGIN * 1_000_000));
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, log) = open(env.clone()).await;
        keep_all(&accounts);
        desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
        work(desk, accounts, log, env).await;
    };
    sim.run_until(living).unwrap_or_else(|halt| panic!("{halt}"));
}

#[test]
fn forgets_what_is_older_than_the_retention_and_lets_the_octets_go() {
    alone(|desk, accounts, log, env| async move {
        let made = desk.create(WHO, "a", Use::default()).await.expect("made");
        for _ in 0..10 {
            mail(&log, &accounts, 5_000).await;
        }
        let uids: Vec<Uid> = (1..=4).map(Uid).collect();
        desk.shift(WHO, INBOX, made, Picked::All(&uids)).await.expect("moved");
        env.sleep(Duration::from_secs(10)).await;
        let before = env.wall().seconds();
        env.sleep(Duration::from_secs(1)).await;
        desk.expunge(WHO, INBOX, &[Uid(5), Uid(6)]).await.expect("expunged");
        desk.delete(WHO, "a").await.expect("deleted");
        assert_eq!(accounts.borrow().usage(WHO).messages, 4, "what is kept does not count");
        assert_eq!(log.figures().blobs, 10);
        assert_eq!(then_of(&accounts.borrow(), before).mailboxes["a"].1.len(), 4);
        let stale = |after| accounts.borrow().stale(env.wall().seconds() + after, 0).0;
        assert_eq!((stale(RETENTION / 2), stale(2 * RETENTION)), (vec![], vec![WHO]));

        env.sleep(Duration::from_secs(u64::from(RETENTION) + 20)).await;
        desk.keep(WHO).await.expect("kept");
        assert_eq!(log.figures().blobs, 4);
        assert_eq!(accounts.borrow().mailboxes(WHO).len(), 2, "the mailbox is forgotten too");
        assert_eq!(accounts.borrow().oldest_kept(), None);
        let refused = go_back(&desk, before, None).await;
        assert!(matches!(refused, Err(UndeleteError::NotKnown(Some(_)))), "{refused:?}");
        let findings = log.verify(|_| ()).await;
        assert_eq!(findings.faults, Vec::<String>::new());
    });
}

/// Of what was done in the very second in which the account goes back some second tells.
#[test]
fn what_was_done_a_moment_ago_can_be_gone_back_to() {
    alone(|desk, accounts, log, env| async move {
        mail(&log, &accounts, 100).await;
        env.sleep(Duration::from_secs(5)).await;
        let early = env.wall().seconds() - 4;
        let change = FlagChange { mode: Mode::Add, flags: Flags::SEEN, keywords: Vec::new() };
        desk.store(WHO, INBOX, &[Uid(1)], &change, None).await.expect("stored");
        mail(&log, &accounts, 200).await;
        let before = now_of(&accounts.borrow());
        let meanwhile = async {
            env.sleep(Duration::from_millis(100)).await;
            mail(&log, &accounts, 300).await;
        };
        let (told, ()) = futures_lite::future::zip(go_back(&desk, early, None), meanwhile).await;
        told.expect("it is known");
        assert_eq!(now_of(&accounts.borrow()).mailboxes["INBOX"].1.len(), 1);
        // And of what was made for that nobody finds anything.
        let before_it = then_of(&accounts.borrow(), env.wall().seconds() - 1);
        assert!(before_it.mailboxes.keys().eq(before.mailboxes.keys()), "{before_it:?}");
        go_back(&desk, env.wall().seconds() - 1, None).await.expect("it is known");
        let mut inbox = now_of(&accounts.borrow()).mailboxes["INBOX"].1.clone();
        let (_, late) = inbox.pop_last().expect("all three are there");
        assert_eq!((late.3, &inbox), (300, &before.mailboxes["INBOX"].1));
    });
}

#[test]
fn keeps_nothing_where_the_retention_is_none() {
    alone(|desk, accounts, log, env| async move {
        mail(&log, &accounts, 100).await;
        mail(&log, &accounts, 100).await;
        desk.expunge(WHO, INBOX, &[Uid(1)]).await.expect("expunged");
        assert_eq!(log.figures().blobs, 2);
        accounts.borrow_mut().set_retention(Retention::default());
        assert_eq!(accounts.borrow().stale(env.wall().seconds(), 0).0, [WHO]);
        desk.keep(WHO).await.expect("kept");
        assert_eq!(log.figures().blobs, 1);
        assert_eq!(accounts.borrow().stale(env.wall().seconds(), 0).0, []);
        desk.expunge(WHO, INBOX, &[Uid(2)]).await.expect("expunged");
        assert_eq!(log.figures().blobs, 0);
        let refused = go_back(&desk, env.wall().seconds(), None).await;
        assert_eq!(refused, Err(UndeleteError::NotKnown(None)));
        // On again: known from here on.
        keep_all(&accounts);
        desk.keep(WHO).await.expect("kept");
        let now = env.wall().seconds();
        assert_eq!(accounts.borrow().known_from(WHO, now), Some(now - 1));
    });
}

#[test]
fn knows_keywords_whose_places_others_have_now() {
    alone(|desk, accounts, log, env| async move {
        mail(&log, &accounts, 100).await;
        let mut journal = Journal::default();
        for number in 0..KEYWORDS_MAX * 2 {
            env.sleep(Duration::from_secs(1)).await;
            let name = format!("k{number}");
            let (flags, keywords) = (Flags::SEEN, vec![name.as_str()]);
            let change = FlagChange { mode: Mode::Replace, flags, keywords };
            desk.store(WHO, INBOX, &[Uid(1)], &change, None).await.expect("stored");
            journal.note(env.wall().seconds(), &accounts.borrow());
        }
        check_all(&accounts.borrow(), &journal, 0);
    });
}

#[test]
fn deletes_an_account_with_its_history() {
    alone(|desk, accounts, log, _| async move {
        desk.create(WHO, "a", Use::default()).await.expect("made");
        for _ in 0..5 {
            mail(&log, &accounts, 100).await;
        }
        desk.expunge(WHO, INBOX, &[Uid(1)]).await.expect("expunged");
        desk.delete(WHO, "a").await.expect("deleted");
        super::super::super::delete_account(&log, &accounts, WHO).await.expect("deleted");
        assert_eq!(log.figures().blobs, 0);
        assert_eq!(accounts.borrow().living(), []);
        let findings = log.verify(|_| ()).await;
        assert_eq!(findings.faults, Vec::<String>::new());
    });
}

#[test]
fn a_clock_that_was_set_back_leaves_a_history_in_order() {
    let sim = Sim::with_disk(5, Faults::none(), Disk::new());
    sim.allow_leaks();
    sim.set_wall(Wall(BEGIN * 1_000_000));
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, log) = open(env.clone()).await;
        keep_all(&accounts);
        desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
        mail(&log, &accounts, 100).await;
        sim.set_wall(Wall((BEGIN + 500_000_000) * 1_000_000));
        desk.expunge(WHO, INBOX, &[Uid(1)]).await.expect("expunged");
        desk.delete(WHO, "Sent").await.expect("deleted");
        sim.set_wall(Wall((BEGIN + 10) * 1_000_000));
        desk.create(WHO, "a", Use::default()).await.expect("made");
        accounts.borrow().verify().expect("in order");
        let before = u32::try_from(BEGIN + 5).unwrap();
        let then = then_of(&accounts.borrow(), before);
        assert_eq!(then.mailboxes.keys().collect::<Vec<_>>(), ["INBOX", "Sent"]);
        assert_eq!(then.mailboxes["INBOX"].1.len(), 1);
    };
    sim.run_until(living).unwrap_or_else(|halt| panic!("{halt}"));
}
