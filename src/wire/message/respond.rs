//! What a message says to a program that would answer it: who may be answered, and what the answer refers to
//! (RFC 3834 §2, RFC 5230 §4.5 to §4.7).

use super::fields::{fields, header_len};
use super::words::decoded;
use crate::model::address::Address;
use crate::model::limits::{
    ANSWER_HEADER_OCTETS_MAX, ANSWER_RECIPIENTS_MAX, ANSWER_REFERENCES_OCTETS_MAX,
    ANSWER_SUBJECT_OCTETS_MAX,
};
use crate::wire::address::parse_mailbox;

/// Senders who are programs: their names, or how these begin and end. Lower case.
const PROGRAMS: [&str; 6] =
    ["mailer-daemon", "listserv", "majordomo", "postmaster", "noreply", "no-reply"];
const PROGRAM_STARTS: [&str; 3] = ["owner-", "bounce-", "bounces-"];
const PROGRAM_ENDS: [&str; 4] = ["-request", "-owner", "-bounce", "-bounces"];
/// Each on a line of its own (RFC 5322 §2.2.3).
const BETWEEN_IDS: &str = "\r\n\t";

/// What an answer needs to know of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answerable {
    /// As people read it, on one line, of [`ANSWER_SUBJECT_OCTETS_MAX`]; empty for none.
    pub subject: String,
    /// `<…>`.
    pub message_id: Option<String>,
    /// The thread, the message last (RFC 5322 §3.6.4): its first one, and of the others those that
    /// [`ANSWER_REFERENCES_OCTETS_MAX`] leave room for.
    pub references: String,
}

/// The reverse-path that stands on top of a message that is stored; none for the null one.
pub fn return_path(message: &[u8]) -> Option<Address> {
    let value = message.strip_prefix(b"Return-Path: <")?;
    let end = memchr::memchr(b'\n', value)?;
    let path = std::str::from_utf8(&value[..end]).ok()?.trim_end().strip_suffix('>')?;
    parse_mailbox(path).ok().map(|path| path.to_address())
}

/// Whether a sender is a program by its name (RFC 5230 §4.6).
pub fn is_program(sender: &Address) -> bool {
    let local = sender.local().to_ascii_lowercase();
    PROGRAMS.contains(&&*local)
        || PROGRAM_STARTS.iter().any(|start| local.starts_with(start))
        || PROGRAM_ENDS.iter().any(|end| local.ends_with(end))
}

/// A sender without what changes from one of his messages to the next, in lower case: the tags of BATV
/// (`prvs=tag=ann@a.example`) and SRS (`SRS0=hash=day=a.example=ann@b.example`, and SRS1 around that).
pub fn lasting(sender: &Address) -> String {
    let plain = sender.to_string().to_lowercase();
    let local = sender.local().to_lowercase();
    let original = |behind: &str| {
        let mut parts = behind.get(1..)?.splitn(4, '=').skip(2);
        let (host, user) = (parts.next()?, parts.next()?);
        Some(format!("{user}@{host}"))
    };
    let found = if let Some(signed) = local.strip_prefix("prvs=") {
        signed.split_once('=').map(|(_, user)| format!("{user}@{}", sender.domain()))
    } else if let Some(behind) = local.strip_prefix("srs0") {
        original(behind)
    } else if let Some(behind) = local.strip_prefix("srs1") {
        // A separator and a hash, the host that made the other one, and what stands behind its SRS0.
        behind.get(1..).and_then(|behind| behind.splitn(3, '=').nth(2)).and_then(original)
    } else {
        None
    };
    found.unwrap_or(plain)
}

