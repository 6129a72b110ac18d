//! Asks a server by POP3 (RFC 1939) which unique ids it tells of the messages that IMAP shows in INBOX,
//! and finds out which is whose.

use super::super::maildir::DOVECOT_UIDL;
use super::super::source::Folder;
use super::FOLDER_MESSAGES_MAX;
use super::connection::Account;
use super::reader::Reader;
use super::transport::Stream;
use crate::bytes::hash::{Map, Set};
use crate::wire::uidl::{OWN, UIDL_OCTETS_MAX, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Write as _};

/// How servers make their ids: Dovecot, Courier, Cyrus and others.
const FORMS: [&str; 5] = [DOVECOT_UIDL, "UID%u-%v", OWN, "%u.%v", "%u"];

/// A message as POP3 tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    octets: u64,
    id: String,
}

/// Whose the ids are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unique {
    /// All of them follow this form.
    pub(super) form: Option<String>,
    /// Else: places in the folder, and their ids.
    pub(super) matched: Vec<(usize, String)>,
    pub(super) unmatched: usize,
}

/// Logs in, and asks for the ids and sizes of all messages.
pub(super) fn ask(account: &Account) -> io::Result<Vec<Told>> {
    let place = &account.place;
    let mut stream = Stream::connect(place)?;
    if place.is_tls {
        stream = stream.encrypt(&place.host, &account.tls)?;
    }
    let mut session = Session { reader: Reader::new(stream, 0) };
    session.heed()?;
    if !account.in_clear && !session.reader.stream().is_tls() {
        session = match session.ask("STLS") {
            Ok(()) => {
                let stream = session.reader.into_inner()?;
                let stream = stream.encrypt(&place.host, &account.tls)?;
                Session { reader: Reader::new(stream, 0) }
            }
            Err(_) if session.reader.stream().is_private() => session,
            Err(error) => return Err(error),
        };
    }
    session.log_in(account)?;
    let octets = session.lines("LIST")?;
    let ids = session.lines("UIDL")?;
    // The server removes nothing: nothing was marked.
    session.send("QUIT")?;
    let octets: Map<u64, u64> = octets
        .iter()
        .filter_map(|(number, octets)| Some((*number, octets.parse().ok()?)))
        .collect();
    let told = |(number, id): (u64, String)| Told {
        octets: octets.get(&number).copied().unwrap_or(0),
        id,
    };
    Ok(ids.into_iter().map(told).collect())
}

struct Session {
    reader: Reader<Stream>,
}

impl Session {
    fn log_in(&mut self, account: &Account) -> io::Result<()> {
        let credentials = &account.credentials;
        let (user, secret) = (&credentials.user, credentials.password.expose());
        if account.is_token {
            let text = format!("user={user}\u{1}auth=Bearer {secret}\u{1}\u{1}");
            return self.ask(&format!("AUTH XOAUTH2 {}", STANDARD.encode(text)));
        }
        if let Some(whose) = &credentials.acting_for {
            let text = format!("{whose}\0{user}\0{secret}");
            return self.ask(&format!("AUTH PLAIN {}", STANDARD.encode(text)));
        }
        self.ask(&format!("USER {user}"))?;
        self.ask(&format!("PASS {secret}"))
    }

    fn send(&mut self, line: &str) -> io::Result<()> {
        if line.contains(['\r', '\n']) {
            return Err(io::Error::other("a line end in the name or the password"));
        }
        let stream = self.reader.stream();
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        stream.flush()
    }

    fn ask(&mut self, line: &str) -> io::Result<()> {
        self.send(line)?;
        self.heed()
    }

    fn heed(&mut self) -> io::Result<()> {
        let line = self.line()?;
        if line.starts_with("+OK") {
            return Ok(());
        }
        Err(io::Error::other(format!("the server says: {line}")))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.line(&mut line)?;
        Ok(String::from_utf8_lossy(&line).chars().take(200).collect())
    }

    /// Numbers of messages, and what stands behind them.
    fn lines(&mut self, command: &str) -> io::Result<Vec<(u64, String)>> {
        self.ask(command)?;
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line == "." {
                return Ok(lines);
            }
            let parts = line.split_once(' ').and_then(|(number, rest)| {
                let rest = rest.split(' ').next().filter(|rest| !rest.is_empty())?;
                Some((number.parse().ok()?, rest.to_owned()))
            });
            let part = parts.filter(|_| lines.len() < FOLDER_MESSAGES_MAX);
            lines.push(part.ok_or_else(|| io::Error::other("a list that cannot be read"))?);
        }
    }
}

