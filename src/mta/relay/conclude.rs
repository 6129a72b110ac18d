//! What an attempt came to becomes durable, with the report that its sender gets.

use super::{Planted, Relay};
use crate::env::Env;
use crate::mailbox::{Judge, Message};
use crate::model::address::Address;
use crate::model::limits::{QUEUE_RECORD_PAUSE_MAX, QUEUE_RECORD_PAUSE_MIN};
use crate::model::reply::Enhanced;
use crate::mta::away::Away;
use crate::mta::message::{Envelope as Going, Outcome, Places};
use crate::mta::options::MailOptions;
use crate::mta::peers::Peers;
use crate::mta::report::{self, Report, Reported, addressees, header_of, returns_all};
use crate::probe::event::{Level, Value, event};
use crate::queue::outgoing::record::{Tried, put_done, put_tried};
use crate::queue::outgoing::{Entry, Envelope, Fate, Flags, QueueId, Said, To};
use crate::store::{BlobView, Group};
use crate::wire::message::fields::header_len;
use crate::wire::smtp::param::Ret;

/// What became of one recipient in an attempt.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// Its place in the envelope.
    pub to: u16,
    /// [`Fate::Waiting`]: it is to be tried again.
    pub fate: Fate,
    pub said: Option<Said>,
    /// What its sender hears where that is more than the fate says.
    pub told: Option<report::Fate>,
}

impl End {
    pub(super) fn new(to: u16, fate: Fate, said: Option<Said>) -> End {
        End { to, fate, said, told: None }
    }

    /// A server has the message for this recipient.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.fate, Fate::Delivered | Fate::Relayed)
    }
}

/// How an entry goes on.
pub(super) struct Next {
    pub due: u32,
    pub warn: u32,
    pub flags: Flags,
    pub attempts: u16,
}