/// What an answer to a message refers to; none: no program may answer it. `is_own` says which addresses are
/// those of the user who is away: one has to be named as a recipient, among the first
/// [`ANSWER_RECIPIENTS_MAX`]. A header over [`ANSWER_HEADER_OCTETS_MAX`] has no answer.
pub fn answerable(message: &[u8], is_own: impl Fn(&Address) -> bool) -> Option<Answerable> {
    let header = &message[..message.len().min(ANSWER_HEADER_OCTETS_MAX)];
    if header.len() < message.len() && header_len(header) == header.len() {
        return None;
    }
    let mut found = Answerable::default();
    let (mut is_to_own, mut looked, mut ids) = (false, 0, None);
    let mut look = |address: &Address| {
        if !is_to_own && looked < ANSWER_RECIPIENTS_MAX {
            looked += 1;
            is_to_own = is_own(address);
        }
    };
    for field in fields(header) {
        let name = header[field.name.clone()].to_ascii_lowercase();
        let value = &header[field.value.clone()];
        match &*name {
            // RFC 3834 §2: whatever it says but no.
            b"auto-submitted" if !is_word(value, &["no"]) => return None,
            b"precedence" if is_word(value, &["bulk", "list", "junk"]) => return None,
            // Of some programs that know none of these (Exchange).
            b"x-auto-response-suppress" if !is_word(value, &["none"]) => return None,
            b"to" | b"cc" | b"bcc" | b"resent-to" | b"resent-cc" | b"resent-bcc" => {
                each_address(value, &mut look);
            }
            b"subject" => found.subject = subject_of(value),
            b"message-id" => found.message_id = message_ids(value).pop().map(Into::into),
            b"references" => ids = Some(message_ids(value)),
            b"in-reply-to" if ids.is_none() => {
                // RFC 5322 §3.6.4: only one, or nobody knows which of them it is.
                ids = Some(message_ids(value)).filter(|ids| ids.len() == 1);
            }
            // List-Id, List-Post, List-Unsubscribe and the others (RFC 2369, RFC 2919).
            name if name.starts_with(b"list-") => return None,
            _ => {}
        }
    }
    let mut thread = ids.unwrap_or_default();
    thread.extend(found.message_id.as_deref());
    found.references = references(&thread);
    is_to_own.then_some(found)
}

/// The first one begins the thread; of the others the last ones are worth most.
fn references(thread: &[&str]) -> String {
    let Some((first, others)) = thread.split_first() else { return String::new() };
    let mut left = ANSWER_REFERENCES_OCTETS_MAX.saturating_sub(first.len());
    let fits = |id: &&&str| {
        let len = BETWEEN_IDS.len() + id.len();
        let fits = len <= left;
        left = left.saturating_sub(len);
        fits
    };
    let count = others.iter().rev().take_while(fits).count();
    let last = &others[others.len() - count..];
    [&[*first], last].concat().join(BETWEEN_IDS)
}

fn subject_of(value: &[u8]) -> String {
    let mut subject = one_line(&decoded(value));
    subject.truncate(subject.floor_char_boundary(ANSWER_SUBJECT_OCTETS_MAX));
    subject
}

/// Names the addresses of a list, as far as they can be read: in brackets, or by themselves.
fn each_address(value: &[u8], each: &mut dyn FnMut(&Address)) {
    let text = String::from_utf8_lossy(value);
    let mut spec = String::new();
    let (mut is_quoted, mut is_over, mut depth) = (false, false, 0_usize);
    let mut flush = |spec: &mut String| {
        if let Ok(path) = parse_mailbox(spec.trim()) {
            each(&path.to_address());
        }
        spec.clear();
    };
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                let escaped = letters.next();
                if depth == 0 {
                    spec.push(letter);
                    spec.extend(escaped);
                }
            }
            '"' if depth == 0 => {
                is_quoted = !is_quoted;
                spec.push(letter);
            }
            _ if is_quoted => spec.push(letter),
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            // A display name, or that of a group, stands before it.
            '<' | ':' if !is_over => spec.clear(),
            '>' => {
                flush(&mut spec);
                is_over = true;
            }
            ',' | ';' => {
                if !is_over {
                    flush(&mut spec);
                }
                spec.clear();
                is_over = false;
            }
            _ => spec.push(letter),
        }
    }
    if !is_over {
        flush(&mut spec);
    }
}

