//! What the server says, in one place.

use super::{Bounds, Settings};
use crate::bytes::chain::Chain;
use crate::model::reply::Class;
use crate::proto::sasl::Mechanisms;
use crate::wire::smtp::command::{CommandError, HelloKind};
use crate::wire::smtp::later::date_time;
use crate::wire::smtp::param::Extensions;
use crate::wire::smtp::reply::Reply;
use crate::wire::smtp::xclient::OFFER;
use std::fmt::Write as _;

pub(super) const OK: Reply<'_> = Reply::new(250, 0, 0, "Ok");
pub(super) const SENDER_OK: Reply<'_> = Reply::new(250, 1, 0, "Ok");
pub(super) const RECIPIENT_OK: Reply<'_> = Reply::new(250, 1, 5, "Ok");
pub(super) const START_DATA: Reply<'_> = Reply::plain(354, "Go on; end with <CRLF>.<CRLF>");
pub(super) const HELP: Reply<'_> =
    Reply::new(214, 0, 0, "RFC 5321 tells what may be said here; ask postmaster for the rest");
pub(super) const CANNOT_TELL: Reply<'_> =
    Reply::new(252, 0, 0, "Cannot tell, but send and it will be tried");

/// RFC 3207 §4.
pub(super) const START_TLS: Reply<'_> = Reply::new(220, 0, 0, "Go on with TLS");
pub(super) const TLS_ALREADY: Reply<'_> = Reply::new(503, 5, 1, "TLS is on already");

pub(super) const BARE_LINE_END: Reply<'_> =
    Reply::new(500, 5, 2, "Line has a CR or LF that is not part of a CRLF");
pub(super) const LINE_TOO_LONG: Reply<'_> = Reply::new(500, 5, 6, "Line too long");
pub(super) const WRONG_HELLO_SMTP: Reply<'_> = Reply::new(500, 5, 1, "This is SMTP: say EHLO");
pub(super) const WRONG_HELLO_LMTP: Reply<'_> = Reply::new(500, 5, 1, "This is LMTP: say LHLO");
pub(super) const NOT_OFFERED: Reply<'_> = Reply::new(502, 5, 1, "Command not offered");
pub(super) const NO_HELLO_SMTP: Reply<'_> = Reply::new(503, 5, 1, "Say EHLO first");
pub(super) const NO_HELLO_LMTP: Reply<'_> = Reply::new(503, 5, 1, "Say LHLO first");
pub(super) const NESTED_MAIL: Reply<'_> = Reply::new(503, 5, 1, "Sender is given already");
pub(super) const NO_MAIL: Reply<'_> = Reply::new(503, 5, 1, "Give the sender with MAIL first");
pub(super) const NO_RECIPIENTS: Reply<'_> =
    Reply::new(503, 5, 1, "Give recipients with RCPT first");
pub(super) const NO_VALID_RECIPIENTS: Reply<'_> = Reply::new(554, 5, 1, "No valid recipients");
pub(super) const NEEDS_BDAT: Reply<'_> =
    Reply::new(503, 5, 1, "A message with BODY=BINARYMIME needs BDAT");
pub(super) const IN_CHUNKS: Reply<'_> =
    Reply::new(503, 5, 1, "Message has begun with BDAT: end it with BDAT LAST or RSET");
pub(super) const CHUNK_FAILED: Reply<'_> =
    Reply::new(503, 5, 1, "A chunk before this one failed: say RSET");
pub(super) const TOO_LARGE: Reply<'_> =
    Reply::new(552, 3, 4, "Message is larger than this server takes");
pub(super) const TOO_MANY_RECIPIENTS: Reply<'_> =
    Reply::new(452, 5, 3, "Too many recipients: send the rest in another transaction");
pub(super) const SENDER_UTF8: Reply<'_> =
    Reply::new(550, 6, 7, "Sender needs the SMTPUTF8 parameter");
pub(super) const RECIPIENT_UTF8: Reply<'_> =
    Reply::new(553, 6, 7, "Recipient needs the SMTPUTF8 parameter of MAIL");
pub(super) const AUTH_REQUIRED: Reply<'_> =
    Reply::new(530, 7, 0, "Authentication required: this port is for users who log in");
pub(super) const SENDER_UNQUALIFIED: Reply<'_> =
    Reply::new(554, 1, 8, "Sender needs a fully qualified domain");
pub(super) const RECIPIENT_UNQUALIFIED: Reply<'_> =
    Reply::new(554, 1, 2, "Recipient needs a fully qualified domain");
/// RFC 5248 §2.4 lists X.7.10: encryption needed.
pub(super) const REQUIRES_TLS: Reply<'_> =
    Reply::new(530, 7, 10, "REQUIRETLS is for mail within TLS: say STARTTLS first");
/// RFC 4865 §4.2, §5.2.2.
pub(super) const HELD_TOO_LONG: Reply<'_> =
    Reply::new(501, 5, 4, "Longer than mail is held here, or than its sender waits");
