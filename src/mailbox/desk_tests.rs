//! The desk against a model of what IMAP says, over crashes and checkpoints.

use super::super::keywords::Keywords;
use super::super::view::Changes;
use super::*;
use crate::env::sim::{Chance, Disk, Faults, Sim, SimEnv};
use crate::model::id::LogId;
use crate::model::limits::KEYWORDS_MAX;
use crate::store::record::kind;
use crate::store::{Identity, Machine, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const WHO: AccountId = AccountId(7);
const IDENTITY: Identity = Identity { store: 42, log: LogId(0), first_logs: 1 };

fn settings() -> Settings {
    Settings {
        segment_octets: 1 << 20,
        cache_octets: 64 << 10,
        checkpoint_octets: 200 << 10,
        checkpoint_pause: Duration::from_secs(1),
        ..Settings::default()
    }
}

async fn open(env: SimEnv) -> (Desk<SimEnv>, Rc<RefCell<Accounts>>, Log<SimEnv>) {
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    let machine: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&accounts);
    let registry = vec![(kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, machine)];
    let opened = Log::open(env, Path::new("/log"), IDENTITY, settings(), registry).await;
    let (log, _) = opened.expect("the log opens");
    (Desk::new(log.clone(), Rc::clone(&accounts)), accounts, log)
}

/// A message as the model has it: size, flags, keywords.
type Held = (u32, u8, Vec<String>);

/// What one account holds, by name and UID.
#[derive(Default)]
struct Model {
    mailboxes: BTreeMap<String, BTreeMap<u32, Held>>,
    uidvalidity: BTreeMap<String, u32>,
    validity_last: u32,
    subscribed: std::collections::BTreeSet<String>,
}

fn brought(size: usize, flags: Flags, keywords: Vec<&str>) -> Brought<'_> {
    let message = Message { parts: vec![vec![b'x'; size]], ..Message::default() };
    Brought { message, flags, keywords }
}

fn observed(accounts: &Accounts) -> BTreeMap<String, BTreeMap<u32, Held>> {
    let mut found = BTreeMap::new();
    accounts.each_mailbox(WHO, |one| {
        let view = accounts.view(WHO, one.id);
        let none = Keywords::default();
        let keywords = view.keywords().unwrap_or(&none);
        let held = view.iter().map(|entry| {
            let mut names: Vec<String> =
                keywords.of(entry.keywords).map(str::to_ascii_lowercase).collect();
            names.sort();
            (entry.uid.0, (entry.size, entry.flags.0, names))
        });
        let held: BTreeMap<u32, Held> = held.collect();
        assert_eq!(u64::from(view.count()), held.len() as u64);
        let unseen = held.values().filter(|(_, flags, _)| flags & Flags::SEEN.0 == 0).count();
        assert_eq!(view.unseen() as usize, unseen, "{}", one.name);
        found.insert(one.name.to_owned(), held);
    });
    found
}

const NAMES: [&str; 6] = ["INBOX", "a", "a/b", "a/b/c", "Sent", "z"];
const WORDS: [&str; 4] = ["Work", "$Junk", "later", "WORK"];

