//! Message-IDs as numbers, which is all that threading wants of them (RFC 5256 §3).
//!
//! A hash of 64 bits stands for each. Whoever makes two messages with the same one puts them in
//! one thread, which he could as well by writing the same Message-ID.

use super::head::{FieldKind, Head};
use super::lexer::Lexer;
use crate::model::limits::{REFERENCES_MAX, REFERENCES_OCTETS_READ_MAX};
use memchr::memchr2;
use xxhash_rust::xxh3::xxh3_64;

/// The Message-ID of a header, hashed.
pub fn message_id(message: &[u8], head: &Head) -> Option<u64> {
    Ids::new(head.value(message, FieldKind::MessageId)?).next()
}

/// The messages that this one answers, oldest first, the last [`REFERENCES_MAX`] of them: those of
/// References, or the first of In-Reply-To (RFC 5256 §3, step 1.A).
pub fn references(message: &[u8], head: &Head, out: &mut Vec<u64>) {
    out.clear();
    if let Some(value) = head.value(message, FieldKind::References) {
        let behind = value.len().saturating_sub(REFERENCES_OCTETS_READ_MAX);
        out.extend(Ids::new(&value[behind..]));
    }
    if out.is_empty()
        && let Some(value) = head.value(message, FieldKind::InReplyTo)
    {
        out.extend(Ids::new(value).next());
    }
    let surplus = out.len().saturating_sub(REFERENCES_MAX);
    out.drain(..surplus);
}

/// The thread of a message by its own id and its references, of which there are `count`: the hash
/// of the id that all of it began with. It is a matter of this message alone, so that it never
/// changes. `None` where there is no id, or where the oldest of many are not known any more.
pub fn thread(id: Option<u64>, oldest: Option<u64>, count: usize) -> Option<u64> {
    oldest.or(id).filter(|_| count < REFERENCES_MAX)
}

/// The ids in a field, hashed: what stands in angle brackets, spaces left out.
struct Ids<'a> {
    lexer: Lexer<'a>,
    text: Vec<u8>,
}

impl<'a> Ids<'a> {
    fn new(value: &'a [u8]) -> Ids<'a> {
        Ids { lexer: Lexer::new(value), text: Vec::new() }
    }
}

impl Iterator for Ids<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            self.lexer.run(|octet| octet != b'<');
            self.lexer.peek()?;
            self.lexer.skip();
            let inner = self.lexer.run(|octet| !matches!(octet, b'<' | b'>'));
            if !self.lexer.skip_if(b'>') || inner.is_empty() {
                continue;
            }
            let has_space = memchr2(b' ', b'\n', inner).is_some() || inner.contains(&b'\t');
            // RFC 5256 §3: quotes in an id are no part of it.
            if !has_space && !inner.contains(&b'"') {
                return Some(xxh3_64(inner));
            }
            self.text.clear();
            let is_part = |octet: &&u8| !matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'"');
            self.text.extend(inner.iter().filter(is_part));
            return Some(xxh3_64(&self.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, id: Option<&str>, want: &[&str]) {
        let (head, _) = Head::of(header.as_bytes());
        let hash = |id: &str| xxh3_64(id.as_bytes());
        assert_eq!(message_id(header.as_bytes(), &head), id.map(hash));
        let mut found = Vec::new();
        references(header.as_bytes(), &head, &mut found);
        assert_eq!(found, want.iter().map(|id| hash(id)).collect::<Vec<_>>());
    }

    #[test]
    fn reads_ids() {
        check(
            "Message-ID: <a@b>\nReferences: <c@d>\n\t<e@f> <\"g\"@h>\n",
            Some("a@b"),
            &["c@d", "e@f", "g@h"],
        );
        check("In-Reply-To: Your message of <x@y> and <z@z>\nReferences: none\n", None, &["x@y"]);
        check("Message-ID: <>\nReferences: <a@b> <c@\n d>\n", None, &["a@b", "c@d"]);
        check("Message-ID: < a@b\n", None, &[]);
    }

    #[test]
    fn keeps_the_newest() {
        let ids: Vec<String> = (0..REFERENCES_MAX + 5).map(|id| format!("{id}@x")).collect();
        let header = format!("References: <{}>\n", ids.join("> <"));
        let newest: Vec<&str> = ids[5..].iter().map(String::as_str).collect();
        check(&header, None, &newest);
    }
}
