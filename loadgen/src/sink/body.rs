//! One message as it comes in: which one it is, and whether it is what a message may be.

use memchr::{memchr, memchr_iter};

use super::desk::{Action, Told};
use crate::audit::message::{Read, Reader};
use crate::values::to_u64;

/// Longest text line without its end (RFC 5321 §4.5.3.1.6).
const LINE_OCTETS_MAX: usize = 998;
/// Octets of a message that are kept; the rest of a longer one is looked at and let go.
const KEPT_OCTETS_MAX: usize = 64 << 20;

/// What may be in a message, as MAIL and the server's offers have it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// Octets of 128 and above: BODY=8BITMIME, or SMTPUTF8.
    pub(crate) eight_bit: bool,
    /// Anything: BODY=BINARYMIME.
    pub(crate) binary: bool,
}

/// Takes a message in pieces.
#[derive(Default)]
pub(crate) struct Body {
    reader: Reader,
    allowed: Allowed,
    octets: u64,
    /// Octets of the line that is not at its end.
    line_len: usize,
    ends_in_cr: bool,
    faults: Vec<&'static str>,
    kept: Option<Vec<u8>>,
}

impl Body {
    /// A new message; `keep` asks for its octets.
    pub(crate) fn begin(&mut self, allowed: Allowed, keep: bool) {
        self.reader.begin();
        self.allowed = allowed;
        (self.octets, self.line_len, self.ends_in_cr) = (0, 0, false);
        self.faults.clear();
        self.kept = keep.then(Vec::new);
    }

    pub(crate) fn take(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        self.octets += to_u64(piece.len());
        self.reader.take(piece);
        if let Some(kept) = &mut self.kept {
            let room = KEPT_OCTETS_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if !self.allowed.binary {
            self.check(piece);
        }
    }

    fn check(&mut self, piece: &[u8]) {
        if !self.allowed.eight_bit && !piece.is_ascii() {
            self.fault("8 bit octets without BODY=8BITMIME");
        }
        if memchr(0, piece).is_some() {
            self.fault("NUL in a message");
        }
        // What is before an octet may be the last one of the piece before.
        let before = |at: usize, ends_in_cr: bool| match at.checked_sub(1) {
            Some(before) => piece[before] == b'\r',
            None => ends_in_cr,
        };
        let (ends_in_cr, mut line_at, mut line_len) = (self.ends_in_cr, 0, self.line_len);
        for at in memchr_iter(b'\n', piece) {
            if !before(at, ends_in_cr) {
                self.fault("bare LF in a message");
            }
            // The CR is counted with the line.
            if line_len + (at - line_at) > LINE_OCTETS_MAX + 1 {
                self.fault("line of more than 998 octets");
            }
            (line_at, line_len) = (at + 1, 0);
        }
        self.line_len = line_len + (piece.len() - line_at);
        let is_bare = |at: usize| piece.get(at + 1).is_some_and(|next| *next != b'\n');
        if memchr_iter(b'\r', piece).any(is_bare) || (ends_in_cr && piece[0] != b'\n') {
            self.fault("bare CR in a message");
        }
        self.ends_in_cr = piece.last() == Some(&b'\r');
    }

    /// Something is wrong with the message; each kind is told once.
    pub(crate) fn fault(&mut self, kind: &'static str) {
        if !self.faults.contains(&kind) {
            self.faults.push(kind);
        }
    }

    /// Octets of the message, dots taken off.
    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// The whole message was taken.
    pub(crate) fn end(&mut self) -> Read {
        if self.line_len > 0 && !self.allowed.binary {
            self.fault("message without a last line end");
        }
        self.reader.end()
    }

    pub(crate) fn faults(&self) -> &[&'static str] {
        &self.faults
    }

    pub(crate) fn kept(&self) -> Option<&[u8]> {
        self.kept.as_deref()
    }
}

/// Reads what a report (RFC 3464) says, and the mark of the message that it is about.
pub(crate) fn read_report(message: &[u8]) -> (Vec<Told>, Read) {
    let (mut told, mut recipient) = (Vec::new(), None);
    let mut reader = Reader::default();
    let mut rest = message;
    // The fields of the message that is returned stand in the body like any line.
    let mut marks = Vec::new();
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        if line.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"X-Loadgen-")) {
            marks.extend_from_slice(line);
        }
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("Final-Recipient") {
            let address = value.split_once(';').map_or(value, |(_, address)| address);
            recipient = Some(address.trim());
        } else if name.eq_ignore_ascii_case("Action")
            && let Some(action) = Action::parse(value.trim())
            && let Some(recipient) = recipient.take()
        {
            told.push(Told { recipient: recipient.into(), action });
        }
    }
    marks.extend_from_slice(b"\r\n");
    reader.take(&marks);
    (told, reader.end())
}

