//! Laws of the accounts: recovery from any checkpoint, numbers, references, memory.

use super::super::deliver::{Facts, Judge, Message, Planned, Recipient, plan};
use super::super::expunge::leave;
use super::super::image::Image;
use super::super::record::Deliver;
use super::super::record::history::Moment;
use super::super::record::put_account_delete;
use super::super::row::Marks;
use super::*;
use crate::bytes::hash::Sorted;
use crate::store::Group;
use crate::store::record::OwnedRecord;
use arbtest::arbitrary::{Result as Drawn, Unstructured};
use std::cell::RefCell;
use std::rc::Rc;

const ACCOUNTS: u32 = 3;

type Pages = Sorted<(u32, u64), (Lsn, Vec<u8>)>;
type Counts = Sorted<u64, i32>;

/// The log as a list: groups in the order in which they were queued, some of which fail.
#[derive(Default)]
struct World {
    accounts: Rc<RefCell<Accounts>>,
    queued: Vec<(Group, Option<Planned>)>,
    history: Vec<(Lsn, OwnedRecord)>,
    lsn: u64,
    blob: u64,
    counts: Counts,
    /// What each account holds by UID, as the model has it.
    model: Sorted<(u32, u32), u64>,
    pages: Pages,
    /// Where a replay has to begin at the latest.
    replay_from: u64,
    uids_seen: Sorted<(u32, u32, u32), u64>,
}

fn apply(accounts: &mut Accounts, at: Lsn, record: &OwnedRecord, counts: &mut Counts) {
    let record = Record {
        kind: record.kind,
        version: record.version,
        flags: record.flags,
        account: record.account,
        body: &record.body,
    };
    let mut change = |_, blob: BlobId, by| {
        let count = counts.entry(blob.0).or_default();
        *count += by;
        assert!(*count >= 0, "blob {blob} is released more often than retained");
    };
    accounts.apply(at, record, &mut Blobs::observed(at, &mut change)).unwrap();
}

impl World {
    fn deliver(&mut self, to: &[u32], size: u32) {
        self.blob += 1;
        let recipient = |&account| Recipient { account: AccountId(account), quota: Quota::NONE };
        let recipients: Vec<Recipient> = to.iter().map(recipient).collect();
        let facts = Facts {
            blob: BlobId(self.blob),
            size,
            marks: Marks::DOT_LINES,
            internal_date: 10,
            save_date: 1_000,
        };
        let mut group = Group::new();
        let planned = plan(&self.accounts, &mut group, &facts, &recipients, Judge::Each);
        if planned.any() {
            self.queued.push((group, Some(planned)));
        }
    }

    fn expunge(&mut self, account: u32, uids: &[Uid]) {
        let mut state = self.accounts.borrow_mut();
        if let Ok(Some(leaving)) = leave(&mut state, AccountId(account), INBOX, uids, 1_000) {
            self.queued.push((leaving.group, None));
        }
    }

    fn delete(&mut self, account: u32) {
        let mut group = Group::new();
        put_account_delete(&mut group, AccountId(account));
        self.queued.push((group, None));
    }

    /// One batch of everything queued; each group fails by the draw.
    fn flush(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        self.lsn += 1;
        let at = Lsn(self.lsn);
        for (group, planned) in std::mem::take(&mut self.queued) {
            let failed = !u.ratio(7, 8)? && !self.accounts.borrow().closed_in(&group);
            for record in group.records.iter().filter(|_| !failed) {
                apply(&mut self.accounts.borrow_mut(), at, record, &mut self.counts);
                self.note(record);
                self.history.push((at, record.clone()));
            }
            drop(planned);
        }
        self.accounts.borrow_mut().leaving().clear();
        Ok(())
    }

