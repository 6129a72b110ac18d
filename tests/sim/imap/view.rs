//! A mailbox as one client knows it: by nothing but what the server said in this session.
//!
//! ```text
//! EXISTS    never falls (RFC 9051 §7.4.1)       EXPUNGE   in range; see the client for when
//! FETCH     in range, UIDs rise with numbers    VANISHED  names what is there (RFC 7162 §3.2.10)
//! RECENT    no more than there are          \Recent   stays while it is selected (RFC 3501 §2.3.2)
//! HIGHESTMODSEQ   no change up to it is told later (RFC 7162 §3.2, §6)
//! ```

use super::model::Memory;
use super::wire::{Fetched, Flags};
use crate::oracle::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// One message number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) uid: Option<u32>,
    pub(super) flags: Option<Flags>,
    pub(super) recent: Option<bool>,
    pub(super) modseq: Option<u64>,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) uidvalidity: u32,
    pub(super) uidnext: u32,
    pub(super) read_only: bool,
    /// The number of the command that opened it.
    pub(super) opened: u64,
    pub(super) slots: Vec<Slot>,
    /// What the client would come back with.
    pub(super) highest: u64,
    /// By a code: all up to here was told, when the last command ended.
    said: u64,
    /// Since the last command ended: the highest counter of a message, and by a code.
    told: u64,
    code: Option<u64>,
}

/// What SELECT said.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) exists: usize,
    pub(super) uidvalidity: u32,
    pub(super) uidnext: u32,
    pub(super) highest: u64,
    pub(super) vanished: Vec<u32>,
    pub(super) fetched: Vec<Fetched>,
}

impl View {
    pub(super) fn new(opening: &Opening, read_only: bool, opened: u64, slots: Vec<Slot>) -> View {
        View {
            uidvalidity: opening.uidvalidity,
            uidnext: opening.uidnext,
            read_only,
            opened,
            slots,
            highest: opening.highest,
            said: opening.highest,
            told: 0,
            code: None,
        }
    }

    pub(super) fn exists(&mut self, count: u32) -> Verdict {
        let (count, known) = (count as usize, self.slots.len());
        if count < known {
            return Err(format!("EXISTS fell from {known} to {count}"));
        }
        self.slots.resize(count, Slot::default());
        Ok(())
    }

    pub(super) fn recent(&self, count: u32) -> Verdict {
        if count as usize > self.slots.len() {
            return Err(format!("RECENT {count} of {} messages", self.slots.len()));
        }
        Ok(())
    }

    fn index(&self, number: u32) -> Result<usize, String> {
        let index = (number as usize).checked_sub(1).filter(|&index| index < self.slots.len());
        index.ok_or_else(|| format!("number {number} of {} messages", self.slots.len()))
    }

    pub(super) fn expunge(&mut self, number: u32) -> Result<Option<u32>, String> {
        let index = self.index(number)?;
        Ok(self.slots.remove(index).uid)
    }

    pub(super) fn vanish(&mut self, uid: u32) -> Verdict {
        let index = self.find(uid).or_else(|| {
            // One that was never fetched: it stands somewhere behind all lower UIDs.
            let lower = |slot: &Slot| slot.uid.is_some_and(|known| known < uid);
            let from = self.slots.iter().rposition(lower).map_or(0, |index| index + 1);
            self.slots.get(from).filter(|slot| slot.uid.is_none()).map(|_| from)
        });
        let index = index.ok_or_else(|| format!("VANISHED {uid}, which was not there"))?;
        self.slots.remove(index);
        Ok(())
    }

