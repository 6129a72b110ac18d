//! What was promised to clients and what they saw, kept outside of the machine: survives all lives.
//!
//! ```text
//!   message, for each recipient:  Refused ──sent whole──> Unknown ──250──> Promised
//!                                    ^───────── 4xx, 5xx ────┘
//!   message in a maildrop:        Live ──QUIT sent──> Leaving ──+OK──> Removed
//!                                   ^──────-ERR──────────┘
//! ```
//!
//! What is Promised must be there once, what is Refused never, what is Unknown once or never. What
//! is Live must be there, what is Removed never again; what is Leaving goes as a whole or not.

use std::collections::BTreeMap;

/// Whether a message is to be in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Never: it was refused, or never sent whole.
    Refused,
    /// Once or never: the answer did not come.
    Unknown,
    /// Once.
    Promised,
}

/// A message that a client sent, under the number in its header, or a report on one.
struct Sent {
    /// As it is to be there, below what the server puts in front; nothing is held against a report's.
    octets: Vec<u8>,
    /// Fields that the server adds.
    lacks: Vec<&'static str>,
    /// The message whose delivery this reports.
    reports: Option<usize>,
    /// For each recipient in the envelope the users that it stands for, and what it was told.
    recipients: Vec<(Vec<usize>, Fate)>,
}

impl Sent {
    fn fate(&self, user: usize) -> Fate {
        let named = self.recipients.iter().filter(|(users, _)| users.contains(&user));
        named.map(|&(_, fate)| fate).max().unwrap_or(Fate::Refused)
    }
}

/// A message that a client saw in a maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// A QUIT with this number is to remove it; no answer came yet.
    Leaving(usize),
    Removed,
}

struct Known {
    /// Which message it is, once somebody read it.
    message: Option<usize>,
    state: State,
}

/// Messages that one QUIT removes.
struct Removal {
    user: usize,
    uids: Vec<u32>,
    /// When it was asked for: within the same life it may still be under way.
    life: u64,
}

#[derive(Default)]
struct Maildrop {
    uidvalidity: Option<u32>,
    uid_max: u32,
    known: BTreeMap<u32, Known>,
    /// Sessions that were opened so far: who is not the last one sees the past.
    sessions: u64,
}

/// See the header.
pub(crate) struct Oracle {
    life: u64,
    sent: Vec<Sent>,
    maildrops: Vec<Maildrop>,
    removals: Vec<Removal>,
}

/// What happened that may not happen.
pub(crate) type Verdict = Result<(), String>;

impl Oracle {
    pub(crate) fn new(users: usize) -> Oracle {
        let maildrops = (0..users).map(|_| Maildrop::default()).collect();
        Oracle { life: 1, sent: Vec::new(), maildrops, removals: Vec::new() }
    }

    pub(crate) fn begin_life(&mut self, life: u64) {
        self.life = life;
    }

    /// The number that the next message gets.
    pub(crate) fn next_message(&self) -> usize {
        self.sent.len()
    }

    /// A client is about to send a message, to which the server adds the fields that it `lacks`.
    /// Nothing of it may be seen before [`Oracle::whole`].
    pub(crate) fn send(
        &mut self,
        octets: Vec<u8>,
        lacks: Vec<&'static str>,
        recipients: Vec<Vec<usize>>,
    ) -> usize {
        let recipients = recipients.into_iter().map(|users| (users, Fate::Refused)).collect();
        self.sent.push(Sent { octets, lacks, reports: None, recipients });
        self.sent.len() - 1
    }

    /// The client is to hear in this user's mailbox that `message` was delivered. A report has a fate
    /// as a message has that is sent to him alone.
    pub(crate) fn send_report(&mut self, message: usize, user: usize) -> usize {
        let report = self.send(Vec::new(), Vec::new(), vec![vec![user]]);
        self.sent[report].reports = Some(message);
        report
    }

    /// What became of a report.
    pub(crate) fn reported(&mut self, report: usize, fate: Fate) {
        self.sent[report].recipients[0].1 = fate;
    }

    /// The last octet is about to go out; `accepted` are the recipients that may get it.
    pub(crate) fn whole(&mut self, message: usize, accepted: &[usize]) {
        for &recipient in accepted {
            self.sent[message].recipients[recipient].1 = Fate::Unknown;
        }
    }

    /// A recipient of the envelope was answered.
    pub(crate) fn answered(&mut self, message: usize, recipient: usize, stored: bool) {
        let fate = if stored { Fate::Promised } else { Fate::Refused };
        self.sent[message].recipients[recipient].1 = fate;
    }

    /// How many messages were promised.
    pub(crate) fn promised(&self) -> usize {
        let promised = |sent: &&Sent| sent.recipients.iter().any(|one| one.1 == Fate::Promised);
        self.sent.iter().filter(promised).count()
    }

    /// How many messages were removed for certain.
    pub(crate) fn removed(&self) -> usize {
        let known = self.maildrops.iter().flat_map(|maildrop| maildrop.known.values());
        known.filter(|known| known.state == State::Removed).count()
    }