    /// Follows a record in the model.
    fn note(&mut self, record: &OwnedRecord) {
        let view = Record {
            kind: record.kind,
            version: record.version,
            flags: 0,
            account: record.account,
            body: &record.body,
        };
        match Change::read(&view).unwrap() {
            Change::Deliver(deliver) => {
                let (uid, blob) = (deliver.entry.uid.0, deliver.entry.blob.0);
                self.model.insert((record.account, uid), blob);
                let state = self.accounts.borrow();
                let validity = state.view(AccountId(record.account), INBOX).uidvalidity().0;
                let again = self.uids_seen.insert((record.account, validity, uid), blob);
                assert_eq!(again, None, "a UID means one message for ever");
            }
            Change::Expunge(expunge) => {
                for (uid, blob) in expunge.messages() {
                    assert_eq!(self.model.remove(&(record.account, uid.0)), Some(blob.0));
                }
            }
            _ => {}
        }
    }

    /// A checkpoint that ends well, or comes to nothing; between its majors the log goes on.
    fn checkpoint(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        let from = self.lsn;
        let fails = !u.ratio(3, 4)?;
        let mut pages = self.pages.clone();
        let dirty = self.accounts.borrow().dirty();
        for major in dirty {
            if u.ratio(1, 3)? {
                let account = u.int_in_range(1..=ACCOUNTS)?;
                self.deliver(&[account], 7);
                self.flush(u)?;
            }
            let at = Lsn(self.lsn);
            self.accounts.borrow_mut().save(major, at, &mut |minor, octets| match octets {
                Some(octets) => drop(pages.insert((major, minor), (at, octets))),
                None => drop(pages.remove(&(major, minor))),
            });
        }
        if fails {
            self.accounts.borrow_mut().taint();
        } else {
            self.pages = pages;
            self.replay_from = from;
        }
        Ok(())
    }

    /// Recovery, from the last checkpoint and any position that it allows.
    fn recover(&self, u: &mut Unstructured<'_>) -> Drawn<Accounts> {
        let mut recovered = Accounts::new();
        let mut pages: Vec<_> = self.pages.iter().collect();
        while !pages.is_empty() {
            let index = u.choose_index(pages.len())?;
            let (&(major, minor), (at, octets)) = pages.swap_remove(index);
            recovered.load(major, minor, *at, octets).unwrap();
        }
        recovered.loaded().unwrap();
        recovered.verify().unwrap();
        assert_eq!(recovered.awake(), 0, "nobody asked for any yet");
        let from = u.int_in_range(0..=self.replay_from)?;
        let mut counts = Counts::new();
        // References are counted from a base that the table's own pages give: here, high enough.
        counts.extend((1..=self.blob).map(|blob| (blob, 1_000)));
        for (at, record) in self.history.iter().filter(|(at, _)| at.0 > from) {
            apply(&mut recovered, *at, record, &mut counts);
        }
        Ok(recovered)
    }

    fn check(&self, recovered: &Accounts) {
        let live = self.accounts.borrow();
        live.verify().unwrap();
        recovered.verify().unwrap();
        assert_eq!(recovered.digest(), live.digest());
        let mut references = Counts::new();
        recovered.references(&mut |blob| *references.entry(blob.0).or_default() += 1);
        let counted = self.counts.iter().filter(|(_, count)| **count != 0);
        let counted: Counts = counted.map(|(&blob, &count)| (blob, count)).collect();
        assert_eq!(references, counted);
        for account in 1..=ACCOUNTS {
            let view = recovered.view(AccountId(account), INBOX);
            let held: Vec<(u32, u64)> = view.iter().map(|e| (e.uid.0, e.blob.0)).collect();
            let range = (account, 0)..(account + 1, 0);
            let want = self.model.range(range).map(|(&(_, uid), &blob)| (uid, blob));
            assert_eq!(held, want.collect::<Vec<_>>());
        }
    }
}

impl Accounts {
    /// Has all rest that may.
    pub(in crate::mailbox) fn rest_all(&mut self) {
        self.set_memory(0);
        self.begin_turn();
        while self.turn() {}
    }

