//! Records as octets and as state, and a log opened again.

use super::log::{IDENTITY, counting, delivery};
use pombal::bytes::codec::Put as _;
use pombal::env::sim::{Disk, Faults, Loss, Sim};
use pombal::mailbox::deliver::{Facts, plan};
use pombal::mailbox::summary::{Summary, summarize};
use pombal::mailbox::{Accounts, INBOX, Judge, Marks, Quota, Recipient};
use pombal::model::id::{AccountId, BlobId, Lsn};
use pombal::store::record::{Group, Record};
use pombal::store::{Blobs, Log, Machine as _, Settings};
use std::cell::RefCell;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

/// 64 deliveries of 10 KiB.
pub(crate) fn deliveries() -> Vec<Group> {
    (1..=64).map(|id| delivery(BlobId(id), 10 << 10)).collect()
}

/// Delivers 1024 messages to 16 accounts through the index: numbers, records, apply.
pub(crate) fn apply_deliveries() -> u64 {
    let accounts = Rc::new(RefCell::new(Accounts::new()));
    for number in 1..=1_024_u32 {
        let facts = Facts {
            blob: BlobId(u64::from(number)),
            size: 4_096,
            marks: Marks::default(),
            internal_date: 1_700_000_000,
            save_date: 1_700_000_000,
        };
        let mut group = Group::new();
        let to = Recipient { account: AccountId(1 + number % 16), quota: Quota::NONE };
        let planned = plan(&accounts, &mut group, &facts, &[to], Judge::Together);
        assert!(planned.any());
        let at = Lsn(u64::from(number));
        for record in &group.records {
            let record = Record {
                kind: record.kind,
                version: record.version,
                flags: record.flags,
                account: record.account,
                body: black_box(&record.body),
            };
            let mut change = |_: Lsn, _: BlobId, by: i32| assert_eq!(by, 1);
            let mut blobs = Blobs::observed(at, &mut change);
            accounts.borrow_mut().apply(at, record, &mut blobs).expect("it was just made");
        }
    }
    let accounts = accounts.borrow();
    let view = accounts.view(AccountId(1), INBOX);
    assert_eq!(view.count(), 64);
    accounts.messages()
}

/// Makes the summary of a message; returns the lines that it tells of.
pub(crate) fn summary_lines(message: &[u8]) -> u64 {
    let octets = summarize(black_box(message));
    let summary = Summary::read(&octets).expect("it was just made");
    assert!(summary.envelope().is_some() && summary.structure().is_some());
    u64::from(summary.body_lines)
}

fn settings() -> Settings {
    Settings { segment_octets: 4 << 20, ..Settings::default() }
}

/// The disk of a log with 10,000 records behind its last checkpoint, cut off.
pub(crate) fn ten_thousand_records() -> Disk {
    let sim = Sim::new(1, Faults::none());
    sim.allow_leaks();
    let env = sim.env(0);
    let work = async move {
        let (_, machines) = counting();
        let opened = Log::open(env, Path::new("/log"), IDENTITY, settings(), machines).await;
        let (log, _) = opened.expect("an empty disk takes a log");
        for _ in 0..100 {
            let mut group = Group::new();
            for account in 0..100 {
                let mut body = vec![0; 40];
                body.put_u64(u64::from(account));
                group.record(17, 1, account, body);
            }
            log.append(group).await.expect("a sound disk takes a batch");
        }
    };
    sim.run_until(work).expect("writing ends");
    sim.end(Loss::Nothing)
}

/// Opens the log of [`ten_thousand_records`] and returns the records that it replayed.
pub(crate) fn recover(disk: &Disk) -> u64 {
    let sim = Sim::with_disk(1, Faults::none(), disk.fork());
    sim.allow_leaks();
    let env = sim.env(0);
    let (machine, machines) = counting();
    let work = async move {
        let opened = Log::open(env, Path::new("/log"), IDENTITY, settings(), machines).await;
        opened.map(|(_, report)| report.replayed).expect("a sound disk opens")
    };
    assert_eq!(sim.run_until(work).expect("opening ends"), 100);
    sim.end(Loss::Nothing);
    machine.borrow().records.get()
}
