//! Who was promised what, what became of it, and what must have: the rules of the header of this
//! directory.

use super::case::DOMAINS;
use super::places::{Places, number_in};
use super::report::{Report, is_report, number_of};
use pombal::model::time::Wall;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// When the first life begins, in seconds since 1970.
const BEGIN: u64 = 1_767_225_600;

/// Seconds since then.
pub(crate) fn seconds(wall: Wall) -> u64 {
    (wall.0 / 1_000_000).saturating_sub(BEGIN)
}

/// A mailbox: of which node, of which user.
pub(crate) type Mailbox = (usize, usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Null,
    User(Mailbox),
    /// At home, whoever that is.
    Stranger(String),
}

/// RFC 3461 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) success: bool,
    pub(crate) failure: bool,
    pub(crate) delay: bool,
}

/// Where a recipient leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Mailbox(Mailbox),
    Elsewhere(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As in the envelope.
    pub(crate) address: String,
    pub(crate) notify: Option<Notify>,
    /// It is another node of ours that brings it to its ends.
    pub(crate) is_far: bool,
    pub(crate) ends: Vec<End>,
    /// It is a list of this owner.
    pub(crate) owner: Option<Mailbox>,
    /// RCPT was answered with 250.
    pub(crate) is_taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its end was never sent.
    Unsent,
    /// Its end was sent, and no answer was heard.
    Unknown,
    Promised,
    Refused,
}

/// A message that was handed in.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) number: usize,
    /// Where it was handed in.
    pub(crate) node: usize,
    pub(crate) sender: Sender,
    pub(crate) octets: Vec<u8>,
    pub(crate) targets: Vec<Target>,
    pub(crate) fate: Fate,
    /// When its last octet went out, and when its answer was heard.
    pub(crate) sent: Wall,
    pub(crate) answered: Wall,
    /// Of the node, when it was answered.
    pub(crate) generation: u64,
    /// Seconds until it may go.
    pub(crate) hold: u64,
    /// It comes back when it is late.
    pub(crate) returns: bool,
    /// Seconds in which it has to be there, or its sender hears of that.
    pub(crate) by: Option<u64>,
    pub(crate) priority: i8,
}

impl Mail {
    /// When it may go, in seconds since the first life began.
    pub(crate) fn release(&self) -> u64 {
        seconds(self.sent) + self.hold
    }

    /// The owner of the list that leads to one of these.
    pub(crate) fn owner_of(&self, recipients: &[String]) -> Option<Mailbox> {
        let is_one = |end: &End| matches!(end, End::Elsewhere(one) if recipients.contains(one));
        let leads = |target: &&Target| target.owner.is_some() && target.ends.iter().any(is_one);
        self.targets.iter().find(leads)?.owner
    }

    /// Whether a text is what was sent; what has 8 bits is made into less for who takes no more.
    fn is_in(&self, text: &str, takes_eight: bool) -> bool {
        if takes_eight || self.octets.is_ascii() {
            return text.ends_with(&*String::from_utf8_lossy(&self.octets));
        }
        text.is_ascii()
    }
}

/// A message that another server took for one recipient.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) node: usize,
    /// In seconds since the first life began.
    pub(crate) at: u64,
    /// Of the node: how often it had come up.
    pub(crate) generation: u64,
    /// The server sent no answer, or it may have been lost on its way.
    pub(crate) is_doubtful: bool,
    /// The server takes 8 bits.
    pub(crate) takes_eight: bool,
    /// The server reports on delivery.
    pub(crate) reports: bool,
    /// The client has gone on behind the answer.
    pub(crate) is_confirmed: Cell<bool>,
}

/// See the header.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) mails: Vec<Mail>,
    /// By the message (its number, or the Message-ID of a report) and the recipient.
    deliveries: BTreeMap<(String, String), Vec<Rc<Delivery>>>,
    /// Recipients that a server refused for good.
    refused: BTreeSet<String>,
    /// Servers that refused a sender for good.
    refusing: BTreeSet<usize>,
    /// By Message-ID, and to whom they went.
    reports: BTreeMap<(String, String), Report>,
    /// What was found, and when it came there, in seconds since the first life began.
    mailboxes: BTreeMap<Mailbox, Vec<(String, u64)>>,
    pub(crate) generations: [u64; 2],
}