    /// Whether a group is the one that closes an account: the tests let it succeed, so that the
    /// model stays simple.
    fn closed_in(&self, group: &Group) -> bool {
        group.records.iter().any(|r| self.is_closed(AccountId(r.account)))
    }
}

fn step(world: &mut World, u: &mut Unstructured<'_>) -> Drawn<()> {
    let account = u.int_in_range(1..=ACCOUNTS)?;
    if u.ratio(1, 3)? {
        let mut accounts = world.accounts.borrow_mut();
        let digest = accounts.digest();
        accounts.rest_all();
        assert_eq!(accounts.digest(), digest);
    }
    match u.int_in_range(0..=9)? {
        0..=3 => {
            let burst = *u.choose(&[1, 1, 3, 40, 300])?;
            let other = u.int_in_range(1..=ACCOUNTS)?;
            for size in 0..burst {
                world.deliver(&[account, other], size);
            }
        }
        4..=6 => {
            let view = world.accounts.borrow().view(AccountId(account), INBOX);
            let uids: Vec<Uid> = view.iter().map(|entry| entry.uid).collect();
            let from = u.int_in_range(0..=uids.len())?;
            let to = u.int_in_range(from..=uids.len())?;
            let every = u.int_in_range(1..=3)?;
            let gone: Vec<Uid> = uids[from..to].iter().copied().step_by(every).collect();
            world.expunge(account, &gone);
        }
        7 if u.ratio(1, 10)? => {
            world.flush(u)?;
            world.delete(account);
            world.flush(u)?;
        }
        7 | 8 => world.flush(u)?,
        _ => world.checkpoint(u)?,
    }
    Ok(())
}

#[test]
fn recovers_to_the_very_same_state_from_any_checkpoint() {
    arbtest::arbtest(|u| {
        let mut world = World::default();
        for _ in 0..u.int_in_range(1..=30)? {
            step(&mut world, u)?;
        }
        world.flush(u)?;
        let recovered = world.recover(u)?;
        world.check(&recovered);
        Ok(())
    })
    .budget_ms(2_000);
}

#[test]
fn refuses_records_that_do_not_fit_the_state() {
    let mut world = World::default();
    world.deliver(&[1], 5);
    let groups = std::mem::take(&mut world.queued);
    let mut accounts = world.accounts.borrow_mut();
    let mut counts = Counts::new();
    for record in &groups[0].0.records {
        apply(&mut accounts, Lsn(1), record, &mut counts);
    }
    let deliver = groups[0].0.records.last().unwrap().clone();
    let expunge = |uid, blob, modseq| {
        let mut group = Group::new();
        let gone = [(Uid(uid), BlobId(blob))];
        let modseq = ModSeq(modseq);
        super::super::record::put_expunge(&mut group, AccountId(1), INBOX, modseq, &gone, false);
        group.records.remove(0)
    };
    let before = accounts.digest();
    let wrong = [deliver, expunge(1, 9, 50), expunge(2, 1, 50), expunge(1, 1, 1)];
    for record in wrong {
        let record = Record {
            kind: record.kind,
            version: record.version,
            flags: record.flags,
            account: record.account,
            body: &record.body,
        };
        let mut change = |_, _, _| panic!("nothing may be released or retained");
        accounts.apply(Lsn(2), record, &mut Blobs::observed(Lsn(2), &mut change)).unwrap_err();
        assert_eq!(accounts.digest(), before);
    }
    let mut change = |_, _, _| panic!("nothing may be released or retained");
    let later = Record { kind: 33, version: 1, flags: FLAG_SKIPPABLE, account: 1, body: &[] };
    accounts.apply(Lsn(2), later, &mut Blobs::observed(Lsn(2), &mut change)).unwrap();
    let must = Record { flags: 0, ..later };
    accounts.apply(Lsn(2), must, &mut Blobs::observed(Lsn(2), &mut change)).unwrap_err();
}

