//! Mail for recipients here that had to wait, as its sender wanted (RFC 4865): its way into their
//! mailboxes.
//!
//! ```text
//!   due ─ the directory, as it stands now ─ room? ─┬─ the message, what became of the entry, and the
//!                                                  │  report on it: one group of the log
//!                                                  └─ later, or never: as after any attempt
//! ```
//!
//! Promises:
//!   - a recipient gets the message once, whenever the server goes down: it is there as soon as the
//!     entry says so, and not before
//!   - who has gone elsewhere meanwhile gets it there, and its sender hears of one message: once that it
//!     takes long, whether that was here or there

use super::Relay;
use super::conclude::{End, report_here, waiting};
use crate::env::Env;
use crate::mailbox::{Judge, Marks, Message};
use crate::model::address::Address;
use crate::model::reply::Enhanced;
use crate::mta::away::{Away, Before};
use crate::mta::message::{Envelope as Going, Outcome, Places, Rcpt};
use crate::mta::options::MailOptions;
use crate::mta::peers::Peers;
use crate::mta::report;
use crate::mta::ways::Ways;
use crate::queue::outgoing::{Entry, Envelope, Fate, Flags, QueueId, Said, To};
use crate::store::Group;
use crate::wire::message::delivered::DeliveredTo;
use crate::wire::smtp::later::By;
use crate::wire::smtp::param::Ret;

/// What goes where, and what becomes of each recipient.
#[derive(Default)]
struct Sorted {
    ends: Vec<End>,
    accounts: Vec<Rcpt>,
    ways: Ways,
}

impl Sorted {
    fn put(&mut self, place: u16, to: &To, found: Result<Places, Said>) {
        let places = match found {
            Ok(places) => places,
            Err(said) => {
                let fate = if said.is_transient() { Fate::Waiting } else { Fate::Failed };
                return self.ends.push(End::new(place, fate, Some(said)));
            }
        };
        let told = match places.is_shared_elsewhere() {
            _ if places.elsewhere.is_empty() || places.list.is_some() => {
                Some(report::Fate::Delivered)
            }
            true => Some(report::Fate::Expanded),
            // Who reports on it is told by the queue, or does it himself.
            false => None,
        };
        self.ends.push(End { to: place, fate: Fate::Delivered, said: None, told });
        self.ways.put_elsewhere(to, &places);
        self.accounts.extend(places.accounts);
    }

    fn is_nobody(&self) -> bool {
        self.accounts.is_empty() && self.ways.is_empty()
    }
}

