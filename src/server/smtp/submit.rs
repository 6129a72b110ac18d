//! The sessions of users who logged in: their questions, their messages, and reports on these.

use super::{Asking, Driver, Places, Transaction};
use crate::bytes::chain::Chain;
use crate::env::Env;
use crate::mailbox::{Judge, Message};
use crate::model::address::Address;
use crate::model::id::AccountId;
use crate::mta::report::{Composed, Fate, Report, Reported, header_of};
use crate::mta::{Away, Envelope, MailOptions, Outcome};
use crate::probe::event::{Level, Value, event};
use crate::proto::sasl::{self, Move};
use crate::proto::smtp::Verdict;
use crate::queue::outgoing::To;
use crate::server::allowance::Exceeded;
use crate::server::login::{self, Door, Login};
use crate::server::places;
use crate::server::secure::version;
use crate::server::submission::{self, Submitter};
use crate::wire::message::submitted::{Additions, Submitted};
use crate::wire::smtp::later::Hold;
use crate::wire::smtp::reply::Reply;

/// A recipient of whom he wants to hear.
struct Heard {
    /// Its place among those that were accepted.
    place: usize,
    address: Address,
    orcpt: Option<Box<str>>,
    fate: Fate,
}

/// What a sender wants to hear of a message once it is stored.
pub(super) struct Wanted {
    id: Box<str>,
    sender: Address,
    envid: Option<Box<str>>,
    recipients: Vec<Heard>,
    header: Box<[u8]>,
    arrived: u32,
    priority: Option<i8>,
    require_tls: bool,
    by: Option<u32>,
    hold: Option<Hold>,
}

impl Wanted {
    /// Leaves those who did not get it to their own replies. Whether anybody did of whom he wants to
    /// hear: there is a verdict for each that was accepted (LMTP), or one for all.
    pub(super) fn keep(&mut self, verdicts: &[Outcome]) -> bool {
        let verdict = |one: &Heard| match verdicts {
            [of_all] => Some(of_all),
            each => each.get(one.place),
        };
        self.recipients.retain(|one| verdict(one).is_some_and(|verdict| verdict.is_stored()));
        !self.recipients.is_empty()
    }

    fn compose(&self, host: &str, name: &str, at: u32) -> Composed {
        let reported = self.recipients.iter().map(|one| Reported {
            address: &one.address,
            orcpt: one.orcpt.as_deref(),
            fate: one.fate,
            said: None,
            remote: None,
            attempted: Some(at),
        });
        let recipients: Vec<Reported<'_>> = reported.collect();
        let report = Report {
            sender: &self.sender,
            envid: self.envid.as_deref(),
            ret: None,
            require_tls: self.require_tls,
            arrived: self.arrived,
            by: self.by,
            hold: self.hold,
            id: &self.id,
            recipients: &recipients,
            header: &self.header,
            body: None,
        };
        report.compose(host, name, at)
    }
}

impl<E: Env> Driver<E> {
    /// Takes a client's move of an exchange, and waits for what comes out of it.
    pub(super) async fn authenticate(&mut self, said: Move) {
        if self.turns_away() {
            return;
        }
        let door = Door {
            protocol: "smtp",
            peer: self.peer,
            channel: self.session.channel().clone(),
            offered: self.session.mechanisms(),
        };
        let mut out = Chain::new();
        match self.shard.hear(&door, &mut self.attempt, said).await {
            login::Heard::Challenge(octets) => {
                let is_refused = self.attempt.as_ref().is_some_and(|open| open.is_refused());
                self.session.challenge(&octets, is_refused, &mut out);
            }
            login::Heard::Done(Ok(login)) => {
                self.shard.figures.smtp_logins.one();
                let peer = self.peer;
                let fields = [
                    ("protocol", "smtp".into()),
                    ("peer", Value::Shown(&peer)),
                    ("user", (&*login.user).into()),
                    ("method", login.method.into()),
                    ("tls", version(self.tls.as_ref()).into()),
                ];
                event(Level::Info, "login", &fields);
                self.login = Some(Box::new(login));
                self.guest.is_user = true;
                self.session.authenticated(sasl::Outcome::Accepted, &mut out);
            }
            login::Heard::Done(Err(outcome)) => {
                self.shard.figures.smtp_logins_failed.one();
                self.session.authenticated(outcome, &mut out);
            }
        }
        self.put(out);
    }

