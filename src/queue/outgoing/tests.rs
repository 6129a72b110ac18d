//! Laws of the machine: replay, checkpoints, indexes, octets.

use super::record::{Add, Change, Tried, put_add, put_done, put_pause, put_set, put_tried};
use super::*;
use crate::model::address::Address;
use crate::model::id::{BlobId, Lsn};
use crate::model::reply::Enhanced;
use crate::store::record::Record;
use crate::store::{Blobs, Group, Machine};
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::param::Notify;
use arbtest::arbitrary::{self, Unstructured};
use expect_test::expect;
use std::fmt::Write;

fn add(queue: u64, domain: &str, count: usize) -> Add {
    let to = |n: usize| To {
        address: Address::from_parts(&format!("r{n}"), domain),
        notify: (n == 1).then_some(Notify { success: true, failure: false, delay: true }),
        orcpt: (n == 1).then(|| "rfc822;x@y.example".into()),
    };
    Add {
        queue: QueueId(queue),
        blob: BlobId(queue + 1_000),
        size: 10,
        arrived: 100,
        due: 100,
        warn: 200,
        expires: 300,
        flags: Flags::RET_FULL,
        priority: -3,
        marks: 1,
        domain: domain.into(),
        envelope: Envelope {
            name: format!("m.{queue}").into(),
            sender: (!queue.is_multiple_of(3)).then(|| Address::from_parts("Sender", "s.example")),
            envid: queue.is_multiple_of(2).then(|| "QQ".into()),
            by: queue.is_multiple_of(5).then_some(Deadline {
                at: 150,
                returns: true,
                traces: false,
            }),
            hold: match queue % 7 {
                1 => Some(Hold::For(60)),
                2 => Some(Hold::Until(170)),
                _ => None,
            },
            via: queue.is_multiple_of(11).then(|| Address::from_parts("All", "here.example")),
            recipients: (0..count).map(to).collect(),
        },
    }
}

fn said() -> Said {
    Said { host: Some("mx.example".into()), ..Said::ours(450, Enhanced(2, 0), "come back") }
}

fn apply(machine: &mut Outgoing, at: u64, group: &Group) -> Vec<(u64, i32)> {
    let mut counts = Vec::new();
    for record in &group.records {
        let view = Record {
            kind: record.kind,
            version: record.version,
            flags: record.flags,
            account: 0,
            body: &record.body,
        };
        let mut count = |_, blob: BlobId, by| counts.push((blob.0, by));
        machine.apply(Lsn(at), view, &mut Blobs::observed(Lsn(at), &mut count)).unwrap();
    }
    counts
}

fn one(group: impl FnOnce(&mut Group)) -> Group {
    let mut made = Group::new();
    group(&mut made);
    made
}

/// A group that the machine as it stands would be given.
fn anything(u: &mut Unstructured<'_>, machine: &mut Outgoing) -> arbitrary::Result<Group> {
    let ids: Vec<QueueId> = machine.table_ids();
    let mut group = Group::new();
    if ids.is_empty() || u.ratio(2, 5)? {
        let domain = *u.choose(&["a.example", "b.example", "[192.0.2.1]"])?;
        let queue = machine.assign().0;
        put_add(&mut group, &add(queue, domain, u.int_in_range(1..=3)?));
        return Ok(group);
    }
    let queue = *u.choose(&ids)?;
    let entry = machine.get(queue).unwrap().clone();
    match u.int_in_range(0..=3)? {
        0 => put_done(&mut group, queue, entry.blob),
        1 => put_set(&mut group, queue, u.arbitrary()?, 900, Flags(u.int_in_range(0..=255)?)),
        2 => {
            let pause = match u.int_in_range(0..=2)? {
                0 => Pause::All,
                1 => Pause::Domain("a.example".into()),
                _ => Pause::Sender("sender@s.example".into()),
            };
            put_pause(&mut group, u.arbitrary()?, &pause);
        }
        _ => {
            let to = u.int_in_range(0..=entry.fates().len() - 1)?;
            let fate = *u.choose(&[Fate::Waiting, Fate::Delivered, Fate::Failed])?;
            let standings =
                vec![(u16::try_from(to).unwrap(), fate, u.arbitrary::<bool>()?.then(said))];
            let attempts = entry.attempts + 1;
            let (due, warn, flags) = (u.int_in_range(100..=999)?, 200, entry.flags);
            put_tried(&mut group, &Tried { queue, at: 5, due, warn, flags, attempts, standings });
        }
    }
    Ok(group)
}

