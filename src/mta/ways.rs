//! The ways that a message takes out of this server: its sender's own, those of aliases, those of lists,
//! and the one that waits here first. Each is queued by itself, with the sender that it has there.
//!
//! ```text
//!   sent by its sender there     his sender       what he asked for is passed on
//!   an alias led there           his, or one of ours that stands for him (SRS)
//!                                                 the same; success of several is told here
//!   a list led there             its owner        nothing is passed on (RFC 3461 §5.2.7.1)
//! ```
//! The null sender stays null on each: nobody reports on a report.
//!
//! What an address of ours leads out has that address put in front as Delivered-To, and is not led out by it
//! again (RFC 9228 §4): such a message goes round in a circle of servers. Each address has its own way, so
//! that nobody sees by which other one somebody else got it (RFC 9228 §6).

use super::away::{Away, Before};
use super::message::Places;
use crate::model::address::Address;
use crate::queue::outgoing::To;
use crate::wire::smtp::param::Notify;

/// By what a message goes on.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Sent,
    /// This address of ours led there, which may be a list of this owner.
    Forwarded {
        via: Address,
        owner: Option<Address>,
    },
    /// To recipients here, when its time has come.
    Here,
}

impl Kind {
    fn is_listed(&self) -> bool {
        matches!(self, Kind::Forwarded { owner: Some(_), .. })
    }
}

/// See the header.
#[derive(Debug, Default)]
pub struct Ways(Vec<(Kind, Vec<To>)>);

impl Ways {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A recipient here who gets the message later.
    pub fn put_here(&mut self, to: To) {
        self.put(Kind::Here, to);
    }

    /// A recipient whose address leads to `places`: those of them that are elsewhere.
    pub fn put_elsewhere(&mut self, to: &To, places: &Places) {
        let is_told_here = places.is_shared_elsewhere();
        let (mut owners, orcpt) = (places.owners.iter(), &to.orcpt);
        let passed = |wanted: Notify| Notify { success: wanted.success && !is_told_here, ..wanted };
        for address in &places.elsewhere {
            let address = address.clone();
            let owner = owners.next().cloned().flatten();
            let to_one = match owner {
                Some(_) => To { address, notify: None, orcpt: None },
                None => To { address, notify: to.notify.map(passed), orcpt: orcpt.clone() },
            };
            let forwarded = || Kind::Forwarded { via: to.address.clone(), owner };
            let kind = if places.is_forwarded { forwarded() } else { Kind::Sent };
            self.put(kind, to_one);
        }
    }

    fn put(&mut self, kind: Kind, to: To) {
        // Two addresses of ours may lead to one mailbox, which has the message once: by an alias rather than by
        // a list, since its sender hears of it then.
        if matches!(kind, Kind::Forwarded { .. }) {
            let is_same = |one: &To| one.address == to.address;
            if !kind.is_listed() {
                for (_, all) in self.0.iter_mut().filter(|(other, _)| other.is_listed()) {
                    all.retain(|one| !is_same(one));
                }
                self.0.retain(|(_, all)| !all.is_empty());
            }
            let mut forwarded =
                self.0.iter().filter(|(other, _)| matches!(other, Kind::Forwarded { .. }));
            if forwarded.any(|(_, all)| all.iter().any(is_same)) {
                return;
            }
        }
        let place = self.0.iter().position(|(other, _)| *other == kind);
        let place = place.unwrap_or_else(|| {
            self.0.push((kind, Vec::new()));
            self.0.len() - 1
        });
        let (_, all) = &mut self.0[place];
        if !all.iter().any(|other| other.address == to.address) {
            all.push(to);
        }
    }

