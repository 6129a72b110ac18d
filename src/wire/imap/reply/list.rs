//! LIST, LSUB and STATUS (RFC 9051 §7.3.1, §7.3.4).

use super::string::put_string;
use super::{put_list, put_mailbox};
use crate::bytes::chain::Chain;
use crate::wire::imap::command::list::StatusItem;
use crate::wire::imap::mailbox::{DELIMITER, encode};
use crate::wire::pop3::put_number;

/// One mailbox of a listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListLine<'a> {
    /// LSUB instead of LIST.
    pub lsub: bool,
    pub attributes: &'a [&'a str],
    /// Empty: the root (RFC 9051 §6.3.9).
    pub name: &'a str,
    /// Options that children fulfil, for RECURSIVEMATCH (RFC 5258 §3.5). Empty: none.
    pub child_info: &'a [&'a str],
    /// The name that the client used, or that it had before (RFC 9051 §6.3.9.7).
    pub old_name: Option<&'a str>,
}

impl ListLine<'_> {
    pub fn put(&self, out: &mut Chain, utf8: bool) {
        out.put(if self.lsub { b"* LSUB " } else { b"* LIST " });
        put_list(out, self.attributes.iter().copied());
        out.put(&[b' ', b'"', DELIMITER, b'"', b' ']);
        put_mailbox(out, self.name, utf8);
        if self.child_info.is_empty() && self.old_name.is_none() {
            out.put(b"\r\n");
            return;
        }
        out.put(b" (");
        for (index, option) in self.child_info.iter().enumerate() {
            out.put(if index == 0 { b"\"CHILDINFO\" (" } else { b" " });
            put_string(out, option.as_bytes(), false);
        }
        if !self.child_info.is_empty() {
            out.put(b")");
        }
        if let Some(name) = self.old_name {
            out.put(if self.child_info.is_empty() { b"" } else { b" " });
            out.put(b"\"OLDNAME\" (");
            if utf8 {
                put_string(out, name.as_bytes(), true);
            } else {
                put_string(out, encode(name).as_bytes(), false);
            }
            out.put(b")");
        }
        out.put(b")\r\n");
    }
}

/// The STATUS of one mailbox, open until [`StatusLine::end`].
#[derive(Debug)]
pub struct StatusLine<'o> {
    out: &'o mut Chain,
    first: bool,
}

impl<'o> StatusLine<'o> {
    /// `* STATUS mailbox (`.
    pub fn new(out: &'o mut Chain, mailbox: &str, utf8: bool) -> StatusLine<'o> {
        out.put(b"* STATUS ");
        put_mailbox(out, mailbox, utf8);
        out.put(b" (");
        StatusLine { out, first: true }
    }

    fn name(&mut self, item: StatusItem) {
        if !self.first {
            self.out.put(b" ");
        }
        self.first = false;
        self.out.put(item.name().as_bytes());
        self.out.put(b" ");
    }

    /// An item that is a number.
    pub fn number(&mut self, item: StatusItem, number: u64) {
        self.name(item);
        put_number(self.out, number);
    }

    /// RFC 8474 §4.3.
    pub fn mailbox_id(&mut self, id: &str) {
        self.name(StatusItem::MailboxId);
        put_list(self.out, [id]);
    }

    /// None: no limit (RFC 7889 §3.1).
    pub fn append_limit(&mut self, octets: Option<u64>) {
        self.name(StatusItem::AppendLimit);
        match octets {
            Some(octets) => put_number(self.out, octets),
            None => self.out.put(b"NIL"),
        }
    }

    /// `)` and the line end.
    pub fn end(self) {
        self.out.put(b")\r\n");
    }
}