    /// Who was switched off or removed since he logged in sends nothing more, but for the message that is
    /// on its way.
    pub(super) fn turn_out_ended(&mut self) {
        let Some(login) = self.login.as_ref().filter(|_| !self.session.is_in_message()) else {
            return;
        };
        if let Some(ended) = self.shard.ended(&login.standing) {
            self.transaction = None;
            self.session.turn_out(ended.words(), &mut self.ready);
        }
    }

    /// Whether the client may use this sender; the null one is anybody's (RFC 6409 §3.2).
    pub(super) fn may_send_from(&self, sender: Option<&Address>) -> Result<(), Reply<'static>> {
        let (Some(account), Some(sender)) = (self.account(), sender) else {
            return Ok(());
        };
        if self.as_submitter(account, |submitter| submitter.may_send_from(sender)) {
            return Ok(());
        }
        self.tell_refused(account, "sender", Some(sender));
        Err(submission::NOT_YOUR_SENDER)
    }

    /// The question that comes before a user's message.
    pub(super) fn ask_allowance(&self, login: &Login) -> Asking {
        let accepted = self.transaction.as_ref().map_or(0, |open| open.accepted.len());
        let recipients = u32::try_from(accepted).unwrap_or(u32::MAX);
        Asking::Allowance(submission::allow(&self.shard, (login.log, login.account), recipients))
    }

    /// Begins a message if its sender may send one more.
    pub(super) async fn hear_allowance(&mut self, allowing: submission::Allowing) {
        let allowed = self.in_time(allowing).await.unwrap_or(Err(Exceeded::Unasked));
        let Err(exceeded) = allowed else {
            let verdict = self.open_draft();
            return self.begin(verdict);
        };
        if let Some(account) = self.account() {
            let sender = self.transaction.as_ref().and_then(|open| open.sender.as_ref());
            self.tell_refused(account, exceeded.name(), sender);
        }
        self.begin(Verdict::Refuse(submission::to_reply(exceeded)));
    }

    /// Holds a user's message to what it may say, and adds what it lacks. Comes back with the domain in
    /// whose name it is to be signed; an error: it is refused.
    pub(super) fn complete(
        &self,
        message: &mut Vec<u8>,
        sender: Option<&Address>,
        id: &str,
    ) -> Result<Option<Box<str>>, Outcome> {
        let Some(account) = self.account() else { return Ok(None) };
        let header = Submitted::of(message);
        let has_keys = !self.shard.signing.keys.borrow().is_empty();
        let judge = |submitter: &Submitter<'_>| {
            let says_sender = submitter.judge(&header, sender.is_some())?;
            Ok((says_sender, has_keys.then(|| submitter.signs_for(&header, sender)).flatten()))
        };
        let (says_sender, domain) = match self.as_submitter(account, judge) {
            Ok(judged) => judged,
            Err(refused) => {
                self.tell_refused(account, "from", sender);
                return Err(refused);
            }
        };
        let id = format!("{id}@{}", self.settings.hostname);
        let at = self.shard.env.wall().seconds();
        let sender = sender.filter(|_| says_sender);
        header.complete(message, &Additions { at, id: &id, sender });
        Ok(domain.filter(|domain| self.shard.signs(domain)))
    }

    /// What its sender wants to hear when this message is delivered, if anything; nothing of those at
    /// `rounds`, to whom it is not.
    pub(super) fn report_of(
        &self,
        message: &[u8],
        transaction: &Transaction,
        rounds: &[usize],
        id: &str,
    ) -> Option<Box<Wanted>> {
        // Of what is held the queue tells.
        if transaction.is_held {
            return None;
        }
        let mut wanted = transaction.accepted.iter().enumerate().filter_map(|(place, one)| {
            let fate = match &one.places {
                _ if rounds.contains(&place) => return None,
                places if places.elsewhere.is_empty() || places.list.is_some() => Fate::Delivered,
                places if places.is_shared_elsewhere() => Fate::Expanded,
                // Who reports on it is told by the queue, or does it himself.
                _ => return None,
            };
            let (address, orcpt) = (one.address.clone(), one.options.orcpt.clone());
            fate.is_wanted(one.options.notify).then_some(Heard { place, address, orcpt, fate })
        });
        let first = wanted.next()?;
        let (options, arrived) = (&transaction.options, self.shard.env.wall().seconds());
        Some(Box::new(Wanted {
            id: id.into(),
            sender: transaction.sender.clone()?,
            envid: options.envid.clone(),
            recipients: std::iter::once(first).chain(wanted).collect(),
            header: header_of(message).into(),
            arrived,
            priority: options.priority,
            require_tls: options.require_tls,
            by: options.by.map(|by| arrived.saturating_add_signed(by.seconds)),
            hold: options.hold,
        }))
    }

    /// Puts a report into its reader's mailbox. It is there before the client is answered: who asks
    /// again after a crash, asks for another one too.
    pub(super) async fn report(&self, wanted: &Wanted) {
        let sender = &wanted.sender;
        let name = self.shard.name_message();
        let at = self.shard.env.wall().seconds();
        let report = wanted.compose(&self.settings.hostname, &name, at);
        let parts = (sender.local(), sender.domain());
        // It may go wherever its reader is.
        let outcomes = match places::find(&self.shard, sender, parts, true) {
            Ok((_, Places { accounts: recipients, elsewhere, .. })) => {
                let signing = self.shard.sign(report.parts.concat(), &self.settings.hostname);
                let to = |address| To { address, notify: None, orcpt: None };
                let Wanted { priority, require_tls, .. } = *wanted;
                let away = (!elsewhere.is_empty()).then(|| Away {
                    name: name.as_str().into(),
                    sender: None,
                    options: MailOptions { priority, require_tls, ..MailOptions::default() },
                    recipients: elsewhere.into_iter().map(to).collect(),
                    utf8: report.is_utf8,
                    is_here: false,
                    is_signed: true,
                    via: None,
                    before: None,
                });
                let away = away.into_iter().collect();
                let envelope = Envelope { recipients, away, judge: Judge::Each };
                let storing = async {
                    let Ok(octets) = signing.await else { return vec![Outcome::CROWDED] };
                    let message = Message::new(octets, report.is_utf8, true, at);
                    self.shard.intake.accept(&envelope, message).await
                };
                // The message itself is stored, and its sender waits to hear so.
                self.in_time(storing).await
            }
            Err(_) => Some(Vec::new()),
        };
        let (level, outcome) = match outcomes.map(|outcomes| Outcome::overall(&outcomes)) {
            Some(Outcome::Stored) => (Level::Info, "stored"),
            Some(_) => (Level::Warn, "lost"),
            None => (Level::Warn, "late"),
        };
        let fields = [
            ("id", name.as_str().into()),
            ("recipient", Value::Shown(sender)),
            ("outcome", outcome.into()),
        ];
        event(level, "report", &fields);
    }

    fn as_submitter<T>(&self, account: AccountId, ask: impl FnOnce(&Submitter<'_>) -> T) -> T {
        let settings = self.shard.settings();
        let snapshot = self.shard.directory();
        ask(&Submitter {
            account,
            snapshot: &snapshot,
            names: &settings.directory,
            settings: &settings.submission,
        })
    }

    fn tell_refused(&self, account: AccountId, why: &str, sender: Option<&Address>) {
        self.shard.figures.submissions_refused.one();
        let sender = sender.map(ToString::to_string).unwrap_or_default();
        let fields = [
            ("account", account.0.into()),
            ("peer", Value::Shown(&self.peer)),
            ("sender", sender.as_str().into()),
            ("why", why.into()),
        ];
        event(Level::Warn, "submission_refused", &fields);
    }
}
