//! What the server says: lines of IMAP written into a chain (RFC 9051 §7).
//!
//! Nothing that a client or a message brought goes out raw: strings are quoted or become literals,
//! human text is printable ASCII. `utf8` everywhere says that the client enabled IMAP4rev2 or
//! UTF8=ACCEPT, so that quoted strings may hold UTF-8 and names of mailboxes do.

pub mod fetch;
pub mod list;
pub mod search;
pub mod status;
pub mod string;
#[cfg(test)]
mod tests;

use super::mailbox::encode;
use crate::bytes::chain::Chain;
use crate::wire::pop3::put_number;
use string::{put_astring, put_nstring, put_string};

/// `* n EXISTS`, `* n EXPUNGE`, `* n RECENT`.
pub fn put_count(out: &mut Chain, number: u32, what: &str) {
    out.put(b"* ");
    put_number(out, u64::from(number));
    out.put(b" ");
    out.put(what.as_bytes());
    out.put(b"\r\n");
}

/// `* CAPABILITY a b`, `* ENABLED a b`: words that are atoms, maybe none.
pub fn put_words<'w>(out: &mut Chain, what: &str, words: impl IntoIterator<Item = &'w str>) {
    out.put(b"* ");
    out.put(what.as_bytes());
    for word in words {
        out.put(b" ");
        out.put(word.as_bytes());
    }
    out.put(b"\r\n");
}

/// Words that are atoms or flags, in parentheses.
pub fn put_list<'w>(out: &mut Chain, words: impl IntoIterator<Item = &'w str>) {
    out.put(b"(");
    for (index, word) in words.into_iter().enumerate() {
        if index > 0 {
            out.put(b" ");
        }
        out.put(word.as_bytes());
    }
    out.put(b")");
}

/// `* FLAGS (...)` (RFC 9051 §7.3.5).
pub fn put_flags<'w>(out: &mut Chain, flags: impl IntoIterator<Item = &'w str>) {
    out.put(b"* FLAGS ");
    put_list(out, flags);
    out.put(b"\r\n");
}

/// `+ text`: the client may go on. The text is a SASL challenge, or for people; without one a
/// space is still sent (RFC 9051 §7.6).
pub fn put_continue(out: &mut Chain, text: &str) {
    out.put(b"+ ");
    out.put(text.as_bytes());
    out.put(b"\r\n");
}

/// The name of a mailbox, in the client's encoding.
pub fn put_mailbox(out: &mut Chain, name: &str, utf8: bool) {
    if utf8 {
        put_astring(out, name.as_bytes(), true);
    } else {
        put_astring(out, encode(name).as_bytes(), false);
    }
}

/// `* ID (...)`, or `* ID NIL` without fields (RFC 2971 §3.2).
pub fn put_id(out: &mut Chain, fields: &[(&str, Option<&str>)]) {
    out.put(b"* ID ");
    if fields.is_empty() {
        out.put(b"NIL\r\n");
        return;
    }
    for (index, (name, value)) in fields.iter().enumerate() {
        out.put(if index == 0 { b"(" } else { b" " });
        put_string(out, name.as_bytes(), false);
        out.put(b" ");
        put_nstring(out, value.map(str::as_bytes), false);
    }
    out.put(b")\r\n");
}

/// `* NAMESPACE` with the personal one of this prefix, and no others (RFC 2342 §5).
pub fn put_namespace(out: &mut Chain, prefix: &str, delimiter: &str, utf8: bool) {
    out.put(b"* NAMESPACE ((");
    if utf8 {
        put_string(out, prefix.as_bytes(), true);
    } else {
        put_string(out, encode(prefix).as_bytes(), false);
    }
    out.put(b" ");
    put_string(out, delimiter.as_bytes(), false);
    out.put(b")) NIL NIL\r\n");
}

/// What is used of a resource, and how much may be (RFC 9208 §5.1): STORAGE in units of 1024
/// octets, MESSAGE in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'a> {
    pub resource: &'a str,
    pub usage: u64,
    pub limit: u64,
}

/// `* QUOTA root (...)` (RFC 9208 §4.2.1).
pub fn put_quota(out: &mut Chain, root: &str, quotas: &[Quota<'_>]) {
    out.put(b"* QUOTA ");
    put_astring(out, root.as_bytes(), false);
    out.put(b" (");
    for (index, quota) in quotas.iter().enumerate() {
        if index > 0 {
            out.put(b" ");
        }
        out.put(quota.resource.as_bytes());
        for number in [quota.usage, quota.limit] {
            out.put(b" ");
            put_number(out, number);
        }
    }
    out.put(b")\r\n");
}

/// `* QUOTAROOT mailbox root...` (RFC 9208 §4.2.2).
pub fn put_quota_root(out: &mut Chain, mailbox: &str, roots: &[&str], utf8: bool) {
    out.put(b"* QUOTAROOT ");
    put_mailbox(out, mailbox, utf8);
    for root in roots {
        out.put(b" ");
        put_astring(out, root.as_bytes(), false);
    }
    out.put(b"\r\n");
}
