//! SMTP and LMTP sessions: the machine's questions answered, messages committed.
//!
//! A commit that is under way does not hold up what is pipelined behind it: its place in the
//! output is a *hole*, and the replies behind it wait in order. Holes are filled when the input
//! has run dry, so that many messages of one session share a batch of the log.
//!
//! ```text
//!   input:   MAIL RCPT BDAT MAIL RCPT BDAT …           dry
//!   output:  250 250 [hole] 250 250 [hole] …            └─> await the holes in order, write, read
//! ```
//!
//! What is held against a client is asked in `smtp/entrance.rs`. Users who logged in are held to what
//! they may send (`smtp/submit.rs`).
//!
//! No client waits for its next answer longer than [`SMTP_ANSWER_TIME_MAX`], whatever the log and other
//! shards do: who asks for something hears that it cannot be told now (451), whose message is on its way
//! hears 421, and the message may be stored all the same.
//!
//! Nothing is stepped through while more replies wait than a slow reader may have waiting: what a
//! peer pipelines and does not read costs one receive block and that bound.

mod encrypt;
mod entrance;
mod holes;
mod lookup;
mod null_mx;
pub(super) mod reply;
mod submit;
mod terms;

use self::holes::{Filled, Share, Told, refused_for_all};
use super::draft::Draft;
use super::guest::Guest;
use super::listener::{Admitted, Protocol, smtp_settings_for};
use super::login::{Attempt, Login};
use super::pace::{Coming, Pace};
use super::places;
use super::shard::Shard;
use super::submission;
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::bytes::codec::to_u64;
use crate::env::{Conn as _, Env};
use crate::mailbox::promise::promise;
use crate::mailbox::{Judge, Message, Refused};
use crate::model::address::Address;
use crate::model::id::AccountId;
use crate::model::limits::SMTP_ANSWER_TIME_MAX;
use crate::model::time::Mono;
use crate::mta::{
    Accepting, Away, Envelope, MailOptions, Outcome, Places, Rcpt, RcptOptions, Rooms, Ways,
};
use crate::proto::sasl::Move;
use crate::proto::smtp::{Session, Settings, Step, Verdict};
use crate::queue::outgoing::To;
use crate::tls::{Facts, Stream};
use crate::wire::address::ForwardPath;
use crate::wire::message::delivered::DeliveredTo;
use crate::wire::smtp::command::{Recipient, Sender};
use crate::wire::smtp::reply::Reply;
use crate::wire::trace::{Received, put_listed, put_received, put_return_path};
use futures_lite::future::or;
use std::cell::LazyCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use entrance::No;
use reply::{BROKEN, DISABLED, NO_ROOM, NO_USER, class_name, to_gone, to_outcome, to_reply};

/// A recipient that was answered with 250.
struct Accepted {
    address: Address,
    places: Places,
    options: RcptOptions,
}

/// What has to be asked before the session can go on.
enum Asking {
    /// The owners of a recipient, whether they have room.
    Room(Accepted, Rooms),
    /// The owner of the sender's account, whether it may send one more message.
    Allowance(submission::Allowing),
    /// The DNS, whether somebody could answer to the sender of this transaction.
    Sender(Box<Transaction>, null_mx::Asked),
    /// The DNS, whether there is mail where a recipient is elsewhere.
    Elsewhere(Box<Accepted>, null_mx::Asked),
}

/// What the transaction under way has gathered.
#[derive(Default)]
struct Transaction {
    sender: Option<Address>,
    utf8: bool,
    size: u64,
    options: MailOptions,
    /// When its sender was told, in seconds since 1970: a time to deliver by counts from there.
    begun: u32,
    /// It waits before it goes anywhere.
    is_held: bool,
    /// It has another priority than its sender asked for.
    is_ranked_anew: bool,
    accepted: Vec<Accepted>,
    /// Which directory the recipients were found in.
    version: u64,
    /// The message under way, and its name in the logs.
    draft: Option<(String, Draft)>,
}

