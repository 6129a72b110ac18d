//! One message over a connection: its transactions, what is made of the verdicts, and where else it is
//! tried if this server cannot take it.
//!
//! ```text
//!   transact ─┬─ taken, refused, later ─────────────────────────────────────────> attempted
//!             └─ unfit: what the message is this server does not take
//!                  └─> the other hosts of the plan, best first ─┬─ one takes it ──┘
//!                                                               ├─ one cannot be asked: later
//!                                                               └─ all were asked: it has failed
//! ```

use super::anew::room_anew;
use super::conclude::{End, waiting};
use super::line::{Line, deferred, name_of, words};
use super::worker::{Job, Shift};
use super::{Planted, Relay};
use crate::env::Env;
use crate::model::limits::{QUEUE_CROWDED_PAUSE, QUEUE_TRANSACTIONS_MAX};
use crate::model::reply::Enhanced;
use crate::mta::peers::Peers;
use crate::mta::report;
use crate::mta::route::Hop;
use crate::mta::session::Body;
use crate::mta::tls_policy::Wanted;
use crate::probe::event::Value;
use crate::proto::smtp::client::{Kind, Mail, Rcpt, Trouble, Verdict};
use crate::queue::outgoing::{Entry, Envelope, Fate, Flags, Said};
use crate::wire::message::nature::Nature;
use crate::wire::smtp::later::By;
use crate::wire::smtp::offers::Keywords;
use crate::wire::smtp::param::{MailParams, RcptParams, Ret};
use crate::wire::trace::{put_delivered_to, return_path_len};
use std::rc::Rc;
use std::time::Duration;

/// What one server made of it.
struct Outcome {
    /// What is durable already.
    noted: Vec<End>,
    ends: Vec<End>,
    /// Recipients to whom the server cannot take it for what it is, and its words or ours for that.
    unfit: Vec<(u16, Said)>,
    trouble: Option<Trouble>,
}

/// The same end for all that wait.
pub(super) fn all(entry: &Entry, fate: Fate, said: &Said) -> Vec<End> {
    waiting(entry).map(|to| End::new(to, fate, Some(said.clone()))).collect()
}

/// Whether two hops lead to one server: a host's addresses are its own, all of them (RFC 5321 §5.1).
fn is_same(one: &Hop, other: &Hop) -> bool {
    match (&one.host, &other.host) {
        (Some(one), Some(other)) => one == other,
        _ => one.address == other.address,
    }
}

/// Those for whom it is unfit: `fate`, with these words or with what they were told.
fn settled(unfit: Vec<(u16, Said)>, fate: Fate, said: Option<&Said>) -> Vec<End> {
    let end = |(to, own): (u16, Said)| End::new(to, fate, Some(said.cloned().unwrap_or(own)));
    unfit.into_iter().map(end).collect()
}

impl<E: Env, P: Peers> Relay<E, P> {
    /// One message to all of its recipients that wait. The connection, if it can take another one.
    pub(super) async fn deliver(
        &self,
        shift: &Shift,
        mut line: Line<E>,
        job: Job<'_>,
    ) -> Option<Line<E>> {
        let Job { entry, .. } = job;
        self.stumble();
        if self.has_planted(Planted::RecordEarly) {
            let said = Said::ours(250, Enhanced(0, 0), "OK");
            self.attempted(entry.id, all(entry, Fate::Delivered, &said)).await;
        }
        let begun = self.env().now();
        let Outcome { mut ends, unfit, trouble, .. } =
            self.try_at(shift, &mut line, job, waiting(entry).collect()).await;
        line.sent += 1;
        let others = shift.plan.hops.iter().any(|hop| !is_same(hop, &line.hop));
        let goes_on = trouble.is_none() && line.session.is_open();
        let mut left = Some(line);
        if !unfit.is_empty() {
            let unfit = match left.take_if(|_| others) {
                Some(line) => {
                    self.note_taken(job, &mut ends).await;
                    self.try_elsewhere(shift, line, job, unfit).await
                }
                None => settled(unfit, Fate::Failed, None),
            };
            if let Some(line) = &left {
                let took = self.env().now().since(begun);
                self.tell_outcome(shift, line, job, &unfit, took);
            }
            ends.extend(unfit);
        }
        self.attempted(entry.id, ends).await;
        self.stumble();
        if let Some(line) = left.take_if(|_| !goes_on) {
            line.session.quit().await;
        }
        left
    }

    /// One message at one server; what it made of it is told, to the log and of the site.
    async fn try_at(
        &self,
        shift: &Shift,
        line: &mut Line<E>,
        job: Job<'_>,
        to: Vec<u16>,
    ) -> Outcome {
        let begun = self.env().now();
        let requires_tls = self.requires_tls(shift, line, job).await;
        let outcome = self.transact(shift, line, job, (to, requires_tls)).await;
        let all = [&*outcome.noted, &*outcome.ends].concat();
        self.judge(shift, job.entry, &all, outcome.trouble.as_ref());
        self.tell_outcome(shift, line, job, &all, self.env().now().since(begun));
        outcome
    }