/// Finds out which id is of which message: by how ids are made, else by the order and the sizes.
pub(super) fn hold_against(told: &[Told], folder: &Folder) -> Unique {
    for form in folder.uidl.as_deref().into_iter().chain(FORMS) {
        if !told.is_empty() && is_made_by(form, told, folder) {
            return Unique { form: Some(form.into()), ..Unique::default() };
        }
    }
    let is_id = |id: &str| {
        (1..=UIDL_OCTETS_MAX).contains(&id.len())
            && id.bytes().all(|octet| octet.is_ascii_graphic())
    };
    let mut matched = Vec::new();
    for (theirs, ours) in pairs(told, folder) {
        if is_id(&told[theirs].id) {
            matched.push((ours, told[theirs].id.clone()));
        }
    }
    Unique { form: None, unmatched: told.len() - matched.len(), matched }
}

fn is_made_by(form: &str, told: &[Told], folder: &Folder) -> bool {
    let made = folder.messages.iter().map(|one| {
        let mut id = String::new();
        put(form, one.uid, folder.uidvalidity, &mut id).expect("a string takes all text");
        id
    });
    let made: Set<String> = made.collect();
    told.iter().all(|one| made.contains(&one.id))
}

/// Messages of both that are the same: those of a size that only one has, and between two of them all, if
/// they are as many and of the same sizes.
fn pairs(told: &[Told], folder: &Folder) -> Vec<(usize, usize)> {
    let mut sizes: Map<u64, [Vec<usize>; 2]> = Map::default();
    for (at, one) in told.iter().enumerate() {
        sizes.entry(one.octets).or_default()[0].push(at);
    }
    for (at, one) in folder.messages.iter().enumerate() {
        sizes.entry(one.octets).or_default()[1].push(at);
    }
    let only = sizes.values().filter_map(|[theirs, ours]| match (&theirs[..], &ours[..]) {
        ([one], [other]) => Some((*one, *other)),
        _ => None,
    });
    let mut anchors: Vec<(usize, usize)> = only.collect();
    anchors.sort_unstable();
    anchors.push((told.len(), folder.messages.len()));
    let mut pairs: Vec<(usize, usize)> = Vec::with_capacity(told.len());
    let (mut theirs, mut ours) = (0, 0);
    for (their_end, our_end) in anchors {
        if our_end < ours {
            // Both have it, at places that do not go together.
            continue;
        }
        let between = (theirs..their_end).zip(ours..our_end);
        let is_same =
            |(one, other): (usize, usize)| told[one].octets == folder.messages[other].octets;
        if their_end - theirs == our_end - ours && between.clone().all(is_same) {
            pairs.extend(between);
        }
        if their_end < told.len() {
            pairs.push((their_end, our_end));
        }
        (theirs, ours) = (their_end + 1, our_end + 1);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::super::source::{Found, Place};
    use super::*;
    use crate::mailbox::Flags;

    fn folder(octets: &[u64]) -> Folder {
        let found = |(uid, &octets): (u32, &u64)| Found {
            place: Place::Uid(uid),
            octets,
            uid,
            date: 0,
            flags: Flags::default(),
            keywords: Vec::new(),
            uidl: None,
        };
        let messages = (1..).zip(octets).map(found).collect();
        Folder { uidvalidity: 77, messages, ..Folder::default() }
    }

    fn told(all: &[(u64, &str)]) -> Vec<Told> {
        all.iter().map(|&(octets, id)| Told { octets, id: id.into() }).collect()
    }

    #[test]
    fn ids_that_follow_a_form_are_known_by_it() {
        let by =
            |ids: [&str; 2]| hold_against(&told(&[(5, ids[0]), (6, ids[1])]), &folder(&[5, 6, 7]));
        assert_eq!(
            by(["000000010000004d", "000000030000004d"]).form.as_deref(),
            Some(DOVECOT_UIDL)
        );
        assert_eq!(by(["77.1", "77.2"]).form.as_deref(), Some("%v.%u"));
        assert_eq!(by(["77.1", "77.9"]).form, None);
    }

    #[test]
    fn other_ids_are_known_by_order_and_size() {
        let all = told(&[(5, "a"), (5, "b"), (9, "c"), (4, "d"), (4, "e"), (1, "f")]);
        let Unique { form, matched, unmatched } =
            hold_against(&all, &folder(&[5, 5, 9, 4, 8, 4, 4, 1]));
        let matched: Vec<(usize, &str)> =
            matched.iter().map(|(at, id)| (*at, id.as_str())).collect();
        assert_eq!((form, unmatched), (None, 2));
        assert_eq!(matched, [(0, "a"), (1, "b"), (2, "c"), (7, "f")]);
        let swapped = hold_against(&told(&[(1, "a"), (2, "b")]), &folder(&[2, 1]));
        assert_eq!((swapped.matched.len(), swapped.unmatched), (1, 1));
        let odd = hold_against(&told(&[(1, "caf\u{e9}")]), &folder(&[1]));
        assert_eq!((odd.matched.len(), odd.unmatched), (0, 1));
        assert_eq!(hold_against(&[], &folder(&[1])), Unique::default());
    }
}
