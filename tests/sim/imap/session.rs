//! An IMAP session: commands out, responses into the view and into what is known of the account.

use super::model::{Account, Mailbox, Memory, Tick};
use super::view::{Opening, View, resynced};
use super::wire::{self, Fetched, Flags, Kind, Response, Status};
use crate::case::{Case, PASSWORD};
use crate::oracle::Verdict;
use crate::peer::Peer;
use crate::world::World;
use pombal::env::sim::{Chance, SimEnv};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// What all clients of one account share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) env: SimEnv,
    pub(super) world: Rc<World>,
    pub(super) case: Rc<Case>,
    pub(super) user: usize,
    pub(super) account: Rc<RefCell<Account>>,
}

impl Shared {
    pub(super) fn note(&self, who: &str, what: impl FnOnce() -> String) {
        self.world.note(&self.env, || format!("{who}: {}", what()));
    }
}

/// A command that was sent.
pub(super) struct Command {
    tag: String,
    pub(super) number: u64,
    pub(super) sent: Tick,
    /// FETCH, STORE, SEARCH: message numbers must stand still (RFC 9051 §7.5.1).
    pub(super) stills: bool,
    pub(super) does: super::command::Does,
    /// What it was told of messages, by UID: counter, flags.
    pub(super) told: BTreeMap<u32, (Option<u64>, Option<Flags>)>,
    /// A code that came before the end.
    pub(super) notice: Option<Status>,
    pub(super) hits: Option<Vec<u32>>,
    pub(super) figures: Vec<(String, u64)>,
    pub(super) listed: Vec<(String, Vec<String>)>,
    pub(super) vanished: Vec<u32>,
    /// Whole responses, where they are asked for.
    pub(super) fetched: Vec<Fetched>,
}

pub(super) struct Session {
    pub(super) shared: Shared,
    pub(super) chance: Chance,
    pub(super) who: String,
    pub(super) peer: Peer,
    /// ENABLE QRESYNC, or CONDSTORE only.
    pub(super) qresync: bool,
    pub(super) view: Option<View>,
    queue: VecDeque<Command>,
    out: Vec<u8>,
    tags: u64,
}

impl Session {
    /// Connects, logs in, and enables what it needs. `None`: not now.
    pub(super) async fn open(
        shared: Shared,
        address: SocketAddr,
        chance: Chance,
        qresync: bool,
    ) -> io::Result<Option<Session>> {
        let peer = Peer::connect(&shared.env, address).await?;
        let who = format!("imap{} u{}", chance.below(100), shared.user);
        let (queue, out) = (VecDeque::new(), Vec::new());
        let mut session =
            Session { shared, chance, who, peer, qresync, view: None, queue, out, tags: 0 };
        session.next().await?;
        let user = session.shared.user;
        let login = format!("LOGIN u{user}@example.org {PASSWORD}");
        if !session.simple(&login).await? {
            return Ok(None);
        }
        let enable = if qresync { "ENABLE QRESYNC" } else { "ENABLE CONDSTORE" };
        Ok(session.simple(enable).await?.then_some(session))
    }

    pub(super) fn fail(&self, what: impl AsRef<str>) {
        self.shared.world.fail(format!("{}: {}", self.who, what.as_ref()));
    }

    pub(super) fn check(&self, verdict: Verdict) {
        if let Err(what) = verdict {
            self.fail(what);
        }
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.shared.note(&self.who, what);
    }

    /// A command that does nothing to mailboxes, and whether it went well.
    async fn simple(&mut self, text: &str) -> io::Result<bool> {
        self.put(text, false, super::command::Does::Nothing);
        self.flush().await?;
        loop {
            let response = self.next().await?;
            if let Response::Tagged(_, status) = response {
                self.queue.clear();
                let tired = status.code.first().is_some_and(|code| code == "UNAVAILABLE");
                if status.kind != Kind::Ok && !tired {
                    self.fail(format!("{text}: {status:?}"));
                }
                return Ok(status.kind == Kind::Ok);
            }
        }
    }

