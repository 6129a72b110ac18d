//! Recipients elsewhere: what of a message goes into the outgoing queue, and until when it may stay.

use super::options::MailOptions;
use crate::mailbox::deliver::Facts;
use crate::model::address::Address;
use crate::model::limits::QUEUE_ENTRY_RECIPIENTS_MAX;
use crate::queue::outgoing::record::{Add, put_add};
use crate::queue::outgoing::{Deadline, Envelope, Flags, Outgoing, To};
use crate::queue::retry::{Retries, Retry};
use crate::store::Group;
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::param::Ret;
use std::time::Duration;

/// A message's way to other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    /// The message's name, as it stands in Received and in the logs.
    pub name: Box<str>,
    /// None is the null sender.
    pub sender: Option<Address>,
    pub options: MailOptions,
    /// At least one.
    pub recipients: Vec<To>,
    /// It came by SMTPUTF8.
    pub utf8: bool,
    /// The recipients are here: they get it when its time has come (RFC 4865).
    pub is_here: bool,
    /// It has signatures of this server.
    pub is_signed: bool,
    /// The address of ours that led it there: Delivered-To.
    pub via: Option<Address>,
    /// None: it comes now.
    pub before: Option<Before>,
}

/// What became of a message while it waited for somebody here who is elsewhere now: its sender goes on to
/// hear of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// When it came, in seconds since 1970: what its sender asked for counts from there.
    pub came: u32,
    /// He was told that it takes long, and is told again then; `u32::MAX`: never.
    pub warned: Option<u32>,
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

impl Away {
    /// When it came.
    fn came(&self, now: u32) -> u32 {
        self.before.map_or(now, |before| before.came)
    }

    /// When it may go: now, or when its sender wants it to (RFC 4865 §4.2).
    fn release(&self, now: u32) -> u32 {
        // What comes from there has waited.
        match self.options.hold.filter(|_| self.before.is_none()) {
            None => now,
            Some(Hold::For(pause)) => now.saturating_add(pause),
            Some(Hold::Until(at)) => u32::try_from(at).unwrap_or(u32::MAX).max(now),
        }
    }

    fn deadline(&self, now: u32) -> Option<Deadline> {
        let by = self.options.by?;
        let at = self.came(now).saturating_add_signed(by.seconds);
        Some(Deadline { at, returns: by.returns, traces: by.traces })
    }

    /// When its sender is told that it takes long, as far as these recipients go.
    fn warn(&self, recipients: &[To], release: u32, by: Option<Deadline>, retry: &Retry) -> u32 {
        // None of its recipients' senders wants to hear of it, or there is none (RFC 3461 §5.2.5).
        let wanted = |to: &To| to.notify.is_none_or(|notify| notify.delay);
        if self.sender.is_none() || !recipients.iter().any(wanted) {
            return u32::MAX;
        }
        if let Some(again) = self.before.and_then(|before| before.warned) {
            return again;
        }
        let usual = retry.warn_after.map_or(u32::MAX, |time| release.saturating_add(seconds(time)));
        // RFC 2852 §4.1.3: in mode N its sender hears when it is late.
        by.filter(|by| !by.returns).map_or(usual, |by| usual.min(by.at))
    }

    /// Until when it is tried.
    fn expires(&self, release: u32, by: Option<Deadline>, retry: &Retry) -> u32 {
        let lifetime = if self.sender.is_some() { retry.lifetime } else { retry.report_lifetime };
        let expires = release.saturating_add(seconds(lifetime));
        by.filter(|by| by.returns).map_or(expires, |by| expires.min(by.at))
    }

    fn flags(&self, release: u32, now: u32) -> Flags {
        Flags::default()
            .set(Flags::RET_FULL, self.options.ret == Some(Ret::Full))
            .set(Flags::RET_HEADERS, self.options.ret == Some(Ret::Headers))
            .set(Flags::REQUIRE_TLS, self.options.require_tls)
            .set(Flags::TLS_OPTIONAL, self.options.tls_optional)
            .set(Flags::RELEASED_LATER, release > now)
            .set(Flags::WARNED, self.before.is_some_and(|before| before.warned.is_some()))
            .set(Flags::UTF8, self.utf8)
            .set(Flags::HERE, self.is_here)
            .set(Flags::SIGNED, self.is_signed)
    }

