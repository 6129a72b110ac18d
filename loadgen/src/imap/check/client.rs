//! One client of the check: does things by chance and holds every response against its model.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::judge::Deeds;
use super::model::{Busy, Entry, Flags, Model};
use super::resync::Resync;
use crate::imap::Settings;
use crate::imap::session::Session;
use crate::values::{Rng, to_u64, to_usize};
use crate::wire::imap::{Response, Status, code_value, copies, number, parse, ranges, word};
use crate::wire::link::Trouble;

/// Lines of the conversation that are kept.
const TRANSCRIPT_LINES: usize = 60;
/// Octets of each that are shown.
const LINE_OCTETS_MAX: usize = 300;
/// The mailbox is kept at about this many messages: enough to miss each other, few enough to meet.
const COUNT_LOW: usize = 20;
const COUNT_HIGH: usize = 200;
/// Flags that come and go; `\Deleted` has its own operation.
const FLAGS: [&str; 6] = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "$Work", "$Later"];

/// An IDLE to which nothing comes ends after this time.
const IDLE_AT_MOST: Duration = Duration::from_millis(10);

/// Why a client stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Trouble(Trouble),
    /// A response contradicts what was said before.
    Disagreed(String),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Fault {
        Fault::Trouble(trouble)
    }
}

/// What a client asks the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    CondStore,
    QResync,
}

/// How a command ended.
pub(crate) struct Ending {
    pub(crate) ok: bool,
    pub(crate) code: Option<Vec<u8>>,
    /// The code of an untagged OK that names copies.
    copied: Option<Vec<u8>>,
}

/// A client.
pub(crate) struct Client {
    session: Session,
    pub(crate) model: Model,
    pub(crate) kind: Kind,
    rng: Rng,
    /// The other mailbox, quoted.
    other: Rc<[u8]>,
    deeds: Rc<RefCell<Deeds>>,
    pub(crate) transcript: VecDeque<String>,
    appended: u64,
}

impl Client {
    /// Logs in and selects.
    pub(crate) async fn open(
        settings: &Settings,
        other: Rc<[u8]>,
        deeds: Rc<RefCell<Deeds>>,
        index: u64,
    ) -> Result<Client, Fault> {
        let session = settings.log_in(0).await?;
        let kind = match index % 3 {
            2 if session.offers.qresync => Kind::QResync,
            1 | 2 if session.offers.condstore => Kind::CondStore,
            _ => Kind::Plain,
        };
        let mut client = Client {
            session,
            model: Model::default(),
            kind,
            rng: Rng::new(settings.seed, index),
            other,
            deeds,
            transcript: VecDeque::new(),
            appended: index << 32,
        };
        if kind == Kind::QResync {
            client.must("ENABLE QRESYNC").await?;
            client.model.vanishes = true;
        }
        client.select(settings).await?;
        Ok(client)
    }

    fn note(&mut self, side: char, line: &[u8]) {
        if self.transcript.len() >= TRANSCRIPT_LINES {
            self.transcript.pop_front();
        }
        let shown = &line[..line.len().min(LINE_OCTETS_MAX)];
        let shown = String::from_utf8_lossy(shown).trim_end().replace("\r\n", "⏎");
        self.transcript.push_back(format!("{side}: {shown}"));
    }

    /// One command without literals.
    pub(crate) async fn run(&mut self, command: &str, busy: Busy) -> Result<Ending, Fault> {
        self.session.begin().extend_from_slice(command.as_bytes());
        self.session.link.send("\r\n").await?;
        self.note('C', command.as_bytes());
        self.ending(busy, None).await
    }

    async fn must(&mut self, command: &str) -> Result<(), Fault> {
        let ending = self.run(command, Busy::Other).await?;
        if ending.ok { Ok(()) } else { Err(Fault::Trouble(Trouble::Denied)) }
    }