/// What became of all, as the log and the owners of the mailboxes see it.
fn said(outcome: Outcome) -> Said {
    let (code, enhanced, text) = match outcome {
        Outcome::Permanent(enhanced, text) => (550, enhanced, text),
        Outcome::Transient(enhanced, text) => (451, enhanced, text),
        Outcome::Stored | Outcome::Uncertain => (451, Enhanced(3, 0), "temporary failure"),
    };
    Said::ours(code, enhanced, text)
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// Brings a message to recipients here.
    pub(super) async fn bring(&self, id: QueueId) {
        let Some((entry, envelope)) = self.read(id) else { return };
        let _held = self.hold(entry.size.into()).await;
        let refused = self.refused(&entry, &envelope).await;
        let Ok(view) = self.shared.intake.log().read(entry.blob).await else {
            let said = Said::ours(451, Enhanced(3, 0), "the message cannot be read here");
            let ends = waiting(&entry).map(|to| End::new(to, Fate::Waiting, Some(said.clone())));
            return self.attempted(id, ends.collect()).await;
        };
        // Looked up once more: to ask for room takes its time.
        let mut sorted = Sorted::default();
        let been = DeliveredTo::of(view.octets());
        for (place, refused) in refused {
            let Some(to) = envelope.recipients.get(usize::from(place)) else { continue };
            let found = match refused {
                Some(said) => Err(said),
                None => self.shared.host.find(&to.address, envelope.sender.is_none()),
            };
            let goes_round = |places: &Places| places.is_forwarded && been.has(&to.address);
            let found = found.and_then(|places| {
                if goes_round(&places) { Err(said(Outcome::LOOP)) } else { Ok(places) }
            });
            sorted.put(place, to, found);
        }
        let (utf8, marks) = (entry.flags.has(Flags::UTF8), Marks(entry.marks));
        let octets = view.octets().to_vec();
        let message = Message::new(octets, utf8, !marks.has(Marks::BINARY), self.now());
        let message = message.listed(marks.has(Marks::LISTED));
        drop(view);
        if !sorted.is_nobody() {
            match self.store(&entry, &envelope, &mut sorted, message).await {
                Outcome::Stored => {
                    self.tell(&entry, &envelope, &sorted.ends, &[("host", "here".into())]);
                    self.count(&envelope, &sorted.ends);
                    return;
                }
                // It may be there: the next start knows.
                Outcome::Uncertain => return,
                outcome => {
                    let said = said(outcome);
                    let fate = if said.is_transient() { Fate::Waiting } else { Fate::Failed };
                    let taken = sorted.ends.iter_mut().filter(|end| end.fate == Fate::Delivered);
                    taken.for_each(|end| *end = End::new(end.to, fate, Some(said.clone())));
                }
            }
        }
        self.tell(&entry, &envelope, &sorted.ends, &[("host", "here".into())]);
        self.attempted(id, sorted.ends).await;
    }

    /// The recipients that wait, and why they cannot have it now.
    async fn refused(&self, entry: &Entry, envelope: &Envelope) -> Vec<(u16, Option<Said>)> {
        let mut all = Vec::new();
        for place in waiting(entry) {
            let Some(to) = envelope.recipients.get(usize::from(place)) else { continue };
            let found = self.shared.host.find(&to.address, envelope.sender.is_none());
            // A full mailbox takes a report all the same.
            let refused = match found {
                Ok(places) if envelope.sender.is_some() => {
                    let rooms = self.shared.intake.room(&places.accounts, entry.size).await;
                    rooms.into_iter().find_map(Result::err).map(|one| said(Outcome::from(one)))
                }
                Ok(_) => None,
                Err(said) => Some(said),
            };
            all.push((place, refused));
        }
        all
    }

    /// The message, what became of its entry, and the report on it, in one group.
    async fn store(
        &self,
        entry: &Entry,
        envelope: &Envelope,
        sorted: &mut Sorted,
        message: Message,
    ) -> Outcome {
        let report = self.report_on(entry, envelope, &sorted.ends).await;
        // It may be gone, by an order, since it was read.
        if self.read(entry.id).is_none() {
            return Outcome::Uncertain;
        }
        let next = self.next_attempt(entry);
        let mut group = self.records(entry, &sorted.ends, &next);
        let mut reported = None;
        if let (Some((name, report)), Some(sender)) = (report, &envelope.sender) {
            reported = Some(name.clone());
            let octets = self.signed(report.parts.concat()).await;
            let message = Message::new(octets, report.is_utf8, true, self.now());
            self.queue_report(&mut group, entry, sender, (name, message, report.is_utf8));
        }
        let away = self.away(entry, envelope, std::mem::take(&mut sorted.ways));
        let recipients = std::mem::take(&mut sorted.accounts);
        let going = Going { recipients, away, judge: Judge::Judged };
        let outcomes = self.shared.intake.accept_with(&going, message, group).await;
        let outcome = Outcome::overall(&outcomes);
        if let Some(name) = reported.filter(|_| outcome.is_stored()) {
            self.tell_report(envelope, &name, true);
        }
        outcome
    }

    /// Puts a report into the group that it tells of, as an entry whose time has come.
    fn queue_report(
        &self,
        group: &mut Group,
        entry: &Entry,
        reader: &Address,
        (name, message, is_utf8): (String, Message, bool),
    ) {
        let away = report_here(entry, name, reader, is_utf8);
        self.shared.intake.put_beside(group, &[away], message);
    }

    /// The ways of those who are elsewhere now. To its sender it is still the message that came here: what
    /// he asked for counts from then, and what he was told he is not told again.
    fn away(&self, entry: &Entry, envelope: &Envelope, ways: Ways) -> Vec<Away> {
        let has = |flag| entry.flags.has(flag);
        let headers = has(Flags::RET_HEADERS).then_some(Ret::Headers);
        let options = MailOptions {
            ret: headers.or(has(Flags::RET_FULL).then_some(Ret::Full)),
            envid: envelope.envid.clone(),
            hold: envelope.hold,
            by: envelope.by.map(|by| By {
                seconds: i32::try_from(i64::from(by.at) - i64::from(entry.arrived)).unwrap_or(0),
                returns: by.returns,
                traces: by.traces,
            }),
            priority: (entry.priority != 0).then_some(entry.priority),
            require_tls: has(Flags::REQUIRE_TLS),
            tls_optional: has(Flags::TLS_OPTIONAL),
        };
        let before =
            Before { came: entry.arrived, warned: has(Flags::WARNED).then_some(entry.warn) };
        let message = Away {
            name: envelope.name.clone(),
            sender: envelope.sender.clone(),
            options,
            recipients: Vec::new(),
            utf8: has(Flags::UTF8),
            is_here: false,
            is_signed: has(Flags::SIGNED),
            via: None,
            before: Some(before),
        };
        ways.into_away(&message, |one| self.shared.host.passed_on(one))
    }
}