impl Model {
    /// One random change, made by the desk and by the model.
    async fn step(
        &mut self,
        desk: &Desk<SimEnv>,
        accounts: &Rc<RefCell<Accounts>>,
        chance: &Chance,
    ) {
        let pick = |count: usize| usize::try_from(chance.below(count as u64)).expect("small");
        let name = NAMES[pick(NAMES.len())];
        let id = accounts.borrow().named(WHO, name);
        match chance.below(9) {
            0 => {
                let made = desk.create(WHO, name, Use::default()).await;
                assert_eq!(made.is_ok(), !self.mailboxes.contains_key(name), "{made:?}");
                if made.is_ok() {
                    self.note_made(name, accounts);
                }
            }
            1 => {
                let gone = desk.delete(WHO, name).await;
                let may = name != "INBOX" && self.mailboxes.contains_key(name);
                assert_eq!(gone.is_ok(), may, "{gone:?}");
                if may {
                    self.mailboxes.remove(name);
                }
            }
            2 => self.rename(desk, accounts, name, NAMES[pick(NAMES.len())]).await,
            3 => {
                let on = chance.below(2) == 0;
                desk.subscribe(WHO, name, on).await.expect("it may be subscribed");
                if on {
                    self.subscribed.insert(name.to_owned());
                } else {
                    self.subscribed.remove(name);
                }
            }
            4 | 5 => self.append(desk, name, id, chance).await,
            6 => self.store(desk, name, id, chance).await,
            7 => self.transfer(desk, accounts, name, NAMES[pick(NAMES.len())], pick(2) == 0).await,
            _ => {
                let Some(id) = id else { return };
                let held = self.mailboxes.get_mut(name).expect("the model has it");
                let uids: Vec<u32> = held.keys().copied().filter(|uid| uid % 3 == 0).collect();
                let asked: Vec<Uid> = uids.iter().map(|&uid| Uid(uid)).collect();
                let count = desk.expunge(WHO, id, &asked).await.expect("expunged");
                assert_eq!(count, uids.len());
                held.retain(|uid, _| uid % 3 != 0);
            }
        }
    }

    async fn append(
        &mut self,
        desk: &Desk<SimEnv>,
        name: &str,
        id: Option<MailboxId>,
        chance: &Chance,
    ) {
        let pick = |count: usize| usize::try_from(chance.below(count as u64)).expect("small");
        let Some(id) = id else { return };
        let size = pick(3_000) + 1;
        let words = vec![WORDS[pick(WORDS.len())]];
        let brought = vec![brought(size, Flags::SEEN, words.clone()); pick(3) + 1];
        let count = brought.len();
        let placed = desk.append(WHO, id, brought, Quota::NONE).await.expect("appended");
        assert_eq!(placed.uids.len(), count);
        let held = self.mailboxes.get_mut(name).expect("the model has it");
        for (_, uid) in placed.uids {
            let last = held.last_key_value().map_or(0, |(&uid, _)| uid);
            assert!(uid.0 > last, "UIDs rise");
            let words = words.iter().map(|word| word.to_ascii_lowercase()).collect();
            held.insert(uid.0, (u32::try_from(size).expect("small"), 1, words));
        }
    }

    async fn store(
        &mut self,
        desk: &Desk<SimEnv>,
        name: &str,
        id: Option<MailboxId>,
        chance: &Chance,
    ) {
        let pick = |count: usize| usize::try_from(chance.below(count as u64)).expect("small");
        let Some(id) = id else { return };
        let held = self.mailboxes.get_mut(name).expect("the model has it");
        let uids: Vec<u32> = held.keys().copied().filter(|uid| uid % 2 == 0).collect();
        let mode = [Mode::Add, Mode::Remove, Mode::Replace][pick(3)];
        let word = WORDS[pick(WORDS.len())];
        let change = FlagChange { mode, flags: Flags::FLAGGED, keywords: vec![word] };
        let asked: Vec<Uid> = uids.iter().map(|&uid| Uid(uid)).collect();
        desk.store(WHO, id, &asked, &change, None).await.expect("stored");
        let word = word.to_ascii_lowercase();
        for uid in uids {
            let (_, flags, words) = held.get_mut(&uid).expect("it is there");
            let had = words.contains(&word);
            (*flags, *words) = match mode {
                Mode::Add if had => (*flags | Flags::FLAGGED.0, std::mem::take(words)),
                Mode::Add => {
                    words.push(word.clone());
                    words.sort();
                    (*flags | Flags::FLAGGED.0, std::mem::take(words))
                }
                Mode::Remove => {
                    words.retain(|known| *known != word);
                    (*flags & !Flags::FLAGGED.0, std::mem::take(words))
                }
                Mode::Replace => (Flags::FLAGGED.0, vec![word.clone()]),
            };
        }
    }