    /// A login succeeded; the number tells the session.
    pub(crate) fn opened(&mut self, user: usize) -> u64 {
        self.maildrops[user].sessions += 1;
        self.maildrops[user].sessions
    }

    /// Whether nobody logged in after this session did.
    pub(crate) fn is_last(&self, user: usize, session: u64) -> bool {
        self.maildrops[user].sessions == session
    }

    /// What UIDL said: UIDVALIDITY and UID of every message of a maildrop.
    pub(crate) fn listed(&mut self, user: usize, list: &[(u32, u32)]) -> Verdict {
        let maildrop = &mut self.maildrops[user];
        if let Some(pair) = list.windows(2).find(|pair| pair[0].1 >= pair[1].1) {
            return Err(format!("I3: u{user}: UID {} before UID {}", pair[0].1, pair[1].1));
        }
        for &(uidvalidity, uid) in list {
            let known = *maildrop.uidvalidity.get_or_insert(uidvalidity);
            if known != uidvalidity {
                return Err(format!("I3: u{user}: UIDVALIDITY {known} became {uidvalidity}"));
            }
            if !maildrop.known.contains_key(&uid) {
                if uid <= maildrop.uid_max {
                    let max = maildrop.uid_max;
                    return Err(format!("I3: u{user}: new UID {uid}, but {max} was there before"));
                }
                maildrop.known.insert(uid, Known { message: None, state: State::Live });
            }
        }
        maildrop.uid_max = maildrop.uid_max.max(list.last().map_or(0, |&(_, uid)| uid));
        let has = |uid: u32| list.binary_search_by_key(&uid, |&(_, uid)| uid).is_ok();
        for (&uid, known) in &maildrop.known {
            match (known.state, has(uid)) {
                (State::Live, false) => {
                    let what =
                        known.message.map_or("unread".into(), |one| format!("message {one}"));
                    return Err(format!("I3: u{user}: UID {uid} ({what}) was seen and is gone"));
                }
                (State::Removed, true) => {
                    let what = known.message;
                    return Err(format!("I6: u{user}: UID {uid} ({what:?}) was removed, is there"));
                }
                _ => {}
            }
        }
        self.resolve(user, &has)
    }

    /// What became of removals that were not answered.
    fn resolve(&mut self, user: usize, has: &dyn Fn(u32) -> bool) -> Verdict {
        let maildrop = &mut self.maildrops[user];
        for (number, removal) in self.removals.iter().enumerate().filter(|(_, r)| r.user == user) {
            let leaving = |uid: &&u32| {
                maildrop.known.get(*uid).is_some_and(|one| one.state == State::Leaving(number))
            };
            let open: Vec<u32> = removal.uids.iter().filter(leaving).copied().collect();
            let there = open.iter().filter(|&&uid| has(uid)).count();
            if there != 0 && there != open.len() {
                let all = open.len();
                return Err(format!("I6: u{user}: one QUIT removed {} of {all}", all - there));
            }
            let state = match there {
                0 => State::Removed,
                // What a log that stopped has on its disk is seen with the next start.
                _ if removal.life == self.life => continue,
                _ => State::Live,
            };
            for uid in open {
                if let Some(known) = maildrop.known.get_mut(&uid) {
                    known.state = state;
                }
            }
        }
        Ok(())
    }

    /// What RETR gave: must be a message that was sent to this user, octet for octet.
    pub(crate) fn read(&mut self, user: usize, uid: u32, octets: &[u8]) -> Verdict {
        let strange = || format!("I8: u{user}: UID {uid} is no message of ours");
        let begin = number_at(octets).ok_or_else(strange)?;
        let (front, body) = octets.split_at(begin);
        let number = body.split(|&octet| octet == b'\r').next().unwrap_or_default();
        let number = std::str::from_utf8(&number[NUMBER.len()..]).ok();
        let number = number.and_then(|text| text.parse::<usize>().ok()).ok_or_else(strange)?;
        let is_report = front.starts_with(REPORT);
        let number = if is_report {
            let of = |sent: &Sent| sent.reports == Some(number);
            self.sent.iter().position(of).ok_or_else(|| format!("I2: nobody asked of {number}"))?
        } else {
            number
        };
        let Some(sent) = self.sent.get(number) else {
            return Err(format!("I8: u{user}: message {number} was never sent"));
        };
        if is_report {
            let front = String::from_utf8_lossy(front);
            if !front.contains(&format!("\r\nTo: <u{user}@"))
                || !front.contains("\r\nAction: delivered\r\n")
            {
                return Err(format!(
                    "I8: u{user}: UID {uid} is a report without a delivery: {front}"
                ));
            }
        } else if added(front).as_ref() != Some(&sent.lacks) {
            let front = String::from_utf8_lossy(front);
            return Err(format!("I8: u{user}: message {number} lacked {:?}: {front}", sent.lacks));
        } else if sent.octets != body {
            let same = sent.octets.iter().zip(body).take_while(|(a, b)| a == b).count();
            return Err(format!(
                "I8: u{user}: message {number} has {} octets, was sent with {}, same up to {same}",
                body.len(),
                sent.octets.len()
            ));
        }
        if sent.fate(user) == Fate::Refused {
            return Err(format!("I2: u{user}: message {number} was refused, is there"));
        }
        let known = &mut self.maildrops[user].known;
        if let Some((other, _)) =
            known.iter().find(|(other, one)| **other != uid && one.message == Some(number))
        {
            return Err(format!("I1: u{user}: message {number} is UID {other} and UID {uid}"));
        }
        let Some(one) = known.get_mut(&uid) else {
            return Err(format!("u{user}: UID {uid} was not listed"));
        };
        if one.message.is_some_and(|before| before != number) {
            let before = one.message;
            return Err(format!("I3: u{user}: UID {uid} was {before:?}, is message {number}"));
        }
        one.message = Some(number);
        Ok(())
    }