    /// The message for each of them: as `message`, which has no recipients yet, but for what is another's
    /// on this way. `passed_on` says who stands for a sender whose mail is forwarded.
    pub fn into_away(self, message: &Away, passed_on: impl Fn(&Address) -> Address) -> Vec<Away> {
        let ways = self.0.into_iter();
        ways.map(|(kind, recipients)| {
            let mut away = Away { recipients, ..message.clone() };
            match kind {
                Kind::Here => away.is_here = true,
                Kind::Sent => {}
                Kind::Forwarded { via, owner } => {
                    let sender = message.sender.as_ref();
                    away.sender = sender.map(|sender| passed_on(owner.as_ref().unwrap_or(sender)));
                    away.via = Some(via);
                    if owner.is_some() {
                        away.options.forget_reports();
                        // Nobody has told the owner of it.
                        away.before = message.before.map(|one| Before { warned: None, ..one });
                    }
                }
            }
            away
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Quota;
    use crate::model::id::{AccountId, LogId};
    use crate::mta::message::Rcpt;
    use crate::mta::options::MailOptions;
    use crate::wire::smtp::later::By;
    use crate::wire::smtp::param::Ret;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    fn address(text: &str) -> Address {
        let (local, domain) = text.split_once('@').unwrap();
        Address::from_parts(local, domain)
    }

    const ALL: Option<Notify> = Some(Notify { success: true, failure: true, delay: true });

    /// One recipient with all that can be asked for, who leads to these (an owner behind a colon).
    fn places(elsewhere: &[&str], accounts: usize, is_forwarded: bool) -> Places {
        let split = elsewhere.iter().map(|text| text.split_once(':').unwrap_or((text, "")));
        let owner = |text: &str| (!text.is_empty()).then(|| address(text));
        let account = Rcpt { log: LogId(0), account: AccountId(1), quota: Quota::NONE };
        Places {
            accounts: vec![account; accounts],
            elsewhere: split.clone().map(|(text, _)| address(text)).collect(),
            owners: split.map(|(_, text)| owner(text)).collect(),
            is_forwarded,
            list: None,
        }
    }

    #[track_caller]
    fn check(sender: Option<&str>, all: &[Places], want: &Expect) {
        let mut ways = Ways::default();
        for (number, places) in all.iter().enumerate() {
            let to = To {
                address: address(&format!("r{number}@here.example")),
                notify: ALL,
                orcpt: Some("rfc822;o".into()),
            };
            ways.put_elsewhere(&to, places);
            if places.elsewhere.is_empty() {
                ways.put_here(to);
            }
        }
        let message = Away {
            name: "1.0.1".into(),
            sender: sender.map(address),
            options: MailOptions {
                ret: Some(Ret::Full),
                envid: Some("e".into()),
                by: Some(By { seconds: 9, returns: true, traces: true }),
                require_tls: true,
                ..MailOptions::default()
            },
            recipients: Vec::new(),
            utf8: false,
            is_here: false,
            is_signed: false,
            via: None,
            before: Some(Before { came: 5, warned: Some(7) }),
        };
        let mut text = String::new();
        for away in ways.into_away(&message, |one| address(&format!("srs-{one}"))) {
            let sender = away.sender.map(|sender| sender.to_string()).unwrap_or_default();
            let MailOptions { ret, envid, by, require_tls, .. } = away.options;
            let has = [ret.is_some(), envid.is_some(), by.is_some(), require_tls];
            let warned = away.before.and_then(|before| before.warned);
            let via = away.via.map(|via| via.to_string()).unwrap_or_default();
            writeln!(text, "<{sender}> {has:?} by <{via}> here {} {warned:?}", away.is_here)
                .unwrap();
            for to in &away.recipients {
                let success = to.notify.map(|notify| notify.success);
                writeln!(text, "  {} {success:?} {:?}", to.address, to.orcpt).unwrap();
            }
        }
        want.assert_eq(&text);
    }

    #[test]
    fn each_way_has_its_own_sender() {
        let all = [
            places(&["x@a.example"], 0, false),
            places(&["y@a.example"], 0, true),
            places(&["y@a.example", "z@b.example"], 1, true),
            places(
                &["l@a.example:own@o.example", "m@b.example:own@o.example", "n@c.example"],
                0,
                true,
            ),
            places(&[], 1, false),
        ];
        check(
            Some("s@s.example"),
            &all,
            &expect![[r#"
                <s@s.example> [true, true, true, true] by <> here false Some(7)
                  x@a.example Some(true) Some("rfc822;o")
                <srs-s@s.example> [true, true, true, true] by <r1@here.example> here false Some(7)
                  y@a.example Some(true) Some("rfc822;o")
                <srs-s@s.example> [true, true, true, true] by <r2@here.example> here false Some(7)
                  z@b.example Some(false) Some("rfc822;o")
                <srs-own@o.example> [false, false, false, true] by <r3@here.example> here false None
                  l@a.example None None
                  m@b.example None None
                <srs-s@s.example> [true, true, true, true] by <r3@here.example> here false Some(7)
                  n@c.example Some(false) Some("rfc822;o")
                <s@s.example> [true, true, true, true] by <> here true Some(7)
                  r4@here.example Some(true) Some("rfc822;o")
            "#]],
        );
        check(
            None,
            &all[3..4],
            &expect![[r#"
                <> [false, false, false, true] by <r0@here.example> here false None
                  l@a.example None None
                  m@b.example None None
                <> [true, true, true, true] by <r0@here.example> here false Some(7)
                  n@c.example Some(false) Some("rfc822;o")
            "#]],
        );
    }

    /// Whichever of them is named first, the message is the sender's own, and he hears of it.
    #[test]
    fn an_alias_goes_before_a_list() {
        let list = places(&["x@a.example:own@o.example", "y@a.example:own@o.example"], 0, true);
        let alias = places(&["x@a.example"], 0, true);
        check(
            Some("s@s.example"),
            &[list.clone(), alias.clone()],
            &expect![[r#"
                <srs-own@o.example> [false, false, false, true] by <r0@here.example> here false None
                  y@a.example None None
                <srs-s@s.example> [true, true, true, true] by <r1@here.example> here false Some(7)
                  x@a.example Some(true) Some("rfc822;o")
            "#]],
        );
        check(
            Some("s@s.example"),
            &[alias.clone(), list],
            &expect![[r#"
                <srs-s@s.example> [true, true, true, true] by <r0@here.example> here false Some(7)
                  x@a.example Some(true) Some("rfc822;o")
                <srs-own@o.example> [false, false, false, true] by <r1@here.example> here false None
                  y@a.example None None
            "#]],
        );
        let list = places(&["x@a.example:own@o.example"], 0, true);
        check(
            Some("s@s.example"),
            &[list, alias],
            &expect![[r#"
                <srs-s@s.example> [true, true, true, true] by <r1@here.example> here false Some(7)
                  x@a.example Some(true) Some("rfc822;o")
            "#]],
        );
    }
}