    /// Waits for the answer and holds each response against the model.
    async fn ending(
        &mut self,
        busy: Busy,
        mut resync: Option<&mut Resync>,
    ) -> Result<Ending, Fault> {
        self.model.begin();
        let (model, mut objection, mut lines) = (&mut self.model, None, Vec::new());
        let (mut code_out, mut copied, mut is_bad) = (None, None, false);
        let answer = self.session.answer(|whole, response| {
            lines.push(whole.to_vec());
            if let Some(resync) = resync.as_deref_mut() {
                resync.take(response);
            }
            if objection.is_none() {
                objection = model.take(response, busy).err();
            }
            match response {
                Response::Tagged { status, code, .. } => {
                    code_out = code.map(<[u8]>::to_vec);
                    is_bad = *status == Status::Bad;
                }
                Response::Notice { code, .. } if code_value(*code, "COPYUID").is_some() => {
                    copied = code.map(<[u8]>::to_vec);
                }
                _ => {}
            }
        });
        let answer = answer.await;
        for line in lines {
            self.note('S', &line);
        }
        if let Some(objection) = objection {
            return Err(Fault::Disagreed(objection));
        }
        let answer = answer?;
        if is_bad {
            return Err(Fault::Disagreed("BAD to a command that is right".into()));
        }
        Ok(Ending { ok: answer.is_ok(), code: code_out, copied })
    }

    /// Selects anew; with QRESYNC from what was known before.
    async fn select(&mut self, settings: &Settings) -> Result<(), Fault> {
        let before = std::mem::take(&mut self.model);
        let mailbox = String::from_utf8_lossy(&settings.mailbox).into_owned();
        let whole = before.entries.iter().all(|entry| entry.uid.is_some());
        let known = whole && before.highest_mod_seq > 0 && self.kind == Kind::QResync;
        self.model.vanishes = before.vanishes;
        self.model.uid_validity = before.uid_validity;
        self.model.uid_next = before.uid_next;
        self.model.highest_mod_seq = before.highest_mod_seq;
        self.model.late = before.late;
        let mut command = format!("SELECT {mailbox}");
        if known {
            let (validity, mod_seq) = (before.uid_validity, before.highest_mod_seq);
            command = format!("{command} (QRESYNC ({validity} {mod_seq}))");
        } else if self.kind != Kind::Plain {
            command.push_str(" (CONDSTORE)");
        }
        self.session.begin().extend_from_slice(command.as_bytes());
        self.session.link.send("\r\n").await?;
        self.note('C', command.as_bytes());
        let mut resync = known.then(|| Resync::new(&before.entries));
        let ending = self.ending(Busy::Other, resync.as_mut()).await?;
        if !ending.ok {
            return Err(Fault::Trouble(Trouble::Denied));
        }
        if let Some(resync) = resync {
            resync.finish(&mut self.model).map_err(Fault::Disagreed)?;
        }
        self.fetch_all().await
    }

