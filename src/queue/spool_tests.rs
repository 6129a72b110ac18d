//! Laws of the spool: exactly once through crashes, recovery from any checkpoint.

use super::super::record::{put_add, put_done, put_forget, put_idem};
use super::*;
use crate::store::Group;
use crate::store::record::OwnedRecord;
use arbtest::arbitrary::{Result as Drawn, Unstructured};
use expect_test::expect;
use std::fmt::Write as _;

/// One log: its durable records, its state, its checkpoint.
#[derive(Default)]
struct Log {
    spool: Spool,
    records: Vec<(Lsn, OwnedRecord)>,
    pages: Sorted<u32, (Lsn, Vec<u8>)>,
    replay_from: usize,
    lsn: u64,
    references: Sorted<u64, i32>,
    /// How often each account got each message of a source, by what is durable.
    got: Sorted<(LogId, SpoolId, AccountId), u32>,
}

fn apply(spool: &mut Spool, at: Lsn, record: &OwnedRecord, seen: &mut dyn FnMut(BlobId, i32)) {
    let record = Record {
        kind: record.kind,
        version: record.version,
        flags: record.flags,
        account: record.account,
        body: &record.body,
    };
    let mut change = |_, blob, by| seen(blob, by);
    spool.apply(at, record, &mut Blobs::observed(at, &mut change)).unwrap();
}

impl Log {
    fn commit(&mut self, group: &Group) {
        self.lsn += 1;
        for record in &group.records {
            let references = &mut self.references;
            apply(&mut self.spool, Lsn(self.lsn), record, &mut |blob, by| {
                *references.entry(blob.0).or_default() += by;
            });
            self.records.push((Lsn(self.lsn), record.clone()));
        }
    }

    fn checkpoint(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        let fails = !u.ratio(3, 4)?;
        let mut pages = self.pages.clone();
        for major in self.spool.dirty() {
            let at = Lsn(self.lsn);
            self.spool.save(major, at, &mut |_, octets| {
                pages.insert(major, (at, octets.unwrap()));
            });
        }
        if fails {
            self.spool.taint();
        } else {
            self.pages = pages;
            self.replay_from = self.records.len();
        }
        Ok(())
    }

    /// Everything in memory is lost; the checkpoint and the records are not.
    fn crash(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        let before = self.spool.digest();
        let next = self.spool.pending().last().map_or(SpoolId(0), |(spool, _)| spool);
        let mut spool = Spool::new();
        for (&major, (at, octets)) in &self.pages {
            spool.load(major, 0, *at, octets).unwrap();
        }
        let from = u.int_in_range(0..=self.replay_from)?;
        for (at, record) in &self.records[from..] {
            apply(&mut spool, *at, record, &mut |_, _| {});
        }
        assert_eq!(spool.digest(), before);
        assert!(spool.next() > next, "a promised number is not used again");
        let mut references = Sorted::new();
        spool.references(&mut |blob| *references.entry(blob.0).or_default() += 1);
        self.references.retain(|_, count| *count != 0);
        assert_eq!(references, self.references);
        self.spool = spool;
        Ok(())
    }
}

/// A source and its owners; the network loses requests and answers.
struct World {
    logs: Vec<Log>,
    blob: u64,
    settled: Vec<SpoolId>,
}

const SOURCE: LogId = LogId(0);

impl World {
    fn owner(&mut self, log: LogId) -> &mut Log {
        &mut self.logs[usize::from(log.0)]
    }

    fn add(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        self.blob += 1;
        let mut recipients = Vec::new();
        for account in 1..=u.int_in_range(1..=4)? {
            recipients.push((LogId(u.int_in_range(1..=2)?), AccountId(account)));
        }
        let pending =
            Pending { blob: BlobId(self.blob), size: 1, internal_date: 2, marks: 3, recipients };
        let source = self.owner(SOURCE);
        let spool = source.spool.assign();
        let failed = !u.ratio(7, 8)?;
        if !failed {
            let mut group = Group::new();
            put_add(&mut group, spool, &pending);
            source.commit(&group);
        }
        Ok(())
    }

    /// One attempt to hand over one message to all; the source settles it if all answered.
    fn send(&mut self, u: &mut Unstructured<'_>) -> Drawn<()> {
        let pending: Vec<(SpoolId, Pending)> =
            self.logs[0].spool.pending().map(|(spool, pending)| (spool, pending.clone())).collect();
        if pending.is_empty() {
            return Ok(());
        }
        let (spool, message) = u.choose(&pending)?;
        let mut answered = true;
        for owner in message.owners() {
            let (request_lost, answer_lost) = (!u.ratio(5, 6)?, !u.ratio(5, 6)?);
            if !request_lost {
                self.take(owner, *spool, &message.accounts(owner));
            }
            answered &= !request_lost && !answer_lost;
        }
        if answered {
            let mut group = Group::new();
            put_done(&mut group, *spool, message.blob);
            self.owner(SOURCE).commit(&group);
            self.settled.push(*spool);
        }
        Ok(())
    }

    /// What an owner does with a request.
    fn take(&mut self, owner: LogId, spool: SpoolId, accounts: &[AccountId]) {
        let settled = std::mem::take(&mut self.settled);
        let log = self.owner(owner);
        let new = |account: &&AccountId| !log.spool.has(SOURCE, spool, **account);
        let new: Vec<AccountId> = accounts.iter().filter(new).copied().collect();
        let mut group = Group::new();
        if !new.is_empty() {
            put_idem(&mut group, SOURCE, spool, &new);
            for account in new {
                *log.got.entry((SOURCE, spool, account)).or_default() += 1;
            }
        }
        if !settled.is_empty() {
            put_forget(&mut group, SOURCE, &settled);
            self.logs[1..].iter_mut().for_each(|log| log.commit(&group_of(&settled)));
        }
        self.owner(owner).commit(&group);
    }