    /// What follows may take its time, and who has the message must not get it again: that is made
    /// durable, and taken out of `ends`.
    async fn note_taken(&self, job: Job<'_>, ends: &mut Vec<End>) -> Vec<End> {
        let taken: Vec<End> = ends.extract_if(.., |end| end.is_taken()).collect();
        self.note(job.entry.id, &taken).await;
        taken
    }

    fn tell_outcome(
        &self,
        shift: &Shift,
        line: &Line<E>,
        job: Job<'_>,
        ends: &[End],
        took: Duration,
    ) {
        let (host, address) = (name_of(&line.hop), line.hop.address);
        let more = [
            ("domain", (&*shift.domain).into()),
            ("host", host.as_str().into()),
            ("address", Value::Shown(&address)),
            ("tls", line.session.facts().map_or("none", |facts| facts.version()).into()),
            ("took", took.into()),
        ];
        self.tell(job.entry, job.envelope, ends, &more);
    }

    /// What a server cannot take for what it is goes to another one of the plan (RFC 6531 §3.5; the
    /// same for what RFC 1870, RFC 3030, RFC 6152 and RFC 8689 leave to the server). How it ends: where
    /// one of them cannot be asked, it is tried again.
    ///
    /// The connection that was there is closed: it has the site's only place for this worker.
    async fn try_elsewhere(
        &self,
        shift: &Shift,
        line: Line<E>,
        job: Job<'_>,
        mut unfit: Vec<(u16, Said)>,
    ) -> Vec<End> {
        let Line { session, hop, .. } = line;
        session.quit().await;
        let Job { entry, envelope, wanted, .. } = job;
        let errand = self.errand(shift, job).await;
        let mut asked = vec![&hop];
        let mut missed: Vec<(&Hop, Said)> = Vec::new();
        let mut ends = Vec::new();
        for hop in &shift.plan.hops {
            if unfit.is_empty() {
                break;
            }
            if asked.iter().any(|one| is_same(one, hop)) {
                continue;
            }
            match self.call(shift, &errand, hop).await {
                Ok(mut line) => {
                    asked.push(hop);
                    let to = unfit.iter().map(|(to, _)| *to).collect();
                    let outcome = self.try_at(shift, &mut line, job, to).await;
                    line.session.quit().await;
                    unfit.retain(|(to, _)| outcome.unfit.iter().any(|(other, _)| other == to));
                    ends.extend(outcome.ends);
                    if !unfit.is_empty() {
                        self.note_taken(job, &mut ends).await;
                    }
                }
                // RFC 8689 §4.2.1: it cannot take what requires TLS.
                Err(uncalled) if wanted.require_tls && uncalled.is_distrust => asked.push(hop),
                Err(uncalled) => missed.push((hop, deferred(uncalled.said))),
            }
        }
        // Another address of the same host may have been reached.
        let is_missed = |(hop, _): &&(&Hop, Said)| !asked.iter().any(|one| is_same(one, hop));
        let rest = match missed.iter().find(is_missed) {
            Some((_, said)) => settled(unfit, Fate::Waiting, Some(said)),
            None => settled(unfit, Fate::Failed, None),
        };
        self.tell(entry, envelope, &rest, &[("domain", (&*shift.domain).into())]);
        ends.extend(rest);
        ends
    }

    /// Transactions until every recipient of `left` has had its turn.
    async fn transact(
        &self,
        shift: &Shift,
        line: &mut Line<E>,
        job: Job<'_>,
        (mut left, require_tls): (Vec<u16>, bool),
    ) -> Outcome {
        let Job { entry, envelope, end, .. } = job;
        let mut front = Vec::new();
        if let Some(via) = &envelope.via {
            put_delivered_to(via, &mut front);
        }
        let (mut noted, mut ends) = (Vec::new(), Vec::new());
        let mut unfit: Vec<(u16, Said)> = Vec::new();
        let mut trouble: Option<Trouble> = None;
        let host = name_of(&line.hop);
        for _ in 0..QUEUE_TRANSACTIONS_MAX {
            let recipients: Vec<Rcpt<'_>> = left
                .iter()
                .map(|&to| &envelope.recipients[usize::from(to)])
                .map(|to| Rcpt {
                    address: &to.address,
                    params: RcptParams { notify: to.notify, orcpt: to.orcpt.as_deref() },
                })
                .collect();
            let body = match self.load(shift, line, job, &front).await {
                Ok(body) => body,
                Err(said) => {
                    let waits = |to| End::new(to, Fate::Waiting, Some(said.clone()));
                    ends.extend(left.drain(..).map(waits));
                    break;
                }
            };
            let params = MailParams { require_tls, ..self.params(entry, envelope, body.nature) };
            let mail = Mail { sender: envelope.sender.as_ref(), params, recipients: &recipients };
            let delivery = line.session.deliver(&mail, body, end).await;
            let offers = line.session.offers();
            let reports = offers.has(Keywords::DSN);
            let heeds_time = offers.has(Keywords::DELIVER_BY);
            // RFC 2852 §4.1.4, §4.1.4.2.
            let is_timed = params
                .by
                .is_some_and(|by| by.traces || (!by.returns && !heeds_time && by.seconds > 0));
            let mut again = Vec::new();
            for (&to, verdict) in left.iter().zip(delivery.verdicts) {
                let (fate, said) = match verdict {
                    Verdict::Delivered(said) => {
                        (if reports { Fate::Delivered } else { Fate::Relayed }, said)
                    }
                    Verdict::Deferred(said) => (Fate::Waiting, said),
                    Verdict::Failed(said) => (Fate::Failed, said),
                    Verdict::Unfit(said) => {
                        unfit.push((to, words(Some(&host), &said)));
                        continue;
                    }
                    Verdict::Again => {
                        again.push(to);
                        continue;
                    }
                };
                let is_passed = is_timed && matches!(fate, Fate::Delivered | Fate::Relayed);
                let told = is_passed.then_some(report::Fate::Passed);
                ends.push(End { to, fate, said: Some(words(Some(&host), &said)), told });
            }
            left = again;
            trouble = delivery.trouble;
            if left.is_empty() || trouble.is_some() {
                break;
            }
            noted.extend(self.note_taken(job, &mut ends).await);
        }
        // Who was one too many again and again is tried anew.
        let rest = Said::ours(452, Enhanced(5, 3), "too many recipients for one attempt");
        ends.extend(left.into_iter().map(|to| End::new(to, Fate::Waiting, Some(rest.clone()))));
        Outcome { noted, ends, unfit, trouble }
    }

