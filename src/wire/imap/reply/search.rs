//! Answers with many numbers: SEARCH, SORT, ESEARCH, VANISHED, UIDBATCHES.

use crate::bytes::chain::Chain;
use crate::wire::imap::command::fetch::Page;
use crate::wire::imap::set::{Span, put_spans};
use crate::wire::pop3::put_number;

/// `* SEARCH n...` or `* SORT n...`, with the largest mod-sequence of what was found if mod-sequences
/// were asked for (RFC 7162 §3.1.5).
pub fn put_found(
    out: &mut Chain,
    what: &str,
    numbers: impl IntoIterator<Item = u32>,
    mod_seq: Option<u64>,
) {
    out.put(b"* ");
    out.put(what.as_bytes());
    for number in numbers {
        out.put(b" ");
        put_number(out, u64::from(number));
    }
    if let Some(mod_seq) = mod_seq {
        out.put(b" (MODSEQ ");
        put_number(out, mod_seq);
        out.put(b")");
    }
    out.put(b"\r\n");
}

/// `* VANISHED [(EARLIER)] ` (RFC 7162 §3.2.10); a set of UIDs and the line end must follow.
pub fn begin_vanished(out: &mut Chain, earlier: bool) {
    out.put(if earlier { b"* VANISHED (EARLIER) " } else { b"* VANISHED " });
}

/// `* UIDBATCHES (TAG "tag") high:low...`, newest first (RFC 10022).
pub fn put_uid_batches(out: &mut Chain, tag: &str, batches: impl IntoIterator<Item = Span>) {
    out.put(b"* UIDBATCHES (TAG \"");
    out.put(tag.as_bytes());
    out.put(b"\")");
    for (index, span) in batches.into_iter().enumerate() {
        out.put(if index == 0 { b" " } else { b"," });
        put_number(out, u64::from(span.last));
        out.put(b":");
        put_number(out, u64::from(span.first));
    }
    out.put(b"\r\n");
}

/// An ESEARCH line (RFC 4731 §3.1), open until [`Esearch::end`].
#[derive(Debug)]
pub struct Esearch<'o> {
    out: &'o mut Chain,
}

impl<'o> Esearch<'o> {
    /// `* ESEARCH (TAG "tag") [UID]`.
    pub fn new(out: &'o mut Chain, tag: &str, uid: bool) -> Esearch<'o> {
        out.put(b"* ESEARCH (TAG \"");
        out.put(tag.as_bytes());
        out.put(if uid { b"\") UID" } else { b"\")" });
        Esearch { out }
    }

    fn number(&mut self, name: &[u8], number: u64) {
        self.out.put(name);
        put_number(self.out, number);
    }

    /// Left out where nothing was found.
    pub fn min(&mut self, number: u32) {
        self.number(b" MIN ", number.into());
    }

    /// Left out where nothing was found.
    pub fn max(&mut self, number: u32) {
        self.number(b" MAX ", number.into());
    }

    pub fn count(&mut self, count: u32) {
        self.number(b" COUNT ", count.into());
    }

    /// Left out where nothing was found.
    pub fn all(&mut self, spans: impl IntoIterator<Item = Span>) {
        let mut spans = spans.into_iter().peekable();
        if spans.peek().is_some() {
            self.out.put(b" ALL ");
            put_spans(self.out, spans);
        }
    }

    /// The page and what lies in it, or NIL (RFC 9394 §3.1).
    pub fn partial(&mut self, page: Page, spans: impl IntoIterator<Item = Span>) {
        let sign: &[u8] = if page.from_end { b"-" } else { b"" };
        for (before, number) in [(&b" PARTIAL ("[..], page.first), (b":", page.last)] {
            self.out.put(before);
            self.out.put(sign);
            put_number(self.out, number.into());
        }
        self.out.put(b" ");
        let mut spans = spans.into_iter().peekable();
        if spans.peek().is_none() {
            self.out.put(b"NIL");
        }
        put_spans(self.out, spans);
        self.out.put(b")");
    }

    /// RFC 7162 §3.1.10.
    pub fn mod_seq(&mut self, mod_seq: u64) {
        self.number(b" MODSEQ ", mod_seq);
    }

    /// The line end.
    pub fn end(self) {
        self.out.put(b"\r\n");
    }
}