impl Outgoing {
    fn table_ids(&self) -> Vec<QueueId> {
        let mut ids: Vec<QueueId> = self.entries().map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[test]
fn is_the_same_after_a_crash_whatever_the_checkpoint_held() {
    arbtest::arbtest(|u| {
        let mut live = Outgoing::new();
        // What a checkpoint has: pages with the position of their save.
        let mut pages: Vec<((u32, u64), u64, Vec<u8>)> = Vec::new();
        let mut log: Vec<Group> = Vec::new();
        let mut start = 0;
        for _ in 0..u.int_in_range(1..=40)? {
            if u.ratio(1, 6)? {
                if u.ratio(1, 4)? {
                    live.taint();
                }
                start = log.len();
                for major in live.dirty() {
                    // A record may come between two majors of one checkpoint.
                    if u.ratio(1, 3)? {
                        let group = anything(u, &mut live)?;
                        log.push(group);
                        apply(&mut live, log.len() as u64, log.last().unwrap());
                    }
                    let at = log.len() as u64;
                    live.save(major, Lsn(at), &mut |minor, octets| {
                        pages.retain(|(key, ..)| *key != (major, minor));
                        pages.extend(octets.map(|octets| ((major, minor), at, octets)));
                    });
                }
            }
            let group = anything(u, &mut live)?;
            log.push(group);
            apply(&mut live, log.len() as u64, log.last().unwrap());
            assert!(live.is_sound());
        }
        let mut again = Outgoing::new();
        for ((major, minor), at, octets) in &pages {
            again.load(*major, *minor, Lsn(*at), octets).unwrap();
        }
        again.loaded().unwrap();
        for (at, group) in (1..).zip(&log).skip(start) {
            apply(&mut again, at, group);
        }
        assert_eq!(again.digest(), live.digest());
        assert!(again.is_sound());
        assert_eq!(again.assign().0 > 0, live.assign().0 > 0);
        Ok(())
    });
}

#[test]
fn finds_entries_by_what_they_are_about() {
    let mut machine = Outgoing::new();
    for queue in 1..=200 {
        let domain = format!("d{}.example", queue % 10);
        apply(&mut machine, queue, &one(|group| put_add(group, &add(queue, &domain, 2))));
    }
    let count = |text: &str| machine.walk(Walk::Text(text), 0).count();
    assert_eq!((count("m.7"), count("sender@s.example")), (1, 134));
    assert_eq!((count("R1@d3.example"), count("r1@d11.example")), (20, 0));
    assert_eq!(machine.walk(Walk::Text(""), 0).count(), 66);
    assert_eq!(machine.walk(Walk::Domain("d9.example"), 0).count(), 20);
    assert_eq!((machine.domains().count(), machine.recipients()), (10, 400));
    for queue in 1..=200 {
        let blob = BlobId(queue + 1_000);
        let counts = apply(&mut machine, 300, &one(|group| put_done(group, QueueId(queue), blob)));
        assert_eq!(counts, [(blob.0, -1)]);
    }
    assert_eq!((machine.len(), machine.domains().count(), machine.recipients()), (0, 0, 0));
    assert!(machine.first_event().is_none() && machine.walk(Walk::Text(""), 0).next().is_none());
}

#[test]
fn has_an_event_for_each_entry_in_every_stage() {
    let mut machine = Outgoing::new();
    apply(&mut machine, 1, &one(|group| put_add(group, &add(1, "a.example", 1))));
    let mut at = |stage: Stage, flags: Flags, due: u32, warn: u32| {
        let tried = Tried {
            queue: QueueId(1),
            at: 1,
            due,
            warn,
            flags,
            attempts: 1,
            standings: Vec::new(),
        };
        apply(&mut machine, 2, &one(|group| put_tried(group, &tried)));
        machine.set_stage(QueueId(1), stage);
        assert!(machine.is_sound());
        machine.first_event().unwrap().0
    };
    let none = Flags::default();
    assert_eq!(at(Stage::Idle, none, 150, 200), 150);
    assert_eq!(at(Stage::Idle, none, 900, 200), 200);
    assert_eq!(at(Stage::Idle, none, 900, u32::MAX), 300);
    assert_eq!(at(Stage::Idle, Flags::HELD, 150, u32::MAX), 300);
    assert_eq!(at(Stage::Ready, none, 150, u32::MAX), 300);
    assert_eq!(at(Stage::Active(170), none, 150, 200), 170);
    assert_eq!(at(Stage::PutOff(180), none, 150, 160), 180);
}

#[test]
fn stands_in_its_lane_once() {
    let mut machine = Outgoing::new();
    let id = QueueId(1);
    apply(&mut machine, 1, &one(|group| put_add(group, &add(1, "a.example", 1))));
    assert!(machine.enter_lane(id));
    // Its operator wants it to be tried now: it is idle, becomes due, and its place in the lane is the one
    // that it has.
    let set = |flags| one(|group| put_set(group, id, 5, 300, flags));
    apply(&mut machine, 2, &set(Flags::default()));
    assert_eq!(machine.get(id).unwrap().stage(), Stage::Idle);
    assert!(machine.leave_lane(id, 10, 70).is_none());
    assert!(machine.enter_lane(id) && !machine.enter_lane(id));
    // Who is held is not tried, and is in the lane no longer.
    apply(&mut machine, 3, &set(Flags::HELD));
    machine.set_stage(id, Stage::Ready);
    assert!(machine.leave_lane(id, 10, 70).is_none());
    // Nor is one whose time is over, and that has its event.
    apply(&mut machine, 4, &set(Flags::default()));
    assert!(machine.enter_lane(id) && machine.leave_lane(id, 300, 370).is_none());
    assert!(machine.is_sound() && machine.due(300, 1) == [id]);
    apply(&mut machine, 4, &set(Flags::default()));
    assert!(machine.enter_lane(id));
    assert_eq!(machine.leave_lane(id, 299, 70).unwrap().stage(), Stage::Active(70));
    // Lanes that are emptied leave alone what is being tried.
    machine.forget_lane(id);
    assert_eq!(machine.get(id).unwrap().stage(), Stage::Active(70));
    apply(&mut machine, 5, &set(Flags::default()));
    assert!(machine.enter_lane(id));
    machine.forget_lane(id);
    assert!(machine.enter_lane(id) && machine.is_sound());
    assert!(machine.leave_lane(QueueId(2), 10, 70).is_none());
}

#[test]
fn keeps_what_many_were_told_once() {
    let mut machine = Outgoing::new();
    for queue in 1..=3 {
        apply(&mut machine, 1, &one(|group| put_add(group, &add(queue, "a.example", 2))));
        let tried = Tried {
            queue: QueueId(queue),
            at: 1,
            due: 1,
            warn: 1,
            flags: Flags::default(),
            attempts: 1,
            standings: vec![(0, Fate::Waiting, Some(said())), (1, Fate::Waiting, Some(said()))],
        };
        apply(&mut machine, 2, &one(|group| put_tried(group, &tried)));
    }
    assert_eq!(machine.said_count(), 1);
    for queue in 1..=3 {
        let blob = BlobId(queue + 1_000);
        apply(&mut machine, 3, &one(|group| put_done(group, QueueId(queue), blob)));
    }
    assert_eq!(machine.said_count(), 0);
}

#[test]
fn refuses_records_that_do_not_fit() {
    let mut machine = Outgoing::new();
    apply(&mut machine, 1, &one(|group| put_add(group, &add(1, "a.example", 1))));
    let mut refuse = |group: Group| {
        let record = &group.records[0];
        let Record { kind, version, .. } =
            Record { kind: record.kind, version: 1, flags: 0, account: 0, body: &[] };
        let view = Record { kind, version, flags: 0, account: 0, body: &record.body };
        let mut ignore = |_, _, _| {};
        machine.apply(Lsn(2), view, &mut Blobs::observed(Lsn(2), &mut ignore)).unwrap_err();
    };
    refuse(one(|group| put_add(group, &add(1, "a.example", 1))));
    refuse(one(|group| put_done(group, QueueId(1), BlobId(1))));
    refuse(one(|group| put_done(group, QueueId(2), BlobId(1))));
    refuse(one(|group| put_set(group, QueueId(2), 0, 0, Flags::default())));
    let standings = vec![(7, Fate::Failed, None)];
    let (queue, flags) = (QueueId(1), Flags::default());
    let tried = Tried { queue, at: 0, due: 0, warn: 0, flags, attempts: 0, standings };
    refuse(one(|group| put_tried(group, &tried)));
}

#[test]
fn writes_these_octets_for_ever() {
    let mut group = Group::new();
    put_add(&mut group, &add(10, "a.example", 2));
    put_add(&mut group, &add(8, "a.example", 1));
    put_add(&mut group, &add(9, "a.example", 1));
    let tried = Tried {
        queue: QueueId(10),
        at: 1,
        due: 2,
        warn: 3,
        flags: Flags::WARNED,
        attempts: 4,
        standings: vec![(0, Fate::Failed, Some(said())), (1, Fate::Waiting, None)],
    };
    put_tried(&mut group, &tried);
    put_done(&mut group, QueueId(10), BlobId(1_010));
    put_set(&mut group, QueueId(10), 1, 2, Flags::HELD);
    put_pause(&mut group, true, &Pause::Domain("a.example".into()));
    let mut out = String::new();
    for record in &group.records {
        write!(out, "{} v{}:", record.kind, record.version).unwrap();
        for (at, octet) in record.body.iter().enumerate() {
            write!(out, "{}{octet:02x}", if at % 4 == 0 { " " } else { "" }).unwrap();
        }
        out.push('\n');
        let read = |body: &[u8], version| {
            Change::read(&Record { kind: record.kind, version, flags: 0, account: 0, body })
        };
        read(&record.body, record.version).unwrap();
        for len in 0..record.body.len() {
            read(&record.body[..len], record.version).unwrap_err();
        }
        read(&record.body, 2).unwrap_err();
    }
    expect![[r"
        52 v1: 0a000000 00000000 f2030000 00000000 0a000000 64000000 64000000 c8000000 2c010000 0100fd01 09000000 612e6578 616d706c 65440000 0004006d 2e313006 0053656e 64657209 00732e65 78616d70 6c650200 51519600 00000102 00000200 72300000 85020072 31120072 66633832 323b7840 792e6578 616d706c 65
        52 v1: 08000000 00000000 f0030000 00000000 0a000000 64000000 64000000 c8000000 2c010000 0100fd01 09000000 612e6578 616d706c 65320000 0003006d 2e380600 53656e64 65720900 732e6578 616d706c 65020051 51000000 00043c00 00000000 00000100 00020072 300000
        52 v1: 09000000 00000000 f1030000 00000000 0a000000 64000000 64000000 c8000000 2c010000 0100fd01 09000000 612e6578 616d706c 65210000 0003006d 2e390000 00000000 00000000 08aa0000 00000000 00010000 02007230 0000
        53 v1: 0a000000 00000000 01000000 02000000 03000000 08000400 02000000 0301c201 02000000 0a006d78 2e657861 6d706c65 0900636f 6d652062 61636b01 000000
        54 v1: 0a000000 00000000 f2030000 00000000
        55 v1: 0a000000 00000000 01000000 02000000 1000
        56 v1: 01010900 0000612e 6578616d 706c65
    "]].assert_eq(&out);
}

#[test]
fn reads_any_octets_without_panicking() {
    arbtest::arbtest(|u| {
        let kind = u.int_in_range(51..=57)?;
        let len = u.int_in_range(0..=120)?;
        let body = u.bytes(len)?;
        drop(Change::read(&Record { kind, version: 1, flags: 0, account: 0, body }));
        Ok(())
    });
}

#[test]
fn names_are_read_as_they_are_written() {
    let name = QueueName(LogId(3), QueueId(0x1f4));
    assert_eq!(name.to_string(), "3.1f4");
    assert_eq!(QueueName::parse("3.1F4"), Some(name));
    for bad in ["", ".", "3.", ".4", "3.1.2", "3.x", "+3.4", "70000.1"] {
        assert_eq!(QueueName::parse(bad), None, "{bad}");
    }
}