    /// Of these, the ones that no removal is under way for and that somebody read.
    pub(crate) fn removable(&self, user: usize, uids: &[u32]) -> Vec<u32> {
        let known = &self.maildrops[user].known;
        let fits = |known: &Known| known.state == State::Live && known.message.is_some();
        uids.iter().filter(|uid| known.get(uid).is_some_and(fits)).copied().collect()
    }

    /// QUIT is about to be sent.
    pub(crate) fn leaves(&mut self, user: usize, uids: &[u32]) -> usize {
        let number = self.removals.len();
        self.removals.push(Removal { user, uids: uids.to_vec(), life: self.life });
        self.set(number, |_| State::Leaving(number));
        number
    }

    /// QUIT was answered.
    pub(crate) fn left(&mut self, removal: usize, removed: bool) -> Verdict {
        let mut wrong = None;
        self.set(removal, |state| {
            // Somebody may have seen the outcome before this client heard of it.
            let outcome = if removed { State::Removed } else { State::Live };
            if !removed && state == State::Removed || removed && state == State::Live {
                wrong = Some(state);
            }
            outcome
        });
        match wrong {
            Some(state) => Err(format!("I5: QUIT said removed: {removed}, but seen as {state:?}")),
            None => Ok(()),
        }
    }

    fn set(&mut self, removal: usize, mut state: impl FnMut(State) -> State) {
        let Removal { user, uids, .. } = &self.removals[removal];
        for uid in uids {
            if let Some(known) = self.maildrops[*user].known.get_mut(uid) {
                known.state = state(known.state);
            }
        }
    }

    /// Whether somebody had or has it who was to get it.
    fn is_there(&self, message: usize) -> bool {
        let known = self.maildrops.iter().flat_map(|maildrop| maildrop.known.values());
        known.filter(|one| one.message == Some(message)).count() > 0
    }

    /// Reports that somebody read.
    pub(crate) fn reports(&self) -> usize {
        let is_read = |number: usize, sent: &Sent| sent.reports.is_some() && self.is_there(number);
        self.sent.iter().enumerate().filter(|(number, sent)| is_read(*number, sent)).count()
    }

    /// To be asked when every maildrop was listed and read to its end: is all there?
    pub(crate) fn all_there(&self) -> Verdict {
        for (number, sent) in self.sent.iter().enumerate() {
            for (user, maildrop) in self.maildrops.iter().enumerate() {
                let there = maildrop.known.values().any(|one| one.message == Some(number));
                if sent.fate(user) == Fate::Promised && !there {
                    return Err(format!("I1: u{user}: message {number} was promised, is missing"));
                }
                // A report is written when its message is in the log.
                if let (Some(message), true) = (sent.reports, there)
                    && !self.is_there(message)
                {
                    return Err(format!("I2: {message} was reported to u{user}, and is nowhere"));
                }
            }
        }
        Ok(())
    }
}

/// How a client's part of a message begins.
const NUMBER: &[u8] = b"X-Message: ";
/// How a report on a delivery begins: it comes from here.
const REPORT: &[u8] = b"Return-Path: <>\r\nFrom: ";

/// Where the client's part begins, also in a report.
fn number_at(octets: &[u8]) -> Option<usize> {
    let at = octets.windows(NUMBER.len()).position(|window| window == NUMBER)?;
    octets[..at].ends_with(b"\r\n").then_some(at)
}

/// The names of the fields that the server put in front beside its trace lines; `None`: what stands
/// there is nothing that it puts.
fn added(front: &[u8]) -> Option<Vec<&str>> {
    let front = std::str::from_utf8(&front[trace_octets(front)?..]).ok()?;
    let lines = front.split_terminator("\r\n").filter(|line| !line.starts_with('\t'));
    lines.map(|line| Some(line.split_once(": ")?.0)).collect()
}

/// Where the trace lines that the server put in front end.
pub(crate) fn trace_octets(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    for start in ["Return-Path: <", "Received: from "] {
        if !octets[at..].starts_with(start.as_bytes()) {
            return None;
        }
        loop {
            at += 1 + octets[at..].iter().position(|&octet| octet == b'\n')?;
            if !matches!(octets.get(at), Some(b' ' | b'\t')) {
                break;
            }
        }
    }
    Some(at)
}