/// Whether the first word of a value is one of these.
fn is_word(value: &[u8], words: &[&str]) -> bool {
    let text = String::from_utf8_lossy(value);
    let first = text.split([';', '(', ' ', '\t', '\r', '\n']).find(|word| !word.is_empty());
    first.is_some_and(|first| words.iter().any(|word| first.eq_ignore_ascii_case(word)))
}

fn one_line(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let text: String = text.chars().map(plain).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Message-IDs of a value that fit into a line.
fn message_ids(value: &[u8]) -> Vec<&str> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some(start) = memchr::memchr(b'<', rest) {
        rest = &rest[start..];
        let Some(end) = memchr::memchr(b'>', rest) else { break };
        let id = &rest[..=end];
        if id.len() <= 250 && id.iter().all(u8::is_ascii_graphic) {
            ids.extend(std::str::from_utf8(id));
        }
        rest = &rest[end + 1..];
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        parse_mailbox(text).unwrap().to_address()
    }

    /// The header of a message to ann, who has another address.
    fn asked(header: &str) -> Option<Answerable> {
        let own = [address("ann@a.example"), address("\"ann lee\"@b.example")];
        answerable(header.replace('\n', "\r\n").as_bytes(), |one| own.contains(one))
    }

    #[test]
    fn answers_who_writes_to_the_user() {
        for to in [
            "To: ann@a.example",
            "to: x@x.example, Ann (at work) <ann@A.example>",
            "Cc: \"x, <y>\" <x@x.example>,\n \"ann lee\"@b.example",
            "Bcc: team: x@x.example, ann@a.example;",
            "Resent-To: <ann@a.example>",
            "Auto-Submitted: no\nTo: ann@a.example",
            "Precedence: first-class\nTo: ann@a.example",
        ] {
            assert!(asked(&format!("{to}\n\nTo: x\n")).is_some(), "{to}");
        }
    }

    /// RFC 3834 §2, RFC 5230 §4.5, §4.6.
    #[test]
    fn answers_no_program_no_list_and_nobody_who_writes_to_others() {
        for header in [
            "To: bob@a.example",
            "To: (ann@a.example) x@x.example",
            "X-To: ann@a.example",
            "Subject: none of the fields",
            "To: ann@a.example\nAuto-Submitted: auto-replied",
            "To: ann@a.example\nAuto-Submitted: Auto-Generated; x=no",
            "To: ann@a.example\nPrecedence: bulk",
            "To: ann@a.example\nprecedence: JUNK (x)",
            "To: ann@a.example\nList-Id: <l.a.example>",
            "To: ann@a.example\nList-Unsubscribe: <mailto:x@a.example>",
            "To: ann@a.example\nX-Auto-Response-Suppress: OOF",
        ] {
            assert_eq!(asked(&format!("{header}\n\nTo: ann@a.example\n")), None, "{header}");
        }
    }

    #[test]
    fn knows_programs_by_their_names() {
        for local in ["MAILER-DAEMON", "owner-l", "l-request", "l-bounces", "Listserv", "noreply"] {
            assert!(is_program(&Address::from_parts(local, "a.example")), "{local}");
        }
        for local in ["ann", "owner", "request", "downer-x"] {
            assert!(!is_program(&Address::from_parts(local, "a.example")), "{local}");
        }
    }

    #[test]
    fn reads_the_sender_that_was_written_on_top() {
        let path = |text: &str| return_path(text.as_bytes()).map(|path| path.to_string());
        assert_eq!(path("Return-Path: <a@b.example>\r\nX: y\r\n"), Some("a@b.example".into()));
        assert_eq!(path("Return-Path: <\"a b\"@c.example>\r\n"), Some("\"a b\"@c.example".into()));
        assert_eq!(path("Return-Path: <>\r\n"), None);
        assert_eq!(path("Received: x\r\nReturn-Path: <a@b.example>\r\n"), None);
    }

    #[test]
    fn goes_on_with_the_thread() {
        let told = |header: &str| asked(&format!("To: ann@a.example\n{header}\n\n")).unwrap();
        let found = told("Subject: =?utf-8?q?gr=C3=BCn?=\n  and\tblue\nMessage-ID: <m@x>");
        assert_eq!(found.subject, "grün and blue");
        assert_eq!((found.message_id.as_deref(), &*found.references), (Some("<m@x>"), "<m@x>"));
        let found = told("Message-ID: <m@x>\nReferences: <a@x>\n <b@x>\nIn-Reply-To: <b@x>");
        assert_eq!(found.references, "<a@x>\r\n\t<b@x>\r\n\t<m@x>");
        assert_eq!(told("In-Reply-To: <b@x>").references, "<b@x>");
        assert_eq!(told("In-Reply-To: <b@x> <c@x>").references, "");
        assert_eq!(told("Message-ID: <m x>\nIn-Reply-To: b@x").references, "");
        let ids: Vec<String> = (0..400).map(|number| format!(" <{number}@x.example>")).collect();
        let many = ids.join("\n");
        let found = told(&format!("Message-ID: <m@x>\nReferences:{many}"));
        assert!(found.references.len() <= ANSWER_REFERENCES_OCTETS_MAX);
        assert!(found.references.starts_with("<0@x.example>\r\n\t<2"));
        assert!(found.references.ends_with("<399@x.example>\r\n\t<m@x>"));
        let long = "\u{e4}".repeat(200);
        let found = told(&format!("Subject: {long}"));
        assert_eq!(found.subject, "\u{e4}".repeat(ANSWER_SUBJECT_OCTETS_MAX / 2));
    }

    #[test]
    fn looks_at_so_much_and_no_more() {
        let padding = |octets: usize| format!("X: {}\n", "x".repeat(octets));
        let header = |octets| format!("To: ann@a.example\n{}\ntext", padding(octets));
        assert!(asked(&header(ANSWER_HEADER_OCTETS_MAX - 100)).is_some());
        assert_eq!(asked(&header(ANSWER_HEADER_OCTETS_MAX)), None);
        let looked = std::cell::Cell::new(0);
        let counts = |recipients: &str| {
            looked.set(0);
            let header = format!("To: {recipients}\r\nCc: {recipients}\r\n\r\n");
            let is_ann = |one: &Address| {
                looked.set(looked.get() + 1);
                one.local() == "ann"
            };
            (answerable(header.as_bytes(), is_ann).is_some(), looked.get())
        };
        assert_eq!(counts("ann@a.example, x@a.example"), (true, 1));
        let others = "x@a.example, ".repeat(ANSWER_RECIPIENTS_MAX - 1);
        assert_eq!(counts(&format!("{others}ann@a.example")), (true, ANSWER_RECIPIENTS_MAX));
        let last = format!("{others}x@a.example, ann@a.example");
        assert_eq!(counts(&last), (false, ANSWER_RECIPIENTS_MAX));
    }

    #[test]
    fn knows_a_sender_again() {
        let lasting = |local: &str| lasting(&Address::from_parts(local, "b.example"));
        for (local, want) in [
            ("Ann", "ann@b.example"),
            ("prvs=0123abcdef=Ann", "ann@b.example"),
            ("SRS0=hAsh=T1=a.example=ann", "ann@a.example"),
            ("SRS0+hAsh=T1=a.example=ann=x", "ann=x@a.example"),
            ("SRS1=hAsh=c.example==hash=t1=a.example=ann", "ann@a.example"),
            ("SRS1=hAsh=c.example=-hash=t1=a.example=ann", "ann@a.example"),
            ("SRS1=hAsh=c.example", "srs1=hash=c.example@b.example"),
            ("srs0", "srs0@b.example"),
            ("srs0\u{e4}=x", "srs0\u{e4}=x@b.example"),
            ("prvs=ann", "prvs=ann@b.example"),
        ] {
            assert_eq!(lasting(local), want);
        }
    }
}