    /// The next response; BYE ends the session.
    pub(super) async fn next(&mut self) -> io::Result<Response> {
        let response = wire::read(&mut self.peer).await?;
        self.note(|| match &response {
            Response::Fetch(Fetched { body: Some(body), number, uid, flags, modseq, .. }) => {
                let octets = body.len();
                format!("S: FETCH {number} {uid:?} {flags:?} {modseq:?} {octets} octets")
            }
            response => format!("S: {response:?}"),
        });
        match response {
            Response::Notice(Status { kind: Kind::Bye, .. }) => {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            response => Ok(response),
        }
    }

    /// Writes a command, to be sent by [`Session::flush`]; returns its number.
    pub(super) fn put(&mut self, text: &str, stills: bool, does: super::command::Does) -> u64 {
        self.put_octets(text.as_bytes(), stills, does)
    }

    pub(super) fn put_octets(
        &mut self,
        text: &[u8],
        stills: bool,
        does: super::command::Does,
    ) -> u64 {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.note(|| {
            let shown = &text[..text.len().min(160)];
            format!("C: {tag} {}", shown.escape_ascii())
        });
        self.out.extend_from_slice(tag.as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
        let mut account = self.shared.account.borrow_mut();
        let (number, sent) = (account.command(), account.tick());
        drop(account);
        self.queue.push_back(Command {
            tag,
            number,
            sent,
            stills,
            does,
            told: BTreeMap::new(),
            notice: None,
            hits: None,
            figures: Vec::new(),
            listed: Vec::new(),
            vanished: Vec::new(),
            fetched: Vec::new(),
        });
        number
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.peer.send(&out).await
    }

    /// Sends what was written and hears all answers.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        self.flush().await?;
        while !self.queue.is_empty() {
            let response = self.next().await?;
            self.hear(response);
            self.shared.world.verdict().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Sends one command and waits for its end, which is returned.
    pub(super) async fn ask(&mut self, text: &str) -> io::Result<(Command, Status)> {
        self.put(text, false, super::command::Does::Nothing);
        self.flush().await?;
        loop {
            let response = self.next().await?;
            if let Response::Tagged(_, status) = response {
                let command = self.queue.pop_front().expect("it was sent");
                if let Some(view) = &mut self.view {
                    view.ended();
                }
                return Ok((command, status));
            }
            self.hear(response);
        }
    }

    /// Takes one response in.
    pub(super) fn hear(&mut self, response: Response) {
        let verdict = match response {
            Response::Tagged(tag, status) => self.tagged(&tag, &status),
            other => self.untagged(other),
        };
        self.check(verdict);
    }

    fn tagged(&mut self, tag: &str, status: &Status) -> Verdict {
        let command = self.queue.pop_front().filter(|command| command.tag == tag);
        let command = command.ok_or_else(|| format!("an answer to {tag}, which was not next"))?;
        if status.kind == Kind::Bad {
            return Err(format!("a good command was not understood: {status:?}"));
        }
        if let (Some(modseq), Some(view)) = (status.number("HIGHESTMODSEQ"), &mut self.view) {
            view.coded(modseq)?;
        }
        if let Some(view) = &mut self.view {
            view.ended();
        }
        self.ended(command, status)?;
        if self.qresync
            && self.chance.below(3) == 0
            && let Some(memory) = self.view.as_ref().and_then(View::memory)
        {
            self.note(|| format!("remembers {memory:?}"));
            self.shared.account.borrow_mut().memories.push(memory);
        }
        Ok(())
    }

    fn untagged(&mut self, response: Response) -> Verdict {
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        let front = self.queue.front_mut();
        let sent = front.as_ref().map_or(now, |command| command.sent);
        let stills = front.as_ref().is_none_or(|command| command.stills);
        let removes =
            matches!(response, Response::Expunge(_) | Response::Vanished { earlier: false, .. });
        if removes && stills {
            return Err(format!("{response:?} where numbers must stand still"));
        }
        match (response, front, &mut self.view) {
            (Response::Exists(count), _, Some(view)) => view.exists(count),
            (Response::Recent(count), _, Some(view)) => view.recent(count),
            (Response::Expunge(_), ..) if self.qresync => Err("EXPUNGE after QRESYNC".to_owned()),
            (Response::Vanished { .. }, ..) if !self.qresync => {
                Err("VANISHED without QRESYNC".to_owned())
            }
            (Response::Expunge(number), _, Some(view)) => match view.expunge(number)? {
                Some(uid) => account.mailbox(view.uidvalidity).absent(uid, now),
                None => Ok(()),
            },
            (Response::Vanished { earlier: false, uids }, _, Some(view)) => {
                uids.into_iter().try_for_each(|uid| {
                    view.vanish(uid)?;
                    account.mailbox(view.uidvalidity).absent(uid, now)
                })
            }
            (Response::Vanished { uids, .. }, Some(front), Some(view)) => {
                may_have_gone(account.mailbox(view.uidvalidity), &uids)?;
                front.vanished.extend(uids);
                Ok(())
            }
            (Response::Fetch(fetched), front, Some(view)) => {
                let life = self.shared.world.life();
                take_fetched(&mut account, life, view, front, fetched, (sent, now))
            }
            (Response::Search(hits), Some(front), _) => {
                front.hits = Some(hits);
                Ok(())
            }
            (Response::Figures(figures), Some(front), _) => {
                front.figures = figures;
                Ok(())
            }
            (Response::Listed { name, attributes }, Some(front), _) => {
                front.listed.push((name, attributes));
                Ok(())
            }
            (Response::Notice(status), front, view) => {
                if let (Some(modseq), Some(view)) = (status.number("HIGHESTMODSEQ"), view) {
                    view.coded(modseq)?;
                }
                let places = status.code("COPYUID").or(status.code("APPENDUID")).is_some();
                if let Some(front) = front.filter(|_| places) {
                    front.notice = Some(status);
                }
                Ok(())
            }
            (Response::Exists(_) | Response::Expunge(_) | Response::Fetch(_), _, None) => {
                Err("messages where nothing is selected".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// SELECT or EXAMINE, with what the client remembers if it does. False: it is not there.
    pub(super) async fn select(
        &mut self,
        name: &str,
        read_only: bool,
        memory: Option<&Memory>,
    ) -> io::Result<bool> {
        let verb = if read_only { "EXAMINE" } else { "SELECT" };
        let asks_known =
            memory.is_some_and(|memory| !memory.messages.is_empty()) && self.chance.coin();
        let options = memory.map_or(String::new(), |memory| self.options(memory, asks_known));
        let before = self.shared.account.borrow().names.stable();
        self.view = None;
        self.put(&format!("{verb} {name}{options}"), false, super::command::Does::Nothing);
        self.flush().await?;
        let mut opening = Opening::default();
        let status = loop {
            match self.next().await? {
                Response::Exists(count) => opening.exists = count as usize,
                Response::Vanished { earlier: true, uids } => opening.vanished.extend(uids),
                Response::Fetch(fetched) => opening.fetched.push(fetched),
                Response::Notice(status) => {
                    let number = |name| status.number(name);
                    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                    opening.uidvalidity = number("UIDVALIDITY").map_or(opening.uidvalidity, small);
                    opening.uidnext = number("UIDNEXT").map_or(opening.uidnext, small);
                    opening.highest = number("HIGHESTMODSEQ").unwrap_or(opening.highest);
                }
                Response::Tagged(_, status) => break status,
                _ => {}
            }
        };
        let command = self.queue.pop_front().expect("it was sent");
        let verdict = self.opened(name, &status, before, &opening, command.sent);
        self.check(verdict);
        if status.kind != Kind::Ok {
            return Ok(false);
        }
        let slots = match memory.filter(|memory| memory.uidvalidity == opening.uidvalidity) {
            Some(memory) => resynced(memory, asks_known, &opening),
            None => Ok(vec![super::view::Slot::default(); opening.exists]),
        };
        match slots {
            Ok(slots) => self.view = Some(View::new(&opening, read_only, command.number, slots)),
            Err(what) => self.fail(what),
        }
        self.shared.world.verdict().map_err(io::Error::other)?;
        Ok(true)
    }

    /// `(QRESYNC (…))`: known UIDs and known numbers now and then.
    fn options(&self, memory: &Memory, asks_known: bool) -> String {
        let (uids, chance) = (memory.messages.keys().copied(), &self.chance);
        let mut options = format!(" (QRESYNC ({} {}", memory.uidvalidity, memory.modseq);
        if asks_known {
            options.push(' ');
            options.push_str(&wire::set(uids.clone()));
            let pairs: Vec<(u32, u32)> = (1..).zip(uids).filter(|_| chance.below(3) == 0).collect();
            if !pairs.is_empty() {
                let numbers = wire::set(pairs.iter().map(|&(number, _)| number));
                let uids = wire::set(pairs.iter().map(|&(_, uid)| uid));
                write!(options, " ({numbers} {uids})").expect("text takes all text");
            }
        }
        options.push_str("))");
        options
    }

    fn opened(
        &self,
        name: &str,
        status: &Status,
        before: Option<u64>,
        opening: &Opening,
        sent: Tick,
    ) -> Verdict {
        let mut account = self.shared.account.borrow_mut();
        let now = account.tick();
        let stands = before.is_some() && before == account.names.stable();
        if status.kind != Kind::Ok {
            let is_known = account.names.names.mailboxes.contains_key(name);
            if stands && is_known {
                return Err(format!("{name} is not there: {status:?}"));
            }
            return Ok(());
        }
        if stands {
            account.names.tell(name, opening.uidvalidity)?;
        }
        let figures = (opening.uidnext.into(), opening.highest);
        account.mailbox(opening.uidvalidity).selected(figures, sent, now)?;
        may_have_gone(account.mailbox(opening.uidvalidity), &opening.vanished)?;
        opening.fetched.iter().try_for_each(|fetched| {
            let uid = fetched.uid.ok_or("a message without its UID")?;
            learn(&mut account, opening.uidvalidity, uid, fetched, (sent, now))
        })
    }
}

/// VANISHED (EARLIER) names nothing that nobody asked to be removed.
fn may_have_gone(mailbox: &Mailbox, uids: &[u32]) -> Verdict {
    match uids.iter().find(|&&uid| !mailbox.may_go(uid)) {
        Some(uid) => Err(format!("I3: UID {uid} is said to have vanished, which nobody asked for")),
        None => Ok(()),
    }
}

/// A FETCH response, which may be one that the first command asked for.
fn take_fetched(
    account: &mut Account,
    life: u64,
    view: &mut View,
    front: Option<&mut Command>,
    fetched: Fetched,
    (sent, now): (Tick, Tick),
) -> Verdict {
    let Some(uid) = view.fetched(&fetched)? else { return Ok(()) };
    learn(account, view.uidvalidity, uid, &fetched, (sent, now))?;
    if fetched.recent == Some(true) && !view.read_only {
        account.mailbox(view.uidvalidity).recent(uid, (life, view.opened))?;
    }
    if let Some(front) = front {
        let told = front.told.entry(uid).or_default();
        told.0 = fetched.modseq.or(told.0);
        told.1 = fetched.flags.or(told.1);
        front.fetched.push(fetched);
    }
    Ok(())
}

/// What a FETCH response says of the account.
fn learn(
    account: &mut Account,
    uidvalidity: u32,
    uid: u32,
    fetched: &Fetched,
    (sent, now): (Tick, Tick),
) -> Verdict {
    let mailbox = account.mailbox(uidvalidity);
    mailbox.there(uid, sent, now)?;
    if let (Some(flags), Some(modseq)) = (fetched.flags, fetched.modseq) {
        mailbox.flags(uid, (modseq, flags), sent, now)?;
    }
    if let Some(email) = &fetched.email {
        account.email(uidvalidity, uid, email)?;
    }
    match &fetched.body {
        Some(body) if fetched.size.is_some_and(|size| size != body.len() as u64) => {
            Err(format!("UID {uid} of {:?} octets has {}", fetched.size, body.len()))
        }
        Some(body) => account.body(uidvalidity, uid, body),
        None => Ok(()),
    }
}
