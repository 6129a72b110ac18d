//! A mailbox moves in, through crashes: every message once, with all that the other server knew.

use super::super::accounts::Accounts;
use super::super::desk::Brought;
use super::super::quota::Quota;
use super::*;
use crate::env::sim::{Chance, Disk, Faults, Sim, SimEnv};
use crate::model::id::LogId;
use crate::store::record::kind;
use crate::store::{Identity, Log, Machine, Settings};
use std::cell::RefCell;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

const WHO: AccountId = AccountId(7);
const THERE: u32 = 1_300_000_000;

async fn open(env: SimEnv) -> (Desk<SimEnv>, Rc<RefCell<Accounts>>, Log<SimEnv>) {
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    let machine: Rc<RefCell<dyn Machine>> = Rc::<RefCell<Accounts>>::clone(&accounts);
    let registry = vec![(kind::MAILBOX_FIRST..=kind::MAILBOX_LAST, machine)];
    let identity = Identity { store: 42, log: LogId(0), first_logs: 1 };
    let settings = Settings {
        segment_octets: 1 << 20,
        cache_octets: 64 << 10,
        checkpoint_octets: 20 << 10,
        checkpoint_pause: Duration::from_secs(1),
        ..Settings::default()
    };
    let opened = Log::open(env, Path::new("/log"), identity, settings, registry).await;
    let (log, _) = opened.expect("the log opens");
    (Desk::new(log.clone(), Rc::clone(&accounts)), accounts, log)
}

/// The message of a UID there: its text tells which it is.
fn parcel(uid: u32) -> (Parcel, Vec<u8>) {
    let octets = format!("Subject: {uid}\r\n\r\nthere\r\n").into_bytes();
    let parcel = Parcel {
        octets: u32::try_from(octets.len()).expect("it is short"),
        uid,
        date: 1_000_000_u32.wrapping_add(uid),
        flags: u8::try_from(uid % 32).expect("below 32"),
        keywords: (0..2).filter(|at| uid >> at & 1 == 1).collect(),
        uidl: uid.is_multiple_of(5).then(|| format!("id-{uid}")),
    };
    (parcel, octets)
}

fn deposit(mailbox: u32, uids: &[u32]) -> (Ask, Vec<Message>) {
    let (messages, octets): (Vec<Parcel>, Vec<Vec<u8>>) =
        uids.iter().map(|&uid| parcel(uid)).unzip();
    let next = uids.last().map_or(0, |last| last.saturating_add(1));
    let ask = Ask::Deposit(Deposit {
        mailbox,
        keywords: vec!["Work".into(), "$Junk".into()],
        uidl: Some("%08Xu%08Xv".into()),
        messages,
        uidvalidity: THERE,
        origin: Some(Origin { uidvalidity: THERE, next }),
    });
    let brought = ask.open(&octets.concat()).expect("the octets are theirs");
    (ask, brought)
}

async fn enter(desk: &Desk<SimEnv>, name: &str) -> Entered {
    let (name, uses) = (name.to_owned(), Use::SENT.0);
    let wish = Wish { name, uses, subscribe: true, uidvalidity: THERE, first: 3 };
    match desk.moving(WHO, Ask::Enter(wish), Vec::new()).await.0 {
        Reply::Entered(entered) => entered,
        other => panic!("{other:?}"),
    }
}

/// The UIDs there, with gaps.
fn uids() -> Vec<u32> {
    (3..200).filter(|uid| uid % 7 != 0).collect()
}

/// What is in a mailbox: UID here, UID there or 0, keywords, unique id.
async fn listed(desk: &Desk<SimEnv>, mailbox: u32) -> Vec<(u32, u32, Vec<String>, Option<String>)> {
    let (mut found, mut from) = (Vec::new(), 1);
    while from != 0 {
        let (reply, octets) = desk.moving(WHO, Ask::Take { mailbox, from }, Vec::new()).await;
        let Reply::Messages { keywords, messages, next, unread } = reply else {
            panic!("{reply:?}")
        };
        assert_eq!(unread, []);
        let mut rest = &octets[..];
        for one in messages {
            let (text, behind) = rest.split_at(one.octets as usize);
            rest = behind;
            let text = std::str::from_utf8(text).expect("it is ASCII");
            let there = text.strip_prefix("Subject: ").and_then(|text| text.lines().next());
            let there: u32 = there.and_then(|there| there.parse().ok()).unwrap_or(0);
            if there != 0 {
                assert_eq!((one.date, u32::from(one.flags)), (1_000_000 + there, there % 32));
            }
            let mut names: Vec<String> =
                one.keywords.iter().map(|&at| keywords[usize::from(at)].clone()).collect();
            names.sort();
            found.push((one.uid, there, names, one.uidl));
        }
        assert_eq!(rest, b"");
        from = next;
    }
    found
}