/// RFC 2852 §3.
pub(super) const BY_TOO_SOON: Reply<'_> =
    Reply::new(555, 5, 4, "Sooner than this server promises by DELIVERBY");
pub(super) const BAD_ARGUMENT: Reply<'_> = Reply::new(501, 5, 4, "Bad argument");

// RFC 4954 §6.
pub(super) const AUTHENTICATED: Reply<'_> = Reply::new(235, 7, 0, "Welcome");
pub(super) const AUTH_LATER: Reply<'_> =
    Reply::new(454, 7, 0, "Cannot authenticate now, try again later");
pub(super) const AUTH_LINE_TOO_LONG: Reply<'_> =
    Reply::new(500, 5, 6, "Line of the exchange too long");
pub(super) const AUTH_NOT_BASE64: Reply<'_> = Reply::new(501, 5, 2, "Not base64");
pub(super) const AUTH_CANCELLED: Reply<'_> = Reply::new(501, 7, 0, "Given up");
pub(super) const AUTH_MALFORMED: Reply<'_> = Reply::new(501, 5, 2, "Not what this mechanism says");
pub(super) const NO_HELLO_AUTH: Reply<'_> = Reply::new(503, 5, 1, "Say EHLO first");
pub(super) const AUTH_TWICE: Reply<'_> = Reply::new(503, 5, 1, "Authenticated already");
pub(super) const AUTH_IN_MAIL: Reply<'_> = Reply::new(503, 5, 1, "Not within a transaction");
pub(super) const UNKNOWN_MECHANISM: Reply<'_> = Reply::new(504, 5, 4, "Mechanism not offered");
pub(super) const AUTH_REFUSED: Reply<'_> = Reply::new(535, 7, 8, "Wrong user name or password");
pub(super) const AUTH_FOREIGN: Reply<'_> = Reply::new(535, 7, 8, "You may not act for that user");
pub(super) const NEEDS_TLS: Reply<'_> = Reply::new(538, 7, 11, "Not in clear: say STARTTLS first");

/// The answer to a line that is no sound command.
pub(super) const fn to_error(error: CommandError) -> Reply<'static> {
    match error {
        CommandError::Unknown | CommandError::Foreign => Reply::new(500, 5, 1, "Command not known"),
        CommandError::NotOffered => NOT_OFFERED,
        CommandError::Argument | CommandError::Chunk(_) => BAD_ARGUMENT,
        CommandError::SenderSyntax => {
            Reply::new(501, 1, 7, "Bad sender: MAIL FROM:<local@domain> is wanted")
        }
        CommandError::RecipientSyntax => {
            Reply::new(501, 1, 3, "Bad recipient: RCPT TO:<local@domain> is wanted")
        }
        CommandError::UnknownParam => Reply::new(555, 5, 4, "Parameter not known"),
        CommandError::BadParam => Reply::new(501, 5, 4, "Bad parameter"),
        CommandError::SenderNeedsUtf8 => SENDER_UTF8,
    }
}

/// A reply whose text begins with the server's name (RFC 5321 §4.2.2: 220, 221, 421).
pub(super) fn put_named(
    settings: &Settings,
    code: u16,
    subject: u16,
    detail: u16,
    text: &str,
    out: &mut Chain,
) {
    let text = format!("{} {text}", settings.hostname);
    Reply::new(code, subject, detail, &text).put(out);
}

impl Settings {
    /// What a new connection is told.
    pub fn greet(&self, out: &mut Chain) {
        let protocol = if self.is_lmtp() { "LMTP" } else { "ESMTP" };
        let text = format!("{} {protocol} {}", self.hostname, self.greeting);
        Reply::plain(220, &text).put(out);
    }

    /// What a new connection is told instead when there is no room for it: hang up after it.
    pub fn greet_busy(&self, out: &mut Chain) {
        put_named(self, 421, 3, 2, "Too busy, come back later", out);
    }

    /// What a new connection is told instead that is refused for what its client does: hang up after
    /// it. 421 4.7.0.
    pub fn greet_refused(&self, why: &str, out: &mut Chain) {
        put_named(self, 421, 7, 0, &format!("{why}, come back later"), out);
    }

    /// The answer to EHLO, HELO and LHLO: the name, and all that works (RFC 5321 §4.1.1.1).
    pub(super) fn put_extensions(
        &self,
        kind: HelloKind,
        (encrypted, auth): (bool, Mechanisms),
        now: u32,
        out: &mut Chain,
    ) {
        if kind == HelloKind::Helo {
            return Reply::plain(250, &self.hostname).put(out);
        }
        let mut text = format!(
            "{}\nPIPELINING\nSIZE {}\n8BITMIME\nSMTPUTF8\nCHUNKING\nBINARYMIME\n\
             ENHANCEDSTATUSCODES\nLIMITS RCPTMAX={}",
            self.hostname, self.max_message_size, self.recipients_max
        );
        self.put_terms(encrypted, now, &mut text);
        if self.starttls && !encrypted {
            text.push_str("\nSTARTTLS");
        }
        if self.expn {
            text.push_str("\nEXPN");
        }
        if !auth.is_empty() {
            text.push_str("\nAUTH ");
            text.push_str(&auth.to_string());
        }
        if self.dialect.xclient {
            text.push('\n');
            text.push_str(OFFER);
        }
        text.push_str("\nHELP");
        Reply::plain(250, &text).put(out);
    }