    /// The message as the server of `line` takes it, behind `front`. It has its room here until it is out,
    /// and is read once more for whoever is to get it then.
    async fn load<'f>(
        &self,
        shift: &Shift,
        line: &Line<E>,
        job: Job<'_>,
        front: &'f [u8],
    ) -> Result<Body<'f>, Said> {
        let Job { entry, end, .. } = job;
        let room = u64::from(entry.size) + room_anew(line, entry);
        let ours = |text| Said::ours(451, Enhanced(3, 0), text);
        let held = self.hold_until(&shift.plan.site, room, end).await;
        let held = held.ok_or_else(|| ours("there was no room for the message here"))?;
        let view = self.shared.intake.log().read(entry.blob).await;
        let view = view.map_err(|_| ours("the message cannot be read here"))?;
        let (owner, mut range) = view.message();
        range.start += return_path_len(view.octets());
        let nature = Nature::of(&owner[range.clone()]);
        let body = Body { front, owner: Rc::clone(owner), range, nature };
        let body = self.signed_anew(line, entry, &body).await.unwrap_or(body);
        Ok(Body { owner: held.of(body.owner), ..body })
    }

    /// What a delivery tells of the site.
    fn judge(&self, shift: &Shift, entry: &Entry, ends: &[End], trouble: Option<&Trouble>) {
        shift.class.count(ends);
        if ends.iter().any(End::is_taken) {
            self.shared.sites.delivered(&shift.permit, &shift.allowed);
        }
        let Some(trouble) = trouble else { return };
        // Where the entry's own time was over the server is not to blame.
        if trouble.kind == Kind::TimedOut && self.now() >= entry.expires {
            return;
        }
        let now = self.env().wall();
        if trouble.kind == Kind::Closing || !ends.iter().any(End::is_taken) {
            let (sites, pause) = (&self.shared.sites, QUEUE_CROWDED_PAUSE);
            let until = sites.crowded(&shift.permit, &shift.allowed, pause, now);
            self.rest(&shift.domain, self.until(until));
        }
    }

    fn params<'m>(&self, entry: &Entry, envelope: &'m Envelope, nature: Nature) -> MailParams<'m> {
        let flags = entry.flags;
        let ret = if flags.has(Flags::RET_HEADERS) {
            Some(Ret::Headers)
        } else {
            flags.has(Flags::RET_FULL).then_some(Ret::Full)
        };
        let by = envelope.by.map(|by| {
            let seconds = i64::from(by.at) - i64::from(self.now());
            let seconds = i32::try_from(seconds.clamp(-999_999_999, 999_999_999)).unwrap_or(0);
            By { seconds, returns: by.returns, traces: by.traces }
        });
        MailParams {
            utf8: entry.flags.has(Flags::UTF8) && nature.has(Nature::EIGHT_BIT_HEADER),
            ret,
            envid: envelope.envid.as_deref(),
            by,
            // RFC 6710 §4.2: 0, which is the usual one, is told too.
            priority: Some(entry.priority),
            ..MailParams::default()
        }
    }

    /// Whether a server is told that TLS is required. A report on such a message goes its way in any
    /// case (RFC 8689 §5), and says so only where the connection is what its sender wanted (§2).
    async fn requires_tls(&self, shift: &Shift, line: &Line<E>, job: Job<'_>) -> bool {
        let Job { entry, envelope, wanted, .. } = job;
        if !entry.flags.has(Flags::REQUIRE_TLS) {
            return false;
        }
        let wanted = Wanted { require_tls: true, ..wanted };
        envelope.sender.is_some() || self.does(shift, line, wanted).await
    }
}