    /// Every mailbox on the way to `name` is there now.
    fn note_made(&mut self, name: &str, accounts: &Rc<RefCell<Accounts>>) {
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        for path in ends.filter_map(|end| name.get(..end)) {
            if self.mailboxes.contains_key(path) {
                continue;
            }
            self.mailboxes.insert(path.to_owned(), BTreeMap::new());
            let state = accounts.borrow();
            let id = state.named(WHO, path).expect("it was made");
            let validity = state.view(WHO, id).uidvalidity().0;
            assert!(validity > self.validity_last, "UIDVALIDITY rises");
            self.validity_last = validity;
            self.uidvalidity.insert(path.to_owned(), validity);
        }
    }

    async fn rename(
        &mut self,
        desk: &Desk<SimEnv>,
        accounts: &Rc<RefCell<Accounts>>,
        from: &str,
        to: &str,
    ) {
        let renamed = desk.rename(WHO, from, to).await;
        let below = |name: &str| name.strip_prefix(from).is_some_and(|rest| rest.starts_with('/'));
        let moving: Vec<String> =
            self.mailboxes.keys().filter(|name| **name == from || below(name)).cloned().collect();
        let target = |name: &str| format!("{to}{}", name.strip_prefix(from).unwrap_or_default());
        let taken = |name: &String| self.mailboxes.contains_key(&target(name));
        let may = !self.mailboxes.contains_key(to)
            && !moving.is_empty()
            && (from == "INBOX" || !(below(to) || moving.iter().any(taken)));
        assert_eq!(renamed.is_ok(), may, "{from} to {to}: {renamed:?}");
        if !may {
            return;
        }
        if from == "INBOX" {
            self.note_made(to, accounts);
            let held = std::mem::take(self.mailboxes.get_mut(from).expect("INBOX is there"));
            let renumbered = (1..).zip(held.into_values()).collect();
            self.mailboxes.insert(to.to_owned(), renumbered);
            return;
        }
        let held: Vec<(String, BTreeMap<u32, Held>)> =
            moving.into_iter().filter_map(|name| self.mailboxes.remove_entry(&name)).collect();
        if let Some((above, _)) = to.rsplit_once('/')
            && !self.mailboxes.contains_key(above)
        {
            self.note_made(above, accounts);
        }
        for (name, held) in held {
            self.mailboxes.insert(target(&name), held);
        }
    }

    async fn transfer(
        &mut self,
        desk: &Desk<SimEnv>,
        accounts: &Rc<RefCell<Accounts>>,
        from: &str,
        to: &str,
        moves: bool,
    ) {
        let ids = [from, to].map(|name| accounts.borrow().named(WHO, name));
        let [Some(source), Some(target)] = ids else { return };
        let held = self.mailboxes[from].clone();
        let asked: Vec<Uid> = held.keys().take(3).map(|&uid| Uid(uid)).collect();
        let placed = if moves {
            desk.shift(WHO, source, target, Picked::All(&asked)).await
        } else {
            desk.copy(WHO, source, target, Picked::There(&asked), Quota::NONE).await
        };
        let placed = placed.expect("transferred");
        assert_eq!(placed.uids.iter().map(|&(uid, _)| uid).collect::<Vec<_>>(), asked);
        for (uid, new) in placed.uids {
            let message = held[&uid.0].clone();
            if moves {
                self.mailboxes.get_mut(from).expect("it is there").remove(&uid.0);
            }
            self.mailboxes.get_mut(to).expect("it is there").insert(new.0, message);
        }
    }

    fn check(&self, accounts: &Accounts) {
        assert_eq!(observed(accounts), self.mailboxes);
        let subscribed: Vec<String> =
            accounts.subscriptions(WHO).iter().map(ToString::to_string).collect();
        assert_eq!(subscribed, self.subscribed.iter().cloned().collect::<Vec<_>>());
        let octets: u64 =
            self.mailboxes.values().flat_map(BTreeMap::values).map(|held| u64::from(held.0)).sum();
        assert_eq!(accounts.usage(WHO).octets, octets);
        accounts.verify().expect("the accounts agree with themselves");
        assert_eq!(accounts.removed(), []);
    }
}