/// What reports say of one recipient.
#[derive(Default)]
struct Said {
    failed: Vec<(char, u64)>,
    delayed: usize,
    relayed: usize,
    expanded: usize,
    delivered: usize,
    /// In whose hands they are.
    readers: BTreeSet<String>,
    /// There is one that does not say which message it is about: that could not be read then.
    is_vague: bool,
}

impl Books {
    pub(crate) fn refused(&mut self, recipient: &str) {
        self.refused.insert(recipient.to_owned());
    }

    pub(crate) fn refused_sender(&mut self, server: usize) {
        self.refusing.insert(server);
    }

    /// A server took a message. An error tells what is wrong with that.
    pub(crate) fn took(
        &mut self,
        text: &str,
        recipient: &str,
        delivery: &Rc<Delivery>,
    ) -> Result<(), String> {
        if text.starts_with("Return-Path:") {
            return Err(format!("R5: it begins with a Return-Path: {text}"));
        }
        let key = if is_report(text) {
            let report = Report::read(text).ok_or_else(|| format!("no report: {text}"))?;
            let id = report.id.clone();
            self.reports.insert((recipient.to_owned(), id.clone()), report);
            id
        } else {
            let number = number_of(text).ok_or_else(|| format!("whose message is it: {text}"))?;
            let mail = self.mails.get(number).ok_or("a message that nobody sent")?;
            if !mail.is_in(text, delivery.takes_eight) {
                return Err(format!("R5: message {number} was changed: {text}"));
            }
            if mail.fate == Fate::Unsent || mail.fate == Fate::Refused {
                return Err(format!("R6: message {number} was {:?} and comes", mail.fate));
            }
            number.to_string()
        };
        let all = self.deliveries.entry((key, recipient.to_owned())).or_default();
        all.push(Rc::clone(delivery));
        Ok(())
    }

    /// A message was found in a mailbox at the end.
    pub(crate) fn found(&mut self, mailbox: Mailbox, octets: &[u8], came: Wall) {
        let text = String::from_utf8_lossy(octets).into_owned();
        self.mailboxes.entry(mailbox).or_default().push((text, seconds(came)));
    }

    pub(crate) fn promised(&self) -> usize {
        self.mails.iter().filter(|mail| mail.fate == Fate::Promised).count()
    }

    pub(crate) fn delivered(&self) -> usize {
        self.deliveries.values().map(Vec::len).sum()
    }

    pub(crate) fn repeated(&self) -> usize {
        self.deliveries.values().map(|all| all.len() - 1).sum()
    }

    /// Reports, and failures that they tell of.
    pub(crate) fn reported(&self) -> (usize, usize) {
        let failed =
            |report: &Report| report.told.iter().filter(|one| one.action == "failed").count();
        (self.reports.len(), self.reports.values().map(failed).sum())
    }

    /// Reads the mailboxes: reports are told from messages.
    fn sort(&mut self, is_unbroken: bool) -> Result<BTreeMap<(usize, Mailbox), usize>, String> {
        let mut copies = BTreeMap::new();
        for (&mailbox, texts) in &self.mailboxes {
            for (text, came) in texts {
                let who = format!("u{}@{}", mailbox.1, mailbox.0);
                if is_report(text) {
                    let report = Report::read(text).ok_or_else(|| format!("no report: {text}"))?;
                    let before = self.reports.insert((who.clone(), report.id.clone()), report);
                    // Who got it from another node may have got it again.
                    let is_far =
                        |one: &Report| !one.id.ends_with(&format!("{}>", DOMAINS[mailbox.0]));
                    if let Some(twice) = before.filter(|one| is_unbroken || !is_far(one)) {
                        return Err(format!("R5: {who} has the report {} twice", twice.id));
                    }
                    continue;
                }
                let number = number_of(text).ok_or_else(|| format!("whose is it: {text}"))?;
                let mail = self.mails.get(number).ok_or("a message that nobody sent")?;
                if !mail.is_in(text, true) {
                    return Err(format!("R5: message {number} was changed: {text}"));
                }
                if mail.hold > 0 && *came < mail.release() {
                    let release = mail.release();
                    return Err(format!("R9: {who} has {number} at {came}, before {release}"));
                }
                *copies.entry((number, mailbox)).or_default() += 1;
            }
        }
        Ok(copies)
    }

