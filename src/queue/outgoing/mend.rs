//! Outgoing mail out of a damaged log.
//!
//! Of entries whose page is lost all records that are left are applied to another queue, up to where
//! the checkpoint stands: its pages stand for the lost ones, else older versions of them. Such an entry
//! may have been delivered since, so it is held: that it goes twice is an operator's decision.

use super::machine::{HEAD_MINOR, Outgoing, major};
use super::{Flags, QueueId};
use crate::bytes::hash::Sorted;
use crate::model::id::{BlobId, Lsn};
use crate::store::record::Record;
use crate::store::salvage::{Count, Known, LostEntry, Mender};
use crate::store::{Blobs, Damaged, Machine};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Numbers that may have been told, and that nothing knows of any more.
const NUMBERS_UNKNOWN: u64 = 1 << 16;

/// See the module.
pub struct MendOutgoing {
    outgoing: Rc<RefCell<Outgoing>>,
    mending: Sorted<u32, Mending>,
    shadow: Outgoing,
    is_reached: bool,
}

/// A major that lost pages.
#[derive(Default)]
struct Mending {
    lost: BTreeSet<u64>,
    whole: Vec<(u64, Vec<u8>)>,
    older: Sorted<u64, Vec<u8>>,
}

impl MendOutgoing {
    /// Fills `outgoing`, which is empty yet.
    pub fn new(outgoing: Rc<RefCell<Outgoing>>) -> MendOutgoing {
        let shadow = Outgoing::new();
        MendOutgoing { outgoing, mending: Sorted::new(), shadow, is_reached: false }
    }

    fn put_together(&mut self, major: u32, mending: Mending, at: Lsn) -> Result<(), Damaged> {
        let mut outgoing = self.outgoing.borrow_mut();
        for (minor, octets) in &mending.whole {
            outgoing.load(major, *minor, at, octets)?;
        }
        for minor in mending.lost {
            let made = match minor {
                HEAD_MINOR => Some(self.shadow.head(major)),
                _ => self.shadow.page(major, minor),
            };
            let older = mending.older.get(&minor);
            if let Some(octets) = made.as_ref().or(older) {
                outgoing.load(major, minor, at, octets)?;
            }
        }
        Ok(())
    }

    /// Entries of pages that were lost.
    fn hold(&mut self, lost: &Sorted<u32, BTreeSet<u64>>, note: &mut dyn FnMut(String)) {
        let mut outgoing = self.outgoing.borrow_mut();
        for (&major, minors) in lost {
            let queues = minors.iter().filter(|minor| **minor != HEAD_MINOR);
            let queues: Vec<QueueId> =
                queues.flat_map(|&minor| super::machine::numbers(major, minor)).collect();
            for queue in queues {
                if outgoing.hold(queue) {
                    note(format!(
                        "queue entry {:x} may have been delivered since it was noted: it is held",
                        queue.0
                    ));
                }
            }
        }
    }
}

impl Outgoing {
    fn hold(&mut self, queue: QueueId) -> bool {
        self.table.change(queue, |entry| entry.flags = entry.flags.with(Flags::HELD))
    }
}

impl Mender for MendOutgoing {
    fn lost(&mut self, major: u32, minor: u64, _: Lsn) {
        self.mending.entry(major).or_default().lost.insert(minor);
    }

    fn load(&mut self, major: u32, minor: u64, at: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        if let Some(mending) = self.mending.get_mut(&major) {
            mending.whole.push((minor, octets.to_vec()));
            return Ok(());
        }
        self.outgoing.borrow_mut().load(major, minor, at, octets)
    }

    fn load_older(&mut self, major: u32, minor: u64, _: Lsn, octets: &[u8]) -> Result<(), Damaged> {
        self.mending.entry(major).or_default().older.insert(minor, octets.to_vec());
        Ok(())
    }

    fn apply(
        &mut self,
        at: Lsn,
        record: Record<'_>,
        _: &Known<'_>,
        count: &mut Count<'_>,
    ) -> Result<(), Damaged> {
        let mut change = |_: Lsn, id: BlobId, by: i32| count(id, by);
        let mut blobs = Blobs::observed(at, &mut change);
        if self.is_reached {
            return self.outgoing.borrow_mut().apply(at, record, &mut blobs);
        }
        // What these could not do is no news: most of them are of long ago.
        drop(self.shadow.apply(at, record, &mut blobs));
        Ok(())
    }

    fn reached(&mut self, at: Lsn, note: &mut dyn FnMut(String)) -> Result<(), Damaged> {
        self.is_reached = true;
        let mending = std::mem::take(&mut self.mending);
        let lost: Sorted<u32, BTreeSet<u64>> =
            mending.iter().map(|(&major, one)| (major, one.lost.clone())).collect();
        for (major, one) in mending {
            if let Err(Damaged(why)) = self.put_together(major, one, at) {
                note(why);
            }
        }
        self.outgoing.borrow_mut().loaded()?;
        self.hold(&lost, note);
        self.shadow = Outgoing::new();
        Ok(())
    }

    fn let_go(
        &mut self,
        known: &Known<'_>,
        lost: &mut dyn FnMut(LostEntry),
        _: &mut dyn FnMut(String),
    ) {
        let mut outgoing = self.outgoing.borrow_mut();
        let all: Vec<QueueId> = outgoing.entries().map(|entry| entry.id).collect();
        for queue in all {
            let Some(entry) = outgoing.get(queue) else { continue };
            let (is_whole, is_dead) = (known.is_whole(entry.blob), known.is_dead(entry.blob));
            if is_whole && !is_dead {
                continue;
            }
            if !is_whole {
                lost(told(&outgoing, queue, entry));
            }
            outgoing.table.remove(queue);
        }
    }

    fn pass_over_numbers(&mut self) {
        let mut outgoing = self.outgoing.borrow_mut();
        let next = QueueId(outgoing.assign().0 + NUMBERS_UNKNOWN);
        outgoing.highest.insert(major(next), next);
    }

    fn references(&self, each: &mut dyn FnMut(BlobId)) {
        self.outgoing.borrow().references(each);
    }
}

fn told(outgoing: &Outgoing, queue: QueueId, entry: &super::Entry) -> LostEntry {
    let envelope = outgoing.envelope(entry);
    let domain = outgoing.domain(entry.destination).map_or_else(String::new, ToString::to_string);
    let count = envelope.recipients.len();
    LostEntry {
        account: 0,
        place: "outgoing mail".into(),
        number: queue.0,
        date: entry.arrived,
        octets: entry.size.into(),
        blob: entry.blob.0,
        about: format!("{} for {count} recipients at {domain}", envelope.name),
    }
}