#[test]
fn does_what_the_model_says_through_crashes_and_checkpoints() {
    for seed in 0..40 {
        let mut model = Model::default();
        let mut disk = Disk::new();
        for life in 0..3 {
            let sim = Sim::with_disk(seed * 10 + life, Faults::none(), disk);
            sim.allow_leaks();
            let chance = sim.chance();
            let env = sim.env(0);
            let living = async {
                let (desk, accounts, log) = open(env).await;
                if life == 0 {
                    desk.prepare(WHO, &[]).await.expect("prepared");
                    model.note_made("INBOX", &accounts);
                    model.subscribed.insert("INBOX".into());
                }
                model.check(&accounts.borrow());
                for _ in 0..60 {
                    model.step(&desk, &accounts, &chance).await;
                }
                model.check(&accounts.borrow());
                let findings = log.verify(|_| ()).await;
                assert_eq!(findings.faults, Vec::<String>::new());
                if life == 1 {
                    log.close().await.expect("it closes");
                }
            };
            sim.run_until(living).unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            disk = sim.crash().disk();
        }
    }
}

#[test]
fn two_views_tell_what_changed_between_them() {
    let sim = Sim::with_disk(3, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, _) = open(env).await;
        desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
        let view = || accounts.borrow().view(WHO, INBOX);
        let many = vec![brought(10, Flags::default(), vec![]); 1_000];
        desk.append(WHO, INBOX, many, Quota::NONE).await.expect("appended");
        let old = view();
        assert_eq!(old.changes_since(&old), Changes::default());
        let bell = accounts.borrow_mut().bell(WHO);
        let rung = bell.rung();
        let gone: Vec<Uid> = [3, 4, 700].map(Uid).to_vec();
        desk.expunge(WHO, INBOX, &gone).await.expect("expunged");
        let flag = FlagChange { mode: Mode::Add, flags: Flags::SEEN, keywords: vec!["x"] };
        let stored = desk.store(WHO, INBOX, &[Uid(5), Uid(900)], &flag, None).await;
        let modseq = stored.expect("stored").modseq.expect("something changed");
        desk.append(WHO, INBOX, vec![brought(1, Flags::default(), vec![])], Quota::NONE)
            .await
            .expect("appended");
        assert!(bell.rung() > rung);
        let new = view();
        let changes = new.changes_since(&old);
        let vanished: Vec<Uid> = changes.vanished.iter().map(|entry| entry.uid).collect();
        assert_eq!(vanished, gone);
        assert_eq!(changes.changed, [Uid(5), Uid(900)]);
        assert_eq!((new.count(), new.unseen(), new.first_unseen()), (998, 996, Some(0)));
        assert_eq!(new.find(Uid(5)).map(|(index, entry)| (index, entry.modseq)), Some((2, modseq)));
        assert_eq!(new.find(Uid(4)), None);
        let since = accounts.borrow().vanished_since(WHO, INBOX, old.modseq());
        assert_eq!(since, Some(vec![(Uid(3), Uid(4)), (Uid(700), Uid(700))]));
        // Not what changed meanwhile (RFC 7162 §3.1.3).
        let unless = Some(old.modseq());
        let stored = desk.store(WHO, INBOX, &[Uid(5), Uid(6)], &flag, unless).await;
        assert_eq!(stored.expect("stored").modified, [Uid(5)]);
        let sent = accounts.borrow().named(WHO, "Sent");
        assert!(sent.is_some(), "the usual mailboxes were made");
    };
    sim.run_until(living).expect("it ends");
}

/// The words of a message.
fn words(view: &View, uid: u32) -> Vec<String> {
    let (_, entry) = view.find(Uid(uid)).expect("it is there");
    let known = view.keywords().expect("it has keywords");
    known.of(entry.keywords).map(Into::into).collect()
}