    /// Holds everything against the rules. `now` is when all has come to rest; `lifetimes` are the
    /// nodes', in seconds; `is_unbroken`: nothing of ours or of the network failed, nor crashed;
    /// `stumbles`: our own tasks panicked.
    pub(crate) fn settle(
        &mut self,
        places: &Places,
        lifetimes: &[u64],
        now: Wall,
        is_unbroken: bool,
        stumbles: bool,
    ) -> Result<(), String> {
        let copies = self.sort(is_unbroken)?;
        for (key, all) in &self.deliveries {
            // What came by way of another node may have come there twice.
            if is_unbroken || !self.is_far(key) {
                hold_repeats(key, all)?;
            }
        }
        for mail in &self.mails {
            let rules = Rules { books: self, places, mail, copies: &copies, is_unbroken, stumbles };
            let lifetime = lifetimes[mail.node];
            rules.hold(lifetime, seconds(now))?;
        }
        Ok(())
    }

    /// Another node of ours brought, or may have brought it there.
    fn is_far(&self, (key, address): &(String, String)) -> bool {
        let mail = key.parse().ok().and_then(|number: usize| self.mails.get(number));
        let targets = mail.into_iter().flat_map(|mail| &mail.targets);
        let leads = |target: &&Target| target.ends.contains(&End::Elsewhere(address.clone()));
        targets.filter(leads).any(|target| target.is_far)
    }

    fn said(&self, number: usize, addresses: &[&str]) -> Said {
        let mut said = Said::default();
        for ((reader, _), report) in &self.reports {
            for told in report.told.iter().filter(|one| addresses.contains(&&*one.recipient)) {
                match report.about.or_else(|| number_in(&told.recipient)) {
                    Some(about) if about == number => {}
                    Some(_) => continue,
                    None => {
                        said.is_vague = true;
                        continue;
                    }
                }
                said.readers.insert(reader.clone());
                match &*told.action {
                    "failed" => said.failed.push((told.class, report.at)),
                    "delayed" => said.delayed += 1,
                    "relayed" => said.relayed += 1,
                    "expanded" => said.expanded += 1,
                    "delivered" => said.delivered += 1,
                    _ => {}
                }
            }
        }
        said
    }
}

/// R2.
fn hold_repeats(key: &(String, String), all: &[Rc<Delivery>]) -> Result<(), String> {
    for pair in all.windows(2) {
        let [first, second] = pair else { continue };
        let went_down = first.generation != second.generation;
        let may_be = !first.is_confirmed.get() && (first.is_doubtful || went_down);
        if !may_be && first.node == second.node {
            return Err(format!("R2: {key:?} was delivered again: {first:?}, {second:?}"));
        }
    }
    Ok(())
}

/// One message held against the rules.
struct Rules<'b> {
    books: &'b Books,
    places: &'b Places,
    mail: &'b Mail,
    copies: &'b BTreeMap<(usize, Mailbox), usize>,
    is_unbroken: bool,
    stumbles: bool,
}