    pub(super) fn find(&self, uid: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.uid == Some(uid))
    }

    pub(super) fn get(&self, uid: u32) -> Option<&Slot> {
        self.find(uid).map(|index| &self.slots[index])
    }

    /// Takes a FETCH response; says which message it is, if that is known.
    pub(super) fn fetched(&mut self, fetched: &Fetched) -> Result<Option<u32>, String> {
        let index = self.index(fetched.number)?;
        if let Some(uid) = fetched.uid {
            let (before, behind) = (&self.slots[..index], &self.slots[index + 1..]);
            let fits = self.slots[index].uid.is_none_or(|known| known == uid)
                && before.iter().filter_map(|slot| slot.uid).all(|other| other < uid)
                && behind.iter().filter_map(|slot| slot.uid).all(|other| other > uid);
            if !fits {
                let known: Vec<_> = self.slots.iter().map(|slot| slot.uid).collect();
                return Err(format!("number {} is UID {uid}, among {known:?}", index + 1));
            }
        }
        let said = self.said;
        let slot = &mut self.slots[index];
        slot.uid = fetched.uid.or(slot.uid);
        match (fetched.flags, fetched.modseq, slot.flags) {
            (Some(flags), None, Some(known)) if flags != known => {
                return Err(format!("number {}: flags {known:#b} are {flags:#b}", index + 1));
            }
            _ => {}
        }
        if let Some(modseq) = fetched.modseq {
            if slot.modseq.is_some_and(|known| modseq < known) {
                return Err(format!("I4: number {}: MODSEQ fell to {modseq}", index + 1));
            }
            if slot.modseq.is_some_and(|known| modseq > known) && modseq <= said {
                return Err(format!("I4: {modseq} is told after HIGHESTMODSEQ {said}"));
            }
            slot.modseq = Some(modseq);
            self.told = self.told.max(modseq);
        }
        if fetched.recent.is_some() && slot.recent.is_some_and(|was| fetched.recent != Some(was)) {
            return Err(format!("number {}: \\Recent is {:?} now", index + 1, fetched.recent));
        }
        slot.recent = fetched.recent.or(slot.recent);
        slot.flags = fetched.flags.or(slot.flags);
        Ok(slot.uid)
    }

    /// A HIGHESTMODSEQ code came.
    pub(super) fn coded(&mut self, modseq: u64) -> Verdict {
        if modseq < self.said {
            return Err(format!("I4: HIGHESTMODSEQ fell from {} to {modseq}", self.said));
        }
        self.code = Some(modseq);
        Ok(())
    }

    /// A command ended: works out what the client would come back with (RFC 7162 §6).
    pub(super) fn ended(&mut self) {
        match self.code.take() {
            Some(code) => (self.highest, self.said) = (code, code),
            None => self.highest = self.highest.max(self.told),
        }
        self.told = 0;
    }

    /// What the client remembers, if it knows every message.
    pub(super) fn memory(&self) -> Option<Memory> {
        let messages = self.slots.iter().map(|slot| Some((slot.uid?, slot.flags?)));
        let messages = messages.collect::<Option<BTreeMap<u32, Flags>>>()?;
        Some(Memory { uidvalidity: self.uidvalidity, modseq: self.highest, messages })
    }

    pub(super) fn uids(&self) -> BTreeSet<u32> {
        self.slots.iter().filter_map(|slot| slot.uid).collect()
    }

    pub(super) fn is_known(&self) -> bool {
        self.slots.iter().all(|slot| slot.uid.is_some() && slot.flags.is_some())
    }
}

/// What a client that remembers is led to by QRESYNC (RFC 7162 §3.2.5). `asks_known`: it asked
/// for nothing but the messages that it knows.
pub(super) fn resynced(
    memory: &Memory,
    asks_known: bool,
    opening: &Opening,
) -> Result<Vec<Slot>, String> {
    let known = memory.messages.iter();
    let known = known.map(|(&uid, &flags)| {
        (uid, Slot { uid: Some(uid), flags: Some(flags), ..Slot::default() })
    });
    let mut slots: BTreeMap<u32, Slot> = known.collect();
    for uid in &opening.vanished {
        slots.remove(uid);
    }
    for fetched in &opening.fetched {
        let uid = fetched.uid.ok_or("QRESYNC told of a message without its UID")?;
        if opening.vanished.contains(&uid) {
            return Err(format!("QRESYNC: UID {uid} vanished and is there"));
        }
        let (flags, recent, modseq) = (fetched.flags, fetched.recent, fetched.modseq);
        slots.insert(uid, Slot { uid: Some(uid), flags, recent, modseq });
    }
    let mut slots: Vec<Slot> = slots.into_values().collect();
    let count = slots.len();
    if count > opening.exists || (count < opening.exists && !asks_known) {
        let uids: Vec<_> = slots.iter().filter_map(|slot| slot.uid).collect();
        let exists = opening.exists;
        return Err(format!(
            "I4: QRESYNC since {} leads to {uids:?}, {exists} exist",
            memory.modseq
        ));
    }
    for fetched in &opening.fetched {
        let at = slots.get((fetched.number as usize).wrapping_sub(1));
        if at.is_none_or(|slot| slot.uid != fetched.uid) {
            return Err(format!("I4: QRESYNC: {fetched:?} is not where it leads to"));
        }
    }
    slots.resize(opening.exists, Slot::default());
    Ok(slots)
}