#[test]
fn never_gives_a_uid_twice_though_commits_fail() {
    let world = World::default();
    let mut state = world.accounts.borrow_mut();
    let first = state.assign(AccountId(1), 100).unwrap();
    let second = state.assign(AccountId(1), 200).unwrap();
    assert_eq!((first.uid, second.uid), (Uid(1), Uid(2)));
    assert_eq!(second.create.unwrap().uidvalidity, UidValidity(100));
    // The first group failed; the second makes the mailbox and goes on.
    state.apply_create(AccountId(1), &second.create.unwrap()).unwrap();
    let third = state.assign(AccountId(1), 300).unwrap();
    assert_eq!((third.uid, third.create), (Uid(3), None));
    assert!(third.modseq > second.modseq);
}

#[test]
fn a_view_stays_as_it_was() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    (0..300).for_each(|size| world.deliver(&[1], size));
    world.flush(&mut u).unwrap();
    let view = world.accounts.borrow().view(AccountId(1), INBOX);
    let before: Vec<_> = view.iter().collect();
    assert_eq!(before.len(), 300);
    world.deliver(&[1], 9);
    world.expunge(1, &[Uid(1), Uid(299)]);
    world.flush(&mut u).unwrap();
    assert_eq!(view.iter().collect::<Vec<_>>(), before);
    assert_eq!(view.count(), 300);
    assert_eq!(view.octets(), (0..300).sum::<u64>());
    for (index, entry) in (0_u32..).zip(&before) {
        assert_eq!(view.get(index).as_ref(), Some(entry));
    }
    assert_eq!(view.get(300), None);
    assert_eq!(world.accounts.borrow().view(AccountId(1), INBOX).count(), 299);
}

#[test]
fn what_came_is_recent_until_it_is_taken_and_after_a_start_since_the_checkpoint() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    let mut deliver = |world: &mut World| {
        world.deliver(&[1], 5);
        world.flush(&mut u).unwrap();
    };
    let recent_from =
        |accounts: &Accounts| accounts.open_view(AccountId(1), INBOX).unwrap().recent_from();
    let take = |world: &World| {
        let view = world.accounts.borrow_mut().take_view(AccountId(1), INBOX);
        view.unwrap().recent_from()
    };
    deliver(&mut world);
    deliver(&mut world);
    assert_eq!(recent_from(&world.accounts.borrow()), Uid(1), "a look takes nothing");
    assert_eq!(take(&world), Uid(1));
    assert_eq!(take(&world), Uid(3));
    deliver(&mut world);
    assert_eq!(take(&world), Uid(3));
    let mut loaded = Accounts::new();
    let dirty = world.accounts.borrow().dirty();
    for major in dirty {
        let at = Lsn(world.lsn);
        world.accounts.borrow_mut().save(major, at, &mut |minor, octets| {
            loaded.load(major, minor, at, &octets.unwrap()).unwrap();
        });
    }
    loaded.loaded().unwrap();
    assert_eq!(recent_from(&loaded), Uid(4));
}

#[test]
fn counts_what_is_on_its_way_against_the_quota() {
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    let quota = Quota { octets: 100, messages: 10 };
    let to = [Recipient { account: AccountId(1), quota }];
    let facts = |size| Facts {
        blob: BlobId(1),
        size,
        marks: Marks::default(),
        internal_date: 1,
        save_date: 1,
    };
    let mut group = Group::new();
    let first = plan(&accounts, &mut group, &facts(60), &to, Judge::Together);
    assert!(first.any());
    let second = plan(&accounts, &mut group, &facts(60), &to, Judge::Together);
    assert_eq!(second.verdicts, [Err(Refused::Tight)]);
    let two = [to[0], Recipient { account: AccountId(2), quota }];
    let each = plan(&accounts, &mut group, &facts(60), &two, Judge::Each);
    assert_eq!(each.verdicts, [Err(Refused::Tight), Ok(Uid(1))]);
    let together = plan(&accounts, &mut group, &facts(30), &two, Judge::Together);
    assert_eq!(together.verdicts, [Ok(Uid(2)), Ok(Uid(2))]);
    // Who is not full yet gets one message too many, so that the others get it now; then no more.
    let others = [to[0], Recipient { account: AccountId(3), quota }];
    let over = plan(&accounts, &mut group, &facts(60), &others, Judge::Together);
    assert_eq!(over.verdicts, [Ok(Uid(3)), Ok(Uid(1))]);
    let full = plan(&accounts, &mut group, &facts(1), &others, Judge::Together);
    assert_eq!(full.verdicts, [Err(Refused::Full), Err(Refused::Full)]);
    let large = [Recipient { account: AccountId(4), quota: Quota::NONE }, others[1]];
    let never = plan(&accounts, &mut group, &facts(101), &large, Judge::Together);
    assert_eq!(never.verdicts, [Err(Refused::NeverFits), Err(Refused::NeverFits)]);
    drop((first, second, each, together, over, full, never));
    assert!(accounts.borrow().reserved.is_empty());
    let twice = [to[0], to[0]];
    let planned = plan(&accounts, &mut Group::new(), &facts(1), &twice, Judge::Each);
    assert_eq!(planned.verdicts, [Ok(Uid(4)), Ok(Uid(4))]);
}