impl Rules<'_> {
    fn wrong(&self, rule: &str, end: &End, what: &str) -> String {
        let Mail { number, sender, fate, sent, .. } = self.mail;
        let sent = seconds(*sent);
        let about = |report: &&Report| report.about == Some(*number);
        let told = self.books.reports.values().filter(about).map(|report| &report.told);
        let told: Vec<_> = told.collect();
        format!(
            "{rule}: message {number} ({fate:?}, sent {sent}) of {sender:?} to {end:?}: {what}; \
             reports: {told:?}"
        )
    }

    fn hold(&self, lifetime: u64, now: u64) -> Result<(), String> {
        let mail = self.mail;
        let mut near: BTreeSet<Mailbox> = BTreeSet::new();
        for target in mail.targets.iter().filter(|target| target.is_taken && !target.is_far) {
            near.extend(target.ends.iter().filter_map(|end| match end {
                End::Mailbox(mailbox) => Some(*mailbox),
                End::Elsewhere(_) => None,
            }));
        }
        for target in mail.targets.iter().filter(|target| target.is_taken) {
            self.hold_expanded(target)?;
            for end in &target.ends {
                match end {
                    End::Mailbox(mailbox) if near.contains(mailbox) => {
                        self.hold_near(*mailbox, target)?;
                    }
                    _ if target.is_far => self.hold_far(target, end)?,
                    End::Mailbox(_) => {}
                    End::Elsewhere(address) => {
                        self.hold_elsewhere(target, end, address, lifetime, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn has(&self, mailbox: Mailbox) -> usize {
        self.copies.get(&(self.mail.number, mailbox)).copied().unwrap_or(0)
    }

    /// R5, R6.
    fn hold_near(&self, mailbox: Mailbox, target: &Target) -> Result<(), String> {
        let count = self.has(mailbox);
        // Its time may have been over before this server came up again, and where our own tasks panic
        // it comes back after three attempts in a row that did: mail that does not wait is never put off.
        let is_late = self.mail.hold > 0 && (self.mail.returns || self.stumbles);
        let is_told = || {
            let wants = self.wants(target, |notify| notify.failure, true);
            !wants || !self.books.said(self.mail.number, &[&target.address]).failed.is_empty()
        };
        let is_right = match self.mail.fate {
            Fate::Promised if count == 0 => is_late && is_told(),
            Fate::Promised => count == 1,
            Fate::Unknown => count <= 1,
            Fate::Refused | Fate::Unsent => count == 0,
        };
        let what = || self.wrong("R5", &End::Mailbox(mailbox), &format!("is there {count} times"));
        if is_right { Ok(()) } else { Err(what()) }
    }

    /// R4: who leads to several, some of them elsewhere, says so once to who asked for success, and nobody
    /// else does (RFC 3461 §5.2.7.3). A report may be lost where something fails.
    fn hold_expanded(&self, target: &Target) -> Result<(), String> {
        let Some(end) = target.ends.iter().find(|end| matches!(end, End::Elsewhere(_))) else {
            return Ok(());
        };
        let said = self.books.said(self.mail.number, &[&target.address]);
        let wants = self.wants(target, |notify| notify.success, false);
        // To a list it is delivered (RFC 3461 §5.2.7.1).
        let is_listed = target.owner.is_some();
        let most = usize::from(wants && (is_listed || target.ends.len() > 1));
        let is_user = matches!(self.mail.sender, Sender::User(_));
        let is_certain = self.is_unbroken && is_user && self.mail.fate == Fate::Promised;
        let least = if is_certain && !target.is_far { most } else { 0 };
        let (told, others) =
            if is_listed { (said.delivered, said.expanded) } else { (said.expanded, 0) };
        let is_right = (least..=most).contains(&told) && others == 0;
        // What another node of ours said it may have said again behind a crash.
        if is_right || said.is_vague || (target.is_far && !self.is_unbroken) {
            return Ok(());
        }
        Err(self.wrong("R4", end, &format!("{told} reports that it was passed on, not {most}")))
    }

    fn deliveries(&self, address: &str) -> &[Rc<Delivery>] {
        let key = (self.mail.number.to_string(), address.to_owned());
        self.books.deliveries.get(&key).map_or(&[], Vec::as_slice)
    }

    fn wants(&self, target: &Target, of: impl Fn(Notify) -> bool, unless_said: bool) -> bool {
        self.mail.sender != Sender::Null && target.notify.map_or(unless_said, of)
    }

    /// What another node of ours was to bring home: it is there, or somebody was told.
    fn hold_far(&self, target: &Target, end: &End) -> Result<(), String> {
        let (count, address) = match end {
            End::Mailbox(mailbox) => (self.has(*mailbox), None),
            End::Elsewhere(address) => (self.deliveries(address).len(), Some(&**address)),
        };
        let addresses: Vec<&str> = address.into_iter().chain([&*target.address]).collect();
        let said = self.books.said(self.mail.number, &addresses);
        let wants = self.wants(target, |notify| notify.failure, true);
        let is_told = !said.failed.is_empty() || said.is_vague;
        if self.mail.fate == Fate::Promised && wants && count == 0 && !is_told {
            return Err(self.wrong("R1", end, "is lost"));
        }
        let is_twice = count > 1 || said.failed.len() > 1 || (count > 0 && !said.failed.is_empty());
        let is_shared = target.ends.len() > 1 || self.mail.targets.len() > 1;
        if self.is_unbroken && !is_shared && is_twice && self.mail.fate == Fate::Promised {
            let what = format!("came {count} times, failed {:?}", said.failed);
            return Err(self.wrong("R3", end, &what));
        }
        Ok(())
    }

    /// Whether anybody refused it for good.
    fn is_refused(&self, address: &str) -> bool {
        let mail = self.mail;
        let Some(domain) = self.places.domain_of(address) else { return true };
        domain.is_nowhere
            || mail.returns
            || self.books.refused.contains(address)
            || domain.servers.iter().any(|server| self.books.refusing.contains(server))
    }

    /// Whether the node may not have heard that it was taken.
    fn is_doubtful(&self, one: &Delivery) -> bool {
        let went_down = one.generation != self.books.generations[one.node];
        !one.is_confirmed.get() && (one.is_doubtful || went_down)
    }

    /// R1, R3, R4 for who is reached by a list: whatever its sender wanted, the owner hears what became of
    /// it, and nobody else does, unless the sender is the null one.
    fn hold_listed(
        &self,
        target: &Target,
        end: &End,
        address: &str,
        expires: u64,
        now: u64,
    ) -> Result<(), String> {
        let mail = self.mail;
        let wrong = |rule: &str, what: &str| Err(self.wrong(rule, end, what));
        let taken = self.deliveries(address);
        let said = self.books.said(mail.number, &[address]);
        let owner = target.owner.map(|(node, user)| format!("u{user}@{node}"));
        if mail.sender == Sender::Null && !said.readers.is_empty() {
            return wrong("R4", &format!("{:?} hear of it", said.readers));
        }
        if said.readers.iter().any(|reader| Some(reader) != owner.as_ref()) {
            return wrong("R4", &format!("{:?} hear of it, not {owner:?}", said.readers));
        }
        if said.relayed + said.expanded + said.delivered > 0 || said.delayed > 1 {
            return wrong("R4", "more is told than the owner wants to hear");
        }
        // What waited here may have come back to its sender instead.
        let waited = mail.hold > 0 && mail.returns;
        match said.failed.first() {
            Some(('4', at)) if *at < expires => {
                wrong("R3", &format!("expired at {at}, before {expires}"))
            }
            Some(('5', _)) if !self.is_refused(address) => {
                wrong("R3", "failed, and nobody refused it")
            }
            Some(_) if !taken.iter().all(|one| self.is_doubtful(one)) => {
                wrong("R3", &format!("failed, and was delivered: {taken:?}"))
            }
            None if !taken.is_empty() || mail.fate == Fate::Unknown => Ok(()),
            None if said.is_vague || waited => Ok(()),
            None if mail.sender != Sender::Null => wrong("R1", "is lost"),
            None if !self.is_refused(address) && now < expires => {
                wrong("R1", "is lost, and nobody refused it")
            }
            _ => Ok(()),
        }
    }

    fn hold_elsewhere(
        &self,
        target: &Target,
        end: &End,
        address: &str,
        lifetime: u64,
        now: u64,
    ) -> Result<(), String> {
        let mail = self.mail;
        let taken = self.deliveries(address);
        // What waited here for somebody behind an alias may have failed before it was for anybody else.
        let is_held = mail.hold > 0 && target.ends.iter().any(|end| matches!(end, End::Mailbox(_)));
        let here = is_held.then_some(&*target.address);
        let addresses: Vec<&str> = std::iter::once(address).chain(here).collect();
        let said = self.books.said(mail.number, &addresses);
        let wrong = |rule: &str, what: &str| Err(self.wrong(rule, end, what));
        if matches!(mail.fate, Fate::Refused | Fate::Unsent) {
            let is_there = !taken.is_empty() || !said.failed.is_empty();
            return if is_there { wrong("R6", "is there") } else { Ok(()) };
        }
        if said.failed.len() > 1 {
            return wrong("R3", &format!("failed {:?}", said.failed));
        }
        if target.owner.is_some() {
            return self.hold_listed(target, end, address, mail.release() + lifetime, now);
        }
        let wants_failure = self.wants(target, |notify| notify.failure, true);
        let expires = mail.release() + lifetime;
        match said.failed.first() {
            Some(_) if !wants_failure => return wrong("R3", "nobody wanted to hear of it"),
            Some(('4', at)) if *at < expires => {
                return wrong("R3", &format!("expired at {at}, before {expires}"));
            }
            Some(('5', _)) if !self.is_refused(address) => {
                return wrong("R3", "failed, and nobody refused it");
            }
            Some(_) if !taken.iter().all(|one| self.is_doubtful(one)) => {
                return wrong("R3", &format!("failed, and was delivered: {taken:?}"));
            }
            None if !taken.is_empty() || mail.fate == Fate::Unknown => {}
            None if said.is_vague => {}
            None if wants_failure => return wrong("R1", "is lost"),
            None if !self.is_refused(address) && now < expires => {
                return wrong("R1", "is lost, and nobody refused it");
            }
            _ => {}
        }
        let wants_delay = self.wants(target, |notify| notify.delay, true);
        // One when it takes long, one when the time is over that it was given.
        let delays = 1 + usize::from(mail.by.is_some());
        if said.delayed > usize::from(wants_delay) * delays {
            return wrong("R4", &format!("{} reports of its delay", said.delayed));
        }
        let is_relayed = said.failed.is_empty() && taken.last().is_some_and(|last| !last.reports);
        let wants_success = self.wants(target, |notify| notify.success, false);
        // What leads to several is told of by itself.
        let is_one = target.ends.len() == 1;
        let relayed = usize::from(is_relayed && wants_success && is_one);
        // Its answer was not heard, and then its time was over: nobody wanted to hear of that.
        let may_have_failed = !wants_failure && taken.iter().all(|one| self.is_doubtful(one));
        // RFC 2852 §4.1.4.2: these servers heed no time. In time for sure, in time perhaps, too late. Who
        // wants to hear of success alone hears it of an alias that leads to several, and nothing of those
        // (RFC 3461 §5.2.7.3 c).
        let is_wanted =
            |notify: Notify| notify.failure || notify.delay || (notify.success && is_one);
        let is_taken = said.failed.is_empty() && !taken.is_empty();
        let passed = usize::from(is_taken && self.wants(target, is_wanted, true));
        let is_in_time = |by: u64| {
            self.is_unbroken && taken.iter().all(|one| one.at + 20 < seconds(mail.sent) + by)
        };
        let is_as_told = match mail.by {
            None => said.relayed == relayed,
            Some(by) if is_in_time(by) => said.relayed == passed,
            Some(_) => said.relayed == relayed || said.relayed == passed,
        };
        let is_right = is_as_told || said.is_vague || (may_have_failed && said.relayed == 0);
        if !is_right {
            return wrong("R4", &format!("{} reports that it was relayed", said.relayed));
        }
        Ok(())
    }
}