/// A recipient that a report tells of.
struct Told<'a> {
    to: &'a To,
    fate: report::Fate,
    said: Option<&'a Said>,
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// An attempt has ended: says so in the log, and to its sender where he wants to hear of it. Comes
    /// back when that is durable, or the entry is gone.
    pub(super) async fn attempted(&self, id: QueueId, ends: Vec<End>) {
        let Some((entry, _)) = self.read(id) else { return };
        let next = self.next_attempt(&entry);
        self.conclude(id, ends, next).await;
    }

    /// How an entry goes on behind an attempt.
    pub(super) fn next_attempt(&self, entry: &Entry) -> Next {
        let attempts = entry.attempts.saturating_add(1);
        let domain = self.shared.intake.outgoing().borrow().domain(entry.destination).cloned();
        let settings = self.shared.host.settings();
        let retry = settings.retries.of(domain.as_deref().unwrap_or_default());
        let pause = retry.pause(attempts, self.env().random());
        let pause = u32::try_from(pause.as_secs()).unwrap_or(u32::MAX).max(1);
        let due = self.now().saturating_add(pause);
        Next { due, warn: entry.warn, flags: entry.flags, attempts }
    }

    /// Makes durable what an attempt that goes on has come to for some recipients.
    pub(super) async fn note(&self, id: QueueId, ends: &[End]) {
        let Some((entry, _)) = self.read(id).filter(|_| !ends.is_empty()) else { return };
        let Entry { due, warn, flags, attempts, .. } = entry;
        self.conclude(id, ends.to_vec(), Next { due, warn, flags, attempts }).await;
    }

    /// The time of an entry is over: whoever did not get it never will.
    pub(super) async fn expire(&self, id: QueueId) {
        let Some((entry, envelope)) = self.read(id) else { return };
        // A report reads the message.
        let _held = self.hold(entry.size.into()).await;
        let is_late = envelope.by.is_some_and(|by| by.returns && entry.expires >= by.at);
        let last = |said: Option<&Said>| match said {
            // RFC 2852 §4.1.3.
            _ if is_late => Some(Said::ours(
                550,
                Enhanced(4, 7),
                "not delivered in the time that was asked for",
            )),
            Some(said) => Some(said.clone()),
            None => Some(Said::ours(450, Enhanced(4, 7), "not delivered in time")),
        };
        let fate = if is_late { Fate::Failed } else { Fate::Expired };
        let ends: Vec<End> = (0..)
            .zip(entry.fates())
            .filter(|(_, (one, _))| *one == Fate::Waiting)
            .map(|(to, (_, said))| End::new(to, fate, last(said)))
            .collect();
        let Entry { due, warn, flags, attempts, .. } = entry;
        self.conclude(id, ends, Next { due, warn, flags, attempts }).await;
    }

    /// Tells a sender that it takes long (RFC 3461 §5.2.5), once.
    pub(super) async fn warn(&self, id: QueueId) {
        let Some((entry, envelope)) = self.read(id) else { return };
        // A report reads the message.
        let _held = self.hold(entry.size.into()).await;
        let Entry { due, flags, attempts, expires, .. } = entry;
        let flags = flags.with(Flags::WARNED);
        // RFC 2852 §4.1.3: in mode N its sender hears when its time is over, whatever he heard before.
        let by = envelope.by.filter(|by| !by.returns).map(|by| by.at);
        let is_late = by.is_some_and(|by| by <= self.now());
        let warn = by.filter(|_| !is_late).unwrap_or(u32::MAX);
        let next = Next { due, warn, flags, attempts };
        let fate = report::Fate::Delayed { until: expires };
        let late: Vec<Option<Said>> = entry.fates().map(|(_, said)| late(is_late, said)).collect();
        let told: Vec<Told<'_>> = envelope
            .recipients
            .iter()
            .zip(entry.fates().zip(&late))
            .filter(|(_, ((fate, _), _))| *fate == Fate::Waiting)
            .map(|(to, (_, said))| Told { to, fate, said: said.as_ref() })
            .collect();
        let mut group = Group::new();
        put_tried(&mut group, &self.tried(&entry, &next, &[]));
        self.commit(&entry, &envelope, &told, group).await;
    }

    /// The entry and what it is about, as they stand now.
    pub(super) fn read(&self, id: QueueId) -> Option<(Entry, Envelope)> {
        let outgoing = self.shared.intake.outgoing().borrow();
        let entry = outgoing.get(id)?;
        Some((entry.clone(), outgoing.envelope(entry)))
    }

    fn tried(&self, entry: &Entry, next: &Next, ends: &[End]) -> Tried {
        Tried {
            queue: entry.id,
            at: self.now(),
            due: next.due,
            warn: next.warn,
            flags: next.flags,
            attempts: next.attempts,
            standings: ends.iter().map(|end| (end.to, end.fate, end.said.clone())).collect(),
        }
    }

    /// Makes the ends of some recipients durable, and reports on them.
    pub(super) async fn conclude(&self, id: QueueId, ends: Vec<End>, next: Next) {
        let Some((entry, envelope)) = self.read(id) else { return };
        let group = self.records(&entry, &ends, &next);
        self.count(&envelope, &ends);
        let told = told(&envelope, &ends);
        self.commit(&entry, &envelope, &told, group).await;
    }

    /// What the log is told of some ends.
    pub(super) fn records(&self, entry: &Entry, ends: &[End], next: &Next) -> Group {
        let waits = |(place, (fate, _)): (u16, (Fate, Option<&Said>))| {
            let end = ends.iter().find(|end| end.to == place);
            end.map_or(fate, |end| end.fate) == Fate::Waiting
        };
        let is_over = !(0..).zip(entry.fates()).any(waits);
        let mut group = Group::new();
        if is_over {
            put_done(&mut group, entry.id, entry.blob);
        } else {
            put_tried(&mut group, &self.tried(entry, next, ends));
        }
        group
    }

    /// The report on some ends, and its name, if their sender wants one.
    pub(super) async fn report_on(
        &self,
        entry: &Entry,
        envelope: &Envelope,
        ends: &[End],
    ) -> Option<(String, report::Composed)> {
        let told = told(envelope, ends);
        let told = addressees(envelope.sender.as_ref(), &told, |one| (one.to.notify, one.fate));
        if told.is_empty() {
            return None;
        }
        Some(self.compose(entry, envelope, &told).await)
    }

    pub(super) fn count(&self, envelope: &Envelope, ends: &[End]) {
        let figures = &self.shared.counts.all;
        for end in ends {
            // A report that comes back.
            if envelope.sender.is_none() && matches!(end.fate, Fate::Failed | Fate::Expired) {
                figures.reports_lost.one();
            }
            match end.fate {
                Fate::Waiting => figures.deferred.one(),
                Fate::Delivered | Fate::Relayed => figures.delivered.one(),
                Fate::Failed => figures.failed.one(),
                Fate::Expired => figures.expired.one(),
                Fate::Removed => {}
            }
        }
    }

    /// Appends `group`, and with it the report on those of `told` whose sender wants to hear of them.
    /// Goes on until the log takes it: what was done is not forgotten while the server runs.
    async fn commit(&self, entry: &Entry, envelope: &Envelope, told: &[Told<'_>], group: Group) {
        let sender = envelope.sender.as_ref();
        let told = addressees(sender, told, |one| (one.to.notify, one.fate));
        let is_forgotten = self.has_planted(Planted::ForgetReport);
        let report = match sender {
            Some(sender) if !told.is_empty() && !is_forgotten => {
                let report = self.compose(entry, envelope, &told).await;
                let places = match self.shared.host.find(sender, true) {
                    Ok(places) => Some(places),
                    // Where that is cannot be told now: it waits as mail of its own.
                    Err(said) if said.is_transient() => Some(Places::default()),
                    Err(_) => None,
                };
                self.tell_report(envelope, &report.0, places.is_some());
                match places {
                    Some(places) => Some(self.address(entry, sender, places, report).await),
                    None => None,
                }
            }
            _ => None,
        };
        let mut pause = QUEUE_RECORD_PAUSE_MIN;
        loop {
            let again = copy(&group);
            let is_done = match &report {
                Some((going, message)) if self.has_planted(Planted::TornReport) => {
                    drop(self.shared.intake.accept(going, message.clone()).await);
                    self.shared.intake.log().append(again).await.is_ok()
                }
                Some((going, message)) => {
                    let taken = self.shared.intake.accept_with(going, message.clone(), again).await;
                    match Outcome::overall(&taken) {
                        Outcome::Stored => true,
                        // Its reader has gone meanwhile: nobody hears of it.
                        Outcome::Permanent(..) => {
                            self.shared.counts.all.reports_lost.one();
                            let alone = copy(&group);
                            self.shared.intake.log().append(alone).await.is_ok()
                        }
                        Outcome::Transient(..) | Outcome::Uncertain => false,
                    }
                }
                None => self.shared.intake.log().append(again).await.is_ok(),
            };
            if is_done {
                return;
            }
            // An operator may have removed it meanwhile.
            if self.read(entry.id).is_none() {
                return;
            }
            self.env().sleep(pause).await;
            pause = (pause * 2).min(QUEUE_RECORD_PAUSE_MAX);
        }
    }

    /// A report with its signatures.
    pub(super) async fn signed(&self, octets: Vec<u8>) -> Vec<u8> {
        let settings = self.shared.host.settings();
        self.signed_for(|| octets.clone(), &settings.hello).await
    }

    /// A message with the signatures of `domain`. Who signs is soon done with what he has: what he did not
    /// take is made once more, rather than kept beside.
    pub(super) async fn signed_for(&self, make: impl Fn() -> Vec<u8>, domain: &str) -> Vec<u8> {
        let mut pause = QUEUE_RECORD_PAUSE_MIN;
        loop {
            if let Some(signed) = self.shared.host.sign(make(), domain).await {
                return signed;
            }
            self.env().sleep(pause).await;
            pause = (pause * 2).min(QUEUE_RECORD_PAUSE_MAX);
        }
    }

    /// Where it goes: to these places; where there are none, to whoever `reader` will be found to be.
    async fn address(
        &self,
        entry: &Entry,
        reader: &Address,
        places: Places,
        (name, composed): (String, report::Composed),
    ) -> (Going, Message) {
        let report::Composed { parts, is_utf8, .. } = composed;
        let octets = self.signed(parts.concat()).await;
        let message = Message::new(octets, is_utf8, true, self.now());
        let Places { accounts, elsewhere, .. } = places;
        let away = if accounts.is_empty() && elsewhere.is_empty() {
            Some(report_here(entry, name, reader, is_utf8))
        } else if elsewhere.is_empty() {
            None
        } else {
            Some(report_away(entry, name, elsewhere, is_utf8))
        };
        let away = away.into_iter().collect();
        // It is judged: a full mailbox takes the report all the same.
        (Going { recipients: accounts, away, judge: Judge::Judged }, message)
    }

    /// The report, and its name.
    async fn compose(
        &self,
        entry: &Entry,
        envelope: &Envelope,
        told: &[&Told<'_>],
    ) -> (String, report::Composed) {
        let ret = if entry.flags.has(Flags::RET_HEADERS) {
            Some(Ret::Headers)
        } else {
            entry.flags.has(Flags::RET_FULL).then_some(Ret::Full)
        };
        let require_tls = entry.flags.has(Flags::REQUIRE_TLS);
        let fates = told.iter().map(|one| one.fate);
        let is_whole = returns_all(ret, require_tls, entry.size.into(), fates);
        // A message that cannot be read comes back without its header.
        let view = if self.shared.attempts.doubts(entry.id) {
            None
        } else {
            self.shared.intake.log().read(entry.blob).await.ok()
        };
        let octets = view.as_ref().map_or(&[][..], BlobView::octets);
        // Of the attempt that just ended alone: when one was that lies back is not known.
        let attempted = |one: &Told<'_>| {
            let is_later = matches!(one.fate, report::Fate::Expired | report::Fate::Delayed { .. });
            let is_asked = one.said.is_some_and(|words| words.host.is_some());
            (is_asked && !is_later).then(|| self.now())
        };
        let said = |said: &Said| (said.code, said.enhanced());
        let recipients: Vec<Reported<'_>> = told
            .iter()
            .map(|one| Reported {
                address: &one.to.address,
                orcpt: one.to.orcpt.as_deref(),
                fate: one.fate,
                said: one.said.map(|words| {
                    let (code, enhanced) = said(words);
                    report::Said { code, enhanced, text: &words.text }
                }),
                remote: one.said.and_then(|words| words.host.as_deref()),
                attempted: attempted(one),
            })
            .collect();
        let name = self.shared.host.name_message();
        let body = octets.get(header_len(octets)..).filter(|_| is_whole && view.is_some());
        let report = Report {
            sender: envelope.sender.as_ref().expect("the null sender hears of nothing"),
            envid: envelope.envid.as_deref(),
            ret,
            require_tls,
            arrived: entry.arrived,
            by: envelope.by.map(|by| by.at),
            hold: envelope.hold,
            id: &envelope.name,
            recipients: &recipients,
            header: header_of(octets),
            body,
        };
        let settings = self.shared.host.settings();
        let composed = report.compose(&settings.hello, &name, self.now());
        (name, composed)
    }

    pub(super) fn tell_report(&self, envelope: &Envelope, name: &str, is_told: bool) {
        let figures = &self.shared.counts.all;
        let figure = if is_told { &figures.reports } else { &figures.reports_lost };
        figure.one();
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let fields = [
            ("id", name.into()),
            ("recipient", sender.as_str().into()),
            ("about", (&*envelope.name).into()),
            ("outcome", (if is_told { "stored" } else { "lost" }).into()),
        ];
        let level = if is_told { Level::Info } else { Level::Warn };
        event(level, "report", &fields);
    }

    /// The log event of an attempt for one entry.
    pub(super) fn tell(
        &self,
        entry: &Entry,
        envelope: &Envelope,
        ends: &[End],
        more: &[(&'static str, Value<'_>)],
    ) {
        if !crate::probe::event::enabled(Level::Info) {
            return;
        }
        let sender = envelope.sender.as_ref().map(ToString::to_string).unwrap_or_default();
        let queue = self.name(entry.id).to_string();
        for end in ends {
            let Some(to) = envelope.recipients.get(usize::from(end.to)) else { continue };
            let recipient = to.address.to_string();
            let said = end.said.as_ref().map(ToString::to_string).unwrap_or_default();
            let outcome = if end.fate == Fate::Waiting { "deferred" } else { end.fate.name() };
            let mut fields = vec![
                ("id", (&*envelope.name).into()),
                ("queue", queue.as_str().into()),
                ("sender", sender.as_str().into()),
                ("recipient", recipient.as_str().into()),
                ("outcome", outcome.into()),
                ("said", said.as_str().into()),
                ("attempt", u64::from(entry.attempts.saturating_add(1)).into()),
                ("age", u64::from(self.now().saturating_sub(entry.arrived)).into()),
            ];
            fields.extend_from_slice(more);
            event(Level::Info, "attempt", &fields);
        }
    }
}

