//! Commits that are under way: awaited in order, answered, told to the log.

use super::{Driver, Hole, Outcome, class_name, to_outcome};
use crate::env::Env;
use crate::mailbox::Refused;
use crate::model::address::Address;
use crate::model::reply::Class;
use crate::probe::event::{Level, Value, event};
use crate::proto::smtp::{self, outcome_replies};
use crate::server::secure::version;
use std::time::Duration;

/// What an accepted recipient stands for when its message is committed.
#[derive(Clone, Copy)]
pub(super) enum Share {
    /// So many accounts, and others elsewhere.
    Places { accounts: usize, is_away: bool },
    /// It was accepted, and is not to be had any more.
    Gone(Outcome),
}

/// What the log says of a message once it is answered.
pub(super) struct Told {
    pub(super) id: String,
    pub(super) sender: Option<Address>,
    pub(super) recipients: Vec<Address>,
    pub(super) octets: usize,
    pub(super) priority: Option<i8>,
}

/// How the wait for commits ended.
pub(super) enum Filled {
    All,
    /// What became of one of them cannot be said.
    Uncertain,
    /// It could not be said in time.
    Late,
}

impl<E: Env> Driver<E> {
    /// Waits for the commits in order and writes their replies. Where that takes too long those that
    /// are left are not answered one by one: they may be stored, and the client sends them again.
    pub(super) async fn fill_holes(&mut self) -> Filled {
        while let Some(mut hole) = self.holes.pop_front() {
            let Some(outcomes) = self.in_time(&mut hole.accepting).await else {
                self.holes.push_front(hole);
                self.tell_late();
                return Filled::Late;
            };
            if outcomes.contains(&Outcome::Uncertain) {
                return Filled::Uncertain;
            }
            let verdicts = self.verdicts(&outcomes, &hole.shares);
            if let Some(report) = &mut hole.report
                && report.keep(&verdicts)
            {
                self.report(report).await;
            }
            let took = self.shard.env.now().since(hole.begun);
            let id = format!("id {}", hole.told.id);
            let replies: Vec<smtp::Outcome<'_>> =
                verdicts.iter().map(|&verdict| to_outcome(verdict, &id)).collect();
            outcome_replies(&replies, self.settings.is_lmtp(), &mut self.ready);
            self.tell(&hole.told, &verdicts, took);
            self.ready.append(hole.after);
        }
        Filled::All
    }

    /// Forgets the commits that are under way, and says so in the log.
    fn tell_late(&mut self) {
        let now = self.shard.env.now();
        for Hole { told, begun, .. } in self.holes.drain(..) {
            self.shard.figures.deferred.one();
            let fields = [
                ("id", told.id.as_str().into()),
                ("peer", Value::Shown(&self.peer)),
                ("octets", told.octets.into()),
                ("waited", now.since(begun).into()),
            ];
            event(Level::Warn, "message_late", &fields);
        }
    }

    /// One verdict for each recipient by LMTP, one for all by SMTP.
    fn verdicts(&self, outcomes: &[Outcome], shares: &[Share]) -> Vec<Outcome> {
        if !self.settings.is_lmtp() {
            let refused = refused_for_all(shares);
            return vec![refused.unwrap_or_else(|| Outcome::overall(outcomes))];
        }
        let mut rest = outcomes;
        // The outcome for all that are elsewhere comes last.
        let away = outcomes.last().copied().unwrap_or(Outcome::BROKEN);
        let verdict = |share: &Share| match *share {
            Share::Gone(outcome) => outcome,
            Share::Places { accounts, is_away } => {
                let (mine, after) = rest.split_at(accounts.min(rest.len()));
                rest = after;
                let all: Vec<Outcome> =
                    mine.iter().copied().chain(is_away.then_some(away)).collect();
                Outcome::overall(&all)
            }
        };
        shares.iter().map(verdict).collect()
    }

    fn tell(&self, told: &Told, verdicts: &[Outcome], took: Duration) {
        let figures = &self.shard.figures;
        let first = verdicts.first().copied().unwrap_or(Outcome::BROKEN);
        match first.class() {
            Class::Ok => {
                figures.stored.one();
                figures.stored_octets.add(told.octets as u64);
            }
            Class::Transient => figures.deferred.one(),
            Class::Permanent => figures.refused.one(),
        }
        figures.commit_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if !crate::probe::event::enabled(Level::Info) {
            return;
        }
        let sender = told.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let recipients: Vec<String> = told.recipients.iter().map(ToString::to_string).collect();
        let listed: Vec<Value<'_>> = recipients.iter().map(|one| one.as_str().into()).collect();
        let peer = self.peer;
        let name = self.guest.name();
        let mut fields = vec![
            ("id", told.id.as_str().into()),
            ("peer", Value::Shown(&peer)),
            ("tls", version(self.tls.as_ref()).into()),
            ("sender", sender.as_str().into()),
            ("recipients", Value::List(&listed)),
            ("octets", told.octets.into()),
            ("outcome", class_name(first.class()).into()),
            ("took", took.into()),
        ];
        if let Some(name) = &name {
            fields.push(("name", (&**name).into()));
        }
        // RFC 6710 §4.1.
        if let Some(priority) = &told.priority {
            fields.push(("priority", Value::Shown(priority)));
        }
        if let Some(login) = &self.login {
            fields.push(("user", (&*login.user).into()));
        }
        if let Some(login) = self.guest.login() {
            fields.push(("login", login.into()));
        }
        event(Level::Info, "message", &fields);
    }
}

/// The one answer to SMTP where recipients have gone since they were accepted: if all have, nobody
/// is there; else the sender is to come back and hears at RCPT who it was.
pub(super) fn refused_for_all(shares: &[Share]) -> Option<Outcome> {
    let mut gone = shares.iter().filter_map(|share| match share {
        Share::Gone(outcome) => Some(*outcome),
        Share::Places { .. } => None,
    });
    let first = gone.next()?;
    let is_all = gone.count() + 1 == shares.len();
    Some(if is_all { first } else { Outcome::from(Refused::Parted) })
}