    /// Adds the entries to `group`, which brings the blob too, or comes behind it.
    pub(super) fn plan(
        &self,
        outgoing: &mut Outgoing,
        group: &mut Group,
        facts: &Facts,
        retries: &Retries,
    ) {
        let now = facts.save_date;
        let release = self.release(now);
        let by = self.deadline(now);
        let mut rest: Vec<&To> = self.recipients.iter().collect();
        while let Some(first) = rest.first() {
            let domain = first.address.domain();
            let retry = retries.of(domain);
            let is_same = |to: &&To| to.address.domain() == domain;
            let (same, others): (Vec<&To>, Vec<&To>) = rest.iter().copied().partition(is_same);
            for some in same.chunks(QUEUE_ENTRY_RECIPIENTS_MAX) {
                let recipients: Vec<To> = some.iter().map(|&to| to.clone()).collect();
                let add = Add {
                    queue: outgoing.assign(),
                    blob: facts.blob,
                    size: facts.size,
                    arrived: self.came(now),
                    due: release,
                    warn: self.warn(&recipients, release, by, retry),
                    expires: self.expires(release, by, retry),
                    flags: self.flags(release, now),
                    priority: self.options.priority.unwrap_or(0),
                    marks: facts.marks.0,
                    domain: domain.into(),
                    envelope: Envelope {
                        name: self.name.clone(),
                        sender: self.sender.clone(),
                        envid: self.options.envid.clone(),
                        by,
                        hold: self.options.hold,
                        via: self.via.clone(),
                        recipients,
                    },
                };
                put_add(group, &add);
            }
            rest = others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Marks;
    use crate::model::id::BlobId;
    use crate::wire::smtp::later::By;
    use crate::wire::smtp::param::Notify;

    const NOW: u32 = 1_000_000;

    fn to(text: &str) -> To {
        let (local, domain) = text.split_once('@').unwrap();
        To { address: Address::from_parts(local, domain), notify: None, orcpt: None }
    }

    /// By these schedules: recipients, and when they are due, told of and given up.
    fn planned_by(retries: &Retries, away: &Away) -> Vec<(usize, u32, u32, u32)> {
        let (mut outgoing, mut group) = (Outgoing::new(), Group::new());
        let facts = Facts {
            blob: BlobId(1),
            size: 1,
            marks: Marks::default(),
            internal_date: NOW,
            save_date: NOW,
        };
        away.plan(&mut outgoing, &mut group, &facts, retries);
        outgoing.take(&group);
        let mut entries: Vec<_> = outgoing.entries().collect();
        entries.sort_by_key(|entry| entry.id);
        let shown = entries.iter().map(|entry| {
            let since = |at: u32| if at == u32::MAX { at } else { at - NOW };
            (entry.fates().len(), since(entry.due), since(entry.warn), since(entry.expires))
        });
        shown.collect()
    }

    fn planned(away: &Away) -> Vec<(usize, u32, u32, u32)> {
        planned_by(&Retries::default(), away)
    }

    fn away(sender: Option<&str>, recipients: &[&str]) -> Away {
        Away {
            name: "1.0.1".into(),
            sender: sender.map(|local| Address::from_parts(local, "s.example")),
            options: MailOptions::default(),
            recipients: recipients.iter().map(|text| to(text)).collect(),
            utf8: false,
            is_here: false,
            is_signed: false,
            via: None,
            before: None,
        }
    }

    const DAY: u32 = 86_400;

    #[test]
    fn makes_an_entry_for_each_domain() {
        let many = ["a@x.example", "b@y.example", "c@x.example", "d@[192.0.2.1]"];
        let usual = |count| (count, 0, DAY / 6, 5 * DAY);
        assert_eq!(planned(&away(Some("s"), &many)), [usual(2), usual(1), usual(1)]);
        // A report is tried for a shorter time, and nobody hears that it takes long.
        assert_eq!(planned(&away(None, &many[..1])), [(1, 0, u32::MAX, DAY)]);
    }

    #[test]
    fn stays_as_long_as_its_route_says() {
        let own = Retry {
            lifetime: Duration::from_hours(1),
            report_lifetime: Duration::from_mins(10),
            warn_after: None,
            ..Retry::default()
        };
        let routes = vec![("y.example".into(), Some(std::rc::Rc::new(own)))];
        let retries = Retries { routes, ..Retries::default() };
        let many = ["a@x.example", "b@y.example"];
        let usual = (1, 0, DAY / 6, 5 * DAY);
        let sent = planned_by(&retries, &away(Some("s"), &many));
        assert_eq!(sent, [usual, (1, 0, u32::MAX, 3_600)]);
        assert_eq!(planned_by(&retries, &away(None, &many[1..])), [(1, 0, u32::MAX, 600)]);
    }

    #[test]
    fn waits_until_its_sender_wants_it_to_go() {
        let mut held = away(Some("s"), &["a@x.example"]);
        held.options.hold = Some(Hold::For(500));
        assert_eq!(planned(&held), [(1, 500, DAY / 6 + 500, 5 * DAY + 500)]);
        held.options.hold = Some(Hold::Until(u64::from(NOW) - 5));
        assert_eq!(planned(&held), [(1, 0, DAY / 6, 5 * DAY)]);
    }

    #[test]
    fn goes_on_as_what_it_was_here() {
        let mut gone = away(Some("s"), &["a@x.example"]);
        gone.options.hold = Some(Hold::For(500));
        gone.options.by = Some(By { seconds: 1_000, returns: false, traces: false });
        gone.before = Some(Before { came: NOW - 600, warned: None });
        // In its turn at once, with all the time that others have, and late when it was to be.
        assert_eq!(planned(&gone), [(1, 0, 400, 5 * DAY)]);
        gone.before = Some(Before { came: NOW - 600, warned: Some(NOW + 300) });
        assert_eq!(planned(&gone), [(1, 0, 300, 5 * DAY)]);
        gone.before = Some(Before { came: NOW - 600, warned: Some(u32::MAX) });
        assert_eq!(planned(&gone), [(1, 0, u32::MAX, 5 * DAY)]);
    }

    #[test]
    fn is_there_in_time_or_comes_back_or_is_told_of() {
        let mut late = away(Some("s"), &["a@x.example"]);
        late.options.by = Some(By { seconds: 60, returns: true, traces: false });
        assert_eq!(planned(&late), [(1, 0, DAY / 6, 60)]);
        late.options.by = Some(By { seconds: 60, returns: false, traces: false });
        assert_eq!(planned(&late), [(1, 0, 60, 5 * DAY)]);
        late.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
        assert_eq!(planned(&late), [(1, 0, u32::MAX, 5 * DAY)]);
    }
}