    /// The extensions that ask something of the queue.
    fn put_terms(&self, encrypted: bool, now: u32, text: &mut String) {
        let has = |extension| self.dialect.extensions.has(extension);
        let Bounds { hold_max, by_min, priority_policy } = &self.bounds;
        if has(Extensions::DSN) {
            text.push_str("\nDSN");
        }
        if has(Extensions::FUTURERELEASE) {
            // Both are one bound, in the two ways in which a client may say it.
            let until = date_time(now.saturating_add(*hold_max));
            let _ = write!(text, "\nFUTURERELEASE {hold_max} {until}");
        }
        if has(Extensions::DELIVERBY) {
            text.push_str("\nDELIVERBY");
            if *by_min > 0 {
                let _ = write!(text, " {by_min}");
            }
        }
        if has(Extensions::MT_PRIORITY) {
            text.push_str("\nMT-PRIORITY");
            if !priority_policy.is_empty() {
                text.push(' ');
                text.push_str(priority_policy);
            }
        }
        // RFC 8689 §2: nobody can ask for it in clear.
        if has(Extensions::REQUIRETLS) && encrypted {
            text.push_str("\nREQUIRETLS");
        }
    }
}

/// What became of a whole message for one accepted RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'t> {
    /// On stable storage. The text is the name under which logs know the message.
    Stored(&'t str),
    /// Not taken for this recipient: 4xx to come back, 5xx never to.
    Refused(Reply<'t>),
}

impl Outcome<'_> {
    fn put(&self, out: &mut Chain) {
        match self {
            Outcome::Stored(name) => {
                Reply::new(250, 0, 0, &format!("Ok, stored as {name}")).put(out);
            }
            Outcome::Refused(reply) => reply.put(out),
        }
    }
}

/// Answers a message that the machine gave up with `Step::Commit`.
///
/// `outcomes` has one entry per accepted RCPT, in order, duplicates too. LMTP tells each
/// (RFC 2033 §4.2). SMTP has one reply for all: while any recipient may still succeed later it is
/// that one's 4xx; the client sends again, and those who have the message get it twice rather than
/// another one never. Otherwise 250 if anybody has it (the caller owes the sender a report on the
/// others, RFC 5321 §6.1), and the first refusal if nobody has.
pub fn outcome_replies(outcomes: &[Outcome<'_>], lmtp: bool, out: &mut Chain) {
    if lmtp {
        return outcomes.iter().for_each(|outcome| outcome.put(out));
    }
    let transient = |outcome: &&Outcome<'_>| matches!(outcome, Outcome::Refused(reply) if reply.class() == Class::Transient);
    let stored = |outcome: &&Outcome<'_>| matches!(outcome, Outcome::Stored(_));
    let told = outcomes
        .iter()
        .find(transient)
        .or_else(|| outcomes.iter().find(stored))
        .or_else(|| outcomes.first());
    match told {
        Some(outcome) => outcome.put(out),
        // Not reached by the machine: it commits nothing without recipients.
        None => NO_VALID_RECIPIENTS.put(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcomes: &[Outcome<'_>], lmtp: bool) -> String {
        let mut out = Chain::new();
        outcome_replies(outcomes, lmtp, &mut out);
        String::from_utf8(out.to_vec()).unwrap().replace("\r\n", "|")
    }

    const STORED: Outcome<'_> = Outcome::Stored("m1");
    const FULL: Outcome<'_> = Outcome::Refused(Reply::new(452, 2, 2, "full"));
    const GONE: Outcome<'_> = Outcome::Refused(Reply::new(550, 1, 1, "gone"));

    #[test]
    fn tells_lmtp_each_recipient_in_order() {
        assert_eq!(
            told(&[STORED, FULL, STORED], true),
            "250 2.0.0 Ok, stored as m1|452 4.2.2 full|250 2.0.0 Ok, stored as m1|"
        );
    }

    #[test]
    fn tells_smtp_one_word_for_all() {
        assert_eq!(told(&[STORED, STORED], false), "250 2.0.0 Ok, stored as m1|");
        assert_eq!(told(&[STORED, GONE, FULL], false), "452 4.2.2 full|");
        assert_eq!(told(&[GONE, STORED], false), "250 2.0.0 Ok, stored as m1|");
        assert_eq!(told(&[GONE, GONE], false), "550 5.1.1 gone|");
    }
}
