//! What all tasks of one seed share: the oracle and the journal.

use crate::journal::Journal;
use crate::oracle::{Oracle, Verdict};
use pombal::env::sim::SimEnv;
use pombal::model::time::Mono;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

pub(crate) struct World {
    pub(crate) oracle: RefCell<Oracle>,
    journal: Journal,
    /// Whether connections fail and stall in this life.
    bad_net: Cell<bool>,
    /// Whether disk operations fail in this life.
    bad_disk: Cell<bool>,
    /// Whether everything that is small enough is taken in this life, at once and for good.
    calm: Cell<bool>,
    /// Messages that each user has submitted in this life, and when the first was.
    submitted: RefCell<BTreeMap<usize, (u32, Mono)>>,
    /// Clients that have come to their end in this life.
    pub(crate) done: Cell<usize>,
}

impl World {
    pub(crate) fn new(users: usize, keeps_journal: bool) -> World {
        World {
            oracle: RefCell::new(Oracle::new(users)),
            journal: Journal::new(keeps_journal),
            bad_net: Cell::new(false),
            bad_disk: Cell::new(false),
            calm: Cell::new(false),
            submitted: RefCell::default(),
            done: Cell::new(0),
        }
    }

    pub(crate) fn life(&self) -> u64 {
        self.journal.life()
    }

    pub(crate) fn begin_life(&self, life: u64, bad_net: bool, bad_disk: bool) {
        self.journal.begin_life(life);
        self.bad_net.set(bad_net);
        self.bad_disk.set(bad_disk);
        self.calm.set(false);
        self.submitted.borrow_mut().clear();
        self.done.set(0);
        self.oracle.borrow_mut().begin_life(life);
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.set(calm);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.get()
    }

    /// A message of a user was taken who may submit `allowance` at once and in an hour; 0 is no bound.
    pub(crate) fn submitted(&self, user: usize, allowance: u32, now: Mono) {
        let mut submitted = self.submitted.borrow_mut();
        let (count, first) = submitted.entry(user).or_insert((0, now));
        *count += 1;
        let since = now.since(*first).as_secs();
        let most = u64::from(allowance) * (3_600 + since) / 3_600;
        if allowance > 0 && u64::from(*count) > most {
            self.fail(format!("u{user}: message {count} within {since} s, may send {allowance}"));
        }
    }

    pub(crate) fn is_bad_disk(&self) -> bool {
        self.bad_disk.get()
    }

    /// Tells what happens, if anybody wants to know.
    pub(crate) fn note(&self, env: &SimEnv, what: impl FnOnce() -> String) {
        self.journal.note(env, what);
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        self.journal.take()
    }

    /// Notes what is wrong; the first counts.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        self.journal.fail(what);
    }

    pub(crate) fn check(&self, verdict: Verdict) -> bool {
        verdict.map_err(|what| self.fail(what)).is_ok()
    }

    /// The first thing that went wrong.
    pub(crate) fn verdict(&self) -> Verdict {
        self.journal.verdict()
    }

    /// How a client's connection ended. Without faults nobody waits in vain.
    pub(crate) fn ended(&self, who: &str, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::TimedOut if !self.bad_net.get() => {
                self.fail(format!("{who}: no answer"));
            }
            // Only a log that cannot tell makes the server hang up without a word.
            io::ErrorKind::UnexpectedEof if !self.bad_net.get() && !self.bad_disk.get() => {
                self.fail(format!("{who}: no answer but the end"));
            }
            io::ErrorKind::InvalidData => self.fail(format!("{who}: not a reply: {error}")),
            _ => {}
        }
    }
}