impl Transaction {
    /// Whom the Return-Path names: its sender, or the owner of the list that all of it is for
    /// (RFC 5321 §3.9.2). The message is stored once, so that where others get it too it is his.
    fn return_path(&self) -> Option<&Address> {
        let sender = self.sender.as_ref()?;
        let mut lists = self.accepted.iter().map(|one| one.places.list.as_ref());
        let owner = lists.next().flatten().filter(|owner| lists.all(|list| list == Some(owner)));
        Some(owner.unwrap_or(sender))
    }
}

/// A commit under way, and what is written behind its reply.
struct Hole {
    accepting: Accepting,
    /// What each accepted recipient stands for.
    shares: Vec<Share>,
    told: Told,
    /// What its sender is to hear once it is stored.
    report: Option<Box<submit::Wanted>>,
    begun: Mono,
    after: Chain,
}

struct Driver<E: Env> {
    shard: Rc<Shard<E>>,
    peer: IpAddr,
    guest: Guest,
    protocol: Protocol,
    admitted: Admitted<E>,
    tls: Option<Arc<Facts>>,
    session: Session,
    settings: Rc<Settings>,
    transaction: Option<Box<Transaction>>,
    attempt: Option<Box<Attempt>>,
    /// Who has authenticated.
    login: Option<Box<Login>>,
    /// Replies that may go out now.
    ready: Chain,
    holes: VecDeque<Hole>,
    /// Octets of replies since the last write, those behind holes too.
    unsent: usize,
    /// By when the client hears something.
    due: Mono,
    /// Of the message that is under way.
    pace: Option<Pace>,
    coming: Coming,
}

/// One connection from greeting to end.
pub async fn serve<E: Env>(
    shard: Rc<Shard<E>>,
    conn: Stream<E>,
    protocol: Protocol,
    admitted: Admitted<E>,
) {
    let peer = conn.peer().ip();
    let settings = smtp_settings_for(&shard, protocol, peer);
    let mut driver = Driver {
        peer,
        guest: Guest::new(&shard, protocol, peer, conn.local().ip()),
        protocol,
        admitted,
        tls: None,
        session: Session::new(Rc::clone(&settings)),
        due: shard.env.now().after(SMTP_ANSWER_TIME_MAX),
        settings,
        shard,
        transaction: None,
        attempt: None,
        login: None,
        ready: Chain::new(),
        holes: VecDeque::new(),
        unsent: 0,
        pace: None,
        coming: Coming::default(),
    };
    driver.meet(&conn);
    driver.run(conn).await;
}

impl<E: Env> Driver<E> {
    async fn run(&mut self, mut conn: Stream<E>) {
        let mut buffer = Buffer::new();
        if self.speaks_early(&mut conn, &mut buffer).await {
            return self.refuse_early(conn).await;
        }
        self.session.greeting(&mut self.ready);
        loop {
            let mut goes_on = match self.work(&mut buffer) {
                Goes::Ask(asking) => {
                    Box::pin(self.hear(*asking)).await;
                    continue;
                }
                Goes::Auth(said) => {
                    Box::pin(self.authenticate(said)).await;
                    continue;
                }
                goes_on => goes_on,
            };
            if !self.holes.is_empty() {
                match Box::pin(self.fill_holes()).await {
                    Filled::All => {}
                    // The log cannot say whether a message is stored: neither can we.
                    Filled::Uncertain => return,
                    Filled::Late => {
                        self.session.overdue(&mut self.ready);
                        goes_on = Goes::Close;
                    }
                }
            }
            if self.flush(&mut conn).await.is_err() {
                return;
            }
            match goes_on {
                Goes::Close => return conn.close().await,
                Goes::Secure => {
                    // What came in clear behind the command is forgotten.
                    buffer = Buffer::new();
                    let Some(shaken) = Box::pin(self.secure(conn)).await else { return };
                    conn = shaken;
                    continue;
                }
                Goes::Again | Goes::Ask(_) | Goes::Auth(_) => continue,
                Goes::Hear => {
                    or(self.guest.hear(), self.shard.draining.wait()).await;
                    continue;
                }
                Goes::Wait(pause) => {
                    or(self.shard.env.sleep(pause), self.shard.draining.wait()).await;
                    continue;
                }
                Goes::Read => {}
            }
            if !self.session.is_in_message() && !self.guest.may_go_on(&self.shard) {
                self.transaction = None;
                self.session.turn_out("Too many commands from your address", &mut self.ready);
                continue;
            }
            match self.receive(&mut conn, &mut buffer).await {
                Ok(0) => return conn.close().await,
                Ok(_) => {
                    self.due = self.shard.env.now().after(SMTP_ANSWER_TIME_MAX);
                    self.session.at(self.shard.env.wall().seconds());
                    self.turn_out_ended();
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.transaction = None;
                    self.session.timed_out(&mut self.ready);
                }
                Err(_) => return,
            }
        }
    }