/// The first lines of what is kept in a file, so that a person knows for whom it was.
pub(crate) fn envelope_fields(sender: &str, recipients: &[Box<str>]) -> Vec<u8> {
    let mut out = format!("Return-Path: <{sender}>\r\n").into_bytes();
    for recipient in recipients {
        out.extend_from_slice(format!("Delivered-To: {recipient}\r\n").as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// In pieces of any size the same is found.
    #[track_caller]
    fn check(message: &[u8], allowed: Allowed, want: &Expect) {
        let faults = |cut: usize| {
            let mut body = Body::default();
            body.begin(allowed, true);
            message.chunks(cut).for_each(|piece| body.take(piece));
            body.end();
            assert_eq!(body.kept(), Some(message));
            let mut faults = body.faults().to_vec();
            faults.sort_unstable();
            faults.join(", ")
        };
        let whole = faults(message.len());
        for cut in 1..message.len().min(5) {
            assert_eq!(faults(cut), whole, "the cut must not matter");
        }
        want.assert_eq(&whole);
    }

    #[test]
    fn finds_what_a_message_may_not_have() {
        let text = Allowed::default();
        check(b"Subject: a\r\n\r\nb\r\n", text, &expect![""]);
        check(b"a\nb\r\n", text, &expect!["bare LF in a message"]);
        check(b"a\rb\r\n", text, &expect!["bare CR in a message"]);
        check(b"a\r\r\nb\r\n", text, &expect!["bare CR in a message"]);
        check(b"a\0\r\n", text, &expect!["NUL in a message"]);
        check(b"a", text, &expect!["message without a last line end"]);
        check(b"\xc3\xbc\r\n", text, &expect!["8 bit octets without BODY=8BITMIME"]);
        check(b"\xc3\xbc\r\n", Allowed { eight_bit: true, binary: false }, &expect![""]);
        check(b"\0\n\r", Allowed { eight_bit: true, binary: true }, &expect![""]);
        let line = |len: usize| [&b"x".repeat(len)[..], b"\r\n"].concat();
        check(&line(998), text, &expect![""]);
        check(&line(999), text, &expect!["line of more than 998 octets"]);
    }

    #[test]
    fn reads_what_a_report_says() {
        let report = b"From: MAILER-DAEMON\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n\
            Reporting-MTA: dns; mx.test\r\n\r\nFinal-Recipient: rfc822; a@b.test\r\nAction: failed\r\n\
            Status: 5.1.1\r\n\r\nOriginal-Recipient: rfc822; q\r\nFinal-Recipient: rfc822;c@d.test\r\nAction: Delayed\r\n\r\n\
            --x\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Loadgen-Run: ab\r\nX-Loadgen-Seq: 17\r\n\r\n";
        let (told, read) = read_report(report);
        assert_eq!((read.run, read.seq), (Some(0xab), Some(17)));
        let told: Vec<String> =
            told.iter().map(|told| format!("{} {}", told.recipient, told.action.label())).collect();
        assert_eq!(told, ["a@b.test failed", "c@d.test delayed"]);
        assert_eq!(read_report(b"Subject: hello\r\n\r\nhello\r\n").0, []);
    }
}
