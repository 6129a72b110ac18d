//! Answers with many numbers: SEARCH, SORT, ESEARCH, VANISHED, UIDBATCHES.

use crate::bytes::chain::Chain;
use crate::wire::imap::command::fetch::Page;
use crate::wire::imap::set::Span;
use crate::wire::pop3::put_number;

/// ` n...`, as it stands behind `* SEARCH` and `* SORT`.
pub fn put_numbers(out: &mut Chain, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        out.put(b" ");
        put_number(out, u64::from(number));
    }
}

/// The end of such a line, with the largest mod-sequence of what was found if mod-sequences were
/// asked for (RFC 7162 §3.1.5).
pub fn end_found(out: &mut Chain, mod_seq: Option<u64>) {
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

    /// Goes on with a line that was let go of, to write a set.
    pub fn resume(out: &'o mut Chain) -> Esearch<'o> {
        Esearch { out }
    }

    /// A set must follow; left out where nothing was found.
    pub fn begin_all(&mut self) {
        self.out.put(b" ALL ");
    }

    /// The page (RFC 9394 §3.1); a set, or NIL, and [`Esearch::end_partial`] must follow.
    pub fn begin_partial(&mut self, page: Page) {
        let sign: &[u8] = if page.from_end { b"-" } else { b"" };
        for (before, number) in [(&b" PARTIAL ("[..], page.first), (b":", page.last)] {
            self.out.put(before);
            self.out.put(sign);
            put_number(self.out, number.into());
        }
        self.out.put(b" ");
    }

    pub fn end_partial(&mut self) {
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