fn check_whole(found: &[(u32, u32, Vec<String>, Option<String>)], keeps: bool) {
    let there: Vec<u32> = found.iter().map(|one| one.1).filter(|&uid| uid != 0).collect();
    assert_eq!(there, uids(), "each once, in order");
    let mut own_before = !keeps;
    for (uid, there, names, uidl) in found {
        let Some(_) = Some(*there).filter(|&there| there != 0) else {
            own_before = true;
            assert_eq!(*uidl, None, "what came in here has our unique id");
            continue;
        };
        assert!(own_before || uid == there, "{there} became {uid}");
        let want = [(1, "$Junk"), (0, "Work")].iter().filter(|(at, _)| there >> at & 1 == 1);
        assert_eq!(*names, want.map(|(_, name)| *name).collect::<Vec<_>>());
        let form = uidl.as_deref().expect("it had one");
        let mut id = String::new();
        put(form, *uid, if keeps { THERE } else { 1 }, &mut id).expect("it is written");
        let is_named = there.is_multiple_of(5);
        let want = if is_named { format!("id-{there}") } else { format!("{there:08x}{THERE:08x}") };
        assert_eq!(id, want);
    }
}

/// A part of an import, as a command makes it: from where the last one ended.
async fn go_on(desk: &Desk<SimEnv>, name: &str, chance: &Chance, cut: bool) -> Entered {
    let entered = enter(desk, name).await;
    let next = if entered.origin.uidvalidity == THERE { entered.origin.next } else { 0 };
    let rest: Vec<u32> = uids().into_iter().filter(|&uid| uid >= next).collect();
    let steps = if cut { chance.below(5) } else { u64::MAX };
    let mut rest = &rest[..];
    for _ in 0..steps {
        let count = usize::try_from(1 + chance.below(30)).expect("small").min(rest.len());
        let (some, behind) = rest.split_at(count);
        if some.is_empty() {
            break;
        }
        let (ask, brought) = deposit(entered.mailbox, some);
        let (reply, _) = desk.moving(WHO, ask, brought).await;
        assert!(matches!(reply, Reply::Taken { .. }), "{reply:?}");
        rest = behind;
    }
    if cut && !rest.is_empty() {
        // On its way when the machine stops: it may be there afterwards, or not.
        let (ask, brought) = deposit(entered.mailbox, &rest[..rest.len().min(9)]);
        let mut sent = pin!(desk.moving(WHO, ask, brought));
        assert!(sent.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    entered
}

#[test]
fn a_mailbox_moves_in_once_through_crashes_and_among_other_mail() {
    for seed in 0..30 {
        let mut disk = Disk::new();
        let has_mail = seed % 3 == 0;
        let comes_in = seed % 3 == 1;
        for life in 0..4 {
            let sim = Sim::with_disk(seed * 10 + life, Faults::none(), disk);
            sim.allow_leaks();
            let (chance, env) = (sim.chance(), sim.env(0));
            let living = async {
                let (desk, accounts, log) = open(env).await;
                accounts.borrow().verify().expect("they agree");
                let name = if seed % 2 == 0 { "INBOX" } else { "Sent" };
                let own = || Brought {
                    message: Message::brought(b"Subject: own\r\n\r\n".to_vec(), 9),
                    flags: Flags::default(),
                    keywords: Vec::new(),
                };
                if has_mail && life == 0 {
                    desk.prepare(WHO, &[("Sent", Use::SENT)]).await.expect("prepared");
                    let id = accounts.borrow().named(WHO, name).expect("it was made");
                    desk.append(WHO, id, vec![own()], Quota::NONE).await.expect("appended");
                }
                if comes_in && life == 2 {
                    let id = accounts.borrow().named(WHO, name).expect("it was made");
                    desk.append(WHO, id, vec![own(), own()], Quota::NONE).await.expect("appended");
                }
                let entered = go_on(&desk, name, &chance, life < 3).await;
                assert_eq!(entered.keeps, !has_mail);
                if life == 3 {
                    let settle = Ask::Settle { mailbox: entered.mailbox, uidnext: 300 };
                    assert_eq!(desk.moving(WHO, settle, Vec::new()).await.0, Reply::Done);
                    let found = listed(&desk, entered.mailbox).await;
                    check_whole(&found, !has_mail);
                    let view = accounts.borrow().view(WHO, MailboxId(entered.mailbox));
                    assert_eq!(view.uidvalidity().0 == THERE, !has_mail);
                    if !has_mail && !comes_in {
                        assert_eq!(view.uidnext(), Uid(300));
                    }
                    let again = enter(&desk, name).await;
                    assert_eq!(again.origin, Origin { uidvalidity: THERE, next: 200 });
                    let digest = accounts.borrow().digest();
                    log.close().await.expect("it closes");
                    let (desk, accounts, _) = open(sim.env(0)).await;
                    assert_eq!(accounts.borrow().digest(), digest, "as it was before");
                    assert_eq!(listed(&desk, entered.mailbox).await, found);
                }
            };
            sim.run_until(living).unwrap_or_else(|halt| panic!("seed {seed}: {halt}"));
            disk = sim.crash().disk();
        }
    }
}

#[test]
fn takes_no_numbers_that_leave_none_to_give() {
    let sim = Sim::with_disk(3, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, _) = open(env).await;
        for (name, uidvalidity) in [("a", u32::MAX), ("b", UIDS_KEPT_MAX), ("c", 0)] {
            let wish = Wish { name: name.into(), uidvalidity, first: 1, ..Wish::default() };
            let (reply, _) = desk.moving(WHO, Ask::Enter(wish), Vec::new()).await;
            let Reply::Entered(entered) = reply else { panic!("{reply:?}") };
            assert_eq!(entered.keeps, name == "b", "{name}");
            let (ask, brought) = deposit(entered.mailbox, &[5, u32::MAX]);
            let (reply, _) = desk.moving(WHO, ask, brought).await;
            assert!(matches!(reply, Reply::Taken { .. }), "{name}: {reply:?}");
            let settle = Ask::Settle { mailbox: entered.mailbox, uidnext: u32::MAX };
            assert_eq!(desk.moving(WHO, settle, Vec::new()).await.0, Reply::Done);
        }
        accounts.borrow().verify().expect("they agree");
    };
    sim.run_until(living).expect("it ends");
}

/// Flags and removals of the other server touch only what came from there.
#[test]
fn what_moved_in_follows_the_other_server_and_nothing_else_does() {
    let sim = Sim::with_disk(4, Faults::none(), Disk::new());
    sim.allow_leaks();
    let env = sim.env(0);
    let living = async {
        let (desk, accounts, _) = open(env).await;
        let mailbox = enter(&desk, "Sent").await.mailbox;
        let (ask, brought) = deposit(mailbox, &[3, 4, 5]);
        desk.moving(WHO, ask, brought).await;
        let message = Message::brought(b"Subject: own\r\n\r\n".to_vec(), 9);
        let own = Brought { message, flags: Flags::SEEN, keywords: Vec::new() };
        desk.append(WHO, MailboxId(mailbox), vec![own], Quota::NONE).await.expect("appended");
        let rows = async || {
            let (reply, _) = desk.moving(WHO, Ask::Rows { mailbox, from: 1 }, Vec::new()).await;
            let Reply::Messages { messages, next: 0, .. } = reply else { panic!("{reply:?}") };
            messages.iter().map(|one| (one.uid, one.flags)).collect::<Vec<(u32, u8)>>()
        };
        assert_eq!(rows().await, [(3, 3), (4, 4), (5, 5)]);
        let keywords = vec!["New".to_owned()];
        let ask = Ask::Reflag { mailbox, uids: vec![5, 3, 99], flags: 255, keywords };
        assert_eq!(desk.moving(WHO, ask, Vec::new()).await.0, Reply::Done);
        let ask = Ask::Unbring { mailbox, uids: vec![6, 4, 99] };
        assert_eq!(desk.moving(WHO, ask, Vec::new()).await.0, Reply::Done);
        assert_eq!(rows().await, [(3, 31), (5, 31)]);
        let view = accounts.borrow().view(WHO, MailboxId(mailbox));
        let left: Vec<u32> = view.iter().map(|entry| entry.uid.0).collect();
        assert_eq!(left, [3, 5, 6], "what came in here stays");
        let many = Ask::Unbring { mailbox, uids: (0..3_000).collect() };
        assert!(matches!(desk.moving(WHO, many, Vec::new()).await.0, Reply::Failed(_)));
    };
    sim.run_until(living).expect("it ends");
}

#[test]
fn messages_are_as_many_octets_as_their_parcels_say() {
    let (ask, _) = deposit(1, &[3]);
    assert_eq!(ask.octets(), Some(21));
    assert_eq!(ask.open(b"short"), None);
    assert_eq!(ask.open(&[b'x'; 24]), None);
    let many: Vec<u32> = (1..3_000).collect();
    assert_eq!(deposit(1, &many).0.octets(), None, "more messages than go at once");
}