#[test]
fn a_million_messages_in_ten_thousand_mailboxes_cost_20_octets_each_and_10_at_rest() {
    const MAILBOXES: u32 = 10_000;
    const ROUNDS: u32 = 100;
    let mut accounts = Accounts::new();
    for round in 0..ROUNDS {
        for account in 1..=MAILBOXES {
            let id = AccountId(account);
            let assigned = accounts.assign(id, 1_000).unwrap();
            if let Some(create) = assigned.create {
                accounts.change(id, &Change::Create(create)).unwrap();
            }
            let entry = crate::mailbox::Entry {
                uid: assigned.uid,
                modseq: assigned.modseq,
                internal_date: round,
                save_date: round,
                size: 4_096,
                thread: 0,
                blob: BlobId(u64::from(round * MAILBOXES + account)),
                keywords: 0,
                flags: crate::mailbox::Flags::default(),
                marks: Marks::default(),
            };
            let deliver = Deliver { mailbox: INBOX, entry };
            accounts.change(id, &Change::Deliver(deliver)).unwrap();
        }
    }
    let messages = accounts.messages();
    let octets = u64::try_from(accounts.heap_octets()).unwrap();
    println!("{octets} octets for {messages} messages");
    assert_eq!(messages, u64::from(MAILBOXES * ROUNDS));
    assert!(octets <= 20 * messages, "{octets} octets for {messages} messages");
    // Each has more than one page: only what was saved may rest.
    let digest = accounts.digest();
    accounts.dirty().into_iter().for_each(|major| accounts.save(major, Lsn(9), &mut |_, _| {}));
    accounts.rest_all();
    assert_eq!((accounts.awake(), accounts.messages(), accounts.digest()), (0, messages, digest));
    let octets = u64::try_from(accounts.heap_octets()).unwrap();
    println!("{octets} octets for {messages} messages at rest");
    assert!(octets <= 10 * messages, "{octets} octets for {messages} messages at rest");
}

/// Numbers that were given and not applied, and what nobody was told of.
#[test]
fn what_no_page_says_is_not_lost_in_sleep() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    world.deliver(&[1], 5);
    world.flush(&mut u).unwrap();
    let mut state = world.accounts.borrow_mut();
    let given = state.assign(AccountId(1), 100).unwrap();
    state.rest_all();
    assert_eq!((state.awake(), state.count(), state.octets()), (0, 1, 5));
    assert_eq!(state.usage(AccountId(1)), Usage { octets: 5, messages: 1 });
    assert!(!state.is_closed(AccountId(1)) && state.living() == [AccountId(1)]);
    assert_eq!(state.awake(), 0, "questions like these wake nobody");
    let next = state.assign(AccountId(1), 100).unwrap();
    assert_eq!(state.awake(), 1);
    assert_eq!((given.uid, next.uid), (Uid(2), Uid(3)));
    assert!(next.modseq > given.modseq);
    state.rest_all();
    let recent = state.open_view(AccountId(1), INBOX).unwrap().recent_from();
    assert_eq!(recent, Uid(1), "nobody was told of the message");
}