    async fn flush(&mut self, conn: &mut Stream<E>) -> io::Result<()> {
        self.unsent = 0;
        if self.ready.is_empty() {
            return Ok(());
        }
        let deadline = self.shard.env.now().after(self.shard.settings().write_timeout);
        let written = conn.write(&mut self.ready, deadline).await;
        self.due = self.shard.env.now().after(SMTP_ANSWER_TIME_MAX);
        written
    }

    /// Waits for what the server itself has to do, but not longer than the client should wait.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.shard.env.sleep(self.due.since(self.shard.env.now())).await;
            None
        };
        or(async { Some(work.await) }, late).await
    }

    /// Waits for octets, or for the server to drain between two transactions.
    async fn receive(&mut self, conn: &mut Stream<E>, buffer: &mut Buffer) -> io::Result<usize> {
        let settings = self.shard.settings();
        let now = self.shard.env.now();
        let in_message = self.session.is_in_message();
        let wait = if in_message { settings.data_timeout } else { settings.command_timeout };
        let mut deadline = now.after(wait);
        let has_draft = self.transaction.as_ref().is_some_and(|open| open.draft.is_some());
        if in_message || has_draft {
            let pace = self.pace.get_or_insert(Pace::new(now));
            deadline = pace.deadline(&settings, deadline);
            let read = conn.read(buffer, deadline).await;
            pace.add(read.as_ref().map_or(0, |&count| to_u64(count)));
            return read;
        }
        self.pace = None;
        let is_begun = !buffer.filled().is_empty() || self.session.is_in_line();
        deadline = self.coming.deadline(is_begun, now, deadline);
        if self.transaction.is_some() {
            return conn.read(buffer, deadline).await;
        }
        let draining = async {
            self.shard.draining.wait().await;
            Ok(usize::MAX)
        };
        let read = or(conn.read(buffer, deadline), draining).await;
        if matches!(read, Ok(usize::MAX)) {
            self.session.shutting_down(&mut self.ready);
        }
        read
    }

    /// Steps through all that was received.
    fn work(&mut self, buffer: &mut Buffer) -> Goes {
        loop {
            let settings = self.shard.settings();
            if self.holes.len() >= settings.commits_open_max
                || self.unsent > settings.reply_octets_max
            {
                return Goes::Again;
            }
            // The answer to EHLO goes out first; what is sent behind it waits.
            let has_said_hello = self.session.hello().is_some();
            if has_said_hello && !self.guest.is_known() && !self.shard.draining.is_set() {
                return Goes::Hear;
            }
            let mut out = Chain::new();
            let is_command = !self.session.is_in_message();
            let (used, step) = self.session.step(buffer.filled(), &mut out);
            self.guest.count(is_command && used > 0);
            self.put(out);
            let goes = match step {
                Step::Read => Some(Goes::Read),
                Step::Continue => None,
                Step::Sender(sender) => self.on_sender(&sender),
                Step::Recipient(recipient) => self.on_recipient(&recipient),
                Step::Client(told) => {
                    self.on_client(*told);
                    None
                }
                Step::Lookup(lookup) => self.on_lookup(lookup),
                Step::Auth(said) => Some(Goes::Auth(said)),
                Step::Begin => self.on_begin().map(Goes::Ask),
                Step::Body(octets) => {
                    let transaction = self.transaction.as_deref_mut();
                    if let Some((_, draft)) = transaction.and_then(|open| open.draft.as_mut()) {
                        draft.append(octets);
                    }
                    None
                }
                Step::Commit { is_text } => {
                    self.on_commit(is_text);
                    None
                }
                Step::Abort => {
                    self.transaction = None;
                    None
                }
                Step::Secure => {
                    self.transaction = None;
                    Some(Goes::Secure)
                }
                Step::Close => {
                    self.transaction = None;
                    Some(Goes::Close)
                }
            };
            if used > 0 && !self.session.is_in_line() {
                self.coming.ended();
            }
            buffer.consume(used);
            let goes = goes.or_else(|| self.session.takes_flush().then_some(Goes::Again));
            if let Some(goes) = goes {
                return goes;
            }
        }
    }

    /// Replies go behind the last hole, or out.
    fn put(&mut self, replies: Chain) {
        self.unsent += replies.len();
        match self.holes.back_mut() {
            Some(hole) => hole.after.append(replies),
            None => self.ready.append(replies),
        }
    }

    /// A server on its way down begins nothing new: 421, and the end.
    fn turns_away(&mut self) -> bool {
        let is_draining = self.shard.draining.is_set();
        if is_draining {
            let mut out = Chain::new();
            self.session.shutting_down(&mut out);
            self.put(out);
        }
        is_draining
    }

    /// Some: the DNS has to be asked first.
    fn on_sender(&mut self, sender: &Sender<'_>) -> Option<Goes> {
        if self.turns_away() {
            return None;
        }
        let size = sender.params.size.unwrap_or(0);
        let hello = self.session.hello().unwrap_or_default();
        let refused = self.guest.refuses_hello(&self.shard, &self.settings.hostname, hello);
        let address = sender.path.to_address();
        let refused = refused.or_else(|| self.may_send_from(address.as_ref()).err());
        let verdict = if let Some(reply) = refused {
            Verdict::Refuse(reply)
        } else if self.shard.log.has_room(size) {
            let asked = address.as_ref().and_then(|address| self.asks_sender(address));
            let priority = sender.params.priority.map(|asked| self.rank(asked));
            let opening = Box::new(Transaction {
                sender: address,
                utf8: sender.params.utf8,
                size,
                options: MailOptions { priority, ..MailOptions::from(&sender.params) },
                begun: self.shard.env.wall().seconds(),
                is_ranked_anew: priority != sender.params.priority,
                ..Transaction::default()
            });
            if let Some(asked) = asked {
                return Some(Goes::Ask(Box::new(Asking::Sender(opening, asked))));
            }
            self.take_sender(opening);
            return None;
        } else {
            Verdict::Refuse(NO_ROOM)
        };
        let mut out = Chain::new();
        self.session.sender(verdict, &mut out);
        self.put(out);
        None
    }

    fn put_recipient(&mut self, verdict: Verdict<'_>) {
        let mut out = Chain::new();
        self.session.recipient(verdict, &mut out);
        self.put(out);
    }

    /// Waits for what others have to say.
    async fn hear(&mut self, asking: Asking) {
        match asking {
            Asking::Room(recipient, rooms) => self.hear_rooms(recipient, rooms).await,
            Asking::Allowance(allowing) => self.hear_allowance(allowing).await,
            Asking::Sender(opening, asked) => self.hear_sender(opening, asked).await,
            Asking::Elsewhere(accepted, asked) => self.hear_elsewhere(*accepted, asked).await,
        }
    }

    async fn hear_rooms(&mut self, recipient: Accepted, rooms: Rooms) {
        // All of a recipient's accounts, or none: those of one that is refused get nothing.
        let refused = match self.in_time(rooms).await {
            Some(rooms) => rooms.into_iter().find_map(Result::err),
            None => Some(Refused::Unasked),
        };
        let verdict = match (refused, self.transaction.as_deref_mut()) {
            (Some(refused), _) => Verdict::Refuse(to_reply(Outcome::from(refused))),
            (None, None) => Verdict::Refuse(BROKEN),
            (None, Some(transaction)) => {
                transaction.accepted.push(recipient);
                Verdict::Accept
            }
        };
        self.put_recipient(verdict);
    }

    /// Resolves a recipient and adds it to the transaction, unless others have to be asked.
    fn admit(&mut self, recipient: &Recipient<'_>) -> Result<Option<Asking>, No> {
        let (local, domain, address) = match &recipient.path {
            ForwardPath::Postmaster => {
                let host = &self.settings.hostname;
                ("postmaster", "", Address::from_parts("postmaster", host))
            }
            ForwardPath::Path(path) => (path.local(), path.domain(), path.to_address()),
        };
        let is_report = self.transaction.as_ref().is_some_and(|open| open.sender.is_none());
        let (version, places) = self.look_up(&address, (local, domain), is_report)?;
        let asked = self.asks_recipient(&places);
        let Some(transaction) = self.transaction.as_deref_mut() else {
            return Err(BROKEN.into());
        };
        let sender = transaction.sender.as_ref();
        if let Some(wait) = self.guest.greylists(&self.shard, sender, &address) {
            return Err(No::Greylisted(wait));
        }
        let size = u32::try_from(transaction.size).unwrap_or(u32::MAX);
        if transaction.accepted.is_empty() {
            transaction.version = version;
        }
        let intake = &self.shard.intake;
        let options = RcptOptions::from(&recipient.params);
        let accepted = Accepted { address, places, options };
        let accounts = &accepted.places.accounts;
        if intake.must_ask(accounts) {
            let rooms = intake.room(accounts, size);
            return Ok(Some(Asking::Room(accepted, rooms)));
        }
        for account in accounts {
            let room = intake.room_here(account, size);
            room.map_err(|refused| to_reply(Outcome::from(refused)))?;
        }
        if let Some(asked) = asked {
            return Ok(Some(Asking::Elsewhere(Box::new(accepted), asked)));
        }
        transaction.accepted.push(accepted);
        Ok(None)
    }

    /// Where mail for this address goes, and by which directory. Reports alone find their way back to a
    /// sender that was rewritten.
    fn look_up(
        &self,
        address: &Address,
        (local, domain): (&str, &str),
        is_report: bool,
    ) -> Result<(u64, Places), Reply<'static>> {
        if is_report && let Some(sender) = places::sent_by(&self.shard, local, domain) {
            let parts = (sender.local(), sender.domain());
            return places::find(&self.shard, &sender, parts, true);
        }
        places::find(&self.shard, address, (local, domain), self.may_relay())
    }

    /// Who has shown who he is, if anybody.
    fn account(&self) -> Option<AccountId> {
        self.login.as_ref().map(|login| login.account)
    }

    /// Mail for other servers is taken from who logged in, and from where the operator says.
    fn may_relay(&self) -> bool {
        self.account().is_some() || (self.shard.settings().may_relay)(self.peer)
    }

    /// Some: the owner of the sender's account has to be asked first.
    fn on_begin(&mut self) -> Option<Box<Asking>> {
        if self.turns_away() {
            return None;
        }
        if let Some(login) = &self.login {
            return Some(Box::new(self.ask_allowance(login)));
        }
        let verdict = self.open_draft();
        self.begin(verdict);
        None
    }

    fn begin(&mut self, verdict: Verdict<'static>) {
        let mut out = Chain::new();
        self.session.begin(verdict, &mut out);
        self.put(out);
    }

    /// Begins a draft with the trace lines of this hop (RFC 5321 §4.4).
    fn open_draft(&mut self) -> Verdict<'static> {
        let id = self.shard.name_message();
        let at = self.shard.env.wall().seconds();
        let is_user = self.account().is_some();
        let is_hidden = is_user && self.shard.settings().submission.hide_client;
        let Some(transaction) = self.transaction.as_deref_mut() else {
            return Verdict::Refuse(NO_ROOM);
        };
        let recipient = match transaction.accepted.as_slice() {
            [only] => Some(&only.address),
            _ => None,
        };
        let name = self.guest.name();
        let suite = self.tls.as_ref().map(|facts| facts.suite()).unwrap_or_default();
        let hop = Received {
            hello: self.session.hello().unwrap_or_default(),
            peer: (!is_hidden).then_some(self.peer),
            name: name.as_deref(),
            host: &self.settings.hostname,
            with: self.session.with(transaction.utf8),
            tls: self.tls.as_ref().map(|facts| (&*suite, facts.group())),
            priority: transaction.options.priority,
            id: &id,
            recipient,
            at,
        };
        let mark = self.guest.mark(&self.shard);
        let draft = Draft::begin(&self.shard.drafts, transaction.size, |out| {
            put_return_path(transaction.return_path(), out);
            put_received(&hop, out);
            if let Some(listed) = &mark {
                put_listed(listed.score, &listed.zones, out);
            }
        });
        self.pace = Some(Pace::new(self.shard.env.now()));
        let Some(draft) = draft else { return Verdict::Refuse(NO_ROOM) };
        let draft = if is_user { draft.without_bcc() } else { draft };
        transaction.draft = Some((id, draft));
        Verdict::Accept
    }

    /// The message is whole: sends it on its way into the log and leaves a hole for its reply.
    fn on_commit(&mut self, is_text: bool) {
        let Some(mut transaction) = self.transaction.take() else { return };
        let Some((id, draft)) = transaction.draft.take() else { return };
        self.count_down(&mut transaction);
        let mut message = draft.end();
        let octets = message.as_ref().map_or(0, Vec::len);
        let Shared { recipients, away, shares, rounds } =
            self.shares(&transaction, &id, message.as_deref().unwrap_or_default());
        let refused = if self.settings.is_lmtp() { None } else { refused_for_all(&shares) };
        let completed = match (&mut message, refused.or(terms::comes_late(&transaction))) {
            (None, _) => Err(Outcome::CROWDED),
            (Some(_), Some(refused)) => Err(refused),
            (Some(message), None) => self.complete(message, transaction.sender.as_ref(), &id),
        };
        let report =
            message.as_ref().and_then(|octets| self.report_of(octets, &transaction, &rounds, &id));
        let is_listed = transaction.return_path() != transaction.sender.as_ref();
        let Transaction { sender, utf8, accepted, options, .. } = *transaction;
        let accepting: Accepting = match (message, completed) {
            (Some(message), Ok(signer)) => {
                // A reply that stands for several accounts is one for all of them, by LMTP too.
                let is_one = |share: &Share| match share {
                    Share::Places { accounts, is_away } => accounts + usize::from(*is_away) == 1,
                    Share::Gone(_) => true,
                };
                let is_each = self.settings.is_lmtp() && shares.iter().all(is_one);
                let judge = if is_each { Judge::Each } else { Judge::Together };
                let envelope = Envelope { recipients, away, judge };
                self.accept(
                    envelope,
                    Incoming { octets: message, utf8, is_text, is_listed, signer },
                )
            }
            (_, refused) => {
                let refused = refused.err().unwrap_or(Outcome::CROWDED);
                let count = recipients.len() + usize::from(!away.is_empty());
                Box::pin(std::future::ready(vec![refused; count]))
            }
        };
        let told = Told {
            id,
            sender,
            recipients: accepted.into_iter().map(|one| one.address).collect(),
            octets,
            priority: options.priority,
        };
        let begun = self.shard.env.now();
        let after = Chain::new();
        self.holes.push_back(Hole { accepting, shares, told, report, begun, after });
    }

    /// Where mail for the accepted recipients goes now. Where the directory has changed since they were
    /// accepted they are looked up again: a user may be gone. Mail that is held for those who are here
    /// waits as that for others does. What an alias would lead in a circle is refused; where others get
    /// the message it waits too, and comes back from there at once (RFC 9228 §4).
    fn shares(&self, transaction: &Transaction, id: &str, message: &[u8]) -> Shared {
        let is_new = self.shard.directory().version() != transaction.version;
        let mut shared = Shared::default();
        let (mut ways, mut rounds) = (Ways::default(), Vec::new());
        let been = LazyCell::new(|| DeliveredTo::of(message));
        for one in &transaction.accepted {
            let address = &one.address;
            let parts = (address.local(), address.domain());
            let is_report = transaction.sender.is_none();
            let found = is_new.then(|| self.look_up(address, parts, is_report));
            let places = match &found {
                None => &one.places,
                Some(Ok((_, places))) => places,
                Some(Err(reply)) => {
                    shared.shares.push(Share::Gone(to_gone(reply)));
                    continue;
                }
            };
            let to = || {
                let RcptOptions { notify, orcpt } = one.options.clone();
                To { address: address.clone(), notify, orcpt }
            };
            if places.is_forwarded && been.has(address) {
                rounds.push((shared.shares.len(), to()));
                shared.shares.push(Share::Gone(Outcome::LOOP));
                continue;
            }
            if transaction.is_held && places.has_news_here() {
                shared.shares.push(Share::Places { accounts: 0, is_away: true });
                ways.put_here(to());
                continue;
            }
            shared.recipients.extend_from_slice(&places.accounts);
            let (accounts, is_away) = (places.accounts.len(), !places.elsewhere.is_empty());
            shared.shares.push(Share::Places { accounts, is_away });
            if is_away {
                ways.put_elsewhere(&to(), places);
            }
        }
        // By SMTP there is one answer for all.
        if !self.settings.is_lmtp() && rounds.len() < shared.shares.len() {
            for (place, to) in rounds {
                shared.shares[place] = Share::Places { accounts: 0, is_away: true };
                shared.rounds.push(place);
                ways.put_here(to);
            }
        }
        if ways.is_empty() {
            return shared;
        }
        let message = Away {
            name: id.into(),
            sender: transaction.sender.clone(),
            options: transaction.options.clone(),
            recipients: Vec::new(),
            utf8: transaction.utf8,
            is_here: false,
            is_signed: false,
            via: None,
            before: None,
        };
        shared.away = ways.into_away(&message, |one| places::passed_on(&self.shard, one));
        shared
    }

    /// Sends a message on its way, behind its signatures if it is to have any. What is signed is under
    /// way whether or not anybody waits for it.
    fn accept(&self, envelope: Envelope, incoming: Incoming) -> Accepting {
        let Incoming { octets, utf8, is_text, is_listed, signer } = incoming;
        let at = self.shard.env.wall().seconds();
        let message = move |octets| Message::new(octets, utf8, is_text, at).listed(is_listed);
        let Some(domain) = signer else {
            return self.shard.intake.accept(&envelope, message(octets));
        };
        let before = octets.len();
        let signing = self.shard.sign(octets, &domain);
        let (promise, promised) = promise();
        let shard = Rc::clone(&self.shard);
        self.shard.env.spawn(async move {
            let mut envelope = envelope;
            promise.keep(match signing.await {
                Ok(octets) => {
                    // Of a form that nobody can sign it came back as it was.
                    let is_signed = octets.len() > before;
                    envelope.away.iter_mut().for_each(|away| away.is_signed = is_signed);
                    shard.intake.accept(&envelope, message(octets)).await
                }
                Err((refused, _)) => {
                    let away = usize::from(!envelope.away.is_empty());
                    vec![refused; envelope.recipients.len() + away]
                }
            });
        });
        Box::pin(promised)
    }
}

/// A message that is whole.
struct Incoming {
    octets: Vec<u8>,
    utf8: bool,
    is_text: bool,
    /// The owner of a list is in its Return-Path.
    is_listed: bool,
    /// In whose name it is signed.
    signer: Option<Box<str>>,
}

/// What a message's recipients come to.
#[derive(Default)]
struct Shared {
    recipients: Vec<Rcpt>,
    away: Vec<Away>,
    shares: Vec<Share>,
    /// The places of those who wait only to be sent back.
    rounds: Vec<usize>,
}

/// What the loop does once all that was received is worked through.
enum Goes {
    Read,
    /// The owners of a recipient have to say whether they have room.
    Ask(Box<Asking>),
    /// When the lists were heard that say something of the client.
    Hear,
    /// After a pause, for who asks too much.
    Wait(Duration),
    /// A client authenticates.
    Auth(Move),
    /// Enough commits are open, or replies wait: fill the holes, write, then work on.
    Again,
    /// By TLS from here on.
    Secure,
    Close,
}