    fn wanted(&self) -> &'static str {
        if self.kind == Kind::Plain { "(UID FLAGS)" } else { "(UID FLAGS MODSEQ)" }
    }

    /// Everything of every message.
    async fn fetch_all(&mut self) -> Result<(), Fault> {
        if !self.model.entries.is_empty() {
            self.run(&format!("FETCH 1:* {}", self.wanted()), Busy::Numbers).await?;
        }
        Ok(())
    }

    /// Fetches what is not known: new messages, and flags that several may have changed.
    pub(crate) async fn learn(&mut self) -> Result<(), Fault> {
        let unknown = |entry: &Entry| entry.uid.is_none() || entry.flags.is_none();
        let first = self.model.entries.iter().position(unknown);
        let last = self.model.entries.iter().rposition(unknown);
        if let (Some(first), Some(last)) = (first, last) {
            let command = format!("FETCH {}:{} {}", first + 1, last + 1, self.wanted());
            self.run(&command, Busy::Numbers).await?;
        }
        Ok(())
    }

    /// Sees all that has happened: nothing is under way any more.
    pub(crate) async fn settle(&mut self) -> Result<(), Fault> {
        self.must("NOOP").await?;
        self.learn().await?;
        self.must("NOOP").await
    }

    /// One operation by chance.
    pub(crate) async fn operate(&mut self, settings: &Settings) -> Result<(), Fault> {
        let count = self.model.entries.len();
        let choice = match self.rng.below(18) {
            0..=2 | 8 if count > COUNT_HIGH => 6,
            6..=7 | 9 if count < COUNT_LOW => 0,
            choice => choice,
        };
        if count == 0 || choice <= 2 {
            return self.append(settings).await;
        }
        match choice {
            3..=5 => self.store().await?,
            6 => self.delete().await?,
            7 => self.expunge().await?,
            8 => self.copy(&String::from_utf8_lossy(&settings.mailbox)).await?,
            9 => self.move_away().await?,
            10 => {
                let (from, to) = self.range();
                let (by, set, busy) = self.target(from, to);
                self.run(&format!("{by}FETCH {set} {}", self.wanted()), busy).await?;
            }
            11 => self.changed_since().await?,
            12 => {
                self.run("SEARCH FLAGGED", Busy::Numbers).await?;
            }
            13 => self.idle().await?,
            14 => return self.select(settings).await,
            15 => self.store_unchanged_since().await?,
            _ => self.must("NOOP").await?,
        }
        self.learn().await
    }

    /// A message by chance, from 1.
    fn any(&mut self) -> usize {
        to_usize(self.rng.below(to_u64(self.model.entries.len().max(1)))) + 1
    }

    /// Up to three messages in a row. Where the first is known, all are: what is removed has
    /// to be named to the judge.
    fn range(&mut self) -> (usize, usize) {
        let from = self.any();
        let to = from + to_usize(self.rng.below(3));
        let unknown = self.model.entries[from - 1..].iter().position(|entry| entry.uid.is_none());
        let known = unknown.map_or(usize::MAX, |index| (from - 1 + index).max(from));
        (from, to.min(self.model.entries.len()).min(known))
    }

    fn uids(&self, from: usize, to: usize) -> Vec<u32> {
        self.model.entries[from - 1..to].iter().filter_map(|entry| entry.uid).collect()
    }

    async fn append(&mut self, settings: &Settings) -> Result<(), Fault> {
        self.appended += 1;
        let number = self.appended;
        let mail = settings.pool.pick(number);
        let out = self.session.begin();
        out.extend_from_slice(b"APPEND ");
        out.extend_from_slice(&settings.mailbox);
        out.push(b' ');
        if self.session.literal(mail, number).await? {
            self.session.link.send("\r\n").await?;
        }
        self.note('C', format!("APPEND … {{{}}}", mail.len()).as_bytes());
        let ending = self.ending(Busy::Other, None).await?;
        let uid = code_value(ending.code.as_deref(), "APPENDUID");
        let uid = uid.and_then(|uid| number_of(word(uid).1));
        if ending.ok {
            let mut deeds = self.deeds.borrow_mut();
            match uid {
                Some(uid) => deeds.create(uid),
                None => deeds.unnamed = true,
            }
        }
        Ok(())
    }

    /// Names messages by number or, every third time, by UID: the command's beginning, its
    /// set, and what it lets the server say.
    fn target(&mut self, from: usize, to: usize) -> (&'static str, String, Busy) {
        let uids = self.uids(from, to);
        if uids.len() == to + 1 - from && self.rng.below(3) == 0 {
            let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
            return ("UID ", uids.join(","), Busy::Other);
        }
        ("", format!("{from}:{to}"), Busy::Numbers)
    }

    /// Adds or takes away one flag; silently every other time.
    async fn store(&mut self) -> Result<(), Fault> {
        let (number, flag) = (self.any(), FLAGS[to_usize(self.rng.below(6))]);
        let uid = self.model.entries[number - 1].uid;
        let (sign, silent) = (["+", "-"][to_usize(self.rng.below(2))], self.rng.below(2) == 0);
        let mark = if silent { ".SILENT" } else { "" };
        let (by, set, busy) = self.target(number, number);
        let command = format!("{by}STORE {set} {sign}FLAGS{mark} ({flag})");
        let ending = self.run(&command, busy).await?;
        match uid {
            Some(uid) if silent && ending.ok => {
                self.apply(uid, sign == "+", &flag.to_ascii_lowercase());
            }
            // Nothing was known of it before: the numbers stood still, and `learn` will ask.
            None if silent => self.model.entries[number - 1].flags = None,
            _ => {}
        }
        Ok(())
    }

    /// What a silent STORE did. Where the server told the flags as well, another client has
    /// changed them, before ours or behind: what came is right if it holds our change, and
    /// has to be asked for again if not.
    fn apply(&mut self, uid: u32, add: bool, flag: &str) {
        let told = self.model.was_told(uid);
        let Some(entry) = self.model.get_mut(uid) else { return };
        let Some(flags) = &mut entry.flags else { return };
        let there = flags.iter().any(|one| one == flag);
        if there == add {
            return;
        }
        if told {
            entry.flags = None;
            return;
        }
        change(flags, add, flag);
    }

    /// Messages that are about to be removed, known to the judge from now on.
    fn doomed(&mut self) -> Option<(usize, usize)> {
        let (from, to) = self.range();
        self.model.entries[from - 1].uid?;
        self.deeds.borrow_mut().doomed.extend(self.uids(from, to));
        Some((from, to))
    }

    async fn delete(&mut self) -> Result<(), Fault> {
        let Some((from, to)) = self.doomed() else { return self.must("NOOP").await };
        let (by, set, busy) = self.target(from, to);
        self.run(&format!("{by}STORE {set} +FLAGS (\\Deleted)"), busy).await?;
        Ok(())
    }

    async fn expunge(&mut self) -> Result<(), Fault> {
        let (from, to) = self.range();
        let uids = self.uids(from, to);
        let command = match (uids.first(), uids.last()) {
            (Some(first), Some(last)) if self.session.offers.uid_plus && self.rng.below(2) == 0 => {
                format!("UID EXPUNGE {first}:{last}")
            }
            _ => "EXPUNGE".into(),
        };
        self.run(&command, Busy::Other).await?;
        Ok(())
    }

    /// Copies within the mailbox.
    async fn copy(&mut self, mailbox: &str) -> Result<(), Fault> {
        let (from, to) = self.range();
        let (by, set, _) = self.target(from, to);
        let ending = self.run(&format!("{by}COPY {set} {mailbox}"), Busy::Other).await?;
        let mut deeds = self.deeds.borrow_mut();
        match copies(ending.code.as_deref()) {
            Some(pairs) => pairs.into_iter().for_each(|(from, to)| deeds.copy(from, to)),
            None => deeds.unnamed |= ending.ok && !self.session.offers.uid_plus,
        }
        Ok(())
    }

    async fn move_away(&mut self) -> Result<(), Fault> {
        if !self.session.offers.moves {
            return Ok(());
        }
        let Some((from, to)) = self.doomed() else { return self.must("NOOP").await };
        let other = String::from_utf8_lossy(&self.other).into_owned();
        let (by, set, _) = self.target(from, to);
        let ending = self.run(&format!("{by}MOVE {set} {other}"), Busy::Other).await?;
        let mut deeds = self.deeds.borrow_mut();
        match copies(ending.copied.as_deref()).or_else(|| copies(ending.code.as_deref())) {
            Some(pairs) => pairs.into_iter().for_each(|(from, to)| deeds.moved(from, to)),
            None => deeds.unnamed |= ending.ok && !self.session.offers.uid_plus,
        }
        Ok(())
    }

    async fn changed_since(&mut self) -> Result<(), Fault> {
        let since = self.model.highest_mod_seq.max(1);
        if self.kind == Kind::Plain {
            return self.must("CHECK").await;
        }
        let command = format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {since})");
        self.run(&command, Busy::Numbers).await?;
        let unchanged = self.model.entries.iter().find(|entry| {
            entry.mod_seq.is_some_and(|mod_seq| mod_seq <= since)
                && entry.uid.is_some_and(|uid| self.model.was_told(uid))
        });
        match unchanged {
            Some(Entry { uid, .. }) => Err(Fault::Disagreed(format!(
                "UID {uid:?} came although nothing of it changed since {since}"
            ))),
            None => Ok(()),
        }
    }

    /// STORE that must not happen where somebody else was first (RFC 7162 §3.1.3).
    async fn store_unchanged_since(&mut self) -> Result<(), Fault> {
        let number = self.any();
        let Entry { uid: Some(uid), mod_seq: Some(since), flags: Some(flags) } =
            self.model.entries[number - 1].clone()
        else {
            return self.must("NOOP").await;
        };
        let sign = if flags.iter().any(|flag| flag == "\\flagged") { '-' } else { '+' };
        let command = format!("STORE {number} (UNCHANGEDSINCE {since}) {sign}FLAGS (\\Flagged)");
        let ending = self.run(&command, Busy::Numbers).await?;
        let modified = code_value(ending.code.as_deref(), "MODIFIED");
        if let Some(set) = modified {
            let it = u32::try_from(number).unwrap_or(u32::MAX);
            let names_it = ranges(set).all(|range| range == (it, it));
            return if names_it {
                Ok(())
            } else {
                Err(Fault::Disagreed("MODIFIED names a message that was not asked for".into()))
            };
        }
        let now = self.model.entries[number - 1].mod_seq;
        if ending.ok && self.model.was_told(uid) && now == Some(since) {
            return Err(Fault::Disagreed(format!("STORE left MODSEQ at {since}")));
        }
        Ok(())
    }

    /// Waits a little in IDLE, and takes what comes.
    async fn idle(&mut self) -> Result<(), Fault> {
        self.model.begin();
        self.note('C', b"IDLE");
        self.session.begin().extend_from_slice(b"IDLE\r\n");
        self.session.link.flush().await?;
        let (mut idling, mut patience) = (false, Duration::MAX);
        loop {
            let next = tokio::time::timeout(patience, self.session.link.peek_response());
            let Ok(len) = next.await else { break };
            let len = len?;
            let whole = self.session.link.received()[..len].to_vec();
            let response = parse(&whole).map_err(Trouble::from)?;
            if matches!(response, Response::Tagged { .. }) {
                break;
            }
            self.note('S', &whole);
            self.session.link.used(len);
            if response == Response::Continue {
                (idling, patience) = (true, IDLE_AT_MOST);
            }
            self.model.take(&response, Busy::Other).map_err(Fault::Disagreed)?;
        }
        if idling {
            self.note('C', b"DONE");
            self.session.link.send("DONE\r\n").await?;
        }
        self.ending(Busy::Other, None).await?;
        Ok(())
    }

    /// The mailbox as a session sees it that knows nothing yet.
    pub(crate) async fn look(&mut self, mailbox: &[u8]) -> Result<Vec<Entry>, Fault> {
        self.model = Model::default();
        self.must(&format!("EXAMINE {}", String::from_utf8_lossy(mailbox))).await?;
        self.fetch_all().await?;
        Ok(self.model.entries.clone())
    }
}

fn change(flags: &mut Flags, add: bool, flag: &str) {
    if add {
        flags.push(flag.into());
        flags.sort();
    } else {
        flags.retain(|one| one != flag);
    }
}

fn number_of(digits: &[u8]) -> Option<u32> {
    u32::try_from(number(digits)?).ok()
}