#[test]
fn who_has_a_session_or_was_asked_for_stays_awake() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    (1..=3).for_each(|account| world.deliver(&[account], 5));
    world.flush(&mut u).unwrap();
    let mut state = world.accounts.borrow_mut();
    let bell = state.bell(AccountId(2));
    state.rest_all();
    assert_eq!(state.awake(), 1);
    drop(bell);
    state.rest_all();
    assert_eq!(state.awake(), 0);
    // To be read they keep what they rest as.
    state.view(AccountId(1), INBOX);
    let octets = state.heap_octets();
    state.set_memory(1 << 20);
    state.begin_turn();
    while state.turn() {}
    assert_eq!(state.awake(), 1, "there is room");
    state.rest_all();
    assert_eq!(state.awake(), 0);
    assert!(state.heap_octets() < octets);
}

/// A large account is packed in steps, and stays awake if it is asked for between two.
#[test]
fn who_is_asked_for_while_being_packed_stays_awake() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    (0..9_000).for_each(|size| world.deliver(&[1], size));
    world.flush(&mut u).unwrap();
    let mut state = world.accounts.borrow_mut();
    state.rest_all();
    assert_eq!(state.awake(), 1, "it is not saved");
    state.save(1, Lsn(1), &mut |_, _| {});
    let steps = |state: &mut Accounts, interrupt: bool| {
        state.begin_turn();
        let mut steps = 0;
        while state.turn() {
            steps += 1;
            if interrupt {
                assert!(state.blob(AccountId(1), INBOX, Uid(1)).is_some());
            }
        }
        (steps, state.awake())
    };
    let (_, awake) = steps(&mut state, true);
    assert_eq!(awake, 1);
    let digest = state.digest();
    let (steps, awake) = steps(&mut state, false);
    assert!(awake == 0 && steps >= 3, "{steps} steps");
    assert_eq!(state.digest(), digest);
    state.verify().unwrap();
}

/// What rests is saved anew as it is, and who wakes meanwhile is as well.
#[test]
fn all_is_saved_anew_whether_it_rests_or_not() {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    (1..=3).for_each(|account| (0..400).for_each(|size| world.deliver(&[account], size)));
    world.deliver(&[4], 5);
    world.flush(&mut u).unwrap();
    let mut state = world.accounts.borrow_mut();
    let save = |state: &mut Accounts| {
        let mut pages = Vec::new();
        for major in state.dirty() {
            state.save(major, Lsn(9), &mut |minor, octets| {
                pages.extend(octets.map(|octets| (major, minor, octets)));
            });
        }
        pages.sort();
        pages
    };
    let first = save(&mut state);
    state.rest_all();
    assert_eq!((state.awake(), state.dirty().len()), (0, 0));
    state.taint();
    state.view(AccountId(2), INBOX);
    state.rest_all();
    state.assign(AccountId(3), 1).unwrap();
    assert_eq!(save(&mut state), first);
    let mut loaded = Accounts::new();
    for (major, minor, octets) in &first {
        loaded.load(*major, *minor, Lsn(9), octets).unwrap();
    }
    loaded.loaded().unwrap();
    assert_eq!((loaded.digest(), loaded.awake()), (state.digest(), 0));
}