/// The places of the recipients that are still to be tried.
pub(super) fn waiting(entry: &Entry) -> impl Iterator<Item = u16> {
    let waits = |(_, (fate, _)): &(u16, (Fate, Option<&Said>))| *fate == Fate::Waiting;
    (0..).zip(entry.fates()).filter(waits).map(|(to, _)| to)
}

/// Those of some ends that a sender may want to hear of.
fn told<'a>(envelope: &'a Envelope, ends: &'a [End]) -> Vec<Told<'a>> {
    let told = ends.iter().filter_map(|end| {
        let fate = match end.fate {
            _ if end.told.is_some() => end.told?,
            Fate::Failed => report::Fate::Failed,
            Fate::Expired => report::Fate::Expired,
            Fate::Relayed => report::Fate::Relayed,
            Fate::Waiting | Fate::Delivered | Fate::Removed => return None,
        };
        let to = envelope.recipients.get(usize::from(end.to))?;
        Some(Told { to, fate, said: end.said.as_ref() })
    });
    told.collect()
}

/// What is told of a recipient that waits: what was said last, or that its time is over.
fn late(is_late: bool, said: Option<&Said>) -> Option<Said> {
    if !is_late {
        return said.cloned();
    }
    let text = "not delivered in the time that was asked for";
    let text = said.map_or_else(|| text.into(), |said| format!("{text}: {said}"));
    Some(Said::ours(450, Enhanced(4, 7), &text))
}

/// A report on its way to others.
fn report_away(entry: &Entry, name: String, readers: Vec<Address>, utf8: bool) -> Away {
    let to = |address| To { address, notify: None, orcpt: None };
    Away {
        name: name.into(),
        sender: None,
        options: MailOptions {
            // RFC 6710 §4.6: a report is as urgent as what it is about.
            priority: (entry.priority != 0).then_some(entry.priority),
            require_tls: entry.flags.has(Flags::REQUIRE_TLS),
            ..MailOptions::default()
        },
        recipients: readers.into_iter().map(to).collect(),
        utf8,
        is_here: false,
        is_signed: true,
        via: None,
        before: None,
    }
}

/// A report whose reader is looked up when its turn comes.
pub(super) fn report_here(entry: &Entry, name: String, reader: &Address, utf8: bool) -> Away {
    Away { is_here: true, ..report_away(entry, name, vec![reader.clone()], utf8) }
}

/// A group of records alone, once more.
fn copy(group: &Group) -> Group {
    Group { records: group.records.clone(), blobs: Vec::new() }
}
