//! What a message says to a program that would answer it: who may be answered, and what the answer refers to
//! (RFC 3834 §2, RFC 5230 §4.5 to §4.7).

use super::fields::fields;
use super::words::decoded;
use crate::model::address::Address;
use crate::model::limits::ANSWER_REFERENCES_OCTETS_MAX;
use crate::wire::address::parse_mailbox;

/// Senders who are programs: their names, or how these begin and end. Lower case.
const PROGRAMS: [&str; 6] =
    ["mailer-daemon", "listserv", "majordomo", "postmaster", "noreply", "no-reply"];
const PROGRAM_STARTS: [&str; 3] = ["owner-", "bounce-", "bounces-"];
const PROGRAM_ENDS: [&str; 4] = ["-request", "-owner", "-bounce", "-bounces"];

/// What an answer needs to know of the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answerable {
    /// As people read it, on one line; empty for none.
    pub subject: String,
    /// `<…>`.
    pub message_id: Option<String>,
    /// All of the thread, the message last (RFC 5322 §3.6.4).
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

/// What an answer to a message refers to; none: no program may answer it. `is_own` says which addresses are
/// those of the user who is away: one has to be named as a recipient.
pub fn answerable(message: &[u8], is_own: impl Fn(&Address) -> bool) -> Option<Answerable> {
    let mut found = Answerable::default();
    let (mut is_to_own, mut ids) = (false, None);
    for field in fields(message) {
        let name = message[field.name.clone()].to_ascii_lowercase();
        let value = &message[field.value.clone()];
        match &*name {
            // RFC 3834 §2: whatever it says but no.
            b"auto-submitted" if !is_word(value, &["no"]) => return None,
            b"precedence" if is_word(value, &["bulk", "list", "junk"]) => return None,
            // Of some programs that know none of these (Exchange).
            b"x-auto-response-suppress" if !is_word(value, &["none"]) => return None,
            b"to" | b"cc" | b"bcc" | b"resent-to" | b"resent-cc" | b"resent-bcc" => {
                each_address(value, &mut |address| is_to_own |= is_own(&address));
            }
            b"subject" => found.subject = one_line(&decoded(value)),
            b"message-id" => found.message_id = message_ids(value).pop(),
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
    thread.extend(found.message_id.clone());
    // The first one begins the thread; of the others the last ones are worth most.
    while thread.iter().map(|id| id.len() + 1).sum::<usize>() > ANSWER_REFERENCES_OCTETS_MAX
        && thread.len() > 1
    {
        thread.remove(usize::from(thread.len() > 2));
    }
    found.references = thread.join("\r\n\t");
    is_to_own.then_some(found)
}

/// Names the addresses of a list, as far as they can be read: in brackets, or by themselves.
fn each_address(value: &[u8], each: &mut dyn FnMut(Address)) {
    let text = String::from_utf8_lossy(value);
    let mut spec = String::new();
    let (mut is_quoted, mut is_over, mut depth) = (false, false, 0_usize);
    let mut flush = |spec: &mut String| {
        if let Ok(path) = parse_mailbox(spec.trim()) {
            each(path.to_address());
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
fn message_ids(value: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some(start) = memchr::memchr(b'<', rest) {
        rest = &rest[start..];
        let Some(end) = memchr::memchr(b'>', rest) else { break };
        let id = &rest[..=end];
        if id.len() <= 250 && id.iter().all(u8::is_ascii_graphic) {
            ids.push(String::from_utf8_lossy(id).into_owned());
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
        assert!(found.references.len() < 2 * ANSWER_REFERENCES_OCTETS_MAX);
        assert!(found.references.starts_with("<0@x.example>\r\n\t<2"));
        assert!(found.references.ends_with("<399@x.example>\r\n\t<m@x>"));
    }
}