/// Deliveries to who is watched are told of, but for those that nothing may answer.
#[test]
fn what_a_list_sent_on_is_not_told_of() {
    let accounts: Rc<RefCell<Accounts>> = Rc::default();
    accounts.borrow_mut().arrivals().watch([AccountId(1)].into_iter().collect());
    let deliver = |account: u32, blob: u64, is_listed: bool| {
        let message = Message::brought(b"Subject: x\r\n\r\n".to_vec(), 1).listed(is_listed);
        let (size, marks) = (message.size(), message.marks);
        let facts = Facts { blob: BlobId(blob), size, marks, internal_date: 1, save_date: 1 };
        let to = [Recipient { account: AccountId(account), quota: Quota::NONE }];
        drop(plan(&accounts, &mut Group::new(), &facts, &to, Judge::Each));
        accounts.borrow_mut().arrivals().take()
    };
    assert_eq!(deliver(1, 1, false), Some((AccountId(1), BlobId(1))));
    assert_eq!(deliver(1, 2, true), None);
    assert_eq!(deliver(2, 3, false), None);
}

/// Major, minor, octets.
type SavedPage = (u32, u64, Vec<u8>);

/// A state with a small and a large account, and its pages.
fn two_accounts() -> (Rc<RefCell<Accounts>>, Vec<SavedPage>) {
    let mut world = World::default();
    let mut u = Unstructured::new(&[]);
    world.deliver(&[1], 5);
    (0..600).for_each(|size| world.deliver(&[2], size));
    world.flush(&mut u).unwrap();
    let state = world.accounts;
    let mut pages = Vec::new();
    for major in [1, 2] {
        state.borrow_mut().save(major, Lsn(9), &mut |minor, octets| {
            pages.extend(octets.map(|octets| (major, minor, octets)));
        });
    }
    pages.sort();
    (state, pages)
}

#[test]
fn pages_that_are_no_account_are_refused_at_the_start() {
    let (state, pages) = two_accounts();
    let load = |pages: &[SavedPage]| {
        let mut loaded = Accounts::new();
        for (major, minor, octets) in pages {
            loaded.load(*major, *minor, Lsn(9), octets)?;
        }
        loaded.loaded()?;
        assert_eq!(loaded.digest(), state.borrow().digest());
        Ok(())
    };
    load(&pages).unwrap();
    for at in 0..pages.len() {
        let mut damaged = pages.clone();
        let (major, _, octets) = &mut damaged[at];
        let whose = format!("account {major}: ");
        octets.truncate(octets.len() - 1);
        let Err(Damaged(why)) = load(&damaged) else { panic!("page {at} is cut off") };
        assert!(why.starts_with(&whose), "{why}");
        let (major, minor, _) = damaged.remove(at);
        // Without its only page an account is none.
        if (major, minor) != (1, 0) {
            load(&damaged).unwrap_err();
        }
    }
}

#[test]
fn a_record_for_what_cannot_be_woken_is_refused_and_changes_nothing() {
    let mut state = Accounts::new();
    let id = AccountId(1);
    state.places.insert_resting(id, Image::of_octets(&[9, 0, 0, 0, 0, 0, 0, 1, 4]));
    assert!(matches!(state.change(id, &Change::AccountDelete), Err(Damaged(_))));
    let moment = Moment { when: 7, keeps: true };
    assert!(matches!(state.change(id, &Change::Moment(moment)), Err(Damaged(_))));
    assert!(state.verify().is_err() && state.count() == 1 && state.awake() == 0);
}

/// What a log that lost its list of pages has: pages of several checkpoints.
#[test]
fn a_whole_account_and_stray_pages_are_taken_back_together() {
    let (_, pages) = two_accounts();
    let (_, _, whole) = &pages[0];
    let parts: Vec<_> =
        pages.iter().filter(|(major, minor, _)| (*major, *minor) > (2, 0)).collect();
    let mut state = Accounts::new();
    state.load(1, 0, Lsn(9), whole).unwrap();
    // Of the past.
    state.load(1, parts[0].1, Lsn(8), &parts[0].2).unwrap();
    assert!(state.early.is_empty());
    state.load(1, parts[1].1, Lsn(11), &parts[1].2).unwrap();
    let (at, taken) = state.take_pages(AccountId(1));
    let (_, minor, octets) = parts[1].clone();
    assert_eq!((at, taken), (Lsn(11), vec![(0, whole.clone()), (minor, octets)]));
    assert!(state.count() == 0 && state.early.is_empty());
}