/// Far more names than there are places, a few at a time; recovery gives them the same places.
#[test]
fn keywords_that_no_message_has_give_their_places_away() {
    const AT_ONCE: usize = 20;
    let mut disk = Disk::new();
    let mut state = None;
    let mut names = (0..).map(|number| format!("k{number}"));
    for life in 0..4 {
        let sim = Sim::with_disk(life, Faults::none(), disk);
        sim.allow_leaks();
        let env = sim.env(0);
        let living = async {
            let (desk, accounts, log) = open(env).await;
            assert!(state.is_none_or(|state| state == accounts.borrow().digest()), "life {life}");
            if life == 0 {
                desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
                let two = vec![brought(10, Flags::default(), vec!["kept"]); 2];
                desk.append(WHO, INBOX, two, Quota::NONE).await.expect("appended");
            }
            let sent = accounts.borrow().named(WHO, "Sent").expect("it was made");
            for _ in 0..5 {
                let some: Vec<String> = names.by_ref().take(AT_ONCE).collect();
                let keywords = some.iter().map(|name| &**name).collect();
                let change = FlagChange { mode: Mode::Replace, flags: Flags::SEEN, keywords };
                let before = accounts.borrow().view(WHO, INBOX);
                let had = words(&before, 1);
                desk.store(WHO, INBOX, &[Uid(1)], &change, None).await.expect("there are places");
                let way = Picked::All(&[Uid(1), Uid(2)]);
                let copied = desk.copy(WHO, INBOX, sent, way, Quota::NONE).await.expect("copied");
                let copies = [copied.uids[0].1, copied.uids[1].1];
                for (mailbox, uids) in [(INBOX, [Uid(1), Uid(2)]), (sent, copies)] {
                    let view = accounts.borrow().view(WHO, mailbox);
                    let (mut has, mut want) = (words(&view, uids[0].0), some.clone());
                    has.sort();
                    want.sort();
                    assert_eq!(has, want);
                    assert_eq!(words(&view, uids[1].0), ["kept"]);
                    assert!(view.takes_keywords());
                }
                assert_eq!(words(&before, 1), had, "a view stays what it was");
                desk.expunge(WHO, sent, &copies).await.expect("expunged");
            }
            let faults = log.verify(|_| ()).await.faults;
            assert_eq!(faults, Vec::<String>::new());
            state = Some(accounts.borrow().digest());
            if life == 1 {
                log.close().await.expect("it closes");
            }
        };
        sim.run_until(living).expect("it ends");
        disk = sim.crash().disk();
    }
}

/// A record that recovery would refuse must never be written, whatever a client calls its flags.
#[test]
fn keywords_that_no_record_can_hold_are_refused_and_the_log_goes_on() {
    let sim = Sim::with_disk(3, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, _) = open(env).await;
        desk.prepare(WHO, &[]).await.expect("prepared");
        let one = || vec![brought(10, Flags::default(), vec![])];
        desk.append(WHO, INBOX, one(), Quota::NONE).await.expect("appended");
        let long = "k".repeat(KEYWORD_OCTETS_MAX + 1);
        let many: Vec<String> = (0..=KEYWORDS_MAX).map(|number| format!("k{number}")).collect();
        let many: Vec<&str> = many.iter().map(|name| &**name).collect();
        let store = async |mode, keywords| {
            let change = FlagChange { mode, flags: Flags::default(), keywords };
            desk.store(WHO, INBOX, &[Uid(1)], &change, None).await
        };
        for mode in [Mode::Add, Mode::Replace] {
            for names in [vec![&*long], many.clone()] {
                assert!(matches!(store(mode, names).await, Err(ChangeError::Limit(_))));
            }
        }
        store(Mode::Add, vec!["x"]).await.expect("stored");
        store(Mode::Remove, [vec!["x", &*long], many.clone()].concat()).await.expect("stored");
        let long = vec![brought(10, Flags::default(), vec![&long])];
        let appended = desk.append(WHO, INBOX, long, Quota::NONE).await;
        assert!(matches!(appended, Err(ChangeError::Limit(_))));
        desk.append(WHO, INBOX, one(), Quota::NONE).await.expect("the log goes on");
        assert_eq!(accounts.borrow().view(WHO, INBOX).count(), 2);
    };
    sim.run_until(living).expect("it ends");
}

#[path = "undelete_tests.rs"]
mod undelete;