    /// After a crash of the source the owners are told what is still to come.
    fn reconcile(&mut self) {
        let next = self.logs[0].spool.next();
        let pending: Vec<SpoolId> = self.logs[0].spool.pending().map(|(spool, _)| spool).collect();
        for log in &mut self.logs[1..] {
            let old = log.spool.keys(SOURCE);
            let gone: Vec<SpoolId> =
                old.filter(|spool| *spool < next && !pending.contains(spool)).collect();
            log.commit(&group_of(&gone));
        }
        self.settled.clear();
    }
}

fn group_of(settled: &[SpoolId]) -> Group {
    let mut group = Group::new();
    if !settled.is_empty() {
        put_forget(&mut group, SOURCE, settled);
    }
    group
}

#[test]
fn hands_over_exactly_once_through_crashes_and_lost_answers() {
    arbtest::arbtest(|u| {
        let logs = (0..3).map(|_| Log::default()).collect();
        let mut world = World { logs, blob: 0, settled: Vec::new() };
        for _ in 0..u.int_in_range(1..=60)? {
            let log = u.choose_index(3)?;
            match u.int_in_range(0..=9)? {
                0..=3 => world.add(u)?,
                4..=6 => world.send(u)?,
                7 => world.logs[log].checkpoint(u)?,
                _ => {
                    world.logs[log].crash(u)?;
                    if log == 0 {
                        world.reconcile();
                    }
                }
            }
        }
        while world.logs[0].spool.pending().len() > 0 {
            world.send(u)?;
        }
        world.reconcile();
        assert_eq!(world.logs.iter().map(|log| log.spool.key_count()).sum::<usize>(), 0);
        let got: usize = world.logs.iter().map(|log| log.got.len()).sum();
        let mut promised = 0;
        for (at, record) in &world.logs[0].records {
            let body =
                Record { kind: record.kind, version: 1, flags: 0, account: 0, body: &record.body };
            if let Change::Add(spool, pending) = Change::read(&body).unwrap() {
                promised += pending.recipients.len();
                for (owner, account) in pending.recipients {
                    let got = &world.logs[usize::from(owner.0)].got;
                    assert_eq!(got.get(&(SOURCE, spool, account)), Some(&1), "added at {at}");
                }
            }
        }
        assert_eq!(got, promised);
        assert_eq!(world.logs[0].references.values().sum::<i32>(), 0);
        Ok(())
    })
    .budget_ms(1_500);
}

#[test]
fn refuses_records_that_do_not_fit_the_state() {
    let mut spool = Spool::new();
    let pending = Pending {
        blob: BlobId(1),
        size: 1,
        internal_date: 1,
        marks: 0,
        recipients: vec![(LogId(1), AccountId(1))],
    };
    let mut group = Group::new();
    put_add(&mut group, SpoolId(1), &pending);
    put_idem(&mut group, LogId(3), SpoolId(9), &[AccountId(1)]);
    for record in &group.records {
        apply(&mut spool, Lsn(1), record, &mut |_, _| {});
    }
    put_done(&mut group, SpoolId(1), BlobId(2));
    put_done(&mut group, SpoolId(2), BlobId(1));
    let before = spool.digest();
    for record in &group.records {
        let record = Record {
            kind: record.kind,
            version: record.version,
            flags: 0,
            account: 0,
            body: &record.body,
        };
        let mut change = |_, _, _| panic!("nothing may be released or retained");
        spool.apply(Lsn(2), record, &mut Blobs::observed(Lsn(2), &mut change)).unwrap_err();
        assert_eq!(spool.digest(), before);
    }
    assert!(!spool.has(LogId(3), SpoolId(9), AccountId(2)));
    assert_eq!(spool.next(), SpoolId(2));
}

/// A page of pending messages and one of keys; see `docs/FORMAT.md`.
#[test]
fn writes_pages_of_these_octets_for_ever() {
    let mut log = Log::default();
    let pending = Pending {
        blob: BlobId(2),
        size: 3,
        internal_date: 4,
        marks: 5,
        recipients: vec![(LogId(6), AccountId(7)), (LogId(8), AccountId(9))],
    };
    let mut group = Group::new();
    put_add(&mut group, SpoolId(1), &pending);
    put_add(&mut group, SpoolId(65), &pending);
    put_done(&mut group, SpoolId(65), BlobId(2));
    put_idem(&mut group, LogId(3), SpoolId(1), &[AccountId(9), AccountId(7)]);
    put_idem(&mut group, LogId(3), SpoolId(65), &[AccountId(7)]);
    log.commit(&group);
    let mut out = String::new();
    for major in log.spool.dirty() {
        log.spool.save(major, Lsn(1), &mut |minor, page| {
            write!(out, "page {major} {minor}:").unwrap();
            for (at, octet) in page.expect("spool pages stay").iter().enumerate() {
                write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
            }
            out.push('\n');
        });
    }
    expect![[r"
        page 1 0: 01000000 00000000 41000000 00000000 01000000 00000000 02000000 00000000 03000000 04000000 05000000 02000000 06000700 00000800 09000000
        page 86 0: 01000000 00000000 01000000 00000000 03000000 02000000 07000000 09000000 41000000 00000000 03000000 01000000 07000000
    "]].assert_eq(&out);
}
